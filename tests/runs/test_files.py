"""Files of users are data: listed, shown inert, downloaded byte for byte, and never served as the studio's own page."""

import html
import io
import os
import pickle
import re
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from runs.browse import Leaf, image_size, preview, tree
from runs.models import Run
from runs.status import EndReason, RunStatus
from runs.zipstream import zipped
from studio.blobs import BlobStore
from studio.workspaces.models import Workspace
from tests.runs.factory import make_artifact, make_run, make_snapshot, put


def png(width: int, height: int, *, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", body or zlib.compress(b"\0" * (width + 1) * min(height, 10)))
        + chunk(b"IEND", b"")
    )


class Boom:
    def __reduce__(self) -> Any:
        return (_boom, ())


FIRED: list[int] = []


def _boom() -> None:
    FIRED.append(1)


SCRIPTED = b"<html><script>alert(document.cookie)</script></html>"
HOSTILE = {
    "outputs/page.html": SCRIPTED,
    "outputs/picture.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "outputs/page.xhtml": b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>",
    "outputs/notes.md": b"# hi\n<script>alert(1)</script>\n[x](javascript:alert(1))",
    "outputs/data.json": b'{"a": "</pre><script>alert(1)</script>"}',
    "outputs/table.csv": b"a,b\n<script>alert(1)</script>,=cmd|x\n",
    "outputs/note.ipynb": b'{"cells": [{"output_type": "display_data", "data": {"text/html": "<script>alert(1)</script>"}}]}',
    "outputs/model.pkl": pickle.dumps(Boom()),
    "outputs/fake.png": SCRIPTED,
    "outputs/picture.html": png(3, 2),
    "outputs/huge.png": png(200_000, 200_000),
    "outputs/deep.json": b"[" * 100_000,
    "outputs/empty.txt": b"",
    "outputs/latin.txt": b"\xe9t\xe9",
    "outputs/<script>alert(1)</script>.txt": b"name",
    "outputs/a b?c#d%2e%2e&e.txt": b"odd",
    "outputs/ünïcode 🙂.txt": b"emoji",
    'outputs/q"uote\n.txt': b"quote",
}


@pytest.fixture
def run(workspace: Workspace) -> Run:
    run = make_run(workspace, status=RunStatus.COMPLETED, reason=EndReason.EXITED)
    for path, data in HOSTILE.items():
        make_artifact(run, path, data)
    make_artifact(run, "outputs/link", None, skipped="a link that leaves outputs/ is not followed")
    return run


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def address(path: str, part: str = "outputs") -> str:
    return f"/vision/runs/1/{part}/{quote(path)}"


@pytest.mark.parametrize("path", HOSTILE)
def test_every_file_is_shown_inert(run: Run, reader_client: Client, path: str) -> None:
    response = reader_client.get(address(path))
    assert response.status_code == 200
    text = response.content.decode()
    assert "<script>alert" not in text and "javascript:alert" not in re.sub(r">[^<]*<", "><", text)
    assert response.headers["Content-Type"].startswith("text/html")
    assert "'unsafe-eval'" not in response.headers["Content-Security-Policy"]
    assert FIRED == []


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("query", ["", "?show=1"])
def test_every_file_leaves_as_a_download_or_as_a_picture_in_a_sandbox(
    run: Run, reader_client: Client, path: str, query: str
) -> None:
    response = reader_client.get(address(path, "raw/outputs") + query)
    assert body(response) == HOSTILE[path]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response.headers["Content-Length"] == str(len(HOSTILE[path]))
    shown = query and path == "outputs/picture.html"  # a picture whatever its name says
    assert response.headers["Content-Type"] == ("image/png" if shown else "application/octet-stream")
    disposition = response.headers["Content-Disposition"]
    assert disposition.startswith("inline" if shown else "attachment")
    assert "\n" not in disposition and disposition.count('"') == 2


def test_a_picture_with_giant_dimensions_is_a_tile_that_says_too_large(run: Run, reader_client: Client) -> None:
    text = html.unescape(reader_client.get(address("outputs/huge.png")).content.decode())
    assert "Too large to show" in text and "200,000 × 200,000 pixels is too large to show here." in text
    assert "<img" not in text


def test_a_picture_is_shown_from_its_sandbox(run: Run, reader_client: Client) -> None:
    text = reader_client.get(address("outputs/picture.html")).content.decode()
    assert 'src="/vision/runs/1/raw/outputs/outputs/picture.html?show=1"' in text


def test_what_was_not_collected_is_listed_with_the_reason(run: Run, reader_client: Client) -> None:
    text = html.unescape(reader_client.get(address("outputs/link")).content.decode())
    assert "a link that leaves outputs/ is not followed" in text
    assert reader_client.get(address("outputs/link", "raw/outputs")).status_code == 404


TRAVERSALS = [
    "../../etc/passwd", "..", "outputs/../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "%252e%252e%252fetc%252fpasswd",
    "/etc/passwd", "outputs/;/../x", "outputs\\..\\..\\etc\\passwd", "outputs/%00", "outputs/page.html/", "outputs/page.html/x",
    "outputs/PAGE.HTML", "outputs", "file:///etc/passwd", "outputs/page.html%00.png",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize("part", ["raw/outputs", "raw/snapshot", "outputs", "snapshot"])
def test_no_path_leads_out_of_the_rows(run: Run, reader_client: Client, path: str, part: str) -> None:
    response = reader_client.get(f"/vision/runs/1/{part}/{path}")
    if (part, path) == ("outputs", "outputs"):  # the folder itself is a page of the tree
        assert response.status_code == 200
    else:
        assert response.status_code == 404, path
    assert b"root:" not in body(response)


def test_all_outputs_come_as_one_zip(run: Run, reader_client: Client) -> None:
    response = reader_client.get("/vision/runs/1/outputs.zip")
    assert response.headers["Content-Disposition"].startswith('attachment; filename="digits-1-outputs.zip"')
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    archive = zipfile.ZipFile(io.BytesIO(body(response)))
    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist() if name != "MISSING.txt"} == HOSTILE
    assert b"is not followed" in archive.read("MISSING.txt")


def test_a_zip_leaves_out_names_that_would_leave_its_folder(workspace: Workspace) -> None:
    digest = put(workspace, b"x")
    names = ["../evil", "/abs", "a/../../b", "a\\..\\b", "ok%FF.txt", "ok\udcff.txt"]
    data = b"".join(zipped(BlobStore(workspace.pk), [Leaf(name, 1, digest) for name in names]))
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.namelist() == ["ok%FF.txt", "MISSING.txt"]
    assert archive.read("MISSING.txt").count(b"\n") == 5


def test_names_and_modes_are_in_a_zip_as_unpackers_expect_them(workspace: Workspace, tmp_path: Path) -> None:
    digest = put(workspace, b"x")
    names = ["plain.txt", "höhe/日本.txt", "odd\udcff\udce9.bin", "run me.sh"]
    leaves = [Leaf(name, 1, digest, mode=0o755 if name.endswith(".sh") else 0o644) for name in names]
    packed = tmp_path / "all.zip"
    packed.write_bytes(b"".join(zipped(BlobStore(workspace.pk), leaves)))
    with zipfile.ZipFile(packed) as archive:
        found = archive.infolist()
        assert archive.testzip() is None
        # With the flag it is UTF-8 everywhere. A byte that is not is spelled out.
        expected = ["plain.txt", "höhe/日本.txt", "odd%FF%E9.bin", "run me.sh"]
        assert [entry.filename for entry in found] == expected
        assert [bool(entry.flag_bits & 0x800) for entry in found] == [False, True, False, False]
        assert [entry.external_attr >> 16 & 0o777 for entry in found] == [0o644, 0o644, 0o644, 0o755]
    folder = tmp_path / "unpacked"
    done = subprocess.run(["unzip", "-q", packed, "-d", folder], capture_output=True, env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == sorted(expected)
    assert os.access(folder / "run me.sh", os.X_OK) and not (folder / "plain.txt").stat().st_mode & 0o111


def test_a_zip_is_made_while_it_is_sent(workspace: Workspace) -> None:
    data = os.urandom(3_000_000)
    digest = put(workspace, data)
    pieces = list(zipped(BlobStore(workspace.pk), [Leaf(f"{n}.bin", len(data), digest) for n in range(3)]))
    assert len(pieces) > 10 and max(map(len, pieces)) < 1_000_000
    assert zipfile.ZipFile(io.BytesIO(b"".join(pieces))).read("2.bin") == data


def test_the_snapshot_opens_with_its_script_in_colours(workspace: Workspace, reader_client: Client) -> None:
    make_run(workspace, files={"train.py": b"import os\nprint('<b>')\n", "a/b/c.txt": b"x", "z.bin": b"\0\1"})
    text = reader_client.get("/vision/runs/1/snapshot").content.decode()
    assert '<span class="p-kn">import</span>' in text and "&lt;b&gt;" in text and "<b>'" not in text
    assert 'id="L2"' in text and 'id="L3"' not in text
    for shown in ("a/b/c.txt", "z.bin", "3 files"):
        assert shown in text
    assert "It is not a text file." in reader_client.get("/vision/runs/1/snapshot/z.bin").content.decode()
    assert body(reader_client.get("/vision/runs/1/raw/snapshot/z.bin")) == b"\0\1"
    archive = zipfile.ZipFile(io.BytesIO(body(reader_client.get("/vision/runs/1/snapshot.zip"))))
    assert archive.namelist() == ["a/b/c.txt", "train.py", "z.bin"]


def test_two_snapshots_are_compared_line_by_line_and_word_by_word(workspace: Workspace, reader_client: Client) -> None:
    was = {"train.py": b"import a\nlr = 0.1\nprint(lr)\n", "gone.txt": b"x\n", "same.txt": b"s\n", "model.bin": b"\0\1"}
    now = {
        "train.py": b"import a\nlr = 0.2 # <b>\nprint(lr)\n",
        "new.txt": b"y\n",
        "same.txt": b"s\n",
        "model.bin": b"\0\2",
    }
    make_run(workspace, snapshot=make_snapshot(workspace, was))
    make_run(workspace, snapshot=make_snapshot(workspace, now))
    text = reader_client.get("/vision/runs/2/snapshot?diff=1").content.decode()
    files = text.count('<section class="card" aria-label=')
    assert files and f"{files} file{'s' if files > 1 else ''} changed from" in text
    assert re.findall(r'<section class="card" aria-label="([^"]+)">', text) == [
        "gone.txt",
        "model.bin",
        "new.txt",
        "train.py",
    ]
    assert "lr = <mark>0</mark>" not in text, "what is the same in a line is not marked"
    assert '<div class="sub"><i>2</i><i></i><b>−</b><code>lr = 0.<mark>1</mark></code></div>' in text
    assert "0.<mark>2 # &lt;b&gt;</mark></code>" in text.replace("</mark><mark>", ""), "and nothing in it is markup"
    assert "It is not a text file." in text
    assert "Same code as" in reader_client.get("/vision/runs/2/snapshot?diff=2").content.decode()
    assert 'value="1"' in reader_client.get("/vision/runs/2/snapshot").content.decode(), "the run before is offered"


@pytest.mark.parametrize("typed", ["99", "abc", "", "1" * 40, "<script>"])
def test_comparing_with_a_run_that_is_not_there_says_so_and_keeps_what_was_typed(
    workspace: Workspace, foreign_workspace: Workspace, reader_client: Client, typed: str
) -> None:
    make_run(workspace, snapshot=make_snapshot(workspace, {"train.py": b"1\n"}))
    Run.objects.filter(pk=make_run(foreign_workspace).pk).update(number=99)
    answer = reader_client.get("/vision/runs/1/snapshot", {"diff": typed})
    text = answer.content.decode()
    assert "There is no such run" in text and f'value="{html.escape(typed)}"' in text
    assert "<script>" not in text


def test_a_csv_shows_its_first_200_rows(workspace: Workspace) -> None:
    data = b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(500))
    found = preview(BlobStore(workspace.pk), Leaf("t.csv", len(data), put(workspace, data)))
    assert (found.kind, len(found.rows), found.rows[200], found.note) == (
        "table",
        201,
        ["199", "x"],
        "The first 200 rows are shown.",
    )


def test_large_text_is_not_shown_and_long_source_is_cut(workspace: Workspace) -> None:
    store = BlobStore(workspace.pk)
    large = b"x\n" * 2_600_000
    assert preview(store, Leaf("t.txt", len(large), put(workspace, large))).kind == "large"
    middle = b"x = 1\n" * 200_000
    found = preview(store, Leaf("t.py", len(middle), put(workspace, middle)))
    assert found.kind == "source" and "first 512 KB" in found.note


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (png(3, 2), ("png", 3, 2)),
        (b"GIF89a" + struct.pack("<HH", 7, 5) + b"\0" * 10, ("gif", 7, 5)),
        (
            b"\xff\xd8\xff\xe0\x00\x10"
            + b"\0" * 14
            + b"\xff\xc2\x00\x11\x08"
            + struct.pack(">HH", 20, 30)
            + b"\0" * 20,
            ("jpeg", 30, 20),
        ),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x09\0\0\x04\0\0" + b"\0" * 8, ("webp", 10, 5)),
        (b"\xff\xd8\xff", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"RIFF\0\0\0\0WEBPVP8 ", None),
        (b"<svg", None),
        (b"", None),
    ],
)
def test_pictures_are_known_by_their_first_bytes(head: bytes, expected: Any) -> None:
    assert image_size(head) == expected


def test_a_large_tree_opens_only_the_way_to_the_chosen_file() -> None:
    leaves = [Leaf(f"d{n % 50}/sub/f{n}.txt", 1, "x") for n in range(50_000)]
    rows = tree(leaves, "d7/sub/f7.txt")
    assert len([row for row in rows if row.folder]) == 51
    assert [row.path for row in rows if row.folder and row.open] == ["d7", "d7/sub"]
    assert next(row for row in rows if row.path == "d7").files == 1000
    flat = tree([Leaf(f"f{n:05}.txt", 1, "x") for n in range(5000)], "f04999.txt")
    assert flat[-1].more == 3999 and any(row.path == "f04999.txt" for row in flat)


def test_a_run_that_goes_on_says_when_outputs_come(workspace: Workspace, reader_client: Client) -> None:
    make_run(workspace, status=RunStatus.RUNNING)
    assert b"Outputs come at the end" in reader_client.get("/vision/runs/1/outputs").content
    assert reader_client.get("/vision/runs/1/outputs.zip").status_code == 404


def test_numbered_names_are_in_the_order_of_their_numbers():
    from runs.browse import natural

    names = ["epoch_10.pt", "epoch_2.pt", "Epoch_1.pt", "a", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a", "Epoch_1.pt", "epoch_2.pt", "epoch_10.pt"]
