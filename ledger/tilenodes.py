"""Nodes of a tree out of hash tiles, and which tiles a proof needs. It fetches nothing and believes nothing."""

from collections.abc import Callable
from typing import TypeAlias

from ledger.merkle import NodeReader, consistency_path, inclusion_path, node_hash
from ledger.tiles import TILE_WIDTH, Tile, split_tile, width_at

ReadTile: TypeAlias = Callable[[Tile], bytes]
Ask: TypeAlias = Callable[[NodeReader], object]


class TileNodes:
    """The nodes of a tree of *size* leaves, from its tiles; each tile is read once.

    Whoever verifies a proof made of them learns whether they are right, so they are not checked here.
    """

    def __init__(self, size: int, read: ReadTile) -> None:
        self.size = size
        self._read = read
        self._tiles: dict[Tile, list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree of 2^level leaves at leaf index * 2^level. Raises ProofError."""
        tile, start, count = _place(self.size, level, index)
        hashes = self._tiles.get(tile)
        if hashes is None:
            hashes = self._tiles[tile] = split_tile(self._read(tile), tile.width)
        some = hashes[start : start + count]
        while len(some) > 1:
            some = [node_hash(some[at], some[at + 1]) for at in range(0, len(some), 2)]
        return some[0]

    def inclusion(self, seq: int) -> list[bytes]:
        """The path from leaf *seq* to the root. Raises ProofError."""
        return inclusion_path(seq, self.size, self.node)

    def consistency(self, old: int) -> list[bytes]:
        """The path that shows that this tree extends its first *old* leaves. Raises ProofError."""
        return consistency_path(old, self.size, self.node)


def tiles_for_inclusion(seq: int, size: int) -> list[Tile]:
    """The tiles that the inclusion proof of leaf *seq* takes. Raises ProofError."""
    return _asked(size, lambda node: inclusion_path(seq, size, node))


def tiles_for_consistency(old: int, size: int) -> list[Tile]:
    """The tiles that the consistency proof from *old* takes. Raises ProofError."""
    return _asked(size, lambda node: consistency_path(old, size, node))


def _asked(size: int, ask: Ask) -> list[Tile]:
    """Which tiles *ask* reads nodes of, each once."""
    wanted: dict[Tile, None] = {}

    def note(level: int, index: int) -> bytes:
        wanted[_place(size, level, index)[0]] = None
        return bytes(32)

    ask(note)
    return list(wanted)


def _place(size: int, level: int, index: int) -> tuple[Tile, int, int]:
    """The tile that holds a node or all that it is hashed from, the first of them, and how many."""
    tile_level, height = divmod(level, 8)
    first = index << height
    at = first // TILE_WIDTH
    return Tile(tile_level, at, width_at(Tile(tile_level, at), size)), first % TILE_WIDTH, 1 << height
