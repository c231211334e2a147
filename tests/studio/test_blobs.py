"""The content-addressed store: what goes in comes out, once, whatever the order, the size or the race."""

import hashlib
import io
import random
import threading

import pytest
from django.core.files.storage import default_storage
from django.db import connection

from studio import blobs
from studio.blobs import SMALL, BlobError, BlobMissing, BlobStore, PartOffset
from studio.models import Blob, Pack

pytestmark = pytest.mark.django_db


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def objects() -> list[str]:
    found, stack = [], ["blobs"]
    while stack:
        folder = stack.pop()
        try:
            folders, files = default_storage.listdir(folder)
        except FileNotFoundError:
            continue
        stack += [f"{folder}/{name}" for name in folders]
        found += [f"{folder}/{name}" for name in files]
    return found


@pytest.fixture
def store(workspace) -> BlobStore:
    return BlobStore(workspace.pk)


def some(count: int, seed: int = 0) -> list[tuple[str, bytes]]:
    source = random.Random(seed)
    contents = [source.randbytes(source.randint(0, 3000)) for _ in range(count)]
    contents += [b"text that repeats\n" * size for size in (1, 10, 1000)]
    return [(sha(data), data) for data in contents]


def test_contents_come_back_whole_in_part_and_as_a_file(store):
    contents = some(50)
    store.put_many(contents)
    for digest, data in contents:
        assert store.read(digest) == data
        assert store.read(digest, 7, 20) == data[7:27]
        assert store.read(digest, len(data)) == b""
        assert store.size(digest) == len(data)
        with store.open(digest) as file:
            file.seek(5)
            assert file.read() == data[5:]


def test_many_small_contents_become_one_object(store):
    store.put_many(some(200))
    assert len(objects()) == Pack.objects.count() == 1


def test_a_pack_ends_at_its_size(store, monkeypatch):
    monkeypatch.setattr(blobs, "PACK", 10_000)
    contents = some(60)
    store.put_many(contents)
    assert Pack.objects.count() > 3
    assert dict(store.read_many(digest for digest, _ in contents)) == dict(contents)


def test_text_is_stored_compressed_and_noise_is_not(store):
    text, noise = b"loss 0.25\n" * 5000, random.Random(1).randbytes(5000)
    store.put_many([(sha(text), text), (sha(noise), noise)])
    assert Blob.objects.get(digest=sha(text)).length < len(text) / 10
    assert Blob.objects.get(digest=sha(noise)).length == len(noise)


def test_missing_names_exactly_what_is_not_there(store):
    contents = some(1500)
    store.put_many(contents[::2])
    there = {digest for digest, _ in contents[::2]}
    everything = {digest for digest, _ in contents}
    assert store.missing(everything) == everything - there
    assert store.sizes(everything) == {digest: len(data) for digest, data in contents[::2]}


def test_missing_is_one_query_for_ten_thousand_digests(store, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert len(store.missing({sha(str(n).encode()) for n in range(10_000)})) == 10_000


def test_read_many_yields_each_once_and_names_the_missing_first(store):
    contents = some(20)
    store.put_many(contents)
    digests = [digest for digest, _ in contents]
    assert sorted(store.read_many([*digests, *digests])) == sorted(set(contents))
    with pytest.raises(BlobMissing, match=sha(b"nowhere")):
        next(store.read_many([*digests, sha(b"nowhere")]))


def test_a_content_of_another_digest_is_refused(store):
    with pytest.raises(BlobError, match="digest"):
        store.put_many([(sha(b"one"), b"two")])
    with pytest.raises(BlobError, match="digest"):
        store.put_file(io.BytesIO(b"two"), sha(b"one"), 3)
    assert not Blob.objects.exists()
    assert objects() == []


@pytest.mark.parametrize(("size", "message"), [(2, "more came"), (5, "3 came")])
def test_a_file_of_another_size_is_refused_and_not_kept(store, size, message):
    with pytest.raises(BlobError, match=message):
        store.put_file(io.BytesIO(b"two"), sha(b"two"), size)
    assert objects() == []


def test_a_large_content_is_an_object_of_its_own(store):
    data = random.Random(2).randbytes(3 * SMALL + 17)
    assert store.put_many([(sha(data), data)]) == 1
    row = Blob.objects.get()
    assert (row.offset, row.length, row.compressed) == (0, len(data), False)
    assert store.read(sha(data), SMALL - 3, 100) == data[SMALL - 3 : SMALL + 97]
    assert store.put_file(io.BytesIO(data), sha(data), len(data)) is False


def test_storing_again_adds_nothing(store):
    contents = some(30)
    assert store.put_many(contents) == len(set(contents))
    assert store.put_many(contents) == 0
    assert len(objects()) == 1


def test_a_workspace_sees_only_its_own_contents(store, foreign_workspace):
    store.put_many([(sha(b"mine"), b"mine")])
    other = BlobStore(foreign_workspace.pk)
    assert other.missing([sha(b"mine")]) == {sha(b"mine")}
    with pytest.raises(BlobMissing):
        other.read(sha(b"mine"))
    assert other.have(sha(b"mine")) == 0


def test_the_loser_of_a_race_leaves_no_object(store, monkeypatch):
    """Both looked, both stored; the second finds the row and takes its object away."""
    contents = some(10)
    rival = BlobStore(store.workspace_id)
    record = store._record

    def late(name, size, rows):
        rival.put_many(contents)
        return record(name, size, rows)

    monkeypatch.setattr(store, "_record", late)
    assert store.put_many(contents) == 0
    assert len(objects()) == Pack.objects.count() == 1
    assert dict(store.read_many(digest for digest, _ in contents)) == dict(contents)


def test_no_row_is_written_when_the_object_cannot_be_stored(store, monkeypatch):
    assert default_storage.exists("anything") is False  # the storage is made on first use

    def full(self, name, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(default_storage._wrapped), "_save", full)
    with pytest.raises(OSError, match="No space"):
        store.put_many(some(3))
    assert not Blob.objects.exists()
    assert not Pack.objects.exists()


def test_pieces_join_and_a_cut_upload_goes_on_from_what_is_there(store):
    data = random.Random(3).randbytes(2_500_000)
    digest = sha(data)
    assert store.part(digest, 0, len(data), data[:1_000_000]) == 1_000_000
    assert store.have(digest) == 1_000_000
    assert store.missing([digest])
    # The client did not hear of the last piece and sends a part of it again.
    assert store.part(digest, 900_000, len(data), [data[900_000:950_000], data[950_000:2_000_000]]) == 2_000_000
    assert store.part(digest, 2_000_000, len(data), data[2_000_000:]) == len(data)
    assert store.read(digest) == data
    assert store.have(digest) == len(data)
    assert store.part(digest, 0, len(data), data[:10]) == len(data)


def test_a_piece_that_leaves_a_gap_says_where_to_go_on(store):
    store.part(sha(b"abcdef"), 0, 6, b"ab")
    with pytest.raises(PartOffset) as caught:
        store.part(sha(b"abcdef"), 4, 6, b"ef")
    assert caught.value.have == 2


def test_pieces_that_add_up_to_another_content_are_dropped(store):
    with pytest.raises(BlobError, match="digest"):
        store.part(sha(b"abc"), 0, 3, b"abd")
    assert store.have(sha(b"abc")) == 0
    with pytest.raises(BlobError, match="more came"):
        store.part(sha(b"abc"), 0, 3, b"abcd")
    assert store.have(sha(b"abc")) == 0
    assert store.part(sha(b"abc"), 0, 3, b"abc") == 3


@pytest.mark.django_db(transaction=True)
def test_two_that_send_the_same_pieces_at_once_store_one_content(workspace):
    data = random.Random(4).randbytes(3_000_000)
    digest = sha(data)
    failures = []

    def send() -> None:
        store = BlobStore(workspace.pk)
        try:
            for offset in range(0, len(data), 250_000):
                store.part(digest, offset, len(data), data[offset : offset + 250_000])
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert BlobStore(workspace.pk).read(digest) == data
    assert len(objects()) == 1


def test_object_names_tell_nothing(store):
    store.put_many([(sha(b"secret plan"), b"secret plan")])
    (name,) = objects()
    assert sha(b"secret plan") not in name
