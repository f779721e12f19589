"""Unpacks image layers into a directory that nothing can leave; knows nothing of manifests and digests.

The root directory belongs to this process alone while it works, so paths are resolved here, part by part, as if it
were ``/``: absolute links and ``..`` end at the root. Links that a reader outside would follow out of it are
rewritten or refused. Owners, times and set-id bits are not applied, and device nodes are reported instead of made.
"""

import os
import posixpath
import shutil
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from images.errors import ImageTooLargeError, LayoutError, UnsafeLayerError

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_LINKS = 40
_CHUNK = 1 << 20


class Reader(Protocol):
    """What `unpack_layer` needs of a layer's uncompressed bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes, all of them unless the stream ends."""
        ...


@dataclass(slots=True, kw_only=True)
class Budget:
    """What all layers of an image together may become; counts down."""

    files: int = 500_000
    size: int = 8 << 30
    header: int = 1 << 20
    left_out: list[str] = field(default_factory=list)

    def take(self, size: int, where: str) -> None:
        """Account for one entry of *size* bytes.

        Raises:
            ImageTooLargeError: the budget is used up.
        """
        self.files -= 1
        self.size -= size
        if self.files < 0 or self.size < 0:
            raise ImageTooLargeError(f"{where}: the image has more files or bytes than this program unpacks")


class ForwardFile:
    """A stream as ``tarfile`` wants it: seekable forward only; nothing may ask for more than *limit* bytes at once."""

    def __init__(self, stream: Reader, limit: int) -> None:
        self._stream = stream
        self._position = 0
        self._limit = limit
        self._lent = False  # One byte of padding that the stream does not have.

    def tell(self) -> int:
        """The number of bytes read so far."""
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        """Skip forward to *position*."""
        if whence != 0 or position < self._position:
            raise LayoutError("the layer's tar stream asks to go back")
        while self._position < position:
            if not self.read(min(_CHUNK, position - self._position)):
                # The padding of the last entry may be missing, as for Go; `tarfile` wants to see its last byte.
                self._lent = position - self._position < tarfile.BLOCKSIZE
                self._position = position
        return self._position

    def read(self, size: int = -1) -> bytes:
        """At most *size* bytes."""
        if size < 0 or size > self._limit:
            raise ImageTooLargeError(
                f"a header of the layer's tar stream wants {size} bytes, at most {self._limit} are read"
            )
        data = self._stream.read(size)
        if not data and self._lent:
            data, self._lent = bytes(1), False
        self._position += len(data)
        return data


def entries(stream: Reader, budget: Budget) -> "tarfile.TarFile":
    """Open *stream* as a tar of bounded headers; iterate over the result once, in order."""
    # tarfile only reads, seeks forward and tells here; ForwardFile polices that.
    forward: IO[bytes] = ForwardFile(stream, max(_CHUNK, budget.header))  # type: ignore[assignment]
    return tarfile.TarFile(fileobj=forward, mode="r", ignore_zeros=False, encoding="utf-8", errors="surrogateescape")


def unpack_layer(stream: Reader, root: Path, budget: Budget) -> None:
    """Apply one layer to *root*, which holds the layers below it already.

    Raises:
        UnsafeLayerError: an entry would act outside the root.
        LayoutError: the tar is damaged.
        ImageTooLargeError: the budget is used up.
    """
    written: set[str] = set()  # Opaque markers hide what lower layers brought, never what this layer did.
    try:
        with entries(stream, budget) as tar:
            for member in tar:
                budget.take(max(member.size, 0), f"layer entry {member.name!r}")
                _apply(tar, member, root, written, budget)
                tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every header otherwise.
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise LayoutError(f"the layer's tar stream is damaged: {error}") from error


def check_links(root: Path) -> None:
    """Refuse a root in which any symbolic link leads a reader outside.

    Raises:
        UnsafeLayerError: one does.
    """
    top = os.path.realpath(root)
    for directory, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(directory, name)  # noqa: PTH118  half a million of them: strings are four times faster
            if os.path.islink(path):  # noqa: PTH114
                target = os.path.realpath(path)
                if target != top and not target.startswith(top + os.sep):
                    raise UnsafeLayerError(f"link {os.path.relpath(path, root)!r} leads out of the root: to {target!r}")


def clean(name: str) -> tuple[str, ...]:
    """The components of an entry's name.

    Raises:
        UnsafeLayerError: one of them is ``..``, or the name holds a zero byte.
    """
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts or "\0" in name:
        raise UnsafeLayerError(
            f"layer entry {name!r} climbs out of the root file system; no honest layer has such a name"
        )
    return parts


def _apply(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path, written: set[str], budget: Budget) -> None:
    parts = clean(member.name)
    if not parts:
        return  # The root directory itself: its mode stays ours.
    parent = _directory(root, parts[:-1], member.name)
    name = parts[-1]
    if name == _OPAQUE:
        _hide_lower(root, parent, written)
        return
    if name.startswith(_WHITEOUT):
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in {"", ".", ".."}:
            raise UnsafeLayerError(f"layer entry {member.name!r} is a whiteout of nothing")
        _remove(parent / hidden)
        return
    path = parent / name
    written.update(_relative(root, ancestor) for ancestor in [path, *path.parents] if ancestor.is_relative_to(root))
    if member.isdir():
        if path.is_symlink() or not path.is_dir():
            _remove(path)
            path.mkdir()
        path.chmod(0o700 | (member.mode & 0o777))  # This user must be able to go on writing there.
        return
    if member.islnk():
        _hardlink(root, path, member)
        return
    _remove(path)
    if member.isreg():
        _write(tar, member, path)
    elif member.issym():
        path.symlink_to(_inside(root, path.parent, member.linkname))
    else:
        budget.left_out.append(
            "/" + "/".join(parts)
        )  # Devices and pipes: /dev is the runtime's, and making them needs root.


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise LayoutError(f"layer entry {member.name!r} has no data")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        left = member.size
        while left:
            data = source.read(min(_CHUNK, left))
            if not data:
                raise LayoutError(f"layer entry {member.name!r} ends {left} bytes early")
            file.write(data)
            left -= len(data)
        os.fchmod(file.fileno(), stat.S_IRUSR | (member.mode & 0o777))


def _hardlink(root: Path, path: Path, member: tarfile.TarInfo) -> None:
    parts = clean(member.linkname)
    if not parts:
        raise UnsafeLayerError(f"layer entry {member.name!r} is a hard link to the root directory")
    target = _directory(root, parts[:-1], member.name, create=False) / parts[-1]
    if target == path:
        return
    if not os.path.lexists(target):
        raise UnsafeLayerError(
            f"layer entry {member.name!r} is a hard link to {member.linkname!r}, which is not in the image"
        )
    if target.is_dir() and not target.is_symlink():
        raise UnsafeLayerError(f"layer entry {member.name!r} is a hard link to the directory {member.linkname!r}")
    _remove(path)
    os.link(target, path, follow_symlinks=False)


def _directory(root: Path, parts: tuple[str, ...], name: str, *, create: bool = True) -> Path:
    """The real directory that *parts* mean inside *root*, links followed as if the root were ``/``."""
    here: list[str] = []
    todo = list(reversed(parts))
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del here[-1:]
            continue
        path = root.joinpath(*here, part)
        if path.is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise UnsafeLayerError(f"layer entry {name!r} lies behind more than {_MAX_LINKS} links")
            target = path.readlink().as_posix()
            if target.startswith("/"):
                here = []
            todo.extend(reversed([piece for piece in target.split("/") if piece not in {"", "."}]))
            continue
        if not path.is_dir():
            if not create:
                raise UnsafeLayerError(
                    f"layer entry {name!r} points below {path.name!r}, which is no directory of the image"
                )
            _remove(path)
            path.mkdir(mode=0o755)
        here.append(part)
    return root.joinpath(*here)


def _inside(root: Path, directory: Path, target: str) -> str:
    """Rewrite a link's target so that a reader outside the root ends where a process inside would."""
    if not target or "\0" in target:
        raise UnsafeLayerError("a layer holds a symbolic link without a target")
    here = "/" + _relative(root, directory)
    wanted = posixpath.normpath(posixpath.join(here, target))
    lexical = posixpath.normpath(posixpath.join(here.lstrip("/"), target))
    if not target.startswith("/") and not lexical.startswith(".."):
        return target
    return posixpath.relpath("/" + wanted.lstrip("/"), here)


def _hide_lower(root: Path, directory: Path, written: set[str]) -> None:
    for child in directory.iterdir():
        if _relative(root, child) not in written:
            _remove(child)
        elif child.is_dir() and not child.is_symlink():
            _hide_lower(root, child, written)


def _relative(root: Path, path: Path) -> str:
    relative = path.relative_to(root).as_posix()
    return "" if relative == "." else relative


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
