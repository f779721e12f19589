"""One pass over one layer: what it says about a few paths, what it hides of them in lower layers, its root hash."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from images.errors import LayoutError
from images.layers import LayerStream, open_layer
from images.model import Descriptor
from images.tar import Member, TarWalker
from images.tarfs import TarfsIndex
from images.unpack import Budget, clean
from images.verity import VerityHasher

PASSWD: Final = "etc/passwd"  # noqa: S105 a path
GROUP: Final = "etc/group"
ACCOUNTS: Final = frozenset({PASSWD, GROUP})
_MAX_ACCOUNTS: Final = 1 << 20
_MAX_EVENTS: Final = 10_000  # Of one layer; an honest one has a handful.
_MAX_DATA: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFile:
    """A layer as it lies on the disk."""

    path: Path
    layer: Descriptor
    diff_id: str


class Kind(StrEnum):
    """What an entry makes of its path."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARD_LINK = "hard link"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An entry at one of the paths asked about, in the order of the layer.

    Attributes:
        path: without a leading slash.
        kind: what stands there.
        target: of a link; of a hard link, a path as ``path``.
        data: of a file.
    """

    path: str
    kind: Kind
    target: str = ""
    data: bytes = b""


@dataclass(slots=True)
class LayerScan:
    """What one layer says.

    Attributes:
        events: its entries at the paths asked about and at the directories above them.
        hidden: what it hides in layers below: a path, or with a slash behind it all that lies in that directory.
        root: its dm-verity root hash in tardev form, if asked for.
    """

    events: list[Event] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    root: bytes | None = None


def above(paths: Iterable[str]) -> frozenset[str]:
    """*paths* and the directories above them."""
    split = [path.split("/") for path in paths]
    return frozenset("/".join(parts[:count]) for parts in split for count in range(1, len(parts) + 1))


def scan_layer(file: LayerFile, budget: Budget, *, verity: bool, wanted: frozenset[str] = ACCOUNTS) -> LayerScan:
    """Read the layer once, with an eye on *wanted* paths.

    Raises:
        ImageError: it is damaged, tampered with or too large.
    """
    with open_layer(file.path, file.layer, file.diff_id) as stream:
        return _scan(stream, budget, _Notes(wanted), verity=verity)


def _scan(stream: LayerStream, budget: Budget, notes: "_Notes", *, verity: bool) -> LayerScan:
    index, hasher = (TarfsIndex(), VerityHasher()) if verity else (None, None)
    everything = notes.wanted != ACCOUNTS

    def visit(member: Member) -> bool:
        budget.take(0, "a layer")
        if index is not None:
            index.add(member)
        name = member.name
        if b"etc" not in name and b".wh." not in name and b".." not in name and b"\0" not in name and not everything:
            return False  # Neither of interest nor of danger, like nearly every entry.
        return notes.entry(member)

    walker = TarWalker(visit, notes.content)
    size = 0
    for chunk in stream.chunks():
        walker.feed(chunk)
        size += len(chunk)
        if hasher is not None:
            hasher.update(chunk)
    walker.finish()
    if index is not None and hasher is not None:
        hasher.update(index.pack(size))
        notes.found.root = hasher.root()
    return notes.found


class _Notes:
    """Remembers what a layer says about *wanted*."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self.found = LayerScan()
        self._near = above(wanted)
        self._links: set[str] = set()
        self._directories: set[str] = set()
        self._data = 0

    def entry(self, member: Member) -> bool:
        """Take one entry; whether its content is wanted."""
        parts = clean(_text(member.name))
        if not parts:
            return False
        for count in range(1, len(parts)):
            self._directory("/".join(parts[:count]), parts)
        path, last = "/".join(parts), parts[-1]
        if last.startswith(".wh."):
            self._whiteout("/".join(parts[:-1]), last.removeprefix(".wh."))
            return False
        if path not in self._near:
            return False
        self._links.discard(path)
        if member.type in {b"0", b"7"} and path in self.wanted:
            if member.size > _MAX_ACCOUNTS:
                raise LayoutError(f"the layer's {path} has {member.size} bytes, at most {_MAX_ACCOUNTS} are read")
            if member.size:
                return True  # `content` follows at once.
            self._add(path, Kind.FILE)
        elif member.type == b"5":
            self._add(path, Kind.DIRECTORY)
            return False
        elif member.type == b"2":
            self._links.add(path)
            self._add(path, Kind.SYMLINK, target=_text(member.link))
        elif member.type == b"1":
            self._add(path, Kind.HARD_LINK, target="/".join(clean(_text(member.link))))
        else:
            self._add(path, Kind.OTHER)
        return False

    def content(self, member: Member, data: bytes) -> None:
        """Take the content of the entry that was wanted."""
        self._data += len(data)
        if self._data > _MAX_DATA:
            raise LayoutError("the layer has its files of accounts again and again: no honest layer does")
        self._add("/".join(clean(_text(member.name))), Kind.FILE, data=data)

    def _directory(self, path: str, parts: tuple[str, ...]) -> None:
        """Something lies below *path*, so it is a directory, also where no entry says so."""
        if path not in self._near or path in self._directories:
            return
        if path in self._links:
            if "/".join(parts) in self._near:
                raise LayoutError(
                    f"the layer has {'/'.join(parts)} behind its own link {path}, and readers of layers disagree about "
                    "such an entry: build the image anew"
                )
            return
        self._add(path, Kind.DIRECTORY)

    def _whiteout(self, directory: str, name: str) -> None:
        if name == ".wh..opq":
            if not directory or directory in self._near:
                self.found.hidden.add(f"{directory}/")
        elif (path := f"{directory}/{name}" if directory else name) in self._near:
            self.found.hidden.add(path)

    def _add(self, path: str, kind: Kind, *, target: str = "", data: bytes = b"") -> None:
        if len(self.found.events) >= _MAX_EVENTS:
            raise LayoutError(f"the layer has the entry {path} again and again: no honest layer does")
        if kind is Kind.DIRECTORY:
            self._directories.add(path)
        else:
            self._directories = {other for other in self._directories if other != path and not _below(other, path)}
        self.found.events.append(Event(path=path, kind=kind, target=target, data=data))


def _below(path: str, directory: str) -> bool:
    return path.startswith(f"{directory}/")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
