"""The bytes of one layer, decompressed and hashed on the way in bounded memory; their meaning is not known here."""

import hashlib
import zlib
from dataclasses import dataclass
from typing import IO

from images.errors import DigestMismatchError, LayoutError

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Names a blob: what it is, which bytes, how many."""

    media_type: str
    digest: str
    size: int


class LayerStream:
    """Decompresses and hashes on the way, in bounded memory."""

    def __init__(self, file: IO[bytes], layer: Descriptor, diff_id: str, *, compressed: bool) -> None:
        self._file, self._layer, self._diff_id = file, layer, diff_id
        self._raw, self._plain = hashlib.sha256(), hashlib.sha256()
        self._size = 0
        self._inflate = zlib.decompressobj(wbits=31) if compressed else None
        self._waiting = b""  # Compressed bytes that the decompressor has not taken yet.

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* uncompressed bytes, all of them unless the layer ends."""
        pieces: list[bytes] = []
        left = size
        while left > 0 and (piece := self._some(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def finish(self) -> None:
        """Read what the tar reader left (padding) and compare both digests."""
        while self.read(_CHUNK):
            pass
        if self._inflate is not None and not self._inflate.eof:
            raise LayoutError(f"layer {self._layer.digest}: its gzip stream ends early")
        check_digest(self._layer, f"sha256:{self._raw.hexdigest()}", self._size)
        if (seen := f"sha256:{self._plain.hexdigest()}") != self._diff_id:
            raise DigestMismatchError(
                f"layer {self._layer.digest}: uncompressed its digest is {seen}, the configuration says {self._diff_id}"
            )

    def _some(self, limit: int) -> bytes:
        piece = self._compressed(limit) if self._inflate is None else self._inflated(limit)
        self._plain.update(piece)
        return piece

    def _inflated(self, limit: int) -> bytes:
        while True:
            data = self._waiting or self._compressed(_CHUNK)
            if not data:
                return b""
            if self._inflate is None or self._inflate.eof:
                self._inflate = zlib.decompressobj(wbits=31)  # The next member: gzip files may be concatenated.
            try:
                piece = self._inflate.decompress(data, limit)
            except zlib.error as error:
                raise LayoutError(f"layer {self._layer.digest}: no gzip stream: {error}") from error
            self._waiting = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if piece:
                return piece

    def _compressed(self, limit: int) -> bytes:
        data = self._file.read(limit)
        self._size += len(data)
        self._raw.update(data)
        if self._size > self._layer.size:
            raise DigestMismatchError(
                f"layer {self._layer.digest} has more than the {self._layer.size} bytes its manifest names"
            )
        return data


def check_digest(wanted: Descriptor, digest: str, size: int) -> None:
    """Hold what was read to what its descriptor names.

    Raises:
        DigestMismatchError: they differ.
    """
    if digest != wanted.digest or size != wanted.size:
        raise DigestMismatchError(
            f"a blob has digest {digest}, {size} bytes; wanted {wanted.digest}, {wanted.size}: fetch the image again"
        )
