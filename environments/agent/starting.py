"""From a specification to a running process: environment, limits, isolation, exec."""

import errno
import os
import resource
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Tuple

PASSED: "Tuple[str, ...]" = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "SHELL")
IGNORED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that a supervisor does not hear; the script gets them back."""
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


class NotStarted(Exception):
    """The program could not be started; the text says why."""


def pass_everything() -> None:
    """Scripts get all of this process's own variables: in a container they are the image's."""
    global PASSED
    PASSED = tuple(os.environ)


def to_bytes(value: object) -> bytes:
    """A text of the specification as the bytes the kernel gets, whatever the locale of this interpreter."""
    return str(value).encode("utf-8", "surrogateescape")


def environment(*layers: "Dict[str, str]") -> "Dict[bytes, bytes]":
    """The script's whole environment: the few passed names, then each layer over the one before."""
    result = {}
    for name in PASSED:
        if name in os.environ:
            result[name.encode()] = os.fsencode(os.environ[name])
    result.setdefault(b"PATH", _DEFAULT_PATH.encode())
    for layer in layers:
        for name, value in layer.items():
            result[to_bytes(name)] = to_bytes(value)
    for key, content in result.items():
        if b"\0" in key + content or b"=" in key or not key:
            shown = key.decode("utf-8", "replace")
            raise NotStarted("env: %r cannot be a variable's name, or its value holds a NUL" % shown)
    return result


def program(name: bytes, path: bytes, folder: str) -> bytes:
    """Where the program is: `name` itself if it holds a slash, else the first executable on `path`. Raises
    NotStarted."""
    shown = name.decode("utf-8", "replace")
    if not name or b"\0" in name:
        raise NotStarted("argv[0]: a program's name is needed, got %r" % shown)
    if b"/" in name:
        return name
    for place in path.split(b":"):
        candidate = os.path.join(os.fsencode(folder), place, name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise NotStarted("argv[0]: no program named %r on PATH (%s)" % (shown, path.decode("utf-8", "replace")))


def start(
    argv: "List[bytes]",
    env: "Dict[bytes, bytes]",
    folder: str,
    output: int,
    inherited: "List[int]",
    umask: int,
    memory: "Optional[int]" = None,
    confine: "Optional[Callable[[], None]]" = None,
) -> int:
    """Fork and exec in a session of its own, stdin empty, stdout and stderr into `output`; the pid once
    exec succeeded.

    `inherited` descriptors stay open; `memory` bounds the address space in bytes; `confine` runs last
    before exec.
    Raises NotStarted with the step that failed.
    """
    path = program(argv[0], env[b"PATH"], folder)
    report, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        step = "start"
        try:
            step = "session"
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for fd in inherited:
                os.set_inheritable(fd, True)
            os.umask(umask)
            step = "working directory %r" % folder
            os.chdir(folder)
            step = "signals"
            for number in IGNORED + (signal.SIGCHLD,):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            step = "limits.memory_bytes"
            if memory:
                resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            _first_to_go()
            step = "isolation"
            if confine is not None:
                confine()
            step = "program %r" % path.decode("utf-8", "replace")
            os.execve(path, argv, env)  # noqa: S606
        except BaseException as error:
            code = getattr(error, "errno", None)
            text = os.strerror(code) if code else str(error)
            if code == errno.ENOENT and step.startswith("program") and os.path.exists(path):
                text = "the interpreter named in its first line does not exist"
            if code == errno.E2BIG:
                text = "arguments and environment are larger than this machine allows"
            os.write(told, ("%s: %s" % (step, text)).encode("utf-8", "replace")[:4000])
        finally:
            os._exit(127)
    os.close(told)
    failure = b""
    while True:
        piece = os.read(report, 4096)
        if not piece:
            break
        failure += piece
    os.close(report)
    if failure:
        os.waitpid(pid, 0)
        raise NotStarted(failure.decode("utf-8", "replace"))
    return pid


def _first_to_go() -> None:
    """When memory runs out the script goes before its supervisor, which then can say so."""
    try:
        import ctypes

        # The supervisor is not dumpable, and so its /proc files belong to root; exec makes the script
        # dumpable anyway.
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except (OSError, AttributeError):
        pass
