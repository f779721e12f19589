"""Checking the structure of a long ledger piece by piece, on all cores: shape, order, chain, time, tree.

A segment is a run of records from a multiple of 256 on. It is checked without knowing what stands before it; what it
found at its two ends is then fitted to its neighbours: prev and time at its start, and the roots of its complete
subtrees of 256 leaves, from which the tree above them is made. Signatures are not looked at: a structure without them
is whole, and may be anybody's.
"""

import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
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
_ROUND: Final = 16 * BLOCK  # records that are shared out at once: about 4 MB
_WORTH_A_HELPER: Final = 50_000  # records: as long as it takes to start a process
HEADER: Final = struct.Struct(">QI")  # first seq, number of records; then their lengths, then their bytes
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
    seq, start, start_ms, head, time_ms, problem = first, b"", 0, b"", 0, None
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
    return Segment(first, seq - first, start, head, start_ms, time_ms, blocks, tuple(leaves[whole:]), problem)


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


def check_structure(source: Source, *, workers: int = 2) -> Structure:
    """Check shape, order, chain, time and tree of all of *source* against its checkpoint, on *workers* cores.

    Raises LedgerContentError naming the first bad record, LedgerEmptyError.
    """
    raw = source.checkpoint()
    try:
        checkpoint = read_checkpoint(raw)
    except NoteError as error:
        raise LedgerContentError(None, f"the checkpoint is malformed: {error}") from error
    ends = _Ends()
    helpers = [_Helper() for _ in range(workers - 1)] if checkpoint.size >= _WORTH_A_HELPER else []
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
    """The segments in order. While helpers check their share of a round, this process checks its own and reads on."""
    shapes, rounds, first = Shapes(), _rounds(source, size), 0
    each_s, elsewhere_s = 5e-6, 0.0
    raws = next(rounds, [])
    while raws:
        ready = [helper for helper in helpers if helper.ready()]
        blocks = -(-len(raws) // BLOCK)
        # So many that all are done together: this process reads and hands over besides.
        mine = max(0.0, len(raws) * each_s - len(ready) * elsewhere_s) / ((len(ready) + 1) * each_s)
        theirs = [] if not ready else _split(blocks - round(mine / BLOCK), len(ready))
        given: list[tuple[_Helper | None, int, list[bytes]]] = []
        begin, at = time.perf_counter(), 0
        for helper, share in zip(ready, theirs, strict=True):
            part = raws[at : at + share * BLOCK]
            if part:
                given.append((helper if helper.give(first + at, part) else None, first + at, part))
                at += len(part)
        passed_s = time.perf_counter() - begin
        begin = time.perf_counter()
        own = check_segment(raws[at:], first + at, shapes)
        if at < len(raws):
            each_s = (time.perf_counter() - begin) / (len(raws) - at)
        begin = time.perf_counter()
        first += len(raws)
        raws, failure = [], None
        try:
            raws = next(rounds, [])
        except LedgerContentError as error:  # missing or unreadable; a bad record before it comes first
            failure = error
        elsewhere_s = passed_s + time.perf_counter() - begin
        for worker, start, part in given:
            answer = None if worker is None else worker.answer(start)
            yield check_segment(part, start, shapes) if answer is None else answer
        yield own
        if failure is not None:
            raise failure


def _split(blocks: int, shares: int) -> list[int]:
    return [blocks // shares + (number < blocks % shares) for number in range(shares)]


def _rounds(source: Source, size: int) -> Iterator[list[bytes]]:
    entries, seen = source.entries(0, size), 0
    while seen < size:
        raws: list[bytes] = []
        problem: LedgerContentError | None = None
        try:
            raws.extend(islice(entries, min(_ROUND, size - seen)))
        except LedgerContentError as error:
            problem = error
        if raws:
            yield raws
            seen += len(raws)
        if problem is not None:
            raise problem
        if not raws:
            raise LedgerContentError(seen, f"the record is missing; the checkpoint says that there are {size}")


class _Helper(HelperProcess):
    """A process of ledger/segment_worker.py."""

    def __init__(self) -> None:
        super().__init__("ledger.segment_worker")

    def give(self, first: int, raws: Sequence[bytes]) -> bool:
        """Hand over records; False if the process has died."""
        lengths = struct.pack(f">{len(raws)}I", *map(len, raws))
        return self.write(b"".join((HEADER.pack(first, len(raws)), lengths, *raws)))

    def answer(self, first: int) -> Segment | None:
        """What the process found; None if it died before it could say."""
        length = self.read(4)
        raw = None if length is None else self.read(int.from_bytes(length, "big"))
        return None if raw is None else Segment.unpack(first, raw)
