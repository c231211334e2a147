"""What a launcher is: it starts the supervisors of prepared attempts on a target, and nothing more."""

from collections.abc import Sequence
from typing import Protocol

from environments.host import Host


class Launcher(Protocol):
    """A way to start. It may be asked again for the same attempt: the claim in its directory lets one start only."""

    def launch(self, host: Host, attempts: Sequence[tuple[str, str]]) -> None:
        """Have each (kind, attempt) supervised. Whether a script starts is the claim's to say. Raises what ``host`` raises."""
