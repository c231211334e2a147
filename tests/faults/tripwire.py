"""Notes every external side effect of an attendant, and kills at the one it is told to.

A side effect is what another program could see: a request sent to an agent, an answer received (the agent, or the engine that it
asked, has done it by then), a commit, an object written or deleted in the storage, a bell. It is named by what it is and where in the studio's
own code it was caused, so that the list is complete without anybody keeping it, and the same in every process.
"""

import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from django.core.files.storage import FileSystemStorage
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import compiler as compilers

from environments.host import Host
from studio import queues

ROOT = str(Path(__file__).resolve().parent.parent.parent)
OURS = tuple(f"{ROOT}/{name}/" for name in ("runs", "environments", "studio"))
WRITES = (compilers.SQLInsertCompiler, compilers.SQLUpdateCompiler, compilers.SQLDeleteCompiler)


class Tripwire:
    """One process's list of what it did: ``trap`` is (name, occurrence), ``spring`` what happens there."""

    def __init__(self, path: Path, trap: tuple[str, int] | None, spring: Callable[[], None]) -> None:
        self.file = path.open("a", buffering=1)
        self.trap, self.spring = trap and (trap[0], trap[1]), spring
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()

    def note(self, what: str) -> None:
        with self.lock:
            self.seen[what] += 1
            number = self.seen[what]
        self.file.write(f"{what}\n")
        if self.trap == (what, number):
            self.spring()

    def lay(self) -> None:
        """Put it under everything that leaves this process."""
        note = self.note
        submit, result = Host.submit, Host.result
        commit = BaseDatabaseWrapper.commit
        save, delete = FileSystemStorage._save, FileSystemStorage.delete

        def submitted(self: Host, op: str, body: bytes = b"", **fields: object) -> object:
            future = submit(self, op, body, **fields)
            future.named = f"engine {fields['method']} {shape(str(fields['path']))}" if op == "engine" else op
            note(f"sent {future.named}")
            return future

        def answered(future: object, timeout: float | None, op: str = "request") -> object:
            answer = result(future, timeout, op)
            note(f"answered {future.named}")
            return answer

        def committed(self: BaseDatabaseWrapper) -> None:
            commit(self)
            note(f"commit {site()}")

        def saved(self: FileSystemStorage, name: str, content: object) -> str:
            name = save(self, name, content)
            note("stored an object")
            return name

        def deleted(self: FileSystemStorage, name: str) -> None:
            delete(self, name)
            note("deleted an object")

        Host.submit, Host.result = submitted, staticmethod(answered)
        BaseDatabaseWrapper.commit = committed
        FileSystemStorage._save, FileSystemStorage.delete = saved, deleted
        for compiler in WRITES:
            self.follow(compiler)
        ring = queues.ring_now

        def rang(target_id: int) -> None:
            ring(target_id)
            note("rang")

        queues.ring_now = rang

    def follow(self, compiler: type) -> None:
        """A write outside a transaction is a commit of its own."""
        execute, note = compiler.execute_sql, self.note

        def executed(self: compilers.SQLCompiler, *args: object, **kwargs: object) -> object:
            found = execute(self, *args, **kwargs)
            if not self.connection.in_atomic_block:
                note(f"commit {site()}")
            return found

        compiler.execute_sql = executed


def shape(path: str) -> str:
    """What an engine is asked for, whatever the object and the version: ``/containers/*/start``."""
    return re.sub(r"/[^/]*\d[^/]*", "/*", re.sub(r"^/v[\d.]+(?=/)", "", path.partition("?")[0]))


def site() -> str:
    """The function of the studio's own that is being executed: ``runs/session.py:take``."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS):
            return f"{name.removeprefix(ROOT + '/')}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def agents(root: str) -> list[psutil.Process]:
    """Agents below a target's root, wherever they are: a process in a namespace is seen from here too."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            # A supervisor is a fork of an agent, with the same words; it holds its run's lock, and is nobody's agent. That of a
            # container has words of its own.
            if (
                "-I" in words[:3]
                and root in words
                and not any("contained.main" in word for word in words)
                and not any("sup.lock" in file.path for file in process.open_files())
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found
