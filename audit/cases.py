"""Single decisions with everything that judging them takes, as bytes fit for another process. Judges nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from attestation.reference import ReferenceValues

Head: TypeAlias = tuple[int, int, bytes]  # the entry that names it, size, root
Parts: TypeAlias = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class AttestationCase:
    """An ``attestation.accepted`` with its evidence and the manifest that was in force."""

    seq: int
    time_ms: int
    kind: str
    parts: Parts
    purpose: str
    nonce: bytes
    subject: bytes
    rules: int
    outcomes: bytes
    verdict: bytes
    policy: bytes
    manifest_sha256: bytes
    manifest: bytes


@dataclass(frozen=True, slots=True)
class CertificateCase:
    """A ``certificate.issued`` with the certificate, and what the attestation and the manifest say of it."""

    seq: int
    time_ms: int
    certificate: bytes
    subject: bytes
    verdict: bytes
    sans: tuple[str, ...]
    not_before: int
    not_after: int
    mesh_ca_sha256: bytes
    mesh_ca: bytes
    root_ca: bytes
    origin: str
    simulated: bool
    secret_id: str | None


@dataclass(frozen=True, slots=True)
class SecretCase:
    """A ``secret.released`` with the certificate that names it."""

    seq: int
    certificate: bytes
    secret_id: str
    check: bytes


Case: TypeAlias = AttestationCase | CertificateCase | SecretCase


@dataclass(frozen=True, slots=True)
class Fault:
    """A decision that does not follow from what was recorded; *now* where only today's knowledge refuses it."""

    seq: int
    rule: str
    seen: str = ""
    wanted: str = ""
    about: str = ""
    now: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What an auditor knows today, by which every accepted evidence is judged a second time.

    Attributes:
        at: The moment of judgement.
        clock: The auditor's own clock, after which nothing can have been recorded; None asks nothing of times.
        crls: Revocation lists in DER, each used for the evidence of its issuer.
        denied: Chip ids (64 bytes) and platform ids (16 bytes) that are trusted no more.
        reference_values: Judged by these; None: by those of the manifest of the time.
    """

    at: datetime
    crls: tuple[bytes, ...] = ()
    denied: frozenset[bytes] = field(default_factory=frozenset)
    reference_values: Sequence[ReferenceValues] | None = None
    clock: datetime | None = None
