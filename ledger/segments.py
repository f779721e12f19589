"""Checking the structure of a long ledger piece by piece, on all cores: shape, order, chain, time, tree.

A segment is a run of records from a multiple of 256 on. It is checked without knowing what stands before it; what it
found at its two ends is then fitted to its neighbours: prev and time at its start, and the roots of its complete
subtrees of 256 leaves, from which the tree above them is made. Signatures are not looked at: a structure without them
is whole, and may be anybody's.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from ledger.checkpoint import read_checkpoint
from ledger.entry import ZERO_HASH
from ledger.errors import LedgerContentError, NoteError
from ledger.helper import HelperProcess
from ledger.merkle import Frontier
from ledger.replay import backwards, broken_chain
from ledger.shapes import Shapes
from ledger.source import Source

BLOCK: Final = 256  # leaves of one complete subtree of a segment
_LEVEL: Final = 8
_ROUND: Final = 32 * BLOCK  # records of a share: about 8 MB
_WORTH_A_HELPER: Final = 50_000  # records: as long as it takes to start a process
HEADER: Final = struct.Struct(">QI")  # first seq, number of records
_FOUND: Final = struct.Struct(">I32s32sQQHH")


@dataclass(frozen=True, slots=True)
class Segment:
    """What *count* good records from *first* on show to their neighbours, and why the one after them is bad."""

    first: int
    count: int
    prev: bytes = ZERO_HASH
    head: bytes = ZERO_HASH
    time_ms: int = 0
    last_ms: int = 0
    blocks: tuple[bytes, ...] = ()  # roots of complete subtrees of 256 leaves
    rest: tuple[bytes, ...] = ()  # leaf hashes behind them
    problem: LedgerContentError | None = None

    def pack(self) -> bytes:
        """For the pipe of a helper."""
        problem = b"" if self.problem is None else b"!" + self.problem.reason.encode()[:60_000]
        head = _FOUND.pack(
            self.count, self.prev, self.head, self.time_ms, self.last_ms, len(self.blocks), len(self.rest)
        )
        body = b"".join((head, *self.blocks, *self.rest, problem))
        return len(body).to_bytes(4, "big") + body

    @classmethod
    def unpack(cls, first: int, raw: bytes) -> "Segment":
        """Read what pack() wrote, without its length."""
        count, prev, head, first_ms, last_ms, blocks, rest = _FOUND.unpack_from(raw)
        at = [_FOUND.size + 32 * number for number in range(blocks + rest + 1)]
        hashes = tuple(raw[start : start + 32] for start in at[:-1])
        reason = raw[at[-1] :]
        problem = LedgerContentError(first + count, reason[1:].decode()) if reason else None
        return cls(first, count, prev, head, first_ms, last_ms, hashes[:blocks], hashes[blocks:], problem)


def check_segment(raws: Sequence[bytes], first: int, shapes: Shapes) -> Segment:
    """Check *raws*, the first of which is record *first*; never raises for what is in them."""
    skim, hashed = shapes.skim, sha256
    leaves: list[bytes] = []
    leaf_done = leaves.append
    seq, start, start_ms, head, time_ms, problem = first, ZERO_HASH, 0, b"", 0, None
    try:
        for raw in raws:
            at, prev, body_raw = skim(raw, seq)
            if prev != head or at < time_ms:
                if seq != first:
                    raise broken_chain(seq, prev, head) if prev != head else backwards(seq, at, time_ms)
                start, start_ms = prev, at
            head = hashed(body_raw).digest()
            leaf_done(hashed(b"\x00" + raw).digest())
            time_ms = at
            seq += 1
    except LedgerContentError as error:
        problem = error
    whole = len(leaves) // BLOCK * BLOCK
    blocks = tuple(_root(leaves[begin : begin + BLOCK]) for begin in range(0, whole, BLOCK))
    return Segment(
        first, seq - first, start, head or ZERO_HASH, start_ms, time_ms, blocks, tuple(leaves[whole:]), problem
    )


def _root(hashes: list[bytes]) -> bytes:
    """The root of a complete subtree. RFC 6962, 2.1."""
    hashed = sha256
    while len(hashes) > 1:
        pairs = iter(hashes)
        hashes = [hashed(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return hashes[0]


@dataclass(frozen=True, slots=True)
class Structure:
    """A log whose records fit together and to its checkpoint; nobody's signature was verified."""

    size: int
    root: bytes
    head: bytes
    checkpoint_raw: bytes


def check_structure(source: Source, *, workers: int = 1, path: Path | None = None) -> Structure:
    """Check shape, order, chain, time and tree of all of *source* against its checkpoint.

    Where *source* is a store or a directory, *path* says so, and helper processes read it, too, on *workers* cores.

    Raises LedgerContentError naming the first bad record, LedgerEmptyError.
    """
    raw = source.checkpoint()
    try:
        checkpoint = read_checkpoint(raw)
    except NoteError as error:
        raise LedgerContentError(None, f"the checkpoint is malformed: {error}") from error
    ends = _Ends()
    helped = path is not None and checkpoint.size >= _WORTH_A_HELPER
    helpers = [_Helper(str(path)) for _ in range(workers - 1)] if helped else []
    try:
        for segment in _segments(source, checkpoint.size, helpers):
            ends.join(segment)
    finally:
        for helper in helpers:
            helper.stop()
    if ends.frontier.root() != checkpoint.root:
        raise LedgerContentError(
            None,
            f"the records give root {ends.frontier.root().hex()} at size {checkpoint.size}, "
            f"the checkpoint says {checkpoint.root.hex()}: records were changed at the end, or it is another log's",
        )
    return Structure(checkpoint.size, checkpoint.root, ends.head, raw)


class _Ends:
    """Where the segments so far end."""

    def __init__(self) -> None:
        self.frontier = Frontier()
        self.head = ZERO_HASH
        self.time_ms = 0

    def join(self, segment: Segment) -> None:
        """Fit *segment* to what was there. Raises LedgerContentError naming the first bad record."""
        if segment.count:
            if segment.prev != self.head:
                raise broken_chain(segment.first, segment.prev, self.head)
            if segment.time_ms < self.time_ms:
                raise backwards(segment.first, segment.time_ms, self.time_ms)
            self.head, self.time_ms = segment.head, segment.last_ms
            for block in segment.blocks:
                self.frontier.graft(_LEVEL, block)
            self.frontier.extend(segment.rest)
        if segment.problem is not None:
            raise segment.problem


def _segments(source: Source, size: int, helpers: "Sequence[_Helper]") -> Iterator[Segment]:
    """The segments in order: in each round every helper is given a share, and this process does the last one."""
    shapes, at = Shapes(), 0
    while at < size:
        ready = [helper for helper in helpers if helper.ready()]
        count = min(_ROUND * (len(ready) + 1), size - at)
        share = -(-count // (len(ready) + 1) // BLOCK) * BLOCK
        given = []
        for helper in ready:
            if (part := min(share, size - at)) > 0:
                given.append((helper.give(at, part), helper, at, part))
                at += part
        own = read_segment(source, at, min(share, size - at), shapes)
        for taken, helper, first, part in given:
            found = helper.answer(first) if taken else None
            yield read_segment(source, first, part, shapes) if found is None else found
        if own.count or own.problem is not None:
            yield own
        at += own.count


def read_segment(source: Source, first: int, count: int, shapes: Shapes) -> Segment:
    """Read and check records [*first*, *first* + *count*); a missing one is the problem of those before it."""
    raws: list[bytes] = []
    missing: LedgerContentError | None = None
    try:
        raws.extend(source.entries(first, first + count))
    except LedgerContentError as error:
        missing = error
    if missing is None and len(raws) != count:
        missing = LedgerContentError(
            first + len(raws), "the record is missing; the checkpoint says that there are more"
        )
    segment = check_segment(raws, first, shapes)
    return segment if segment.problem is not None or missing is None else replace(segment, problem=missing)


class _Helper(HelperProcess):
    """A process of ledger/segment_worker.py."""

    def __init__(self, path: str) -> None:
        super().__init__("ledger.segment_worker", path)

    def give(self, first: int, count: int) -> bool:
        """Say which records to check; False if the process has died."""
        return self.write(HEADER.pack(first, count))

    def answer(self, first: int) -> Segment | None:
        """What the process found; None if it died before it could say."""
        length = self.read(4)
        raw = None if length is None else self.read(int.from_bytes(length, "big"))
        return None if raw is None else Segment.unpack(first, raw)
