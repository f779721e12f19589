"""The PCK certificate: Intel's word on the platform that a quote comes from. Reading only; the library verifies it.

Intel SGX PCK Certificate and CRL Profile, section 1.3.5: one extension with everything about the platform in it.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from attestation import der
from attestation.der import Reader, dotted
from attestation.errors import CertificateError

# SHA-256 of the root certificate in DER and of its public key. Intel has another root of the same name for hardware
# before production; what it signs is worth nothing.
INTEL_ROOT: Final = bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")

_SGX: Final = bytes.fromhex("2a864886f84d010d01")  # 1.2.840.113741.1.13.1
_PPID, _TCB, _PCE_ID, _FMSPC, _SGX_TYPE, _INSTANCE, _CONFIGURATION = (_SGX + bytes((n,)) for n in range(1, 8))
_DYNAMIC, _CACHED_KEYS, _SMT = (_CONFIGURATION + bytes((n,)) for n in (1, 2, 3))
_ENUMERATED: Final = 0x0A
_SGX_TYPES: Final = ("standard", "scalable", "scalable with integrity")
_OID_COMMON_NAME: Final = bytes.fromhex("550403")
_CA_NAMES: Final = {"Intel SGX PCK Platform CA": "platform", "Intel SGX PCK Processor CA": "processor"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What Intel certifies of a platform.

    Attributes:
        ca: ``platform`` (several sockets, registered) or ``processor``.
        fmspc: six bytes that name family, model, stepping, platform and SKU: what TCB information is for.
        memory: how memory is protected: standard, scalable, scalable with integrity.
        instance_id: of this one platform, 16 bytes; None under the processor CA.
        dynamic, cached_keys, smt: its configuration; None where Intel says nothing.
        root: SHA-256 of the root certificate that came along.
    """

    ca: str
    fmspc: bytes
    memory: str
    instance_id: bytes | None
    dynamic: bool | None
    cached_keys: bool | None
    smt: bool | None
    root: bytes


def parse_platform(certificates: tuple[bytes, ...]) -> Platform:
    """Read the PCK certificate at the head of a chain.

    Raises:
        CertificateError: it is none, or its extension is not as Intel writes it.
    """
    leaf, _, root = certificates
    body = Reader(Reader(leaf).enter(der.SEQUENCE).read_raw(der.SEQUENCE)).enter(der.SEQUENCE)
    body.read(0xA0)
    body.integer()
    body.read(der.SEQUENCE)
    issuer, _validity, subject = body.read_raw(der.SEQUENCE), body.read(der.SEQUENCE), body.read_raw(der.SEQUENCE)
    body.read(der.SEQUENCE)
    ca = _CA_NAMES.get(_common_name(issuer))
    if ca is None or _common_name(subject) != "Intel SGX PCK Certificate":
        raise CertificateError(
            f"{_common_name(subject)[:40]!r} under {_common_name(issuer)[:40]!r} is no PCK certificate"
        )
    values = _sequence(_extension(body.enter(0xA3).enter(der.SEQUENCE)))
    configuration: dict[bytes, Reader] = {}
    if _CONFIGURATION in values:
        configuration = _pairs(values[_CONFIGURATION].enter(der.SEQUENCE))
    memory = _take(values, _SGX_TYPE).read(_ENUMERATED)
    fmspc = _take(values, _FMSPC).read(der.OCTET_STRING)
    instance = values[_INSTANCE].read(der.OCTET_STRING) if _INSTANCE in values else None
    if memory not in (b"\0", b"\1", b"\2") or len(fmspc) != 6 or (instance is not None and len(instance) != 16):
        raise CertificateError("the PCK extension holds an unknown memory type, FMSPC or platform id")
    return Platform(
        ca,
        fmspc,
        _SGX_TYPES[memory[0]],
        instance,
        _flag(configuration, _DYNAMIC),
        _flag(configuration, _CACHED_KEYS),
        _flag(configuration, _SMT),
        hashlib.sha256(root).digest(),
    )


def _extension(extensions: Reader) -> bytes:
    found: bytes | None = None
    while not extensions.at_end:
        item = extensions.enter(der.SEQUENCE)
        oid = item.read(der.OBJECT_ID)
        if item.peek() == der.BOOLEAN:
            item.boolean()
        value = item.read(der.OCTET_STRING)
        item.finish()
        if oid == _SGX:
            if found is not None:
                raise CertificateError("the PCK extension stands there twice")
            found = value
    if found is None:
        raise CertificateError("the PCK extension is missing")
    return found


def _sequence(value: bytes) -> dict[bytes, Reader]:
    outer = Reader(value)
    inner = outer.enter(der.SEQUENCE)
    outer.finish()
    return _pairs(inner)


def _pairs(reader: Reader) -> dict[bytes, Reader]:
    """Object identifier -> a reader at its value; each once."""
    found: dict[bytes, Reader] = {}
    while not reader.at_end:
        pair = reader.enter(der.SEQUENCE)
        oid = pair.read(der.OBJECT_ID)
        if oid in found:
            raise CertificateError(f"{dotted(oid)} stands twice in the PCK extension")
        found[oid] = pair
    return found


def _take(values: dict[bytes, Reader], oid: bytes) -> Reader:
    if oid not in values:
        raise CertificateError(f"{dotted(oid)} is missing in the PCK extension")
    return values[oid]


def _flag(values: dict[bytes, Reader], oid: bytes) -> bool | None:
    return values[oid].boolean() if oid in values else None


def _common_name(name: bytes) -> str:
    found = ""
    sets = Reader(name).enter(der.SEQUENCE)
    while not sets.at_end:
        attribute = sets.enter(der.SET).enter(der.SEQUENCE)
        oid, tag = attribute.read(der.OBJECT_ID), attribute.peek()
        text = attribute.read(tag if tag in (der.UTF8_STRING, der.PRINTABLE_STRING) else der.IA5_STRING)
        if oid == _OID_COMMON_NAME:
            found = text.decode("ascii", "replace")
    return found
