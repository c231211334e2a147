"""What of the targets and their environments needs somebody, in words."""

from dataclasses import dataclass

from environments.models import Build, BuildStatus, ComputeTarget
from environments.target import health
from studio.templatetags.studio import filesize

DISK_LOW_SHARE = 0.05
DISK_LOW_BYTES = 2 * 10**9
SHOWN = 50


@dataclass(frozen=True)
class Trouble:
    what: str
    why: str
    address: str
    """Of the page in the studio where it is mended."""
    admin: tuple[str, int]
    """Name of the administration's page, and the row's id."""


def state_words(target: ComputeTarget) -> str:
    """A target's state, its quarantine before anything else."""
    return "Quarantined" if target.quarantined_at is not None else health(target).words


def troubles() -> list[Trouble]:
    """Of all workspaces: targets that do not answer, are quarantined or nearly full; builds that failed and were not tried again."""
    found = []
    for target in ComputeTarget.objects.attached().select_related("workspace").order_by("workspace__slug", "name"):
        why = trouble(target)
        if why:
            page = f"/{target.workspace.slug}/compute/{target.name}"
            name = f"{target.name} in {target.workspace.slug}"
            found.append(Trouble(name, why, page, ("admin:environments_computetarget_change", target.pk)))
    failed = Build.objects.filter(status=BuildStatus.FAILED, target__detached_at=None, version__isnull=False)
    failed = failed.select_related("target__workspace", "version__environment").order_by("-ended_at")
    for build in failed[:SHOWN]:
        page = f"/{build.target.workspace.slug}/environments/builds/{build.pk}/log"
        name = f"{build.version} on {build.target}"
        said = " ".join(build.error.split())[:200]
        found.append(Trouble(name, f"The build failed: {said}", page, ("admin:environments_build_change", build.pk)))
    return found


def trouble(target: ComputeTarget) -> str:
    if target.quarantined_at is not None:
        return f"Quarantined: {target.quarantine_reason}"
    if target.unreachable_since is not None:
        return f"Not reachable: {target.last_error}" if target.last_error else "Not reachable"
    disk = target.facts.get("disk") or {}
    total, free = disk.get("total") or 0, disk.get("free") or 0
    if total and (free < total * DISK_LOW_SHARE or free < DISK_LOW_BYTES):
        return f"Its disk is nearly full: {filesize(free)} of {filesize(total)} are free"
    return ""
