"""What must hold of a Coordinator's answer before a byte of it is written; pure, and it judges no evidence.

The checks, numbered as in the code (DESIGN section 4, "The answer is one bundle"):

1. The bundle, its certificates and its receipt can be read, and each has one meaning.
2. The leaf's key is the key that this pod made.
3. The leaf is signed by the mesh CA, is no CA itself, serves both ends of TLS, and is valid now.
4. Mesh CA and intermediate hold one key and name; the mesh CA is signed by itself.
5. The intermediate is signed by the root CA, the root CA by itself.
6. The root CA is the one that the leaf names.
7. The leaf's claims are of this pod's policy, and it says whether they are simulated.
8. The secrets are exactly those that the leaf names; each opens for this pod, this ledger and this bundle, and is the
   one that the leaf names.
9. The receipt is of an entry `certificate.issued` that names this leaf; the entry is signed and included in the tree
   of a checkpoint of the leaf's ledger, which carries the ledger key's and an epoch key's signature line.
10. The ledger extends the head that this pod knew before, if it knew one.

Who made all of this is not known here: no part of it is of use unless its peers accept it (threat model: a wholly fake
Coordinator).
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from initializer.errors import WrongAnswerError
from ledger.checkpoint import Checkpoint, epoch_name, read_checkpoint
from ledger.codec import unpack
from ledger.entry import Entry, parse_entry, verify_signature
from ledger.errors import LedgerError
from ledger.merkle import verify_consistency, verify_inclusion
from ledger.note import ed25519_key, split_note
from ledger.proof import TlogProof, parse_proof
from wire.bundle import Bundle, BundleError, bundle_digest, parse_bundle
from wire.extensions import (
    ExtensionError,
    LeafCheckpoint,
    read_claims,
    read_companions,
    read_simulated,
)
from wire.extensions import read_checkpoint as read_leaf_checkpoint
from wire.messages import SealedSecret
from wire.sealing import SealingError, hpke_open, same, secret_check, secret_info

ENTRY_TYPE: Final = "certificate.issued"
_ED25519_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What this pod knows of itself: its keys, its policy, and the head it saw before."""

    public_key_der: bytes
    hpke_private: X25519PrivateKey = field(repr=False)
    policy: bytes
    simulated: bool
    known_head: Checkpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An answer that passed every check. `secrets` are in the clear."""

    bundle: Bundle
    leaf: x509.Certificate
    secrets: Mapping[str, bytes] = field(repr=False)
    head: Checkpoint
    seq: int


def check_answer(
    raw: bytes,
    sealed: Sequence[SealedSecret],
    consistency: Sequence[bytes] | None,
    expected: Expected,
    *,
    now: datetime,
) -> Checked:
    """Make all checks of this module.

    Args:
        raw: The bundle as received; secrets are bound to its hash.
        sealed: The sealed secrets.
        consistency: The proof that the ledger extends `expected.known_head`.
        expected: What this pod knows of itself.
        now: Aware.

    Raises:
        WrongAnswerError: a check failed; the number says which.
    """
    # (1) Everything can be read.
    try:
        bundle = parse_bundle(raw)
        leaf, intermediate, mesh_ca, root_ca = (
            _certificate(der) for der in (bundle.leaf, bundle.intermediate, bundle.mesh_ca, bundle.root_ca)
        )
        receipt = parse_proof(bundle.receipt)
        entry = parse_entry(receipt.extra)
        checkpoint = read_checkpoint(receipt.checkpoint_raw.encode())
        carried = read_leaf_checkpoint(leaf)
    except (BundleError, ValueError, LedgerError, ExtensionError) as error:
        raise WrongAnswerError(1, f"it cannot be read ({error})") from None
    _check_leaf(leaf, mesh_ca, expected, now)
    _check_authorities(intermediate, mesh_ca, root_ca)
    _check_named(leaf, bundle.root_ca, expected)
    secrets = _open_secrets(leaf, sealed, expected, secret_info(carried.origin, bundle_digest(raw)))
    _check_receipt(receipt, entry, checkpoint, carried, bundle.leaf)
    _check_history(checkpoint, consistency, expected.known_head)
    return Checked(bundle=bundle, leaf=leaf, secrets=secrets, head=checkpoint, seq=entry.body.seq)


def _certificate(der: bytes) -> x509.Certificate:
    """The certificate in *der*, all of it readable, so that nothing later fails for another reason than a check.

    Raises:
        ValueError: it is not, or it could be written otherwise.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # What the library only warns of (serial numbers) is no certificate of ours.
        try:
            certificate = x509.load_der_x509_certificate(der)
            _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key())
        except (
            TypeError,  # Some pairs of name and string type.
            UnsupportedAlgorithm,
            Warning,
            x509.DuplicateExtension,
            x509.InvalidVersion,
            x509.UnsupportedGeneralNameType,
        ) as error:
            raise ValueError(str(error)) from None
    if not der.endswith(b"\0" + certificate.signature):
        raise ValueError("the signature's bit string has unused bits")  # The parser passes over that byte.
    return certificate


def _check_leaf(leaf: x509.Certificate, mesh_ca: x509.Certificate, expected: Expected, now: datetime) -> None:
    # (2) The leaf's key is mine.
    if not same(_spki(leaf), expected.public_key_der):
        raise WrongAnswerError(2, "the certificate is for a key that this pod did not make")
    # (3) The leaf verifies under the mesh CA.
    _check_signed(3, leaf, mesh_ca, "the leaf is not signed by the mesh CA that came with it")
    _check_ca(3, leaf, "the leaf", is_ca=False)
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise WrongAnswerError(3, "the leaf does not say what it is for") from None
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(usage):
        raise WrongAnswerError(3, "the leaf is not for both ends of TLS")
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise WrongAnswerError(
            3,
            f"the leaf is valid from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc}, and here it is {now} "
            "(are both clocks right?)",
        )


def _check_authorities(intermediate: x509.Certificate, mesh_ca: x509.Certificate, root_ca: x509.Certificate) -> None:
    # (4) Intermediate and mesh CA hold one key.
    if _spki(intermediate) != _spki(mesh_ca) or intermediate.subject != mesh_ca.subject:
        raise WrongAnswerError(4, "intermediate and mesh CA are not of one key and name")
    _check_signed(4, mesh_ca, mesh_ca, "the mesh CA is not signed by itself")
    _check_ca(4, mesh_ca, "the mesh CA", is_ca=True)
    # (5) The intermediate verifies under the root CA.
    _check_ca(5, intermediate, "the intermediate", is_ca=True)
    _check_ca(5, root_ca, "the root CA", is_ca=True)
    _check_signed(5, intermediate, root_ca, "the intermediate is not signed by the root CA that came with it")
    _check_signed(5, root_ca, root_ca, "the root CA is not signed by itself")


def _check_named(leaf: x509.Certificate, root_ca: bytes, expected: Expected) -> None:
    try:
        companions, claims, simulated = read_companions(leaf), read_claims(leaf), read_simulated(leaf)
    except ExtensionError as error:
        raise WrongAnswerError(6, str(error)) from None
    # (6) The leaf names this root CA. So a root that signs the same intermediate key cannot replace it.
    if not same(companions.root_ca, hashlib.sha256(root_ca).digest()):
        raise WrongAnswerError(6, "the root CA is not the one that the leaf names")
    # (7) The leaf speaks of this pod.
    if claims.get("host_data") != expected.policy.hex():
        raise WrongAnswerError(7, f"the leaf was issued for another policy than this pod's, {expected.policy.hex()}")
    if simulated != expected.simulated:
        raise WrongAnswerError(7, "the leaf hides, or claims, that a simulated processor stands behind it")


def _open_secrets(
    leaf: x509.Certificate, sealed: Sequence[SealedSecret], expected: Expected, info: bytes
) -> dict[str, bytes]:
    # (8) Exactly the secrets that the leaf names.
    named = read_companions(leaf).secrets
    if [secret.id for secret in sealed] != sorted(named):
        raise WrongAnswerError(8, f"it holds {len(sealed)} secrets, the leaf names {len(named)}, or their ids differ")
    opened: dict[str, bytes] = {}
    for secret in sealed:
        try:
            plain = hpke_open(secret.data, expected.hpke_private, info)
            right = same(secret_check(plain), named[secret.id])
        except (SealingError, ValueError):
            raise WrongAnswerError(8, "a secret does not open for this pod and this answer") from None
        if not right:
            raise WrongAnswerError(8, "a secret is not the one that the leaf names")
        opened[secret.id] = plain
    return opened


def _check_receipt(
    receipt: TlogProof, entry: Entry, checkpoint: Checkpoint, carried: LeafCheckpoint, leaf: bytes
) -> None:
    # (9) The issuance is in the ledger.
    body = entry.body
    try:
        fields = unpack(body.payload)
        verify_signature(entry)
        verify_inclusion(entry.leaf_hash, receipt.index, checkpoint.size, receipt.hashes, checkpoint.root)
    except LedgerError as error:
        raise WrongAnswerError(9, f"the receipt proves nothing ({error})") from None
    if body.type != ENTRY_TYPE or body.seq != receipt.index:
        raise WrongAnswerError(9, f"the receipt is of entry {receipt.index}, {body.type!r}, and not of a certificate")
    if not isinstance(fields, Sequence) or len(fields) < 2 or fields[1] != hashlib.sha256(leaf).digest():
        raise WrongAnswerError(9, "the receipt is of another certificate")
    if checkpoint.origin != carried.origin or carried.size > body.seq:
        raise WrongAnswerError(9, "the receipt is of another ledger, or another time, than the leaf's checkpoint")
    _check_note(receipt.checkpoint_raw, checkpoint.origin, body.signer)


def _check_note(note: str, origin: str, signer: bytes) -> None:
    """Both signatures stand under the checkpoint; the epoch's is verified where it is by the entry's own epoch.

    The ledger key is not known here, only its hash (the origin): peers and auditors verify that signature.
    """
    try:
        text, lines = split_note(note.encode())
        # Cosignatures, the ledger's own among them, are longer: eight bytes of time stand before the signature.
        names = [line.name for line in lines if len(line.signature) == _ED25519_BYTES]
        if names.count(origin) != 1 or names.count(epoch_name(origin)) != 1:
            raise WrongAnswerError(9, "the receipt's checkpoint lacks the ledger key's or the epoch key's signature")
        key = ed25519_key(epoch_name(origin), signer)
        for line in lines:
            if line.name == key.name and line.key_id == key.key_id:
                key.verify(text, line.signature)
    except LedgerError as error:
        raise WrongAnswerError(9, f"the receipt's checkpoint is not signed as it says ({error})") from None


def _check_history(checkpoint: Checkpoint, consistency: Sequence[bytes] | None, known: Checkpoint | None) -> None:
    # (10) Never an older or another ledger than the one this pod knows.
    if known is None:
        return
    if checkpoint.origin != known.origin:
        raise WrongAnswerError(
            10,
            f"the ledger is {checkpoint.origin}, this pod knows {known.origin} (if its owner began a new one, delete "
            "the pod)",
        )
    try:
        if consistency is None:
            raise WrongAnswerError(10, "it does not prove that the ledger extends the one this pod knows")
        verify_consistency(known.size, checkpoint.size, known.root, checkpoint.root, consistency)
    except LedgerError as error:
        raise WrongAnswerError(
            10, f"the ledger of size {checkpoint.size} does not extend the one of size {known.size} ({error})"
        ) from None


def _check_signed(check: int, certificate: x509.Certificate, issuer: x509.Certificate, fault: str) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise WrongAnswerError(check, fault) from None


def _check_ca(check: int, certificate: x509.Certificate, what: str, *, is_ca: bool) -> None:
    """Demand critical basic constraints; whatever else the extensions hold, they must be readable."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        raise WrongAnswerError(check, f"{what} does not say whether it is a CA") from None
    if constraints.value.ca != is_ca or not constraints.critical:
        raise WrongAnswerError(check, f"{what} {'is no' if is_ca else 'is a'} CA")


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
