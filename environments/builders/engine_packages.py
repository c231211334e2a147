"""Packages of an environment inside a container: resolved once, installed from the lock, described. Standard library alone, Python 3.6.

The lock is that of any other target with the same Python. An image that the definition itself names, or a Dockerfile, counts with what
is in it: what fits is kept, the lock holds the rest, and it is a lock of that image alone.
"""

import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NoReturn, Tuple

if TYPE_CHECKING or __package__:
    from environments.builders import (
        engine_container,
        engine_settings,
        target_describe,
        target_lock,
        target_python,
        target_run,
    )
else:
    import engine_container
    import engine_settings
    import target_describe
    import target_lock
    import target_python
    import target_run

Failed = target_run.Failed
_REQUIREMENTS, _CONSTRAINTS, _LOCK = "requirements.txt", "constraints.txt", "lock.txt"
_ADDED = re.compile(r"(?m)^ \+ (\S+?==\S+|\S+ @ \S+)")


class Packages(object):
    """``own``: digits of the id of the image that the definition names itself; empty where the target's is below."""

    def __init__(
        self,
        container: engine_container.Container,
        settings: engine_settings.Settings,
        python: str,
        wanted: "List[str]",
        own: str,
    ) -> None:
        self.container = container
        self.settings = settings
        self.python = python
        self.wanted = wanted
        self.own = own
        self.platform = container.ask(python, target_python.PLATFORM + "\nprint(tag())").strip()
        self.tag = "%s-on-%s" % (self.platform, own) if own else self.platform

    # -- from definition or lock to what is installed

    def install(self, locks: "Dict[str, str]") -> str:
        """Install what the lock says, made first where there is none; the lock's text."""
        self.env = self.settings.variables()
        self.uv = bool(self.settings.uv) and self.container.run([engine_settings.UV, "--version"])[0] == 0
        if not self.uv and self.container.run([self.python, "-m", "pip", "--version"], self.env)[0]:
            raise Failed("the image has no pip, and uv does not run in it. Name a base image with pip.")
        lock, other, others = target_lock.choose(locks, self.tag)
        if lock:
            print("Locked: %s" % target_lock.summary(lock))
        else:
            lock = self.resolve(target_lock.constraints(others) if others else "", other)
        self._install(lock)
        return lock

    def resolve(self, constraints: str, other: str) -> str:
        """Exact packages with hashes. ``constraints``: versions of another platform's lock, taken where they fit together here."""
        print("+ Resolve %s with %s" % (_count(self.wanted), "uv" if self.uv else "pip"))
        self._write(_REQUIREMENTS, "".join(line + "\n" for line in self.wanted))
        self._write(_CONSTRAINTS, constraints)
        code, text = self._try(bool(constraints))
        if code and constraints:
            print("The versions of %s do not all fit here: resolved anew" % other)
            code, text = self._try(False)
        if code:
            self._fail(code, text, False)
        print("%s" % target_lock.summary(text))
        return text

    def _try(self, bounded: bool) -> "Tuple[int, str]":
        """(0, the lock) or (exit code, what was said)."""
        bounds = ["--constraint", _path(_CONSTRAINTS)] if bounded else []
        if not self.uv:
            return self._report(bounds)
        listed = _REQUIREMENTS
        if self.own:
            # What the image has counts: only what has to be added is pinned.
            argv = [
                engine_settings.UV,
                "pip",
                "install",
                "--dry-run",
                "--python",
                self.python,
                "--break-system-packages",
            ]
            code, said = self._quiet(argv + self._offline() + bounds + ["--requirement", _path(listed)])
            if code:
                return code, said
            listed = "added.txt"
            self._write(listed, "".join(line + "\n" for line in _ADDED.findall(said)))
            bounds = ["--no-deps"]
        argv = [
            engine_settings.UV,
            "pip",
            "compile",
            "--quiet",
            "--python",
            self.python,
            "--generate-hashes",
            "--no-annotate",
        ]
        argv += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--output-file", _path(_LOCK)]
        code, said = self._quiet(argv + self._offline() + bounds + [_path(listed)])
        return (code, said) if code else (0, target_lock.normal(self._read(_LOCK)))

    def _report(self, bounds: "List[str]") -> "Tuple[int, str]":
        argv = [
            self.python,
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--dry-run",
            "--quiet",
        ]
        argv += ["--report", _path("report.json")] + ([] if self.own else ["--ignore-installed"])
        code, said = self._quiet(argv + bounds + ["--requirement", _path(_REQUIREMENTS)])
        if code and re.search(r"no such option: --(report|dry-run)", said):
            raise Failed(
                "the image's pip is too old to resolve packages exactly (22.2 is needed). Name another base image."
            )
        if code:
            return code, said
        text = self._read("report.json")
        os.unlink(os.path.join(self.settings.exchange, "report.json"))  # its addresses may hold a user and a password
        return 0, target_lock.text_of(target_lock.from_report(text)[0])

    def _install(self, lock: str) -> None:
        if not target_lock.entries(lock):
            return
        print("+ Install %s with %s" % (target_lock.summary(lock), "uv" if self.uv else "pip"))
        self._write(_LOCK, lock)
        if self.uv:
            argv = [
                engine_settings.UV,
                "pip",
                "install",
                "--python",
                self.python,
                "--break-system-packages",
            ] + self._offline()
        else:
            argv = [self.python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-compile"]
        # Of what comes from a repository there is no hash; then none can be insisted on.
        argv += ["--require-hashes"] if target_lock.hashed(lock) else []
        code, _ = self.container.run(argv + ["--no-deps", "--requirement", _path(_LOCK)], self.env, show=True)
        if code:
            self._fail(code, self.container.said, True)
        # Runs are not this user: what is not compiled now would be compiled again by every run.
        tests = r"[/\\]tests?[/\\]"
        self.container.run([self.python, "-m", "compileall", "-q", "-j", "0", "-x", tests] + self.container.folders)

    def _fail(self, code: int, said: str, locked: bool) -> "NoReturn":
        reason = target_run.why(said, locked, self.platform, str(self.settings.index.get("index_url") or ""))
        if reason:
            raise Failed(reason)
        sys.exit(code if 0 < code < 256 else 1)  # the program has said why; anything more would hide its message

    def _quiet(self, argv: "List[str]") -> "Tuple[int, str]":
        """Run an installer whose progress is of no interest; what it said is shown where it fails."""
        code, _ = self.container.run(argv, self.env, show=True)
        return code, self.container.said

    def _offline(self) -> "List[str]":
        return ["--no-index"] if self.settings.no_index else []

    # -- what is there

    def describe(self) -> "List[Dict[str, Any]]":
        return target_describe.read(self.container.ask(self.python, target_describe.DESCRIBE))

    # -- files that both sides see

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self.settings.exchange, name), "w", encoding="utf-8") as file:
            file.write(text)

    def _read(self, name: str) -> str:
        with open(os.path.join(self.settings.exchange, name), encoding="utf-8") as file:
            return file.read()


def _path(name: str) -> str:
    return engine_container.EXCHANGE + "/" + name


def _count(packages: "List[str]") -> str:
    return "%d %s" % (len(packages), "package" if len(packages) == 1 else "packages")
