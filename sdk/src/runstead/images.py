"""Images that a script logs, kept as files of the run."""

from __future__ import annotations

import os
import re

from . import files
from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

KINDS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".svg", ".tif", ".tiff")


def save(run_dir: str, name: str, path: "Optional[str]", plot: Any, child: str = "") -> str:
    """Keep the image under a free name made from `name`; returns its path below `artifacts/`, or the folder of a child there."""
    ending = ".png"
    if path is not None:
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise UserError("path: there is no file %r. The working directory is %s." % (path, os.getcwd()))
        ending = os.path.splitext(path)[1].lower()
        if ending not in KINDS:
            raise UserError("path: %r is no image. Use one of: %s." % (path, ", ".join(KINDS)))
    elif not callable(getattr(plot, "savefig", None)):
        raise UserError("plot: a matplotlib figure or pyplot is needed, got %s." % type(plot).__name__)
    base = files.kept_at(run_dir, child)
    kept = _reserve(base, re.sub(r"[^\w.\-]+", "_", name).strip("._")[:80] or "image", ending)
    target = os.path.join(base, kept)
    if path is not None:
        files.store(path, target)
    else:
        try:
            plot.savefig(target, format="png")
        except BaseException:
            os.unlink(target)
            raise
    return kept


def _reserve(base: str, stem: str, ending: str) -> str:
    # Several processes may log images of one name: who creates the file owns its name.
    os.makedirs(base, exist_ok=True)
    number = 1
    while True:
        name = "%s%s%s" % (stem, "" if number == 1 else "_%d" % number, ending)
        try:
            os.close(os.open(os.path.join(base, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return name
        except FileExistsError:
            number += 1
