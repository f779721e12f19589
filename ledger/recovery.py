"""After a failed append: what does the storage hold, and does it extend what was confirmed? Decides nothing else."""

from dataclasses import dataclass

from ledger.entry import Entry, parse_entry
from ledger.errors import LedgerContentError, LedgerForkedError
from ledger.log import Log, check_draft, stored_chunks, stored_frontier
from ledger.merkle import Frontier, node_count
from ledger.replay import Replay
from ledger.signatures import Signatures
from ledger.store import Head


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in the store after the confirmed entries, verified as records."""

    entries: tuple[Entry, ...]
    head: Head
    frontier: Frontier
    time_ms: int


def reload_and_compare(log: Log) -> Found:
    """Open the store again and demand that it extends *log*, which is what this process has confirmed.

    Raises LedgerForkedError if it does not, StoreError if it cannot be read (then nothing is known yet).
    """
    try:
        log.store.reload()
        return _compare(log)
    except LedgerContentError as error:
        raise LedgerForkedError(
            f"the storage no longer holds what was confirmed at size {log.size}, root {log.root.hex()}: {error}. "
            "This Coordinator stops writing for good; keep the storage as evidence and recover from a good copy"
        ) from error


def _compare(log: Log) -> Found:
    store, size = log.store, log.size
    state = store.state()
    head = state.head
    if head.size < size:
        raise LedgerContentError(head.size, f"the storage went back to size {head.size}, {size} were confirmed")
    frontier = stored_frontier(store, size)
    if frontier.root() != log.root:
        raise LedgerContentError(None, f"its root at size {size} is {frontier.root().hex()}, another history")
    if size:
        last = store.entries(size - 1, size)
        if not last or parse_entry(last[0], size - 1).body_hash != log.head:
            raise LedgerContentError(size - 1, "it is not the last record that was confirmed")
    found: list[Entry] = []
    replay = Replay(size, log.head, log.last_time_ms, frontier=frontier)

    def compare(seq: int, nodes: list[bytes]) -> None:
        position = node_count(seq)
        if store.nodes(position, position + len(nodes)) != nodes:
            raise LedgerContentError(seq, "the tree nodes of these records are not theirs")

    replay.run(stored_chunks(store, size, head.size), Signatures(1), visit=found.append, nodes=compare)
    if replay.head != head.hash or (state.entry_count, state.node_count) != (
        head.size,
        node_count(head.size),
    ):
        raise LedgerContentError(head.size, "the newest state is not whole")
    if found:
        check_draft(state.draft, head, frontier.root(), replay.signer)
    return Found(tuple(found), head, frontier, replay.time_ms)
