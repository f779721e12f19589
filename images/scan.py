"""What a policy wants to know of an image's layers, found in one pass over each: users, groups, root hashes.

Layers are read side by side, at most two at a time; nothing is unpacked.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from images.config import Accounts, parse_group, parse_passwd
from images.errors import LayoutError
from images.layers import LayerStream
from images.model import Image
from images.tar import Member, TarWalker
from images.tarfs import TarfsIndex
from images.unpack import Budget, clean
from images.verity import VerityHasher

_PASSWD, _GROUP = "etc/passwd", "etc/group"
_MAX_ACCOUNTS: Final = 1 << 20
_AT_ONCE: Final = 2

# Opens the layer of an index; leaving the block without an error means that both digests held.
OpenLayer = Callable[[int], AbstractContextManager[LayerStream]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the layers say.

    Attributes:
        accounts: users and groups, whiteouts respected.
        roots: dm-verity root hash of each layer in tardev form, lowest first; None where they were not asked for.
    """

    accounts: Accounts
    roots: tuple[bytes, ...] | None


@dataclass(slots=True)
class _LayerScan:
    files: dict[str, bytes] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    root: bytes | None = None


def scan(image: Image, open_layer: OpenLayer, *, verity: bool = False) -> Scan:
    """Read every layer of *image* once.

    Args:
        image: the image.
        open_layer: gives the layers.
        verity: compute the root hashes too.

    Raises:
        ImageError: a layer is damaged, tampered with or too large.
    """
    budget = Budget()

    def one(index: int) -> _LayerScan:
        with open_layer(index) as stream:
            return _scan_layer(stream, budget, verity=verity)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="layer") as pool:
        found = list(pool.map(one, range(len(image.layers))))
    return Scan(
        accounts=_accounts(found),
        roots=tuple(layer.root for layer in found if layer.root is not None) if verity else None,
    )


def _scan_layer(stream: LayerStream, budget: Budget, *, verity: bool) -> _LayerScan:
    found = _LayerScan()
    index, hasher = (TarfsIndex(), VerityHasher()) if verity else (None, None)

    def visit(member: Member) -> bool:
        name = member.name.decode("utf-8", "surrogateescape")
        budget.take(0, f"layer entry {name!r}")
        if index is not None:
            index.add(member)
        return _note(found, member, "/".join(clean(name)))

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


def _note(found: _LayerScan, member: Member, path: str) -> bool:
    """Remember what *path* hides of lower layers; whether its content is wanted."""
    if path in {".wh.etc", ".wh..wh..opq", "etc/.wh..wh..opq"}:
        found.hidden |= {_PASSWD, _GROUP}
    elif path in {"etc/.wh.passwd", "etc/.wh.group"}:
        found.hidden.add(path.replace(".wh.", "", 1))
    elif path == "etc" and member.type != b"5":
        # A file or link in place of the directory hides everything below; links are not followed for accounts.
        found.hidden |= {_PASSWD, _GROUP}
        found.files.clear()
    elif path in {_PASSWD, _GROUP}:
        found.files.pop(path, None)
        found.hidden.add(path)
        if member.type in {b"0", b"7"}:
            if member.size > _MAX_ACCOUNTS:
                raise LayoutError(f"the layer's {path} has {member.size} bytes, at most {_MAX_ACCOUNTS} are read")
            return True
    return False


def _accounts(layers: Sequence[_LayerScan]) -> Accounts:
    files: dict[str, bytes] = {}
    for layer in layers:
        files = {path: raw for path, raw in files.items() if path not in layer.hidden} | layer.files
    return Accounts(users=parse_passwd(files.get(_PASSWD, b"")), groups=parse_group(files.get(_GROUP, b"")))
