"""VCEK and VLEK certificates: the key that signs reports, and what AMD says of its owner. Judges nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from attestation import der
from attestation.der import Reader, dotted
from attestation.errors import CertificateError
from attestation.snp.certificates import Certificate, check_signing_leaf, parse_certificate, printable
from attestation.snp.products import Tcb

# The only shape of a report key: an uncompressed point on P-384.
P384_SPKI_PREFIX: Final = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")

_AMD = bytes.fromhex("2b060104019c7801")  # 1.3.6.1.4.1.3704.1
OID_STRUCT_VERSION: Final = _AMD + b"\x01"
OID_PRODUCT_NAME: Final = _AMD + b"\x02"
OID_TCB: Final = _AMD + b"\x03"
OID_HWID: Final = _AMD + b"\x04"
OID_CSP_ID: Final = _AMD + b"\x05"
TCB_BOOTLOADER: Final = 1
TCB_TEE: Final = 2
TCB_SNP: Final = 3
TCB_RESERVED: Final = (4, 5, 6, 7)
TCB_MICROCODE: Final = 8
TCB_FMC: Final = 9
_TCB_PARTS: Final = tuple(
    (part, OID_TCB + bytes((part,)))
    for part in (TCB_BOOTLOADER, TCB_TEE, TCB_SNP, TCB_MICROCODE, TCB_FMC, *TCB_RESERVED)
)
_VERSIONS: Final = {der.integer(version): version for version in range(256)}
"""The only DER spellings of the versions that there are."""


class EndorsementKind(StrEnum):
    """Which key signed a report: the chip's own, or the one that a cloud provider loaded into it."""

    VCEK = "VCEK"
    VLEK = "VLEK"


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A VCEK or VLEK certificate: the key that signs reports, and what AMD says of its owner.

    Attributes:
        product_name: as in the certificate, e.g. ``Milan-B0``.
        tcb: the versions that the key belongs to.
        hwid: of a VCEK, 64 or 8 bytes.
        provider: CSP_ID of a VLEK.
    """

    certificate: Certificate
    key: ec.EllipticCurvePublicKey
    kind: EndorsementKind
    product_name: str
    tcb: Tcb
    hwid: bytes | None
    provider: str | None


def parse_endorsement(raw: bytes) -> Endorsement:
    """Read a VCEK or VLEK certificate.

    Raises:
        CertificateError: a missing, doubled or loosely encoded extension, one under AMD's number or critical that is
            unknown, a key that is no point on P-384. What X.509 leaves to be ignored is ignored.
    """
    certificate = parse_certificate(raw)
    extensions = dict(certificate.extensions)
    kind = {"SEV-VCEK": EndorsementKind.VCEK, "SEV-VLEK": EndorsementKind.VLEK}.get(certificate.common_name)
    if kind is None:
        raise CertificateError(f"the subject is {certificate.common_name[:40]!r}, wanted SEV-VCEK or SEV-VLEK")
    structure = _whole(extensions.pop(OID_STRUCT_VERSION, None), "structVersion")
    structure.integer()
    structure.finish()
    product_name = _ia5(extensions.pop(OID_PRODUCT_NAME, None), "productName")
    parts: dict[int, int] = {}
    for part, oid in _TCB_PARTS:
        value = extensions.pop(oid, None)
        if value is None:
            if part == TCB_FMC or (part == TCB_RESERVED[0] and TCB_FMC in parts):
                continue  # Turin has FMC and no fourth part, the others the reverse; check 12 compares.
            raise CertificateError(f"the TCB extension .3.{part} is missing")
        version = _VERSIONS.get(value)
        if version is None or (part in TCB_RESERVED and version != 0):
            raise CertificateError(f"the TCB extension .3.{part} says {value[:16].hex()}, which is no version there")
        if part not in TCB_RESERVED:
            parts[part] = version
    hwid = extensions.pop(OID_HWID, None)
    csp_id = extensions.pop(OID_CSP_ID, None)
    # AMD marks nothing as critical: one more under its number could be one more part of the TCB, as FMC was.
    unknown = [oid for oid in extensions if oid.startswith(_AMD)]
    if unknown:
        raise CertificateError(f"an extension {dotted(min(unknown))}, unknown in a {kind}")
    check_signing_leaf(certificate)
    return Endorsement(
        certificate,
        _p384_key(certificate),
        kind,
        product_name,
        Tcb(
            bootloader=parts[TCB_BOOTLOADER],
            tee=parts[TCB_TEE],
            snp=parts[TCB_SNP],
            microcode=parts[TCB_MICROCODE],
            fmc=parts.get(TCB_FMC),
        ),
        None if hwid is None else _hwid(hwid),
        None if csp_id is None else _ia5(csp_id, "CSP_ID"),
    )


def _p384_key(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    point = certificate.spki.removeprefix(P384_SPKI_PREFIX)
    if len(point) != 97 or point[0] != 4 or len(certificate.spki) != len(P384_SPKI_PREFIX) + 97:
        raise CertificateError("the key is not an uncompressed point on P-384")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
    except ValueError:
        raise CertificateError("the key is not on the curve P-384") from None


def _hwid(value: bytes) -> bytes:
    # AMD writes the id raw. The wrapped form is unambiguous by its length; whose chip it is is asked in check 13.
    if (len(value), value[:2]) in ((66, b"\x04\x40"), (10, b"\x04\x08")):
        return value[2:]
    if len(value) not in (8, 64):
        raise CertificateError(f"the hwID has {len(value)} bytes, wanted 64 or 8")
    return value


def _whole(value: bytes | None, name: str) -> Reader:
    if value is None:
        raise CertificateError(f"the extension {name} is missing")
    return Reader(value)


def _ia5(value: bytes | None, name: str) -> str:
    reader = _whole(value, name)
    text = printable(reader.read(der.IA5_STRING))
    reader.finish()
    return text
