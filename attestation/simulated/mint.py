"""Writes certificates and revocation lists in AMD's exact shape, for simulated vendors. Makes no keys."""

from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import der
from attestation.snp import certificates as amd

ORGANIZATION: Final = "Simulated vendor, no hardware"


def certificate(
    key: rsa.RSAPrivateKey,
    *,
    serial: int,
    issuer: bytes,
    subject: bytes,
    validity: tuple[datetime, datetime],
    spki: bytes,
    extensions: list[bytes],
) -> bytes:
    """A certificate signed by *key*; names, public key and extensions are DER already."""
    body = der.element(
        der.SEQUENCE,
        der.element(0xA0, der.integer(2)),
        der.integer(serial),
        amd.PSS_ALGORITHM,
        issuer,
        der.element(der.SEQUENCE, *map(der.time, validity)),
        subject,
        spki,
        der.element(0xA3, der.element(der.SEQUENCE, *extensions)),
    )
    return _signed(body, key)


def crl(
    issuer: bytes, this_update: datetime, next_update: datetime, revoked: tuple[int, ...], key: rsa.RSAPrivateKey
) -> bytes:
    """A version 2 list signed by *key*."""
    entries = [der.element(der.SEQUENCE, der.integer(serial), der.time(this_update)) for serial in revoked]
    body = der.element(
        der.SEQUENCE,
        der.integer(1),
        amd.PSS_ALGORITHM,
        issuer,
        der.time(this_update),
        der.time(next_update),
        der.element(der.SEQUENCE, *entries) if entries else b"",
        der.element(0xA0, der.element(der.SEQUENCE, extension(amd.OID_CRL_NUMBER, der.integer(1)))),
    )
    return _signed(body, key)


def _signed(body: bytes, key: rsa.RSAPrivateKey) -> bytes:
    signature = key.sign(body, amd.PSS_PADDING, SHA384())
    return der.element(der.SEQUENCE, body, amd.PSS_ALGORITHM, der.element(der.BIT_STRING, b"\0", signature))


def authority(path_length: int | None, usage: int) -> list[bytes]:
    """Extensions of a CA: basic constraints with *path_length* if any, and the bits of *usage*."""
    constraints = [der.element(der.BOOLEAN, b"\xff")]
    if path_length is not None:
        constraints.append(der.integer(path_length))
    # Unused low bits of the usage byte: 1 for keyCertSign and cRLSign, 2 for keyCertSign alone.
    unused = 1 if usage & 0x02 else 2
    return [
        extension(amd.OID_BASIC_CONSTRAINTS, der.element(der.SEQUENCE, *constraints), critical=True),
        extension(amd.OID_KEY_USAGE, der.element(der.BIT_STRING, bytes((unused, usage))), critical=True),
    ]


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    """One extension around *value*."""
    flag = der.element(der.BOOLEAN, b"\xff") if critical else b""
    return der.element(der.SEQUENCE, der.element(der.OBJECT_ID, oid), flag, der.element(der.OCTET_STRING, value))


def name(common_name: str) -> bytes:
    """A distinguished name that nobody takes for AMD's."""
    attributes = ((bytes.fromhex("55040a"), ORGANIZATION), (amd.OID_COMMON_NAME, common_name))
    return der.element(
        der.SEQUENCE,
        *(
            der.element(
                der.SET,
                der.element(der.SEQUENCE, der.element(der.OBJECT_ID, oid), der.element(der.UTF8_STRING, text.encode())),
            )
            for oid, text in attributes
        ),
    )


def spki(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """The public half of *key* as SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
