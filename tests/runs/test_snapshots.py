"""A folder becomes a snapshot and is read back the same; what is left out is named with the reason."""

import os
import socket
import subprocess
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs import gitinfo, scanning, snapshots
from runs.manifest import EMPTY, FileEntry, Manifest, SnapshotError, fold
from runs.models import Snapshot
from runs.scanning import HashCache, scan
from studio.blobs import SMALL, BlobStore
from tests.waiting import until

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def cache_home(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "digits"
    write(folder, {"train.py": "print(1)\n", "pkg/__init__.py": "", "pkg/model.py": "x = 1\n", "data/a.bin": "abc"})
    return folder


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def paths(folder: Path) -> list[str]:
    return [entry.path for entry in scan(folder).manifest.files]


def why(folder: Path) -> dict[str, str]:
    return dict(scan(folder).skipped)


def settled(*files: Path) -> None:
    """Wait until the time stamps are old enough to be trusted."""
    until(lambda: all(scanning._settled(path.stat()) for path in files), 5)


# From a folder to a row and back.


def test_a_folder_becomes_a_snapshot_that_reads_back(project, workspace, owner):
    row, found = snapshots.submit_folder(workspace, project, owner)
    assert (row.name, row.file_count, row.size, row.created_by) == ("digits", 4, 9 + 6 + 3, owner)
    assert row.digest == found.manifest.digest
    assert [entry.path for entry in snapshots.files(row)] == [
        "data/a.bin",
        "pkg/__init__.py",
        "pkg/model.py",
        "train.py",
    ]
    assert snapshots.read_file(row, "pkg/model.py") == b"x = 1\n"
    with pytest.raises(KeyError):
        snapshots.read_file(row, "nowhere.py")


def test_an_unchanged_folder_is_the_same_snapshot_and_nothing_is_read(project, workspace, owner):
    settled(*(path for path in project.rglob("*") if path.is_file()))
    first, _ = snapshots.submit_folder(workspace, project, owner)
    again, found = snapshots.submit_folder(workspace, project, owner)
    assert again == first
    assert (found.hashed_files, found.hashed_bytes) == (0, 0)


def test_after_one_change_one_file_is_read_and_stored(project, workspace, owner, monkeypatch):
    settled(*(path for path in project.rglob("*") if path.is_file()))
    snapshots.submit_folder(workspace, project, owner)
    write(project, {"pkg/model.py": "x = 2\n"})
    stored = []
    put_many = BlobStore.put_many

    def watched(self, contents):
        listed = list(contents)
        stored.extend(listed)
        return put_many(self, listed)

    monkeypatch.setattr(BlobStore, "put_many", watched)
    row, found = snapshots.submit_folder(workspace, project, owner)
    assert found.hashed_files == 1
    assert [data for _, data in stored] == [b"x = 2\n", found.manifest.data]
    assert snapshots.read_file(row, "pkg/model.py") == b"x = 2\n"
    assert Snapshot.objects.count() == 2


def test_a_large_file_is_streamed_and_a_twin_stored_once(project, workspace, owner):
    data = os.urandom(SMALL + 5)
    write(project, {"weights.bin": data, "copy/weights.bin": data})
    row, _ = snapshots.submit_folder(workspace, project, owner)
    assert snapshots.read_file(row, "copy/weights.bin") == data


def test_a_manifest_without_its_contents_is_refused_naming_a_file(project, workspace, owner):
    found = scan(project)
    with pytest.raises(snapshots.MissingContents) as caught:
        snapshots.create(workspace, found.manifest.data, owner)
    assert caught.value.path == "data/a.bin"
    assert len(caught.value.digests) == 4
    assert not Snapshot.objects.exists()


def test_the_contents_of_another_workspace_do_not_count(project, workspace, foreign_workspace, owner):
    snapshots.submit_folder(foreign_workspace, project, owner)
    with pytest.raises(snapshots.MissingContents):
        snapshots.create(workspace, scan(project).manifest.data, owner)


def test_a_size_that_its_content_does_not_have_is_refused(project, workspace, owner):
    snapshots.submit_folder(workspace, project, owner)
    files = [
        entry._replace(size=entry.size + 1) if entry.path == "train.py" else entry
        for entry in scan(project).manifest.files
    ]
    with pytest.raises(SnapshotError, match=r"train\.py.*10 bytes.*has 9"):
        snapshots.create(workspace, Manifest.build(files).data, owner)


def changing_after(monkeypatch, project: Path, files: dict[str, str | bytes]) -> None:
    def scan_then_write(folder):
        found = scan(folder)
        write(project, files)
        return found

    monkeypatch.setattr(snapshots, "scan", scan_then_write)


def test_a_file_that_changes_between_hashing_and_storing_is_named(project, workspace, owner, monkeypatch):
    changing_after(monkeypatch, project, {"train.py": "print(2)\n"})
    with pytest.raises(SnapshotError, match=r"train\.py.*changed"):
        snapshots.submit_folder(workspace, project, owner)
    assert not Snapshot.objects.exists()


def test_a_large_file_that_changes_is_named(project, workspace, owner, monkeypatch):
    write(project, {"big.bin": bytes(SMALL + 1)})
    changing_after(monkeypatch, project, {"big.bin": b"1" * (SMALL + 1)})
    with pytest.raises(SnapshotError, match=r"big\.bin.*changed"):
        snapshots.submit_folder(workspace, project, owner)


def test_a_file_that_keeps_changing_while_it_is_read_is_named(project, monkeypatch):
    read = os.read

    def growing(descriptor, count):
        block = read(descriptor, count)
        if block == b"print(1)\n" or block.startswith(b"print(1)\n#"):
            with (project / "train.py").open("a") as file:
                file.write("#")
        return block

    monkeypatch.setattr(scanning.os, "read", growing)
    with pytest.raises(SnapshotError, match=r"train\.py.*changes while it is read"):
        scan(project)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SnapshotError, match="no such folder"):
        scan(tmp_path / "nowhere")


# What is left out.


def test_always_left_out(project):
    write(
        project,
        {
            ".git/config": "",
            "pkg/__pycache__/model.pyc": "",
            ".ipynb_checkpoints/x": "",
            ".DS_Store": "",
            "pkg/.DS_Store": "",
            "env/pyvenv.cfg": "",
            "env/bin/python": "",
            "node_modules/x/index.js": "",
        },
    )
    assert paths(project) == ["data/a.bin", "node_modules/x/index.js", "pkg/__init__.py", "pkg/model.py", "train.py"]
    assert why(project) == {
        ".git/": "always left out",
        ".DS_Store": "always left out",
        ".ipynb_checkpoints/": "always left out",
        "pkg/.DS_Store": "always left out",
        "pkg/__pycache__/": "always left out",
        "env/": "a virtual environment",
    }


def test_one_ignore_file_counts_the_runignore_first(project):
    write(project, {".gitignore": "*.py\n", ".amlignore": "data/\n", ".runignore": "pkg/\n"})
    assert paths(project) == [".amlignore", ".gitignore", ".runignore", "data/a.bin", "train.py"]
    assert why(project) == {"pkg/": "pkg/ in .runignore"}
    (project / ".runignore").unlink()
    assert "data/a.bin" not in paths(project)
    write(project, {".amlignore": ""})
    assert "data/a.bin" in paths(project) and "train.py" in paths(project)
    (project / ".amlignore").unlink()
    assert paths(project) == [".gitignore", "data/a.bin"]


def test_an_ignore_file_below_the_root_is_an_ordinary_file(project):
    write(project, {"pkg/.gitignore": "*.py\n"})
    assert "pkg/model.py" in paths(project) and "pkg/.gitignore" in paths(project)


def test_the_rules_are_git_s_own(project):
    rules = "*.log\n!keep.log\n/data/*\n!/data/keep\ndeep/**/x\nout[12]\n\\#odd\n trailing \nfolder/\n"
    tree = [
        "a.log",
        "keep.log",
        "b/keep.log",
        "data/keep",
        "data/x",
        "deep/x",
        "deep/a/b/x",
        "out1/f",
        "out3",
        "#odd",
        "folder/f",
        "b/folder",
    ]
    write(project, {".gitignore": rules, **dict.fromkeys(tree, "")})
    subprocess.run(["git", "init", "-q", project], check=True)
    listed = subprocess.run(
        ["git", "-C", project, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        check=True,
    )
    assert paths(project) == sorted(listed.stdout.decode().split("\0")[:-1])


def test_links_inside_are_kept_and_others_left_out(project, tmp_path):
    (project / "latest").symlink_to("pkg/model.py")
    (project / "pkg/up").symlink_to("../data")
    (project / "here").symlink_to(project / "train.py")
    (project / "out").symlink_to("../elsewhere")
    (project / "etc").symlink_to("/etc")
    (project / "pkg/sly").symlink_to("up/../..")
    found = scan(project)
    assert found.manifest.links == (("here", "train.py"), ("latest", "pkg/model.py"), ("pkg/up", "../data"))
    assert dict(found.skipped) == {
        "etc": "The link is absolute",
        "out": "The link leads out of the folder",
        "pkg/sly": "The link leads out of the folder",
    }
    Manifest.parse(found.manifest.data)


def test_pipes_and_sockets_are_left_out(project, monkeypatch):
    os.mkfifo(project / "pipe")
    monkeypatch.chdir(project)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        assert why(project) == {"pipe": "a named pipe", "sock": "a socket"}


def test_names_that_are_no_utf_8_are_kept_and_shown_by_their_bytes(project, workspace, owner):
    for name in (b"bad\xff", b"\xe9t\xe9/\xc3", "été".encode()):
        path = project / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name)
    (project / "link").symlink_to(os.fsdecode(b"bad\xff"))
    row, found = snapshots.submit_folder(workspace, project, owner)
    data = found.manifest.data
    assert b'["bad\\udcff",' in data and b'["\\udce9t\\udce9/\\udcc3",' in data
    assert Manifest.parse(data).files == found.manifest.files
    names = [entry.path for entry in snapshots.files(row)]
    assert [name for name in names if not name.isascii() or "\\" in name] == ["bad\\xff", "été", "\\xe9t\\xe9/\\xc3"]
    assert snapshots.read_file(row, "bad\\xff") == b"bad\xff"
    assert snapshots.manifest_of(row).links == (("link", "bad\\xff"),)


@pytest.mark.parametrize("name", ["\ud800", "a\udc7f", "\udcc3\udca9"], ids=ascii)
def test_a_name_that_is_not_the_one_text_of_its_bytes_is_refused(name):
    entry = FileEntry(name, 0o644, 0, EMPTY)
    with pytest.raises(SnapshotError, match="none that a file can have"):
        Manifest.build([entry]).check()


def test_empty_folders_are_kept(project):
    (project / "empty/inner").mkdir(parents=True)
    write(project, {"cache/__pycache__/x": ""})
    assert scan(project).manifest.dirs == ("cache", "empty/inner")


def test_the_execute_bit_is_kept_and_nothing_else_of_the_mode(project):
    (project / "train.py").chmod(0o700)
    (project / "data/a.bin").chmod(0o400)
    modes = {entry.path: entry.mode for entry in scan(project).manifest.files}
    assert (modes["train.py"], modes["data/a.bin"]) == (0o755, 0o644)


def test_a_folder_5000_deep_is_refused_at_once(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    with pytest.raises(SnapshotError, match="deep"):
        scan(tmp_path)


# The cache of digests.


def test_a_change_of_the_same_size_within_the_clock_s_tick_is_seen(project):
    train = project / "train.py"
    for number in range(20):
        train.write_text(f"print({number % 10})\n")
        before = scan(project).manifest
        train.write_text(f"print({(number + 1) % 10})\n")
        assert scan(project).manifest != before


def test_a_change_that_keeps_size_and_time_is_seen_by_its_inode_change_time(project):
    train = project / "train.py"
    settled(train)
    before, facts = scan(project).manifest, train.stat()
    train.write_text("print(2)\n")
    os.utime(train, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert train.stat().st_mtime_ns == facts.st_mtime_ns
    assert scan(project).manifest != before


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"runstead hashes 0\0a\0b\0", b"runstead hashes 1\0train.py"])
def test_a_damaged_cache_costs_time_only(project, damage):
    cache = HashCache.of(project)
    cache.path.parent.mkdir(parents=True, exist_ok=True)
    cache.path.write_bytes(damage)
    assert scan(project).hashed_files == 4


def test_a_cache_that_cannot_be_written_costs_time_only(project, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert len(scan(project).manifest.files) == 4


# Any tree.

NAME = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1, max_size=12
).filter(lambda name: name not in {".", ".."} and len(name.encode()) <= 200)
TREE = st.recursive(st.binary(max_size=200), lambda inner: st.dictionaries(NAME, inner, max_size=5), max_leaves=15)


def lay(folder: Path, tree: dict, prefix: str = "") -> dict[str, bytes]:
    """Write a tree, leaving out names that meet another one; return what was written."""
    made, seen = {}, set()
    for name, inner in tree.items():
        known = fold(name) in seen or name.casefold() in {
            ".git",
            "__pycache__",
            "pyvenv.cfg",
            ".gitignore",
            ".ds_store",
        }
        if known or (not prefix and name[1:2] == ":") or unicodedata.normalize("NFC", name) in {".", ".."}:
            continue
        seen.add(fold(name))
        if isinstance(inner, dict):
            (folder / name).mkdir()
            made.update(lay(folder / name, inner, f"{prefix}{name}/"))
        else:
            (folder / name).write_bytes(inner)
            made[prefix + name] = inner
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(NAME, TREE, max_size=6))
def test_scan_then_store_then_read_back_is_the_identity(tree, workspace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    made = lay(folder, tree)
    row, found = snapshots.submit_folder(workspace, folder, None)
    assert found.skipped == ()
    assert Manifest.parse(found.manifest.data) == found.manifest
    assert {entry.path: snapshots.read_file(row, entry.path) for entry in snapshots.files(row)} == made
    assert snapshots.create(workspace, found.manifest.data, None) == row
    everything = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())
    }
    assert set(found.manifest.dirs) == everything


# Speed, beside the floor of the same machine.


def test_ten_thousand_files_are_scanned_again_within_a_few_times_the_walk(tmp_path):
    folder = tmp_path / "big"
    for number in range(100):
        write(folder, {f"p{number}/f{n}.py": str(number * n) for n in range(100)})
    settled(folder / "p99/f99.py")
    scan(folder)

    def walk() -> float:
        start = time.perf_counter()
        for inner, _, names in os.walk(folder):
            for name in names:
                Path(inner, name).stat()
        return time.perf_counter() - start

    def again() -> float:
        start = time.perf_counter()
        assert scan(folder).hashed_files == 0
        return time.perf_counter() - start

    assert min(again() for _ in range(5)) < 6 * min(walk() for _ in range(5)) + 0.1


# Facts of git.


@pytest.fixture
def repository(project, monkeypatch) -> Path:
    for name, value in {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.test",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.test",
    }.items():
        monkeypatch.setenv(name, value)
    git(project, "init", "-q", "-b", "main")
    git(project, "remote", "add", "origin", "https://ada:s3cret@example.test/lab/digits.git")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    return project


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_git_facts_become_properties_with_credentials_masked(repository):
    commit = git(repository, "rev-parse", "HEAD")
    address = "https://***@example.test/lab/digits.git"
    assert gitinfo.gitinfo(repository) == {
        "azureml.git.repository_uri": address,
        "azureml.git.branch": "main",
        "azureml.git.commit": commit,
        "azureml.git.dirty": "False",
        "mlflow.source.git.repoURL": address,
        "mlflow.source.git.branch": "main",
        "mlflow.source.git.commit": commit,
    }


def test_dirty_looks_at_the_folder_only(repository):
    write(repository, {"data/new": "x"})
    assert gitinfo.gitinfo(repository)["azureml.git.dirty"] == "True"
    assert gitinfo.gitinfo(repository / "pkg")["azureml.git.dirty"] == "False"


def test_outside_a_repository_nothing_is_stored(project):
    assert gitinfo.gitinfo(project) == {}


def test_a_repository_without_a_commit_or_on_no_branch_has_fewer_facts(project, repository, tmp_path):
    git(repository, "checkout", "-q", "--detach")
    assert "azureml.git.branch" not in gitinfo.gitinfo(repository)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q", "-b", "main")
    assert gitinfo.gitinfo(fresh) == {
        "azureml.git.branch": "main",
        "azureml.git.dirty": "False",
        "mlflow.source.git.branch": "main",
    }


def test_variables_override_the_facts(repository, monkeypatch):
    monkeypatch.setenv("AZUREML_GIT_BRANCH", "release")
    assert gitinfo.gitinfo(repository)["azureml.git.branch"] == "release"


def test_submitting_a_folder_runs_nothing_that_its_repository_names(repository, tmp_path):
    trap, mark = tmp_path / "trap.sh", tmp_path / "executed"
    trap.write_text(f"#!/bin/sh\ntouch {mark}\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "filter.evil.clean", str(trap))
    write(repository, {".gitattributes": "* filter=evil\n", "train.py": "print(3)\n"})
    gitinfo.gitinfo(repository)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("https://token@example.test/a.git", "https://***@example.test/a.git"),
        ("https://u:p@example.test/a.git", "https://***@example.test/a.git"),
        ("https://example.test/a.git?private_token=1#x", "https://example.test/a.git"),
        ("ssh://git@example.test/a.git", "ssh://git@example.test/a.git"),
        ("ssh://git:pw@example.test/a.git", "ssh://git:***@example.test/a.git"),
        ("git@example.test:a.git", "git@example.test:a.git"),
        ("https://u:p@ss@example.test/a.git", "https://***@example.test/a.git"),
        ("/srv/a.git", "/srv/a.git"),
    ],
)
def test_credentials_in_an_address_are_masked(address, masked):
    assert gitinfo.mask(address) == masked


def test_facts_from_elsewhere_are_checked():
    facts = {"branch": "main\n", "commit": 5, "dirty": "x" * 3000, "evil": "1", "repository_uri": "https://a:b@c/d"}
    assert gitinfo.properties(facts) == {
        "azureml.git.repository_uri": "https://***@c/d",
        "mlflow.source.git.repoURL": "https://***@c/d",
    }
