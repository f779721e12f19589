"""The workspace: the names of its files, and how files are written, all of them or none; no content is decided here."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.errors import LocalFileError, RefusedError

KEY_MODE: Final = 0o600
FILE_MODE: Final = 0o644
MAX_INPUT: Final = 64 << 20  # Nothing that a command reads into memory whole is larger.
_GIVEN: Final = ("/dev/fd/", "/dev/stdin", "/dev/null", "/proc/self/fd/")
_ORIGINS: Final = {
    "manifest": "`contrast generate` writes it",
    "workload owner key": "`contrast generate` makes it with a new manifest",
    "seed share owner key": "`contrast generate` makes it with a new manifest",
    "seed shares": "the first `contrast set` of a ledger writes them; any copy will do",
    "reference values": "they come with your guest image; in a trial `contrast dev init` writes "
    ".contrast-dev/reference-values.json",
    "verifier keys": "`contrast verify` writes them",
    "receipt": "cert.tlog-proof beside a pod's certificate, or what `contrast ledger receipt` writes",
}


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder in which a user works, and the names of what stands in it."""

    root: Path

    @property
    def manifest(self) -> Path:
        """The manifest as generated and edited."""
        return self.root / "manifest.json"

    @property
    def workload_owner_key(self) -> Path:
        """The owner's P-384 private key, PKCS#8."""
        return self.root / "workload-owner.pem"

    @property
    def seedshare_owner_key(self) -> Path:
        """The seed share owner's RSA private key, PKCS#8."""
        return self.root / "seedshare-owner.pem"

    @property
    def seed_shares(self) -> Path:
        """The sealed seed shares that the first `set` answered."""
        return self.root / "seed-shares.json"

    @property
    def coordinator_policy(self) -> Path:
        """The digest of the Coordinator's policy, one line of hex for each."""
        return self.root / "coordinator-policy.sha256"

    @property
    def coordinator_root(self) -> Path:
        """The root CA that `set` received."""
        return self.root / "coordinator-root.pem"

    @property
    def mesh_root(self) -> Path:
        """The mesh CA that `set` received."""
        return self.root / "mesh-root.pem"

    @property
    def heads(self) -> Path:
        """The remembered heads, by address."""
        return self.root / "heads.json"

    @property
    def verify(self) -> Path:
        """What a successful `verify` leaves behind."""
        return self.root / "verify"

    @property
    def images(self) -> Path:
        """OCI layouts of the images named in the YAML."""
        return self.root / "images"

    @property
    def image_lock(self) -> Path:
        """Which bytes each image reference meant."""
        return self.root / "images.lock.json"

    @property
    def dev(self) -> Path:
        """The simulated vendor, its reference values and development images."""
        return self.root / ".contrast-dev"

    @property
    def dev_reference_values(self) -> Path:
        """The reference values that `contrast dev init` wrote."""
        return self.dev / "reference-values.json"

    @property
    def dev_images(self) -> Path:
        """The development images that `contrast dev init` wrote."""
        return self.dev / "images"

    def shown(self, path: Path) -> str:
        """Return *path* as a person in this workspace would write it."""
        with contextlib.suppress(ValueError):
            return str(path.resolve().relative_to(Path.cwd().resolve()))
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file that a command means to write.

    Attributes:
        path: where.
        before: the bytes it held when the decision was made; None where there was no file.
        after: the bytes it shall hold.
        mode: permission bits of a new file; an existing one keeps its own.
    """

    path: Path
    before: bytes | None
    after: bytes
    mode: int = FILE_MODE


def read_file(path: Path, *, what: str, limit: int = MAX_INPUT) -> bytes:
    """Return the bytes of *path*; *what* names it in the message when it cannot be read.

    A pipe that this process was given (`<(command)`, `/dev/stdin`) is read; a FIFO or a device is refused, since nobody
    may ever write to it.
    """
    try:
        # Not waiting for a FIFO's other end; what may be read is then read like any file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode) and not str(path).startswith(_GIVEN):
                raise LocalFileError(f"{what} {path}: it is a FIFO, a device or a socket, wanted a regular file")
            os.set_blocking(descriptor, True)
            raw = stream.read(limit + 1)
    except FileNotFoundError as error:
        origin = _ORIGINS.get(what)
        raise LocalFileError(f"{what} {path}: no such file{f' ({origin})' if origin else ''}") from error
    except OSError as error:
        raise LocalFileError(f"{what} {path}: {error.strerror or error}") from error
    if len(raw) > limit:
        raise RefusedError(f"{what} {path}: larger than {limit} bytes, which is the most that is read")
    return raw


def read_optional(path: Path, *, what: str) -> bytes | None:
    """Return the bytes of *path*, or None where there is no such file."""
    return read_file(path, what=what) if path.exists() else None


def change(path: Path, after: bytes, *, what: str = "file", mode: int = FILE_MODE) -> tuple[FileChange, ...]:
    """Return the change that makes *path* hold *after*: none if it does already."""
    before = read_optional(path, what=what)
    return () if before == after else (FileChange(path=path, before=before, after=after, mode=mode),)


def apply_changes(changes: Sequence[FileChange]) -> None:
    """Write all *changes*, or none of them.

    Every new content is first written beside its place and made durable; only then are names exchanged. If that fails
    half way, what was exchanged is put back.

    Raises:
        RefusedError: a file is no longer what it was when the change was decided.
        LocalFileError: a file could not be written; all files are as before.
    """
    staged: list[_Staged] = []
    try:
        staged.extend(_stage(item) for item in changes)
        for item in staged:
            _exchange(item)
    except (OSError, RefusedError) as error:
        _undo(staged)
        if isinstance(error, RefusedError):
            raise
        # While files are staged it has a name of ours that nobody typed.
        name = str(changes[len(staged)].path) if len(staged) < len(changes) else error.filename or ""
        raise LocalFileError(
            f"cannot write {name}: {error.strerror or error}; every file is as it was before"
        ) from error
    for item in staged:
        item.backup.unlink(missing_ok=True)
    for folder in {item.path.parent for item in staged}:
        _sync_folder(folder)


def write_atomic(path: Path, data: bytes, *, mode: int = FILE_MODE) -> None:
    """Make *path* hold *data*, durably, never half of it; an equal file is left alone."""
    apply_changes(change(path, data, mode=mode))


def replace_folder(path: Path, fresh: Path) -> None:
    """Put the folder *fresh* (on the same file system) in the place of *path*, which goes away.

    Raises:
        LocalFileError: it could not be done; the old folder is in its place.
    """
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    try:
        for folder, _, names in os.walk(fresh):
            for name in names:
                with (Path(folder) / name).open("rb") as stream:
                    os.fsync(stream.fileno())
            _sync_folder(Path(folder))
        moved = path.exists()
        if moved:
            path.rename(old)
        try:
            fresh.rename(path)
        except OSError:
            if moved:
                old.rename(path)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise LocalFileError(f"cannot write {path}: {error.strerror or error}; it is as it was before") from error
    shutil.rmtree(old, ignore_errors=True)  # Left-overs of the old folder cost only space.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    path: Path
    before: bytes | None
    fresh: Path
    backup: Path


def _stage(item: FileChange) -> _Staged:
    path = item.path.resolve()  # A link stays a link: what it points to is exchanged.
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = secrets.token_hex(4)
    fresh = path.with_name(f".{path.name}.{tag}.new")
    mode = stat.S_IMODE(path.stat().st_mode) if item.before is not None and path.exists() else item.mode
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(item.after)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return _Staged(path=path, before=item.before, fresh=fresh, backup=path.with_name(f".{path.name}.{tag}.old"))


def _exchange(item: _Staged) -> None:
    current = item.path.read_bytes() if item.path.exists() else None
    if current != item.before:
        raise RefusedError(
            f"{item.path} was changed by someone else meanwhile; nothing was written, run the command again"
        )
    if current is not None:
        os.link(item.path, item.backup)
    item.fresh.replace(item.path)


def _undo(staged: Sequence[_Staged]) -> None:
    for item in reversed(staged):
        exchanged = not item.fresh.exists()
        item.fresh.unlink(missing_ok=True)
        if item.backup.exists():
            item.backup.replace(item.path)
            item.backup.unlink(missing_ok=True)  # Renaming onto the same inode does nothing and leaves the name.
        elif exchanged and item.before is None:
            item.path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
