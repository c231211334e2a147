"""Nothing is collected, and nothing is sent to anybody."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def set_diagnostics_collection(send_diagnostics: bool = True, verbosity: Any = None, **kwargs: Any) -> None:
    """Accepted, and without effect: there is nothing to turn on or off."""
