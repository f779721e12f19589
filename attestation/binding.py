"""What a report is bound to, in 64 bytes (docs/formats.md, section 5). Hashing only, no judging."""

import hashlib
from enum import StrEnum

from attestation.codec import pack
from attestation.errors import EvidenceError

_LABEL = b"contrast/attestation/v1"
NONCE_SIZE = 32
HPKE_KEY_SIZE = 32
MAX_SPKI_SIZE = 1024  # A P-384 key takes 120 bytes; nothing we accept is larger.


class Purpose(StrEnum):
    """Why evidence was asked for. Evidence for one purpose is worth nothing for another."""

    COORDINATOR = "coordinator"
    WORKLOAD = "workload"
    EPOCH = "epoch"
    PEER = "peer"


def report_data(purpose: Purpose, nonce: bytes, subject: bytes) -> bytes:
    """The 64 bytes of REPORT_DATA: SHA-512 over label, purpose, nonce and the subject's SHA-256.

    Raises:
        EvidenceError: the nonce is not 32 bytes.
    """
    _sized(nonce, NONCE_SIZE, "the nonce")
    subject_hash = hashlib.sha256(subject).digest()
    return hashlib.sha512(b"\0".join((_LABEL, purpose.value.encode(), nonce + subject_hash))).digest()


def workload_subject(spki_der: bytes, hpke_public: bytes) -> bytes:
    """What a workload binds: the key of its certificate, and the key that its secrets are sealed to."""
    if not 0 < len(spki_der) <= MAX_SPKI_SIZE:
        raise EvidenceError(f"the public key has {len(spki_der)} bytes, wanted 1 to {MAX_SPKI_SIZE}")
    _sized(hpke_public, HPKE_KEY_SIZE, "the HPKE key")
    return len(spki_der).to_bytes(2, "big") + spki_der + hpke_public


def parse_workload_subject(subject: bytes) -> tuple[bytes, bytes]:
    """Split a workload's subject into (SPKI DER, HPKE public key).

    Raises:
        EvidenceError: the lengths do not add up.
    """
    size = int.from_bytes(subject[:2], "big")
    if len(subject) < 2 or len(subject) != 2 + size + HPKE_KEY_SIZE or not 0 < size <= MAX_SPKI_SIZE:
        raise EvidenceError(f"a workload's subject of {len(subject)} bytes announces a public key of {size}")
    return subject[2 : 2 + size], subject[2 + size :]


def epoch_subject(origin: str, anchor_seq: int, epoch_key: bytes, tls_sha256: bytes, hpke_public: bytes) -> bytes:
    """What an epoch binds: the ledger, the entry it continues, and the keys of this Coordinator instance."""
    _sized(epoch_key, 32, "the epoch key")
    _sized(tls_sha256, 32, "the TLS certificate's hash")
    _sized(hpke_public, HPKE_KEY_SIZE, "the HPKE key")
    return pack([origin, anchor_seq, epoch_key, tls_sha256, hpke_public])


def _sized(value: bytes, size: int, what: str) -> None:
    if len(value) != size:
        raise EvidenceError(f"{what} has {len(value)} bytes, wanted {size}")
