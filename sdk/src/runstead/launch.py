"""Starts what a distributed run needs, on its target: mpirun, spark-submit, or several processes.

A program of its own, run by path under the environment's interpreter with `-I`, so that no file of the project stands in for
a module of the standard library. mpirun reads a lone `:` among the script's arguments as its own, and Java drops what the
locale cannot say: whatever lies between us and the script gets the name of a file, in which the script's command line is
kept, and hands it to `exact`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, NoReturn, Optional

HERE = os.path.abspath(__file__)


def mpi(count: str, script: List[str]) -> None:
    """Become `mpirun` with `count` ranks of the script."""
    program = find("mpirun", [_beside_python(), *_path()])
    if program is None:
        raise FileNotFoundError(
            "mpirun is neither beside %s nor on PATH. Install it on the target (Debian: openmpi-bin), or take an "
            "environment that brings it." % sys.executable
        )
    keep = _keep(script)
    os.execv(program, [program, "-np", count, sys.executable, "-I", HERE, "exact", keep])  # noqa: S606


def spark(home: str, options: List[str], script: List[str]) -> None:
    """Become `spark-submit` with these options; `home` is where the target keeps Spark, or empty."""
    program = find("spark-submit", [os.path.join(home, "bin")] if home else [_beside_python(), *_path()])
    if program is None:
        raise FileNotFoundError(
            "there is no bin/spark-submit in %s. Correct the Spark home of the target." % home
            if home
            else "spark-submit is neither beside %s nor on PATH. Name the Spark home of the target, or take an environment "
            "with pyspark." % sys.executable
        )
    if home:
        os.environ["SPARK_HOME"] = home
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # the executors'
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    # Java knows no TMPDIR, and what a killed driver leaves in /tmp nobody clears away.
    folder = os.environ.get("TMPDIR", "/tmp")  # noqa: S108
    os.environ.setdefault("SPARK_LOCAL_DIRS", folder)
    own = '-Djava.io.tmpdir="%s"' % folder.replace("\\", "\\\\").replace('"', '\\"')
    os.environ["SPARK_SUBMIT_OPTS"] = ("%s %s" % (own, os.environ.get("SPARK_SUBMIT_OPTS", ""))).strip()
    if not _after(options, "--master").startswith("local"):
        options = _with_modules(options, folder)
    # In the cluster the driver starts where our file is not.
    within = _after(options, "--deploy-mode") == "cluster"
    line = script if within else [HERE, "exact", _keep(script)]
    os.execv(program, [program, *options, *line])  # noqa: S606


def _with_modules(options: List[str], folder: str) -> List[str]:
    """The options with the project's modules among the Python files: executors elsewhere have no other way to import them."""
    import zipfile

    path = os.path.join(folder, "project-%d.zip" % os.getpid())
    found = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for place, folders, names in os.walk("."):
            if place == ".":
                folders[:] = [name for name in folders if name not in ("outputs", "logs")]
            for name in sorted(names):
                if name.endswith(".py"):
                    archive.write(os.path.join(place, name))
                    found += 1
    if not found:
        return options
    options = list(options)
    if "--py-files" in options:
        # spark-submit takes the last of two.
        options[options.index("--py-files") + 1] += "," + path
        return options
    return [*options, "--py-files", path]


def processes(workers: int, servers: int, script: List[str]) -> None:
    """Start workers and parameter servers, each with its TF_CONFIG; end as the first that failed did.

    The run is over when the last worker has ended. Whoever still lives then gets TERM, the grace and KILL from the
    supervisor, which tells every process of the run itself when it is to stop: nothing is passed on here.
    """
    import json

    ports = _free_ports(workers + servers)
    places = ["127.0.0.1:%d" % port for port in ports]
    cluster = {"worker": places[:workers]}
    if servers:
        cluster["ps"] = places[workers:]
    running: Dict[int, str] = {}
    for kind, number in [("ps", n) for n in range(servers)] + [("worker", n) for n in range(workers)]:
        own = {"cluster": cluster, "task": {"type": kind, "index": number}, "environment": "cloud"}
        env = {"TF_CONFIG": json.dumps(own)}
        devices = _share(os.environ.get("CUDA_VISIBLE_DEVICES"), kind, number, workers)
        if devices is not None:
            env["CUDA_VISIBLE_DEVICES"] = devices
        running[_start([sys.executable, "-u", *script], env)] = kind
    while "worker" in running.values():
        pid, status = os.wait()
        running.pop(pid, None)
        if status:
            _end_as(status)


def exact(keep: str) -> None:
    """Become the script whose command line `keep` holds."""
    with open(keep, "rb") as file:
        line = file.read().split(b"\0")
    program = os.fsencode(sys.executable)
    os.execv(program, [program, b"-u", *line])  # noqa: S606


def find(name: str, folders: List[str]) -> Optional[str]:
    """A program in the first of these folders that has it."""
    for folder in folders:
        path = os.path.join(folder, name)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _beside_python() -> str:
    return os.path.dirname(sys.executable)


def _path() -> List[str]:
    return os.environ.get("PATH", "").split(os.pathsep)


def _keep(script: List[str]) -> str:
    """Write a command line down, its parts divided by the one byte that no argument can hold."""
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "argv-%d" % os.getpid())  # noqa: S108
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(b"\0".join(map(os.fsencode, script)))
    return path


def _after(words: List[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


def _free_ports(count: int) -> List[int]:
    """Ports of loopback that nobody listens on now. They are all held until the last is found, so none comes twice."""
    import socket

    held = []
    for _ in range(count):
        probe = socket.socket()
        # The script may listen there at once, although this socket had it a moment before.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        held.append(probe)
    ports = [int(probe.getsockname()[1]) for probe in held]
    for probe in held:
        probe.close()
    return ports


def _share(devices: Optional[str], kind: str, number: int, workers: int) -> Optional[str]:
    """The worker's part of the run's GPUs, None to leave them as they are.

    TensorFlow takes the memory of every GPU that it sees: parameter servers get none, and where there are enough each worker
    gets its own.
    """
    given = [device for device in (devices or "").split(",") if device]
    if not given:
        return None
    if kind == "ps":
        return ""
    if len(given) < workers:
        return None
    each = len(given) // workers
    return ",".join(given[number * each : (number + 1) * each])


def _start(line: List[str], env: Dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.environ.update(env)
            os.execv(line[0], line)  # noqa: S606
        finally:
            os._exit(127)
    return pid


def _end_as(status: int) -> NoReturn:
    """End with the code, or by the signal, of another process."""
    import signal

    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the other one's core is the one that tells something
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def main(words: List[str]) -> None:
    """`mpi COUNT -- SCRIPT…`, `spark HOME OPTIONS… -- SCRIPT…`, `processes WORKERS SERVERS -- SCRIPT…`, `exact FILE`."""
    verb = words[0]
    if verb == "exact":
        return exact(words[1])
    end = words.index("--")
    options, script = words[1:end], words[end + 1 :]
    if verb == "mpi":
        return mpi(options[0], script)
    if verb == "spark":
        return spark(options[0], options[1:], script)
    return processes(int(options[0]), int(options[1]), script)


if __name__ == "__main__":
    main(sys.argv[1:])
