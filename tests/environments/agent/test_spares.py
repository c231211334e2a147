"""Spare trees: the same folder as one laid out anew, whoever comes in between; made beside everything else, and never too many."""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from environments.agent import laying, processes, space, spares
from environments.agent.blobs import Blobs
from environments.agent.laying import Tree
from environments.agent.layout import Layout, Refused
from environments.host import Host
from environments.transports.local import LocalTransport
from tests.environments.agent.conftest import Runs
from tests.environments.agent.test_cleaning import KEEP_ALL, age
from tests.environments.agent.test_foreign import Crafted, interpreters
from tests.environments.agent.test_operations import manifest, ship
from tests.waiting import until

COUNT = 300
NAMES = [("ž ö.txt", 0o644, b"content"), ("日本/🙂.py", 0o755, b"x = 1\n")]


def project(count=COUNT, seed=0, changed=()):
    """(path, mode, bytes) of a project's files; those whose numbers are in `changed` are otherwise than without."""
    rng = random.Random(seed)
    made = [(f"p{n % 9}/f{n}.py", 0o755 if n % 5 == 0 else 0o644, rng.randbytes(n % 700)) for n in range(count)]
    return NAMES + [(path, mode, data + b"!" if n in changed else data) for n, (path, mode, data) in enumerate(made)]


def seen(folder):
    """Everything that can be told of what is in a folder, but times: path → kind, mode, links, bytes or target."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in folders + names:
            path = Path(place) / name
            facts = path.lstat()
            content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
            links = None if path.is_dir() else facts.st_nlink
            found[str(path.relative_to(folder))] = (facts.st_mode, links, content)
    return found


class Local:
    """Contents and spares of a root in this process."""

    def __init__(self, root):
        self.layout = Layout(str(root))
        self.layout.make()
        self.root = Path(root)
        self.blobs = Blobs(self.layout)
        self.spares = spares.Spares(self.layout, self.blobs)
        self.count = 0

    def ship(self, files, **others):
        text, digest = manifest(files, **others)
        for data in [*(data for _, _, data in files), text]:
            self.blobs._store(hashlib.sha256(data).hexdigest(), data)
        return digest

    def lay_out(self, digest):
        self.count += 1
        folder = self.root / "runs" / f".new-{self.count}"
        folder.mkdir()
        self.spares.lay_out(digest, str(folder))
        assert [path.name for path in folder.iterdir()] == ["code"]
        return folder / "code"

    def names(self):
        return sorted(path.name for path in (self.root / "spares").iterdir() if path.name != ".lock")


@pytest.fixture
def local(tmp_path):
    return Local(tmp_path / "root")


def is_new(code, marker="p0/f0.py"):
    """Whether a tree was laid out anew: a spare keeps the files it was made with."""
    return time.time_ns() - (code / marker).stat().st_mtime_ns < 60 * 10**9


def backdate(local, name):
    age(local.root / "spares" / name / "code", 1)


# -- one tree turned into another

PATHS = [
    f"{folder}{name}" for folder in ("", "a/", "a/b/", "a.b/", "c/d/e/") for name in ("x", "y", "z", "a", "a.b", "b")
]
CONTENTS = [b"", b"1", b"22", b"x" * 5000, b"y" * (laying._CLONED + 5)]


@st.composite
def trees(draw):
    """The manifest of a random small tree in which no path is both a file and a folder."""
    listed = {"v": 1, "files": [], "links": [], "dirs": []}
    taken: set[str] = set()
    folders: set[str] = set()
    for path in draw(st.lists(st.sampled_from(PATHS), unique=True, max_size=14)):
        parts = path.split("/")
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if path in folders or above & taken:
            continue
        kind = draw(st.sampled_from(["files", "files", "files", "links", "dirs"]))
        folders |= above
        if kind == "dirs":
            folders.add(path)
            listed["dirs"].append(path)
            continue
        taken.add(path)
        if kind == "links":
            listed["links"].append([path, draw(st.sampled_from(["x", "a", "y/z"]))])
        else:
            data = draw(st.sampled_from(CONTENTS))
            mode = draw(st.sampled_from([0o644, 0o755]))
            listed["files"].append([path, mode, len(data), hashlib.sha256(data).hexdigest()])
    return listed


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    local = Local(tmp_path_factory.mktemp("contents") / "root")
    for data in CONTENTS:
        local.blobs._store(hashlib.sha256(data).hexdigest(), data)
    return local


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=trees(), second=trees())
def test_a_tree_turned_into_another_is_that_tree(contents, first, second):
    place = contents.root / "runs"
    mended, anew = place / "mended", place / "anew"
    try:
        laying.lay_out(contents.blobs, Tree(first), str(mended))
        laying.mend(contents.blobs, Tree(first), Tree(second), str(mended))
        laying.lay_out(contents.blobs, Tree(second), str(anew))
        assert seen(mended) == seen(anew)
        assert {path for path, (mode, *_) in seen(anew).items() if mode & 0o170000 == 0o100000} == {
            entry[0] for entry in second["files"]
        }
    finally:
        shutil.rmtree(mended, ignore_errors=True)
        shutil.rmtree(anew, ignore_errors=True)


@pytest.mark.parametrize(
    "listed",
    [
        {"files": [["a", 0o644, 0, "0" * 64], ["a", 0o644, 1, "0" * 64]]},
        {"files": [["a", 0o644, 0, "0" * 64]], "links": [["a", "b"]]},
        {"dirs": ["a/../../b"]},
        {"dirs": ["."]},
        {"files": [["a\0/../b", 0o644, 0, "0" * 64]]},
        {"files": [["/a", 0o644, 0, "0" * 64]]},
        {"files": [["a/", 0o644, 0, "0" * 64]]},
        {"links": [["a", "/etc"]]},
        {"links": [["a/b", "../../c"]]},
    ],
)
def test_a_manifest_that_lists_a_path_twice_or_leads_out_is_refused(listed):
    with pytest.raises(Refused) as raised:
        Tree({"v": 1, **listed})
    assert raised.value.code == "bad_request"


# -- taken


def test_the_spare_of_a_snapshot_becomes_the_run_and_is_gone(local):
    digest = local.ship(project(), links=[["p1/link", "../p2"]], dirs=["hollow/inner"])
    first = seen(local.lay_out(digest))
    assert local.spares.make(digest)
    assert local.names() == [digest]
    backdate(local, digest)
    code = local.lay_out(digest)
    assert not is_new(code)
    assert seen(code) == first
    assert local.names() == []


def test_the_nearest_spare_is_mended_and_another_projects_left_alone(local):
    other = local.ship(project(seed=7))
    ours = local.ship(project(), dirs=["hollow"], links=[["link", "p1"]])
    for digest in (ours, other):
        assert local.spares.make(digest)
    backdate(local, ours)
    files = [(path, mode, data) for path, mode, data in project(changed=(3, 4)) if path != "p8/f8.py"]
    files = [(path, 0o755 if path == "p1/f1.py" else mode, data) for path, mode, data in files]
    changed = local.ship([*files, ("p8/f8.py/now a folder", 0o644, b"x")], links=[["link", "p2"], ["link2", "p1"]])
    plain = local.root / "plain"
    laying.lay_out(local.blobs, local.blobs.tree(changed), str(plain))
    code = local.lay_out(changed)
    assert not is_new(code)
    assert is_new(code, "p3/f3.py")
    assert seen(code) == seen(plain)
    assert local.names() == [other]


def test_files_that_find_no_room_in_a_spare_are_copied_when_it_is_taken(local, monkeypatch):
    monkeypatch.setattr(spares, "MOST_BYTES", 1 << 20)
    big = os.urandom(900_000), os.urandom(3_000_000)
    files = [*project(), ("big.bin", 0o755, big[0]), ("w/bigger.bin", 0o644, big[1])]
    digest = local.ship(files)
    assert local.spares.make(digest)
    held = local.root / "spares" / digest / "code"
    assert sum(path.stat().st_size for path in held.rglob("*") if path.is_file()) <= 1 << 20
    backdate(local, digest)
    code = local.lay_out(digest)
    assert not is_new(code)
    assert ((code / "big.bin").read_bytes(), (code / "w" / "bigger.bin").read_bytes()) == big


def test_without_contents_the_spare_stays_for_the_next_try(local):
    digest = local.ship(project())
    assert local.spares.make(digest)
    changed = local.ship(project(changed=(3,)))
    gone = hashlib.sha256(project(changed=(3,))[5][2]).hexdigest()
    (local.root / "blobs" / gone[:2] / gone).unlink()
    with pytest.raises(Refused) as raised:
        local.lay_out(changed)
    assert raised.value.code == "blobs_missing"
    assert local.names() == [digest]


def test_a_spare_of_before_the_last_start_of_the_machine_counts_no_more(local):
    digest = local.ship(project())
    assert local.spares.make(digest)
    about = local.root / "spares" / digest / "about.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "boot_id": "another"}))
    (local.root / "spares" / digest / "code" / "p0" / "f0.py").write_bytes(b"lost in a power cut")
    assert seen(local.lay_out(digest))["p0/f0.py"][2] != b"lost in a power cut"
    assert local.spares.make(digest), "it is made again"
    assert json.loads(about.read_text())["boot_id"] == processes.boot_id()


def test_of_many_that_want_the_same_spare_one_gets_it_and_all_get_the_same_files(local):
    digest = local.ship(project())
    expected = seen(local.lay_out(digest))
    for _ in range(5):
        assert local.spares.make(digest)
        backdate(local, digest)
        got = []

        def work(number):
            # As another agent would.
            other = spares.Spares(local.layout, Blobs(local.layout))
            folder = local.root / "runs" / f".new-t{number}"
            folder.mkdir()
            other.lay_out(digest, str(folder))
            got.append((is_new(folder / "code"), seen(folder / "code") == expected))  # noqa: B023
            shutil.rmtree(folder)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [(False, True)] + [(True, True)] * 5


# -- made


def test_few_files_a_full_disk_or_another_at_work_make_none(local, monkeypatch):
    small = local.ship(project(spares.LEAST_FILES // 2))
    assert not local.spares.make(small)
    digest = local.ship(project())
    with (local.root / "spares" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not local.spares.make(digest)
    for short in ({"free": 3 * 10**9}, {"free": 10**11, "files_free": 10}):
        found = {"free": 10**12, "total": 2 * 10**12, "files_free": 10**6, "files_total": 2 * 10**6, **short}
        with monkeypatch.context() as patch:
            patch.setattr(spares, "disk", lambda root, found=found: found)
            assert not local.spares.make(digest)
    assert local.names() == []
    assert local.spares.make(digest)
    assert not local.spares.make(digest), "there is one"


def test_the_newest_of_each_project_is_kept_and_never_more_than_three(local):
    digests = [local.ship(project(seed=seed)) for seed in range(5)]
    for digest in digests:
        assert local.spares.make(digest)
        time.sleep(0.02)  # the kernel's clock of changes goes in steps
    assert local.names() == sorted(digests[-3:])
    changed = local.ship(project(seed=4, changed=(1, 2)))
    assert local.spares.make(changed)
    assert local.names() == sorted([digests[2], digests[3], changed]), "an older one of the project became the new one"
    plain = local.root / "plain"
    laying.lay_out(local.blobs, local.blobs.tree(changed), str(plain))
    assert seen(local.root / "spares" / changed / "code") == seen(plain)


def test_one_that_stops_half_way_leaves_nothing_and_what_a_killed_one_left_is_swept(local):
    digest = local.ship(project())
    count = 0

    def go_on():
        nonlocal count
        count += 1
        if count > 100:
            raise spares.Stopped

    with pytest.raises(spares.Stopped):
        local.spares.make(digest, go_on)
    assert local.names() == []
    ruin = local.root / "spares" / f".new-{digest}-1"
    (ruin / "code").mkdir(parents=True)
    (ruin / "code" / "half").write_text("x")
    assert seen(local.lay_out(digest))
    assert local.spares.make(digest)
    assert local.names() == [digest]


def makers(root):
    """Processes that hold the lock under which spares are made."""
    lock = str((root / "spares" / ".lock").resolve())
    return [pid for pid in processes._pids() if pid != os.getpid() and lock in open_files(pid)]


def open_files(pid):
    found = []
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.append(str(descriptor.readlink()))
    return found


def test_the_agent_makes_one_behind_a_run_and_the_next_run_takes_it(runs):
    digest = ship(runs.host, project())
    first = runs.prepare(["/bin/true"], manifest=digest)
    place = runs.root / "spares" / digest
    until(place.is_dir)
    age(place / "code", 1)
    second = runs.start(
        [sys.executable, "-c", "import os; print(sum(len(n) for _, _, n in os.walk('.')))"], manifest=digest
    )
    assert not is_new(runs.folder(second) / "code")
    assert int(runs.finish(second)[1]) == COUNT + len(NAMES)
    assert seen(runs.folder(first) / "code") == seen(runs.folder(second) / "code")
    until(place.is_dir)  # and so on
    changed = ship(runs.host, project(changed=(9,)))
    until(lambda: not makers(runs.root))
    third = runs.prepare(["/bin/true"], manifest=changed)
    until((runs.root / "spares" / changed).is_dir)
    assert (runs.folder(third) / "code" / "p0" / "f9.py").read_bytes().endswith(b"!")
    assert [name for name in os.listdir(runs.root / "spares") if name != ".lock"] == [changed]  # noqa: PTH208


def test_when_the_agent_goes_the_making_ends_and_leaves_nothing(tmp_path):
    root = tmp_path / "root"
    with Host(LocalTransport(), str(root)) as host:
        runs = Runs.__new__(Runs)
        digest = ship(host, project(8_000))
        spec = runs.spec(["/bin/true"])
        host.prepare("runs", spec["attempt"], spec, digest)
        until(lambda: list((root / "spares").glob(".new-*/code/p8/*"))[:1])
        (pid,) = makers(root)
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        os.kill(pid, signal.SIGSTOP)
    with contextlib.suppress(ProcessLookupError):  # it may have been ended while it stood still
        os.kill(pid, signal.SIGCONT)
    until(lambda: not makers(root))
    assert [path.name for path in (root / "spares").iterdir()] == [".lock"]


def test_a_run_is_launched_and_watched_while_a_spare_is_made(runs):
    digest = ship(runs.host, project(8_000))
    runs.prepare(["/bin/true"], manifest=digest)
    until(lambda: makers(runs.root))
    attempt = runs.start(["/bin/echo", "x"])
    assert runs.finish(attempt)[1] == b"x\n"
    assert makers(runs.root), "the spare was done before it could be in the way: more files are needed here"
    until(lambda: not makers(runs.root), 60)
    assert (runs.root / "spares" / digest / "about.json").exists()


@pytest.mark.parametrize("python", interpreters(), ids=os.path.basename)
def test_every_python_makes_and_takes_spares_in_any_locale(tmp_path, python):
    runs = Runs.__new__(Runs)
    runs.root, runs.tokens = tmp_path / "ž 日🙂", {}
    runs.host = Host(Crafted(env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, python=python), str(runs.root))
    try:
        digest = ship(runs.host, project())
        first = runs.prepare(["/bin/true"], manifest=digest)
        until((runs.root / "spares" / digest).is_dir)
        age(runs.root / "spares" / digest / "code", 1)
        second = runs.prepare(["/bin/true"], manifest=digest)
        assert not is_new(runs.folder(second) / "code")
        assert seen(runs.folder(first) / "code") == seen(runs.folder(second) / "code")
    finally:
        runs.close()


# -- cleaned, counted


def test_spares_go_by_age_and_before_contents_and_are_never_counted_as_runs(runs):
    digest = ship(runs.host, project())
    runs.prepare(["/bin/true"], manifest=digest)
    place = runs.root / "spares" / digest
    until(place.is_dir)
    kinds = runs.host.usage(list(space.ALL))["kinds"]
    assert (kinds["spares"]["count"], kinds["runs"]["count"]) == (1, 1)
    assert kinds["spares"]["bytes"] > 100_000
    assert len(runs.host.list()["runs"]) == 1
    assert runs.host.clean(KEEP_ALL)["removed"]["spares"] == []
    age(runs.root / "blobs", 1)
    used = kinds["blobs"]["bytes"] + kinds["spares"]["bytes"] // 2
    done = runs.host.clean({**KEEP_ALL, "cache_bytes": used})
    assert (done["removed"]["spares"], done["removed"]["blobs"]) == ([digest], 0)
    assert done["freed"] > 100_000
    assert not place.exists()


def test_a_spare_that_nobody_took_for_days_goes(local, monkeypatch):
    from environments.agent import cleaning

    digest = local.ship(project())
    assert local.spares.make(digest)
    now = time.time()
    for days, gone in ((6, []), (8, [digest])):
        monkeypatch.setattr(cleaning.time, "time", lambda days=days: now + days * 86400)
        assert cleaning.Cleaner(local.layout, KEEP_ALL).clean()["removed"]["spares"] == gone


def test_cleanings_takings_and_makings_that_race_give_whole_trees(local):
    digest = local.ship(project())
    expected = seen(local.lay_out(digest))
    stop = threading.Event()
    errors = []

    def clean():
        with Host(LocalTransport(), str(local.root)) as host:
            while not stop.is_set():
                host.clean({**KEEP_ALL, "run_days": 0})

    def make():
        other = spares.Spares(local.layout, Blobs(local.layout))
        while not stop.is_set():
            try:
                other.make(digest)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=clean), threading.Thread(target=make)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            assert seen(local.lay_out(digest)) == expected
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# -- where the file system lays new folders


def test_folders_of_attempts_are_told_to_be_unrelated_where_the_file_system_listens(tmp_path):
    if not shutil.which("lsattr"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs lsattr, of e2fsprogs")
    root = tmp_path / "root"
    Layout(str(root)).make()
    listed = subprocess.run(
        ["lsattr", "-d", str(root / "runs"), str(root / "lib")], capture_output=True, text=True, check=False
    )
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(root)], capture_output=True, text=True, check=True
    ).stdout.strip()
    if kind == "ext2/ext3":
        assert ["T" in line.split()[0] for line in listed.stdout.splitlines()] == [True, False]
    Layout(str(root)).make()  # a second time changes nothing, and nowhere is it an error
