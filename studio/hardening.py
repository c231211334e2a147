"""Keep the studio's processes apart from what runs beside them as the same user."""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
SIGTERM = 15


def hide_from_neighbours() -> None:
    """Forbid other processes of this user to read our memory and environment through ``/proc`` or a debugger."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with_parent() -> None:
    """Get SIGTERM when the process that started us dies. Call in the child before exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0)


def end_with(parent: int) -> None:
    """As ``die_with_parent``, and end at once if the parent is gone already: then nobody would tell us. ``parent``: its pid. Call in the
    child after fork."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def scrubbed_environment() -> dict[str, str]:
    """Our environment without the studio's own settings and secrets, for programs that work for runs."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RUNSTEAD_", "DJANGO_"))}
