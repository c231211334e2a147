"""What the `attach_configuration` of each kind of target makes of its arguments: the body of a request, checked as far as it can be here."""

from __future__ import annotations

import os

from .errors import UserError
from .units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

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


def given(values: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def body(transport: str, launcher: str, options: Mapping[str, Any], **more: Any) -> Dict[str, Any]:
    return {"transport": transport, "launcher": launcher, "options": given(options), **given(more)}


def reached(asked: Mapping[str, Any], launcher: str, options: Mapping[str, Any]) -> AttachConfiguration:
    """The configuration of a kind that is here without an address, and behind SSH with one."""
    more = {"slots": asked["slots"], "gpu_slots": asked["gpu_slots"]}
    common = {"root": asked["root"], "python": asked["python"], **options}
    if asked["address"] is None:
        return AttachConfiguration(body("local", launcher, common, **more))
    ssh = ssh_of(asked)
    return AttachConfiguration(body("ssh", launcher, {**common, **ssh.pop("options")}, **more, **ssh))


def ssh_of(asked: Mapping[str, Any]) -> Dict[str, Any]:
    """`options`, `credentials` and fingerprints from the arguments of an `attach_configuration`."""
    if not asked["address"]:
        raise UserError("address: the host's name or address is needed, for example gpu-box-3.example.org.")
    if not asked["username"]:
        raise UserError("username: the user to sign in as is needed.")
    ssh: Dict[str, Any] = {
        "host": asked["address"],
        "port": _port("ssh_port", asked["ssh_port"]),
        "user": asked["username"],
    }
    if asked["jump_address"]:
        user = asked["jump_username"] or asked["username"]
        port = _port("jump_port", asked["jump_port"])
        ssh["jump"] = {"host": asked["jump_address"], "port": port, "user": user}
    credentials = {
        "password": asked["password"],
        "private_key": _key("private_key_file", asked["private_key_file"]),
        "passphrase": asked["private_key_passphrase"],
        "jump_password": asked["jump_password"],
        "jump_private_key": _key("jump_private_key_file", asked["jump_private_key_file"]),
        "jump_passphrase": asked["jump_private_key_passphrase"],
    }
    return {
        "options": {"ssh": ssh},
        "credentials": {name: value for name, value in credentials.items() if value},
        "fingerprint": asked["host_key_fingerprint"],
        "jump_fingerprint": asked["jump_host_key_fingerprint"],
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


def size_of(field: str, value: Union[int, str, None]) -> Optional[int]:
    return size(field, value) if isinstance(value, str) else value


def mount_of(value: Union[str, Mapping[str, Any]]) -> Dict[str, Any]:
    if not isinstance(value, str):
        return dict(value)
    parts: Tuple[str, ...] = tuple(value.split(":"))
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise UserError(
            "mounts: %r needs the form /on/the/machine:/in/the/run, with :rw if runs may write there." % value
        )
    return {"source": parts[0], "target": parts[1], "read_only": parts[-1] != "rw"}
