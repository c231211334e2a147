"""Each rule of a manifest: what breaks it is rejected, with the path, the rule and the fix; nothing is
repaired."""

import hashlib
import json
import time
import tracemalloc

import pytest

from runs.manifest import EMPTY, FileEntry, Manifest, SnapshotError, encode

A = hashlib.sha256(b"a").hexdigest()
B = hashlib.sha256(b"b").hexdigest()


def manifest(*paths: str, links: list[tuple[str, str]] = (), dirs: list[str] = ()) -> bytes:
    files = [FileEntry(path, 0o644, 1, A) for path in sorted(paths)]
    return encode(files, sorted(links), sorted(dirs))


def broken(data: bytes) -> SnapshotError:
    with pytest.raises(SnapshotError) as caught:
        Manifest.parse(data)
    assert caught.value.rule and caught.value.fix
    return caught.value


def test_a_plain_folder_passes_and_keeps_its_bytes():
    data = manifest("train.py", "pkg/a.py", "pkg/ä ü.txt", links=[("latest", "pkg/a.py")], dirs=["data", "pkg/empty"])
    parsed = Manifest.parse(data)
    assert parsed.data == data
    assert parsed.digest == hashlib.sha256(data).hexdigest()
    assert [entry.path for entry in parsed.files] == ["pkg/a.py", "pkg/ä ü.txt", "train.py"]
    assert parsed.size == 3
    assert Manifest.trusted(data) == parsed


def test_an_empty_folder_passes():
    assert Manifest.parse(manifest()).files == ()


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("../evil", "'..'"),
        ("a/../b", "'..'"),
        ("a/..", "'..'"),
        ("./a", "'.'"),
        ("a/./b", "'.'"),
        ("/etc/passwd", "absolute"),
        ("//server/share", "absolute"),
        ("C:\\x", "drive letter"),
        ("C:/x", "drive letter"),
        ("c:", "drive letter"),
        ("a\\b", "backslash"),
        ("..\\evil", "backslash"),
        ("", "empty"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("a\nb", "control character"),
        ("a\0b", "control character"),
        ("a\x7f", "control character"),
        ("a\x85b", "control character"),
        ("dir\x1b[2J/x", "control character"),
        ("x" * 256, "255"),
        ("ü" * 128, "255"),
        ("d/" + "x" * 256, "255"),
        ("/".join(["d" * 200] * 21), "4,096"),
        ("/".join(["d"] * 101), "deep"),
        ("/".join(["d"] * 5000), "deep"),
        ("\ud800", "none that a file can have"),
    ],
)
@pytest.mark.parametrize("where", ["files", "links", "dirs"])
def test_a_bad_name_is_rejected_wherever_it_stands(path, rule, where):
    entries = {"files": [], "links": [], "dirs": []}
    entries[where] = {"files": [[path, 0o644, 1, A]], "links": [[path, "x"]], "dirs": [path]}[where]
    data = json.dumps({"v": 1, **entries}, separators=(",", ":")).encode()
    assert rule in broken(data).rule


def test_the_limits_themselves_pass():
    long = "/".join(["d" * 200] * 20) + "/" + "e" * 60
    deep = "/".join(["d"] * 100)
    Manifest.parse(manifest("x" * 255, deep, long))


@pytest.mark.parametrize(
    "pair",
    [
        ("README", "readme"),
        ("straße", "STRASSE"),
        ("\u00e9", "e\u0301"),
        ("\u00c9", "e\u0301"),
        ("Data/a", "data/b"),
        ("é/a", "e\u0301/b"),
    ],
)
def test_names_that_meet_on_another_file_system_are_rejected(pair):
    error = broken(manifest(*pair))
    assert "case or Unicode form" in error.rule


def test_a_twin_among_links_and_folders_is_rejected():
    assert "case or Unicode" in broken(manifest("data", links=[("DATA", "x")])).rule
    assert "twice" in broken(manifest("data", dirs=["data"])).rule
    assert broken(encode([FileEntry("a", 0o644, 1, A)] * 2, [], [])).path == "a"


def test_a_file_below_a_file_or_a_link_is_rejected():
    assert "It is a file" in broken(manifest("a", "a/b")).rule
    assert "It is a link" in broken(manifest("a/b", links=[("a", "c")])).rule
    assert "It is a link" in broken(manifest("A/b", links=[("a", "c")])).rule
    assert "It is a link" in broken(manifest(links=[("a", "c"), ("a/b/c", "d")])).rule
    assert "empty folder" in broken(manifest("a/b", dirs=["a"])).rule


@pytest.mark.parametrize(
    ("links", "rule"),
    [
        ([("l", "/etc")], "absolute"),
        ([("l", "C:/x")], "absolute"),
        ([("l", "../x")], "out of the folder"),
        ([("d/l", "../../x")], "out of the folder"),
        ([("d/l", "x/../../../y")], "out of the folder"),
        ([("a", "b/.."), ("b", "c/d/../../..")], "out of the folder"),
        # The texts joined would stay inside: a/.. is the parent of what a points to.
        ([("x/a", ".."), ("x/b", "a/../../y")], "out of the folder"),
        ([("d/up", ".."), ("e", "d/up/../x")], "out of the folder"),
        ([("l", "l")], "circle"),
        ([("l", "m"), ("m", "l")], "circle"),
        ([("l", "")], "plain path"),
        ([("l", "a\\b")], "plain path"),
        ([("l", "a\nb")], "plain path"),
        ([("l", "x/" * 3000)], "plain path"),
    ],
)
def test_a_link_that_leads_out_is_rejected(links, rule):
    assert rule in broken(manifest(links=links)).rule


@pytest.mark.parametrize(
    "links",
    [
        [("latest", "models/7")],
        [("d/l", "../x")],
        [("d/self", "..")],
        [("dangling", "not/there")],
        [("a", "b"), ("b", "c/d"), ("c/d", "../e")],
    ],
)
def test_a_link_inside_passes(links):
    assert Manifest.parse(manifest(links=links)).links == tuple(sorted(links))


@pytest.mark.parametrize("mode", [0, 0o777, 0o4755, 0o600, "420", True, 420.0, None])
def test_a_mode_other_than_644_and_755_is_rejected(mode):
    assert "Mode" in broken(encode([["a", mode, 1, A]], [], [])).rule


@pytest.mark.parametrize("size", [-1, 1.0, True, "1", None, 2**53])
def test_a_size_that_is_no_number_of_bytes_is_rejected(size):
    assert "Size" in broken(encode([["a", 0o644, size, A]], [], [])).rule


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, A + "\n", None, 5])
def test_a_digest_that_is_no_sha256_is_rejected(digest):
    assert "SHA-256" in broken(encode([["a", 0o644, 1, digest]], [], [])).rule


def test_size_and_digest_must_agree():
    assert "contradict" in broken(encode([FileEntry("a", 0o644, 1, EMPTY)], [], [])).rule
    assert "contradict" in broken(encode([FileEntry("a", 0o644, 0, A)], [], [])).rule
    two = [FileEntry("a", 0o644, 1, A), FileEntry("b", 0o644, 2, A)]
    assert "same digest" in broken(encode(two, [], [])).rule


def test_entries_must_be_sorted_by_code_points():
    files = [FileEntry("b", 0o644, 1, A), FileEntry("a", 0o644, 1, B)]
    assert "listed after" in broken(encode(files, [], [])).rule
    # UTF-16 would sort these the other way round.
    Manifest.parse(manifest("\uff5e", "\U0001f600"))
    assert "listed after" in broken(encode([], [], ["b", "a"])).rule


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b'{"v":2,"files":[],"links":[],"dirs":[]}',
        b'{"v":true,"files":[],"links":[],"dirs":[]}',
        b'{"v":1,"files":[],"links":[]}',
        b'{"v":1,"files":[],"links":[],"dirs":[],"more":1}',
        b'{"v":1,"files":{},"links":[],"dirs":[]}',
        b'{"v":1,"files":[["a"]],"links":[],"dirs":[]}',
        b'{"v":1,"files":["abcd"],"links":[],"dirs":[]}',
        b'{"v":1,"files":[],"links":[["a"]],"dirs":[]}',
        b'{"v":1,"files":[],"links":[["a",1]],"dirs":[]}',
        b'{"v":1,"files":[],"links":[],"dirs":[1]}',
        b'{"v":1, "files":[],"links":[],"dirs":[]}',
        b'{"v":1,"files":[],"dirs":[],"links":[]}',
        b'{"v":1,"v":1,"files":[],"links":[],"dirs":[]}',
        b'{"v":1,"files":[],"links":[],"dirs":["\\u00e4"]}',
        b"[" * 100_000,
        b'{"v":1,"files":' + b"[" * 100_000,
    ],
)
def test_anything_but_the_one_form_is_rejected(data):
    broken(data)


def test_too_many_files_names_the_largest_folders(settings):
    settings.SNAPSHOT_MAX_FILES = 20
    paths = [f"data/{n}" for n in range(18)] + [f"src/{n}" for n in range(5)] + ["train.py"]
    error = broken(manifest(*paths))
    assert "24 files" in error.rule and "limit is 20" in error.rule
    assert "data/ (18 files)" in error.fix and "RUNSTEAD_SNAPSHOT_MAX_FILES" in error.fix


def test_too_many_bytes_names_the_largest_folders(settings):
    settings.SNAPSHOT_MAX_BYTES = 10_000
    files = [FileEntry("checkpoints/a", 0o644, 9_000, A), FileEntry("train.py", 0o644, 2_000, B)]
    error = broken(encode(files, [], []))
    assert "11 KB" in error.rule and "checkpoints (9.0 KB)" in error.fix


def many(count: int) -> bytes:
    entries = (b'["cache/%07d",420,0,"%s"]' % (n, EMPTY.encode()) for n in range(count))
    return b'{"v":1,"files":[' + b",".join(entries) + b'],"links":[],"dirs":[]}'


def test_a_million_files_are_refused_within_5_seconds():
    data = many(1_000_000)
    start = time.process_time()
    error = broken(data)
    assert time.process_time() - start < 5
    assert "1,000,000 files" in error.rule and "cache/" in error.fix


def test_far_too_many_files_are_refused_without_parsing_them(settings):
    settings.SNAPSHOT_MAX_FILES = 1000
    data = many(50_000)
    tracemalloc.start()
    broken(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
