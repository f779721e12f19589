"""Blobs on this machine by their digest, as one OCI layout without an index; nothing is fetched here.

The directory is private to its user. What lies there is verified again by whoever reads it (`OciLayout`), so a damaged
blob is found, forgotten and fetched again.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from images.errors import CacheError
from images.layout import OciLayout
from images.model import MAX_JSON, Descriptor, hex_of


class BlobCache:
    """A directory of blobs that several processes may use at once."""

    def __init__(self, path: Path) -> None:
        """Open or make *path*.

        Raises:
            CacheError: it belongs to another user, others may write there, or it cannot be made.
        """
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.stat()
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                raise CacheError(
                    f"{path} belongs to user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):o}; wanted yours, "
                    "700: name another directory with CONTRAST_CACHE_DIR"
                )
            path.chmod(0o700)
            self._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
            marker = path / "oci-layout"
            if not marker.exists():
                marker.write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror or error}: name another with CONTRAST_CACHE_DIR") from error

    @property
    def layout(self) -> OciLayout:
        """The blobs as a layout; images are found there by digest."""
        return OciLayout(self.path)

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether a blob of that name (and *size*) is there; its bytes are verified when they are read."""
        with contextlib.suppress(OSError):
            found = (self._blobs / hex_of(digest)).stat()
            return size is None or found.st_size == size
        return False

    def intact(self, wanted: Descriptor) -> bool:
        """Whether the blob is there and has the digest of its name; reads all of it."""
        try:
            with (self._blobs / hex_of(wanted.digest)).open("rb") as file:
                return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == wanted.digest
        except OSError:
            return False

    def document(self, digest: str) -> bytes | None:
        """A small blob, verified; None where it is absent or damaged."""
        try:
            with (self._blobs / hex_of(digest)).open("rb") as file:
                data = file.read(MAX_JSON + 1)
        except OSError:
            return None
        return data if f"sha256:{hashlib.sha256(data).hexdigest()}" == digest else None

    def put(self, data: bytes) -> str:
        """Keep a small blob; returns its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        with self.writing(digest) as file:
            file.write(data)
        return digest

    @contextmanager
    def writing(self, digest: str) -> Iterator[IO[bytes]]:
        """A file that becomes the blob *digest* when the block ends well; the block has verified it.

        Raises:
            CacheError: the disk does not take it.
        """
        try:
            handle, name = tempfile.mkstemp(prefix=".partial-", dir=self._blobs)
        except OSError as error:
            raise CacheError(f"{self._blobs}: {error.strerror or error}") from error
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            partial.replace(self._blobs / hex_of(digest))
        except OSError as error:
            raise CacheError(f"{self._blobs}: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)

    def forget(self, digest: str) -> None:
        """Remove a blob that turned out to be damaged."""
        (self._blobs / hex_of(digest)).unlink(missing_ok=True)


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where the cache lies: ``CONTRAST_CACHE_DIR``, else ``contrast`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if named := environ.get("CONTRAST_CACHE_DIR"):
        return Path(named)
    if (base := environ.get("XDG_CACHE_HOME")) and Path(base).is_absolute():
        return Path(base) / "contrast"
    return Path(environ.get("HOME", "/")) / ".cache" / "contrast"
