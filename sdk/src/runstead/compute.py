"""Compute targets: found by name, attached, tested, drained, detached."""

from __future__ import annotations

import sys
import time
from urllib.parse import quote

from .attach_arguments import AttachConfiguration
from .errors import ComputeTargetException, UserError
from .needed import workspace_of
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, List, Mapping, Optional, Sequence, Type

    from .workspace import Workspace


class ComputeTarget:
    """A compute target of the studio: `ComputeTarget(ws, "gpu-box-3")`. Raises ComputeTargetException when there is none.

    What it is comes as the class: LocalCompute, RemoteCompute, DockerCompute, HDInsightCompute; a pool of them as AmlCompute.
    """

    type = ""
    _row: Dict[str, Any]

    def __new__(cls, workspace: Workspace, name: str) -> ComputeTarget:
        try:
            row = workspace_of(workspace).transport.request("GET", path_of(name)).json()
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
        if not isinstance(attach_configuration, AttachConfiguration):
            raise UserError(
                "attach_configuration: make it with the attach_configuration of a kind of target, for example "
                "RemoteCompute.attach_configuration(address='gpu-box-3', username='me'), got %r."
                % (attach_configuration,)
            )
        body = {**attach_configuration.body, "name": name, "anyway": anyway}
        try:
            answer = workspace_of(workspace).transport.request("POST", "targets", body)
        except ApiError as error:
            raise ComputeTargetException(_refusal(error), error.problem) from None
        return ComputeTarget._of(workspace, answer.json())

    @staticmethod
    def create(workspace: Workspace, name: str, provisioning_configuration: AttachConfiguration) -> ComputeTarget:
        """Make a pool of attached targets, as `AmlCompute.provisioning_configuration` describes it. No cloud machine is started.

        Raises ComputeTargetException.
        """
        from .pool import create

        return create(workspace, name, provisioning_configuration)

    @staticmethod
    def list(workspace: Workspace) -> List[ComputeTarget]:
        """All targets of the workspace and its pools, by name."""
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
        return self.workspace.transport.request(method, path_of(self.name) + path, body, query).json()

    def __deepcopy__(self, memo: Dict[int, Any]) -> ComputeTarget:
        """A copied configuration names the same target."""
        return self

    def _repr_html_(self) -> str:
        from .notebook_html import table

        return table(str(self._row["url"]), name=self.name, kind=self.kind, status=self.status, slots=self.slots)

    def __repr__(self) -> str:
        return "%s(name=%r, status=%r)" % (type(self).__name__, self.name, self.status)


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
    from .compute_kinds import DockerCompute, HDInsightCompute, LocalCompute, RemoteCompute

    if row["kind"] == "pool":
        from .pool import AmlCompute

        return AmlCompute
    if row["options"].get("spark"):
        return HDInsightCompute
    if row["type"].endswith("/docker"):
        return DockerCompute
    return LocalCompute if row["type"].startswith("local/") else RemoteCompute


def _listed(workspace: Workspace) -> List[Dict[str, Any]]:
    return workspace_of(workspace).transport.rows("targets", "targets")  # type: ignore[no-any-return]


def path_of(name: str) -> str:
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
