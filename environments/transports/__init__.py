"""Ways to reach a target. A new one is a file here and a line below."""

from collections.abc import Callable

from environments.transports.base import Transport
from environments.transports.local import LocalTransport

TRANSPORTS: dict[str, Callable[..., Transport]] = {
    "local": LocalTransport,
}
