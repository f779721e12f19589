"""Documents that were fetched before, in a directory: a cache whose content is as untrusted as the network.

Names are hashes of addresses, files are written whole or not at all, and a damaged one is simply not there.
"""

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.codec import pack, unpack
from attestation.errors import CodecError

_VERSION: Final = 1
MAX_DOCUMENT: Final = 1 << 20
MAX_FILES: Final = 4096


@dataclass(frozen=True, slots=True)
class Document:
    """One answer, and when it was got.

    Attributes:
        body: its bytes.
        note: the one header that the address is known to answer with beside the body, or "".
        fetched_ms: Unix time.
    """

    body: bytes
    note: str
    fetched_ms: int


class Shelf:
    """Documents by address, in memory and, where a directory is given, on disk (0700, files 0600).

    Args:
        directory: made when the first document is put there; None keeps everything in memory only.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._documents: dict[str, Document] = {}

    def get(self, address: str) -> Document | None:
        """The document last put there under *address*, or None."""
        found = self._documents.get(address)
        if found is None and self._directory is not None:
            found = _read(self._path(address), address)
            if found is not None:
                self._documents[address] = found
        return found

    def put(self, address: str, document: Document) -> None:
        """Keep *document*; a disk that is full or read-only costs its place there, not the caller's work."""
        if len(self._documents) >= MAX_FILES:
            self._documents.pop(next(iter(self._documents)))
        self._documents[address] = document
        if self._directory is None:
            return
        with contextlib.suppress(OSError):
            _write(self._path(address), pack([_VERSION, address, document.fetched_ms, document.note, document.body]))

    def _path(self, address: str) -> Path:
        if self._directory is None:
            raise RuntimeError("there is no directory")
        return self._directory / hashlib.sha256(address.encode()).hexdigest()


def _read(path: Path, address: str) -> Document | None:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT + 4096)
        match unpack(raw):
            case [1, str() as written, int() as fetched_ms, str() as note, bytes() as body] if written == address:
                return Document(body, note, fetched_ms)
    except (OSError, CodecError):
        return None
    return None


def _write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists() and sum(1 for _ in path.parent.iterdir()) >= MAX_FILES:
        return
    descriptor, name = tempfile.mkstemp(prefix=".draft-", dir=path.parent)  # 0600 from the start.
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
