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
        self._tiles: dict[Tile, list[list[bytes]]] = {}  # per tile its own hashes, and the rows above them

    def node(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree of 2^level leaves at leaf index * 2^level. Raises ProofError."""
        tile, at, height = _place(self.size, level, index)
        rows = self._tiles.get(tile)
        if rows is None:
            rows = self._tiles[tile] = [split_tile(self._read(tile), tile.width)]
        while len(rows) <= height:
            below = rows[-1]
            rows.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
        return rows[height][at]

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
    """The tile out of which a node comes, its place among the nodes of its height there, and that height."""
    tile_level, height = divmod(level, 8)
    at = (index << height) // TILE_WIDTH
    tile = Tile(tile_level, at, width_at(Tile(tile_level, at), size))
    return tile, index - (at * TILE_WIDTH >> height), height
