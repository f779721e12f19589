"""Paths and contents of c2sp.org/tlog-tiles (height 8): tiles of hashes and bundles of entries. Reads no files."""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ledger.errors import ProofError

TILE_WIDTH: Final = 256
MAX_LEVEL: Final = 7
_MAX_INDEX: Final = 2**55
_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z")


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile: *level* is 0 to 7 or "entries"; *width* is 256 for a full one, 1 to 255 for a partial one."""

    level: int | Literal["entries"]
    index: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Where it stands below the root of the log: ``tile/0/x001/234.p/17``."""
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        number = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{number}{partial}"


def parse_path(path: str) -> Tile:
    """The tile that *path* names. Only the one spelling that path() writes is accepted. Raises ProofError."""
    match = _PATH.match(path) if len(path) <= 64 else None
    if match:
        level, number, width = match.groups()
        tile = Tile(
            "entries" if level == "entries" else int(level),
            int(number.replace("x", "").replace("/", "")),
            int(width) if width else TILE_WIDTH,
        )
        in_range = tile.index <= _MAX_INDEX and (tile.level == "entries" or tile.level <= MAX_LEVEL)
        if in_range and (not width or tile.width < TILE_WIDTH) and tile.path() == path:
            return tile
    raise ProofError("this is no path of a tile: tile/<level>/<number>[.p/<width>] is wanted")


def tiles_of(size: int) -> Iterator[Tile]:
    """Every hash tile of a log of *size* entries, lowest level first, the partial one of each level last."""
    level = 0
    while size:
        yield from _row(level, size)
        size >>= 8
        level += 1


def bundles_of(size: int) -> Iterator[Tile]:
    """Every entry bundle of a log of *size* entries."""
    yield from _row("entries", size)


def _row(level: int | Literal["entries"], nodes: int) -> Iterator[Tile]:
    for index in range(nodes // TILE_WIDTH):
        yield Tile(level, index)
    if nodes % TILE_WIDTH:
        yield Tile(level, nodes // TILE_WIDTH, nodes % TILE_WIDTH)


def width_at(tile: Tile, size: int) -> int:
    """How many hashes or entries this tile has in a log of *size* entries; 0 if it does not exist there."""
    nodes = size if tile.level == "entries" else size >> (8 * tile.level)
    return max(0, min(TILE_WIDTH, nodes - tile.index * TILE_WIDTH))


def split_tile(raw: bytes, width: int) -> list[bytes]:
    """The hashes of a tile of *width*. Raises ProofError."""
    if len(raw) != 32 * width:
        raise ProofError(f"a tile of width {width} has {32 * width} bytes, this one has {len(raw)}")
    return [raw[at : at + 32] for at in range(0, len(raw), 32)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The bundle of these entries: each preceded by its length as u16."""
    return b"".join(part for entry in entries for part in (struct.pack(">H", len(entry)), entry))


def decode_bundle(raw: bytes, width: int) -> list[bytes]:
    """The *width* entries of a bundle. Raises ProofError."""
    entries: list[bytes] = []
    at = 0
    for _ in range(width):
        length = int.from_bytes(raw[at : at + 2], "big")
        end = at + 2 + length
        if at + 2 > len(raw) or end > len(raw):
            raise ProofError(f"the bundle ends after {len(entries)} of {width} entries")
        entries.append(raw[at + 2 : end])
        at = end
    if at != len(raw):
        raise ProofError(f"{len(raw) - at} bytes follow the {width} entries of the bundle")
    return entries
