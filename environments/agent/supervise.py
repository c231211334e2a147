"""The supervisor: starts one run exactly once, keeps its log and its records, and writes how it ended.

It is forked by the spawner, belongs to nobody, and needs nothing of the studio, the agent or the network
afterwards.
"""

import errno
import fcntl
import json
import mmap
import os
import select
import signal
import struct
import time
import traceback

from . import ending, files, isolation, processes, publishing, starting
from .layout import Layout
from .logfile import Log
from .notify import MOVED_TO, Inotify
from .protocol import MAX_HEADER
from .sampling import Sampler
from .stopping import Stopper

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Dict, List, Optional

_CREATE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BEAT = struct.Struct("<Qd")
_READ = 1 << 20
_SETPIPE_SZ = 1031
_RESERVE = 64 * 1024
_LINGER = 0.002
_HEARTBEAT = 2.0
_LOOK_FOR_CANCEL = 0.25
_SLACK = 0.5
"""What is due so soon is done now: a run that is quiet wakes its supervisor once a heartbeat, and not for each thing on its own."""
_SLOWER_AFTER, _SLOWER = 600.0, 5.0
_CALM, _CALMLY = 5, 3
"""After so many samples that show nothing a run is looked at only so often as a third of the time: its line is flat either way."""


def preload(root: str) -> None:
    """Do once, in the spawner, what every supervisor would else do for itself."""
    processes.boot_id()
    isolation.tier(root)
    try:
        from . import tracking  # noqa: F401
    except Exception:
        pass  # a run goes without the tracking server rather than not at all; see Supervisor._track
    import ctypes

    ctypes.CDLL(None)


def run(root: str, kind: str, attempt: str, umask: int) -> int:
    """Supervise an attempt to its end. Leaves quietly, and has done nothing, when somebody else has claimed
    it."""
    folder = Layout(root).attempt(kind, attempt)
    os.umask(0o077)
    if not os.path.isdir(folder) or _lock(folder) is None:
        return 0
    try:
        os.mkdir(os.path.join(folder, "claim"), 0o700)
    except FileExistsError:
        return 0
    processes.harden(subreaper=True)
    for number in starting.IGNORED:
        signal.signal(number, signal.SIG_IGN)  # only the run's own files say when it is to stop
    supervisor = None
    try:
        owner = dict(ending.identity(os.getpid()), at=time.time())
        files.replace_json(os.path.join(folder, "claim", "owner.json"), owner)
        supervisor = Supervisor(root, folder, kind, umask)
        supervisor.supervise()
        return 0
    except BaseException:
        if supervisor is not None:
            processes.send(processes.descendants(os.getpid()), signal.SIGKILL)
        try:
            complaint = traceback.format_exc().encode("utf-8", "replace")
            files.replace(os.path.join(folder, "supervisor.err"), complaint)
        except OSError:
            pass
        return 1


def _lock(folder: str) -> "Optional[int]":
    """Hold sup.lock for life; None when another supervisor has it, or has claimed the run already."""
    fd = os.open(os.path.join(folder, "sup.lock"), _CREATE, 0o600)
    for _ in range(200):
        if os.path.isdir(os.path.join(folder, "claim")):
            break
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError:
            time.sleep(0.005)  # a racing supervisor, which claims within this time or is gone
    os.close(fd)
    return None


class Supervisor(object):
    """One run, from its claim to its exit record."""

    def __init__(self, root: str, folder: str, kind: str, umask: int) -> None:
        self.root = root
        self.folder = folder
        self.kind = kind
        self.umask = umask
        spec = files.read_json(self.path("spec.json"), MAX_HEADER)
        if spec is None:
            raise ValueError("spec.json is missing or broken")
        self.spec: "Dict[str, Any]" = spec
        self.reserved = self._reserve()
        limits = spec.get("limits") or {}
        self.seconds = limits.get("seconds")
        self.memory = limits.get("memory_bytes")
        self.secrets: "Dict[str, str]" = spec.get("secrets") or {}
        self.log = Log(folder, self.secrets.values(), int(limits.get("log_bytes") or 1 << 30))
        self.beats = 0
        self.beat_fd = os.open(self.path("heartbeat"), _CREATE, 0o600)
        self.started_at: "Optional[float]" = None
        self.started = 0.0
        self.ended = 0.0
        self.oom_before = 0
        self.poller = select.poll()
        self.pipe = -1
        # One for all reads, since a fresh megabyte each time costs more than its bytes; and of pages that come when touched.
        self.buffer = memoryview(mmap.mmap(-1, _READ))
        self.status: "Optional[int]" = None
        self.pid = 0
        self.listener: "Optional[socket.socket]" = None
        self.port: "Optional[int]" = None
        self.sampler: "Optional[Sampler]" = None
        self.samples_fd = -1
        self.next_beat = self.next_sample = self.next_look = 0.0
        self.last_read = 0.0
        self.inotify = self._listen_for_cancel()
        self.stopper = Stopper(float(spec.get("grace", 10)))

    def path(self, name: str) -> str:
        """A file of this run."""
        return os.path.join(self.folder, name)

    # -- from start to end

    def supervise(self) -> None:
        """Run everything the specification asks for, then write exit.json."""
        self._beat(time.monotonic())
        wake, self.waker = os.pipe()
        for fd in (wake, self.waker):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.waker)
        self.wake = wake
        self.poller.register(wake, select.POLLIN)
        self.job = os.open(self.path("job.lock"), _CREATE, 0o600)
        # Not refused but waited for: an agent that looks whether it is held has it for a moment.
        fcntl.flock(self.job, fcntl.LOCK_EX)
        self._look_for_cancel()
        rejected = None
        steps = self.spec["steps"] if self.spec["kind"] == "build" else [self.spec]
        try:
            for number, step in enumerate(steps):
                if self.stopper.reason:
                    break
                if "title" in step:
                    self.log.add(("+ %s\n" % step["title"]).encode("utf-8", "replace"))
                self._start(step, last=number == len(steps) - 1)
                self._attend()
                if self.status != 0:
                    break
        except starting.NotStarted as error:
            rejected = str(error)
        except OSError as error:
            if self.pid:
                raise  # it runs: whoever called us ends it, and nobody says that it was never started
            rejected = "%s: %s" % (error.filename or "start", error.strerror)
        if rejected is not None:
            self.status = None
        self._end(rejected)

    def _start(self, step: "Dict[str, Any]", last: bool) -> None:
        self.status, self.pid = None, 0
        own = {
            "RUNSTEAD_RUN_DIR": self.folder,
            "RUNSTEAD_TOKEN": str(self.spec["token"]),
            "TMPDIR": self.path("tmp"),
            "PYTHONUNBUFFERED": "1",
        }
        if self.spec["kind"] == "run":
            own.update(self._track())
        given = (files.read_json(self.path("grant.json")) or {}).get("env") or {}
        env = starting.environment(self.spec.get("env") or {}, step.get("env") or {}, given, self.secrets, own)
        if "PATH" not in (self.spec.get("env") or {}):
            front = [starting.to_bytes(place) for place in self.spec.get("path") or []]
            env[b"PATH"] = b":".join([*front, env[b"PATH"]])
        argv = [starting.to_bytes(argument) for argument in step.get("argv") or []]
        if not argv or any(b"\0" in argument for argument in argv):
            raise starting.NotStarted("argv: a program and arguments without NUL are needed")
        cwd = os.path.join(self.folder, step.get("cwd") or ".")
        confine = isolation.confinement(self.root, self.folder, self.spec.get("isolate") or [])
        output = self._make_pipe()
        try:
            self.pid = starting.start(argv, env, cwd, output, [self.job], self.umask, self.memory, confine)
        finally:
            os.close(output)
            if last:
                os.close(self.job)
        now = time.monotonic()
        if self.started_at is None:
            self.started_at, self.started = time.time(), now
            self.oom_before = ending.oom_kills()
            if self.seconds:
                self.stopper.limit(now + float(self.seconds))
        self._say("running")
        self.sampler = Sampler(self.pid)
        self.next_sample = now + float(self.spec.get("sample_seconds") or 2)
        self._forget_secrets()
        publishing.mark_used(self.root, argv[0])

    def _make_pipe(self) -> int:
        self.pipe, output = os.pipe()
        os.set_blocking(self.pipe, False)
        for size in (_READ, _READ // 4):
            try:
                fcntl.fcntl(self.pipe, _SETPIPE_SZ, size)  # so that the script hardly ever waits for us
                break
            except OSError:
                continue
        self.poller.register(self.pipe, select.POLLIN)
        self.last_read = 0.0
        return output

    def _attend(self) -> None:
        """Serve the started program until it and all it left behind are gone."""
        while True:
            now = time.monotonic()
            self._tick(now)
            alive = self.status is None
            if self.stopper.work(now, self.pid, alive, self._helpers()):
                break
            deadlines = [self.next_beat, self.next_look]
            if alive:
                deadlines.append(self.next_sample)
            deadlines.extend(self.stopper.deadlines(now))
            wait = max(min(deadlines) - now, 0.0)
            for fd, _ in self.poller.poll(wait * 1000 + 0.5):
                if fd == self.pipe:
                    self._pump()
                elif fd == self.wake:
                    os.read(self.wake, 4096)
                    self._reap()
                elif self.inotify is not None and fd == self.inotify.fd:
                    self.inotify.read()
                    self._look_for_cancel()
                else:
                    self._serve_tracking()
        while self.pipe >= 0 and self._pump(wait=False):
            pass
        self._close_pipe()

    def _pump(self, wait: bool = True) -> bool:
        """Take what the pipe holds; False when it holds nothing."""
        try:
            size = os.readv(self.pipe, [self.buffer])
        except BlockingIOError:
            return False
        if not size:
            self._close_pipe()
            return False
        self.log.add(self.buffer[:size])
        if wait:
            # A stream of small writes: let some gather, or we would wake for each and take the script's
            # processor.
            now = time.monotonic()
            if size < 65536 and now - self.last_read < 5 * _LINGER:
                time.sleep(_LINGER)
                now += _LINGER
            self.last_read = now
        return True

    def _close_pipe(self) -> None:
        if self.pipe >= 0:
            self.poller.unregister(self.pipe)
            os.close(self.pipe)
            self.pipe = -1

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self.ended = time.monotonic()
                self.stopper.main_ended(self.ended)

    def _helpers(self) -> "List[int]":
        return list(self.sampler.gpus.helpers) if self.sampler is not None else []

    # -- what happens now and then

    def _tick(self, now: float) -> None:
        beaten = now >= self.next_beat
        if beaten:
            self._beat(now)
            if self.beats == 2:
                # A power cut must not take the claim of a run that has done work.
                files.sync_folder(self.folder)
        soon = now + _SLACK if beaten else now
        if soon >= self.next_look:
            self._look_for_cancel()
        if self.status is None and soon >= self.next_sample and self.sampler is not None:
            self._sample(now)
        reason = self.stopper.due(now)
        if reason:
            self._say("stopping")

    def _beat(self, now: float) -> None:
        self.beats += 1
        self.next_beat = now + _HEARTBEAT
        try:
            os.pwrite(self.beat_fd, _BEAT.pack(self.beats, time.time()), 0)
        except OSError:
            pass

    def _sample(self, now: float) -> None:
        every = float(self.spec.get("sample_seconds") or 2)
        if now - self.started > _SLOWER_AFTER:
            every = max(every, _SLOWER)
        sample = self.sampler.sample() if self.sampler is not None else None
        if self.sampler is not None and self.sampler.calm >= _CALM:
            every *= _CALMLY
        self.next_sample = now + every
        if sample is None:
            return
        try:
            if self.samples_fd < 0:
                self.samples_fd = os.open(self.path("samples.jsonl"), _CREATE | os.O_APPEND, 0o600)
            os.write(self.samples_fd, json.dumps(sample, separators=(",", ":")).encode() + b"\n")
        except OSError:
            pass  # a full disk costs samples, never the run

    def _listen_for_cancel(self) -> "Optional[Inotify]":
        try:
            inotify = Inotify()
            inotify.add(self.folder, MOVED_TO)
        except OSError:
            return None
        self.poller.register(inotify.fd, select.POLLIN)
        return inotify

    def _look_for_cancel(self) -> None:
        # Told by the kernel where it can; a network file system does not, and then a look costs a stat.
        self.next_look = time.monotonic() + (_HEARTBEAT if self.inotify is not None else _LOOK_FOR_CANCEL)
        if self.stopper.reason or not os.path.lexists(self.path("cancel")):
            return
        wish = files.read_json(self.path("cancel")) or {}
        grace = wish.get("grace")
        seconds = float(grace) if isinstance(grace, (int, float)) else None
        self.stopper.ask("canceled", time.monotonic(), seconds)

    # -- the tracking server

    def _track(self) -> "Dict[str, str]":
        """Listen on loopback; the variables by which an MLflow client finds us, or none."""
        import socket

        tracking = self.spec.get("tracking")
        if not tracking:
            return {}
        try:
            from . import tracking as _  # noqa: F401

            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
        except Exception:
            return {}  # no server, no variables: the client then behaves as outside a run
        self.listener, self.port = listener, listener.getsockname()[1]
        self.poller.register(listener.fileno(), select.POLLIN)
        return {
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:%d" % listener.getsockname()[1],
            "MLFLOW_TRACKING_TOKEN": str(self.spec["token"]),
            "MLFLOW_RUN_ID": str(tracking["run_id"]),
            "MLFLOW_EXPERIMENT_ID": str(tracking["experiment_id"]),
            "MLFLOW_EXPERIMENT_NAME": str(tracking["experiment"]),
            # Its links lead to pages that this server does not have.
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }

    def _serve_tracking(self) -> None:
        """Somebody connects: from now on a thread answers."""
        import threading

        from . import tracking

        if self.listener is None:
            return
        self.poller.unregister(self.listener.fileno())
        since = self.started_at or time.time()
        context = TrackingContext(self.folder, self.spec["tracking"], str(self.spec["token"]), since)
        threading.Thread(target=tracking.serve, args=(self.listener, context), daemon=True).start()
        self.listener = None

    # -- records

    def _say(self, phase: str) -> None:
        state = dict(
            ending.identity(self.pid),
            phase=phase,
            pgid=self.pid,
            started_at=self.started_at,
            port=self.port,
            log_id=self.log.identity,
            isolation=isolation.used(self.root, self.spec.get("isolate") or []),
        )
        try:
            files.replace_json(self.path("state.json"), state)
        except OSError:
            pass

    def _forget_secrets(self) -> None:
        if self.spec.get("secrets"):
            self.spec["secrets"] = {}
            try:
                files.replace_json(self.path("spec.json"), self.spec)
            except OSError:
                files.overwrite(self.path("spec.json"), self.spec)  # a full disk: where it is, there is room enough

    def _reserve(self) -> bool:
        fd = -1
        try:
            fd = os.open(self.path("exit.reserve"), _CREATE, 0o600)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, _RESERVE)
            else:
                files.write_all(fd, b"\0" * _RESERVE)
            return True
        except OSError as error:
            return not files.is_full(error)
        finally:
            if fd >= 0:
                os.close(fd)

    def _end(self, rejected: "Optional[str]") -> None:
        self.log.finish()
        error = self.log.error(self.path("code"))
        code = self.status
        if self.stopper.reason:
            reason = self.stopper.reason
        elif rejected is not None:
            reason = "launch_rejected"
        else:
            oom = ending.oom_kills() > self.oom_before
            reason = ending.reason_of(code or 0, error, self.stopper.sent_kill, oom, self.log.refused)
        if rejected is not None:
            error = {"type": "NotStarted", "message": rejected, "line": None}
        elif code == 0 or code is None:
            error = None
        ended_at = time.time() if self.started_at is None else self.started_at + (self.ended - self.started)
        record = {
            "reason": reason,
            "exit_code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "started_at": self.started_at,
            "ended_at": ended_at,
            "log": self.log.record(),
            "killed": self.stopper.left_over,
            "error": error,
            "boot_id": processes.boot_id(),
        }
        if self.kind == "builds":
            record["result"] = files.read_json(self.path("artifacts/result.json"), files.MAX_RESULT)
        self._write_exit(record)

    def _write_exit(self, record: "Dict[str, Any]") -> None:
        path, reserve = self.path("exit.json"), self.path("exit.reserve")
        pause = 0.1
        while True:
            try:
                files.replace_json(path, record, durable=True)
                break
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise
                # Without the record nobody may say that the run ended: give up the reserve, then wait for
                # room.
                if os.path.lexists(reserve):
                    os.unlink(reserve)
                else:
                    time.sleep(pause)
                    pause = min(pause * 2, 10.0)
                    self._beat(time.monotonic())
        if os.path.lexists(reserve):
            os.unlink(reserve)
        files.sync_folder(self.folder)


class TrackingContext(object):
    """What the tracking server knows of its run."""

    def __init__(self, run_dir: str, tracking: "Dict[str, Any]", token: str, started_at: float) -> None:
        self.run_dir = run_dir
        self.tracking = tracking
        self.token = token
        self.started_at = started_at
