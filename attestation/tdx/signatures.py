"""The three signatures of a quote by our own arithmetic, for people who ask why a quote is refused.

No chain is walked and no TCB level looked up: that is dcap-qvl's, whose word decides.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from attestation import der
from attestation.der import Reader
from attestation.errors import CertificateError
from attestation.tdx.quote import Quote

_P256_SPKI: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_QE_REPORT: Final = 384
_QE_REPORT_DATA: Final = slice(320, 384)


def signature_fault(quote: Quote) -> str | None:
    """Which signature does not hold, None if all do: attestation key, its binding to the enclave, PCK key."""
    data = quote.raw[len(quote.signed) + 4 :]
    key, enclave = data[64:128], data[134 : 134 + _QE_REPORT]
    enclave_signature = data[134 + _QE_REPORT :][:64]
    at = 134 + _QE_REPORT + 64
    authentication = data[at + 2 : at + 2 + int.from_bytes(data[at : at + 2], "little")]
    if enclave[_QE_REPORT_DATA] != hashlib.sha256(key + authentication).digest() + bytes(32):
        return "the quoting enclave's report does not name the attestation key"
    if not _holds(key, data[:64], quote.signed):
        return "the quote's signature does not hold"
    try:
        pck = _key_of(quote.certificates[0])
    except CertificateError as error:
        return f"the PCK certificate has no P-256 key: {error}"
    return None if _holds(pck, enclave_signature, enclave) else "the quoting enclave's signature does not hold"


def _holds(point: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + point)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _key_of(certificate: bytes) -> bytes:
    body = Reader(Reader(certificate).enter(der.SEQUENCE).read_raw(der.SEQUENCE)).enter(der.SEQUENCE)
    body.read(0xA0)
    body.integer()
    for _ in range(4):  # Algorithm, issuer, validity, subject.
        body.read(der.SEQUENCE)
    spki = body.read_raw(der.SEQUENCE)
    if not spki.startswith(_P256_SPKI) or len(spki) != len(_P256_SPKI) + 64:
        raise CertificateError("another kind of key")
    return spki[-64:]
