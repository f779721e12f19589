"""A model test: memory and LMDB hold the same ledger under random appends, failures and reopenings."""

import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.entry import Entry
from ledger.errors import HeadMovedError, LedgerEmptyError
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from ledger.memory import MemoryStore
from ledger.merkle import Frontier
from ledger.store import Batch, Head
from tests.support.ledgers import batch_of, chain

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in range(1, 3)]


class Stores(RuleBasedStateMachine):
    """The same commands to both; whatever they answer must be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stores-"))
        self.lmdb = LmdbStore(self.folder / "ledger", map_size=2**26)
        self.memory = MemoryStore()
        self.entries: list[Entry] = []
        self.frontier = Frontier()

    def teardown(self) -> None:
        self.lmdb.close()
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
        self.memory.append(batch)
        self.lmdb.append(batch)
        self.entries, self.frontier = entries, frontier

    @rule(size=st.integers(0, 200), count=st.integers(0, 3))
    def append_elsewhere(self, size: int, count: int) -> None:
        for head in (Head(size, bytes([1] * 32)), Head(self.memory.head().size + 1, self.memory.head().hash)):
            batch = Batch(previous=head, head=Head(head.size + count, bytes(32)), entries=[b"x"] * count)
            for store in (self.memory, self.lmdb):
                try:
                    store.append(batch)
                except HeadMovedError:
                    continue
                raise AssertionError("an append elsewhere was taken")

    @precondition(lambda self: self.entries)
    @rule(note=st.binary(max_size=3000))
    def store_a_note(self, note: bytes) -> None:
        head = self.memory.head()
        for store in (self.memory, self.lmdb):
            store.append(Batch(previous=head, head=head, finished=note))
        self.memory._finished = None  # arbitrary bytes are no checkpoint: only the transport is tested here
        assert self.lmdb.state().finished == note
        batch = batch_of([], head_hash=head.hash, previous=head, frontier=self.frontier.copy())
        for store in (self.memory, self.lmdb):
            store.append(Batch(previous=head, head=head, finished=batch.finished))

    @rule()
    def reload(self) -> None:
        self.lmdb.reload()

    @rule()
    def reopen(self) -> None:
        self.lmdb.close()
        self.lmdb = LmdbStore(self.folder / "ledger", map_size=2**26)

    @rule()
    def open_both(self) -> None:
        logs = []
        for store in (self.memory, self.lmdb):
            try:
                log = open_log(store, workers=1)
            except LedgerEmptyError:
                assert not self.entries
                continue
            logs.append((log.size, log.root, log.head, log.last_time_ms, log.finished))
        assert logs == logs[:1] * 2 or not logs
        if logs:
            assert logs[0][1] == self.frontier.root()

    @invariant()
    def they_agree(self) -> None:
        state = self.memory.state()
        assert self.lmdb.state() == state
        size, nodes = state.entry_count, state.node_count
        assert self.lmdb.head() == self.memory.head()
        assert self.lmdb.entries(0, size) == self.memory.entries(0, size)
        assert self.lmdb.nodes(0, nodes) == self.memory.nodes(0, nodes)
        assert self.lmdb.blob_digests() == self.memory.blob_digests()
        assert self.lmdb.state().draft == self.memory.state().draft
        for digest in self.memory.blob_digests():
            assert self.lmdb.blob(digest) == self.memory.blob(digest)
            assert self.lmdb.request(digest) == self.memory.request(digest)


Stores.TestCase.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoresAgree = Stores.TestCase
