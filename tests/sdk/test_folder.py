"""The client's scan of a folder is the studio's scan: the same manifest, byte for byte."""

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runstead import gitignore
from runstead.errors import UserError
from runstead.folder import Folder

from runs import gitignore as studio_gitignore
from runs.scanning import scan


@pytest.fixture(autouse=True)
def cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_rules_are_one_text_in_two_places() -> None:
    assert Path(gitignore.__file__).read_bytes() == Path(studio_gitignore.__file__).read_bytes()


def both(folder: Path) -> Folder:
    ours, theirs = Folder(str(folder)), scan(folder)
    assert ours.data == theirs.manifest.data
    assert ours.digest == theirs.manifest.digest
    assert sorted(ours.skipped) == [tuple(item) for item in theirs.skipped]
    return ours


def test_every_kind_of_entry_is_taken_or_left_out_alike(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    for name in ("a/b", "empty/inner", ".git/objects", "venv/lib", "x/__pycache__", "only_link", "odd ü 名"):
        (folder / name).mkdir(parents=True)
    (folder / "train.py").write_text("print(1)\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o751)
    (folder / "venv/pyvenv.cfg").write_text("")
    (folder / "x/__pycache__/a.pyc").write_bytes(b"")
    (folder / "odd ü 名/é\n\t").write_text("")
    (folder / "a/b/large").write_bytes(os.urandom(3_000_000))
    (folder / "in").symlink_to("a/b/large")
    (folder / "absolute").symlink_to(folder.resolve() / "a")
    (folder / "out").symlink_to("../elsewhere")
    (folder / "only_link/out").symlink_to("/etc")
    (folder / "round").symlink_to("round")
    (folder / "sly").symlink_to("a/b/../../../x")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"bad-\xff")).write_text("")
    (folder / ".amlignore").write_bytes(b"\xef\xbb\xbf*.log\r\n!keep.log\r\n")
    (folder / ".gitignore").write_text("*.py\n")
    (folder / "a.log").write_text("")
    (folder / "keep.log").write_text("")
    found = both(folder)
    names = [entry[0] for entry in found.files]
    assert "train.py" in names and "keep.log" in names and "a.log" not in names
    assert ("run.sh", 0o755) in [entry[:2] for entry in found.files]


NAMES = st.sampled_from(["a", "b.py", "build", "data", "x y", "-", "é", "pyvenv.cfg", "__pycache__", "deep"])
PATHS = st.lists(NAMES, min_size=1, max_size=4)
RULES = st.lists(
    st.sampled_from(["*", "!*/", "!*.py", "build/", "/a", "data/**", "**/deep", "!data/a", "b*", "# c", ""]), max_size=4
)
KINDS = st.sampled_from(["file", "script", "folder", "link:a", "link:../b.py", "link:/etc", "link:deep/../data"])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.lists(st.tuples(PATHS, KINDS), max_size=12), rules=st.none() | RULES)
def test_any_tree_gives_the_same_manifest(
    tree: list[tuple[list[str], str]], rules: list[str] | None, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for parts, kind in tree:
        path = folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
            elif kind.startswith("link:"):
                path.symlink_to(kind[5:])
            else:
                path.write_text("/".join(parts))
                path.chmod(0o755 if kind == "script" else 0o600)
        except OSError:
            continue  # something else has that name already
    if rules is not None:
        (folder / ".runignore").write_text("\n".join(rules))
    both(folder)


def test_an_unchanged_folder_is_not_read_again_and_one_change_reads_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    for number in range(50):
        (folder / f"f{number}").write_text(str(number))
    deadline = time.monotonic() + 5
    while Folder(str(folder)).hashed and time.monotonic() < deadline:
        time.sleep(0.02)  # the stamps grow old enough to be trusted
    assert Folder(str(folder)).hashed == 0
    # The studio's own scan on this machine shares the cache.
    assert scan(folder).hashed_files == 0
    (folder / "f7").write_text("x")
    assert Folder(str(folder)).hashed == 1
    both(folder)


def test_a_folder_that_cannot_be_sent_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^source_directory: there is no folder"):
        Folder(str(tmp_path / "none"))
    deep = tmp_path
    for _ in range(101):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(UserError, match="more than 100 folders deep"):
        Folder(str(tmp_path))
