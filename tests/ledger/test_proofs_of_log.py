"""Proofs that an open ledger gives: for every entry, at every size, also where paths are kept from one to the next."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.log import Log, stored_frontier
from ledger.memory import MemoryStore
from ledger.merkle import Frontier, leaf_hash, verify_inclusion
from tests.support.ledgers import chain, store_of

ENTRIES = chain(1100)
STORE = store_of(ENTRIES, MemoryStore())
LOG = Log(
    STORE, frontier=stored_frontier(STORE, len(ENTRIES)), head=STORE.head(), time_ms=0, origin=None, finished=None
)
LEAVES = [leaf_hash(entry.raw) for entry in ENTRIES]


def root(size: int) -> bytes:
    frontier = Frontier()
    frontier.extend(LEAVES[:size])
    return frontier.root()


@given(asked=st.lists(st.tuples(st.integers(0, 1099), st.integers(1, 1100)), min_size=1, max_size=30))
def test_every_proof_leads_to_the_root_of_its_size(asked: list[tuple[int, int]]) -> None:
    """A receipt would be refused by whoever checks it."""
    for seq, size in asked:
        at = min(seq, size - 1)
        verify_inclusion(LEAVES[at], at, size, LOG.proof(at, size), root(size))


def test_all_entries_of_a_ledger_of_several_blocks() -> None:
    """The last block, the ones before it, and the edges between them."""
    for size in (255, 256, 257, 512, 513, 768, 1024, 1100):
        wanted = root(size)
        for seq in range(size):
            verify_inclusion(LEAVES[seq], seq, size, LOG.proof(seq, size), wanted)
