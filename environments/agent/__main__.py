"""`python3 agent.pyz <root>` serves the stream on stdin and stdout, as the studio's bootstrap does."""

import os
import sys

from .serve import main


def start() -> None:
    """Serve below the folder named in the first argument."""
    main(os.path.expanduser(sys.argv[1]), os.umask(0o077))


if __name__ == "__main__":
    start()
