"""Where a reader gets an exported log from: a directory of tlog-tiles, or an open ledger. Verifies nothing.

The layout is ``checkpoint``, ``tile/<L>/<N>[.p/<W>]``, ``tile/entries/<N>[.p/<W>]``, and beside them
``blob/<sha256>`` and ``entry/<seq>``. Served by any web server it is a log that tlog clients read.
"""

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

from ledger.checkpoint import read_checkpoint
from ledger.entry import MAX_ENTRY_BYTES, parse_entry
from ledger.errors import LedgerContentError, LedgerEmptyError, LedgerError, NoteError, ProofError
from ledger.log import Log, stored_chunks
from ledger.merkle import node_position
from ledger.note import MAX_NOTE_BYTES
from ledger.store import MAX_BLOB_BYTES, Store
from ledger.tiles import TILE_WIDTH, Tile, bundles_of, decode_bundle, tiles_of, width_at

_MAX_BUNDLE: Final = TILE_WIDTH * (MAX_ENTRY_BYTES + 2)


class Source(Protocol):
    """An exported log. What it gives is not believed: ledger/verify.py checks it."""

    def checkpoint(self) -> bytes:
        """The newest finished checkpoint, a signed note. Raises LedgerEmptyError where there is none."""

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Raw entries [start, end) of the log as of checkpoint(). Raises LedgerContentError at the first missing."""

    def entry(self, seq: int) -> bytes:
        """One raw entry. Raises LedgerContentError if it is missing."""

    def tile(self, level: int, index: int, width: int) -> bytes:
        """A hash tile. Raises LedgerContentError if it is missing."""

    def blob(self, digest: bytes) -> bytes | None:
        """The blob with this SHA-256, not yet hashed again; None if it is withheld."""


class DirectorySource:
    """A log in files. Every read is bounded, since the files are a stranger's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size: int | None = None

    def checkpoint(self) -> bytes:
        """The file ``checkpoint``."""
        raw = self._read("checkpoint", MAX_NOTE_BYTES)
        if raw is None:
            raise LedgerEmptyError(f"there is no exported ledger at {self._path}: the file checkpoint is missing")
        return raw

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Raw entries from the bundles that the checkpoint's size implies."""
        size = self._log_size()
        for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
            first = index * TILE_WIDTH
            width = width_at(Tile("entries", index), size)
            if width <= 0:
                raise LedgerContentError(first, f"it is beyond the size {size} of the checkpoint")
            raw = self._tile_bytes(Tile("entries", index, width), _MAX_BUNDLE, first)
            try:
                bundle = decode_bundle(raw, width)
            except ProofError as error:
                raise LedgerContentError(first, f"its bundle is damaged: {error}") from error
            yield from bundle[max(start - first, 0) : end - first]

    def entry(self, seq: int) -> bytes:
        """The file ``entry/<seq>`` where the export has it, else from the bundle."""
        raw = self._read(f"entry/{seq}", MAX_ENTRY_BYTES)
        if raw is not None:
            return raw
        return next(self.entries(seq, seq + 1))

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The file of the tile."""
        return self._tile_bytes(Tile(level, index, width), 32 * TILE_WIDTH, None)

    def blob(self, digest: bytes) -> bytes | None:
        """The file ``blob/<sha256>``."""
        return self._read(f"blob/{digest.hex()}", MAX_BLOB_BYTES)

    def _log_size(self) -> int:
        if self._size is None:
            try:
                self._size = read_checkpoint(self.checkpoint()).size
            except NoteError as error:
                raise LedgerContentError(None, f"the checkpoint is malformed: {error}") from error
        return self._size

    def _tile_bytes(self, tile: Tile, limit: int, seq: int | None) -> bytes:
        raw = self._read(tile.path(), limit)
        if raw is None:
            raise LedgerContentError(seq, f"the file {tile.path()} is missing")
        return raw

    def _read(self, name: str, limit: int) -> bytes | None:
        path = self._path / name
        try:
            # Opened without waiting: a pipe or a device in place of a file must not hang the reader.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LedgerError(f"{path} cannot be read ({error.strerror}): look at its permissions") from error
        with os.fdopen(handle, "rb") as file:
            try:
                raw = file.read(limit + 1)
            except OSError as error:
                raise LedgerError(f"{path} cannot be read ({error.strerror})") from error
        if len(raw) > limit:
            raise LedgerContentError(None, f"{name} is longer than {limit} bytes, the most that it can be")
        return raw


class StoreSource:
    """An open ledger as a source, at its newest finished checkpoint."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def checkpoint(self) -> bytes:
        """The newest finished note."""
        if self._log.finished is None:
            raise LedgerEmptyError("the ledger has no finished checkpoint yet")
        return self._log.finished.encode()

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Raw entries as stored."""
        for first in range(start, end, TILE_WIDTH):
            yield from self._log.entries(first, min(first + TILE_WIDTH, end))

    def entry(self, seq: int) -> bytes:
        """One raw entry as stored."""
        return self._log.entries(seq, seq + 1)[0]

    def tile(self, level: int, index: int, width: int) -> bytes:
        """A hash tile from the stored nodes."""
        return self._log.tile(level, index, width)

    def blob(self, digest: bytes) -> bytes | None:
        """A blob as stored."""
        return self._log.store.blob(digest)


class StoredSource:
    """A store as a source at its newest finished checkpoint, without opening it as a ledger first.

    Nothing is in memory to compare with: what it gives is as good as what ledger/verify.py makes of it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def checkpoint(self) -> bytes:
        """The newest finished note that was stored."""
        raw = self._store.finished()
        if raw is None:
            raise LedgerEmptyError("the ledger has no finished checkpoint yet")
        return raw

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Raw entries as stored."""
        return chain.from_iterable(stored_chunks(self._store, start, end))

    def entry(self, seq: int) -> bytes:
        """One raw entry as stored."""
        return next(self.entries(seq, seq + 1))

    def tile(self, level: int, index: int, width: int) -> bytes:
        """A hash tile from the stored nodes."""
        first = index * TILE_WIDTH
        with self._store.reader() as read:
            return b"".join(read(node_position(8 * level, at)) for at in range(first, first + width))

    def blob(self, digest: bytes) -> bytes | None:
        """A blob as stored."""
        return self._store.blob(digest)


def write_export(log: Log, directory: Path, *, wanted: Callable[[str], bool] = lambda _: False) -> bytes:
    """Write the whole ledger to *directory* in the layout above; the checkpoint last. Gives the checkpoint.

    ``entry/<seq>`` is written for entries whose type *wanted* says yes to (the control events, which this package does
    not know). Raises LedgerEmptyError without a finished checkpoint, LedgerError if a file cannot be written.
    """
    source = StoreSource(log)
    raw = source.checkpoint()
    size = read_checkpoint(raw).size
    try:
        for tile in tiles_of(size):
            assert tile.level != "entries"  # noqa: S101 - tiles_of() gives hash tiles
            _write(directory / tile.path(), log.tile(tile.level, tile.index, tile.width))
        for tile in bundles_of(size):
            bundle = log.bundle(tile.index, tile.width)
            _write(directory / tile.path(), bundle)
            for seq, entry in enumerate(decode_bundle(bundle, tile.width), tile.index * TILE_WIDTH):
                if wanted(parse_entry(entry, seq).body.type):
                    _write(directory / "entry" / str(seq), entry)
        for digest in log.store.blob_digests():
            blob = log.blob(digest)
            if blob is not None:
                _write(directory / "blob" / digest.hex(), blob)
        _write(directory / "checkpoint", raw)
    except OSError as error:
        raise LedgerError(f"the export to {directory} failed ({error.strerror}): free space or name another") from error
    return raw


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(data)
    unfinished.replace(path)
