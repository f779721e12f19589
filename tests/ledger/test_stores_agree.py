"""A model test: every store holds the same ledger under random appends, failures, reopenings, and readers elsewhere.

The stores are memory, LMDB here, LMDB in a store process, and a reader of the second one in a process of its own.
"""

import hashlib
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import lmdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.entry import Entry
from ledger.errors import HeadMovedError, LedgerEmptyError, StoreError
from ledger.isolated import IsolatedStore
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from ledger.memory import MemoryStore
from ledger.merkle import Frontier
from ledger.store import Batch, Head, Store
from tests.support.ledgers import batch_of, chain

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in range(1, 3)]


class Stores(RuleBasedStateMachine):
    """The same commands to both; whatever they answer must be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stores-"))
        self.lmdb = LmdbStore(self.folder / "ledger", map_size=2**26)
        self.isolated = IsolatedStore(self.folder / "isolated", map_size=2**26)
        self.reader = IsolatedStore(self.folder / "ledger", map_size=2**26, readonly=True)
        self.memory = MemoryStore()
        self.entries: list[Entry] = []
        self.frontier = Frontier()

    def teardown(self) -> None:
        for store in (self.reader, self.isolated, self.lmdb):
            store.close()
        shutil.rmtree(self.folder)

    def next_batch(self, count: int, key: Ed25519PrivateKey, blob: bytes) -> tuple[Batch, list[Entry], Frontier]:
        entries = chain(count, key=key, start=self.entries)
        frontier = self.frontier.copy()
        batch = batch_of(
            [entry.raw for entry in entries[len(self.entries) :]], head_hash=entries[-1].body_hash,
            previous=self.memory.head(), frontier=frontier, epoch=key,
        )  # fmt: skip
        digest = hashlib.sha256(blob).digest()
        return replace(batch, blobs={digest: blob}, requests={digest: len(self.entries)}), entries, frontier

    @rule(count=st.integers(1, 40), key=st.sampled_from(KEYS), blob=st.binary(max_size=5000))
    def append(self, count: int, key: Ed25519PrivateKey, blob: bytes) -> None:
        batch, entries, frontier = self.next_batch(count, key, blob)
        for store in self.stores():
            store.append(batch)
        self.entries, self.frontier = entries, frontier

    @rule(count=st.integers(1, 5), blob=st.binary(max_size=5000))
    def fail_before_it_took_effect(self, count: int, blob: bytes) -> None:
        batch, _, _ = self.next_batch(count, KEYS[0], blob)
        with patch.object(self.lmdb, "_write", side_effect=lmdb.DiskError("mdb_txn_commit: Input/output error")):
            self.must_fail(self.lmdb, batch)
        self.lmdb.reload()

    @rule(count=st.integers(1, 5), blob=st.binary(max_size=5000))
    def fail_after_it_took_effect(self, count: int, blob: bytes) -> None:
        batch, entries, frontier = self.next_batch(count, KEYS[0], blob)
        with patch.object(self.lmdb, "_keep_whole", side_effect=OSError(5, "Input/output error")):
            self.must_fail(self.lmdb, batch)
        self.lmdb.reload()
        self.memory.append(batch)
        self.isolated.append(batch)
        self.entries, self.frontier = entries, frontier

    @rule()
    def kill_the_store_process(self) -> None:
        assert self.isolated.pid is not None
        os.kill(self.isolated.pid, signal.SIGKILL)
        self.must_fail(self.isolated, self.next_batch(1, KEYS[0], b"")[0])
        self.isolated.reload()

    def must_fail(self, store: Store, batch: Batch) -> None:
        try:
            store.append(batch)
        except StoreError:
            return
        raise AssertionError("a failure was not told")

    def stores(self) -> tuple[Store, ...]:
        return self.memory, self.lmdb, self.isolated

    @rule(size=st.integers(0, 200), count=st.integers(0, 3))
    def append_elsewhere(self, size: int, count: int) -> None:
        for head in (Head(size, bytes([1] * 32)), Head(self.memory.head().size + 1, self.memory.head().hash)):
            batch = Batch(previous=head, head=Head(head.size + count, bytes(32)), entries=[b"x"] * count)
            for store in self.stores():
                try:
                    store.append(batch)
                except HeadMovedError:
                    continue
                raise AssertionError("an append elsewhere was taken")

    @precondition(lambda self: self.entries)
    @rule(note=st.binary(max_size=3000))
    def store_a_note(self, note: bytes) -> None:
        head = self.memory.head()
        for store in self.stores():
            store.append(Batch(previous=head, head=head, finished=note))
        self.memory._finished = None  # arbitrary bytes are no checkpoint: only the transport is tested here
        assert self.lmdb.state().finished == note
        batch = batch_of([], head_hash=head.hash, previous=head, frontier=self.frontier.copy())
        for store in self.stores():
            store.append(Batch(previous=head, head=head, finished=batch.finished))

    @rule()
    def reload(self) -> None:
        self.lmdb.reload()
        self.isolated.reload()
        self.reader.reload()

    @rule()
    def reopen(self) -> None:
        self.lmdb.close()
        self.lmdb = LmdbStore(self.folder / "ledger", map_size=2**26)

    @rule()
    def open_both(self) -> None:
        logs = []
        for store in self.stores():
            try:
                log = open_log(store, workers=1)
            except LedgerEmptyError:
                assert not self.entries
                continue
            logs.append((log.size, log.root, log.head, log.last_time_ms, log.finished))
        assert logs == logs[:1] * 3 or not logs
        if logs:
            assert logs[0][1] == self.frontier.root()

    @invariant()
    def they_agree(self) -> None:
        state, digests = self.memory.state(), self.memory.blob_digests()
        size, nodes = state.entry_count, state.node_count
        for store in (self.lmdb, self.isolated, self.reader):
            assert store.state() == state
            assert store.head() == self.memory.head()
            assert store.entries(0, size) == self.memory.entries(0, size)
            assert store.nodes(0, nodes) == self.memory.nodes(0, nodes)
            assert store.nodes_at(range(0, nodes, 3)) == self.memory.nodes_at(range(0, nodes, 3))
            assert store.blob_digests() == digests
            for digest in digests:
                assert store.blob(digest) == self.memory.blob(digest)
                assert store.request(digest) == self.memory.request(digest)


Stores.TestCase.settings = settings(
    max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoresAgree = Stores.TestCase
