"""Replaying an exported log: the checks of ledger.log.open_log() on a Source, against its own checkpoint.

Not checked here, since they are the caller's knowledge: the signatures on the checkpoint (by
ledger.checkpoint.open_finished with the epochs that the visitor judged), who may sign entries, what payloads mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ledger.checkpoint import read_checkpoint
from ledger.errors import LedgerContentError, NoteError
from ledger.merkle import Frontier
from ledger.replay import CHUNK, Replay, Visit
from ledger.signatures import Signatures
from ledger.source import Source
from ledger.tiles import TILE_WIDTH, Tile, width_at


@dataclass(frozen=True, slots=True)
class Verified:
    """A log that is whole up to *size*; *checkpoint_raw* is the note whose signatures are still to be judged."""

    size: int
    root: bytes
    head: bytes
    checkpoint_raw: bytes
    frontier: Frontier


def replay_source(
    source: Source, *, visit: Visit | None = None, workers: int = 2, check_tiles: bool = True
) -> Verified:
    """Read and check every entry of *source* up to its checkpoint, and every hash tile if *check_tiles*.

    Raises LedgerContentError naming the first bad record, LedgerEmptyError, or what *visit* raises.
    """
    raw = source.checkpoint()
    try:
        checkpoint = read_checkpoint(raw)
    except NoteError as error:
        raise LedgerContentError(None, f"the checkpoint is malformed: {error}") from error
    tiles = _Tiles(source, checkpoint.size) if check_tiles else None
    replay = Replay()
    with Signatures(workers, checkpoint.size) as signatures:
        replay.run(
            _chunks(source, checkpoint.size), signatures, visit=visit,
            nodes=None if tiles is None else lambda _, nodes: tiles.feed(nodes),
        )  # fmt: skip
    frontier = replay.frontier
    if frontier.root() != checkpoint.root:
        raise LedgerContentError(
            None,
            f"the records give root {frontier.root().hex()} at size {checkpoint.size}, "
            f"the checkpoint says {checkpoint.root.hex()}: records were changed at the end, or it is another log's",
        )
    if tiles is not None:
        tiles.finish()
    return Verified(checkpoint.size, checkpoint.root, replay.head, raw, frontier)


def _chunks(source: Source, size: int) -> Iterator[list[bytes]]:
    entries, seen = source.entries(0, size), 0
    while seen < size:
        chunk = list(islice(entries, min(CHUNK, size - seen)))
        if not chunk:
            raise LedgerContentError(seen, f"the record is missing; the checkpoint says that there are {size}")
        yield chunk
        seen += len(chunk)


class _Tiles:
    """Compares the source's hash tiles with the nodes that its entries give."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self._leaves = 0
        self._rows: list[list[bytes]] = []  # per tile level, the hashes not compared yet
        self._done: list[int] = []  # per tile level, how many tiles were compared

    def feed(self, nodes: list[bytes]) -> None:
        """Take nodes in the order of ledger.merkle.node_position()."""
        for level, node in self._levelled(nodes):
            while len(self._rows) <= level:
                self._rows.append([])
                self._done.append(0)
            row = self._rows[level]
            row.append(node)
            if len(row) == TILE_WIDTH:
                self._compare(level)

    def finish(self) -> None:
        """Compare the partial tiles."""
        for level, row in enumerate(self._rows):
            if row:
                self._compare(level)

    def _levelled(self, nodes: list[bytes]) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at < len(nodes):
            completed = (~self._leaves & (self._leaves + 1)).bit_length()  # the leaf, and a node per trailing one bit
            for height in range(0, completed, 8):
                yield height // 8, nodes[at + height]
            at += completed
            self._leaves += 1

    def _compare(self, level: int) -> None:
        row, index = self._rows[level], self._done[level]
        if self._source.tile(level, index, width_at(Tile(level, index), self._size)) != b"".join(row):
            first = index * TILE_WIDTH << (8 * level)
            raise LedgerContentError(first, f"the hash tile {Tile(level, index).path()} is not that of the records")
        self._done[level] = index + 1
        row.clear()
