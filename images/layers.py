"""The uncompressed bytes of a layer, with both digests checked on the way, in bounded memory; unpacks nothing.

Hashing runs on helper threads (the interpreter's lock is released meanwhile), so that on two cores a layer costs about
as much as its slowest step: reading, decompressing, or what the caller does with the bytes.
"""

import contextlib
import hashlib
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, Protocol

import zstandard

from images.errors import DigestMismatchError, ImageNotFoundError, ImageTooLargeError, LayoutError
from images.model import GZIP_TYPES, ZSTD_TYPES, Descriptor, check_digest

CHUNK: Final = 1 << 20
MAX_PLAIN: Final = 16 << 30  # What one layer may become; a bomb is cut off here.
_MAX_WINDOW: Final = 128 << 20  # What zstd may ask for as memory.
_SLICE: Final = 16 << 10
_WAITING: Final = 4  # Pieces between reader and hasher.


class LayerStream:
    """One pass over a layer. Either `chunks` or `read` gives the bytes; after the last, `finish` compares the digests.

    Call `close` in any case.
    """

    def __init__(self, file: IO[bytes], layer: Descriptor, diff_id: str) -> None:
        self._layer, self._diff_id = layer, diff_id
        # The bytes of a plain layer are hashed once: its digest and its diff id are one.
        plain = layer.media_type not in GZIP_TYPES | ZSTD_TYPES
        self._plain = _Hasher()
        self._raw = self._plain if plain else _Hasher()
        self._source = _Counted(file, layer, None if plain else self._raw.update)
        self._decompressed: _Decompressed
        if layer.media_type in GZIP_TYPES:
            self._decompressed = _Gzip(self._source, layer)
        elif layer.media_type in ZSTD_TYPES:
            self._decompressed = _Zstd(self._source, layer)
        else:
            self._decompressed = self._source
        self._size = 0
        self._rest = b""

    def chunks(self) -> Iterator[bytes]:
        """All of the layer, in pieces of at most 1 MiB."""
        while piece := self._next():
            yield piece

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes, all of them unless the layer ends."""
        pieces: list[bytes] = []
        left = size
        while left > 0 and (piece := self._rest or self._next()):
            pieces.append(piece[:left])
            self._rest = piece[left:]
            left -= len(pieces[-1])
        return b"".join(pieces)

    def finish(self) -> None:
        """Read what the caller left (padding) and compare both digests.

        Raises:
            DigestMismatchError: the bytes are not those that manifest and configuration name.
            LayoutError: the compressed stream is damaged or ends early.
        """
        for _ in self.chunks():
            pass
        self._decompressed.end()
        plain = self._plain.digest()
        check_digest(self._layer, self._raw.digest(), self._source.size)
        if plain != self._diff_id:
            raise DigestMismatchError(
                f"layer {self._layer.digest}: uncompressed its digest is {plain}, "
                f"the configuration says {self._diff_id}"
            )

    def close(self) -> None:
        """End the helper threads."""
        self._plain.stop()
        self._raw.stop()

    def _next(self) -> bytes:
        piece = self._decompressed.some(CHUNK)
        self._size += len(piece)
        if self._size > MAX_PLAIN:
            raise ImageTooLargeError(
                f"layer {self._layer.digest} has more than {MAX_PLAIN} bytes uncompressed, "
                "which is the most that is read"
            )
        self._plain.update(piece)
        return piece


@contextlib.contextmanager
def open_layer(path: Path, layer: Descriptor, diff_id: str) -> Iterator[LayerStream]:
    """The layer stored at *path*; leaving the block without an error means that both digests held.

    Raises:
        ImageNotFoundError: it is not there.
        ImageError: it is damaged or tampered with.
    """
    if not path.is_file():
        raise ImageNotFoundError(f"{path.parent} lacks the layer {layer.digest}: fetch the image again")
    with path.open("rb") as file:
        stream = LayerStream(file, layer, diff_id)
        try:
            yield stream
            stream.finish()
        finally:
            stream.close()


class _Decompressed(Protocol):
    """Where uncompressed bytes come from."""

    def some(self, limit: int) -> bytes:
        """Between 1 and *limit* bytes; none at the end."""
        ...

    def end(self) -> None:
        """Say that nobody asks any more; raises LayoutError if something is missing."""
        ...


class _Counted:
    """The stored bytes: no more of them than the manifest says."""

    def __init__(self, file: IO[bytes], layer: Descriptor, see: Callable[[bytes], None] | None) -> None:
        self._file, self._layer, self._see = file, layer, see
        self.size = 0

    def some(self, limit: int) -> bytes:
        """Stored bytes."""
        data = self._file.read(limit)
        self.size += len(data)
        if self.size > self._layer.size:
            raise DigestMismatchError(
                f"layer {self._layer.digest} has more than the {self._layer.size} bytes its manifest names"
            )
        if self._see is not None and data:
            self._see(data)
        return data

    read = some  # As zstandard's reader asks.

    def end(self) -> None:
        """Nothing is missing but what the digest will tell."""


class _Gzip:
    def __init__(self, source: _Counted, layer: Descriptor) -> None:
        self._source, self._layer = source, layer
        self._inflate = zlib.decompressobj(wbits=31)
        self._buffer, self._at = b"", 0
        self._slice = b""  # Compressed bytes that the decompressor has not taken yet.

    def some(self, limit: int) -> bytes:
        """Inflated bytes, *limit* of them unless the stream ends."""
        pieces: list[bytes] = []
        size = 0
        while size < limit and (data := self._slice or self._compressed()):
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(wbits=31)  # The next member: gzip files may be concatenated.
            try:
                piece = self._inflate.decompress(data, limit - size)
            except zlib.error as error:
                raise LayoutError(f"layer {self._layer.digest}: no gzip stream: {error}") from error
            self._slice = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            size += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _compressed(self) -> bytes:
        """A small slice: what follows a member is copied, and a hostile layer has a member every twenty bytes."""
        if self._at >= len(self._buffer):
            self._buffer, self._at = self._source.some(CHUNK), 0
        found = self._buffer[self._at : self._at + _SLICE]
        self._at += _SLICE
        return found

    def end(self) -> None:
        """Demand the end of the stream."""
        if not self._inflate.eof:
            raise LayoutError(f"layer {self._layer.digest}: its gzip stream ends early")


class _Zstd:
    def __init__(self, source: _Counted, layer: Descriptor) -> None:
        self._source, self._layer = source, layer
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._reader = decompressor.stream_reader(source, read_size=CHUNK, read_across_frames=True)  # type: ignore[arg-type]  # It only reads.

    def some(self, limit: int) -> bytes:
        """Decompressed bytes."""
        try:
            return self._reader.read(limit)
        except zstandard.ZstdError as error:
            raise LayoutError(f"layer {self._layer.digest}: no zstd stream: {error}") from error

    def end(self) -> None:
        """A frame that ends early shows in the diff id."""


class _Hasher:
    """SHA-256 on a thread of its own, at most a few pieces behind."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="layer-sha256", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        """Hash *data*, soon."""
        if data:
            self._queue.put(data)

    def digest(self) -> str:
        """``sha256:…`` of everything; nothing may follow."""
        self.stop()
        return f"sha256:{self._hash.hexdigest()}"

    def stop(self) -> None:
        """End the thread, when it has hashed what waits."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)
