"""What a script imports: its project's own modules, followed through the snapshot, and the names of all others.

Sources are read by a process of its own (``runs.import_scan``), bounded in time and memory: what a project holds may be hostile.
What one content imports never changes, so it is remembered by its digest.
"""

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runs.manifest import FileEntry

MAX_FILES = 300
MAX_BYTES = 8_000_000
MAX_SOURCE = 1_000_000
SCAN = Path(__file__).with_name("import_scan.py")
Read = Callable[[Iterable[str]], Mapping[str, bytes]]
"""Digests → contents."""


@dataclass(frozen=True)
class Import:
    """One import statement's wish for one module."""

    module: str
    """Absolute, with dots."""
    path: str
    line: int
    need: int
    """0 made at once, 1 perhaps, 2 it may fail and the script goes on."""


@dataclass
class Imports:
    """What a script imports, however indirectly."""

    foreign: list[Import] = field(default_factory=list)
    """Not in the snapshot: of the environment, or nowhere."""
    absent: list[Import] = field(default_factory=list)
    """Modules that should be in the snapshot (relative imports, parts of the project's own packages) and are not."""
    sources: dict[str, bytes] = field(default_factory=dict)
    """Path → source of what was looked at, the script first."""
    wrong: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Path → line and message of sources that this Python cannot read."""
    marks: set[str] = field(default_factory=set)
    """``path``: sys.path is changed; ``pip``: something may be installed by the run itself."""
    own: set[str] = field(default_factory=set)
    """Names that the project offers at its top."""
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Module → folder of the snapshot that has it, which is not on the path."""
    cut: bool = False
    """There was more than the time or the limits allowed."""


def follow(files: Iterable[FileEntry], script: str, read: Read, seconds: float) -> Imports:
    """Everything that ``script`` imports, within about so many seconds."""
    return _Walk({entry.path: entry for entry in files}, script, read, seconds).all()


class _Walk:
    def __init__(self, files: Mapping[str, FileEntry], script: str, read: Read, seconds: float) -> None:
        self.files, self.script, self.read = files, script, read
        self.end = time.monotonic() + seconds
        self.found = Imports()
        beside = script.rpartition("/")[0]
        self.roots = [f"{beside}/", ""] if beside else [""]
        """Of Python's path, those inside the snapshot, in their order."""
        self.python = [path for path in files if path.endswith(".py")]
        self.folders = {path[:at] for path in self.python for at in range(len(path)) if path[at] == "/"}
        self.names: dict[str, set[str]] = {}
        """Folder (with its slash, or empty) → modules directly in it."""
        for path in (*self.python, *self.folders):
            folder, _, name = path.rpartition("/")
            self.names.setdefault(f"{folder}/" if folder else "", set()).add(name.removesuffix(".py"))

    def all(self) -> Imports:
        self.found.own = {name for root in self.roots for name in self._tops(root)}
        waiting, seen, size = [self.script], {self.script}, 0
        with Scanner() as scanner:
            while waiting:
                batch = [self.files[path] for path in waiting if path in self.files]
                waiting = []
                batch = [entry for entry in batch if entry.size <= MAX_SOURCE]
                size += sum(entry.size for entry in batch)
                if size > MAX_BYTES or len(seen) > MAX_FILES or time.monotonic() > self.end:
                    self.found.cut = True
                    break
                contents = self.read([entry.digest for entry in batch])
                for entry in batch:
                    source = contents.get(entry.digest)
                    if source is None:
                        continue
                    self.found.sources[entry.path] = source
                    answer = scanner.scan(entry.digest, source, self.end - time.monotonic())
                    for path in self._take(entry.path, answer):
                        if path not in seen:
                            seen.add(path)
                            waiting.append(path)
        for item in (*self.found.foreign, *self.found.absent):
            top = item.module.partition(".")[0]
            home = next((folder for folder in ("src/", "lib/", "python/") if top in self._tops(folder)), None)
            if home is None and "path" in self.found.marks:
                home = next((f"{f}/" for f in sorted(self.folders, key=len) if top in self._tops(f"{f}/")), None)
            if home is not None:
                self.found.elsewhere[item.module] = home
        return self.found

    def _tops(self, root: str) -> set[str]:
        return self.names.get(root, set())

    def _take(self, path: str, answer: Mapping[str, Any] | None) -> list[str]:
        """Sort what a source imports; the project's files that it leads to."""
        if answer is None:
            self.found.cut = True
            return []
        if "error" in answer:
            self.found.wrong[path] = (int(answer["line"]), str(answer["error"]))
            return []
        self.found.marks |= set(answer["marks"])
        further: list[str] = []
        for level, module, names, line, need in answer["imports"]:
            if level:
                further += self._relative(path, level, module, names, line, need)
            else:
                further += self._absolute(Import(module, path, line, need), names)
        return further

    def _absolute(self, item: Import, names: list[str]) -> list[str]:
        top = item.module.partition(".")[0]
        root = next((root for root in self.roots if top in self._tops(root)), None)
        if root is None:
            self.found.foreign.append(item)
            # A namespace that several packages share: what is taken from it may be a package of its own.
            self.found.foreign += [
                Import(f"{item.module}.{n}", item.path, item.line, item.need) for n in names if _shared(item.module, n)
            ]
            return []
        found, missing = self._inside(root + item.module.replace(".", "/"), names)
        if missing:
            self.found.absent.append(item)
        return found

    def _relative(self, path: str, level: int, module: str, names: list[str], line: int, need: int) -> list[str]:
        parts = path.split("/")[:-1]
        if level - 1 > len(parts):
            self.found.absent.append(Import("." * level + module, path, line, need))
            return []
        base = "/".join(
            [*parts[: len(parts) - level + 1], *module.split(".")] if module else parts[: len(parts) - level + 1]
        )
        found, missing = self._inside(base, names)
        if missing:
            self.found.absent.append(Import("." * level + module, path, line, need))
        return found

    def _inside(self, place: str, names: list[str]) -> tuple[list[str], bool]:
        """(files of the project that this import executes, whether the module itself is missing)."""
        found = []
        parts = place.split("/")
        for count in range(1, len(parts) + 1):
            package = "/".join([*parts[:count], "__init__.py"])
            if package in self.files:
                found.append(package)
        here = f"{place}.py" in self.files
        if here:
            found.append(f"{place}.py")
        for name in names:
            for path in (
                (f"{place}/{name}.py", f"{place}/{name}/__init__.py")
                if place
                else (f"{name}.py", f"{name}/__init__.py")
            ):
                if path in self.files:
                    found.append(path)
        compiled = (
            any(path.startswith(f"{place}.") and path.endswith((".so", ".pyd", ".pyx")) for path in self.files)
            if not here
            else False
        )
        # A package may also make its submodules as it likes: what one of the project's own lacks is only said of plain files.
        return found, not (here or compiled or place in self.folders or not place)


def _shared(module: str, name: str) -> bool:
    return module in {"google.cloud", "azure", "azure.storage", "google"} and name.isidentifier()


class Scanner:
    """The process that reads sources; started when the first is not known yet."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Scanner":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def scan(self, digest: str, source: bytes, seconds: float) -> Mapping[str, Any] | None:
        """What a source imports; None where that took too long. A source that kills the reader holds nothing that can be read."""
        if (known := _known.get(digest)) is not None:
            return known
        if seconds <= 0:
            return None
        if self.process is None:
            argv = [sys.executable, "-I", "-S", str(SCAN)]
            self.process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, cwd="/"
            )
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        late = threading.Timer(seconds, process.kill)
        late.daemon = True
        late.start()
        try:
            process.stdin.write(json.dumps({"source": base64.b64encode(source).decode()}).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        in_time = late.is_alive()
        late.cancel()
        if not line:
            self.__exit__()
            self.process = None
            if not in_time:
                return None
            return {"line": 1, "error": "it takes more time or memory to read than a source should"}
        answer: Mapping[str, Any] = json.loads(line)
        if len(_known) >= 5000:
            _known.clear()
        _known[digest] = answer
        return answer


_known: dict[str, Mapping[str, Any]] = {}
