"""One pass over one layer: the files that name users and groups, what it hides of lower layers, its root hash."""

from dataclasses import dataclass, field
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
_MAX_ACCOUNTS: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFile:
    """A layer as it lies on the disk."""

    path: Path
    layer: Descriptor
    diff_id: str


@dataclass(slots=True)
class LayerScan:
    """What one layer says.

    Attributes:
        files: content of ``etc/passwd`` and ``etc/group``, where it has them.
        hidden: which of them it hides in layers below.
        root: its dm-verity root hash in tardev form, if asked for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    root: bytes | None = None


def scan_layer(file: LayerFile, budget: Budget, *, verity: bool) -> LayerScan:
    """Read the layer once.

    Raises:
        ImageError: it is damaged, tampered with or too large.
    """
    with open_layer(file.path, file.layer, file.diff_id) as stream:
        return _scan(stream, budget, verity=verity)


def _scan(stream: LayerStream, budget: Budget, *, verity: bool) -> LayerScan:
    found = LayerScan()
    index, hasher = (TarfsIndex(), VerityHasher()) if verity else (None, None)

    def visit(member: Member) -> bool:
        budget.take(0, "a layer")
        if index is not None:
            index.add(member)
        name = member.name
        if b"etc" not in name and b".wh." not in name and b".." not in name and b"\0" not in name:
            return False  # Neither of interest nor of danger, like nearly every entry.
        return _note(found, member, "/".join(clean(name.decode("utf-8", "surrogateescape"))))

    def content(member: Member, data: bytes) -> None:
        found.files["/".join(clean(member.name.decode("utf-8", "surrogateescape")))] = data

    walker = TarWalker(visit, content)
    size = 0
    for chunk in stream.chunks():
        walker.feed(chunk)
        size += len(chunk)
        if hasher is not None:
            hasher.update(chunk)
    walker.finish()
    if index is not None and hasher is not None:
        hasher.update(index.pack(size))
        found.root = hasher.root()
    return found


def _note(found: LayerScan, member: Member, path: str) -> bool:
    """Remember what *path* hides of lower layers; whether its content is wanted."""
    if path in {".wh.etc", ".wh..wh..opq", "etc/.wh..wh..opq"}:
        found.hidden |= {PASSWD, GROUP}
    elif path in {"etc/.wh.passwd", "etc/.wh.group"}:
        found.hidden.add(path.replace(".wh.", "", 1))
    elif path == "etc" and member.type != b"5":
        # A file or link in place of the directory hides everything below; links are not followed for accounts.
        found.hidden |= {PASSWD, GROUP}
        found.files.clear()
    elif path in {PASSWD, GROUP}:
        found.files.pop(path, None)
        found.hidden.add(path)
        if member.type in {b"0", b"7"}:
            if member.size > _MAX_ACCOUNTS:
                raise LayoutError(f"the layer's {path} has {member.size} bytes, at most {_MAX_ACCOUNTS} are read")
            return True
    return False
