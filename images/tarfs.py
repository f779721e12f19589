"""The index that the tardev snapshotter appends to a layer's tar, so that a kernel mounts it as tarfs; reads no layer.

Layout, all little-endian, directly behind the tar (no alignment): inode table, directory entries, targets of links that
are too long for a tar header, names; zeros up to the next 4096; one more block of 4096 whose last 512 bytes begin with
the superblock. Inodes are numbered breadth-first from 1, children in the order of their bytes. What the snapshotter
passes over is passed over here as well, since the root hash must be the guest's; entries that two readers of tar would
understand differently are refused.
"""

import struct
from collections import deque
from collections.abc import Iterator
from typing import Final

from images.errors import ImageTooLargeError, LayoutError
from images.tar import Member

_INODE: Final = struct.Struct("<HBBIIIQQ")
_DIRENT: Final = struct.Struct("<QQQB7x")
_SUPERBLOCK: Final = struct.Struct("<QQ")
_BLOCK: Final = 4096
_SUPERBLOCK_FROM_END: Final = 512
_LINK_NAME_IN_HEADER: Final = 157
_OPAQUE_FLAG: Final = 1
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_IFMT, _IFDIR, _IFREG, _IFCHR, _IFLNK = 0o170000, 0o040000, 0o100000, 0o020000, 0o120000
_KINDS: Final = {b"0": _IFREG, b"2": _IFLNK, b"3": _IFCHR, b"4": 0o060000, b"5": _IFDIR, b"6": 0o010000}
_MAX_ENTRIES: Final = 1_000_000
_MAX_PATH: Final = 4096  # What Linux takes as one path.


class _Node:
    """An inode, before it has a number. Hard links are one node under several names."""

    __slots__ = ("children", "gid", "long_link", "mode", "mtime", "number", "offset", "opaque", "size", "uid")

    def __init__(self, mode: int = 0) -> None:
        self.children: dict[bytes, _Node] = {}
        self.mode, self.size, self.offset, self.mtime = mode, 0, 0, 0
        self.uid, self.gid, self.number, self.opaque, self.long_link = 0, 0, 0, False, False


class TarfsIndex:
    """Collects the entries of one layer with `add`; `pack` gives the bytes to append."""

    def __init__(self) -> None:
        self._root = _Node(_IFDIR | 0o555)
        self._entries = self._nodes = 0
        self._long_links: list[bytes] = []
        self._long_size = 0

    def add(self, member: Member) -> None:
        """Take the next entry of the tar.

        Raises:
            LayoutError: another reader of tar would find other entries here.
            ImageTooLargeError: there are too many of them.
        """
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise ImageTooLargeError(f"a layer has more than {_MAX_ENTRIES} entries, which is the most that is indexed")
        if max(len(member.name), len(member.link)) > _MAX_PATH:
            raise ImageTooLargeError(f"layer entry {_shown(member.name[:80])}…: a path has more than {_MAX_PATH} bytes")
        if member.size and member.type in {b"1", b"2", b"3", b"4", b"5", b"6"}:
            raise LayoutError(
                f"layer entry {_shown(member.name)} is no file and names {member.size} bytes of data: readers of tar "
                "disagree about what follows it, so no root hash is computed; build the image with another tool"
            )
        if member.type == b"1":
            self._hard_link(member)
            return
        kind = _KINDS.get(member.type)
        path = _clean(member.name)
        if kind is None or path is None or (kind == _IFLNK and not member.link):
            return
        if path and path[-1] == _OPAQUE:
            self._find(path[:-1]).opaque = True
            return
        if path and path[-1].startswith(_WHITEOUT):
            node = self._find((*path[:-1], path[-1][len(_WHITEOUT) :]))
            node.children, node.size, node.offset, node.long_link = {}, 0, 0, False
            node.mode = node.mode & ~_IFMT | _IFCHR  # Character device 0:0: overlayfs looks no further down.
            return
        node = self._find(path)
        node.children, node.opaque, node.long_link = {}, False, False
        node.mode = member.mode & 0o777 | kind
        node.uid, node.gid = member.uid & 0xFFFFFFFF, member.gid & 0xFFFFFFFF
        node.mtime = member.mtime
        node.size = node.offset = 0
        if kind == _IFREG:
            node.size, node.offset = member.size, member.data
        elif kind == _IFLNK:
            self._symbolic_link(node, member)
        elif member.type in {b"3", b"4"}:
            node.offset = member.minor | member.major << 32

    def pack(self, contents: int) -> bytes:
        """The bytes to append to a tar of *contents* bytes; the sum is a multiple of 4096."""
        nodes = list(self._breadth_first())
        numbered: list[_Node] = []
        for node in nodes:
            if not node.number:
                numbered.append(node)
                node.number = len(numbered)
        offset = contents + _INODE.size * len(numbered)
        directories = [node for node in nodes if node.mode & _IFMT == _IFDIR]
        for node in directories:
            node.offset, node.size = offset, _DIRENT.size * len(node.children)
            offset += node.size
        links = offset
        name_at = links + self._long_size
        inodes = [self._inode(node, links) for node in numbered]
        entries: list[bytes] = []
        names: list[bytes] = []
        for node in directories:
            for name in sorted(node.children):
                child = node.children[name]
                entries.append(_DIRENT.pack(child.number, name_at, len(name), (child.mode & _IFMT) >> 12))
                names.append(name)
                name_at += len(name)
        body = b"".join([*inodes, *entries, *self._long_links, *names])
        end = -(-(contents + len(body)) // _BLOCK) * _BLOCK + _BLOCK
        superblock = _SUPERBLOCK.pack(contents, len(numbered))
        body = body.ljust(end - _SUPERBLOCK_FROM_END - contents, b"\0") + superblock
        return body.ljust(end - contents, b"\0")

    def _inode(self, node: _Node, links: int) -> bytes:
        return _INODE.pack(
            node.mode,
            _OPAQUE_FLAG if node.opaque else 0,
            node.mtime >> 32 & 0xF,
            node.uid,
            node.gid,
            node.mtime & 0xFFFFFFFF,
            node.size,
            node.offset + links if node.long_link else node.offset,
        )

    def _symbolic_link(self, node: _Node, member: Member) -> None:
        node.size = len(member.link)
        if member.link == member.header_link:
            node.offset = member.header + _LINK_NAME_IN_HEADER
            return
        node.long_link, node.offset = True, self._long_size
        self._long_links.append(member.link)
        self._long_size += len(member.link)

    def _hard_link(self, member: Member) -> None:
        target, path = _clean(member.link), _clean(member.name)
        if target is None or path is None or not member.link:
            return
        existing = self._find(target)
        if existing.mode & _IFMT != _IFREG:
            return
        if not path:
            self._root = existing
            return
        self._find(path)  # Refuses a place below a file.
        self._find(path[:-1]).children[path[-1]] = existing

    def _find(self, path: tuple[bytes, ...]) -> _Node:
        """The node at *path*; what is missing on the way is made, without type and permissions.

        Nothing lies below a file: hard links could make a circle of such.
        """
        node = self._root
        for part in path:
            if node.mode & _IFMT == _IFREG:
                raise LayoutError(f"layer entry {_shown(b'/'.join(path))} lies below a file: build the image anew")
            child = node.children.get(part)
            if child is None:
                self._nodes += 1
                if self._nodes > _MAX_ENTRIES:
                    raise ImageTooLargeError(f"a layer has more than {_MAX_ENTRIES} paths, the most that is indexed")
                child = node.children[part] = _Node()
            node = child
        return node

    def _breadth_first(self) -> Iterator[_Node]:
        waiting = deque([self._root])
        while waiting:
            node = waiting.popleft()
            yield node
            waiting.extend(node.children[name] for name in sorted(node.children))


def _clean(name: bytes) -> tuple[bytes, ...] | None:
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        elif part not in {b"", b"."}:
            parts.append(part)
    return tuple(parts)


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "replace"))
