"""An installer run on a target: its output passed on as it comes, secrets masked, and why it failed put into one line for people.
Standard library alone, Python 3.6 or newer; sent to the target with ``on_target``."""

import os
import re
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Sequence, Tuple

_KEPT = 1 << 18
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_REFRESH = "Refresh the environment: that makes a new version with packages that are there."
_HERE = "this machine's Python and platform"


class Failed(Exception):
    """Ends the step; the text is the line that people read."""


def shown(
    argv: "Sequence[str]", env: "Dict[str, str]", masks: "Sequence[bytes]" = (), quiet: bool = False
) -> "Tuple[int, str]":
    """Run a program and pass its output on, unless ``quiet``: (exit code, the end of what it said)."""
    sys.stdout.flush()
    kept = b""
    try:
        process = subprocess.Popen(
            list(argv), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise Failed("%s cannot be started: %s" % (argv[0], error.strerror or error))
    assert process.stdout is not None
    for raw in iter(process.stdout.readline, b""):
        line = raw
        for secret in masks:
            line = line.replace(secret, b"***")
        kept = (kept + line)[-_KEPT:]
        if not quiet:
            write_all(1, line)
    return process.wait(), _ANSI.sub("", kept.decode("utf-8", "replace"))


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def exit_code(code: int) -> int:
    """Of a program that ended by a signal, as a shell says it."""
    return code if code >= 0 else 128 - code


# -- why an installer failed ----------------------------------------------------------------------------------------------

_RULES = (
    (
        r"No space left on device|os error 28\b|\[Errno 28\]",
        "the disk of this machine is full. Free some space, then retry.",
    ),
    (
        r"Proxy Authentication Required|\(407\b|\b407 Proxy",
        "the proxy asks for a password (407). Have the administrator set it on this machine.",
    ),
    (
        r"\b401 (?:Unauthorized|Error|Client Error)|\(401\b|HTTP error 401",
        "the package index refuses the user and password, or asks for them (401): {host}. Name a secret that holds user:password.",
    ),
    (
        r"\b403 (?:Forbidden|Error|Client Error)|\(403\b|HTTP error 403",
        "the package index refuses access (403): {host}. Check the user and password in the secret, and what that user may read.",
    ),
    (
        r"dns error|[Nn]ame or service not known|[Tt]emporary failure in name resolution|nodename nor servname|NameResolutionError|No address associated",
        "the package index cannot be found: the name {host} has no address on this machine. Check the address of the index.",
    ),
    (
        r"invalid peer certificate|CERTIFICATE_VERIFY_FAILED|certificate verify failed|UnknownIssuer",
        "the certificate of the package index {host} is not trusted on this machine. Install its authority there.",
    ),
    (
        r"[Cc]onnection refused|[Nn]etwork is unreachable|No route to host|tcp connect error|NewConnectionError|client error \(Connect\)",
        "the package index {host} does not answer: the connection is refused, or there is no way to it. Check its address, and the network of this machine.",
    ),
    (
        r"ConnectTimeout|Read timed out|operation timed out|Connection timed out|request timed out|deadline has elapsed",
        "the package index {host} does not answer in time. Check its address, and the network of this machine.",
    ),
)  # fmt: skip


def why(output: str, locked: bool, platform: str, index: str = "") -> str:
    """Why an installer failed, in one line; empty where its own words say it best. ``locked``: it was to install a lock; ``index``: the
    address that was asked."""
    broken = _broken_lock(output) if locked else ""
    if broken:
        return broken
    # Of a network that fails pip says in the end that there is no such package: what it was told before counts.
    said = _blamed(output)
    for pattern, text in _RULES:
        found = re.search(pattern, said)
        if found:
            return text.format(host=_host(said, index))
    return _no_version(output, platform)


def _blamed(output: str) -> str:
    """The lines that tell of trouble: others may hold such words by chance."""
    trouble = r"(?i)error|cause|hint|warning|refused|denied|unauthorized|forbidden|no space|timed out|failed|unreachable|resolution|certificate|status"
    return "\n".join(line for line in output.splitlines() if re.search(trouble, line))


def _host(said: str, index: str) -> str:
    found = re.search(r"https?://(?:[^/@\s]*@)?([^/\s`'\")]+)", said) or re.search(r"host='([^']+)'", said)
    if found:
        return found.group(1)
    return index.split("://", 1)[-1].split("/", 1)[0].rpartition("@")[2] or "of this machine's settings"


def _broken_lock(output: str) -> str:
    names = re.search(r"Hash mismatch for `([^`]+)`", output) or re.search(
        r"(?ms)DO NOT MATCH THE HASHES.*?^\s+(\S+) from ", output
    )
    if names:
        text = "%s is another file than when this environment was first built: its hash differs. %s"
        return text % (names.group(1).rstrip(":"), _REFRESH)
    found = (
        re.search(r"there (?:is|are) no versions? of (\S+?==\S+)", output)
        or re.search(r"Because (\S+) was not found in", output)
        or re.search(r"(?:satisfies the requirement|No matching distribution found for) (\S+)", output)
        or re.search(r"Because (\S+==\S+) has no ", output)
    )
    if found:
        name = found.group(1).rstrip(",:")
        return "%s, which this environment is made of, is no longer found where packages come from. %s" % (
            name,
            _REFRESH,
        )
    gone = re.search(r"(?:Failed to (?:fetch|download)|HTTP error 404 while getting)[: ]*`?([^`\s]+)`?", output)
    if gone and re.search(r"\b404\b|No such file", output):
        name = gone.group(1).split("#")[0].rsplit("/", 1)[-1]
        return "%s, which this environment is made of, is no longer found where packages come from. %s" % (
            name,
            _REFRESH,
        )
    return ""


def _no_version(output: str, platform: str) -> str:
    """pip says the same of a package that does not exist and of one that has nothing for this platform."""
    found = re.search(r"Could not find a version that satisfies the requirement (.+?) \(from versions: (.*?)\)", output)
    if found and found.group(2).strip() in ("none", ""):
        asked = re.sub(r" \(from .*", "", found.group(1))
        text = "no version of %s was found for %s: there is no such package where packages come from, or none for this platform."
        return text % (asked, platform or _HERE)
    if found:
        asked = re.sub(r" \(from .*", "", found.group(1))
        return "no version fits %s. There are: %s." % (asked, found.group(2))
    return ""


def lines_of(text: str) -> "List[str]":
    return [line.strip() for line in text.splitlines() if line.strip()]
