"""What a script imports, compared with what its environment holds: in words, with the fix."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from environments import inrun, service_only
from environments.definition import Definition
from environments.models import Build, BuildStatus, ComputeTarget, EnvironmentVersion, Lock
from runs import modules
from runs.importing import Import, Imports
from runs.preflight import Check

MOST = 8
PROVIDED = frozenset({"runstead", "__future__", "__main__"})
BY_SPARK = frozenset({"pyspark", "py4j"})


@dataclass
class Held:
    """What an environment can import: as it was asked or recorded, else guessed."""

    names: Mapping[str, bool | None] = field(default_factory=dict)
    """Module → whether the interpreter itself finds it, where that was asked."""
    modules: frozenset[str] | None = None
    """All modules (lower case) of its packages; None where nothing is known of them."""
    sure: bool = False
    """Not guessed."""
    source: str = ""
    """How it is known, for people."""
    minor: int | None = None
    """Of Python 3."""

    def has(self, module: str) -> bool | None:
        """None: nobody can tell."""
        if module in self.names:
            return self.names[module]
        top = module.partition(".")[0]
        if top in modules.STANDARD:
            return not (self.minor is not None and self.minor >= modules.REMOVED.get(top, 99))
        if self.modules is None:
            return None
        # What a namespace holds below its name was not recorded.
        return top.lower() in self.modules


def recorded(version: EnvironmentVersion, target: ComputeTarget, definition: Definition) -> Held:
    """What the studio's own rows say, the surest first: the build there, one elsewhere, a lock, the names that were asked for."""
    rows = Build.objects.filter(key=version.key, status=BuildStatus.READY, target__workspace=target.workspace_id)
    builds = sorted(rows.select_related("target"), key=lambda row: row.target_id != target.pk)
    for build in builds:
        if build.packages:
            names = {str(name).lower() for package in build.packages for name in package.get("modules") or []}
            where = "as it was built there" if build.target_id == target.pk else f"as it was built on {build.target}"
            return Held(
                modules=frozenset(names),
                sure=True,
                source=where,
                minor=minor_of(build.platform) or minor_of(definition),
            )
    minor = minor_of(builds[0].platform if builds else "") or minor_of(definition)
    if (
        definition.kind in {"interpreter", "conda_environment", "image"}
        or definition.base_image
        or definition.dockerfile
    ):
        return Held(minor=minor)
    locks = Lock.objects.filter(workspace=target.workspace_id, key=version.key).order_by("-pk")
    text = "\n".join([lock.text for lock in locks[:1]] + [build.lock for build in builds[:1]])
    listed = names_of(text.splitlines())
    source = "by the names of its packages" + ("" if listed else ", before it was ever built")
    definition = service_only.installed(definition)
    asked = names_of([*definition.packages, *definition.conda_packages])
    return Held(modules=frozenset(modules.expected(listed | asked)), source=source, minor=minor)


def names_of(lines: "list[str] | tuple[str, ...]") -> set[str]:
    """Packages that requirements, lock lines or conda's specifications and addresses name."""
    found = set()
    for line in lines:
        text = line.strip()
        if text.startswith(("http:", "https:", "file:")):
            text = text.rpartition("/")[2].rsplit("-", 2)[0]
        elif "::" in text:
            text = text.partition("::")[2]
        if match := re.match(r"[A-Za-z0-9][\w.-]*", text):
            found.add(modules.normal(match[0]))
    return found


def minor_of(source: "str | Definition") -> int | None:
    """The x of Python 3.x that a platform's tag or a definition names."""
    text = source.python_version if isinstance(source, Definition) else source.partition("py")[2]
    match = re.match(r"3\.(\d+)", text)
    return int(match[1]) if match else None


def asked_of(found: Imports, framework: str) -> list[str]:
    """Modules that somebody has to hold, with those that the framework itself needs."""
    provided = PROVIDED | (BY_SPARK if framework == "pyspark" else frozenset())
    asked = [item.module for item in found.foreign if item.module.partition(".")[0] not in provided]
    names = [name for name in asked if name not in inrun.alias_modules()]
    if framework == "pytorch":
        names.append("torch")
    return list(dict.fromkeys(names))[:1000]


def compare(
    found: Imports, held: Held, version: EnvironmentVersion, target: ComputeTarget, script: str, framework: str
) -> list[Check]:
    """A check for each module that is missing, or one that all are there."""
    definition = Definition.from_json(version.definition)
    wanted = asked_of(found, framework)
    lacking = {name for name in wanted if held.has(name) is False}
    lacking -= {name for name in lacking if any(name.startswith(f"{other}.") for other in lacking)}
    items: dict[str, Import] = {}
    for item in sorted(found.foreign, key=lambda item: (item.need, item.path != script, item.path, item.line)):
        if item.module in lacking and item.need < 2:
            items.setdefault(
                item.module.partition(".")[0] if item.module.partition(".")[0] in lacking else item.module, item
            )
    if "torch" in lacking and framework == "pytorch" and "torch" not in items:
        items["torch"] = Import("torch", "", 0, 0)
    checks = [
        check
        for item in items.values()
        if not ("path" in found.marks and item.module in found.elsewhere)
        for check in [missing(item, found, held, version, definition, target, script)]
    ]
    checks += [absent(item, found, script) for item in _distinct(found.absent)]
    if len(checks) > MOST:
        more = len(checks) - MOST
        checks[MOST:] = [Check("warn", f"{more} more imports are not found", fix="Mend those above, then check again.")]
    unknown = [name for name in wanted if held.has(name) is None]
    if unknown and not items:
        named = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        checks.append(Check("run", f"Whether {version} holds {named} is known once it was built on {target}"))
    elif not checks and wanted:
        foreign = {name.partition(".")[0] for name in wanted} - modules.STANDARD
        text = f"All imports are there: {len(foreign)} from {version}" if foreign else "All imports are there"
        checks.append(Check("ok", text, held.source[:1].upper() + held.source[1:] + "." if held.source else ""))
    if found.cut:
        text = "Not every import was looked at: the project has more than can be read in a second"
        checks.append(Check("run", text))
    return checks


def missing(
    item: Import,
    found: Imports,
    held: Held,
    version: EnvironmentVersion,
    definition: Definition,
    target: ComputeTarget,
    script: str,
) -> Check:
    """What is said of one module that nobody holds."""
    top = item.module.partition(".")[0]
    shown = item.module if item.module.startswith(("google.", "azure.", "azureml.")) else top
    who = f"{item.path}, line {item.line} imports {shown}" if item.path else "The framework needs torch"
    if top in modules.REMOVED and held.minor is not None and held.minor >= modules.REMOVED[top]:
        fix = f"Take Python 3.{modules.REMOVED[top] - 1}" + (
            ", or add setuptools." if top == "distutils" else ", or what replaced it."
        )
        return Check(
            level(item, found, held, script),
            f"{who}, which Python has no longer from 3.{modules.REMOVED[top]} on",
            fix=fix,
        )
    if item.module in found.elsewhere:
        folder = found.elsewhere[item.module]
        text = f"{who}, which is in {folder} of the folder, and not on Python's path"
        fix = f'Move it to the folder\'s root, or begin the script with import sys; sys.path.insert(0, "{folder.rstrip("/")}").'
        return Check(level(item, found, held, script), text, fix=fix)
    package = "-".join(item.module.split(".")[:2])
    if top == "azureml" and service_only.is_service_only(package):
        fix = "It does nothing but speak to Azure Machine Learning's service: take the line out."
        return Check(level(item, found, held, script), f"{who}, which no run has", modules.INSTEAD[top], fix=fix)
    near = difflib.get_close_matches(top, sorted(found.own - {top}), 1, 0.8)
    if not near and top not in modules.PACKAGES:
        near = difflib.get_close_matches(
            top, sorted((held.modules or frozenset()) | {*modules.PACKAGES} - {top.lower()}), 1, 0.88
        )
    verb = f"Did you mean {near[0]}? Else add" if near else "Add"
    as_it_is = {
        "image": "the image",
        "conda_environment": f"that conda environment on {target}",
        "interpreter": f"that interpreter on {target}",
    }
    place = as_it_is.get(definition.kind, "")
    where = f"{place}, or choose an environment that lists it" if place else "the environment's packages"
    fix = f"{verb} {modules.package_of(item.module)} to {where}."
    detail = "" if held.sure else f"This is a guess, {held.source}." if held.source else ""
    detail = f"{detail} {modules.INSTEAD.get(top, '')}".strip()
    return Check(level(item, found, held, script), f"{who}, which {version} does not hold", detail, fix=fix)


def absent(item: Import, found: Imports, script: str) -> Check:
    """A module of the project itself that is not in the snapshot."""
    who = f"{item.path}, line {item.line} imports {item.module}"
    if item.module.startswith(".") and item.path == script:
        bare = item.module.lstrip(".") or "the module"
        fix = f"Write its name without the dots: from {bare} import …"
        return Check(
            "fail" if item.need == 0 else "warn", f"{who}: a script has no package, so this cannot be found", fix=fix
        )
    names = {path.removesuffix(".py").replace("/", ".") for path in found.sources} | found.own
    near = difflib.get_close_matches(item.module.lstrip("."), sorted(names), 1, 0.7)
    fix = (
        f"Did you mean {near[0]}?" if near else "Correct the name, or see that .runignore does not leave the file out."
    )
    return Check("warn", f"{who}, which is not in the snapshot", fix=fix)


def level(item: Import, found: Imports, held: Held, script: str) -> str:
    """``fail`` for what surely ends the run: an import at the script's own top, not found by the interpreter that was asked."""
    sure = item.need == 0 and item.path in {script, ""} and held.names.get(item.module) is False and not found.marks
    return "fail" if sure else "warn"


def _distinct(items: list[Import]) -> list[Import]:
    kept = {(item.module, item.path): item for item in reversed(items) if item.need < 2}
    return sorted(kept.values(), key=lambda item: (item.path, item.line))
