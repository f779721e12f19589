"""A ledger that is open: its head in memory, its records in a store. Opens and reads; ledger/writer.py appends.

What is in memory here (size, root, hash of the last body) was checked record by record, so it is the measure for
everything that is read later: the storage can go away, but it cannot change the past unnoticed.
"""

import hashlib
from collections.abc import Iterator
from typing import Final, Self

from ledger.checkpoint import Checkpoint, epoch_name, parse_checkpoint, read_checkpoint
from ledger.entry import Entry, parse_entry
from ledger.errors import HeadMovedError, LedgerContentError, LedgerEmptyError, NoteError, ProofError
from ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    fold_path,
    inclusion_positions,
    node_count,
    node_position,
    peaks_of,
    range_root,
    verify_inclusion,
)
from ledger.note import ed25519_key, open_note
from ledger.replay import CHUNK, Replay, Visit
from ledger.signatures import Signatures
from ledger.store import EMPTY_HEAD, Head, State, Store
from ledger.tiles import TILE_WIDTH, Tile, encode_bundle, width_at

_MAX_ENTRIES_READ: Final = 4096
_BLOCK: Final = 8  # levels of a path that entries of one complete block of 256 do not share
_MAX_UPPER: Final = 8192


class Log:
    """Store, head and frontier of one ledger. Reads are safe from the event loop while the writer's thread commits."""

    __slots__ = (
        "_finished", "_frontier", "_head", "_root", "_stored_finished", "_time_ms", "_upper", "origin", "store",
    )  # fmt: skip

    def __init__(
        self, store: Store, *, frontier: Frontier, head: Head, time_ms: int, origin: str | None, finished: str | None
    ) -> None:
        """For open_log() and Log.empty(): whoever calls this vouches that *head* and *frontier* were checked."""
        self.store = store
        self.origin = origin
        self._frontier = frontier
        self._head = head
        self._root = frontier.root()
        self._time_ms = time_ms
        self._finished = finished
        self._stored_finished = finished
        self._upper: tuple[int, dict[int, tuple[bytes, ...]]] = (0, {})

    @classmethod
    def empty(cls, store: Store) -> Self:
        """The ledger before its first entry. Raises HeadMovedError if the store holds one already."""
        state = store.state()
        if state.head != EMPTY_HEAD or state.entry_count or state.node_count:
            raise HeadMovedError("the store holds a ledger already: open it, or name an empty directory")
        return cls(store, frontier=Frontier(), head=EMPTY_HEAD, time_ms=0, origin=None, finished=None)

    @property
    def size(self) -> int:
        """How many entries are confirmed."""
        return self._head.size

    @property
    def root(self) -> bytes:
        """The root of the tree of these entries."""
        return self._root

    @property
    def head(self) -> bytes:
        """SHA-256(body) of the last entry; 32 zero bytes for an empty ledger."""
        return self._head.hash

    @property
    def position(self) -> Head:
        """Size and head together, as a store knows them."""
        return self._head

    @property
    def last_time_ms(self) -> int:
        """Unix time in milliseconds of the last entry; 0 for an empty ledger."""
        return self._time_ms

    @property
    def finished(self) -> str | None:
        """The newest finished note, covering everything confirmed by this process; None before the first."""
        return self._finished

    @property
    def unstored_finished(self) -> str | None:
        """The finished note if the store does not have it yet."""
        return None if self._finished == self._stored_finished else self._finished

    def frontier(self) -> Frontier:
        """A copy of the frontier, to grow a candidate from."""
        return self._frontier.copy()

    def entry(self, seq: int) -> Entry:
        """Entry *seq*, proven to be the one that was checked when the ledger was opened or written.

        Raises LedgerContentError if the storage holds another one now, ProofError if there is no such entry.
        """
        if not 0 <= seq < self.size:
            raise ProofError(f"there is no entry {seq}: the ledger has size {self.size}")
        found = self.store.entries(seq, seq + 1)
        if not found:
            raise LedgerContentError(seq, "the record is gone from the storage")
        entry = parse_entry(found[0], seq)
        try:
            verify_inclusion(entry.leaf_hash, seq, self.size, self.proof(seq), self._root)
        except ProofError as error:
            raise LedgerContentError(seq, "the storage holds another record now than was recorded here") from error
        return entry

    def entries(self, start: int, end: int) -> list[bytes]:
        """Stored bytes of entries [start, end), at most 4096 at once, for readers who check them themselves.

        Raises ProofError outside of the ledger, LedgerContentError where one is missing.
        """
        if not 0 <= start <= end <= self.size or end - start > _MAX_ENTRIES_READ:
            raise ProofError(f"entries {start} to {end} cannot be read: the ledger has size {self.size}")
        found = self.store.entries(start, end)
        if len(found) != end - start:
            raise LedgerContentError(start + len(found), "the record is gone from the storage")
        return found

    def blob(self, digest: bytes) -> bytes | None:
        """The blob with this SHA-256, hashed again; None if not stored. Raises LedgerContentError if it differs."""
        blob = self.store.blob(digest)
        if blob is not None and hashlib.sha256(blob).digest() != digest:
            raise LedgerContentError(None, f"the blob {digest.hex()} was changed in the storage")
        return blob

    def find_request(self, request_id: bytes) -> Entry | None:
        """The first event of the newest command with this id, if the index knows it. Absence decides nothing.

        Raises LedgerContentError if the index points to an entry of another command.
        """
        seq = self.store.request(request_id)
        if seq is None or seq >= self.size:  # beyond: committed a moment ago, and not yet confirmed
            return None
        entry = self.entry(seq)
        if entry.body.request_id != request_id:
            raise LedgerContentError(None, f"the index of requests points to entry {seq}, which answers another one")
        return entry

    def proof(self, seq: int, size: int | None = None) -> tuple[bytes, ...]:
        """Inclusion proof of entry *seq* in the tree of the first *size* entries (default: all). Raises ProofError."""
        size = self.size if size is None else size
        if size > self.size:
            raise ProofError(f"the ledger has size {self.size}, not {size}")
        if not 0 <= seq < size or seq >> _BLOCK == (size - 1) >> _BLOCK:
            positions, ragged = inclusion_positions(seq, size)
            return tuple(fold_path(self.store.nodes_at([node_position(*each) for each in positions]), ragged))
        lasts = [(((seq >> level) ^ 1) + 1 << level) - 1 for level in range(_BLOCK)]
        low = self.store.nodes_at([2 * last - last.bit_count() + level for level, last in enumerate(lasts)])
        return (*low, *self._upper_path(seq, size))

    def _upper_path(self, seq: int, size: int) -> tuple[bytes, ...]:
        """The path from level 8 on. Receipts of one commit have it in common, so the ones of one size are kept."""
        if self._upper[0] != size or len(self._upper[1]) >= _MAX_UPPER:
            self._upper = (size, {})
        known = self._upper[1]
        path = known.get(seq >> _BLOCK)
        if path is None:
            positions, (start, end) = inclusion_positions(seq, size)
            nodes = self.store.nodes_at([node_position(*each) for each in positions[_BLOCK:]])
            path = known[seq >> _BLOCK] = tuple(fold_path(nodes, (start - _BLOCK, end - _BLOCK)))
        return path

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Proof that the tree of *new* entries (default: all) extends the one of *old*. Raises ProofError."""
        new = self.size if new is None else new
        if new > self.size:
            raise ProofError(f"the ledger has size {self.size}, not {new}")
        with self.store.reader() as read:
            return tuple(consistency_path(old, new, lambda level, index: read(node_position(level, index))))

    def root_at(self, size: int) -> bytes:
        """The root of the first *size* entries, from the stored nodes. Raises ProofError beyond the end."""
        if not 0 <= size <= self.size:
            raise ProofError(f"the ledger has size {self.size}, not {size}")
        return stored_root(self.store, size)

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
        """The hash tile of tlog-tiles, raw. Raises ProofError if the ledger does not have it (yet)."""
        tile = Tile(level, index, width)
        if not 1 <= width <= width_at(tile, self.size):
            raise ProofError(f"there is no {tile.path()} in a ledger of size {self.size}")
        with self.store.reader() as read:
            first = index * TILE_WIDTH
            return b"".join(read(node_position(8 * level, at)) for at in range(first, first + width))

    def bundle(self, index: int, width: int = TILE_WIDTH) -> bytes:
        """The bundle of entries of tlog-tiles, raw. Raises ProofError if the ledger does not have it (yet)."""
        tile = Tile("entries", index, width)
        if not 1 <= width <= width_at(tile, self.size):
            raise ProofError(f"there is no {tile.path()} in a ledger of size {self.size}")
        return encode_bundle(self.entries(index * TILE_WIDTH, index * TILE_WIDTH + width))

    def advance(self, *, frontier: Frontier, root: bytes, head: Head, time_ms: int, origin: str) -> None:
        """For the writer: the store has confirmed everything up to *head*; *root* is the frontier's."""
        self._frontier, self._root, self._head, self._time_ms, self.origin = frontier, root, head, time_ms, origin

    def set_finished(self, note: str) -> None:
        """For the writer: this note covers everything confirmed."""
        self._finished = note

    def finished_was_stored(self, note: str) -> None:
        """For the writer: the store has *note* now."""
        self._stored_finished = note


def open_log(store: Store, *, visit: Visit | None = None, workers: int = 2) -> Log:
    """Replay and verify all of a stored ledger, calling *visit* with every entry after it was found good.

    Checked are canonical bytes, chain, order, time, every signature by the entry's own signer (on *workers* cores),
    every stored tree node, the draft checkpoint (signed by the last entry's signer) and that the finished note is of an
    earlier state of this ledger. Not checked, since they are the caller's knowledge: who may sign, what payloads mean,
    the signatures of the finished note (ledger.checkpoint.open_finished).

    Raises LedgerEmptyError where there is no ledger, LedgerContentError naming the first bad record, or what *visit*
    raises.
    """
    state = store.state()
    head = state.head
    if head.size == 0 and state.entry_count == 0:
        raise LedgerEmptyError("the store holds no ledger; one is created by the first accepted manifest")
    replay = Replay()

    def compare(seq: int, nodes: list[bytes]) -> None:
        position = node_count(seq)
        if store.nodes(position, position + len(nodes)) != nodes:
            raise _first_bad_node(store, position, nodes, seq)

    with Signatures(workers, head.size) as signatures:
        replay.run(stored_chunks(store, 0, head.size), signatures, visit=visit, nodes=compare)
    if head.hash != replay.head:
        raise LedgerContentError(head.size - 1, "it is not the record that the ledger names as its last")
    if (state.entry_count, state.node_count) != (head.size, node_count(head.size)):
        raise LedgerContentError(
            head.size,
            f"the store holds {state.entry_count} records and {state.node_count} tree nodes, "
            f"its head says {head.size} and {node_count(head.size)}: the newest state is not whole",
        )
    frontier = replay.frontier
    origin = check_draft(state.draft, head, frontier.root(), replay.signer)
    finished = _check_finished(store, state, origin)
    return Log(store, frontier=frontier, head=head, time_ms=replay.time_ms, origin=origin, finished=finished)


def stored_chunks(store: Store, start: int, end: int) -> Iterator[list[bytes]]:
    """Entries [start, end), a chunk at a time. Raises LedgerContentError at the first missing one."""
    while start < end:
        raws = store.entries(start, min(start + CHUNK, end))
        if raws:
            yield raws
            start += len(raws)
        else:
            raise LedgerContentError(start, f"the record is missing; the ledger says that it has {end}")


def stored_root(store: Store, size: int) -> bytes:
    """The root of the first *size* entries as the stored nodes give it."""
    if size == 0:
        return EMPTY_ROOT
    with store.reader() as read:
        return range_root(0, size, lambda level, index: read(node_position(level, index)))


def stored_frontier(store: Store, size: int) -> Frontier:
    """The frontier of the first *size* entries as the stored nodes give it; its root is to be compared."""
    with store.reader() as read:
        return Frontier(size, [read(node_position(level, index)) for level, index in peaks_of(size)])


def _first_bad_node(store: Store, position: int, nodes: list[bytes], seq: int) -> LedgerContentError:
    found = store.nodes(position, position + len(nodes))
    at = next((at for at, (seen, wanted) in enumerate(zip(found, nodes, strict=False)) if seen != wanted), len(found))
    # The nodes of entry n stand from node_count(n) on.
    while node_count(seq + 1) <= position + at:
        seq += 1
    return LedgerContentError(seq, f"tree node {position + at}, completed by this entry, is missing or not its hash")


def check_draft(raw: bytes | None, head: Head, root: bytes, signer: bytes) -> str:
    """Demand that the draft checkpoint is of (*head*, *root*) and signed by *signer*; gives its origin."""
    if raw is None:
        raise LedgerContentError(head.size - 1, "no checkpoint covers it: a signed one is written with every record")
    try:
        origin = read_checkpoint(raw).origin
        text, _ = open_note(raw, [ed25519_key(epoch_name(origin), signer)])
        checkpoint = parse_checkpoint(text)
    except NoteError as error:
        raise LedgerContentError(None, f"the draft checkpoint is not signed by the newest epoch: {error}") from error
    _compare(checkpoint, Checkpoint(origin, head.size, root), "draft")
    return origin


def _check_finished(store: Store, state: State, origin: str) -> str | None:
    raw, head = state.finished, state.head
    if raw is None:
        return None
    try:
        checkpoint = read_checkpoint(raw)
    except NoteError as error:
        raise LedgerContentError(None, f"the finished checkpoint is malformed: {error}") from error
    if checkpoint.size > head.size:
        raise LedgerContentError(
            head.size, f"the record is missing: a finished checkpoint says that there are {checkpoint.size}"
        )
    _compare(checkpoint, Checkpoint(origin, checkpoint.size, stored_root(store, checkpoint.size)), "finished")
    return raw.decode()


def _compare(seen: Checkpoint, wanted: Checkpoint, which: str) -> None:
    if seen != wanted:
        raise LedgerContentError(
            None,
            f"the {which} checkpoint says {seen.origin}, size {seen.size}, root {seen.root.hex()}; "
            f"the records give {wanted.origin}, size {wanted.size}, root {wanted.root.hex()}",
        )
