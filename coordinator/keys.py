"""Every key that follows from a ledger's seed, and nothing that does not: epoch keys are made in coordinator.epoch."""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEED_BYTES: Final = 64
SALT_BYTES: Final = 32
SECRET_BYTES: Final = 64
_INFO: Final = b"contrast/key/v1"
# Orders of the curves, SEC 2 version 2.
_CURVES: Final[dict[str, tuple[ec.EllipticCurve, int]]] = {
    "P-256": (ec.SECP256R1(), 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    "P-384": (
        ec.SECP384R1(),
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
}


@dataclass(frozen=True, slots=True)
class Seed:
    """The 96 bytes that a ledger's keys follow from. Never shown: ``repr`` leaves them out."""

    seed: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES or len(self.salt) != SALT_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes and a salt {SALT_BYTES}")

    @classmethod
    def unpack(cls, secret: bytes) -> Self:
        """From ``seed[64] salt[32]``, as a share holds it.

        Raises:
            ValueError: another length.
        """
        if len(secret) != SEED_BYTES + SALT_BYTES:
            raise ValueError(f"a seed share holds {SEED_BYTES + SALT_BYTES} bytes")
        return cls(secret[:SEED_BYTES], secret[SEED_BYTES:])

    def pack(self) -> bytes:
        """``seed[64] salt[32]``: secret, to be sealed at once."""
        return self.seed + self.salt

    def ledger_key(self) -> Ed25519PrivateKey:
        """Signs finished checkpoints."""
        return Ed25519PrivateKey.from_private_bytes(self._derive(b"ledger-ed25519", b"", 32))

    def ledger_mldsa_key(self) -> MLDSA44PrivateKey:
        """The ledger's post-quantum key; its verifier key stands in ``ledger.created`` from the first day."""
        return MLDSA44PrivateKey.from_seed_bytes(self._derive(b"ledger-mldsa44", b"", 32))

    def root_ca_key(self) -> ec.EllipticCurvePrivateKey:
        """P-384; one per ledger."""
        return deterministic_key("P-384", self._derive(b"root-ca", b"", 48))

    def mesh_ca_key(self, transition: bytes) -> ec.EllipticCurvePrivateKey:
        """P-384; one per manifest transition, the same in every replica and after every recovery."""
        return deterministic_key("P-384", self._derive(b"mesh-ca", transition, 48))

    def workload_secret(self, secret_id: str) -> bytes:
        """64 bytes, the same for the same id as long as the ledger lives."""
        return self._derive(b"workload-secret", secret_id.encode(), SECRET_BYTES)

    def _derive(self, use: bytes, context: bytes, length: int) -> bytes:
        info = _INFO + b"\x00" + use + b"\x00" + context
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=self.salt, info=info).derive(self.seed)


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public half."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def deterministic_key(curve: str, seed: bytes) -> ec.EllipticCurvePrivateKey:
    """An ECDSA key from a seed of at least 16 bytes: C2SP det-keygen, HMAC_DRBG with SHA-256 until a candidate fits.

    Raises:
        ValueError: a seed too short, or a curve other than P-256 and P-384.
    """
    if len(seed) < 16:
        raise ValueError("det-keygen needs a seed of at least 16 bytes")
    try:
        parameters, order = _CURVES[curve]
    except KeyError:
        raise ValueError(f"curve {curve!r}; P-256 or P-384 was wanted") from None
    length = (order.bit_length() + 7) // 8
    key, value = bytes(32), b"\x01" * 32
    key, value = _drbg_update(key, value, seed + b"det ECDSA key gen " + curve.encode())
    while True:
        block = b""
        while len(block) < length:
            value = hmac.digest(key, value, "sha256")
            block += value
        candidate = int.from_bytes(block[:length])
        if 0 < candidate < order:
            return ec.derive_private_key(candidate, parameters)
        key, value = _drbg_update(key, value, b"")


def _drbg_update(key: bytes, value: bytes, data: bytes) -> tuple[bytes, bytes]:
    """HMAC_DRBG_Update, NIST SP 800-90A rev. 1, section 10.1.2.2."""
    key = hmac.digest(key, value + b"\x00" + data, "sha256")
    value = hmac.digest(key, value, "sha256")
    if data:
        key = hmac.digest(key, value + b"\x01" + data, "sha256")
        value = hmac.digest(key, value, "sha256")
    return key, value


def sha256(data: bytes) -> bytes:
    """The digest under which blobs are stored and named."""
    return hashlib.sha256(data).digest()
