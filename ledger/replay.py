"""Checking records one after another: shape, order, chain, time, tree, signatures. Reads no store, judges no payload.

The steps, in the order in which the first bad record is named:
(1) canonical bytes and the shape of every field, (2) seq counts on, (3) prev is the hash of the body before,
(4) time does not go back, (5) the signer's signature, (6) the tree grows by exactly this leaf.
Whether a signer was allowed to sign, and what the payload decides, is for the visitor.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ledger.entry import ZERO_HASH, Body, Entry, bad_signature
from ledger.errors import LedgerContentError
from ledger.merkle import Frontier
from ledger.shapes import Shapes
from ledger.signatures import Job, Signatures

CHUNK: Final = 1024  # records at once: long enough to share out among processes, short enough to stay in cache
Visit: TypeAlias = Callable[[Entry], None]
_sha256 = hashlib.sha256


@dataclass(slots=True)
class Chunk:
    """Records that passed steps 1 to 4; *problem* is why the one after them did not."""

    first: int
    jobs: list[Job] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)  # only where someone visits them
    problem: LedgerContentError | None = None


@dataclass(slots=True)
class Replay:
    """A position in a ledger, moved on by run(). Starts at the beginning, or anywhere that is already known."""

    size: int = 0
    head: bytes = ZERO_HASH
    time_ms: int = 0
    signer: bytes = b""
    frontier: Frontier = field(default_factory=Frontier)
    shapes: Shapes = field(default_factory=Shapes, repr=False)

    def run(
        self,
        chunks: Iterable[Sequence[bytes]],
        signatures: Signatures,
        *,
        visit: Visit | None = None,
        nodes: Callable[[int, list[bytes]], None] | None = None,
    ) -> None:
        """Check *chunks* of records and call *visit* with each record, after it was found good.

        *nodes* is given the tree nodes that a chunk completes, and the seq of its first record. While a chunk is
        visited and the next one is parsed, helpers verify signatures. Raises LedgerContentError naming the first bad
        record; what the visitor or *nodes* raises comes in the order of the records, too.
        """
        pending: Chunk | None = None
        source = iter(chunks)
        while (chunk := self._next(source, keep=visit is not None)) is not None:
            done, pending = pending, chunk
            if done is not None:
                self._finish(done, signatures)
            signatures.start(chunk.jobs)
            if done is not None:
                self._accept(done, visit, nodes)
            if chunk.problem is not None:
                break  # nothing behind it is looked at
        if pending is not None:
            self._finish(pending, signatures)
            self._accept(pending, visit, nodes)
            if pending.problem is not None:
                raise pending.problem

    def _next(self, source: Iterator[Sequence[bytes]], *, keep: bool) -> Chunk | None:
        try:
            raws = next(source, None)
        except LedgerContentError as error:  # missing or unreadable; a bad record before it comes first
            return Chunk(self.size, problem=error)
        return None if raws is None else self._parse(raws, keep=keep)

    def _parse(self, raws: Sequence[bytes], *, keep: bool) -> Chunk:
        seq, prev, time_ms = self.size, self.head, self.time_ms
        chunk = Chunk(seq)
        read, sha256 = self.shapes.read, _sha256
        job, leaf_done, entry_done = chunk.jobs.append, chunk.leaves.append, chunk.entries.append
        try:
            for raw in raws:
                signer, at, before, type_, payload, request_id, body_raw, signature = read(raw, seq)  # (1) (2)
                if before != prev:  # (3)
                    raise broken_chain(seq, before, prev)
                if at < time_ms:  # (4)
                    raise backwards(seq, at, time_ms)
                prev = sha256(body_raw).digest()
                leaf = sha256(b"\x00" + raw).digest()
                job((signer, signature, prev))
                leaf_done(leaf)
                if keep:
                    body = Body(signer, seq, at, before, type_, payload, request_id)
                    entry_done(Entry(raw, body, body_raw, prev, leaf, signature))
                time_ms = at
                seq += 1
        except LedgerContentError as error:
            chunk.problem = error  # a bad signature before it is the first bad record
        self.size, self.head, self.time_ms = seq, prev, time_ms
        if chunk.jobs:
            self.signer = chunk.jobs[-1][0]
        return chunk

    def _finish(self, chunk: Chunk, signatures: Signatures) -> None:
        bad = signatures.finish()  # (5)
        if bad is not None:
            raise bad_signature(chunk.first + bad, chunk.jobs[bad][0])

    def _accept(self, chunk: Chunk, visit: Visit | None, nodes: Callable[[int, list[bytes]], None] | None) -> None:
        if visit is not None:
            for entry in chunk.entries:
                visit(entry)
        completed = self.frontier.extend(chunk.leaves)  # (6)
        if nodes is not None:
            nodes(chunk.first, completed)


def broken_chain(seq: int, seen: bytes, wanted: bytes) -> LedgerContentError:
    """The error for a record that does not follow the one before it."""
    return LedgerContentError(
        seq,
        f"it follows a record with hash {seen.hex()[:16]}…, the one before it has {wanted.hex()[:16]}…: "
        "a record was changed, dropped or put in",
    )


def backwards(seq: int, seen: int, before: int) -> LedgerContentError:
    """The error for a record older than the one before it."""
    return LedgerContentError(seq, f"its time {seen} ms is before {before} ms, the time of the record before it")
