"""What the studio can ask of the agent, one method each."""

import hashlib
import io
import json
import os
import signal
import threading
import time

from . import (
    cleaning,
    engine,
    evidence,
    examining,
    files,
    outputs,
    preflight,
    probe,
    processes,
    publishing,
    sessions,
    space,
    spares,
    tools,
)
from .blobs import Blobs
from .layout import KINDS, Layout, Refused, digest_of
from .protocol import MAX_HEADER
from .spawner import SPARES
from .watching import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    from .spawner import Spawner

    Reply = Tuple[Dict[str, Any], List[bytes]]

_FOLDERS = ("tmp", "artifacts")
_STALE = 3600.0
_WORK = ("blobs.put", "blobs.part", "prepare", "launch", "outputs", "remove", "clean")
"""What is not disturbed by the making of a spare."""


class Operations(object):
    """Carries out requests; each method returns the reply's fields and its body in pieces."""

    def __init__(self, layout: Layout, spawner: "Spawner") -> None:
        self._layout = layout
        self._spawner = spawner
        self._launching = threading.Lock()
        self._blobs = Blobs(layout)
        self._spares = spares.Spares(layout, self._blobs)
        self._wish = spares.Wish(self._make_spare)
        self._watcher = Watcher(layout)

    def arrival(self, header: "Dict[str, Any]") -> int:
        """Called in the stream's order, before the request's thread starts: a stamp for `carry_out`."""
        if header.get("op") == "poke":
            self._watcher.poke()
        elif header.get("op") == "blobs.part":
            self._blobs.expect(header.get("digest"), header.get("offset"))
        return self._watcher.pokes

    def carry_out(self, header: "Dict[str, Any]", body: bytes, arrival: int) -> "Reply":
        """Do what a request asks. Raises Refused, OSError, or KeyError, TypeError, ValueError for a
        malformed one."""
        op = str(header.get("op"))
        if op in _WORK:
            self._wish.busy()
        if op == "watch":
            return self._watcher.watch(header, arrival)
        method = getattr(self, "op_" + op.replace(".", "_"), None)
        if method is None:
            raise Refused("unknown_op", "op: %r is not known to this agent" % op)
        reply: "Reply" = method(header, body)
        return reply

    def op_hello(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return probe.hello(self._layout.root), []

    def op_probe(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return probe.machine(self._layout.root), []

    def op_write_test(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return examining.write(self._layout.root), []

    def op_spark(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return examining.spark(str(header.get("home") or ""), str(header.get("master") or "")), []

    def op_session(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return sessions.session(), []

    def op_preflight(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return preflight.ask(self._layout.root, header, body), []

    def op_engine(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        path, method, target = str(header["socket"]), str(header["method"]), str(header["path"])
        try:
            status, data = engine.request(path, method, target, body, float(header.get("seconds", 60)))
        except engine.Away as error:
            raise Refused(error.code, str(error), error.permanent)
        return {"status": status}, [data]

    def op_poke(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return {}, []

    # -- contents

    def op_blobs_missing(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return {}, [self._blobs.missing(body)]

    def op_blobs_put(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return {"stored": self._blobs.put(body, int(header.get("flags") or 0))}, []

    def op_blobs_part(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return {"have": self._blobs.part(header, body)}, []

    def op_lib_has(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        path = os.path.join(self._layout.lib, digest_of(header.get("digest")))
        if not os.path.isdir(path):
            return {"has": False}, []
        os.utime(path)  # a cleaning keeps what was asked for
        return {"has": True}, []

    def op_lib_put(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        import shutil
        import zipfile

        digest = digest_of(header.get("digest"))
        if hashlib.sha256(body).hexdigest() != digest:
            raise Refused("digest_mismatch", "lib.put: the bytes have another SHA-256", permanent=False)
        target = os.path.join(self._layout.lib, digest)
        if os.path.isdir(target):
            return {}, []
        temp = "%s.%d-%d.new" % (target, os.getpid(), threading.get_ident())
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for name in archive.namelist():
                if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                    raise Refused("bad_request", "lib.put: %r leads out of the archive's folder" % name)
            archive.extractall(temp)
        _settle(temp, target)
        shutil.rmtree(temp, ignore_errors=True)
        return {}, []

    def op_tool(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return tools.place(self._layout, header), []

    # -- runs

    def op_prepare(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        import shutil

        kind, attempt, spec = header.get("dir", "runs"), header.get("attempt"), header["spec"]
        target = self._layout.attempt(kind, attempt)
        _check_spec(spec)
        if os.path.isdir(target):
            return {}, []
        unique = ".new-%s-%d-%d" % (attempt, os.getpid(), threading.get_ident())
        temp = os.path.join(self._layout.root, str(kind), unique)
        self._sweep(str(kind))
        os.mkdir(temp, 0o700)
        try:
            if header.get("manifest"):
                self._spares.lay_out(header["manifest"], temp)
            if kind == "runs":
                for name in ("code/outputs", "code/logs"):
                    os.makedirs(os.path.join(temp, name), 0o700, exist_ok=True)
            for name in _FOLDERS:
                os.mkdir(os.path.join(temp, name), 0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            os.close(os.open(os.path.join(temp, "records.jsonl"), flags, 0o600))
            files.replace(os.path.join(temp, "spec.json"), json.dumps(spec).encode())
            _settle(temp, target)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
        if header.get("manifest"):
            self._wish.busy(header["manifest"])
        return {}, []

    def _make_spare(self, manifest: str) -> None:
        with self._launching:
            try:
                self._spawner.launch([(SPARES, manifest)])
            except OSError:
                pass

    def _sweep(self, kind: str) -> None:
        """Take away what an agent that was killed left half done or half removed."""
        import shutil

        place = os.path.join(self._layout.root, kind)
        for name in os.listdir(place):
            path = os.path.join(place, name)
            try:
                if name.startswith(".new-") and time.time() - os.lstat(path).st_mtime > _STALE:
                    shutil.rmtree(path, ignore_errors=True)
            except OSError:
                continue

    def op_launch(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        attempts = [(str(kind), str(attempt)) for kind, attempt in header["attempts"]]
        for kind, attempt in attempts:
            if not os.path.isfile(os.path.join(self._layout.attempt(kind, attempt), "spec.json")):
                text = "attempt %s has no directory on this target; prepare it first" % attempt
                raise Refused("not_prepared", text, permanent=False)
            env = (header.get("grants") or {}).get(attempt)
            if env:
                self._grant(self._layout.attempt(kind, attempt), env)
        with self._launching:
            return {"launched": self._spawner.launch(attempts)}, []

    def op_grant(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        self._grant(self._existing(header), header["env"])
        return {}, []

    @staticmethod
    def _grant(folder: str, env: "Any") -> None:
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise Refused("bad_request", "env: names and texts are needed")
        files.replace_json(os.path.join(folder, "grant.json"), {"env": env})

    def op_inspect(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        found = {attempt: evidence.gather(self._layout.find(attempt)) for attempt in header["attempts"]}
        return {"runs": found}, []

    def op_cancel(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        folder = self._existing(header)
        grace = header.get("grace", 10)
        if isinstance(grace, bool) or not isinstance(grace, (int, float)) or grace < 0:
            raise Refused("bad_request", "grace: seconds, 0 or more, are needed, got %r" % (grace,))
        wish = os.path.join(folder, "cancel")
        try:
            files.replace_json(wish, {"grace": grace})
        except OSError as error:
            if not files.is_full(error):
                raise
            # A second name takes no room, and the specification has a grace as well.
            name = "%s.%d.link" % (wish, threading.get_ident())
            os.link(os.path.join(folder, "spec.json"), name)
            os.rename(name, wish)
        return {}, []

    def op_kill(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        folder = self._layout.attempt(header.get("dir", "runs"), header.get("attempt"))
        if evidence.locks(folder)[0] == "held":
            raise Refused("supervised", "the run's supervisor lives; cancel it instead", permanent=False)
        token = (files.read_json(os.path.join(folder, "spec.json"), MAX_HEADER) or {}).get("token")
        # Without its directory a run is known by where that was.
        mark = "RUNSTEAD_TOKEN=%s" % token if isinstance(token, str) and token else "RUNSTEAD_RUN_DIR=%s" % folder
        killed = set()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            living = processes.of_attempt(mark, os.path.join(folder, "job.lock"))
            if not living:
                break
            processes.send(living, signal.SIGKILL)  # again and again: a process may fork while we look
            killed |= living
            time.sleep(0.01)
        return {"killed": len(killed)}, []

    def op_void(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        folder = self._existing(header)
        # As a supervisor would: with the lock first, so that a claim whose record could not be written is seen to be nobody's.
        lock = cleaning.take_lock(folder)
        if lock is None:
            return {"voided": False}, []
        try:
            try:
                os.mkdir(os.path.join(folder, "claim"), 0o700)
            except OSError:
                if not os.path.isdir(os.path.join(folder, "claim")):
                    raise
                return {"voided": False}, []
            canceled = os.path.lexists(os.path.join(folder, "cancel"))
            message = str(header.get("message") or "the supervisor could not be started on the target")
            record = {
                "reason": "canceled" if canceled else "launch_rejected",
                "exit_code": None,
                "signal": None,
                "started_at": None,
                "ended_at": time.time(),
                "log": {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest(), "total": 0, "lost": 0},
                "killed": 0,
                "error": None if canceled else {"type": "NotStarted", "message": message, "line": None},
                "boot_id": processes.boot_id(),
            }
            files.replace_json(os.path.join(folder, "exit.json"), record, durable=True)
        finally:
            os.close(lock)
        return {"voided": True}, []

    def op_outputs(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return dict(outputs.listing(self._layout.find(header.get("attempt")), header.get("known") or {})), []

    def op_read(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        folder = self._layout.find(header.get("attempt"))
        offset, length = int(header.get("offset") or 0), int(header["length"])
        data, size = outputs.read(folder, str(header["path"]), offset, length)
        return {"size": size}, [data]

    def op_envs(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return {"envs": publishing.listing(self._layout.root)}, []

    def op_list(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return {kind: self._layout.attempts(kind) for kind in KINDS}, []

    def op_remove(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        folder = self._layout.attempt(header.get("dir", "runs"), header.get("attempt"))
        if not os.path.isdir(folder):
            return {}, []
        if "held" in evidence.locks(folder):
            raise Refused("in_use", "the run's supervisor or its processes still live", permanent=False)
        unique = ".new-gone-%s-%d-%d" % (header["attempt"], os.getpid(), threading.get_ident())
        gone = os.path.join(os.path.dirname(folder), unique)
        os.rename(folder, gone)
        cleaning.remove_tree(gone)
        return {}, []

    def op_usage(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        kinds, seconds = header.get("kinds", list(space.ALL)), float(header.get("seconds", 10))
        return space.usage(self._layout, kinds, seconds), []

    def op_clean(self, header: "Dict[str, Any]", body: bytes) -> "Reply":
        return cleaning.Cleaner(self._layout, header).clean(), []

    def _existing(self, header: "Dict[str, Any]") -> str:
        folder = self._layout.attempt(header.get("dir", "runs"), header.get("attempt"))
        if not os.path.isdir(folder):
            raise Refused("not_found", "attempt %s has no directory on this target" % header.get("attempt"))
        return folder


def _settle(temp: str, target: str) -> None:
    """Rename a finished folder to its name; one that came first has the same contents and stays."""
    try:
        os.rename(temp, target)
    except OSError:
        if not os.path.isdir(target):
            raise


def _check_spec(spec: "Any") -> None:
    if not isinstance(spec, dict) or spec.get("kind") not in ("run", "build"):
        raise Refused("bad_request", "spec.kind: run or build is needed")
    if not isinstance(spec.get("token"), str) or not spec["token"]:
        raise Refused("bad_request", "spec.token: a text is needed")
    steps = spec.get("steps") if spec["kind"] == "build" else [spec]
    if not isinstance(steps, list):
        raise Refused("bad_request", "spec.steps: a list is needed")
    for step in steps:
        argv = step.get("argv") if isinstance(step, dict) else None
        if not isinstance(argv, list) or not argv or not all(isinstance(argument, str) for argument in argv):
            raise Refused("bad_request", "spec.argv: a list of texts, the program first, is needed")
