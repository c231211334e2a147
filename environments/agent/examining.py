"""What the connection test asks of a machine beyond the probe: that files can be written, and that Spark is there."""

import os
import re
import socket
import subprocess
import time

from .sampling import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_SIZE = 4 << 20
_VERSION_SECONDS = 25
_ANSWER_SECONDS = 5


def write(root: str) -> "Dict[str, Any]":
    """Write, flush to the disk and read back 4 MiB below `root`: {"bytes", "seconds"}. Raises OSError."""
    data = os.urandom(_SIZE)
    path = os.path.join(root, "agent", ".written-%d-%d" % (os.getpid(), int(time.time() * 1e6)))
    begun = time.perf_counter()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
        seconds = time.perf_counter() - begun
        os.lseek(fd, 0, os.SEEK_SET)
        back = b""
        while len(back) < _SIZE:
            piece = os.read(fd, _SIZE - len(back))
            if not piece:
                break
            back += piece
        if back != data:
            raise OSError(5, "what was written reads differently", path)
    finally:
        os.close(fd)
        os.unlink(path)
    return {"bytes": _SIZE, "seconds": seconds}


def spark(home: str, master: str) -> "Dict[str, Any]":
    """{"submit": path or null, "version", "java", "said", "masters": [{"address", "seconds" or "error"}]}."""
    submit = _submit(home)
    found = {"submit": submit, "version": "", "java": "", "said": "", "masters": _masters(master)}  # type: Dict[str, Any]
    if submit is None:
        return found
    try:
        process = subprocess.Popen(
            [submit, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        found["said"] = str(error)
        return found
    try:
        output, _ = process.communicate(timeout=_VERSION_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        found["said"] = "spark-submit --version gave no answer within %d s" % _VERSION_SECONDS
        return found
    text = output.decode("utf-8", "replace")
    version = re.search(r"version (\d[\w.-]*)", text)
    java = re.search(r"(?:OpenJDK|Java)[^\n]*?\b(\d+\.[\w.+-]+|\d+(?=[,\s]|$))", text)
    found["version"] = version.group(1) if version else ""
    found["java"] = java.group(1) if java else ""
    if process.returncode != 0 or not version:
        found["said"] = text.strip()[-500:]
    return found


def _submit(home: str) -> "Optional[str]":
    if home:
        path = os.path.join(home, "bin", "spark-submit")
        return path if os.path.isfile(path) and os.access(path, os.X_OK) else None
    places = [os.path.join(os.environ["SPARK_HOME"], "bin")] if os.environ.get("SPARK_HOME") else []
    return find_program("spark-submit", places, [os.path.expanduser("~/.local/bin"), "/opt/spark/bin"])


def _masters(master: str) -> "List[Dict[str, Any]]":
    """Whether each address of a master takes connections. Nothing is asked of yarn and local: they have none here."""
    if not master.startswith(("spark://", "k8s://")):
        return []
    default = 7077 if master.startswith("spark://") else 443
    found = []
    for address in master.split("://", 1)[1].replace("https://", "").replace("http://", "").split(","):
        host, _, port = address.rpartition(":") if re.search(r":\d+$", address) else (address, "", str(default))
        begun = time.perf_counter()
        entry = {"address": "%s:%s" % (host, port)}  # type: Dict[str, Any]
        try:
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
            entry["seconds"] = time.perf_counter() - begun
        except (OSError, ValueError) as error:
            entry["error"] = str(error)
        found.append(entry)
    return found
