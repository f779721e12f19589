"""What a policy wants to know of an image's layers, found in one pass over each: users, groups, root hashes.

Layers are read side by side, at most two at a time; nothing is unpacked.
"""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.config import Accounts, parse_group, parse_passwd
from images.errors import LayoutError
from images.layerscan import ACCOUNTS, GROUP, PASSWD, LayerFile, LayerScan, scan_layer
from images.model import Image
from images.scanhelper import ScanHelper
from images.tree import Unknown, content, merge
from images.unpack import Budget

_AT_ONCE: Final = 2
_MAX_ROUNDS: Final = 8  # Honest images need two: one that finds a link, one that follows it.
_WORTH_A_PROCESS: Final = 64 << 20  # Bytes of an image below which starting another interpreter takes longer.


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the layers say.

    Attributes:
        accounts: users and groups, whiteouts respected, links followed.
        roots: dm-verity root hash of each layer in tardev form, lowest first; None where they were not asked for.
    """

    accounts: Accounts
    roots: tuple[bytes, ...] | None


def scan(image: Image, path_of: Callable[[str], Path], *, verity: bool = False) -> Scan:
    """Read every layer of *image* once; once more where its accounts are links, and for links behind these.

    dm-verity hashes block by block, and two threads of one interpreter hinder each other at that; so with *verity* one
    of the two readers of a large image is a process of its own.

    Args:
        image: the image.
        path_of: where the blob of a digest lies.
        verity: compute the root hashes too.

    Raises:
        ImageError: a layer is damaged, tampered with or too large.
    """
    budget = Budget()
    lanes: queue.SimpleQueue[ScanHelper | None] = queue.SimpleQueue()
    large = verity and len(image.layers) > 1 and sum(layer.size for layer in image.layers) >= _WORTH_A_PROCESS
    helper = ScanHelper() if large else None
    for lane in (None, helper):
        lanes.put(lane)

    files = [
        LayerFile(path=path_of(layer.digest), layer=layer, diff_id=diff_id)
        for layer, diff_id in zip(image.layers, image.diff_ids, strict=True)
    ]

    def one(file: LayerFile) -> LayerScan:
        lane = lanes.get()
        try:
            found = None if lane is None else lane.scan(file)
            return scan_layer(file, budget, verity=verity) if found is None else found
        finally:
            lanes.put(lane)

    try:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="layer") as pool:
            found = list(pool.map(one, files))
    finally:
        if helper is not None:
            helper.stop()
    return Scan(
        accounts=_accounts(found, files),
        roots=tuple(layer.root for layer in found if layer.root is not None) if verity else None,
    )


def _accounts(layers: Sequence[LayerScan], files: Sequence[LayerFile]) -> Accounts:
    wanted = ACCOUNTS
    for _ in range(_MAX_ROUNDS):
        tree = merge(layers, wanted)
        passwd, group = (content(tree, wanted, path) for path in (PASSWD, GROUP))
        if not isinstance(passwd, Unknown) and not isinstance(group, Unknown):
            return Accounts(users=parse_passwd(passwd or b""), groups=parse_group(group or b""))
        wanted |= {item.path for item in (passwd, group) if isinstance(item, Unknown)}
        budget = Budget()
        layers = [scan_layer(file, budget, verity=False, wanted=wanted) for file in files]
    raise LayoutError(
        f"the image's /{PASSWD} or /{GROUP} is a link to a link, more than {_MAX_ROUNDS} deep: write the file itself"
    )
