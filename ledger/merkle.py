"""The RFC 6962 tree: hashing, growing, proving, verifying. No storage, no signatures, no files."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from ledger.errors import ProofError

_sha256 = hashlib.sha256
EMPTY_ROOT: Final = _sha256(b"").digest()
MAX_SIZE: Final = 2**63 - 1

# node(level, index) is the hash of the complete subtree of 2^level leaves that starts at leaf index * 2^level.
NodeReader: TypeAlias = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf. RFC 6962, 2.1."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node. RFC 6962, 2.1."""
    return _sha256(b"\x01" + left + right).digest()


def node_position(level: int, index: int) -> int:
    """Where a complete node stands when nodes are numbered in the order in which a growing tree completes them."""
    last = ((index + 1) << level) - 1  # the leaf that completes the node
    return 2 * last - last.bit_count() + level


def node_count(size: int) -> int:
    """How many complete nodes, leaves included, a tree of *size* leaves has."""
    return 2 * size - size.bit_count()


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first. All that appending needs."""

    __slots__ = ("_peaks", "_size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Continue a tree of *size* leaves whose complete subtrees have the roots *peaks*, largest first."""
        if len(peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(peaks)}")
        self._size = size
        self._peaks = list(peaks)

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._size

    def copy(self) -> "Frontier":
        """A second frontier that grows by itself."""
        return Frontier(self._size, self._peaks)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash; the nodes completed by it (itself first), in the order of node_position()."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> list[bytes]:
        """Add leaf hashes; every node completed by them, in the order of node_position()."""
        completed: list[bytes] = []
        done, peaks, size, sha256 = completed.append, self._peaks, self._size, _sha256
        for leaf in leaves:
            node = leaf
            done(node)
            rest = size
            while rest & 1:
                node = sha256(b"\x01" + peaks.pop() + node).digest()
                done(node)
                rest >>= 1
            peaks.append(node)
            size += 1
        self._size = size
        return completed

    def graft(self, level: int, node: bytes) -> None:
        """Add the 2^*level* leaves under *node*, whose hashes were computed elsewhere. Raises ValueError unaligned."""
        if self._size & ((1 << level) - 1):
            raise ValueError(f"a subtree of 2^{level} leaves cannot begin at {self._size}")
        rest = self._size >> level
        while rest & 1:
            node = node_hash(self._peaks.pop(), node)
            rest >>= 1
        self._peaks.append(node)
        self._size += 1 << level

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        return root_of_peaks(self._peaks)


def root_of_peaks(peaks: Sequence[bytes]) -> bytes:
    """The root over complete subtrees, largest first."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def peaks_of(size: int) -> list[tuple[int, int]]:
    """(level, index) of the complete subtrees of a tree of *size* leaves, largest first."""
    peaks, start = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            peaks.append((level, start >> level))
            start += 1 << level
    return peaks


def range_root(start: int, end: int, node: NodeReader) -> bytes:
    """The root of leaves [start, end), where *start* is a multiple of a power of two not below their number."""
    return root_of_peaks([node(level, (start >> level) + index) for level, index in peaks_of(end - start)])


def inclusion_path(index: int, size: int, node: NodeReader) -> list[bytes]:
    """The hashes from leaf *index* to the root of the tree of *size* leaves. RFC 6962, 2.1.1. Raises ProofError."""
    positions, ragged = inclusion_positions(index, size)
    return fold_path([node(level, at) for level, at in positions], ragged)


def inclusion_positions(index: int, size: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The complete nodes, as (level, index), of which fold_path() makes the path: to read them all at once.

    Raises ProofError if there is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"there is no entry {index} in a tree of size {size}")
    # Up to here the way to the leaf and the way to the last leaf are different, and siblings are on either side; the
    # uppermost of them reaches to the end of the tree and may be ragged. From there on all siblings are on the left.
    inner = (index ^ (size - 1)).bit_length()
    positions = [(level, (index >> level) ^ 1) for level in range(inner - 1)]
    before = len(positions)
    if inner:
        level = inner - 1
        start = ((index >> level) ^ 1) << level
        positions += [(height, (start >> height) + at) for height, at in peaks_of(size - start)]
    ragged = (before, len(positions))
    index >>= inner
    while index:
        if index & 1:
            positions.append((inner, index ^ 1))
        index, inner = index >> 1, inner + 1
    return positions, ragged


def fold_path(nodes: list[bytes], ragged: tuple[int, int]) -> list[bytes]:
    """The path of *nodes*, of which those from ``ragged[0]`` to ``ragged[1]`` are the peaks of one sibling."""
    start, end = ragged
    if end - start > 1:
        nodes[start:end] = [root_of_peaks(nodes[start:end])]
    return nodes


def consistency_path(old: int, new: int, node: NodeReader) -> list[bytes]:
    """The hashes that show that the tree of *new* leaves extends that of *old*. RFC 6962, 2.1.2. Raises ProofError."""
    if not 0 <= old <= new:
        raise ProofError(f"a tree of size {new} cannot extend one of size {old}")
    if old in {0, new}:
        return []
    level, index, last = 0, old - 1, new - 1
    while index & 1:  # the largest complete subtree at the old tree's right edge is common to both
        index, last, level = index >> 1, last >> 1, level + 1
    # A power of two is a whole subtree of the new tree, whose root the verifier has.
    path = [] if old & (old - 1) == 0 else [node(level, index)]
    while last:
        sibling = index ^ 1
        if sibling < last:
            path.append(node(level, sibling))
        elif sibling == last:
            path.append(range_root(sibling << level, new, node))
        index, last, level = index >> 1, last >> 1, level + 1
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Demand that *path* leads from the leaf hash at *index* to *root* of a tree of *size*. RFC 9162, 2.1.3.2.

    Raises ProofError.
    """
    if root_of_inclusion(leaf, index, size, path) != root:
        raise ProofError(f"the inclusion proof of entry {index} does not lead to the root of size {size}")


def root_of_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root to which *path* leads. Raises ProofError if it has the wrong length or *index* lies outside."""
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"there is no entry {index} in a tree of size {size}")
    _check_hashes((leaf, *path))
    inner = (index ^ (size - 1)).bit_length()  # so many siblings lie on either side, all above them on the left
    wanted = inner + (index >> inner).bit_count()
    if len(path) != wanted:
        raise ProofError(f"the inclusion proof is too {'long' if len(path) > wanted else 'short'}")
    sha256, result = _sha256, leaf
    for step in path[:inner]:
        result = sha256(b"\x01" + step + result if index & 1 else b"\x01" + result + step).digest()
        index >>= 1
    for step in path[inner:]:
        result = sha256(b"\x01" + step + result).digest()
    return result


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    """Demand that the tree (*new*, *new_root*) extends (*old*, *old_root*). RFC 9162, 2.1.4.2. Raises ProofError.

    An empty old tree proves nothing and is refused, unless both are empty: start from a size that was seen.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        raise ProofError(f"a tree of size {new} cannot extend one of size {old}")
    if old == 0 and (new > 0 or old_root != new_root):
        raise ProofError("every tree extends the empty one: nothing is proven from size 0")
    verify_subtree_consistency(start=0, end=old, size=new, subtree_root=old_root, root=new_root, path=path)


def verify_subtree_inclusion(
    leaf: bytes, index: int, *, start: int, end: int, path: Sequence[bytes], root: bytes
) -> None:
    """Demand that the leaf at *index* is in the subtree [start, end) with *root*. Merkle Tree Certificates, 4.3."""
    _check_subtree(start, end)
    if not start <= index < end:
        raise ProofError(f"there is no entry {index} in the subtree from {start} to {end}")
    if root_of_inclusion(leaf, index - start, end - start, path) != root:
        raise ProofError(f"the inclusion proof of entry {index} does not lead to the root of the subtree")


def verify_subtree_consistency(
    *, start: int, end: int, size: int, subtree_root: bytes, root: bytes, path: Sequence[bytes]
) -> None:
    """Demand that the subtree [start, end) is part of the tree (*size*, *root*). Merkle Tree Certificates, 4.4.

    With start 0 this is RFC 9162's consistency proof. Raises ProofError.
    """
    if not 0 <= start <= end <= size <= MAX_SIZE:
        raise ProofError(f"the subtree from {start} to {end} does not lie in a tree of size {size}")
    if start == end:
        if path or subtree_root != EMPTY_ROOT:
            raise ProofError("an empty subtree has the empty root and an empty proof")
        return
    if path:
        _check_hashes((subtree_root, root, *path))
    _check_subtree(start, end)
    fn, sn, tn = start, end - 1, size - 1
    if sn == tn:
        while fn != sn:
            fn, sn, tn = fn >> 1, sn >> 1, tn >> 1
    else:
        while fn != sn and sn & 1:
            fn, sn, tn = fn >> 1, sn >> 1, tn >> 1
    steps = list(path)
    if fn == sn:
        found_subtree = found = subtree_root
    elif not steps:
        raise ProofError("the consistency proof is empty")
    else:
        found_subtree = found = steps.pop(0)
    for step in steps:
        if tn == 0:
            raise ProofError("the consistency proof is too long")
        if sn & 1 or sn == tn:
            if fn < sn:
                found_subtree = node_hash(step, found_subtree)
            found = node_hash(step, found)
            while not sn & 1 and sn:
                fn, sn, tn = fn >> 1, sn >> 1, tn >> 1
        else:
            found = node_hash(found, step)
        fn, sn, tn = fn >> 1, sn >> 1, tn >> 1
    if tn:
        raise ProofError("the consistency proof is too short")
    if found_subtree != subtree_root or found != root:
        raise ProofError(f"the tree of size {size} does not extend the one that was known: its history was changed")


def _check_subtree(start: int, end: int) -> None:
    if not 0 <= start < end <= MAX_SIZE:
        raise ProofError(f"from {start} to {end} is no subtree")
    if start & ((1 << (end - start - 1).bit_length()) - 1):
        raise ProofError(f"a subtree of {end - start} leaves cannot start at {start}")


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(length != 32 for length in set(map(len, hashes))):
        raise ProofError("every hash of a proof has 32 bytes")
