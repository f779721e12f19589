"""The owners' keys: made, read from PEM files, named as the manifest names them; nothing is signed here."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cli.errors import RefusedError
from cli.workspace import read_file

SEEDSHARE_BITS: Final = 4096
_MAX_PEM: Final = 65_536


def new_workload_owner_key() -> bytes:
    """Return a fresh P-384 key, PKCS#8 PEM, not encrypted."""
    return _pkcs8(ec.generate_private_key(ec.SECP384R1()))


def new_seedshare_owner_key() -> bytes:
    """Return a fresh RSA-4096 key, PKCS#8 PEM, not encrypted."""
    return _pkcs8(rsa.generate_private_key(public_exponent=65537, key_size=SEEDSHARE_BITS))


def workload_owner_public(pem: bytes, *, name: str) -> ec.EllipticCurvePublicKey:
    """Return the P-384 public key of *pem*, which may hold the private or the public half.

    Raises:
        RefusedError: it holds something else.
    """
    key = _load(pem, name=name)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        key = key.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise RefusedError(f"{name}: a workload owner's key is ECDSA P-384, this is {_kind(key)}")
    return key


def seedshare_owner_public(pem: bytes, *, name: str) -> rsa.RSAPublicKey:
    """Return the RSA-4096 public key of *pem*, which may hold the private or the public half.

    Raises:
        RefusedError: it holds something else.
    """
    key = _load(pem, name=name)
    if isinstance(key, rsa.RSAPrivateKey):
        key = key.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != SEEDSHARE_BITS:
        raise RefusedError(f"{name}: a seed share owner's key is RSA with {SEEDSHARE_BITS} bits, this is {_kind(key)}")
    return key


def read_workload_owner(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private key in the file *path*.

    Raises:
        RefusedError: no P-384 private key.
        LocalFileError: unreadable.
    """
    key = _load(read_file(path, what="workload owner key", limit=_MAX_PEM), name=str(path))
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise RefusedError(f"{path}: signing needs an ECDSA P-384 private key, this is {_kind(key)}")
    return key


def read_seedshare_owner(path: Path) -> rsa.RSAPrivateKey:
    """Return the private key in the file *path*.

    Raises:
        RefusedError: no RSA private key.
        LocalFileError: unreadable.
    """
    key = _load(read_file(path, what="seed share owner key", limit=_MAX_PEM), name=str(path))
    if not isinstance(key, rsa.RSAPrivateKey):
        raise RefusedError(f"{path}: recovery needs an RSA private key, this is {_kind(key)}")
    return key


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the key as SPKI DER with an uncompressed point."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pkcs1(key: rsa.RSAPublicKey) -> bytes:
    """Return the key as PKCS#1 DER, as the manifest holds it."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)


def too_open(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return those of *paths* that others on this machine may read."""
    return tuple(path for path in paths if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077)


def _pkcs8(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(pem: bytes, *, name: str) -> object:
    try:
        if b"PRIVATE KEY-----" in pem:
            return serialization.load_pem_private_key(pem, password=None)
        return serialization.load_pem_public_key(pem)
    except TypeError as error:
        raise RefusedError(f"{name}: the key is encrypted; give an unencrypted one, or only its public half") from error
    except (ValueError, UnsupportedAlgorithm) as error:  # The cause is not repeated: it may quote the file.
        raise RefusedError(f"{name}: no PEM key that can be read; wanted PKCS#8 or SPKI") from error


def _kind(key: object) -> str:
    match key:
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey():
            return f"ECDSA on {key.curve.name}"
        case rsa.RSAPrivateKey() | rsa.RSAPublicKey():
            return f"RSA with {key.key_size} bits"
        case _:
            return type(key).__name__.removeprefix("_")
