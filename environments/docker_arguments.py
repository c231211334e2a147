"""Options of ``docker run`` that an environment may ask for: those that give a container nothing of the machine.

All others are refused by name, with the reason and what to do instead.
"""

import difflib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from environments.variables import check_variables

MAX_ARGUMENTS = 100
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([bkmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_FACTOR = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_CPUSET = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*\Z")
MIN_MEMORY = 6 * 1024**2
MIN_SHM = 64 * 1024
MAX_BYTES = 2**50
# Those that bound a container. rtprio, nice and rttime would let it push the machine's other work aside.
ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nofile", "nproc", "rss", "sigpending", "stack",
)  # fmt: skip

_MOUNTS = "would show a run files of the machine. An owner allows folders for every run on the target: Compute, the target, Mounts."
_PORTS = "would open a port of the machine. What listens in a run is reached through the target's network alone."
_NETWORK = "is the target's setting. An owner chooses it: Compute, the target, Network."
_NAMESPACE = "would put a run into the machine's own processes or names. It has its own; leave the option out."
_RIGHTS = "would give a run rights over the machine. Runs have none; leave the option out."
_RIGHTS_GONE = "is not yours to set: every run starts without capabilities and new privileges. Leave the option out."
_OURS = "is the studio's: it starts, names, follows and removes the container. Leave the option out."
_DEVICES = "would give a run devices of the machine. Ask for GPUs in the run's configuration (gpus)."
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("-v", "--volume", "--mount", "--volumes-from", "--volume-driver", "--tmpfs"), _MOUNTS),
    **dict.fromkeys(
        ("--network", "--net", "--network-alias", "--net-alias", "--ip", "--ip6", "--link", "--mac-address"), _NETWORK
    ),
    **dict.fromkeys(("--dns", "--dns-option", "--dns-opt", "--dns-search", "--add-host"), _NETWORK),
    **dict.fromkeys(("-p", "--publish", "-P", "--publish-all", "--expose"), _PORTS),
    **dict.fromkeys(("--pid", "--uts", "--userns", "--cgroupns", "--cgroup-parent"), _NAMESPACE),
    "--ipc": "would share memory with the machine's processes. Write --shm-size=8g: the run has that much of its own.",
    **dict.fromkeys(
        ("--privileged", "--cap-add", "--group-add", "--sysctl", "--oom-kill-disable", "--oom-score-adj"), _RIGHTS
    ),
    **dict.fromkeys(("--cap-drop", "--security-opt"), _RIGHTS_GONE),
    **dict.fromkeys(
        ("--device", "--device-cgroup-rule", "--device-read-bps", "--device-write-bps", "--gpus"), _DEVICES
    ),
    **dict.fromkeys(
        ("-d", "--detach", "-i", "--interactive", "-t", "--tty", "-it", "-ti", "--rm", "--name", "--restart"), _OURS
    ),
    **dict.fromkeys(
        ("-l", "--label", "--label-file", "--cidfile", "-a", "--attach", "--log-driver", "--log-opt", "--pull"), _OURS
    ),
    **dict.fromkeys(
        ("--entrypoint", "-w", "--workdir", "-u", "--user", "--stop-signal", "--stop-timeout", "--sig-proxy"), _OURS
    ),
    **dict.fromkeys(("--health-cmd", "--no-healthcheck", "-h", "--hostname", "--domainname", "--platform"), _OURS),
    "--runtime": "is the engine's setting on the target. Leave the option out.",
    "--env-file": "names a file that is not here. Write --env NAME=value, or use the environment's variables.",
    "--memory-swap": "is always the same as --memory, so that a run does not swap. Write --memory alone.",
}


@dataclass(frozen=True)
class DockerArguments:
    """What the options ask for; None where they ask for nothing. Sizes in bytes."""

    shm_bytes: int | None = None
    memory_bytes: int | None = None
    memory_reservation: int | None = None
    cpus: float | None = None
    cpuset: str = ""
    cpu_shares: int | None = None
    pids: int | None = None
    init: bool = False
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Name → soft and hard limit; -1: none."""
    env: Mapping[str, str] = field(default_factory=dict)


class ArgumentsError(ValueError):
    """Bad options. ``lines`` holds (number of the argument from 1, the argument, what is wrong and how to mend it)."""

    def __init__(self, lines: Sequence[tuple[int, str, str]]) -> None:
        self.lines = list(lines)
        super().__init__("; ".join(f"argument {number}: {message}" for number, _, message in self.lines))


def parse(arguments: Sequence[str]) -> DockerArguments:
    """The options in ``arguments``, each a text as on the command line: ``--shm-size=8g``, or ``--ulimit nofile=1024:2048``.

    An option and its value may be two texts. Raises ArgumentsError that names every bad one.
    """
    if len(arguments) > MAX_ARGUMENTS:
        raise ArgumentsError(
            [(MAX_ARGUMENTS + 1, "", f"more than {MAX_ARGUMENTS} arguments. Remove what is not needed.")]
        )
    found, bad = DockerArguments(), list[tuple[int, str, str]]()
    words: list[tuple[int, str]] = []
    for number, text in enumerate(arguments, 1):
        try:
            words += [(number, word) for word in split(text)]
        except ValueError as error:
            bad.append((number, text[:200], str(error)))
    seen: dict[str, int] = {}
    while words:
        number, word = words.pop(0)
        try:
            name, value = option(word)
            if name == "--init":
                if value not in {None, "true", "false"}:
                    raise ValueError("--init takes no value. Write --init alone.")
                value = value or "true"
            elif value is None:
                if not words or (words[0][1].startswith("-") and not re.match(r"-\d", words[0][1])):
                    raise ValueError(f"{name} needs a value. Write it like {EXAMPLES[name]}.")
                value = words.pop(0)[1]
            if name in seen and name not in {"--env", "--ulimit"}:
                raise ValueError(f"{name} is given already in argument {seen[name]}. Keep one of them.")
            seen[name] = number
            found = KNOWN[name](found, value)
        except ValueError as error:
            bad.append((number, word[:200], str(error)))
            # The value of a refused option would be taken for another mistake.
            while words and not words[0][1].startswith("-"):
                words.pop(0)
    if bad:
        raise ArgumentsError(sorted(bad))
    return found


def split(text: str) -> list[str]:
    """The words of one argument, as a shell would split them; nothing is expanded."""
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        raise ValueError("holds a line break or another character that cannot be seen. Write one option a line.")
    if len(text) > 10_000:
        raise ValueError("longer than 10,000 characters. Shorten it.")
    try:
        return shlex.split(text)
    except ValueError:
        raise ValueError("a quote is opened and not closed. Close it, or remove it.") from None


def option(word: str) -> tuple[str, str | None]:
    """Its long name and, where it is in the same word, its value. Raises ValueError for what is not taken."""
    if not word.startswith("-"):
        raise ValueError(f"{word!r} is no option. Options begin with '-': {EXAMPLES['--shm-size']}.")
    name, sign, value = word.partition("=")
    if name in {"-m", "-c", "-e"}:
        name = SHORT[name]
    elif not name.startswith("--") and name[:2] in {"-m", "-c", "-e"}:  # -m8g, -eA=1
        name, sign, value = SHORT[name[:2]], "=", word[2:]
    if name in KNOWN:
        return name, value if sign else None
    short = name if name.startswith("--") or name in REFUSED else name[:2]
    if why := REFUSED.get(short):
        raise ValueError(f"{short} {why}")
    near = difflib.get_close_matches(name, [*KNOWN, *REFUSED], 1, 0.75)
    if near and near[0] in KNOWN:
        raise ValueError(f"{name} is not an option of docker run. Did you mean {near[0]}?")
    raise ValueError(f"{name} is not among the options that are taken: {', '.join(KNOWN)}. Leave it out.")


def size(text: str, least: int, like: str) -> int:
    """Bytes of ``8g``, ``512m``, ``1.5GB``."""
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a size. Write it like {like}.")
    found = int(float(match[1]) * _FACTOR[match[2].lower()])
    if not least <= found <= MAX_BYTES:
        raise ValueError(f"{text[:40]!r} is out of range. Use {least:,} bytes to {MAX_BYTES:,}, for example {like}.")
    return found


def _size_of(name: str, least: int) -> Callable[[DockerArguments, str], DockerArguments]:
    fields = {"--shm-size": "shm_bytes", "--memory": "memory_bytes", "--memory-reservation": "memory_reservation"}
    return lambda found, text: replace(found, **{fields[name]: size(text, least, EXAMPLES[name])})  # type: ignore[arg-type]


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise ValueError(f"{text[:40]!r} is no whole number from {least:,} to {most:,}. Write {EXAMPLES[name]}.")
    return int(text)


def _cpus(found: DockerArguments, text: str) -> DockerArguments:
    if not re.fullmatch(r"\d{1,4}(\.\d{1,9})?", text) or not 0.01 <= float(text) <= 4096:
        raise ValueError(f"{text[:40]!r} is no number of processors. Use 0.01 to 4096, for example --cpus=2.5.")
    return replace(found, cpus=float(text))


def _cpuset(found: DockerArguments, text: str) -> DockerArguments:
    if not _CPUSET.match(text):
        raise ValueError(f"{text[:40]!r} is no list of processors. Write {EXAMPLES['--cpuset-cpus']}.")
    return replace(found, cpuset=text)


def _ulimit(found: DockerArguments, text: str) -> DockerArguments:
    name, sign, bounds = text.partition("=")
    if name not in ULIMITS:
        raise ValueError(
            f"the limit {name[:40]!r} is not among those that are taken: {', '.join(ULIMITS)}. Correct or remove it."
        )
    soft, colon, hard = bounds.partition(":")
    if not sign or not all(re.fullmatch(r"-1|\d{1,18}", one) for one in (soft, hard if colon else soft)):
        raise ValueError(
            f"{text[:60]!r} is no limit. Write name=soft:hard, for example {EXAMPLES['--ulimit']}; -1 is none."
        )
    low, high = int(soft), int(hard if colon else soft)
    if high != -1 and (low == -1 or low > high):
        raise ValueError(f"{text[:60]!r}: the soft limit is above the hard one. Exchange them.")
    if name in found.ulimits:
        raise ValueError(f"the limit {name} is given twice. Keep one.")
    return replace(found, ulimits={**found.ulimits, name: (low, high)})


def _env(found: DockerArguments, text: str) -> DockerArguments:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(
            f"{name[:60]} has no value; the studio's own variables are not passed on. Write --env {name[:60]}=value."
        )
    if wrong := check_variables({name: value}, {}):
        raise ValueError(wrong["variables"])
    if name in found.env:
        raise ValueError(f"the variable {name} is given twice. Keep one.")
    return replace(found, env={**found.env, name: value})


SHORT = {"-m": "--memory", "-c": "--cpu-shares", "-e": "--env"}
EXAMPLES = {
    "--shm-size": "--shm-size=8g", "--memory": "--memory=16g", "--memory-reservation": "--memory-reservation=8g",
    "--cpus": "--cpus=2.5", "--cpuset-cpus": "--cpuset-cpus=0-3,8", "--cpu-shares": "--cpu-shares=512",
    "--pids-limit": "--pids-limit=4096", "--ulimit": "--ulimit nofile=65536:65536", "--env": "--env NAME=value", "--init": "--init",
}  # fmt: skip
KNOWN: Mapping[str, Callable[[DockerArguments, str], DockerArguments]] = {
    "--shm-size": _size_of("--shm-size", MIN_SHM),
    "--memory": _size_of("--memory", MIN_MEMORY),
    "--memory-reservation": _size_of("--memory-reservation", MIN_MEMORY),
    "--cpus": _cpus,
    "--cpuset-cpus": _cpuset,
    "--cpu-shares": lambda found, text: replace(found, cpu_shares=_whole("--cpu-shares", text, 2, 262_144)),
    "--pids-limit": lambda found, text: replace(found, pids=_whole("--pids-limit", text, 1, 4_194_304)),
    "--ulimit": _ulimit,
    "--env": _env,
    "--init": lambda found, text: replace(found, init=text == "true"),
}
