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
from images.layerscan import GROUP, PASSWD, LayerFile, LayerScan, scan_layer
from images.model import Image
from images.scanhelper import ScanHelper
from images.unpack import Budget

_AT_ONCE: Final = 2
_WORTH_A_PROCESS: Final = 64 << 20  # Bytes of an image below which starting another interpreter takes longer.


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the layers say.

    Attributes:
        accounts: users and groups, whiteouts respected.
        roots: dm-verity root hash of each layer in tardev form, lowest first; None where they were not asked for.
    """

    accounts: Accounts
    roots: tuple[bytes, ...] | None


def scan(image: Image, path_of: Callable[[str], Path], *, verity: bool = False) -> Scan:
    """Read every layer of *image* once.

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

    def one(index: int) -> LayerScan:
        layer = image.layers[index]
        file = LayerFile(path=path_of(layer.digest), layer=layer, diff_id=image.diff_ids[index])
        lane = lanes.get()
        try:
            found = None if lane is None else lane.scan(file)
            return scan_layer(file, budget, verity=verity) if found is None else found
        finally:
            lanes.put(lane)

    try:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="layer") as pool:
            found = list(pool.map(one, range(len(image.layers))))
    finally:
        if helper is not None:
            helper.stop()
    return Scan(
        accounts=_accounts(found),
        roots=tuple(layer.root for layer in found if layer.root is not None) if verity else None,
    )


def _accounts(layers: Sequence[LayerScan]) -> Accounts:
    files: dict[str, bytes] = {}
    for layer in layers:
        files = {path: raw for path, raw in files.items() if path not in layer.hidden} | layer.files
    return Accounts(users=parse_passwd(files.get(PASSWD, b"")), groups=parse_group(files.get(GROUP, b"")))
