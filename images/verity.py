"""The root hash of dm-verity over a stream, in constant memory; writes no hash device and opens none.

Format 1 of the kernel (Documentation/admin-guide/device-mapper/verity.rst): SHA-256, blocks of 4096 bytes for data and
hashes, the salt before each block; equal to ``veritysetup format --no-superblock`` with these parameters.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from images.config import VerityLayer

BLOCK: Final = 4096
SALT: Final = bytes(32)  # As the tardev snapshotter uses it.
_FANOUT: Final = BLOCK // 32


class VerityHasher:
    """Takes the bytes of a device with `update`; `root` ends it."""

    def __init__(self, salt: bytes = SALT) -> None:
        self._salted = hashlib.sha256(salt)  # Copied for every block: the salt is hashed once.
        self._part = b""
        self._levels: list[list[bytes]] = [[]]
        self.blocks = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        if self._part:
            missing = BLOCK - len(self._part)
            self._part += bytes(view[:missing])
            if len(self._part) < BLOCK:
                return
            self._blocks(memoryview(self._part))
            view, self._part = view[missing:], b""
        whole = len(view) - len(view) % BLOCK
        self._blocks(view[:whole])
        self._part = bytes(view[whole:])

    def root(self) -> bytes:
        """The root hash; 32 bytes.

        Raises:
            ValueError: there was no data, or not a whole number of blocks.
        """
        if self._part or not self.blocks:
            raise ValueError(f"dm-verity covers whole blocks of {BLOCK} bytes, at least one")
        if self.blocks == 1:
            return self._levels[0][0]
        level = 0
        while True:
            if level + 1 == len(self._levels) and len(self._levels[level]) == 1:
                return self._levels[level][0]
            if self._levels[level]:
                self._close(level)
            level += 1

    def _blocks(self, view: memoryview) -> None:
        copy, add = self._salted.copy, self._levels[0].append
        for start in range(0, len(view), BLOCK):
            one = copy()
            one.update(view[start : start + BLOCK])
            add(one.digest())
        self.blocks += len(view) // BLOCK
        self._carry()

    def _carry(self) -> None:
        """Hash every full block of hashes, but leave at least one hash in each level: only `root` knows the end."""
        level = 0
        while level < len(self._levels) and len(self._levels[level]) > _FANOUT:
            row = self._levels[level]
            full = (len(row) - 1) // _FANOUT * _FANOUT
            self._levels[level] = row[full:]
            for start in range(0, full, _FANOUT):
                self._add(level + 1, row[start : start + _FANOUT])
            level += 1

    def _close(self, level: int) -> None:
        row, self._levels[level] = self._levels[level], []
        for start in range(0, len(row), _FANOUT):
            self._add(level + 1, row[start : start + _FANOUT])

    def _add(self, level: int, hashes: list[bytes]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        one = self._salted.copy()
        one.update(b"".join(hashes).ljust(BLOCK, b"\0"))
        self._levels[level].append(one.digest())


def tardev_layers(diff_ids: Sequence[str], roots: Sequence[bytes]) -> tuple[VerityLayer, ...]:
    """The layers as the tardev snapshotter names them, lowest first: by SHA-256 of the chain id's text.

    The chain id is the image specification's: of the lowest layer its diff id, above it the digest of both.
    """
    found: list[VerityLayer] = []
    chain = ""
    for diff_id, root in zip(diff_ids, roots, strict=True):
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
        found.append(VerityLayer(name=hashlib.sha256(chain.encode()).hexdigest(), root_hash=root.hex()))
    return tuple(found)
