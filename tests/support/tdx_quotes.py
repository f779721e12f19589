"""TDX quotes of a platform that somebody made up: every body there is, signed throughout, under a root not Intel's.

What the published quotes do not show can be tried on them: all that refuses them is the root, and what a test changes.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from struct import pack

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from attestation import der
from attestation.evidence import Evidence, Kind
from attestation.judge import judge
from attestation.reference import TDX_STATUSES, TdxReferenceValues
from attestation.tdx.quote import INTEL_QE_VENDOR, parse_quote
from attestation.verdict import Verdict

START, END, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2033, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
_SGX = "1.2.840.113741.1.13.1"
_FMSPC, _INSTANCE = bytes.fromhex("f0f0f0000000"), b"\x11" * 16


@dataclass(frozen=True)
class Body:
    """The fields of a body that tests change; the others are constant."""

    host_data: bytes = b"\xc3" * 32
    report_data: bytes = b"\xe5" * 64
    attributes: int = 1 << 28
    service_td: bytes = bytes(48)
    vm_index: int = 0
    first_service_td: bytes = bytes(48)
    current_service_td: bytes = bytes(48)
    current_service_attributes: bytes = bytes(8)

    @property
    def td10(self) -> bytes:
        return b"".join(
            (
                b"\x05\x01\x02" + bytes(13),  # TEE_TCB_SVN
                b"\xa1" * 48 + bytes(48) + bytes(8),  # MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES
                pack("<Q", self.attributes) + bytes.fromhex("e702060000000000"),  # TD_ATTRIBUTES, XFAM
                b"\xb2" * 48 + self.host_data + bytes(16),  # MRTD, MRCONFIGID
                bytes(96),  # MROWNER, MROWNERCONFIG
                *(bytes((0xD0 + number,)) * 48 for number in range(4)),  # RTMRs
                self.report_data,
            )
        )

    @property
    def td15(self) -> bytes:
        return self.td10 + b"\x06\x01\x02" + bytes(13) + self.service_td

    @property
    def extended(self) -> bytes:
        return b"".join(
            (
                self.td15,
                bytes((self.vm_index,)),
                b"\x77" * 32,  # TD_ID
                bytes(48),  # DEV_INFO
                self.first_service_td + bytes(8),
                bytes(16 + 16 + 12),  # The platform that it was created on.
                self.current_service_td + self.current_service_attributes,
            )
        )


def quote(
    body: Body = Body(),
    kind: str = "extended",
    *,
    framing: tuple[int, int] | None = None,
    keys: "QuotingKeys | None" = None,
) -> bytes:
    """A whole quote. *kind* is ``v4``, ``td10`` (in version 5), ``td15`` or ``extended``; *framing* lies about it."""
    fields = {"v4": body.td10, "td10": body.td10, "td15": body.td15, "extended": body.extended}[kind]
    version = 4 if kind == "v4" else 5
    header = pack("<HHI4s16s20s", version, 2, 0x81, bytes(4), INTEL_QE_VENDOR, b"\x99" * 20)
    if version == 5:
        number = {"td10": 2, "td15": 3, "extended": 4}[kind]
        header += pack("<HI", *(framing or (number, len(fields))))
    return signed(header + fields, keys or _keys())


def signed(head: bytes, keys: "QuotingKeys") -> bytes:
    """*head* and the signatures over it, as a quoting enclave writes them."""
    key, authentication = _point(keys.attestation), b"\x20" * 32
    enclave = bytes(320) + hashlib.sha256(key + authentication).digest() + bytes(32)
    chain = keys.chain
    inner = pack("<H", len(authentication)) + authentication + pack("<HI", 5, len(chain)) + chain
    report = enclave + _sign(keys.pck, enclave) + inner
    data = _sign(keys.attestation, head) + key + pack("<HI", 6, len(report)) + report
    return head + pack("<I", len(data)) + data


def judged(raw: bytes, **changes: object) -> Verdict:
    """The verdict by an entry that fits, with every check made."""
    parsed = parse_quote(raw)
    values = TdxReferenceValues(
        platform="made up",
        mr_td=parsed.mr_td,
        mr_seam=parsed.mr_seam,
        rtmrs=parsed.rtmrs,
        xfam=parsed.xfam,
        allowed_tcb_statuses=TDX_STATUSES,
    )
    return judge(
        Evidence.make(Kind.TDX, {"quote": raw}),
        [replace(values, **changes)],  # type: ignore[arg-type]
        report_data=parsed.report_data,
        host_data={parsed.host_data},
        now=NOW,
        thorough=True,
    )


@dataclass(frozen=True)
class QuotingKeys:
    """What a platform signs with: the quoting enclave's key, the PCK key, and the PCK certificate's chain in PEM."""

    attestation: ec.EllipticCurvePrivateKey
    pck: ec.EllipticCurvePrivateKey
    chain: bytes


@cache
def _keys() -> QuotingKeys:
    attestation, pck, middle, root = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    names = ["Intel SGX Root CA", "Intel SGX PCK Platform CA", "Intel SGX PCK Certificate"]
    certificates = (
        _certificate(names[2], pck, names[1], middle, _pck_extension()),
        _certificate(names[1], middle, names[0], root),
        _certificate(names[0], root, names[0], root),
    )
    return QuotingKeys(attestation, pck, b"".join(each.public_bytes(Encoding.PEM) for each in certificates))


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extension: bytes | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(START)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=extension is None, path_length=None), critical=True)
    )
    if extension is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(_SGX), extension), critical=False)
    return builder.sign(issuer_key, SHA256())


def _pck_extension() -> bytes:
    oid = bytes.fromhex("2a864886f84d010d01")
    values = (
        (1, der.element(der.OCTET_STRING, b"\x44" * 16)),
        (3, der.element(der.OCTET_STRING, bytes(2))),
        (4, der.element(der.OCTET_STRING, _FMSPC)),
        (5, der.element(0x0A, b"\1")),
        (6, der.element(der.OCTET_STRING, _INSTANCE)),
    )
    return der.element(
        der.SEQUENCE,
        *(
            der.element(der.SEQUENCE, der.element(der.OBJECT_ID, oid + bytes((number,))), value)
            for number, value in values
        ),
    )


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
