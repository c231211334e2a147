"""A target's own answers in words: place, paths, programs, room."""

from collections.abc import Iterator, Mapping
from re import Pattern
from typing import Any

from environments.definition import Definition
from environments.models import Build, ComputeTarget, EnvironmentVersion
from runs import argument_paths
from runs.config import ScriptRunConfig
from runs.preflight import MAX_NAMED, WRITTEN, Check, Wanted

MARGIN = 500_000_000
"""For outputs and logs."""
UNBUILT = 1_000_000_000
"""What an environment takes that nobody has built yet, where it names packages."""
REFUSED = {
    "not_found": "there is none",
    "closed": "a folder on the way to it is closed to the target's user",
    "not_executable": "it is there and cannot be executed",
    "no_answer": "it does not answer as a Python 3",
    "os_error": "it could not be asked",
}


def check_place(
    definition: Definition,
    version: EnvironmentVersion,
    target: ComputeTarget,
    config: ScriptRunConfig,
    python: Mapping[str, Any],
    *,
    asked: bool,
) -> Iterator[Check]:
    """Whether an environment like this can be on a target like that."""
    contained = target.launcher == "docker"
    if definition.needs_engine and not contained:
        what = "a Dockerfile" if definition.dockerfile else f"the image {definition.base_image}"
        text = f"{version} is made of {what}, and {target} starts processes, no containers"
        yield Check("fail", text, fix="Choose a target with Docker, or an environment of packages.")
    if python.get("error") and asked:
        name = definition.conda_environment or definition.interpreter_path or str(python.get("path") or "python3")
        what = "conda environment" if definition.conda_environment else "interpreter"
        why = REFUSED.get(str(python["error"]), str(python["error"]))
        said = (
            f" ({python['message']})" if python["error"] in {"no_answer", "os_error"} and python.get("message") else ""
        )
        surely = python["error"] in {"not_found", "closed", "not_executable"} and definition.kind in {
            "interpreter",
            "conda_environment",
        }
        # By a name it may be found where this question did not look.
        surely = surely and name.startswith("/")
        fix = f"Make it there, or choose an environment that is on {target}."
        if python["error"] == "closed":
            fix = f"Have the folder opened there (chmod o+x), or choose an environment that is on {target}."
        if definition.kind not in {"interpreter", "conda_environment"}:
            fix = "The run has it built again; if that fails, read the build's log."
        yield Check("fail" if surely else "warn", f"The {what} {name} on {target}: {why}{said}", fix=fix)
    allowed = (target.options.get("docker") or {}).get("memory_bytes") if contained else None
    if allowed and (config.memory_bytes or 0) > allowed:
        text = (
            f"{bytes_text(config.memory_bytes or 0)} of memory are asked for, and {target} allows {bytes_text(allowed)}"
        )
        yield Check("fail", text, fix="Ask for less, or have the limit of the target raised.")


def check_paths(wanted: Wanted, seen: Mapping[str, str], reply: Mapping[str, Any]) -> Iterator[Check]:
    """Paths in the arguments."""
    config, target = wanted.config, wanted.target
    words = config.words
    for named in argument_paths.at_home(words)[:MAX_NAMED]:
        text = f"{named.path} is passed as it is: there is no shell that would complete ~"
        yield Check("warn", text, fix="Write the whole path, or have the script call os.path.expanduser.")
    paths = wanted.paths or set()
    for named in argument_paths.folders(words)[:20]:
        path = named.path.removeprefix("./").rstrip("/")
        inside = path in paths or any(name.startswith(f"{path}/") for name in paths)
        # A file with an ending is looked for while one types.
        if not inside and not f"{path}/".startswith(WRITTEN) and "." not in path.rpartition("/")[2]:
            text = f"{named.path} ({named.option}) is not in the snapshot"
            yield Check(
                "warn",
                text,
                fix="Put it into the folder, see that .runignore keeps it, or name its place on the target.",
            )
    if "paths" in (reply.get("unanswered") or ()):
        text = f"{target} did not say in time whether the paths in the arguments exist: a disk there may hang"
        yield Check("warn", text, fix="Look at its network disks, or leave these paths out.")
    states: Mapping[str, str] = reply.get("paths") or {}
    good = 0
    for named in argument_paths.absolute(words)[:50]:
        place = seen.get(named.path, "")
        if not place:
            yield _unseen(named.path, target, paths)
        elif place in states:
            if states[place] in {"file", "folder"}:
                good += 1
            elif check := _wrong(named, place, states[place], target):
                yield check
    if good:
        yield Check(
            "ok", f"{good} path{'s' if good > 1 else ''} of the arguments {'are' if good > 1 else 'is'} on {target}"
        )


def _unseen(path: str, target: ComputeTarget | None, paths: set[str]) -> Check:
    if target is not None and target.launcher == "docker":
        text = f"{path} is in none of the folders that containers on {target} see"
        fix = "Unless the image holds it, add a mount to the target's options, or put the file into the project folder."
        return Check("warn", text, fix=fix)
    return Check(
        "warn", f"{path} is hidden from runs on {target}", fix="Copy it elsewhere, or put it into the project folder."
    )


def _wrong(named: argument_paths.Named, place: str, state: str, target: ComputeTarget | None) -> Check | None:
    where = f"{named.path} ({place} outside the container)" if place != named.path else named.path
    if state == "denied":
        return Check(
            "warn",
            f"{where} is on {target}, and runs may not read it",
            fix="Give that user the right to read it (chmod, setfacl).",
        )
    if state == "creatable" and named.written:
        return None
    if named.written:
        text = f"{where} is not on {target}, nor is the folder above it writable"
        return Check("warn", text, fix="Make that folder there, or have the script make all of them.")
    return Check(
        "warn",
        f"{where} is not on {target}",
        fix="Correct the path, or put what it should be there, unless the script makes it.",
    )


def check_words(wanted: Wanted, reference: "Pattern[str]") -> Iterator[Check]:
    """Variables that arguments name: only the run's own are put in."""
    config = wanted.config
    definition = (wanted.version.definition if wanted.version else {}) or {}
    there = {*config.variables, *definition.get("variables", {})}
    unknown: dict[str, str] = {}
    for word in config.words:
        for match in reference.finditer(word):
            name = match[1] or match[2]
            if name not in there and not name.startswith(("AZUREML_", "RUNSTEAD_")):
                unknown.setdefault(name, match[0])
    for name, text in list(unknown.items())[:MAX_NAMED]:
        if name in config.secrets:
            fix = f"Have the script read the variable {name} itself: secrets are never put into a command line."
            yield Check("warn", f"{text} in the arguments stays as it is, because {name} is a secret", fix=fix)
        else:
            fix = f"Add {name} to the variables of the run, or write the value itself."
            yield Check("warn", f"{text} in the arguments stays as it is: the run has no variable {name}", fix=fix)
    names = [definition.get("index_secret"), (definition.get("registry") or {}).get("secret")]
    asked = [str(name) for name in names if name]
    held = set(wanted.workspace.secrets.filter(name__in=asked).values_list("name", flat=True))
    for name in asked:
        if name not in held:
            text = f"{wanted.version} needs the secret {name} for its packages, and the workspace has none"
            yield Check("warn", text, fix="Add it in Settings, Secrets.")


def check_programs(
    config: ScriptRunConfig, target: ComputeTarget, reply: Mapping[str, Any], python: Mapping[str, Any]
) -> Iterator[Check]:
    """What the framework starts besides Python."""
    found: Mapping[str, Any] = reply.get("programs") or {}
    own = python.get("modules") or {}
    if "mpirun" in found and not found["mpirun"]:
        fix = "Install it there (Debian: openmpi-bin), or take an environment that brings it."
        yield Check(
            "warn", f"mpirun is not on {target}'s PATH", "It may be beside the environment's interpreter.", fix=fix
        )
    if "spark-submit" in found:
        home = (target.options.get("spark") or {}).get("home")
        if not home and not found["spark-submit"] and own.get("pyspark") is not True:
            fix = "Name the Spark home of the target, or take an environment with pyspark."
            yield Check("warn", f"There is no spark-submit on {target}'s PATH", fix=fix)
        if not found.get("java"):
            yield Check(
                "warn",
                f"There is no java on {target}'s PATH, and Spark needs it",
                fix="Install Java 17 there, or set JAVA_HOME.",
            )
    if config.framework == "command":
        name = config.command[0] if config.command else ""
        if name in found and not found[name]:
            fix = "Install it there, write its whole path, or take an environment that brings it."
            yield Check("warn", f"There is no program {name} on {target}'s PATH", fix=fix)


def check_machine(
    wanted: Wanted, built: Build | None, elsewhere: int | None, reply: Mapping[str, Any]
) -> Iterator[Check]:
    """Room on the disk, memory, GPUs."""
    target, config = wanted.target, wanted.config
    size = wanted.snapshot.size if wanted.snapshot else 0
    named = bool((wanted.version.definition if wanted.version else {}).get("packages"))
    software = 0 if built else elsewhere if elsewhere is not None else UNBUILT if named else 0
    need = 2 * size + software + MARGIN
    disk = reply.get("disk") or {}
    free = disk.get("free")
    if free is not None and free < need:
        parts = [
            f"the snapshot twice ({bytes_text(2 * size)})",
            *([f"the environment (about {bytes_text(software)})"] if software else []),
        ]
        text = f"{bytes_text(free)} are free on {target}, and about {bytes_text(need)} are needed"
        detail = f"That is {', '.join(parts)}, and {bytes_text(MARGIN)} for outputs."
        yield Check("warn", text, detail, fix="Clean it up under Compute, or choose another root folder or target.")
    elif free is not None:
        yield Check("ok", f"{bytes_text(free)} free on {target}")
    memory = int((target.facts if target else {}).get("memory") or 0)
    if config.memory_bytes and memory and config.memory_bytes > memory:
        text = f"The memory limit of {bytes_text(config.memory_bytes)} is more than {target} has ({bytes_text(memory)})"
        yield Check("warn", text, fix="Lower it: the machine's own end comes first.")
    if config.gpus and "gpus" in (reply.get("unanswered") or ()):
        text = f"nvidia-smi on {target} did not answer in time"
        yield Check("warn", text, fix="Run it there: a driver that hangs ends no run, and starts none.")
    elif config.gpus:
        count = reply.get("gpus")
        if count is not None and count < config.gpus:
            text = f"{target} lists {count} GPU{'' if count == 1 else 's'} now, and {config.gpus} are asked for"
            yield Check("warn", text, fix="Run nvidia-smi there, or ask for fewer.")
        elif count is None and not (target.gpu_slots if target else None):
            yield Check("warn", f"{target} has no NVIDIA driver now", fix="Install it there, or ask for no GPU.")


def bytes_text(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
