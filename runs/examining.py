"""The checks of a run that only its target can answer, made before anything is queued and within three seconds.

Three things go on at once: the connection is opened (or one is still warm), the script's imports are followed through the snapshot,
and then the target is asked everything in one question. What did not answer in time is said to be unanswered; nothing of it blocks.
"""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.cache import cache
from django.utils import timezone

from environments import reaching
from environments.definition import Definition
from environments.host import HostError, HostLost, Reply
from environments.models import Build, BuildStatus
from environments.target import isolated, root_of, sentence
from environments.transports.base import TransportError
from runs import argument_paths, import_checks, importing, snapshots
from runs.command import REFERENCE
from runs.import_checks import Held
from runs.machine_checks import check_machine, check_paths, check_place, check_programs, check_words
from runs.preflight import Check, Wanted
from studio.blobs import BlobMissing, BlobStore
from studio.templatetags.studio import relative

SECONDS = 3.0
"""No answer takes longer."""
READING = 1.0
REACHING = 2.2
REMEMBERED = 60
MAX_SOURCES = 512 * 1024
AT_ONCE = 4
"""Of the threads that serve pages, how many may be waiting for targets."""
_room = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class Examined:
    """What the target says of a run."""

    target: str
    checks: tuple[Check, ...]
    seconds: float = 0.0
    answered: bool = True
    """Whether the target itself was heard."""
    at: float = field(default_factory=time.time)

    @property
    def passed(self) -> bool:
        return not any(check.level == "fail" for check in self.checks)

    @property
    def failures(self) -> int:
        return sum(check.level == "fail" for check in self.checks)

    @property
    def warnings(self) -> int:
        return sum(check.level == "warn" for check in self.checks)


def ready(wanted: Wanted) -> bool:
    """Whether enough is known to ask."""
    named = wanted.config.command or wanted.config.script in (wanted.paths or ())
    return wanted.target is not None and wanted.version is not None and wanted.snapshot is not None and bool(named)


def key_of(wanted: Wanted) -> str:
    """What tells one question from another."""
    if not ready(wanted):
        return ""
    assert wanted.snapshot and wanted.version and wanted.target
    build = Build.objects.filter(target=wanted.target, key=wanted.version.key).values_list("status", "attempt").first()
    config = wanted.config.to_json()
    asked = [
        config[name]
        for name in ("script", "arguments", "command", "framework", "memory_bytes", "gpus", "variables", "secrets")
    ]
    of = [
        wanted.workspace.pk,
        wanted.snapshot.digest,
        wanted.version.pk,
        wanted.target.pk,
        wanted.target.options,
        build,
        asked,
    ]
    return hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()


def known(wanted: Wanted) -> Examined | None:
    """The answer of the last minute; None where the target has to be asked."""
    key = key_of(wanted)
    found = cache.get(f"examined:{key}") if key else None
    return found if isinstance(found, Examined) else None


def examine(wanted: Wanted, *, anew: bool = False) -> Examined:
    """Ask the target, or remember what it said within the last minute. Takes three seconds at most; never raises for a target."""
    assert wanted.target is not None
    if not ready(wanted):
        return Examined(wanted.target.name, (), answered=False)
    if not anew and (found := known(wanted)) is not None:
        return found
    if not _room.acquire(timeout=0.5):
        text = f"{wanted.target} was not asked: the studio is checking several runs at once"
        return Examined(wanted.target.name, (Check("run", text, fix="Check again in a moment."),), answered=False)
    try:
        found = Examination(wanted, time.monotonic()).all()
    finally:
        _room.release()
    if found.answered:
        cache.set(f"examined:{key_of(wanted)}", found, REMEMBERED)
    return found


class Examination:
    def __init__(self, wanted: Wanted, begun: float) -> None:
        assert wanted.target is not None and wanted.version is not None and wanted.snapshot is not None
        self.wanted, self.begun = wanted, begun
        self.target, self.version, self.snapshot = wanted.target, wanted.version, wanted.snapshot
        self.definition = Definition.from_json(self.version.definition)
        self.config = wanted.config
        self.contained = self.target.launcher == "docker"
        self.build = Build.objects.filter(target=self.target, key=self.version.key).first()
        self.built = self.build is not None and self.build.status == BuildStatus.READY

    def left(self, until: float = SECONDS) -> float:
        return max(0.0, self.begun + until - time.monotonic())

    def all(self) -> Examined:
        trouble = ""
        try:
            reaching.begin(self.target)  # while the sources are read
        except TransportError as error:
            trouble = str(error)
        found = self.imports()
        reply: Reply = {}
        if not trouble:
            reply, trouble = self.ask(found)
        checks = [*self.first(trouble), *self.rest(found, reply)]
        return Examined(self.target.name, tuple(checks), time.monotonic() - self.begun, not trouble)

    # -- the question

    def imports(self) -> importing.Imports | None:
        """What the script imports; None where there is none in Python."""
        script = self.script
        if not script:
            return None
        store = BlobStore(self.snapshot.workspace_id)
        try:
            return importing.follow(
                snapshots.files(self.snapshot), script, lambda digests: dict(store.read_many(digests)), READING
            )
        except BlobMissing:
            return None

    @property
    def script(self) -> str:
        """The Python file that is started; of a command the one that its interpreter is given."""
        words = list(self.config.command)
        if self.config.framework == "command":
            named = words[1:2] if words and words[0].rpartition("/")[2].startswith("python") else []
        else:
            named = [self.config.script]
        return next((name for name in named if name.endswith(".py") and name in (self.wanted.paths or ())), "")

    def ask(self, found: importing.Imports | None) -> tuple[Reply, str]:
        """(the target's answer, or why there is none)."""
        sources: dict[str, bytes] = {}
        size = 0
        for path, source in (found.sources if found else {}).items():
            if size + len(source) <= MAX_SOURCES:
                sources[path], size = source, size + len(source)
        question: dict[str, Any] = {
            "paths": [one for one in self.seen_paths().values() if one],
            "programs": list(self.programs()),
            "gpus": self.config.gpus > 0,
        }
        python = self.interpreter()
        if python is not None and found is not None:
            question |= {"python": python, "modules": import_checks.asked_of(found, self.config.framework)}
        elif python is not None and (self.definition.interpreter_path or self.definition.conda_environment):
            question |= {"python": python, "modules": []}
        try:
            with reaching.reached(self.target, self.left(REACHING)) as host:
                question["isolate"] = isolated(self.target, host.root)
                return host.preflight(question, sources, max(self.left() - 0.5, 0.3)), ""
        except (TransportError, HostLost, TimeoutError) as error:
            return {}, str(error) or type(error).__name__
        except HostError as error:
            return {}, f"its agent refused the question: {error}"

    def interpreter(self) -> dict[str, Any] | None:
        """The Python to ask there; None where it is inside an image."""
        if self.contained or self.definition.needs_engine:
            return None
        if self.built and self.build is not None:
            return {"path": self.build.python}
        avoid = sys.prefix if self.target.transport == "local" and sys.prefix != sys.base_prefix else ""
        if self.definition.conda_environment:
            return {"conda": self.definition.conda_environment}
        if self.definition.kind == "interpreter":
            path = self.definition.interpreter_path
            return (
                {"path": path}
                if path.startswith("/")
                else {"names": [path] if path else ["python3", "python"], "avoid": avoid}
            )
        if self.definition.kind == "packages":
            # Not made yet: the one it will be made of can parse at least.
            version = ".".join(self.definition.python_version.split(".")[:2])
            return {"names": [f"python{version}"] if version else ["python3", "python"], "avoid": avoid}
        return None

    @property
    def asks_environment(self) -> bool:
        """Whether the interpreter that is asked is the environment's own, and not the one that it will be made of."""
        return self.built or self.definition.kind in {"interpreter", "conda_environment"}

    def programs(self) -> Iterator[str]:
        if self.contained:
            return  # those of the image
        if self.config.framework == "mpi":
            yield "mpirun"
        if self.config.framework == "pyspark":
            yield "java"
            yield "spark-submit"
        if self.config.framework == "command" and self.config.command and "/" not in self.config.command[0]:
            yield self.config.command[0]

    def seen_paths(self) -> dict[str, str]:
        """Absolute path in the arguments → where that is on the machine; empty where a run cannot see it."""
        words = self.config.words
        found: dict[str, str] = {}
        hidden = isolated(self.target, root_of(self.target)) if self.target.transport == "local" else []
        for named in argument_paths.absolute(words)[:50]:
            path = named.path
            if self.contained:
                found[path] = self.mounted(path)
            else:
                found[path] = "" if any(path == one or path.startswith(f"{one}/") for one in hidden) else path
        return found

    def mounted(self, path: str) -> str:
        mounts = (self.target.options.get("docker") or {}).get("mounts") or []
        for mount in sorted(mounts, key=lambda mount: -len(str(mount["target"]))):
            place = str(mount["target"]).rstrip("/")
            if path == place or path.startswith(f"{place}/"):
                return str(mount["source"]).rstrip("/") + path[len(place) :]
        return ""

    # -- the answer

    def first(self, trouble: str) -> Iterable[Check]:
        """Whether the target was heard."""
        if not trouble:
            return
        since = self.target.unreachable_since
        when = f" since {relative((timezone.now() - since).total_seconds())}" if since else ""
        fix = "The run waits until it answers. Test its connection under Compute, or choose another target."
        yield Check("warn", f"{self.target} does not answer{when}", sentence(trouble), fix=fix)

    def rest(self, found: importing.Imports | None, reply: Mapping[str, Any]) -> Iterable[Check]:
        python = reply.get("python") or {}
        if "python" in (reply.get("unanswered") or ()):
            yield Check("run", f"The interpreter on {self.target} did not answer in time: imports were not looked up")
        yield from check_place(
            self.definition, self.version, self.target, self.config, python, asked=self.asks_environment
        )
        if found is not None:
            held = self.held(python)
            yield from self.parsed(found, python, held)
            if self.script not in found.wrong or self.script in python.get("syntax", {}):
                yield from import_checks.compare(
                    found, held, self.version, self.target, self.script, self.config.framework
                )
        yield from check_paths(self.wanted, self.seen_paths(), reply)
        yield from check_words(self.wanted, REFERENCE)
        if reply:
            yield from check_programs(self.config, self.target, reply, python)
            yield from check_machine(self.wanted, self.build if self.built else None, self.space_elsewhere(), reply)

    def held(self, python: Mapping[str, Any]) -> Held:
        names: Mapping[str, bool | None] = python.get("modules") or {}
        version = str(python.get("version") or "")
        if self.asks_environment and names:
            return Held(names, frozenset(), True, f"asked Python {version} on {self.target}", _minor(version))
        held = import_checks.recorded(self.version, self.target, self.definition)
        if names and held.minor is None:
            held.minor = _minor(version)
        return held

    def parsed(self, found: importing.Imports, python: Mapping[str, Any], held: Held) -> Iterable[Check]:
        """Whether the sources are Python to the interpreter that will read them."""
        said: Mapping[str, Any] = python.get("syntax") or {}
        version = str(python.get("version") or "")
        for path in found.sources:
            if said.get(path):
                line, message = said[path]
                surely = path == self.script and self.asks_environment
                yield Check(
                    "fail" if surely else "warn",
                    f"{path}, line {line}: {message}",
                    f"Read with Python {version}.",
                    fix=_LINE,
                )
            elif path not in said and path in found.wrong:
                line, message = found.wrong[path]
                own = f"Read with Python {sys.version_info.major}.{sys.version_info.minor} of the studio."
                yield Check("warn", f"{path}, line {line}: {message}", own, fix=_LINE)
        if python.get("unfinished"):
            text = f"{python['unfinished']} takes Python more time or memory to read than a source should"
            yield Check("warn", text, fix="Move data out of it into a file.")
        if self.script in said and not said[self.script]:
            yield Check("ok", f"{self.script} parses under Python {version} of {self.target}")

    def space_elsewhere(self) -> int | None:
        """Bytes that this environment takes on another target; None where nobody has built it."""
        rows = Build.objects.filter(
            key=self.version.key, status=BuildStatus.READY, target__workspace=self.wanted.workspace
        )
        return max((row.size for row in rows if row.size), default=None)


_LINE = "Correct that line, then send the folder again."


def _minor(version: str) -> int | None:
    parts = version.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None
