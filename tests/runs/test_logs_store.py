"""Bytes of a log go in at their offset and come out the same, live and sealed."""

import hashlib
import os
import struct
import tracemalloc

import pytest
import zstandard
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from environments.models import Build
from runs import logs
from runs.logs.problems import count
from runs.logs.search import next_problem, search
from runs.models import LogChunk, LogStream
from studio.blobs import BlobStore
from tests.runs.factory import make_target

LINES = b"".join(b"line %d of the log\n" % number for number in range(1, 30_001))


@pytest.fixture
def stream(workspace) -> LogStream:
    build = Build.objects.create(target=make_target(workspace), key="k")
    return LogStream.objects.create(build=build)


@pytest.fixture
def store(workspace) -> BlobStore:
    return BlobStore(workspace.pk)


def put(stream: LogStream, *pieces: bytes, times: bytes = b"") -> None:
    for piece in pieces:
        with transaction.atomic():
            logs.append(stream, stream.size, piece, times)
        times = b""


def entries(*pairs: tuple[int, float]) -> bytes:
    return b"".join(struct.pack("<Qd", *pair) for pair in pairs)


def whole(stream: LogStream) -> bytes:
    return b"".join(logs.Reader(stream).iter())


def test_bytes_that_are_there_are_dropped_and_a_gap_is_refused(stream):
    put(stream, b"hello ")
    assert logs.append(stream, 3, b"lo world\n") == 12
    assert logs.append(stream, 0, b"hello") == 12
    with pytest.raises(logs.LogGap, match=r"12 bytes of the log are here.*not at 13"):
        logs.append(stream, 13, b"x")
    assert whole(stream) == b"hello world\n"
    assert LogStream.objects.get(pk=stream.pk).size == 12


def test_two_writers_with_the_same_cursor_cannot_both_append(stream):
    other = LogStream.objects.get(pk=stream.pk)
    put(stream, b"one\n")
    with pytest.raises(logs.LogGap):
        logs.append(other, 0, b"two\n")
    assert whole(LogStream.objects.get(pk=stream.pk)) == b"one\n"


def test_one_line_a_second_does_not_make_a_row_each(stream):
    for number in range(500):
        put(stream, b"step %d\n" % number)
    assert stream.chunks.count() == 1
    assert stream.lines == 500


def test_large_data_is_split_into_chunks_of_a_megabyte(stream):
    data = os.urandom(2_500_000)
    put(stream, b"small\n", data)
    assert max(stream.chunks.values_list("length", flat=True)) <= 1024 * 1024
    assert stream.chunks.count() == 3
    assert whole(stream) == b"small\n" + data


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400) | st.text("ab\n\r\x1b[31m", max_size=400).map(str.encode), data_cuts=st.data())
def test_any_split_of_appends_reads_back_the_same(stream, store, monkeypatch, data, data_cuts):
    monkeypatch.setattr("runs.logs.store.CHUNK", 64)
    monkeypatch.setattr("runs.logs.store.SMALL", 16)
    LogChunk.objects.all().delete()
    LogStream.objects.filter(pk=stream.pk).update(size=0, lines=0, errors=0, warnings=0, sealed="", index=b"")
    stream.refresh_from_db()
    cuts = sorted(data_cuts.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    put(stream, *(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)))
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    for _ in ("live", "sealed"):
        reader = logs.Reader(LogStream.objects.get(pk=stream.pk))
        assert b"".join(reader.iter()) == data
        assert logs.digest(stream) == (len(data), hashlib.sha256(data).hexdigest())
        assert reader.count == len(expected)
        shown = reader.lines(1, 1000)
        assert [data[line.offset : line.offset + line.size] for line in shown] == expected
        assert [line.number for line in shown] == list(range(1, len(expected) + 1))
        for line in shown:
            assert reader.lines(line.number, 1) == [line]
            assert reader.line_at(line.offset) == line.number
        logs.seal(stream, store)


def test_a_sealed_log_is_one_valid_zst_file_and_its_chunks_are_gone(stream, store):
    put(stream, *(LINES[at : at + 50_000] for at in range(0, len(LINES), 50_000)), times=entries((0, 1000.5)))
    logs.seal(stream, store)
    assert not stream.chunks.exists()
    with store.open(stream.sealed) as file:
        unpacked = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    assert unpacked == LINES
    fresh = LogStream.objects.get(pk=stream.pk)
    line = logs.Reader(fresh).lines(20_000, 1)[0]
    assert (line.text, line.time) == (b"line 20000 of the log", 1000.5)
    logs.seal(fresh, store)
    assert whole(fresh) == LINES


def test_a_reader_that_was_open_while_the_log_was_sealed_goes_on(stream, store):
    put(stream, os.urandom(3_000_000))
    before = whole(stream)
    pieces = logs.Reader(LogStream.objects.get(pk=stream.pk)).iter()
    first = next(pieces)
    logs.seal(stream, store)
    assert first + b"".join(pieces) == before


def test_a_missing_chunk_is_said_and_never_read_over(stream, store):
    put(stream, os.urandom(3_000_000))
    stream.chunks.order_by("offset")[1].delete()
    with pytest.raises(logs.LogLost, match="1,048,576 on are missing"):
        whole(stream)
    with pytest.raises(logs.LogLost):
        logs.seal(stream, store)
    assert stream.chunks.count() == 2


def test_a_reader_sees_the_log_as_it_was(stream):
    put(stream, b"one\n")
    reader = logs.Reader(LogStream.objects.get(pk=stream.pk))
    put(stream, b"two\n")
    assert [line.text for line in reader.lines(1, 10)] == [b"one"]
    assert b"".join(reader.iter()) == b"one\n"


@pytest.mark.parametrize("sealed", [False, True])
def test_lines_from_anywhere_in_the_log(stream, store, sealed):
    put(stream, *(LINES[at : at + 70_001] for at in range(0, len(LINES), 70_001)))
    if sealed:
        logs.seal(stream, store)
    reader = logs.Reader(stream)
    for first in (1, 2, 1000, 14_999, 29_990, 30_000):
        found = reader.lines(first, 20)
        assert [line.text for line in found] == [
            b"line %d of the log" % n for n in range(first, min(first + 20, 30_001))
        ]
    assert reader.lines(30_001, 10) == []
    assert [line.number for line in reader.tail(2)] == [29_999, 30_000]


def test_times_belong_to_the_line_that_they_were_written_with(stream, store):
    put(stream, b"a\nb\n", times=entries((0, 10.0), (2, 11.0), (4, 12.0)))
    put(stream, b"c\n" * 40_000, b"d\n", times=b"")
    for _ in ("live", "sealed"):
        reader = logs.Reader(stream)
        assert [line.time for line in reader.lines(1, 3)] == [10.0, 11.0, 12.0]
        assert reader.tail(1)[0].time == 12.0
        logs.seal(stream, store)


def test_entries_of_later_bytes_wait_in_the_last_chunk(stream):
    put(stream, b"a\n" * 600_000, times=entries((0, 1.0), (1_100_000, 2.0), (1_200_000, 3.0)))
    put(stream, b"late\n")
    reader = logs.Reader(stream)
    assert reader.lines(1, 1)[0].time == 1.0
    assert reader.lines(550_002, 1)[0].time == 2.0
    assert reader.tail(1)[0].time == 3.0


def test_times_that_come_after_their_bytes_find_their_lines(stream, store):
    put(stream, b"a\n" * 1_500_000)
    put(stream, b"end\n", times=entries((0, 1.0), (1_500_000, 2.0), (2_500_000, 3.0), (3_000_000, 4.0)))
    for _ in ("live", "sealed"):
        reader = logs.Reader(LogStream.objects.get(pk=stream.pk))
        found = [reader.lines(line, 1)[0].time for line in (1, 750_000, 750_001, 1_240_000, 1_250_001, 1_500_001)]
        assert found == [1.0, 1.0, 2.0, 2.0, 3.0, 4.0]
        logs.seal(stream, store)


@pytest.mark.parametrize(
    ("data", "text", "folded"),
    [
        (b"10%\r20%\r30%\n", b"30%", 2),
        (b"\r10%\r20%\r30%\n", b"30%", 2),
        (b"windows\r\n", b"windows", 0),
        (b"10%\r20%\r\n", b"20%", 1),
        (b"10%\r20%\r\x1b[K\n", b"20%", 2),
        (b"plain\n", b"plain", 0),
        (b"\r\n", b"", 0),
    ],
)
def test_updates_of_a_progress_bar_collapse_to_the_last_one(stream, data, text, folded):
    put(stream, data)
    line = logs.Reader(stream).lines(1, 1)[0]
    assert (line.text, line.folded, line.size) == (text, folded, len(data) - 1)


def test_a_million_carriage_returns_are_one_line(stream):
    put(stream, b"".join(b"\r%d of 1000000" % n for n in range(1, 1_000_001)) + b"\nnext\n")
    first, second = logs.Reader(stream).lines(1, 10)
    assert (first.text, first.folded) == (b"1000000 of 1000000", 999_999)
    assert second.text == b"next"


def test_one_huge_line_is_read_with_flat_memory(stream):
    piece = b"x" * 1024 * 1024
    put(stream, b"before\n", *[piece] * 64, b"y\nafter\n")
    tracemalloc.start()
    found = logs.Reader(stream).lines(1, 10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024
    assert [line.number for line in found] == [1, 2, 3]
    assert found[1].size == 64 * 1024 * 1024 + 1
    assert found[1].cut == found[1].size - len(found[1].text)
    assert found[2].text == b"after"
    assert logs.Reader(stream).lines(3, 1)[0].text == b"after"


def test_the_last_line_may_lack_its_break(stream):
    put(stream, b"one\ntwo")
    reader = logs.Reader(stream)
    assert reader.count == 2
    assert [line.text for line in reader.lines(1, 9)] == [b"one", b"two"]
    put(stream, b" and more\n")
    assert logs.Reader(stream).count == 2


def test_an_empty_log_has_no_lines(stream, store):
    reader = logs.Reader(stream)
    assert (reader.count, reader.lines(1, 5), reader.tail(5), reader.read(0, 9)) == (0, [], [], b"")
    assert logs.digest(stream) == (0, hashlib.sha256().hexdigest())
    logs.seal(stream, store)
    assert stream.sealed == ""


def test_problems_are_counted_also_where_a_line_comes_in_parts(stream, store):
    put(stream, b"INFO ok\nERR", b"OR: bad\nUserWarning: slow\n", b"fatal: no", b" such thing\nerror=0.12\n0 errors\n")
    assert (stream.errors, stream.warnings) == (2, 1)
    put(stream, b"CRITICAL: the last line, without a break")
    assert stream.errors == 2
    logs.seal(stream, store)
    assert (stream.errors, stream.warnings) == (3, 1)
    stored = LogStream.objects.get(pk=stream.pk)
    assert (stored.errors, stored.warnings) == (3, 1)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"Traceback (most recent call last):", (1, 0)),
        (b"2026-11-23 ERROR trainer: no", (1, 0)),
        (b"\x1b[31mERROR\x1b[0m no", (1, 0)),
        (b"main.c:3: error: expected ;", (1, 0)),
        (b"FATAL: WARNING twice", (1, 0)),
        (b"x.py:3: UserWarning: slow", (0, 1)),
        (b"WARN disk", (0, 1)),
        (b"main.c:3: warning: unused", (0, 1)),
        (b"val_error: 0.3, error=0.1, ERROR_RATE=0.2, 0 errors, 2 warnings, WARNED", (0, 0)),
    ],
)
def test_what_counts_as_a_problem(line, found):
    assert count(line + b"\n") == found


def test_search_finds_lines_whatever_their_case_and_colours(stream, store):
    put(stream, b"Loss 0.5\nnothing\n\x1b[1mLO\x1b[0mSS 0.4\nGr\xc3\xb6\xc3\x9fe\nGR\xc3\x96SSE\nloss\n")
    for _ in ("live", "sealed"):
        reader = logs.Reader(stream)
        assert search(reader, "loss").lines == [1, 3, 6]
        assert search(reader, "LOSS", 1).lines == [3, 6]
        assert search(reader, "loss", 6, backwards=True).lines == [3, 1]
        assert search(reader, "loss", 0, backwards=True, limit=1).lines == [6]
        assert search(reader, "grö").lines == [4, 5]
        assert search(reader, "absent").lines == search(reader, "").lines == []
        logs.seal(stream, store)


def test_search_finds_text_that_lies_over_two_chunks(stream):
    put(stream, b"x" * (1024 * 1024 - 3) + b"needle\nneedle\n")
    assert stream.chunks.count() == 2
    assert search(logs.Reader(stream), "needle").lines == [1, 2]
    assert search(logs.Reader(stream), "needle", backwards=True).lines == [2, 1]


def test_search_stops_at_its_limit_and_says_so(stream):
    put(stream, LINES)
    hits = search(logs.Reader(stream), "of the log")
    assert (len(hits.lines), hits.more) == (10_000, True)
    assert hits.lines[:2] == [1, 2]
    assert search(logs.Reader(stream), "of the log", 20_500, limit=3).lines == [20_501, 20_502, 20_503]
    exact = search(logs.Reader(stream), "line 7 ")
    assert (exact.lines, exact.more) == ([7], False)


def test_the_next_problem_in_either_direction(stream, store):
    noise = b"all is well\n" * 100_000
    put(stream, b"ERROR one\n", noise, b"WARNING two\n", noise, b"ERROR three\n")
    for _ in ("live", "sealed"):
        reader = logs.Reader(stream)
        assert next_problem(reader, 0) == (1, "e")
        assert next_problem(reader, 1) == (100_002, "w")
        assert next_problem(reader, 100_002) == (200_003, "e")
        assert next_problem(reader, 200_003) is None
        assert next_problem(reader, 200_003, backwards=True) == (100_002, "w")
        assert next_problem(reader, 1, backwards=True) is None
        assert next_problem(reader, 0, backwards=True) == (200_003, "e")
        logs.seal(stream, store)


def test_what_is_appended_to_a_sealed_log_is_refused(stream, store):
    put(stream, b"one\n")
    logs.seal(stream, store)
    assert logs.append(stream, 0, b"one\n") == 4
    with pytest.raises(logs.LogGap):
        logs.append(stream, 4, b"two\n")


def test_sealing_survives_that_the_object_is_there_already(stream, store):
    put(stream, b"same\n")
    logs.seal(stream, store)
    other = LogStream.objects.create(build=Build.objects.create(target=stream.build.target, key="other"))
    put(other, b"same\n")
    logs.seal(other, store)
    assert (other.sealed, whole(other)) == (stream.sealed, b"same\n")
