"""What may be recorded. A command arrives prepared: evidence judged, signatures checked, certificates signed.

Expensive work is done before, against a state of known generation; :func:`coordinator.decide.decide` then only
compares. A command carries what was found out while preparing it, so that deciding stays pure and short; and when,
``prepared_ms`` in Unix milliseconds: evidence and certificates were judged for that moment, and the clock may jump.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from coordinator.events import (
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    EpochOpened,
    ForkAccepted,
    LedgerCreated,
    LedgerRecovered,
    ManifestSet,
    SecretReleased,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateLedger:
    """The first commit, exactly these three events at *time_ms*: the body of the first is in the second's evidence."""

    created: LedgerCreated
    epoch: EpochOpened
    manifest_set: ManifestSet
    time_ms: int
    blobs: tuple[bytes, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class SetManifest:
    """A further manifest. ``event.closed_epochs`` names the open epochs that the new manifest does not accept."""

    writer: bytes
    event: ManifestSet
    prepared_ms: int
    blobs: tuple[bytes, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueCertificate:
    """An accepted attestation, its certificate and the secrets released with it.

    ``manifest_seq`` and every ``attestation_seq`` are filled in by deciding, when the seq is known.
    """

    generation: int
    request_id: bytes
    prepared_ms: int
    attestation: AttestationAccepted
    certificate: CertificateIssued
    secrets: tuple[SecretReleased, ...] = ()
    blobs: tuple[bytes, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRefusal:
    """Refusals of one code, counted since they were last recorded."""

    event: AttestationRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverLedger:
    """A new epoch with the seed: opened and the ledger recovered, in one commit that closes every earlier epoch."""

    generation: int
    request_id: bytes
    prepared_ms: int
    epoch: EpochOpened
    recovered: LedgerRecovered
    fork: ForkAccepted | None = None
    blobs: tuple[bytes, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepNote:
    """The finished note has more signature lines: the writer stores it when it is idle. Records nothing."""


Command: TypeAlias = CreateLedger | SetManifest | IssueCertificate | RecordRefusal | RecoverLedger | KeepNote
