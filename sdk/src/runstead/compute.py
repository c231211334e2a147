"""Compute targets: found by name, attached, tested, drained, detached."""

from __future__ import annotations

import os
import sys
import time
from urllib.parse import quote

from .errors import ComputeTargetException, UserError
from .transport import ApiError
from .units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, Union

    from .workspace import Workspace

SECRETS = ("password", "private_key", "passphrase")
MAX_KEY = 100_000


class AttachConfiguration:
    """What `ComputeTarget.attach` takes; made by the `attach_configuration` of a kind of target."""

    def __init__(self, body: Dict[str, Any]) -> None:
        self.body = body

    def with_packages(
        self,
        index_url: Optional[str] = None,
        extra_index_urls: Optional[Sequence[str]] = None,
        index_secret: Optional[str] = None,
        find_links: Optional[Sequence[str]] = None,
        conda_channels: Optional[Sequence[str]] = None,
        offline: bool = False,
    ) -> AttachConfiguration:
        """The same, with where environments of this target take packages from; an environment that names an index goes before.

        `index_secret`: name of the workspace's secret that holds `user:password`; `find_links`: folders of wheels on the target;
        `offline`: ask nothing but what is named here.
        """
        given = {
            "index_url": index_url, "extra_index_urls": list(extra_index_urls or ()), "index_secret": index_secret,
            "find_links": list(find_links or ()), "conda_channels": list(conda_channels or ()), "offline": offline,
        }  # fmt: skip
        packages = {name: value for name, value in given.items() if value}
        options = {**self.body["options"], **({"packages": packages} if packages else {})}
        return AttachConfiguration({**self.body, "options": options})

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.body.items() if name != "credentials"}
        return "AttachConfiguration(%r)" % (shown,)


class ComputeTarget:
    """A compute target of the studio: `ComputeTarget(ws, "gpu-box-3")`. Raises ComputeTargetException when there is none.

    What it is comes as the class: LocalCompute, RemoteCompute, DockerCompute, HDInsightCompute.
    """

    type = ""
    _row: Dict[str, Any]

    def __new__(cls, workspace: Workspace, name: str) -> ComputeTarget:
        try:
            row = workspace.transport.request("GET", _path(name)).json()
        except ApiError as error:
            if error.status != 404:
                raise
            there = [row["name"] for row in _listed(workspace)]
            raise ComputeTargetException(
                "name: there is no compute target %r in workspace %s. There are: %s."
                % (name, workspace.name, ", ".join(there) or "none")
            ) from None
        return cls._of(workspace, row)

    @staticmethod
    def _of(workspace: Workspace, row: Dict[str, Any]) -> ComputeTarget:
        made = object.__new__(_class_of(row))
        made.workspace = workspace
        made._row = row
        return made

    workspace: Workspace

    # What it is.

    @property
    def name(self) -> str:
        return str(self._row["name"])

    @property
    def kind(self) -> str:
        """As the studio's pages call it: Remote machine, Docker, …"""
        return str(self._row["kind"])

    @property
    def status(self) -> str:
        """Online, Idle, Not reachable, Draining, …: as it was when this object was made or refreshed."""
        return str(self._row["health"])

    @property
    def provisioning_state(self) -> str:
        """Succeeded, or Failed when the last connection test failed or the target does not answer."""
        return "Failed" if self.provisioning_errors else "Succeeded"

    @property
    def provisioning_errors(self) -> List[str]:
        """What is wrong, with the fix; empty when nothing is known to be."""
        failed = [_sentence(step) for step in self._row["steps"] if step["needed"] and not step["ok"]]
        if not failed and self._row["unreachable_since"]:
            failed = [self._row["last_error"] or "It does not answer."]
        return failed

    @property
    def slots(self) -> int:
        """How many runs may execute there at once."""
        return int(self._row["slots"])

    @property
    def gpus(self) -> int:
        return int(self._row["gpus"])

    @property
    def enabled(self) -> bool:
        """False while it is drained: nothing new starts there."""
        return bool(self._row["enabled"])

    @property
    def quarantine(self) -> str:
        """Why nothing new is started there until somebody resumes it; empty when it is not in quarantine."""
        return str(self._row["quarantine_reason"]) if self._row["quarantined_at"] else ""

    @property
    def public_key(self) -> str:
        """The line of `authorized_keys` of the key that the studio made, if it did."""
        return str(self._row["public_key"])

    @property
    def steps(self) -> List[Dict[str, Any]]:
        """The last connection test: dicts with title, ok, detail, fix, milliseconds, needed."""
        return list(self._row["steps"])

    def serialize(self) -> Dict[str, Any]:
        """Everything the studio says about it."""
        return dict(self._row)

    def get_status(self) -> str:
        """Ask, and return `status`."""
        self.refresh_state()
        return self.status

    def refresh_state(self) -> None:
        """Ask the studio again."""
        self._row = self._ask("GET")

    def wait_for_completion(self, show_output: bool = False) -> None:
        """Attaching is done when it returns, so there is nothing to wait for; a target that was never tested is tested now.

        `show_output`: prints the steps of the connection test. Raises ComputeTargetException when it failed.
        """
        if not self._row["steps"]:
            self.test()
        if show_output:
            print_steps(self._row["steps"], sys.stdout)
            print(self.provisioning_state)
        if self.provisioning_errors:
            raise ComputeTargetException("%s: %s" % (self.name, self.provisioning_errors[0]), {"steps": self.steps})

    # What can be done with it.

    @staticmethod
    def attach(
        workspace: Workspace, name: str, attach_configuration: AttachConfiguration, anyway: bool = False
    ) -> ComputeTarget:
        """Attach a machine after the connection test. Called again, it returns the target that is there.

        `anyway`: attach although the test fails behind the host keys. Raises ComputeTargetException: the text says what to do.
        """
        body = {**attach_configuration.body, "name": name, "anyway": anyway}
        try:
            answer = workspace.transport.request("POST", "targets", body)
        except ApiError as error:
            raise ComputeTargetException(_refusal(error), error.problem) from None
        return ComputeTarget._of(workspace, answer.json())

    @staticmethod
    def create(workspace: Workspace, name: str, provisioning_configuration: AttachConfiguration) -> ComputeTarget:
        """Make a pool of attached targets, as `AmlCompute.provisioning_configuration` describes it. No machine of a cloud is made.

        Raises ComputeTargetException.
        """
        from .pool import create

        return create(workspace, name, provisioning_configuration)

    @staticmethod
    def list(workspace: Workspace) -> List[ComputeTarget]:
        """All targets of the workspace, by name."""
        return [ComputeTarget._of(workspace, row) for row in _listed(workspace)]

    def test(
        self, host_key_fingerprint: Optional[str] = None, jump_host_key_fingerprint: Optional[str] = None
    ) -> List[Dict[str, Any]]:
        """The connection test: its steps, each timed, the first needed one that failed the last, with its fix.

        With fingerprints, a changed host key that has them is trusted from now on. Raises ComputeTargetException for another one.
        """
        trust = {"fingerprint": host_key_fingerprint or "", "jump_fingerprint": jump_host_key_fingerprint or ""}
        try:
            found = self._ask("POST", "/test", trust)
        except ApiError as error:
            if error.status != 409:
                raise
            raise ComputeTargetException(_refusal(error), error.problem) from None
        self.refresh_state()
        return list(found["steps"])

    def update(
        self,
        slots: Optional[int] = None,
        gpu_slots: Optional[int] = None,
        options: Optional[Mapping[str, Any]] = None,
        credentials: Optional[Mapping[str, Optional[str]]] = None,
        name: Optional[str] = None,
    ) -> None:
        """Change it; what is None stays. `options` and `credentials` are merged into those that are there."""
        given = {"slots": slots, "gpu_slots": gpu_slots, "options": options, "credentials": credentials, "name": name}
        self._row = self._ask("PATCH", "", {key: value for key, value in given.items() if value is not None})

    def drain(self) -> None:
        """Start nothing new there; what runs goes on."""
        self._row = self._ask("POST", "/drain")

    def resume(self) -> None:
        """Start runs there again; lifts a quarantine."""
        self._row = self._ask("POST", "/resume")

    def new_key(self) -> str:
        """Have the studio make a new key; the line to install there. `use_new_key()` then replaces the old one."""
        self._row.update(self._ask("POST", "/key"))
        return str(self._row["next_public_key"])

    def use_new_key(self) -> None:
        """Sign in with the new key from now on, if that works. Raises ApiError when it does not: nothing has changed then."""
        self._row.update(self._ask("POST", "/key/use"))

    def detach(self, runs: Optional[str] = None, timeout: float = 3600) -> None:
        """Take it out of use. Its runs stay in the lists, its credentials are wiped, nothing changes on the machine.

        `runs`: what becomes of those that have not ended: None raises ComputeTargetException, "cancel" cancels them and waits (up to
        `timeout` seconds) for their end, "abandon" gives them up when the machine is gone.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                found = self._ask("DELETE", query={"force": runs} if runs else None)
            except ApiError as error:
                if error.status != 409:
                    raise
                raise ComputeTargetException(str(error), error.problem) from None
            if found["detached"]:
                return
            if time.monotonic() > end:
                raise ComputeTargetException(
                    "%s: %d runs have still not ended. They are being canceled: detach it later."
                    % (self.name, found["live_runs"])
                )
            time.sleep(1)

    def delete(self) -> None:
        """Machines are not made here, so they are not deleted either: the same as `detach()`."""
        self.detach()

    def _ask(self, method: str, path: str = "", body: Any = None, query: Optional[Mapping[str, str]] = None) -> Any:
        return self.workspace.transport.request(method, _path(self.name) + path, body, query).json()

    def __deepcopy__(self, memo: Dict[int, Any]) -> ComputeTarget:
        """A copied configuration names the same target."""
        return self

    def _repr_html_(self) -> str:
        from .notebook_html import table

        page = "%scompute/%s" % (self.workspace.get_portal_url(), quote(self.name, safe=""))
        return table(page, name=self.name, kind=self.kind, status=self.status, slots=self.slots)

    def __repr__(self) -> str:
        return "%s(name=%r, status=%r)" % (type(self).__name__, self.name, self.status)


class LocalCompute(ComputeTarget):
    """The studio's own machine, a process for each run."""

    type = "Local"

    @staticmethod
    def attach_configuration(
        root: Optional[str] = None, python: Optional[str] = None, slots: Optional[int] = None
    ) -> AttachConfiguration:
        """`root`: the folder below which runs lie; `python`: of the studio's agent; `slots`: runs at once."""
        return AttachConfiguration(_body("local", "process", {"root": root, "python": python}, slots=slots))


class RemoteCompute(ComputeTarget):
    """A machine reached by SSH, a process for each run."""

    type = "VirtualMachine"

    @staticmethod
    def attach_configuration(
        username: str = "",
        address: Optional[str] = None,
        ssh_port: Union[int, str] = 22,
        password: str = "",
        private_key_file: str = "",
        private_key_passphrase: str = "",
        host_key_fingerprint: Optional[str] = None,
        jump_address: Optional[str] = None,
        jump_username: str = "",
        jump_port: Union[int, str] = 22,
        jump_password: str = "",
        jump_private_key_file: str = "",
        jump_private_key_passphrase: str = "",
        jump_host_key_fingerprint: Optional[str] = None,
        root: Optional[str] = None,
        python: Optional[str] = None,
        slots: Optional[int] = None,
        gpu_slots: Optional[int] = None,
        sandbox: bool = False,
        resource_id: Optional[str] = None,
    ) -> AttachConfiguration:
        """A machine by its address. The key file is read here and sent to the studio once; without a password and a key the studio
        makes a key, and the exception's `public_key` is the line to install there.

        `host_key_fingerprint`: `SHA256:…` as `ssh-keygen -lf` prints it on the machine. Without it nothing is attached; the exception
        names the one that was found. `sandbox`: have the kernel keep runs apart from each other. `resource_id` is there for scripts of
        other systems, and must be None.
        """
        if resource_id:
            raise UserError("resource_id: it names a machine of a cloud. Give the machine's address instead.")
        ssh = _ssh(locals())
        return AttachConfiguration(
            _body(
                "ssh", "process", {"root": root, "python": python, "sandbox": sandbox or None, **ssh.pop("options")},
                slots=slots, gpu_slots=gpu_slots, **ssh,
            )
        )  # fmt: skip


class DockerCompute(ComputeTarget):
    """A Docker engine, here or behind SSH; a container for each run."""

    type = "Docker"

    @staticmethod
    def attach_configuration(
        address: Optional[str] = None,
        username: str = "",
        ssh_port: Union[int, str] = 22,
        password: str = "",
        private_key_file: str = "",
        private_key_passphrase: str = "",
        host_key_fingerprint: Optional[str] = None,
        jump_address: Optional[str] = None,
        jump_username: str = "",
        jump_port: Union[int, str] = 22,
        jump_password: str = "",
        jump_private_key_file: str = "",
        jump_private_key_passphrase: str = "",
        jump_host_key_fingerprint: Optional[str] = None,
        base_image: Optional[str] = None,
        memory: Union[int, str, None] = None,
        cpus: Optional[float] = None,
        shm_size: Union[int, str, None] = None,
        pids: Optional[int] = None,
        network: Optional[str] = None,
        mounts: Sequence[Union[str, Mapping[str, Any]]] = (),
        socket: Optional[str] = None,
        root: Optional[str] = None,
        python: Optional[str] = None,
        slots: Optional[int] = None,
        gpu_slots: Optional[int] = None,
    ) -> AttachConfiguration:
        """Without `address` it is the engine of the studio's own machine. Sizes are bytes or texts like "16GB"; `mounts` are
        "/on/the/machine:/in/the/run", read-only unless ":rw" follows. The limits are each run's.
        """
        docker = {
            "base_image": base_image, "memory_bytes": _size("memory", memory), "cpus": cpus,
            "shm_bytes": _size("shm_size", shm_size), "pids": pids, "network": network, "socket": socket,
            "mounts": [_mount(text) for text in mounts] or None,
        }  # fmt: skip
        return _reached(locals(), "docker", {"docker": _given(docker)})


class HDInsightCompute(ComputeTarget):
    """A Spark cluster: spark-submit on a machine behind SSH, or on the studio's own."""

    type = "HDInsight"

    @staticmethod
    def attach_configuration(
        username: str = "",
        address: Optional[str] = None,
        ssh_port: Union[int, str] = 22,
        password: str = "",
        private_key_file: str = "",
        private_key_passphrase: str = "",
        host_key_fingerprint: Optional[str] = None,
        jump_address: Optional[str] = None,
        jump_username: str = "",
        jump_port: Union[int, str] = 22,
        jump_password: str = "",
        jump_private_key_file: str = "",
        jump_private_key_passphrase: str = "",
        jump_host_key_fingerprint: Optional[str] = None,
        master: str = "yarn",
        spark_home: Optional[str] = None,
        deploy_mode: Optional[str] = None,
        conf: Optional[Mapping[str, Any]] = None,
        packages: Optional[Sequence[str]] = None,
        repositories: Optional[Sequence[str]] = None,
        variables: Optional[Mapping[str, str]] = None,
        root: Optional[str] = None,
        python: Optional[str] = None,
        slots: Optional[int] = None,
        gpu_slots: Optional[int] = None,
        resource_id: Optional[str] = None,
    ) -> AttachConfiguration:
        """`address`: of the machine with spark-submit, usually an edge node; without it, it is the studio's own. `master`:
        spark://host:7077, yarn, k8s://… or local[*]. The others are spark-submit's.
        """
        if resource_id:
            raise UserError("resource_id: it names a cluster of a cloud. Give the address of its head node instead.")
        spark = {
            "master": master, "home": spark_home, "deploy_mode": deploy_mode, "conf": dict(conf) if conf else None,
            "packages": list(packages) if packages else None, "repositories": list(repositories) if repositories else None,
            "variables": dict(variables) if variables else None,
        }  # fmt: skip
        return _reached(locals(), "process", {"spark": _given(spark)})


SparkCompute = HDInsightCompute


def print_steps(steps: Sequence[Mapping[str, Any]], file: IO[str]) -> None:
    """A line per step of the connection test, with the fix below the one that failed."""
    width = max([len(step["title"]) for step in steps] or [0])
    for step in steps:
        mark = "ok  " if step["ok"] else "FAIL" if step["needed"] else "--  "
        line = "%s  %-*s %6.0f ms  %s" % (mark, width, step["title"], step["milliseconds"], step["detail"])
        file.write(line.rstrip() + "\n")
        if not step["ok"] and step["fix"]:
            file.write("%s%s\n" % (" " * (6 + width + 11), step["fix"]))


def _class_of(row: Mapping[str, Any]) -> Type[ComputeTarget]:
    if row["options"].get("spark"):
        return HDInsightCompute
    if row["type"].endswith("/docker"):
        return DockerCompute
    return LocalCompute if row["type"].startswith("local/") else RemoteCompute


def _listed(workspace: Workspace) -> List[Dict[str, Any]]:
    return workspace.transport.rows("targets", "targets")


def _path(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise UserError("name: the name of a compute target is needed.")
    return "targets/" + quote(name, safe="")


def _sentence(step: Mapping[str, Any]) -> str:
    return ("%s: %s %s" % (step["title"], step["detail"], step["fix"])).strip()


def _refusal(error: ApiError) -> str:
    """The refusal in the words of this module's arguments."""
    problem = error.problem
    if problem.get("code") != "host_key":
        return str(error)
    argument = "jump_host_key_fingerprint" if problem.get("hop") == "jump" else "host_key_fingerprint"
    rule = (error.errors or [{}])[0].get("rule") or str(error)
    return (
        "%s Compare it with the machine's own (there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub). If they are equal, pass "
        "%s=%r." % (rule, argument, problem.get("fingerprint"))
    )


def _given(values: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _body(transport: str, launcher: str, options: Mapping[str, Any], **more: Any) -> Dict[str, Any]:
    return {"transport": transport, "launcher": launcher, "options": _given(options), **_given(more)}


def _reached(given: Mapping[str, Any], launcher: str, options: Mapping[str, Any]) -> AttachConfiguration:
    """The configuration of a kind that is here without an address, and behind SSH with one."""
    more = {"slots": given["slots"], "gpu_slots": given["gpu_slots"]}
    common = {"root": given["root"], "python": given["python"], **options}
    if given["address"] is None:
        return AttachConfiguration(_body("local", launcher, common, **more))
    ssh = _ssh(given)
    return AttachConfiguration(_body("ssh", launcher, {**common, **ssh.pop("options")}, **more, **ssh))


def _ssh(given: Mapping[str, Any]) -> Dict[str, Any]:
    """`options`, `credentials` and fingerprints from the arguments of an `attach_configuration`."""
    if not given["address"]:
        raise UserError("address: the host's name or address is needed, for example gpu-box-3.example.org.")
    if not given["username"]:
        raise UserError("username: the user to sign in as is needed.")
    ssh: Dict[str, Any] = {
        "host": given["address"],
        "port": _port("ssh_port", given["ssh_port"]),
        "user": given["username"],
    }
    if given["jump_address"]:
        user = given["jump_username"] or given["username"]
        port = _port("jump_port", given["jump_port"])
        ssh["jump"] = {"host": given["jump_address"], "port": port, "user": user}
    credentials = {
        "password": given["password"],
        "private_key": _key("private_key_file", given["private_key_file"]),
        "passphrase": given["private_key_passphrase"],
        "jump_password": given["jump_password"],
        "jump_private_key": _key("jump_private_key_file", given["jump_private_key_file"]),
        "jump_passphrase": given["jump_private_key_passphrase"],
    }
    return {
        "options": {"ssh": ssh},
        "credentials": {name: value for name, value in credentials.items() if value},
        "fingerprint": given["host_key_fingerprint"],
        "jump_fingerprint": given["jump_host_key_fingerprint"],
    }


def _port(field: str, value: Union[int, str]) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise UserError("%s: %r is not a port. Use 1 to 65535; SSH usually listens on 22." % (field, value))
    return int(text)


def _key(field: str, path: str) -> str:
    """The text of a private key's file, read here and now."""
    if not path:
        return ""
    where = os.path.expanduser(os.fspath(path))
    try:
        with open(where, "rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as error:
        raise UserError("%s: cannot read %s: %s." % (field, where, error.strerror)) from None
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if "PRIVATE KEY-----" not in text or len(data) > MAX_KEY:
        hint = " It is the public half: leave out .pub." if text.startswith(("ssh-", "ecdsa-")) else ""
        raise UserError("%s: %s holds no private key.%s" % (field, where, hint))
    return text


def _size(field: str, value: Union[int, str, None]) -> Optional[int]:
    return size(field, value) if isinstance(value, str) else value


def _mount(value: Union[str, Mapping[str, Any]]) -> Dict[str, Any]:
    if not isinstance(value, str):
        return dict(value)
    parts: Tuple[str, ...] = tuple(value.split(":"))
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise UserError(
            "mounts: %r needs the form /on/the/machine:/in/the/run, with :rw if runs may write there." % value
        )
    return {"source": parts[0], "target": parts[1], "read_only": parts[-1] != "rw"}
