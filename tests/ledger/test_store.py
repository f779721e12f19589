"""One contract, held against every store."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.errors import HeadMovedError, LedgerContentError, StoreError
from ledger.isolated import IsolatedStore
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from ledger.memory import MemoryStore
from ledger.store import EMPTY_HEAD, Batch, Head, Store
from tests.support.ledgers import batch_of, chain, filled, store_of


@pytest.fixture(params=["memory", "lmdb", "isolated"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store
    match request.param:
        case "memory":
            made = MemoryStore()
        case "lmdb":
            made = LmdbStore(tmp_path / "ledger")
        case _:
            made = IsolatedStore(tmp_path / "ledger")
    yield made
    made.close()


def counted(store: Store) -> tuple[int, int]:
    state = store.state()
    assert (state.head, state.draft, state.finished) == (store.head(), store.draft(), store.finished())
    return state.entry_count, state.node_count


def first_batch(count: int = 3) -> Batch:
    entries = chain(count)
    return batch_of([entry.raw for entry in entries], head_hash=entries[-1].body_hash)


def test_an_empty_store_says_so(store: Store) -> None:
    """A new directory would look like a ledger."""
    assert store.head() == EMPTY_HEAD
    assert counted(store) == (0, 0)
    assert store.entries(0, 10) == store.nodes(0, 10) == store.blob_digests() == []
    assert (store.blob(bytes(32)), store.request(bytes(32)), store.state().draft, store.state().finished) == (None,) * 4


def test_everything_of_a_batch_is_read_back(store: Store) -> None:
    """A part of a commit would be lost."""
    digest = hashlib.sha256(b"blob").digest()
    batch = replace(first_batch(), blobs={digest: b"blob"}, requests={bytes(32): 1})
    store.append(batch)
    assert store.head() == batch.head
    assert counted(store) == (3, len(batch.nodes))
    assert store.entries(0, 3) == batch.entries
    assert store.entries(1, 2) == batch.entries[1:2]
    assert store.entries(2, 2) == store.entries(3, 9) == []
    assert store.entries(2, 9) == batch.entries[2:]
    assert store.nodes(0, 99) == batch.nodes
    with store.reader() as read:
        assert [read(position) for position in range(4)] == batch.nodes
        with pytest.raises(LedgerContentError, match="tree node 4"):
            read(4)
    assert store.blob(digest) == b"blob"
    assert store.blob_digests() == [digest]
    assert store.request(bytes(32)) == 1
    assert (store.state().draft, store.state().finished) == (batch.draft, batch.finished)


def test_an_append_continues_the_head_or_writes_nothing(store: Store) -> None:
    """Two writers would interleave their histories."""
    batch = first_batch()
    store.append(batch)
    for previous in (EMPTY_HEAD, Head(3, bytes(32)), Head(2, batch.head.hash), Head(4, batch.head.hash)):
        late = batch_of([b"x"], head_hash=bytes(32), previous=previous)
        with pytest.raises(HeadMovedError, match="another writer was faster"):
            store.append(replace(late, blobs={bytes(32): b"x"}))
    assert store.head() == batch.head
    assert counted(store) == (3, len(batch.nodes))
    assert store.blob_digests() == []


def test_a_batch_that_miscounts_itself_is_a_mistake(store: Store) -> None:
    """A head would be stored that its entries do not reach."""
    batch = first_batch()
    with pytest.raises(ValueError, match="does not count"):
        store.append(replace(batch, head=Head(7, batch.head.hash)))
    assert store.head() == EMPTY_HEAD


def test_a_finished_note_can_follow_alone_and_leaves_the_rest(store: Store) -> None:
    """Storing the note when idle would touch the history."""
    batch = replace(first_batch(), finished=None)
    store.append(batch)
    assert store.state().finished is None
    store.append(Batch(previous=batch.head, head=batch.head, finished=b"note"))
    assert (store.state().finished, store.state().draft, store.head()) == (b"note", batch.draft, batch.head)


def test_the_newest_request_and_every_blob_once(store: Store) -> None:
    """A repeated command would be answered with the older event, or blobs be stored twice."""
    digest = hashlib.sha256(b"blob").digest()
    first = replace(first_batch(1), blobs={digest: b"blob"}, requests={bytes(32): 0})
    store.append(first)
    second = batch_of([b"x"], head_hash=bytes(32), previous=first.head)
    store.append(replace(second, blobs={digest: b"blob"}, requests={bytes(32): 1}))
    assert store.request(bytes(32)) == 1
    assert store.blob_digests() == [digest]


def test_a_reload_keeps_everything(store: Store) -> None:
    """A failure elsewhere would cost recorded entries."""
    log = filled(store, 20)
    store.reload()
    again = open_log(store, workers=1)
    assert (again.size, again.root, again.finished) == (20, log.root, log.finished)


def test_a_closed_store_says_so(store: Store) -> None:
    """A use after closing would crash, or answer from nowhere."""
    store_of(chain(2), store)
    store.close()
    store.close()
    for use in (store.head, store.state, store.draft, store.blob_digests):
        with pytest.raises(StoreError, match="closed"):
            use()
    with pytest.raises(StoreError, match="closed"):
        store.append(first_batch())
