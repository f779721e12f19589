"""Sealing for one receiver, and the recovery signature (docs/formats.md sections 6 and 10); it keeps no keys.

HPKE is DHKEM(X25519, HKDF-SHA-256), HKDF-SHA-256, AES-256-GCM, `enc[32] ciphertext`; the info string says what the
sealed bytes are for, so that no answer can be moved to another question. Seed shares are RSA-OAEP.
"""

import hashlib
import hmac
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

HPKE_OVERHEAD = 32 + 16
SEED_LENGTH = 64
SALT_LENGTH = 32
SECRET_LENGTH = 64

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SealingError(Exception):
    """Sealed bytes do not open: made for another key, another purpose, or changed."""

    code = "not_sealed_for_this"


def secret_info(origin: str, bundle_sha256: bytes) -> bytes:
    """The HPKE info of a workload secret, bound to the ledger and to the answer's bundle."""
    return b"contrast/workload-secret/v1\0" + origin.encode() + b"\0" + _exact(bundle_sha256, 32)


def seed_info(origin: str, statement_sha256: bytes, size: int, root: bytes) -> bytes:
    """The HPKE info of a seed, bound to the attested statement and to the head that the ledger must extend."""
    head = size.to_bytes(8, "big") + _exact(root, 32)
    return b"contrast/seed/v1\0" + origin.encode() + b"\0" + _exact(statement_sha256, 32) + head


def hpke_seal(plaintext: bytes, public_key: bytes, info: bytes) -> bytes:
    """`enc ciphertext` of *plaintext* for the raw X25519 *public_key*.

    Raises:
        SealingError: *public_key* is no usable X25519 key (wrong length, or a point of low order).
    """
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info)
    except (ValueError, TypeError):
        raise SealingError("the HPKE public key is not a usable X25519 key of 32 bytes") from None


def hpke_open(sealed: bytes, private_key: X25519PrivateKey, info: bytes) -> bytes:
    """The plaintext of `enc ciphertext`.

    Raises:
        SealingError: *sealed* was not made for this key and this info. Says nothing of why.
    """
    if len(sealed) < HPKE_OVERHEAD:
        raise SealingError(f"sealed bytes are at least {HPKE_OVERHEAD} long, these have {len(sealed)}")
    try:
        return _SUITE.decrypt(sealed, private_key, info)
    except (InvalidTag, ValueError):
        raise SealingError("the sealed bytes do not open with this key for this purpose") from None


def seal_seed_share(seed: bytes, salt: bytes, owner_key: rsa.RSAPublicKey, origin: str) -> bytes:
    """`seed[64] salt[32]` sealed by RSA-OAEP for one share owner."""
    return owner_key.encrypt(_exact(seed, SEED_LENGTH) + _exact(salt, SALT_LENGTH), _oaep(origin))


def open_seed_share(sealed: bytes, owner_key: rsa.RSAPrivateKey, origin: str) -> tuple[bytes, bytes]:
    """Seed and salt of one share.

    Raises:
        SealingError: the share belongs to another owner or another ledger.
    """
    try:
        plain = owner_key.decrypt(sealed, _oaep(origin))
    except ValueError:
        raise SealingError(
            "the seed share does not open with this key: it was made for another owner or for another ledger"
        ) from None
    if len(plain) != SEED_LENGTH + SALT_LENGTH:
        raise SealingError(
            f"the seed share holds {len(plain)} bytes, {SEED_LENGTH + SALT_LENGTH} are a seed and a salt"
        )
    return plain[:SEED_LENGTH], plain[SEED_LENGTH:]


def recovery_input(origin: str, statement_sha256: bytes, size: int, root: bytes, sealed_sha256: bytes) -> bytes:
    """The bytes that the share owner signs when recovering (docs/formats.md section 10)."""
    head = size.to_bytes(8, "big") + _exact(root, 32)
    bound = _exact(statement_sha256, 32) + head + _exact(sealed_sha256, 32)
    return b"contrast/recovery/v1\0" + origin.encode() + b"\0" + bound


def fork_input(origin: str, statement_sha256: bytes, sealed_sha256: bytes, heads: Iterable[tuple[int, bytes]]) -> bytes:
    """The bytes that a share owner signs who recovers a ledger that does not extend *heads* (formats, section 10)."""
    bound = _exact(statement_sha256, 32) + _exact(sealed_sha256, 32)
    named = b"".join(size.to_bytes(8, "big") + _exact(root, 32) for size, root in heads)
    return b"contrast/fork-accepted/v1\0" + origin.encode() + b"\0" + bound + named


def sign_recovery(owner_key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """RSA-PSS (SHA-256, salt 32) over *message*, made by `recovery_input`."""
    return owner_key.sign(message, _pss(), hashes.SHA256())


def verify_recovery(owner_key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> bool:
    """Whether *signature* is the share owner's over *message*."""
    try:
        owner_key.verify(signature, message, _pss(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def signed_by_owner(owner: bytes, signature: bytes, message: bytes) -> bool:
    """As `verify_recovery`, for an owner's key in DER as the manifest holds it; keys of other kinds sign nothing."""
    key = load_der_public_key(owner)
    return isinstance(key, rsa.RSAPublicKey) and verify_recovery(key, signature, message)


def secret_check(secret: bytes) -> bytes:
    """What a leaf says of a secret: it recognises the secret and does not reveal it (64 random bytes)."""
    return hashlib.sha256(b"contrast/secret-check/v1\0" + _exact(secret, SECRET_LENGTH)).digest()


def same(left: bytes, right: bytes) -> bool:
    """Equality in constant time, for everything that is secret or derived from a secret."""
    return hmac.compare_digest(left, right)


def _oaep(origin: str) -> padding.OAEP:
    label = b"contrast/seed-share/v1\0" + origin.encode()
    return padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=label)


def _pss() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


def _exact(value: bytes, length: int) -> bytes:
    """*value*, which has *length* bytes: a wrong length is a fault of the caller and would shift what is bound."""
    if len(value) != length:
        raise ValueError(f"{length} bytes are bound here, not {len(value)}")
    return value
