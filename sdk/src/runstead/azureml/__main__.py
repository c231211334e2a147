"""`python -m runstead.azureml`: make the module paths of Azure Machine Learning importable for every program of this Python."""

from __future__ import annotations

import argparse
import os
import site
import sys
import sysconfig

from . import real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

NAME = "runstead-azureml.pth"
LINE = "import runstead.azureml; runstead.azureml.install()\n"


def main(argv: Optional[List[str]] = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runstead.azureml", description=__doc__)
    parser.add_argument("--remove", action="store_true", help="take it back")
    options = parser.parse_args(argv)
    return _remove() if options.remove else _install()


def _install() -> int:
    for folder in _folders():
        path = os.path.join(folder, NAME)
        try:
            os.makedirs(folder, exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                file.write(LINE)
        except OSError:
            continue
        print("azureml.core and the others are now names of runstead for %s (%s)." % (sys.executable, path))
        if real():
            print("The real azureml-core is installed here: it is what is found until it is uninstalled.")
        return 0
    print("runstead: none of these folders can be written: %s. Call runstead.azureml.install() in the script." % ", ".join(_folders()), file=sys.stderr)  # fmt: skip
    return 1


def _remove() -> int:
    gone = 0
    for folder in _folders():
        path = os.path.join(folder, NAME)
        if os.path.exists(path):
            os.unlink(path)
            print("Removed %s." % path)
            gone += 1
    if not gone:
        print("It was not installed for %s." % sys.executable)
    return 0


def _folders() -> List[str]:
    """Where this Python looks for such files, the best first."""
    own = [sysconfig.get_path("purelib")]
    return own + ([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])


if __name__ == "__main__":
    sys.exit(main())
