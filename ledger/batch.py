"""From commands to the bytes of one commit: decide, pack, chain, sign, grow the tree. Writes nothing."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import Checkpoint
from ledger.entry import Body, Entry, sign
from ledger.errors import LedgerError
from ledger.merkle import Frontier
from ledger.note import NoteSigner
from ledger.store import MAX_BLOB_BYTES, Batch, Head

S = TypeVar("S")
C_contra = TypeVar("C_contra", contravariant=True)
E = TypeVar("E")

_SLICE: Final = 16  # signatures per grab of a thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal(Generic[E]):
    """What one command leads to: its events, and the blobs that they name. No events: nothing is written."""

    events: tuple[E, ...]
    blobs: tuple[bytes, ...] = ()
    request_id: bytes = b""
    time_ms: int | None = None  # a fixed time: of the genesis, whose body is hashed before it is written


class Machine(Protocol[S, C_contra, E]):
    """The domain, as the writer sees it. Pure."""

    def decide(self, state: S, command: C_contra, now_ms: int) -> Proposal[E]:
        """What *command* leads to in *state*. Raises to refuse: the submitter gets that exception."""

    def pack(self, state: S, event: E) -> tuple[str, bytes]:
        """Type and payload of *event*; the link to the control event before it is taken from *state*."""

    def evolve(self, state: S, entry: Entry) -> S:
        """The state after *entry*, packed by this machine a moment ago; never refuses.

        The entry is not signed yet: ``raw``, ``leaf_hash`` and ``signature`` are empty, and no state depends on them.
        """

    def replay(self, state: S, entries: Sequence[Entry]) -> S:
        """The state after *entries* of another writer, verified as records. Raises to refuse them by the rules."""

    def signs(self, state: S) -> bool:
        """Whether this writer may still sign checkpoints in *state*: another writer may have closed its epoch."""


@dataclass(slots=True)
class Decision(Generic[S]):
    """A command was accepted: its entries are [start, end) of the batch, *state* is the one after it.

    Not frozen, for one is made for every command, and a frozen one takes twice as long to make.
    """

    start: int
    end: int
    state: S


@dataclass(slots=True)
class Candidate(Generic[S]):
    """What the commands of a batch lead to, while nothing of it is recorded."""

    state: S
    head: Head
    time_ms: int
    entries: list[Entry]
    blobs: dict[bytes, bytes]
    requests: dict[bytes, int]


def decide_all(
    machine: Machine[S, C_contra, E],
    start: Candidate[S],
    commands: Sequence[C_contra],
    *,
    signer: bytes,
    earliest_ms: int,
) -> list[Decision[S] | Exception]:
    """Decide *commands* in order, each against what the earlier ones led to, moving *start* on.

    *earliest_ms* is the time of the newest record, before which no command may fix its own.

    A refused command leaves no trace in the candidate; its exception stands in its place in the result.
    """
    outcomes: list[Decision[S] | Exception] = []
    for command in commands:
        try:
            outcomes.append(_decide_one(machine, start, command, signer, earliest_ms))
        except Exception as refusal:  # noqa: BLE001 - whatever the domain raises belongs to the one who submitted
            outcomes.append(refusal)
    return outcomes


def _decide_one(
    machine: Machine[S, C_contra, E], candidate: Candidate[S], command: C_contra, signer: bytes, earliest_ms: int
) -> Decision[S]:
    proposal = machine.decide(candidate.state, command, candidate.time_ms)
    state, seq, prev = candidate.state, candidate.head.size, candidate.head.hash
    time_ms = candidate.time_ms if proposal.time_ms is None else proposal.time_ms
    earliest = candidate.entries[-1].body.time_ms if candidate.entries else earliest_ms
    if time_ms < earliest:
        raise LedgerError(
            f"the command is fixed at {time_ms} ms, before the newest record ({earliest}): prepare it anew"
        )
    entries: list[Entry] = []
    for event in proposal.events:
        kind, payload = machine.pack(state, event)
        entry = Entry.unsigned(Body(signer, seq, time_ms, prev, kind, payload, proposal.request_id))
        state = machine.evolve(state, entry)
        entries.append(entry)
        seq, prev = seq + 1, entry.body_hash
    blobs = {hashlib.sha256(blob).digest(): blob for blob in proposal.blobs} if proposal.blobs else {}
    if blobs and max(map(len, proposal.blobs)) > MAX_BLOB_BYTES:
        raise LedgerError(f"a blob is longer than {MAX_BLOB_BYTES} bytes, the most that is stored")
    # Nothing raises from here on: the command is in the candidate whole or not at all.
    begin = len(candidate.entries)
    if entries:
        if proposal.request_id:
            candidate.requests[proposal.request_id] = candidate.head.size
        candidate.blobs.update(blobs)
        candidate.entries += entries
        candidate.head = Head(seq, prev)
        candidate.time_ms = max(candidate.time_ms, time_ms)
        candidate.state = state
    return Decision(begin, len(candidate.entries), candidate.state)


def sign_all(entries: Sequence[Entry], key: Ed25519PrivateKey, helper: Executor) -> list[Entry]:
    """The entries, signed on the calling thread and one of *helper*'s, since signing holds no lock."""
    signatures = [b""] * len(entries)
    starts = iter(range(0, len(entries), _SLICE))  # shared: next() of a range iterator is one step under the GIL

    def work() -> None:
        for start in starts:
            part = entries[start : start + _SLICE]
            signatures[start : start + len(part)] = [sign(entry.body_hash, key) for entry in part]

    if len(entries) > _SLICE:
        other = helper.submit(work)
        work()
        other.result()
    else:
        work()
    return [entry.signed(signature) for entry, signature in zip(entries, signatures, strict=True)]


@dataclass(frozen=True, slots=True)
class Commit(Generic[S]):
    """A batch ready for the store, and what memory becomes when the store has confirmed it."""

    batch: Batch
    entries: tuple[Entry, ...]
    frontier: Frontier
    root: bytes
    head: Head
    time_ms: int
    state: S
    text: str  # of the checkpoint
    epoch_line: str


def build_commit(
    candidate: Candidate[S],
    entries: Sequence[Entry],
    *,
    previous: Head,
    frontier: Frontier,
    origin: str,
    epoch: NoteSigner,
    finished: str | None,
) -> Commit[S]:
    """Grow *frontier* (which is taken over) by the signed *entries* and sign the draft checkpoint."""
    nodes = frontier.extend([entry.leaf_hash for entry in entries])
    root = frontier.root()
    text = Checkpoint(origin, candidate.head.size, root).text()
    epoch_line = epoch.line(text.encode())
    batch = Batch(
        previous=previous,
        head=candidate.head,
        entries=[entry.raw for entry in entries],
        nodes=nodes,
        blobs=candidate.blobs,
        requests=candidate.requests,
        draft=f"{text}\n{epoch_line}".encode(),
        finished=None if finished is None else finished.encode(),
    )
    time_ms = entries[-1].body.time_ms
    return Commit(batch, tuple(entries), frontier, root, candidate.head, time_ms, candidate.state, text, epoch_line)
