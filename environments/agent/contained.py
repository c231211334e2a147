"""The supervisor as the main process of a container.

The engine starts it there instead of the spawner. What it supervises sees the image's own variables, and the container is its
isolation; everything else is as anywhere.
"""

import os

from . import isolation, starting, supervise


def main(root: str, attempt: str) -> None:
    """Supervise a run to its end, then leave. Never returns."""
    starting.pass_everything()
    isolation.contained = True
    code = 1
    try:
        # The mask under which a container's programs run unless they say otherwise.
        code = supervise.run(root, "runs", attempt, 0o022)
    finally:
        os._exit(code)
