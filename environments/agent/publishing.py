"""Finished environments below `envs/`: each has a small file inside, written last by its build."""

import os

from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

MARK = ".runstead.json"


def size_of(folder: str) -> int:
    """Bytes that a folder takes on the disk, each hard-linked file counted once."""
    total, seen, todo = 0, set(), [folder]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
            elif found.st_nlink == 1 or (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total


def mark_used(root: str, program: bytes) -> None:
    """Note that a program of an environment was started, by the time of its mark."""
    envs = os.fsencode(os.path.join(root, "envs")) + b"/"
    if program.startswith(envs):
        try:
            os.utime(os.path.join(envs, program[len(envs) :].split(b"/", 1)[0], MARK.encode()))
        except OSError:
            pass


def listing(root: str) -> "List[Dict[str, Any]]":
    """Every ready environment whose interpreter is there: key, size in bytes, time of its last use."""
    envs, found = os.path.join(root, "envs"), []
    for key in sorted(os.listdir(envs)) if os.path.isdir(envs) else []:
        if key.startswith("."):
            continue  # about to be removed
        mark = os.path.join(envs, key, MARK)
        try:
            used_at = os.stat(mark).st_mtime
        except OSError:
            continue
        known = files.read_json(mark, files.MAX_RESULT) or {}
        if not os.access(str(known.get("python")), os.X_OK):
            continue  # its interpreter was taken away
        size = known.get("size")
        found.append(
            {
                "key": key,
                "size": size if isinstance(size, int) else size_of(os.path.join(envs, key)),
                "used_at": used_at,
            }
        )
    return found
