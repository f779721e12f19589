"""A tiny domain over the ledger, for tests and benchmarks: it records notes and counts them. Refuses what says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import origin_of
from ledger.codec import pack
from ledger.entry import Entry
from ledger.log import Log
from ledger.writer import Proposal, Writer

EPOCH = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LEDGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ORIGIN = origin_of(LEDGER.public_key().public_bytes_raw())
START_MS = 1_790_000_000_000


class RefusedError(Exception):
    """The machine says no."""


@dataclass(frozen=True, slots=True)
class Note:
    """A command: record *texts* as one event each."""

    texts: tuple[bytes, ...]
    blobs: tuple[bytes, ...] = ()
    request_id: bytes = b""
    time_ms: int | None = None
    refuse: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """How many notes there are, and the hash of the last one's body."""

    count: int = 0
    last: bytes = b""


class NoteMachine:
    """The domain. With *refuse_foreign* it takes no entry of another writer; at count *closes_at* it signs no more."""

    def __init__(self, *, refuse_foreign: bool = False, closes_at: int = 0) -> None:
        self.refuse_foreign = refuse_foreign
        self.closes_at = closes_at

    def decide(self, state: Counted, command: Note, now_ms: int) -> Proposal[bytes]:
        if command.refuse:
            raise RefusedError(f"refused at count {state.count}, {now_ms} ms")
        return Proposal(
            events=command.texts, blobs=command.blobs, request_id=command.request_id, time_ms=command.time_ms
        )

    def pack(self, state: Counted, event: bytes) -> tuple[str, bytes]:
        return "note.taken", pack((1, state.count, event))

    def evolve(self, state: Counted, entry: Entry) -> Counted:
        return Counted(state.count + 1, entry.body_hash)

    def signs(self, state: Counted) -> bool:
        return not self.closes_at or state.count < self.closes_at

    def replay(self, state: Counted, entries: Sequence[Entry]) -> Counted:
        if self.refuse_foreign:
            raise RefusedError("no foreign entries")
        for entry in entries:
            state = self.evolve(state, entry)
        return state


@dataclass(slots=True)
class Clock:
    """Milliseconds that pass when told to."""

    now_ms: int = START_MS
    step_ms: int = field(default=1)

    def __call__(self) -> int:
        self.now_ms += self.step_ms
        return self.now_ms


def make_writer(
    log: Log, *, machine: NoteMachine | None = None, epoch: Ed25519PrivateKey = EPOCH, clock: Clock | None = None
) -> Writer[Counted, Note, bytes]:
    """A writer whose state is the count of what *log* holds."""
    state = Counted(log.size, log.head if log.size else b"")
    return Writer(
        log, machine or NoteMachine(), state, epoch=epoch, ledger=LEDGER, clock_ms=clock or Clock(), origin=ORIGIN
    )
