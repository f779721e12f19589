"""What every operation of the Coordinator stands on: ledger, state, keys, clocks, threads. It decides nothing."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

import structlog

from attestation.collateral.endorse import Endorser
from attestation.issuer import Issuer
from coordinator.authority import Authority, make_authority
from coordinator.clock import SteadyClock
from coordinator.commands import Command
from coordinator.crew import Crew
from coordinator.decide import CoordinatorMachine
from coordinator.epoch import Epoch
from coordinator.errors import CoordinatorError, NeedsManifestError, NeedsRecoveryError
from coordinator.events import Event
from coordinator.keys import Seed, public_bytes
from coordinator.metrics import Metrics
from coordinator.opening import Opened, verified_draft
from coordinator.rules import Rules
from coordinator.state import State
from coordinator.times import moment
from ledger.checkpoint import origin_of
from ledger.codec import MAX_INT
from ledger.entry import Entry
from ledger.errors import LedgerError, StoreError
from ledger.writer import Committed, Writer

Phase = Literal["empty", "recovery", "active"]
CoordinatorWriter = Writer[State, Command, Event]
_T = TypeVar("_T")
log = structlog.get_logger("coordinator.kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What only the shell may touch: clocks, threads, the secure processor."""

    issuer: Issuer = field(repr=False)
    threads: ThreadPoolExecutor
    clock_ms: Callable[[], int]
    """Unix time, milliseconds: the host's, and believed only as far as the rules allow."""
    monotonic_ms: Callable[[], int]
    workers: int = 1
    """How many of the threads prepare certificates."""
    endorser: Endorser | None = field(default=None, repr=False)
    """Completes the evidence of workloads; without one, what they send must be whole."""


class Kernel:
    """The ledger with its writer, and the keys. A process without seed has no writer, so it writes nothing.

    Args:
        opened: The ledger as it was found.
        epoch: The keys of this process.
        world: Clocks, threads, secure processor.
        metrics: Where to count.
    """

    def __init__(self, opened: Opened, epoch: Epoch, world: World, metrics: Metrics) -> None:
        self.ledger = opened.log
        self.rules = opened.rules
        self.seed: Seed | None = opened.seed
        self.draft = opened.draft
        """The newest draft checkpoint as the replay verified it; for a Coordinator in recovery."""
        self.epoch = epoch
        self.world = world
        self.metrics = metrics
        self.crew = Crew(world.threads, size=world.workers)
        self.grown: Callable[[], None] = _nobody  # told after each commit
        self.clock = SteadyClock(wall_ms=world.clock_ms, monotonic_ms=world.monotonic_ms)
        self._replayed = opened.state
        self._authority: Authority | None = None
        self._writer: CoordinatorWriter | None = None
        self._writing: asyncio.Task[None] | None = None
        self._stopped: LedgerError | None = None

    @property
    def state(self) -> State:
        """Confirmed by the store; in recovery, what the replay gave."""
        return self._replayed if self._writer is None else self._writer.state

    @property
    def phase(self) -> Phase:
        """``empty`` before the first manifest, ``active`` with the seed and an epoch on record, else ``recovery``."""
        state = self.state
        if state.current is None:
            return "empty"
        # The seed is here a moment before the recovery is recorded; until then nothing may be said or signed with it.
        return "recovery" if self.seed is None or state.open_epoch(self.epoch.public) is None else "active"

    @property
    def replaced(self) -> bool:
        """Whether another Coordinator has closed this one's epoch: it answers readers, and a new start ends that."""
        key, state = self.epoch.public, self.state
        return state.open_epoch(key) is None and any(epoch.key == key for epoch in state.epochs)

    @property
    def stopped(self) -> LedgerError | None:
        """Why nothing can be written any more, if that is so."""
        return self._stopped if self._writer is None else self._writer.stopped

    def authority(self) -> Authority:
        """What the manifest in force allows; built when it is first asked for after a change.

        Raises:
            NeedsManifestError, NeedsRecoveryError: Nothing is allowed yet.
        """
        held = self._authority
        state = self.state
        if held is not None and held.generation == state.generation:
            return held
        self.demand_active()
        if self.seed is None:
            raise NeedsRecoveryError
        self._authority = held = make_authority(state, self.blob, self.seed)
        self.metrics.ca_end.set(held.ends.timestamp())
        return held

    def demand_active(self) -> None:
        """Refuse unless a manifest is in force and the seed is here."""
        match self.phase:
            case "empty":
                raise NeedsManifestError
            case "recovery":
                raise NeedsRecoveryError
            case "active":
                return

    def demand_writable(self) -> None:
        """Refuse if the writer has stopped for good."""
        if self.stopped is not None:
            raise self.stopped

    def start_writer(self, seed: Seed, tasks: asyncio.TaskGroup) -> CoordinatorWriter:
        """From here on there is a seed, and commands are taken. The writer runs in *tasks* until it is closed."""
        key = seed.ledger_key()
        writer = Writer(
            self.ledger,
            CoordinatorMachine(self.rules.apply, writer=self.epoch.public, rehearse=self._rehearse),
            self._replayed,
            epoch=self.epoch.signing,
            ledger=key,
            clock_ms=self.clock.now_ms,
            origin=origin_of(public_bytes(key)),
        )
        self.seed, self._writer = seed, writer
        self._writing = tasks.create_task(writer.run())
        return writer

    def _rehearse(self, state: State, entry: Entry, blobs: Mapping[bytes, bytes], hashes: Mapping[int, bytes]) -> None:
        """Apply the rules of everybody's replay to an entry that is to be recorded, and remember nothing of it."""

        def blob(digest: bytes) -> bytes | None:
            return blobs[digest] if digest in blobs else self.ledger.blob(digest)

        def body_hash(seq: int) -> bytes:
            return hashes[seq] if seq in hashes else self.ledger.entry(seq).body_hash

        Rules(blob=blob, body_hash=body_hash).check(state, entry)

    async def drop_writer(self, writer: CoordinatorWriter) -> None:
        """Forget the seed and *writer*: the recovery that they were for has failed. A fork stays found."""
        self.seed = self._authority = None
        before = self._replayed.size
        await writer.close()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        # What it read after a lost race was judged and is part of the log now.
        self._replayed, self._stopped = writer.state, writer.stopped
        self._writer = self._writing = None
        if self.ledger.size != before:
            self.draft = verified_draft(self.ledger)

    async def close(self) -> None:
        """Finish what is queued, store the finished checkpoint, forget the keys as far as Python can."""
        if self._writer is not None:
            await self._writer.close()
        self.epoch.forget()

    def forget(self) -> None:
        """Let go of the seed and of what was derived from it."""
        self.seed = self._authority = None

    async def submit(self, command: Command) -> Committed[State]:
        """Record a prepared command; returns when it is durable. Raises what deciding it or the store raised."""
        if self._writer is None:
            raise NeedsRecoveryError
        try:
            committed = await self._writer.submit(command)
        except StoreError as error:
            log.error("store_failed", code=error.code, detail=str(error))  # noqa: TRY400 - the cause is in the text.
            raise
        self.metrics.size.set(committed.size)
        self.grown()
        return committed

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Do *work*, mostly arithmetic, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.world.threads, work)

    def finished(self) -> str:
        """The newest finished note, which covers everything confirmed."""
        finished = self.ledger.finished
        if finished is None:
            raise NeedsManifestError
        return finished

    def blob(self, digest: bytes) -> bytes:
        """A document that the ledger names, hashed again. Raises StoreError if it is gone."""
        data = self.ledger.blob(digest)
        if data is None:
            raise StoreError(f"the store has lost blob {digest.hex()}: restore the ledger from an export")
        return data

    @property
    def clock_fault(self) -> CoordinatorError | None:
        """Why nothing may be dated now, if that is so."""
        return self.clock.fault(self.state.time_ms)

    def demand_clock(self) -> None:
        """Refuse to prepare what would be dated by a clock that cannot be right."""
        self.clock.demand(self.state.time_ms)

    def saw_time(self, unix_s: int | None) -> None:
        """A quorum of witnesses vouches that it is *unix_s* (seconds) at least; None where nobody's clock counts."""
        if unix_s is not None and unix_s * 1000 < MAX_INT:
            self.clock.vouch(unix_s * 1000)

    def now_ms(self) -> int:
        """Unix time in milliseconds, never before the newest record."""
        return max(self.clock.now_ms(), self.state.time_ms)

    def now(self) -> datetime:
        """The same as an aware datetime."""
        return moment(self.now_ms())

    def show(self) -> None:
        """Tell the metrics where the Coordinator stands."""
        self.metrics.set_state(self.phase)
        self.metrics.size.set(self.ledger.size)
        self.metrics.generation.set(self.state.generation)


def _nobody() -> None:
    """Is told nothing."""
