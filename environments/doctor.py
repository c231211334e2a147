"""The connection test: each step on the real target timed, the fix beside the first that fails."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings
from django.utils import timezone

from environments import options as rules
from environments.engine import Engine, base_image
from environments.host import Host, HostError, HostLost
from environments.models import ComputeTarget
from environments.target import (
    check_root,
    isolation_of,
    note_probe,
    note_reached,
    note_unreachable,
    root_of,
    sandboxed,
    transport_of,
)
from environments.transports.base import Transport, TransportError
from environments.transports.connection import Connection, fingerprint
from environments.transports.ssh import SshTransport

LEAST_FREE = 10**9
MOST_SKEW = 30.0
"""Seconds by which a target's clock may be off before it is worth a word: times in logs come from there."""
_VERSION = "import sys; sys.stdout.write('%d.%d.%d %s\\n' % (sys.version_info[:3] + (sys.executable,)))"


@dataclass(frozen=True)
class Step:
    """One step's result. ``ok``, or ``detail`` says what went wrong and ``fix`` what to do about it."""

    title: str
    ok: bool
    detail: str
    milliseconds: float
    fix: str = ""
    needed: bool = True
    """Whether a target is of no use without; a step that is not needed only informs."""
    data: dict[str, Any] = field(default_factory=dict)
    """For a host key that is not the pinned one: ``hop`` (host or jump), ``host``, ``key`` (type base64), ``shown`` and ``pinned``
    (fingerprints), ``code``."""


class Trouble(Exception):
    """A step found something that is wrong."""

    def __init__(self, detail: str, fix: str, **data: Any) -> None:
        super().__init__(detail)
        self.fix = fix
        self.data = data


Found = tuple[Any, str]
Act = Callable[[], Found]
Part = Generator[str | Step, None, Any]


def examine(target: ComputeTarget, *, keep: bool = True) -> list[Step]:
    """The connection test, whole: the first needed step that fails is the last. ``keep``: note what was found in the row."""
    return [step for step in examining(target, keep=keep) if isinstance(step, Step)]


def examining(target: ComputeTarget, *, keep: bool = True) -> Generator[str | Step, None, None]:
    """The connection test as it goes on: the title of each step when it begins, then its result."""
    examination = Examination(target, keep)
    try:
        yield from examination.all()
    finally:
        examination.close()


class Examination:
    def __init__(self, target: ComputeTarget, keep: bool) -> None:
        self.target = target
        self.keep = keep
        self.steps: list[Step] = []
        self.open = ExitStack()

    def close(self) -> None:
        self.open.close()

    def all(self) -> Iterator[str | Step]:
        failed: Step | None = None
        for found in self.plan():
            if isinstance(found, Step):
                self.steps.append(found)
                failed = found if found.needed and not found.ok else failed
            yield found
            if failed:
                break
        if self.keep:
            self.note(failed)

    def note(self, failed: Step | None) -> None:
        steps, now = [asdict(step) for step in self.steps], timezone.now()
        ComputeTarget.objects.filter(pk=self.target.pk).update(steps=steps, checked_at=now)
        self.target.steps, self.target.checked_at = steps, now
        if failed is None:
            note_reached(self.target)
        elif failed.title == "Root folder" or not any(step.title == "Agent" and step.ok for step in self.steps):
            note_unreachable(self.target.pk, failed.detail)

    def step(self, title: str, act: Act, fix: str = "", needed: bool = True) -> Part:
        """Do and time one step; the generator's value is what ``act`` found."""
        yield title
        begun = time.perf_counter()
        value: Any = None
        try:
            value, detail = act()
        except Trouble as error:
            yield Step(title, False, str(error), _since(begun), error.fix, needed, error.data)
        except TransportError as error:
            yield Step(title, False, _sentence(str(error)), _since(begun), error.fix or fix, needed)
        except (HostError, HostLost, OSError) as error:  # a time-out is an OSError
            yield Step(title, False, _sentence(str(error) or type(error).__name__), _since(begun), fix, needed)
        else:
            yield Step(title, True, detail, _since(begun), needed=needed)
        return value

    # -- the plan

    def plan(self) -> Part:
        """All steps. Nothing is read after a needed one has failed: the caller stops asking."""
        transport: Transport = yield from self.step("Settings", self.settings)
        if isinstance(transport, SshTransport):
            yield from self.ssh(transport.connection)
        yield from self.step("Python", lambda: self.python(transport))
        host: Host = yield from self.step(
            "Agent", lambda: self.agent(transport), f"Check that the user may write to {root_of(self.target)}."
        )
        if self.keep and self.target.attached_at is not None:
            yield from self.step("Root folder", lambda: self.root(host))
        yield from self.step("Clock", lambda: self.clock(host), "", needed=False)
        facts: dict[str, Any] = yield from self.step("Processors and memory", lambda: self.hardware(host))
        yield from self.step("GPU", lambda: gpus(facts), needed=False)
        yield from self.step(
            "Disk", lambda: self.disk(host, facts), "Free room on that disk, or choose a root folder on another one."
        )
        yield from self.step("Isolation", lambda: isolation(self.target, facts), needed=False)
        if self.target.launcher == "docker":
            yield from self.docker(host)
        if self.target.launcher == "process":
            yield from self.step("Session", lambda: session(host), needed=False)
        spark = self.target.options.get("spark")
        if self.target.launcher == "process" and spark is not None:
            yield from self.spark(host, spark)
        yield from self.step("Tools", lambda: tools(facts), needed=False)

    def settings(self) -> Found:
        target = self.target
        chosen = rules.of_kind(target.transport, target.launcher, target.options)
        try:
            target.options = {
                **target.options,
                **rules.validate(target.transport, target.launcher, chosen, data_dir=str(settings.DATA_DIR)),
            }
        except rules.OptionsError as error:
            name, message = next(iter(error.errors.items()))
            raise Trouble(f"{name}: {message}", "Correct it, then test again.") from error
        transport = transport_of(target)
        self.open.callback(transport.close)
        return transport, f"{rules.TITLES[rules.kind_of(target.transport, target.launcher, target.options)]}, complete"

    def ssh(self, connection: Connection) -> Part:
        if connection.jump is not None:
            yield from self.hop(connection.jump, "jump")
        yield from self.hop(connection, "host")

    def hop(self, connection: Connection, hop: str) -> Part:
        what = " of the jump host" if hop == "jump" else ""
        if connection.jump is None:
            yield from self.step(f"Name{what}", lambda: _listed(connection))
        yield from self.step(f"Connection{what}", lambda: _connected(connection))
        yield from self.step(f"Host key{what}", lambda: _compared(connection, hop))
        yield from self.step(f"Sign-in{what}", lambda: (connection.sign_in(), f"As {connection.user}"))

    def python(self, transport: Transport) -> Found:
        stream = transport.open([transport.python, "-I", "-S", "-c", _VERSION])
        try:
            said = stream.reader.readline(4096).decode("utf-8", "replace").strip()
            if not said:
                raise TransportError(f"{transport.python} said nothing. {stream.stderr_tail()}")
        finally:
            stream.close()
        version, _, path = said.partition(" ")
        if tuple(int(part) for part in version.split(".")[:2]) < (3, 6):
            raise Trouble(f"{path} is Python {version}.", "Install Python 3.6 or newer there, or name another one.")
        return version, f"{version}, {path}"

    def agent(self, transport: Transport) -> Found:
        host = self.open.enter_context(Host(transport, root_of(self.target)))
        hello = host.hello()
        return host, f"On {hello['host']} as {hello['user']}, in {hello['root']}"

    def root(self, host: Host) -> Found:
        check_root(self.target, host, in_use=self.target.runs.filter(ended_at__isnull=True, launched=True).exists())
        return None, "The one that it was"

    def clock(self, host: Host) -> Found:
        begun = time.time()
        there = float(host.hello()["time"])
        ended = time.time()
        skew = there - (begun + ended) / 2
        # The reply may have come late: only what that cannot explain is the clock's.
        if abs(skew) - (ended - begun) / 2 > MOST_SKEW:
            raise Trouble(
                f"{_seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the studio's.",
                "Have the clock set from the network there: timedatectl set-ntp true. Times in logs would be off by as much.",
            )
        return skew, "Agrees with the studio's" if abs(skew) < 1 else f"{abs(skew):.1f} s off"

    def hardware(self, host: Host) -> Found:
        found = host.probe()
        facts = note_probe(self.target, found) if self.keep else found
        cpus = facts["cpus"]
        return facts, f"{cpus} processor{'' if cpus == 1 else 's'}, {_bytes(facts['memory'])} memory, {facts['os']}"

    def disk(self, host: Host, facts: dict[str, Any]) -> Found:
        free, total = facts["disk"]["free"], facts["disk"]["total"]
        if free < LEAST_FREE:
            raise Trouble(f"{_bytes(free)} free of {_bytes(total)}.", f"Free at least {_bytes(LEAST_FREE)} there.")
        wrote = host.write_test()
        speed = wrote["bytes"] / max(wrote["seconds"], 1e-6)
        return free, f"{_bytes(free)} free of {_bytes(total)}, written with {_bytes(speed)}/s"

    def docker(self, host: Host) -> Part:
        asked, image = Engine(host, self.target.options), base_image(self.target.options, "")
        yield from self.step(
            "Docker engine",
            lambda: _engine(asked),
            "Install and start Docker there, add the user to the group docker, and sign in anew.",
        )
        yield from self.step("Base image", lambda: _base_image(asked, image), needed=False)

    def spark(self, host: Host, spark: dict[str, Any]) -> Part:
        found = yield from self.step("Spark", lambda: _spark(host, spark))
        if found["masters"]:
            yield from self.step("Spark master", lambda: _master(found))


def gpus(facts: dict[str, Any]) -> Found:
    found = facts.get("gpus") or []
    if not found and (facts.get("tools") or {}).get("nvidia-smi"):
        raise Trouble("nvidia-smi is there, and lists no GPU.", "Run nvidia-smi there: it says what the driver lacks.")
    kinds: dict[str, int] = {}
    for gpu in found:
        name = f"{gpu['name']}, {_bytes(gpu['memory'])}"
        kinds[name] = kinds.get(name, 0) + 1
    return found, "; ".join(f"{count} × {name}" for name, count in kinds.items()) or "None; runs use the processors"


def isolation(target: ComputeTarget, facts: dict[str, Any]) -> Found:
    found = isolation_of(target, facts)
    if target.transport == "ssh" and sandboxed(target) and found.tier != "landlock":
        raise TransportError(
            f"The kernel sandbox is asked for and cannot be had. {found.detail} Runs start without it.",
            fix="Choose Docker on this machine, or let only people submit who may read each other's runs.",
        )
    return found, f"{found.title}. {found.detail}".rstrip()


def session(host: Host) -> Found:
    """Whether runs outlive the connection where systemd's logind keeps sessions. Lingering does not save what is in the session itself."""
    found = host.session()
    user = found["user"]
    if not found["session"]:
        return found, "None that ends with the connection"
    if found["kill"]:
        raise Trouble(
            f"logind ends whatever {user} started when the session ends (KillUserProcesses=yes): runs end with the connection.",
            f"As root there, write KillExcludeUsers=root {user} below [Login] in /etc/systemd/logind.conf, then: "
            "systemctl restart systemd-logind.",
        )
    if found["ipc"] and not found["lingers"]:
        raise Trouble(
            f"logind removes {user}'s shared memory when the last session ends (RemoveIPC=yes), also that of runs which go on.",
            f"As root there: loginctl enable-linger {user}.",
        )
    return found, "Runs outlive it"


def tools(facts: dict[str, Any]) -> Found:
    present = [name for name, path in sorted((facts.get("tools") or {}).items()) if path]
    return present, ", ".join(present) or "No further tools"


def _listed(connection: Connection) -> Found:
    addresses = connection.resolve()
    return addresses, ", ".join(dict.fromkeys(addresses)) or "Looked up by the jump host"


def _connected(connection: Connection) -> Found:
    if connection.jump is None:
        return None, f"{connection.connect()}, port {connection.port}"
    connection.connect()
    return None, f"Through the jump host to {connection.host}, port {connection.port}"


def _compared(connection: Connection, hop: str) -> Found:
    shown = connection.host_key()
    data = {
        "hop": hop,
        "host": connection.host,
        "key": shown.line,
        "shown": f"{shown.type} {shown.fingerprint}",
        "pinned": fingerprint(connection.pin) if connection.pin else "",
        # As in the name of the server's own file, ssh_host_…_key.pub.
        "short": "ecdsa" if shown.type.startswith("ecdsa") else shown.type.removeprefix("ssh-"),
    }
    try:
        connection.check_pin()
    except TransportError as error:
        raise Trouble(_sentence(str(error)), error.fix, code=error.code, **data) from error
    return shown, f"{shown.type} {shown.fingerprint}"


def _engine(asked: Engine) -> Found:
    found = asked.version()
    if found.get("Os") != "linux":
        raise Trouble(f"It runs {found.get('Os')} containers.", "Switch it to Linux containers.")
    return found, f"{found['Version']}, API {found['ApiVersion']}, {found['Arch']}"


def _base_image(asked: Engine, name: str) -> Found:
    found = asked.image(name)
    if found is None:
        raise Trouble(
            f"{name} is not on this engine. Environments that name another image do not need it.",
            "A build that needs it pulls it. Where the engine reaches no registry, bring it there (docker load), or name one that is there.",
        )
    return found, f"{name}, {_bytes(found['Size'])}"


def _spark(host: Host, spark: dict[str, Any]) -> Found:
    found = host.spark(str(spark.get("home") or ""), str(spark["master"]))
    if not found["submit"]:
        where = f"{spark['home']}/bin" if spark.get("home") else "the PATH, in $SPARK_HOME or in /opt/spark"
        raise Trouble(f"There is no spark-submit in {where}.", "Install Spark there, or give the folder it is in.")
    if not found["version"]:
        raise Trouble(
            f"spark-submit --version failed: {found['said'] or 'it named no version'}",
            "Run it there. Spark needs Java; 17 fits all its present versions.",
        )
    java = f", Java {found['java']}" if found["java"] else ""
    return found, f"{found['version']}{java}, {found['submit']}"


def _master(found: dict[str, Any]) -> Found:
    answered = [entry for entry in found["masters"] if "seconds" in entry]
    if not answered:
        said = "; ".join(f"{entry['address']}: {entry['error']}" for entry in found["masters"])
        raise Trouble(
            f"No master answers. {said}",
            "Start it there, and check the address: spark://HOST:PORT, as its log gives it.",
        )
    return answered, ", ".join(f"{entry['address']} in {entry['seconds'] * 1000:.0f} ms" for entry in answered)


def _since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 1)


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] if text else "It failed without a word."


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _seconds(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )
