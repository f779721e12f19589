"""A TDX vendor that somebody made up: root, platform, TCB levels, lists and guests, whole enough for dcap-qvl.

The library takes another root when it is told to, and nothing else differs: `trusting` puts this root where Intel's is
pinned. Only tests can do that; no manifest and no setting names a root for TDX.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from attestation import der
from attestation.evidence import Evidence, Kind
from attestation.reference import TdxReferenceValues
from attestation.tdx import endorsed
from tests.support.tdx_quotes import Body, QuotingKeys, quote

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2033, 1, 1, tzinfo=UTC)
FMSPC = bytes.fromhex("f0f0f0000000")
_SGX = "1.2.840.113741.1.13.1"
_SVN = 5


@dataclass(frozen=True)
class Intel:
    """Keys and certificates of the vendor, and of one platform.

    Attributes:
        root: certificate in DER.
        collateral: as in evidence.
        keys: what the platform's quoting enclave signs with.
    """

    root: bytes
    collateral: bytes
    keys: QuotingKeys

    def values(self, **changes: Any) -> TdxReferenceValues:
        """An entry that the guests of this platform satisfy."""
        body = Body()
        fields: dict[str, Any] = {
            "platform": "made up",
            "mr_td": body.td10[136:184],
            "mr_seam": body.td10[16:64],
            "rtmrs": tuple(body.td10[at : at + 48] for at in range(328, 520, 48)),
            "xfam": body.td10[128:136],
        }
        return TdxReferenceValues(**{**fields, **changes})


@dataclass(frozen=True)
class TdxGuest:
    """A guest of the platform; like the simulated processor's, it gives evidence about 64 bytes.

    Attributes:
        host_data: digest of its policy, in the first 32 bytes of MRCONFIGID.
        framing: version and body of its quotes, as ``tdx_quotes.quote`` names them.
        is_bare: leaves the collateral to whoever completes the evidence.
    """

    intel: Intel
    host_data: bytes
    framing: str = "v4"
    is_bare: bool = False
    body: Body = field(default_factory=Body)

    def evidence(self, report_data: bytes) -> Evidence:
        body = replace(self.body, host_data=self.host_data, report_data=report_data)
        parts = {"quote": quote(body, self.framing, keys=self.intel.keys)}
        return Evidence.make(Kind.TDX, parts if self.is_bare else {**parts, "collateral": self.intel.collateral})


@contextmanager
def trusting(intel: Intel) -> Iterator[None]:
    """Pin *intel*'s root in the place of Intel's, for us and for the library."""

    def verify(raw: bytes, collateral: Any, now: int) -> Any:
        return dcap_qvl.verify_with_root_ca(raw, collateral, intel.root, now)

    library = SimpleNamespace(**{**vars(dcap_qvl), "verify": verify})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endorsed, "INTEL_ROOT", hashlib.sha256(intel.root).digest())
        patch.setattr(endorsed, "dcap_qvl", library)
        yield


@cache
def made_up_intel(name: str = "main") -> Intel:
    """The vendor; another *name* is another one, with keys of its own."""
    root, middle, pck, signing, attestation = (ec.generate_private_key(ec.SECP256R1()) for _ in range(5))
    top, middle_name = "Intel SGX Root CA", "Intel SGX PCK Platform CA"
    root_ca = _certificate(top, root, top, root, is_ca=True)
    middle_ca = _certificate(middle_name, middle, top, root, is_ca=True)
    pck_cert = _certificate("Intel SGX PCK Certificate", pck, middle_name, middle, extension=_pck_extension(name))
    signer = _certificate("Intel SGX TCB Signing", signing, top, root)
    tcb_info, identity = json.dumps(_tcb_info()), json.dumps(_identity())
    collateral = {
        "pck_crl_issuer_chain": _pem(middle_ca, root_ca),
        "root_ca_crl": _crl(top, root).hex(),
        "pck_crl": _crl(middle_name, middle).hex(),
        "tcb_info_issuer_chain": _pem(signer, root_ca),
        "tcb_info": tcb_info,
        "tcb_info_signature": _sign(signing, tcb_info.encode()).hex(),
        "qe_identity_issuer_chain": _pem(signer, root_ca),
        "qe_identity": identity,
        "qe_identity_signature": _sign(signing, identity.encode()).hex(),
    }
    chain = _pem(pck_cert, middle_ca, root_ca).encode()
    return Intel(
        root_ca.public_bytes(Encoding.DER), json.dumps(collateral).encode(), QuotingKeys(attestation, pck, chain)
    )


def _tcb_info() -> dict[str, Any]:
    zero = "00" * 48
    level = {
        "sgxtcbcomponents": [{"svn": _SVN}] * 16,
        "pcesvn": _SVN,
        "tdxtcbcomponents": [{"svn": svn} for svn in (5, 1, 2, *[0] * 13)],
    }
    module = {"mrsigner": zero, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    return {
        "id": "TDX",
        "version": 3,
        "issueDate": "2026-01-01T00:00:00Z",
        "nextUpdate": "2033-01-01T00:00:00Z",
        "fmspc": FMSPC.hex().upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 20,
        "tdxModule": module,
        "tdxModuleIdentities": [
            {
                "id": "TDX_01",
                **module,
                "tcbLevels": [{"tcb": {"isvsvn": 5}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate"}],
            }
        ],
        "tcbLevels": [{"tcb": level, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate"}],
    }


def _identity() -> dict[str, Any]:
    return {
        "id": "TD_QE",
        "version": 2,
        "issueDate": "2026-01-01T00:00:00Z",
        "nextUpdate": "2033-01-01T00:00:00Z",
        "tcbEvaluationDataNumber": 20,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "00" * 16,
        "attributesMask": "FF" * 16,
        "mrsigner": "00" * 32,
        "isvprodid": 0,
        "tcbLevels": [{"tcb": {"isvsvn": 0}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate"}],
    }


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extension: bytes | None = None,
    *,
    is_ca: bool = False,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(_usage(is_ca=is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if extension is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(_SGX), extension), critical=False)
    return builder.sign(issuer_key, SHA256())


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _crl(issuer: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_name(issuer))
        .last_update(START)
        .next_update(END)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def _pck_extension(name: str) -> bytes:
    """Intel SGX PCK Certificate and CRL Profile, section 1.3.5."""
    oid = bytes.fromhex("2a864886f84d010d01")
    octets, sequence = der.OCTET_STRING, der.SEQUENCE

    def pair(suffix: bytes, value: bytes) -> bytes:
        return der.element(sequence, der.element(der.OBJECT_ID, oid + suffix), value)

    svns = [pair(bytes((2, number)), der.integer(_SVN)) for number in range(1, 18)]
    return der.element(
        sequence,
        pair(b"\1", der.element(octets, hashlib.sha256(name.encode()).digest()[:16])),
        pair(b"\2", der.element(sequence, *svns, pair(b"\2\x12", der.element(octets, bytes((_SVN,)) * 16)))),
        pair(b"\3", der.element(octets, bytes(2))),
        pair(b"\4", der.element(octets, FMSPC)),
        pair(b"\5", der.element(0x0A, b"\1")),
        pair(b"\6", der.element(octets, b"\x11" * 16)),
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(*certificates: x509.Certificate) -> str:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates).decode()


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
