"""Checking records one after another: shape, order, chain, time, tree, signatures. Reads no store, judges no payload.

The steps, in the order in which the first bad record is named:
(1) canonical bytes and the shape of every field, (2) seq counts on, (3) prev is the hash of the body before,
(4) time does not go back, (5) the signer's signature, (6) the tree grows by exactly this leaf.
Whether a signer was allowed to sign, and what the payload decides, is for the visitor.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from ledger.entry import ZERO_HASH, Body, Entry, bad_signature, parse_raw, signature_holds
from ledger.errors import LedgerContentError
from ledger.merkle import Frontier

CHUNK: Final = 1024  # records per feed(): long enough to share out among threads, short enough to stay in cache
_SLICE: Final = 16  # signatures per grab of a thread: about a millisecond
Job = tuple[bytes, bytes, bytes]  # signer, signature, SHA-256(body)
Visit = Callable[[Entry], None]
_sha256 = hashlib.sha256


class Signatures:
    """Verifies signatures on *workers* threads, the calling one included."""

    def __init__(self, workers: int) -> None:
        self._helpers = max(0, workers - 1)
        self._pool = ThreadPoolExecutor(self._helpers, "ledger-verify") if self._helpers else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def first_bad(self, jobs: Sequence[Job]) -> int | None:
        """The index of the first signature that does not hold."""
        starts = iter(range(0, len(jobs), _SLICE))  # shared: next() of a range iterator is one step under the GIL

        def work() -> int | None:
            bad: int | None = None
            for start in starts:
                for index, (signer, signature, digest) in enumerate(jobs[start : start + _SLICE], start):
                    if not signature_holds(signer, signature, digest) and (bad is None or index < bad):
                        bad = index
            return bad

        if self._pool is None or len(jobs) <= _SLICE:
            return work()
        helpers = [self._pool.submit(work) for _ in range(self._helpers)]
        found = [work(), *(helper.result() for helper in helpers)]
        return min((bad for bad in found if bad is not None), default=None)


@dataclass(slots=True)
class Replay:
    """A position in a ledger, moved on by feed(). Starts at the beginning, or anywhere that is already known."""

    signatures: Signatures | None  # None: the signatures are checked elsewhere
    size: int = 0
    head: bytes = ZERO_HASH
    time_ms: int = 0
    signer: bytes = b""
    frontier: Frontier | None = None

    def feed(self, raws: Sequence[bytes], visit: Visit | None = None) -> list[bytes]:
        """Check the next records and call *visit* with each, after all of them were found good.

        Gives the tree nodes that they complete. Raises LedgerContentError naming the first bad one, and leaves the
        position where it was.
        """
        if self.frontier is None:
            self.frontier = Frontier()
        seq, prev, time_ms = self.size, self.head, self.time_ms
        jobs: list[Job] = []
        leaves: list[bytes] = []
        entries: list[Entry] = []
        problem: LedgerContentError | None = None
        try:
            for raw in raws:
                fields, body_raw, signature = parse_raw(raw, seq)  # (1) (2)
                _, signer, number, at, before, type_, payload, request_id = fields
                if before != prev:  # (3)
                    raise _broken_chain(seq, before, prev)
                if at < time_ms:  # (4)
                    raise _backwards(seq, at, time_ms)
                prev = _sha256(body_raw).digest()
                leaf = _sha256(b"\x00" + raw).digest()
                jobs.append((signer, signature, prev))
                leaves.append(leaf)
                if visit is not None:
                    body = Body(signer, number, at, before, type_, payload, request_id)
                    entries.append(Entry(raw, body, body_raw, prev, leaf, signature))
                time_ms = at
                seq += 1
        except LedgerContentError as error:
            problem = error  # a bad signature before it is the first bad record
        if self.signatures is not None:
            bad = self.signatures.first_bad(jobs)  # (5)
            if bad is not None:
                raise bad_signature(self.size + bad, jobs[bad][0])
        if problem is not None:
            raise problem
        if visit is not None:
            for entry in entries:
                visit(entry)
        nodes = self.frontier.extend(leaves)  # (6)
        self.size, self.head, self.time_ms = seq, prev, time_ms
        if jobs:
            self.signer = jobs[-1][0]
        return nodes


def _broken_chain(seq: int, seen: bytes, wanted: bytes) -> LedgerContentError:
    return LedgerContentError(
        seq,
        f"it follows a record with hash {seen.hex()[:16]}…, the one before it has {wanted.hex()[:16]}…: "
        "a record was changed, dropped or put in",
    )


def _backwards(seq: int, seen: int, before: int) -> LedgerContentError:
    return LedgerContentError(seq, f"its time {seen} ms is before {before} ms, the time of the record before it")
