"""Ways to reach a target. A new one is a file here and a line below."""

from collections.abc import Callable, Mapping
from typing import Any

from environments.transports.base import Transport
from environments.transports.local import LocalTransport
from environments.transports.ssh import SshTransport

# Made from a target's options and its credentials, both plain mappings.
TRANSPORTS: dict[str, Callable[[Mapping[str, Any], Mapping[str, str]], Transport]] = {
    "local": lambda options, credentials: LocalTransport(),
    "ssh": SshTransport,
}
