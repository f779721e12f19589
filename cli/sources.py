"""Ledgers as `contrast ledger` finds them, a Coordinator's store or an exported folder; nothing is judged here."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.errors import LocalFileError
from ledger.entry import Entry
from ledger.errors import LedgerContentError
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from ledger.source import DirectorySource, Source, StoreSource
from ledger.verify import replay_source

Visit = Callable[[Entry], None]


class CheckedSource:
    """A source whose blobs are hashed when they are read: a name is a promise, and files are changed easily."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def checkpoint(self) -> bytes:
        """Return the checkpoint's note."""
        return self._source.checkpoint()

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Return raw entries."""
        return self._source.entries(start, end)

    def entry(self, seq: int) -> bytes:
        """Return one raw entry."""
        return self._source.entry(seq)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return a hash tile."""
        return self._source.tile(level, index, width)

    def blob(self, digest: bytes) -> bytes | None:
        """Return the blob of that SHA-256, None where it is withheld.

        Raises:
            LedgerContentError: other bytes stand under its name.
        """
        data = self._source.blob(digest)
        if data is not None and hashlib.sha256(data).digest() != digest:
            raise LedgerContentError(
                None, f"the blob {digest.hex()} has other bytes than its name says: it was changed"
            )
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A ledger whose structure, chain, tree and entry signatures were checked while it was opened.

    Attributes:
        source: to read from.
        size: number of entries.
        root: Merkle root over them.
        stored: whether it is a Coordinator's store, whose end may have no finished checkpoint yet.
    """

    source: CheckedSource
    size: int
    root: bytes
    stored: bool


@contextmanager
def open_ledger(path: Path, *, visit: Visit | None = None) -> Iterator[Opened]:
    """Open and check the ledger at *path*, calling *visit* for every entry.

    Raises:
        LocalFileError: there is no ledger.
        LedgerError: it is damaged; the first bad record is named.
    """
    if LmdbStore.exists(path):
        store = LmdbStore(path, readonly=True)
        try:
            log = open_log(store, visit=visit)
            yield Opened(source=CheckedSource(StoreSource(log)), size=log.size, root=log.root, stored=True)
        finally:
            store.close()
        return
    if not (path / "checkpoint").is_file():
        raise LocalFileError(
            f"{path} holds no ledger: wanted a Coordinator's folder (`--ledger`) or an exported one (`verify/ledger`)"
        )
    source = CheckedSource(DirectorySource(path))
    verified = replay_source(source, visit=visit)
    yield Opened(source=source, size=verified.size, root=verified.root, stored=False)
