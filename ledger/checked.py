"""A source whose blobs are what their names say. The one place where blobs of an exported ledger are hashed again."""

import hashlib
from collections.abc import Iterator
from typing import Final

from ledger.errors import LedgerContentError
from ledger.source import Source

KEPT: Final = 512  # Certificate chains and revocation lists come again and again, under thousands of entries.
MAX_KEPT_BYTES: Final = 16_384


class CheckedSource:
    """*source*, with every blob hashed when it is read: a name is a promise that a stranger does not have to keep."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: dict[bytes, bytes] = {}

    @classmethod
    def of(cls, source: Source) -> "CheckedSource":
        """*source* itself where it is checked already."""
        return source if isinstance(source, CheckedSource) else cls(source)

    def checkpoint(self) -> bytes:
        """The checkpoint's note."""
        return self._source.checkpoint()

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Raw entries."""
        return self._source.entries(start, end)

    def entry(self, seq: int) -> bytes:
        """One raw entry."""
        return self._source.entry(seq)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """A hash tile."""
        return self._source.tile(level, index, width)

    def blob(self, digest: bytes) -> bytes | None:
        """The blob of that SHA-256, None where it is withheld; LedgerContentError if other bytes stand under it."""
        known = self._kept.get(digest)
        if known is not None:
            return known
        data = self._source.blob(digest)
        if data is None:
            return None
        if hashlib.sha256(data).digest() != digest:
            raise LedgerContentError(
                None, f"the blob {digest.hex()} has other bytes than its name says: it was changed"
            )
        if len(data) <= MAX_KEPT_BYTES:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[digest] = data
        return data
