"""Files that a script hands over by name: copied into the run's folder, from where the studio collects them."""

from __future__ import annotations

import os
import shutil

from .errors import RunsteadError, UserError
from .needed import file_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Tuple, Union

CHILDREN = ".children"
"""Folder below `artifacts/` with one folder for each of the script's children."""
COLLECTED = ("outputs", "logs")
"""Folders of the working directory that are collected as they are."""


def plain_name(name: Any) -> str:
    """The name of an artifact, with `/`. Raises UserError unless it is relative and plain."""
    if not isinstance(name, str):
        raise UserError("name: a text is needed, got %s." % type(name).__name__)
    name = name.replace(os.sep, "/")
    if name.startswith("./"):
        name = name[2:]
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or (os.sep != "/" and ":" in name):
        raise UserError("name: %r must be a relative path without '..', for example models/best.pt." % name[:200])
    if len(name) > 1024 or any(len(part.encode("utf-8", "surrogateescape")) > 255 for part in parts):
        raise UserError("name: at most 1,024 characters, and 255 bytes for each part.")
    if any(
        ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 or 0xD800 <= ord(letter) < 0xE000 or letter == "\\"
        for letter in name
    ):
        raise UserError(
            "name: %r holds a control character, a backslash or is not Unicode. Choose another." % name[:200]
        )
    return name


def kept_at(run_dir: str, child: str = "") -> str:
    """The folder of files that are kept by name, of the script or of one of its children."""
    return os.path.join(run_dir, "artifacts", CHILDREN, child) if child else os.path.join(run_dir, "artifacts")


def place(run_dir: str, name: str, child: str = "") -> Tuple[str, bool]:
    """Where a file of that name belongs, and whether it is an artifact that has to be announced.

    `outputs/…` and `logs/…` mean the folders of that name in the working directory, which are collected
    anyway. Of a child (by its key) every file has its place below `artifacts/`.
    """
    if child:
        return os.path.join(kept_at(run_dir, child), *name.split("/")), True
    if name.split("/", maxsplit=1)[0] in COLLECTED:
        return os.path.join(run_dir, "code", *name.split("/")), False
    return os.path.join(run_dir, "artifacts", *name.split("/")), True


def store(source: "Union[str, os.PathLike[str], IO[bytes]]", target: str) -> None:
    """Copy a file or stream to `target` at once: it appears whole or not at all. The same file is left alone."""
    if not hasattr(source, "read"):
        source = file_path("path_or_stream", source, "a path or an open file")
    temp = os.path.join(os.path.dirname(target), ".%s.%d.part" % (os.path.basename(target)[:200], os.getpid()))
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not hasattr(source, "read"):
            path = os.fspath(source)  # type: ignore[arg-type]
            if os.path.exists(target) and os.path.samefile(path, target):
                return
            with open(path, "rb") as reader, open(temp, "wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
        else:
            with open(temp, "wb") as writer:
                while True:
                    piece = source.read(1 << 20)  # type: ignore[union-attr]
                    if not piece:
                        break
                    writer.write(piece.encode() if isinstance(piece, str) else piece)
        os.replace(temp, target)
    except FileNotFoundError:
        raise UserError("path: there is no file %r. The working directory is %s." % (source, os.getcwd())) from None
    except OSError as error:
        raise RunsteadError("The file was not stored: %s" % error) from None
    finally:
        if os.path.exists(temp):
            os.unlink(temp)
