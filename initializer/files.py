"""Putting a set of files in place so that a reader sees all of one set or nothing; what is in them is not known here.

The layout is the kubelet's for projected volumes, because it needs one atomic step and no rights outside the directory:
the set lies in a fresh folder, `..data` is a symbolic link to it, and every visible name links to `..data/NAME`.
Replacing `..data` by rename is the one moment at which everything changes.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from initializer.errors import LocalFaultError

_DATA: Final = "..data"
_FRESH: Final = "..set-"


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits of one file. Its content does not show when printed."""

    content: bytes = field(repr=False)
    mode: int = 0o444


def prepare(directory: Path) -> None:
    """Create *directory* where it is missing, and demand that files can be made in it.

    Raises:
        LocalFaultError: it cannot be made or written.
    """
    with _explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f"{_FRESH}probe"
        probe.unlink(missing_ok=True)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()


def place(directory: Path, files: Mapping[str, File], *, label: str) -> None:
    """Make *files* the content of *directory*, all at once; names that it has no more disappear.

    Args:
        directory: Exists. Files in it that were not placed by this function stay; one that bears a name of the set is
            refused.
        files: By name, which has no slash and does not begin with two dots.
        label: Names the set's folder; one that was not used before.

    Raises:
        LocalFaultError: nothing was changed.
    """
    for name in (*files, label):
        if "/" in name or name.startswith("..") or not name:
            raise ValueError(f"{name!r} is no name for a file of a set")
    fresh = directory / f"{_FRESH}{label}"
    linked: list[Path] = []
    with _explained(directory):
        try:
            _write_set(fresh, files)
            _link_missing(directory, files, linked)
            _replace_link(directory / _DATA, fresh.name)  # From here on, everybody sees the new set.
        except BaseException as error:  # Whatever it was, an interrupt too: never a link to a set that is gone.
            if not _leads_to(directory / _DATA, fresh.name):
                for link in linked:
                    link.unlink(missing_ok=True)
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            if not isinstance(error, OSError):
                raise
            # The rename took effect although it was reported as failed, so the new set is in place.
        with suppress(OSError):  # The set is in place; what cannot be removed now is removed the next time.
            _clean(directory, files, fresh)
            _sync(directory)


def _write_set(fresh: Path, files: Mapping[str, File]) -> None:
    fresh.mkdir(mode=0o700)
    for name, file in files.items():
        descriptor = os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content)
            stream.flush()
            os.fchmod(stream.fileno(), file.mode)
            os.fsync(stream.fileno())
    fresh.chmod(0o755)  # Only now, so that nobody lists a set that is not complete.
    _sync(fresh)


def _link_missing(directory: Path, files: Mapping[str, File], made: list[Path]) -> None:
    """Make the visible links, told in *made*. Until `..data` exists they lead nowhere: a reader still finds nothing."""
    for name in files:
        link = directory / name
        if _leads_to(link, f"{_DATA}/{name}"):
            continue
        if os.path.lexists(link):
            raise FileExistsError(errno.EEXIST, f"{name} is there already and was not made by the Initializer")
        _replace_link(link, f"{_DATA}/{name}")
        made.append(link)


def _replace_link(link: Path, target: str) -> None:
    temporary = link.with_name(f"{_FRESH}link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _leads_to(link: Path, target: str) -> bool:
    return link.is_symlink() and str(link.readlink()) == target


def _clean(directory: Path, files: Mapping[str, File], fresh: Path) -> None:
    """Remove older sets, and links to files that the set has no more. A failure leaves rubbish, not a wrong set."""
    for path in directory.iterdir():
        if path.name.startswith(_FRESH) and path != fresh:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        elif path.name not in files and _leads_to(path, f"{_DATA}/{path.name}"):
            path.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalFaultError(
            f"{directory} cannot be written ({error.strerror or error}): nothing was changed there. Mount a writable "
            "volume there, with some space left, or name another directory in CONTRAST_TLS_DIR"
        ) from error
