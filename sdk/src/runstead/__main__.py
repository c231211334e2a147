"""`python -m runstead`."""

import sys

from .cli import main

sys.exit(main())
