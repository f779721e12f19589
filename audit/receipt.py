"""Checking a certificate's receipt offline: certificate, receipt, keys, and nothing else. Fetches and prints nothing.

The checks, numbered as in the code:

1. The receipt and the entry in it can be read.
2. The entry is signed by its signer, who is an epoch of the keys and was open when it was written.
3. The tree is signed by the ledger and by an epoch of the keys that was open at its size.
4. The inclusion proof leads from the entry to the root of that tree.
5. The entry says ``certificate.issued``, and names the SHA-256 of this certificate.

Who trusts the keys' file trusts its epochs: they were judged by whoever wrote it.
"""

import hashlib
from dataclasses import dataclass

from coordinator.epoch_rules import epoch_verifier_key
from coordinator.events import CertificateIssued, EventError, decode_event
from coordinator.state import State
from ledger.checkpoint import Checkpoint
from ledger.cose import parse_receipt, verify_receipt
from ledger.entry import Entry, parse_entry, verify_signature
from ledger.errors import LedgerError, NoteError, ProofError
from ledger.keyring import EpochKey, Keyring
from ledger.merkle import verify_inclusion
from ledger.note import VerifierKey
from ledger.proof import parse_proof


class ReceiptError(Exception):
    """A receipt does not prove that this certificate's issuance is recorded; the message begins with the check."""

    code = "receipt_refused"

    def __init__(self, check: int, reason: str) -> None:
        super().__init__(f"check {check}: {reason}")
        self.check = check


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a receipt proves: this event stands at *seq*, written by *writer*, in the tree that *signer* signed."""

    seq: int
    time_ms: int
    event: CertificateIssued
    writer: EpochKey
    checkpoint: Checkpoint
    signer: EpochKey


def keyring_of(state: State) -> Keyring:
    """The keys of the ledger whose replay gave *state*."""
    own = [VerifierKey.parse(line) for line in state.verifier_keys]
    epochs = tuple(EpochKey(epoch_verifier_key(state, each), each.seq + 1, each.closed_at) for each in state.epochs)
    return Keyring(own[0], tuple(own[1:]), epochs)


def check_receipt(certificate: bytes, receipt: bytes, keys: Keyring) -> Recorded:
    """Check a tlog-proof whose extra data is the entry.

    Args:
        certificate: The leaf, DER.
        receipt: ``cert.tlog-proof``.
        keys: Of the ledger that is trusted.

    Raises:
        ReceiptError: a check failed.
    """
    # (1) Everything can be read.
    try:
        proof = parse_proof(receipt)
        entry = parse_entry(proof.extra, proof.index)
    except LedgerError as error:
        raise ReceiptError(1, str(error)) from None
    writer = _written_by(entry, keys)
    # (3) Both signatures.
    try:
        checkpoint, signer = keys.open_finished(proof.checkpoint_raw.encode())
    except NoteError as error:
        raise ReceiptError(3, str(error)) from None
    # (4) The place in the tree.
    try:
        verify_inclusion(entry.leaf_hash, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    except ProofError as error:
        raise ReceiptError(4, str(error)) from None
    return _recorded(certificate, entry, writer, checkpoint, signer)


def check_cose_receipt(certificate: bytes, receipt: bytes, entry_raw: bytes, keys: Keyring) -> Recorded:
    """As check_receipt(), of a COSE receipt, which does not hold its entry. Raises ReceiptError."""
    try:
        parsed = parse_receipt(receipt)
        entry = parse_entry(entry_raw, parsed.index)
    except LedgerError as error:
        raise ReceiptError(1, str(error)) from None
    writer = _written_by(entry, keys)
    # (3, 4) The root is what the proof leads to, so place and signatures hold or fall together.
    try:
        checkpoint, key = verify_receipt(
            parsed, entry.leaf_hash, ledger_key=keys.ledger, epoch_keys=[each.key for each in keys.epochs]
        )
    except ProofError as error:
        raise ReceiptError(3, str(error)) from None
    signer = keys.epoch(key.public, checkpoint.size)
    if signer is None:
        raise ReceiptError(3, f"the tree of size {checkpoint.size} is signed by an epoch that was not open then")
    return _recorded(certificate, entry, writer, checkpoint, signer)


def _written_by(entry: Entry, keys: Keyring) -> EpochKey:
    # (2) The entry's own signature.
    seq, signer = entry.body.seq, entry.body.signer
    try:
        verify_signature(entry)
    except LedgerError as error:
        raise ReceiptError(2, str(error)) from None
    writer = keys.epoch(signer, seq + 1)
    if writer is None:
        raise ReceiptError(2, f"entry {seq} is signed by {signer.hex()}, which is no epoch of these keys open there")
    return writer


def _recorded(certificate: bytes, entry: Entry, writer: EpochKey, checkpoint: Checkpoint, signer: EpochKey) -> Recorded:
    # (5) What it says.
    body = entry.body
    try:
        event, _ = decode_event(entry)
    except (EventError, LedgerError) as error:
        raise ReceiptError(5, f"entry {body.seq} cannot be read: {error}") from None
    if not isinstance(event, CertificateIssued):
        raise ReceiptError(5, f"entry {body.seq} says {body.type}, certificate.issued was wanted")
    digest = hashlib.sha256(certificate).digest()
    if event.certificate != digest:
        raise ReceiptError(
            5, f"entry {body.seq} is of the certificate {event.certificate.hex()}, this one is {digest.hex()}"
        )
    return Recorded(
        seq=body.seq, time_ms=body.time_ms, event=event, writer=writer, checkpoint=checkpoint, signer=signer
    )
