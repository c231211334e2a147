"""`python3 agent.pyz <root>` serves the stream on stdin and stdout, as the studio's bootstrap does."""

import os
import sys

from .serve import main

if __name__ == "__main__":
    main(os.path.expanduser(sys.argv[1]), os.umask(0o077))
