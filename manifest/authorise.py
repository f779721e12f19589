"""Who may set a manifest: transitions, owner signatures and the rule that judges them; no state, no files.

A transition names a manifest in its place in the history: `SHA-256(SHA-256(manifest) previous)`. The owner signs the
transition, so a signature is good once, for one ledger, after one manifest (docs/formats.md section 8).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from manifest.model import Manifest

MAX_SIGNATURES = 16


class AuthorisationError(Exception):
    """A manifest may not be set by whoever offers it."""

    code = "not_authorised"
    status = HTTPStatus.FORBIDDEN


class NotAnOwnerError(AuthorisationError):
    """The command is signed by a key that the manifest which decides does not name, or by none."""

    code = "not_an_owner"


class UpdatesDisabledError(AuthorisationError):
    """The manifest in force names no owner: it is the last one of its ledger."""

    code = "updates_disabled"


class BadOwnerSignatureError(AuthorisationError):
    """A signature does not verify: another transition, another ledger, or changed bytes."""

    code = "bad_owner_signature"


class SeedShareOwnersChangedError(AuthorisationError):
    """A new manifest names other seed share owners than the first one did."""

    code = "seedshare_owners_changed"
    status = HTTPStatus.CONFLICT


@dataclass(frozen=True, slots=True)
class Signature:
    """One owner's signature: the key as SPKI DER with uncompressed point, and ECDSA in DER."""

    spki: bytes
    signature: bytes


def transition(manifest_digest: bytes, previous: bytes) -> bytes:
    """The transition to the manifest of SHA-256 *manifest_digest* after the transition *previous*."""
    if len(manifest_digest) != 32 or len(previous) != 32:
        raise ValueError("a transition joins two hashes of 32 bytes")
    return hashlib.sha256(manifest_digest + previous).digest()


def genesis_previous(origin: str) -> bytes:
    """What the first transition of a ledger continues."""
    return hashlib.sha256(b"contrast/genesis/v1\0" + origin.encode()).digest()


def signing_input(origin: str, transition_hash: bytes) -> bytes:
    """The bytes that an owner signs."""
    if len(transition_hash) != 32:
        raise ValueError("a transition has 32 bytes")
    return b"contrast/manifest-set/v1\0" + origin.encode() + b"\0" + transition_hash


def sign_transition(key: ec.EllipticCurvePrivateKey, origin: str, transition_hash: bytes) -> Signature:
    """The owner's signature: ECDSA P-384, SHA-384, DER.

    Raises:
        ValueError: *key* is on another curve.
    """
    spki = owner_spki(key.public_key())
    return Signature(spki, key.sign(signing_input(origin, transition_hash), ec.ECDSA(hashes.SHA384())))


def owner_spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """The one form in which an owner key is hashed and sent: SPKI DER, uncompressed point, P-384.

    Raises:
        ValueError: *key* is on another curve.
    """
    if not isinstance(key.curve, ec.SECP384R1):
        curve = key.curve.name
        raise ValueError(f"the owner key is on {curve}, owners sign with P-384 (secp384r1)")  # noqa: TRY004 -- a value
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_digest(key: ec.EllipticCurvePublicKey) -> bytes:
    """What a manifest names an owner key by: SHA-256 of `owner_spki`."""
    return hashlib.sha256(owner_spki(key)).digest()


def verify_owner(
    signatures: Sequence[Signature],
    *,
    manifest_in_force: Manifest | None,
    offered: Manifest,
    origin: str,
    transition_hash: bytes,
) -> tuple[bytes, ...]:
    """Judge the signatures of a set, and return the digests of the keys that signed it.

    The manifest in force decides; the first manifest of a ledger (*manifest_in_force* is None) is decided by itself,
    and needs no signature if it names no owner. Every signature that is offered must be good: a bad one beside a good
    one is never what an owner sent.

    Raises:
        UpdatesDisabledError: the manifest in force names no owner.
        NotAnOwnerError: there is no signature, or one by a key that is not named.
        BadOwnerSignatureError: a key or signature is malformed or doubled, or does not verify.
    """
    deciding = offered if manifest_in_force is None else manifest_in_force
    named = deciding.workload_owner_key_digests
    if not named:
        if manifest_in_force is not None:
            raise UpdatesDisabledError("the manifest in force names no owner key: nothing replaces it but a new ledger")
        if signatures:
            raise NotAnOwnerError("the manifest names no owner key, but the command is signed: send no signature")
        return ()
    if not signatures:
        raise NotAnOwnerError("the command is not signed: sign it with a key that the manifest names")
    if len(signatures) > MAX_SIGNATURES:
        raise BadOwnerSignatureError(f"{len(signatures)} signatures, at most {MAX_SIGNATURES} are read")
    message = signing_input(origin, transition_hash)
    digests: list[bytes] = []
    for signature in signatures:
        digest = hashlib.sha256(signature.spki).digest()
        if digest not in named:
            wanted = ", ".join(name.hex() for name in named)
            raise NotAnOwnerError(f"the key {digest.hex()} is no owner; the manifest that decides names {wanted}")
        if digest in digests:
            raise BadOwnerSignatureError(f"the key {digest.hex()} signed twice: send one signature of each key")
        _verify(signature, message, digest)
        digests.append(digest)
    return tuple(digests)


def check_successor(old: Manifest, new: Manifest) -> None:
    """Demand what no update may change: the seed share owners, who hold shares since the first set.

    Raises:
        SeedShareOwnersChangedError: they differ.
    """
    if old.seedshare_owner_pub_keys != new.seedshare_owner_pub_keys:
        raise SeedShareOwnersChangedError(
            f"SeedshareOwnerPubKeys changed ({_digests(old)} -> {_digests(new)}): the shares of the first manifest "
            "exist and cannot be taken back; keep the list as it is, in its order"
        )


def _verify(signature: Signature, message: bytes, digest: bytes) -> None:
    try:
        key = serialization.load_der_public_key(signature.spki)
    except (ValueError, UnsupportedAlgorithm):
        raise BadOwnerSignatureError(f"the owner key {digest.hex()} is no public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise BadOwnerSignatureError(f"the owner key {digest.hex()} is not on P-384")
    if owner_spki(key) != signature.spki:
        raise BadOwnerSignatureError(f"the owner key {digest.hex()} is not written as SPKI with uncompressed point")
    try:
        key.verify(signature.signature, message, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise BadOwnerSignatureError(
            f"the signature of {digest.hex()} is not over this transition and this ledger: sign again"
        ) from None


def _digests(manifest: Manifest) -> str:
    keys = [hashlib.sha256(key).hexdigest()[:16] + "…" for key in manifest.seedshare_owner_pub_keys]
    return "[" + ", ".join(keys) + "]"
