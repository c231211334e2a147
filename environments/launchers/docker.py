"""Runs in containers of an engine on the target: the supervisor is a container's main process, so that everything else is as
anywhere. The container's name is a claim of its own: who finds it taken adopts what is there."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from environments.agent import pack
from environments.docker_arguments import DockerArguments
from environments.engine import Engine
from environments.host import Host, HostError
from environments.launchers.base import Start

log = logging.getLogger("runstead.docker")

SHM_BYTES = 2 * 1024**3
"""Of /dev/shm: the engine's own 64 MB are too few for data loaders with several processes."""
PIDS = 16_384
LABEL = "runstead.attempt"
ROOT_LABEL = "runstead.root"
_AMOUNTS = {"memory_bytes": "{:,} bytes of memory", "cpus": "{:g} processors", "pids": "{:,} processes"}
_HOME = "tmp"
_KEPT_OUTPUT = {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}}
_SUPERVISE = f"""
import sys
sys.path.insert(0, sys.argv[3])
from {pack.PACKAGE} import contained
contained.main(sys.argv[1], sys.argv[2])
"""


def name_of(attempt: str) -> str:
    """The container of an attempt."""
    return f"runstead-{attempt}"


class DockerLauncher:
    """Asks the engine through the agent."""

    beside = True

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        self.host = host
        self.engine = Engine(host, options)
        self.limits: Mapping[str, Any] = options.get("docker") or {}

    def launch(self, starts: Sequence[Start]) -> None:
        for start in starts:
            self._launch(start)

    def _launch(self, start: Start) -> None:
        name, env = name_of(start.attempt), inside(start)
        if env:
            self.host.grant("runs", start.attempt, env)
        ended = ""
        try:
            self.engine.create(name, self.config(start))
        except HostError as error:
            if error.code == "not_found":
                raise HostError("image_missing", f"The image of its environment is gone: {error}", True) from error
            if error.code != "conflict":
                raise
            ended = self._adopt(name, start.attempt)
        self.engine.start(name)
        if ended:
            raise HostError("container_ended", ended)

    def _adopt(self, name: str, attempt: str) -> str:
        """Look at a container that has our name already. What it said, where it ended before anything was started in it."""
        found = self.engine.container(name)
        if found is None:
            raise HostError("conflict", f"The container {name} is just being removed.")
        labels = found["Config"].get("Labels") or {}
        if (labels.get(LABEL), labels.get(ROOT_LABEL)) != (attempt, self.host.root):
            raise HostError(
                "conflict", f"There is a container {name} that is not this run's. Remove it.", permanent=True
            )
        state = found["State"]
        if state["Status"] in {"removing", "dead"}:
            raise HostError("conflict", f"The container {name} is just being removed.")
        if state["Status"] != "exited":
            return ""
        said = self.engine.said(name) or state.get("Error") or f"exit code {state.get('ExitCode')}"
        return f"The container ended before the script was started: {said}"

    def config(self, start: Start) -> dict[str, Any]:
        """What the engine is asked for. Nothing here can be said by who submits a run, but sizes within the target's limits."""
        root, facts, limits = self.host.root, self.host.facts, self.limits
        folder = f"{root}/runs/{start.attempt}"
        program = f"{root}/agent/agent-{pack.packed()[0]}.pyz"
        memory = self._memory(start)
        user, home = str(facts["user"]), f"{folder}/{_HOME}"
        host_config: dict[str, Any] = {
            "Mounts": [
                _mount(folder, folder, read_only=False),
                _mount(f"{root}/agent", f"{root}/agent"),
                _mount(f"{root}/lib", f"{root}/lib"),
                *(_mount(m["source"], m["target"], bool(m.get("read_only", True))) for m in limits.get("mounts") or ()),
            ],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "PidsLimit": self._within("pids", start.asked.pids) or PIDS,
            "NetworkMode": limits.get("network") or "bridge",
            "IpcMode": "private",
            "ShmSize": start.asked.shm_bytes or limits.get("shm_bytes") or SHM_BYTES,
            "LogConfig": _KEPT_OUTPUT,
            "RestartPolicy": {"Name": "no"},
        }
        if memory:
            host_config |= {"Memory": memory, "MemorySwap": memory}
        if cpus := self._within("cpus", start.asked.cpus):
            host_config["NanoCpus"] = int(float(cpus) * 1e9)
        host_config |= _bounds(start.asked)
        if start.gpus:
            host_config["DeviceRequests"] = [{"DeviceIDs": list(start.gpus), "Capabilities": [["gpu"]]}]
        return {
            "Image": start.image,
            "Entrypoint": [start.python or "python3", "-I", "-S", "-c", _SUPERVISE, root, start.attempt, program],
            "Cmd": [],
            "User": f"{facts['uid']}:{facts['gid']}",
            "WorkingDir": "/",
            # The user has no entry in the image's list of users, and so no home and no name there.
            "Env": [f"HOME={home}", f"USER={user}", f"LOGNAME={user}"],
            "Labels": {LABEL: start.attempt, ROOT_LABEL: root},
            "HostConfig": host_config,
        }

    def _memory(self, start: Start) -> int | None:
        """The run's own wish comes before its environment's."""
        found = self._within("memory_bytes", start.memory_bytes or start.asked.memory_bytes)
        return int(found) if found else None

    def _within(self, limit: str, asked: Any) -> Any:
        """What is asked for, or else what the target allows. Raises HostError for more than that."""
        allowed = self.limits.get(limit)
        if allowed and asked and asked > allowed:
            text = f"The run asks for {_AMOUNTS[limit].format(asked)}; this target allows {allowed:,}."
            raise HostError("engine_refused", text, permanent=True)
        return asked or allowed

    def kill(self, attempt: str) -> None:
        self.host.kill("runs", attempt)  # refuses while its supervisor lives
        try:
            self.clean(attempt)
        except HostError as error:  # no process of it is left, and its container is removed once the run has ended
            log.warning("the container of attempt %s stays for now: %s", attempt, error)

    def clean(self, attempt: str) -> None:
        self.engine.remove(name_of(attempt))

    def tidy(self) -> None:
        """Remove the containers of this root whose run has ended, or is gone."""
        found = self.engine.containers([f"{ROOT_LABEL}={self.host.root}", LABEL])
        attempts = [str(item["Labels"][LABEL]) for item in found]
        if not attempts:
            return
        for attempt, evidence in self.host.inspect(attempts).items():
            ended = evidence["exit"] is not None and evidence["sup"] != "held"
            if ended or not evidence["exists"]:
                self.engine.remove(name_of(attempt))

    def environments(self) -> Iterable[Mapping[str, Any]]:
        return [{"image": image} for image in self.engine.images()]

    def holds(self, image: str) -> bool:
        return self.engine.image(image) is not None

    def close(self) -> None:
        """Nothing of its own is open."""


def inside(start: Start) -> dict[str, str]:
    """The variables of what a run was given, as they are true in its container: it sees its own GPUs alone, numbered from 0."""
    env = dict(start.env)
    if start.gpus and all(gpu.isdigit() for gpu in start.gpus):
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(number) for number in range(len(start.gpus)))
    return env


def _bounds(asked: DockerArguments) -> dict[str, Any]:
    """The limits that only an environment sets. ``--init`` asks for what is there anyway: the supervisor reaps orphans."""
    found = {
        "MemoryReservation": asked.memory_reservation,
        "CpusetCpus": asked.cpuset,
        "CpuShares": asked.cpu_shares,
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in asked.ulimits.items()],
    }
    return {name: value for name, value in found.items() if value}


def _mount(source: str, target: str, read_only: bool = True) -> dict[str, Any]:
    # Not "Binds": those would make a source that is not there, as an empty folder of root's.
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
