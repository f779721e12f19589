"""Certificates and revocation lists of AMD's shape, read strictly, and whether one signed another.

What AMD adds to the certificates of report keys is in ``endorsement``. Whether a chain
ends in a root that anybody trusts is decided in ``verify``, never here.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384

from attestation import der
from attestation.der import Reader, dotted, span
from attestation.errors import CertificateError

# RSASSA-PSS with SHA-384, MGF1-SHA-384, salt 48: nothing else is accepted. Eight spellings say the same: parameters of
# the hashes NULL or absent (RFC 4055, section 2.1), the trailer field, a default, written or not. AMD uses two of them.
_PSS = bytes.fromhex("06092a864886f70d01010a")
_MGF1 = bytes.fromhex("06092a864886f70d010108")
_PSS_SALT = bytes.fromhex("a203020130")
_PSS_TRAILER = bytes.fromhex("a303020101")
_SHA384_NULL, _SHA384_BARE = (
    bytes.fromhex("300d06096086480165030402020500"),
    bytes.fromhex("300b0609608648016503040202"),
)


def _pss(digest: bytes, mask_digest: bytes, trailer: bytes) -> bytes:
    mask = der.element(der.SEQUENCE, _MGF1, mask_digest)
    parts = (der.element(0xA0, digest), der.element(0xA1, mask), _PSS_SALT, trailer)
    return der.element(der.SEQUENCE, _PSS, der.element(der.SEQUENCE, *parts))


PSS_ALGORITHM: Final = _pss(_SHA384_NULL, _SHA384_NULL, b"")
_PSS_ALGORITHMS: Final = frozenset(
    _pss(digest, mask_digest, trailer)
    for digest in (_SHA384_NULL, _SHA384_BARE)
    for mask_digest in (_SHA384_NULL, _SHA384_BARE)
    for trailer in (b"", _PSS_TRAILER)
)
PSS_PADDING: Final = padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=48)
SIGNATURE_SIZE: Final = 512

# The only shape of an authority's key: RSA-4096 with exponent 65537.
RSA_SPKI_PREFIX: Final = bytes.fromhex("30820222300d06092a864886f70d01010105000382020f003082020a0282020100")
RSA_SPKI_SUFFIX: Final = bytes.fromhex("0203010001")

OID_COMMON_NAME: Final = bytes.fromhex("550403")
OID_KEY_USAGE: Final = bytes.fromhex("551d0f")
OID_BASIC_CONSTRAINTS: Final = bytes.fromhex("551d13")
OID_SUBJECT_KEY_ID: Final = bytes.fromhex("551d0e")
OID_AUTHORITY_KEY_ID: Final = bytes.fromhex("551d23")
OID_CRL_POINTS: Final = bytes.fromhex("551d1f")
OID_CRL_NUMBER: Final = bytes.fromhex("551d14")
_CA_EXTENSIONS: Final = frozenset(
    (OID_KEY_USAGE, OID_BASIC_CONSTRAINTS, OID_SUBJECT_KEY_ID, OID_AUTHORITY_KEY_ID, OID_CRL_POINTS)
)
_SEQUENCE, _OBJECT_ID, _OCTET_STRING = der.SEQUENCE, der.OBJECT_ID, der.OCTET_STRING
_VERSION_TAG: Final = 0xA0
_VERSION_3: Final = der.element(_VERSION_TAG, der.integer(2))
_EXTENSIONS_TAG: Final = 0xA3
_NO_CA: Final = der.element(der.SEQUENCE)
_DIGITAL_SIGNATURE = 0x80
_KEY_CERT_SIGN = 0x04
_CRL_SIGN = 0x02
_MAX_REVOKED = 10_000
_NAME_STRINGS = (der.UTF8_STRING, der.PRINTABLE_STRING, der.IA5_STRING)
_NO_CRITICAL: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate of AMD's shape, its parts still raw where only their equality matters."""

    raw: bytes
    signed: bytes
    serial: int
    issuer: bytes
    subject: bytes
    common_name: str
    issuer_common_name: str
    not_before: datetime
    not_after: datetime
    spki: bytes
    extensions: dict[bytes, bytes]
    signature: bytes


def parse_certificate(raw: bytes) -> Certificate:
    """Read a certificate; every byte must be accounted for.

    Raises:
        CertificateError: not strict DER, another signature algorithm, a doubled or an unknown critical extension.
    """
    signed, body, signature, algorithm = _envelope(raw)
    if not body.skip(_VERSION_3):
        raise CertificateError("the certificate is not of X.509 version 3")
    serial = body.serial()
    _check_algorithm(body, algorithm, signature)
    issuer = body.read_raw(der.SEQUENCE)
    validity = body.enter(der.SEQUENCE)
    not_before, not_after = validity.time(), validity.time()
    validity.finish()
    subject = body.read_raw(der.SEQUENCE)
    spki = body.read_raw(der.SEQUENCE)
    wrapper = body.enter(_EXTENSIONS_TAG)
    body.finish()
    extensions = _extensions(wrapper, critical=_CA_EXTENSIONS)
    wrapper.finish()
    return Certificate(
        raw,
        signed,
        serial,
        issuer,
        subject,
        _common_name(subject),
        _common_name(issuer),
        not_before,
        not_after,
        spki,
        extensions,
        signature,
    )


@dataclass(frozen=True, slots=True)
class Authority:
    """An ARK, ASK or ASVK: a certificate that may sign certificates, and its key."""

    certificate: Certificate
    key: rsa.RSAPublicKey
    path_length: int | None
    signs_crls: bool


def parse_authority(raw: bytes) -> Authority:
    """Read a certificate that must be a CA's, with an RSA-4096 key.

    Raises:
        CertificateError: anything else.
    """
    certificate = parse_certificate(raw)
    constraints = certificate.extensions.get(OID_BASIC_CONSTRAINTS)
    usage = certificate.extensions.get(OID_KEY_USAGE)
    if constraints is None or usage is None:
        raise CertificateError(f"{certificate.common_name} lacks basic constraints or key usage, so it is no CA")
    path_length = _path_length(constraints, certificate.common_name)
    bits = _key_usage(usage)
    if not bits & _KEY_CERT_SIGN:
        raise CertificateError(f"{certificate.common_name} may not sign certificates")
    return Authority(certificate, _authority_key(certificate), path_length, bool(bits & _CRL_SIGN))


def check_signing_leaf(certificate: Certificate) -> None:
    """Hold a leaf to what it says of itself, if anything: AMD's say nothing of the kind.

    Raises:
        CertificateError: its key may not sign, or it is a CA's.
    """
    usage = certificate.extensions.get(OID_KEY_USAGE)
    if usage is not None and not _key_usage(usage) & _DIGITAL_SIGNATURE:
        raise CertificateError(f"the key of {certificate.common_name} may not sign")
    constraints = certificate.extensions.get(OID_BASIC_CONSTRAINTS)
    if constraints is not None and constraints != _NO_CA:
        raise CertificateError(f"{certificate.common_name} is a CA's")


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL of AMD's shape."""

    signed: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime
    revoked: frozenset[int]
    signature: bytes


def parse_crl(raw: bytes) -> RevocationList:
    """Read a version 2 CRL.

    Raises:
        CertificateError: not strict DER, another signature algorithm, no nextUpdate, an unknown critical extension.
    """
    signed, body, signature, algorithm = _envelope(raw)
    if body.integer() != 1:
        raise CertificateError("the CRL is not of version 2")
    _check_algorithm(body, algorithm, signature)
    issuer = body.read_raw(der.SEQUENCE)
    this_update, next_update = body.time(), body.time()
    revoked: set[int] = set()
    if body.peek() == der.SEQUENCE:
        entries = body.enter(der.SEQUENCE)
        while not entries.at_end:
            entry = entries.enter(der.SEQUENCE)
            revoked.add(entry.serial())
            entry.time()
            if not entry.at_end:
                _extensions(entry, critical=_NO_CRITICAL)
            entry.finish()
            if len(revoked) > _MAX_REVOKED:
                raise CertificateError(f"the CRL lists more than {_MAX_REVOKED} certificates")
    if not body.at_end:
        wrapper = body.enter(0xA0)
        _extensions(wrapper, critical=_NO_CRITICAL)
        wrapper.finish()
    body.finish()
    return RevocationList(signed, issuer, this_update, next_update, frozenset(revoked), signature)


def is_signed_by(signed: bytes, signature: bytes, key: rsa.RSAPublicKey) -> bool:
    """Whether *signature* over *signed* is one of *key*, with AMD's parameters exactly."""
    try:
        key.verify(signature, signed, PSS_PADDING, SHA384())
    except InvalidSignature:
        return False
    return True


def _envelope(raw: bytes) -> tuple[bytes, Reader, bytes, bytes]:
    """What is signed, and its content; the signature, and the outer algorithm: certificates and lists share this."""
    outer = Reader(raw)
    whole = outer.enter(der.SEQUENCE)
    outer.finish()
    begin = whole.position
    body = whole.enter(der.SEQUENCE)
    signed = raw[begin : whole.position]
    algorithm = whole.read_raw(der.SEQUENCE)
    signature = whole.bit_string()
    whole.finish()
    return signed, body, signature, algorithm


def _check_algorithm(body: Reader, outer: bytes, signature: bytes) -> None:
    if outer not in _PSS_ALGORITHMS or not body.skip(outer):
        raise CertificateError("the signature algorithm is not RSASSA-PSS with SHA-384, MGF1-SHA-384 and salt 48")
    if len(signature) != SIGNATURE_SIZE:
        raise CertificateError(f"the signature has {len(signature)} bytes, wanted {SIGNATURE_SIZE}")


def _extensions(reader: Reader, *, critical: frozenset[bytes]) -> dict[bytes, bytes]:
    """Object identifier -> value, each once; one that is critical must be among those that somebody evaluates."""
    found: dict[bytes, bytes] = {}
    data = reader.data
    position, end = reader.span(der.SEQUENCE)
    while position < end:
        # Written out instead of three times `span`, for what nearly every extension is: short, and not critical.
        start = position + 4
        if start < end and data[position] == _SEQUENCE and data[position + 2] == _OBJECT_ID:
            size, length = data[position + 1], data[position + 3]
            stop = start + length
            last = position + 2 + size
            if (
                size < 0x80
                and stop + 2 <= last <= end
                and data[stop] == _OCTET_STRING
                and data[stop + 1] == last - stop - 2
            ):
                oid = data[start:stop]
                if oid in found:
                    raise CertificateError(f"the extension {dotted(oid)} stands there twice")
                found[oid] = data[stop + 2 : last]
                position = last
                continue
        start, position = span(data, position, end, der.SEQUENCE)
        start, stop = span(data, start, position, der.OBJECT_ID)
        oid = data[start:stop]
        is_critical = False
        if stop < position and data[stop] == der.BOOLEAN:
            flag = Reader(data, stop, position)
            is_critical, stop = flag.boolean(), flag.position
        start, stop = span(data, stop, position, der.OCTET_STRING)
        if stop != position:
            raise CertificateError(f"{position - stop} bytes too many at byte {stop}")
        if oid in found:
            raise CertificateError(f"the extension {dotted(oid)} stands there twice")
        if is_critical and oid not in critical:
            raise CertificateError(f"the extension {dotted(oid)} is unknown here")
        found[oid] = data[start:stop]
    return found


@lru_cache(maxsize=256)  # Every certificate of a product has the same few names.
def _common_name(name: bytes) -> str:
    common_name: str | None = None
    sets = Reader(name).enter(der.SEQUENCE)
    while not sets.at_end:
        attributes = sets.enter(der.SET)
        attribute = attributes.enter(der.SEQUENCE)
        attributes.finish()
        oid = attribute.read(der.OBJECT_ID)
        tag = attribute.peek()
        if tag not in _NAME_STRINGS:
            raise CertificateError("a name holds something else than text")
        value = attribute.read(tag)
        attribute.finish()
        if oid == OID_COMMON_NAME:
            if common_name is not None:
                raise CertificateError("a name has two common names")
            common_name = printable(value)
    if common_name is None:
        raise CertificateError("a name has no common name")
    return common_name


def printable(value: bytes) -> str:
    """Text of a certificate: printable ASCII, 1 to 255 characters.

    Raises:
        CertificateError: anything else.
    """
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        raise CertificateError("text in a certificate is not ASCII") from None
    if not text.isprintable() or not 0 < len(text) <= 255:
        raise CertificateError("text in a certificate is empty, too long or unprintable")
    return text


@lru_cache(maxsize=64)  # As the names: there are a few, and each authority has one of them.
def _path_length(value: bytes, name: str) -> int | None:
    reader = Reader(value)
    constraints = reader.enter(der.SEQUENCE)
    reader.finish()
    if constraints.at_end or not constraints.boolean():
        raise CertificateError(f"{name} is no CA")
    path_length = None if constraints.at_end else constraints.integer()
    constraints.finish()
    return path_length


@lru_cache(maxsize=64)
def _key_usage(value: bytes) -> int:
    reader = Reader(value)
    content = reader.read(der.BIT_STRING)
    reader.finish()
    if len(content) != 2 or content[0] > 7 or content[1] & ((1 << content[0]) - 1):
        raise CertificateError("the key usage is not one byte of bits")
    return content[1]


def _authority_key(certificate: Certificate) -> rsa.RSAPublicKey:
    try:
        return _rsa_key(certificate.spki)
    except ValueError:
        raise CertificateError(f"the key of {certificate.common_name} is not RSA-4096 with exponent 65537") from None


@lru_cache(maxsize=64)  # AMD has nine such keys, and the library prepares each for its arithmetic at its first use.
def _rsa_key(spki: bytes) -> rsa.RSAPublicKey:
    modulus = spki[len(RSA_SPKI_PREFIX) : -len(RSA_SPKI_SUFFIX)]
    if (
        not spki.startswith(RSA_SPKI_PREFIX)
        or not spki.endswith(RSA_SPKI_SUFFIX)
        or len(modulus) != SIGNATURE_SIZE
        or not modulus[0] & 0x80
        or not modulus[-1] & 1
    ):
        raise ValueError
    return rsa.RSAPublicNumbers(65537, int.from_bytes(modulus, "big")).public_key()
