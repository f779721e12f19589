"""The Coordinator's state: what folding the ledger's events gives, and nothing else. It reads no blob, clock or key."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import assert_never

from coordinator.events import (
    NO_LINK,
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    ControlEvent,
    EpochOpened,
    Event,
    ForkAccepted,
    LedgerCreated,
    LedgerRecovered,
    Link,
    ManifestSet,
    SecretReleased,
    Shares,
)
from ledger.entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One Coordinator instance: where it was opened, its event, and the sizes of the ledger for which it signs.

    ``closed_at`` is the seq of the entry that closed it; entries from there on are not its own.
    """

    seq: int
    time_ms: int
    event: EpochOpened
    closed_at: int | None = None

    @property
    def key(self) -> bytes:
        """The Ed25519 public key; it is the ``signer`` of the epoch's entries."""
        return self.event.epoch_key

    def signs(self, size: int) -> bool:
        """Whether a checkpoint of *size* can be this epoch's.

        It signs from the commit that opens it until the commit that closes it, which is its successor's.
        """
        return self.seq < size and (self.closed_at is None or size <= self.closed_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRecord:
    """A manifest of the history: seq and generation, SHA-256 of its bytes, its transition and its CA certificates."""

    seq: int
    time_ms: int
    generation: int
    manifest: bytes
    transition: bytes
    intermediate: bytes
    mesh_ca: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAttestation:
    """The accepted attestation of the command being read, until its last event; certificates refer to it."""

    seq: int
    request_id: bytes
    event: AttestationAccepted
    certificate: bytes = b""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The newest recovery, and where it stands."""

    seq: int
    event: LedgerRecovered


@dataclass(frozen=True, slots=True)
class AcceptedFork:
    """A recovery that went on although the ledger does not extend a head that its owner knew."""

    seq: int
    time_ms: int
    event: ForkAccepted


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Small on purpose: questions about the past are answered from indexes."""

    size: int = 0
    time_ms: int = 0
    origin: str = ""
    verifier_keys: tuple[str, ...] = ()
    root_ca: bytes = b""
    seed_shares: Shares = ()
    control_head: Link = NO_LINK
    epochs: tuple[Epoch, ...] = ()
    history: tuple[ManifestRecord, ...] = ()
    last: LastAttestation | None = None
    refusals: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    attestations: int = 0
    certificates: int = 0
    secrets: int = 0
    refused: int = 0
    recoveries: int = 0
    recovery: Recovery | None = None
    forks: tuple[AcceptedFork, ...] = ()

    @property
    def current(self) -> ManifestRecord | None:
        """The manifest in force."""
        return self.history[-1] if self.history else None

    @property
    def generation(self) -> int:
        """How many manifests have been set."""
        return len(self.history)

    @property
    def transition(self) -> bytes:
        """The transition in force; empty when there is none."""
        return self.history[-1].transition if self.history else b""

    @property
    def open_epochs(self) -> tuple[Epoch, ...]:
        """The epochs that may write now."""
        return tuple(epoch for epoch in self.epochs if epoch.closed_at is None)

    def open_epoch(self, key: bytes) -> Epoch | None:
        """The open epoch with this key, if there is one."""
        for epoch in reversed(self.epochs):
            if epoch.closed_at is None and epoch.key == key:
                return epoch
        return None


EMPTY = State()


def evolve(state: State, entry: Entry, event: Event) -> State:
    """The state after *event* was recorded as *entry*. Never refuses: it happened."""
    seq, time_ms = entry.body.seq, entry.body.time_ms
    match event:
        case AttestationAccepted():
            last = LastAttestation(seq=seq, request_id=entry.body.request_id, event=event)
            return _counted(state, seq, time_ms, last=last, attestations=1)
        case CertificateIssued():
            held = state.last
            last_one = held and LastAttestation(
                seq=held.seq, request_id=held.request_id, event=held.event, certificate=event.certificate
            )
            return _counted(state, seq, time_ms, last=last_one, certificates=1)
        case SecretReleased():
            return _counted(state, seq, time_ms, last=state.last, secrets=1)
        case AttestationRefused():
            moved = replace(state, size=seq + 1, time_ms=time_ms, last=None)
            refusals = MappingProxyType({**state.refusals, event.refusal: time_ms})
            return replace(moved, refusals=refusals, refused=state.refused + event.count)
        case _:
            control = Link(seq, entry.body_hash)
            moved = replace(state, size=seq + 1, time_ms=time_ms, last=None, control_head=control)
            return _controlled(moved, seq, time_ms, event)


def _controlled(state: State, seq: int, time_ms: int, event: ControlEvent) -> State:
    """*state*, which has moved on to the control event at *seq*, with what that event changes."""
    match event:
        case LedgerCreated():
            return replace(
                state,
                origin=event.origin,
                verifier_keys=event.verifier_keys,
                root_ca=event.root_ca,
                seed_shares=event.seed_shares,
            )
        case EpochOpened():
            return replace(state, epochs=(*state.epochs, Epoch(seq=seq, time_ms=time_ms, event=event)))
        case ManifestSet():
            record = ManifestRecord(
                seq=seq,
                time_ms=time_ms,
                generation=event.generation,
                manifest=event.manifest,
                transition=event.transition,
                intermediate=event.intermediate,
                mesh_ca=event.mesh_ca,
            )
            closed = _close(state.epochs, event.closed_epochs, seq)
            return replace(state, history=(*state.history, record), epochs=closed)
        case LedgerRecovered():
            closed = _close(state.epochs, event.closed_epochs, seq)
            return replace(state, recoveries=state.recoveries + 1, recovery=Recovery(seq, event), epochs=closed)
        case ForkAccepted():
            return replace(state, forks=(*state.forks, AcceptedFork(seq, time_ms, event)))
        case _:
            assert_never(event)


def _counted(
    state: State, seq: int, time_ms: int, *, last: LastAttestation | None, attestations: int = 0,
    certificates: int = 0, secrets: int = 0,
) -> State:  # fmt: skip
    """As replace(), which looks at every field by name and takes twice as long: nearly every event comes here."""
    return State(
        size=seq + 1,
        time_ms=time_ms,
        origin=state.origin,
        verifier_keys=state.verifier_keys,
        root_ca=state.root_ca,
        seed_shares=state.seed_shares,
        control_head=state.control_head,
        epochs=state.epochs,
        history=state.history,
        last=last,
        refusals=state.refusals,
        attestations=state.attestations + attestations,
        certificates=state.certificates + certificates,
        secrets=state.secrets + secrets,
        refused=state.refused,
        recoveries=state.recoveries,
        recovery=state.recovery,
        forks=state.forks,
    )


def _close(epochs: tuple[Epoch, ...], closed: tuple[bytes, ...], seq: int) -> tuple[Epoch, ...]:
    return tuple(
        replace(epoch, closed_at=seq) if epoch.closed_at is None and epoch.key in closed else epoch for epoch in epochs
    )
