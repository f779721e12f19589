"""An exported log in a tar file, read in place: nothing is unpacked, so no name in it reaches the file system."""

import os
import tarfile
from pathlib import Path
from typing import Final, Self

from ledger.errors import LedgerContentError, LedgerError
from ledger.source import DirectorySource

MAX_MEMBERS: Final = 16_000_000
MAX_NAME: Final = 256


class TarSource(DirectorySource):
    """A log in a tar, laid out as in a directory. A name that comes twice, a link or a device is refused."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path.open("rb", buffering=0)
        try:
            self._members = _index(path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _read(self, name: str, limit: int) -> bytes | None:
        place = self._members.get(name)
        if place is None:
            return None
        offset, size = place
        if size > limit:
            raise LedgerContentError(None, f"{name} is longer than {limit} bytes, the most that it can be")
        try:
            raw = os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise LedgerError(f"{self._path} cannot be read ({error.strerror})") from error
        if len(raw) != size:
            raise LedgerContentError(None, f"the tar {self._path} ends inside {name}: copy it again")
        return raw


def _index(path: Path) -> dict[str, tuple[int, int]]:
    """Where each file stands. Raises LedgerError for what is no tar, or no tar of an export."""
    members: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                name = member.name.removeprefix("./")
                if not member.isreg() or member.issparse() or len(name) > MAX_NAME or name in members:
                    raise LedgerContentError(
                        None, f"{name[:80]!r} in {path} is a link, a device or a second file of that name"
                    )
                if len(members) >= MAX_MEMBERS:
                    raise LedgerContentError(None, f"{path} has more than {MAX_MEMBERS} files")
                members[name] = (member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # It keeps every header; a large export has millions.
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise LedgerError(f"{path} is no tar file of an exported ledger: {error}") from error
    except OSError as error:
        raise LedgerError(f"{path} cannot be read ({error.strerror or error})") from error
    return members
