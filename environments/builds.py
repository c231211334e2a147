"""Find or make an environment on a target. One row per target and key: however many runs wait, one builds.

A build goes Waiting → Building → Ready or Failed. Its work is an attempt's directory on the target under the same
supervisor as a run's, so it survives the studio; its exit record is the only proof that it ended.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from environments import programs
from environments.build_spec import BUILD_SECONDS, CannotBuild, spec
from environments.definition import Definition
from environments.host import HostError
from environments.models import Build, BuildStatus, ComputeTarget, EnvironmentVersion, Lock
from studio import audit
from studio.accounts.models import User
from studio.database import storable
from studio.queues import ring

if TYPE_CHECKING:
    from environments.host import Host

# A builder that was killed is replaced this often before people are asked to look.
MAX_ATTEMPTS = 3
# So long a target waits for another one that resolves the same packages.
RESOLVING = timedelta(minutes=10)
GONE = "It is no longer on the target. The next run that needs it has it built again."
CANCEL_GRACE_SECONDS = 5
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FIRST_ERROR = re.compile(r"^\s*(?:error:|ERROR:|×|E:)\s*(?P<text>.+)$")
_CAUSE = re.compile(r"^\s*(?:cause:|Caused by:|╰─▶|├─▶|│)\s*(?P<text>.*)$")


def ensure(target: ComputeTarget, version: EnvironmentVersion) -> Build:
    """The build of this version on this target, made if there is none. Safe from any number of threads."""
    build, _ = Build.objects.get_or_create(target=target, key=version.key, defaults={"version": version})
    if build.version_id != version.pk and build.status in {BuildStatus.WAITING, BuildStatus.FAILED}:
        # Versions of one key may differ in the names of their secrets: whoever asks now knows best, and another may be deleted.
        Build.objects.filter(pk=build.pk).update(version=version)
        build.version = version
    return build


def adopt(build: Build) -> bool:
    """See that the build has a version to be made from: if the one that asked for it was deleted, another of the same key. False:
    there is none any more."""
    if build.version_id is not None:
        return True
    owners = Q(environment__workspace=build.target.workspace_id) | Q(environment__workspace=None)
    version = EnvironmentVersion.objects.filter(owners, key=build.key).order_by("-pk").first()
    if version is None:
        return False
    Build.objects.filter(pk=build.pk, version=None).update(version=version)
    build.version = version
    return True


def resolves(build: Build) -> bool:
    """Whether making it asks an index what the newest packages are: it has some, and no lock says which."""
    definition = Definition.from_json(build.version.definition) if build.version is not None else Definition()
    # A conda environment always has a Python that is chosen.
    if definition.kind != "conda" and not (definition.kind == "packages" and definition.packages):
        return False
    return not Lock.objects.filter(workspace=build.target.workspace_id, key=build.key).exists()


def waits_for(build: Build) -> ComputeTarget | None:
    """Another target of the workspace that is resolving the same key for the first time. A build that has not begun waits for it,
    so that both have the same packages; not for one that does not answer or takes long."""
    if build.status != BuildStatus.WAITING or not resolves(build):
        return None
    others = Build.objects.filter(
        key=build.key,
        status=BuildStatus.BUILDING,
        cancel_requested_at=None,
        started_at__gt=timezone.now() - RESOLVING,
        target__workspace=build.target.workspace_id,
        target__unreachable_since=None,
        target__attached_at__isnull=False,
        target__detached_at=None,
    )
    other = others.exclude(pk=build.pk).select_related("target").order_by("started_at").first()
    return other.target if other is not None else None


def used(build: Build) -> None:
    """Note that a run is about to start in it; to the minute, so that a hundred runs at once are one write."""
    now = timezone.now()
    if build.used_at is None or now - build.used_at > timedelta(minutes=1):
        Build.objects.filter(pk=build.pk).update(used_at=now)
        build.used_at = now


def give_up(build: Build, error: BaseException) -> None:
    """The build could not even be begun, again and again."""
    text = str(error) if isinstance(error, CannotBuild) else f"The build could not be begun: {error}"
    fields = {"status": BuildStatus.FAILED, "ended_at": timezone.now(), "error": text[:1000]}
    _swap(build, Q(status__in=[BuildStatus.WAITING, BuildStatus.BUILDING]), fields)


def retry(build: Build) -> bool:
    """Have a failed build tried again; False when it has not failed (any more)."""
    fields = {
        "status": BuildStatus.WAITING,
        "attempt": "",
        "attempts": 0,
        "error": "",
        "started_at": None,
        "ended_at": None,
        "cancel_requested_at": None,
        "canceled_by": None,
    }
    return _swap(build, Q(status=BuildStatus.FAILED), fields)


def cancel(build: Build, user: User | None) -> bool:
    """Ask that a build be given up; False when it has ended, or somebody asked already. Runs that wait for it fail and name it.

    What was perhaps sent to the target is ended there by whoever attends it; the wish is a fact of the row until then.
    """
    now = timezone.now()
    wish: dict[str, Any] = {"cancel_requested_at": now, "canceled_by": user}
    with transaction.atomic():
        not_begun = {**wish, "status": BuildStatus.FAILED, "ended_at": now, "error": canceled_text(user)}
        asked = _swap(build, Q(status=BuildStatus.WAITING), not_begun) or _swap(
            build, Q(status=BuildStatus.BUILDING, cancel_requested_at=None), wish
        )
        if asked:
            subject = str(build.version or build.key[:8])
            audit.note(
                user, "build.cancel", workspace=build.target.workspace, subject=subject, detail=f"on {build.target}"
            )
    return asked


def canceled_text(user: User | None) -> str:
    return f"The build was canceled by {user}." if user is not None else "The build was canceled."


def stop(build: Build, host: "Host") -> bool:
    """End the build's attempt on the target; False when nothing of it is there. May be repeated. Raises what ``host`` raises."""
    try:
        host.cancel("builds", build.attempt, CANCEL_GRACE_SECONDS)
    except HostError as error:
        if error.code != "not_found":
            raise
        return False
    # If nobody has started it yet, its supervisor finds the wish first, and writes that it was canceled.
    host.launch([("builds", build.attempt)])
    return True


def new_attempt(build: Build) -> bool:
    """Save the id of the next attempt, before anything is sent. Returns whether there is a new one.

    A build that is being made keeps its attempt: what was perhaps sent is sent again under the same id, and its claim lets it
    start once. One that is to wait for another target (``waits_for``) gets none.
    """
    fields = {
        "status": BuildStatus.BUILDING, "attempt": secrets.token_hex(16), "attempts": build.attempts + 1,
        "started_at": timezone.now(), "ended_at": None, "error": "",
    }  # fmt: skip
    with transaction.atomic():
        if build.status == BuildStatus.WAITING and resolves(build):
            # Two attendants that look at the same moment: the second sees what the first has written.
            rows = Build.objects.select_for_update(of=("self",)).filter(
                key=build.key, target__workspace=build.target.workspace_id
            )
            list(rows.order_by("pk").values_list("pk", flat=True))
            if waits_for(build) is not None:
                return False
        return _swap(build, Q(status=BuildStatus.WAITING), fields)


def begin(build: Build, host: "Host", target: ComputeTarget) -> None:
    """Start the build's attempt on the target; may be repeated. Raises what ``host`` raises."""
    if build.status == BuildStatus.BUILDING:
        assert build.version is not None, "a build is begun only for a version that asks for it"
        uv = programs.uv_on(target, Definition.from_json(build.version.definition), host)
        host.prepare("builds", build.attempt, spec(build, target, host.root, uv), None)
        host.launch([("builds", build.attempt)])


def finish(build: Build, record: Mapping[str, Any] | None, log_tail: bytes = b"") -> BuildStatus:
    """Apply the end of the build's attempt; return the build's status. No network: call it inside the transaction of the lease.

    ``record``: the exit record, or None when the builder is proven gone without one; ``log_tail``: the end of the build's log,
    for the line that says what went wrong. An attempt that the row no longer names changes nothing.
    """
    now = timezone.now()
    fields: dict[str, Any]
    canceled = build.cancel_requested_at is not None and (record or {}).get("reason") != "exited"
    if canceled:
        fields = {"status": BuildStatus.FAILED, "ended_at": now, "error": canceled_text(build.canceled_by)}
    elif record is None:
        fields = {"status": BuildStatus.WAITING, "attempt": "", "started_at": None}
        if build.attempts >= MAX_ATTEMPTS:
            error = f"The builder was killed {build.attempts} times. Look at the target's memory and log, then retry."
            fields = {"status": BuildStatus.FAILED, "ended_at": now, "error": error}
    else:
        result = record.get("result") or {}
        # By our clock: whether it failed before or after a run was submitted is compared with a time of ours.
        fields = {"ended_at": now}
        if record.get("reason") == "exited" and result.get("python"):
            fields |= {"status": BuildStatus.READY, "error": ""} | _found(result)
        else:
            fields |= {"status": BuildStatus.FAILED, "error": storable(reason_text(record, log_tail))}
    with transaction.atomic():
        first = _swap(build, Q(status=BuildStatus.BUILDING, attempt=build.attempt), fields)
        if first and fields["status"] == BuildStatus.READY:
            _keep_lock(build, (record or {}).get("result") or {})
        if first:
            waiting = Build.objects.filter(
                key=build.key, status=BuildStatus.WAITING, target__workspace=build.target.workspace_id
            )
            for target_id in set(waiting.values_list("target_id", flat=True)) - {build.target_id}:
                ring(target_id)  # it may have waited for this
    return BuildStatus(build.status)


def _found(result: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the row from what the builder reported; of what is not as it should be, nothing."""
    packages, extras, size = result.get("packages"), result.get("extras"), result.get("size")
    listed = (
        [one for one in packages if isinstance(one, dict) and one.get("name")] if isinstance(packages, list) else []
    )
    found = {
        "python": str(result["python"]),
        "image": str(result.get("image") or ""),
        "platform": str(result.get("platform") or "")[:64],
        "lock": str(result.get("lock") or ""),
        "packages": listed,
        "extras": extras if isinstance(extras, dict) else {},
        "size": size if isinstance(size, int) else 0,
    }
    return {name: storable(value) for name, value in found.items()}


def _keep_lock(build: Build, result: Mapping[str, Any]) -> None:
    """What this build resolved is what every later one of the key installs. The first that says it is right."""
    text = result.get("lock_text")
    if isinstance(text, str) and text.strip() and build.platform:
        Lock.objects.get_or_create(
            workspace=build.target.workspace,
            key=build.key,
            platform=build.platform,
            defaults={"text": storable(text)},
        )


def _swap(build: Build, expected: Q, fields: dict[str, Any]) -> bool:
    """Compare and set, on the row and on the object; the bell rings after the commit. False: the object shows what is true now."""
    with transaction.atomic():
        if not Build.objects.filter(expected, pk=build.pk).update(**fields):
            build.refresh_from_db()
            return False
        ring(build.target_id)
    for name, value in fields.items():
        setattr(build, name, value)
    return True


def verify(target: ComputeTarget, present: Iterable[Mapping[str, Any]]) -> int:
    """Compare with what is on the target (``environments`` of its launcher): a ready build that is gone is one no more.

    The next run that needs it has it made again (it has failed, at no time). Returns how many are gone. Costs one request per
    connection, not one per run.
    """
    items = list(present)
    folders = Q(image="", key__in=[str(item["key"]) for item in items if "key" in item])
    images = Q(image__in=[str(item["image"]) for item in items if "image" in item])
    gone = Build.objects.filter(target=target, status=BuildStatus.READY).exclude(folders | images)
    return gone.update(status=BuildStatus.FAILED, error=GONE, python="", image="", ended_at=None)


def vanished(build: Build) -> bool:
    """The environment of a ready build is no longer on the target: a run that is about to start has it made again."""
    fields = {"status": BuildStatus.WAITING, "attempt": "", "attempts": 0, "python": "", "image": "", "ended_at": None}
    return _swap(build, Q(status=BuildStatus.READY), fields)


def reason_text(record: Mapping[str, Any], log_tail: bytes) -> str:
    """Why a build failed, in one line of at most 1,000 characters."""
    reason = record.get("reason")
    error = record.get("error") or {}
    said = str((record.get("result") or {}).get("error") or "")
    if reason == "launch_rejected":
        return f"The build could not be started: {error.get('message', 'no reason given')}"[:1000]
    fixed = {
        "disk_full": "The disk of the target is full. Free some space, then retry.",
        "out_of_memory": "The build ran out of memory. Free some on the target, then retry.",
        "timed_out": f"The build took longer than {BUILD_SECONDS // 3600} hours.",
        "canceled": "The build was canceled.",
    }.get(str(reason))
    if fixed:
        return fixed
    # What our program on the target says is clearer than what an installer printed before.
    line = re.sub(r"\s+", " ", said)[:1000] or first_error(log_tail)
    if line:
        return line
    if error.get("type"):
        return f"{error['type']}: {error.get('message', '')}"[:1000]
    if record.get("signal"):
        return f"The build was ended by signal {record['signal']}."
    if record.get("exit_code") == 0:
        return "The build ended well, but without a record of what it made (or with one over 4 MB). See its log, then retry."
    return f"The build ended with exit code {record.get('exit_code')} and no message. See its log."


def first_error(log: bytes) -> str:
    """The first line of an installer's error with its causes, in one line; empty when there is none."""
    lines = _ANSI.sub("", log.decode("utf-8", "replace")).splitlines()
    for place, line in enumerate(lines):
        if not (match := _FIRST_ERROR.match(line)):
            continue
        parts = [match["text"].strip()]
        for following in lines[place + 1 :]:
            cause = _CAUSE.match(following)
            # uv folds long messages with deeper indentation; pip and others begin anew at the margin.
            if cause or (parts[1:] and following.startswith("    ") and following.strip()):
                parts.append(cause["text"].strip() if cause else following.strip())
            else:
                break
        head, *causes = parts
        text = f"{head.rstrip(':')}: {' '.join(causes)}" if causes else head
        return re.sub(r"\s+", " ", text)[:1000]
    return ""
