"""From a state and a prepared command to events, or to a refusal. Pure: no clock, no key, no blob is read here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias, assert_never

from coordinator.commands import (
    Command,
    CreateLedger,
    IssueCertificate,
    KeepNote,
    RecordRefusal,
    RecoverLedger,
    SetManifest,
)
from coordinator.errors import NeedsRecoveryError, NotInRecoveryError
from coordinator.events import CONTROL_TYPES, Event, decode_event, pack_event
from coordinator.keys import sha256
from coordinator.refusals import (
    CoordinatorExcludedError,
    HeadMismatchError,
    RefusalNotDueError,
    StalePreparationError,
    StaleTransitionError,
)
from coordinator.state import State, evolve
from ledger.entry import Entry
from ledger.writer import Proposal

REFUSAL_INTERVAL_MS: Final = 600_000
MAX_REFUSAL_CODES: Final = 16
MAX_PREPARED_MS: Final = 600_000
Rehearse: TypeAlias = Callable[[State, Entry, Mapping[bytes, bytes], Mapping[int, bytes]], None]


def decide(state: State, command: Command, now_ms: int) -> Proposal[Event]:
    """The events that *command* leads to in *state*; no events when it is already so.

    Args:
        state: The candidate state, after the events of the same batch before this command.
        command: Prepared by the service.
        now_ms: The writer's clock, Unix milliseconds.

    Raises:
        CoordinatorError: one of :mod:`coordinator.refusals`.
    """
    match command:
        case CreateLedger():
            return _create(state, command)
        case SetManifest():
            return _set(state, command, now_ms)
        case IssueCertificate():
            return _issue(state, command, now_ms)
        case RecordRefusal():
            return _refuse(state, command, now_ms)
        case RecoverLedger():
            return _recover(state, command)
        case KeepNote():
            return Proposal(events=())
        case _:
            assert_never(command)


def _create(state: State, command: CreateLedger) -> Proposal[Event]:
    if state.size:
        # Somebody else's first manifest won; this one is prepared again, as an update.
        raise StalePreparationError(seen=f"a ledger of {state.size} entries", wanted="an empty ledger")
    return Proposal(
        events=(command.created, command.epoch, command.manifest_set),
        blobs=command.blobs,
        request_id=command.manifest_set.transition,
        time_ms=command.time_ms,
    )


def _demand_fresh(prepared_ms: int, now_ms: int) -> None:
    """What was prepared must hold at the moment of its entry, even if the host's clock has jumped in between."""
    if not 0 <= now_ms - prepared_ms <= MAX_PREPARED_MS:
        raise StalePreparationError(
            "The clock has jumped while the request was being prepared.",
            seen=f"{now_ms - prepared_ms} ms ago",
            wanted=f"0 to {MAX_PREPARED_MS} ms ago",
        )


def _set(state: State, command: SetManifest, now_ms: int) -> Proposal[Event]:
    event, current = command.event, state.current
    if current is None:
        raise StalePreparationError(seen="no manifest", wanted="a manifest to follow")
    if event.transition == current.transition or event.manifest == current.manifest:
        return Proposal(events=(), request_id=current.transition)
    if event.previous != current.transition:
        raise StaleTransitionError(seen=f"previous {event.previous.hex()}", wanted=current.transition.hex())
    if event.generation != state.generation + 1:
        raise StalePreparationError(seen=f"generation {event.generation}", wanted=str(state.generation + 1))
    if command.writer in event.closed_epochs or state.open_epoch(command.writer) is None:
        raise CoordinatorExcludedError
    stray = set(event.closed_epochs) - {epoch.key for epoch in state.open_epochs}
    if stray:
        raise StalePreparationError(seen="an epoch that is not open", wanted="open epochs only")
    _demand_fresh(command.prepared_ms, now_ms)
    return Proposal(events=(event,), blobs=command.blobs, request_id=event.transition)


def _issue(state: State, command: IssueCertificate, now_ms: int) -> Proposal[Event]:
    current = state.current
    if current is None or command.generation != current.generation:
        raise StalePreparationError(seen=f"generation {command.generation}", wanted=str(state.generation))
    _demand_fresh(command.prepared_ms, now_ms)
    attestation_seq = state.size
    return Proposal(
        events=(
            replace(command.attestation, manifest_seq=current.seq),
            replace(command.certificate, attestation_seq=attestation_seq),
            *(replace(secret, attestation_seq=attestation_seq) for secret in command.secrets),
        ),
        blobs=command.blobs,
        request_id=command.request_id,
    )


def _refuse(state: State, command: RecordRefusal, now_ms: int) -> Proposal[Event]:
    last = state.refusals.get(command.event.refusal)
    if last is None and len(state.refusals) >= MAX_REFUSAL_CODES:
        raise RefusalNotDueError(seen=f"{len(state.refusals)} codes", wanted=f"at most {MAX_REFUSAL_CODES}")
    if last is not None and max(now_ms, state.time_ms) - last < REFUSAL_INTERVAL_MS:
        raise RefusalNotDueError(wanted=f"{REFUSAL_INTERVAL_MS} ms between two of one code")
    return Proposal(events=(command.event,))


def _recover(state: State, command: RecoverLedger) -> Proposal[Event]:
    mine = next((epoch for epoch in state.epochs if epoch.key == command.epoch.epoch_key), None)
    if mine is not None:
        if mine.closed_at is None:
            return Proposal(events=())  # An append that was in doubt had taken effect: an epoch is opened once.
        raise NotInRecoveryError(
            "This Coordinator's epoch was closed by a later one.", action="Start this Coordinator again."
        )
    if state.current is None or command.generation != state.generation:
        raise StalePreparationError(seen=f"generation {command.generation}", wanted=str(state.generation))
    if command.recovered.size > state.size:
        raise HeadMismatchError(seen=f"{state.size} entries", wanted=f"at least {command.recovered.size}")
    if command.prepared_ms < state.time_ms:
        raise StalePreparationError(seen=f"prepared at {command.prepared_ms} ms", wanted=f"{state.time_ms} ms at least")
    closed = tuple(epoch.key for epoch in state.open_epochs)
    return Proposal(
        events=(
            command.epoch,
            replace(command.recovered, closed_epochs=closed),
            *(() if command.fork is None else (command.fork,)),
        ),
        blobs=command.blobs,
        request_id=command.request_id,
        time_ms=command.prepared_ms,  # Of the judgement: the rules judge the epoch's evidence at the time of its entry.
    )


class CoordinatorMachine:
    """The domain as :class:`ledger.writer.Writer` asks for it.

    Args:
        judge: Judges an entry that this process did not write, and gives the state after it (``Rules.apply``).
        writer: The epoch key that signs what is decided. Only an open epoch may write, but for the commits that open
            it: a ledger with another entry of its would be one that nobody can open again.
        rehearse: Judges a control event of this machine's own before it is recorded, with the blobs of its command and
            the body hashes of the entries before it that are not stored yet; raises to refuse the command. A ledger
            with a control event that breaks a rule, whatever the reason, is never opened again.
    """

    def __init__(
        self, judge: Callable[[State, Entry], State], *, writer: bytes, rehearse: Rehearse | None = None
    ) -> None:
        self._judge = judge
        self._writer = writer
        self._rehearse = rehearse
        self._blobs: dict[bytes, bytes] = {}
        self._hashes: dict[int, bytes] = {}

    def decide(self, state: State, command: Command, now_ms: int) -> Proposal[Event]:
        """See :func:`decide`. Raises NeedsRecoveryError while the writer's epoch is not open."""
        if not isinstance(command, CreateLedger | RecoverLedger) and state.open_epoch(self._writer) is None:
            raise NeedsRecoveryError
        proposal = decide(state, command, now_ms)
        if isinstance(command, CreateLedger | SetManifest | RecoverLedger):
            self._blobs = {sha256(blob): blob for blob in proposal.blobs}
            self._hashes = {}
        return proposal

    def pack(self, state: State, event: Event) -> tuple[str, bytes]:
        """Type and payload; the control link is the one of *state*."""
        return pack_event(event, state.control_head)

    def evolve(self, state: State, entry: Entry) -> State:
        """See :func:`coordinator.state.evolve`; the entry is one that this machine packed, and control events pass."""
        event, _ = decode_event(entry)
        if self._rehearse is not None and event.type in CONTROL_TYPES:
            self._rehearse(state, entry, self._blobs, self._hashes)
            self._hashes[entry.body.seq] = entry.body_hash
        return evolve(state, entry, event)

    def signs(self, state: State) -> bool:
        """Whether the writer's epoch is open: a note of a closed one would keep the ledger from being opened again."""
        return state.open_epoch(self._writer) is not None

    def replay(self, state: State, entries: Sequence[Entry]) -> State:
        """Foreign entries, each judged by the rules before it is believed."""
        for entry in entries:
            state = self._judge(state, entry)
        return state
