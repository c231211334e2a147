"""Folders with rude contents: names of any bytes, links, bits, empty folders; written down, and read back exactly."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from runs.manifest import SnapshotError, check_name, fold

Tree = dict[bytes, "tuple[str, Any]"]
Plan = list["tuple[list[bytes], tuple[str, Any]]"]

# Any bytes but those that the rules refuse.
LETTERS = sorted(set(range(0x20, 0x100)) - set(b"/\\\x7f"))
RUDE = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=12).map(bytes)
TEXTS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=8
).map(str.encode)
PLAIN = st.sampled_from(
    [b"a", b"b.py", b"-rf", b"$HOME", b"it's", b'"', b" x ", b"*", b"data", b".hidden", b"\xff\xfe", b"con.txt"]
)
# Names that mean something by themselves, or are the script's own.
SPECIAL = {
    b".git", b"__pycache__", b".ipynb_checkpoints", b".DS_Store", b"pyvenv.cfg", b"outputs", b"logs", b".runignore", b".amlignore",
    b".gitignore", b"train.py",
}  # fmt: skip
LARGE = 1_300_000
"""Bytes above which a content travels by itself."""


def allowed(name: bytes) -> bool:
    try:
        check_name(os.fsdecode(name))
    except SnapshotError:
        return False
    return name not in SPECIAL


PART = st.one_of(PLAIN, RUDE, TEXTS).filter(allowed)
KIND = st.one_of(
    st.tuples(st.just("file"), st.tuples(st.binary(max_size=200), st.booleans())),
    st.tuples(st.just("file"), st.tuples(st.integers(0, 255).map(lambda byte: bytes([byte]) * LARGE), st.booleans())),
    st.tuples(st.just("empty"), st.none()),
    st.tuples(st.just("link"), PART),
)
PLANS = st.lists(st.tuples(st.lists(PART, min_size=1, max_size=3), KIND), max_size=10)


def plant(root: Path, plan: Plan) -> None:
    """Write a plan down, without what one file system could not hold at once: the rules refuse that, which other tests see to."""
    taken = {"train.py": "train.py"}  # folded → as it is
    for parts, (kind, what) in plan:
        names = [os.fsdecode(b"/".join(parts[:count])) for count in range(1, len(parts) + 1)]
        path = root / names[-1]
        if any(taken.get(fold(name), name) != name for name in names) or os.path.lexists(path):
            continue
        if any((root / name).is_symlink() or (root / name).is_file() for name in names[:-1]):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(os.fsdecode(what))
                if in_a_circle(path):
                    path.unlink()  # refused, which another test sees to
                    continue
            elif kind == "empty":
                path.mkdir()
            else:
                path.write_bytes(what[0])
                path.chmod(0o750 if what[1] else 0o640)
        except OSError:
            continue  # the name is too long here
        taken.update({fold(name): name for name in names})


def in_a_circle(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def tree_of(root: Path) -> Tree:
    """Every entry below a folder, by the bytes of its path: content and execute bit, target, or an empty folder."""
    found: Tree = {}
    for place, folders, files in os.walk(root):
        for path in (Path(place, name) for name in [*folders, *files]):
            name = os.fsencode(path.relative_to(root))
            if path.is_symlink():
                found[name] = ("link", os.fsencode(path.readlink()))
            elif path.is_dir():
                if not any(path.iterdir()):
                    found[name] = ("empty", None)
            else:
                found[name] = ("file", (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR)))
    return found
