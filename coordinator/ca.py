"""The mesh PKI: root, intermediate, mesh CA, leaves, made and judged. Keys, clock and serials are arguments."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from manifest.sans import San, SanKind, parse_san

CA_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=365)
BACKDATE: Final = timedelta(hours=1)  # clocks of peers differ; upstream's figure
MAX_COMMON_NAME: Final = 64  # RFC 5280, ub-common-name

_CA_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
_LEAF_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class CertificateError(Exception):
    """A CA certificate or leaf that the rules of this PKI would not have made."""

    code = "bad_certificate"


def root_certificate(key: ec.EllipticCurvePrivateKey, *, origin: str, now: datetime, serial: int) -> bytes:
    """The root CA (DER): self-signed, path length 1, valid ten years. Made once per ledger."""
    name = _name("Contrast Coordinator root", origin)
    return _ca(name, name, key.public_key(), key, path_length=1, now=now, serial=serial)


def intermediate_certificate(
    root_key: ec.EllipticCurvePrivateKey,
    root: bytes,
    mesh_key: ec.EllipticCurvePrivateKey,
    *,
    transition: bytes,
    now: datetime,
    serial: int,
) -> bytes:
    """The intermediate CA of one manifest (DER), signed by the root: what trusting every manifest leads through.

    It ends with the root at the latest, so that no leaf outlives the chain that somebody trusts it by.
    """
    above = x509.load_der_x509_certificate(root)
    name = _name("Contrast mesh CA", transition.hex())
    end = above.not_valid_after_utc
    return _ca(name, above.subject, mesh_key.public_key(), root_key, path_length=0, now=now, serial=serial, end=end)


def mesh_certificate(
    mesh_key: ec.EllipticCurvePrivateKey,
    *,
    transition: bytes,
    now: datetime,
    serial: int,
    end: datetime | None = None,
) -> bytes:
    """The mesh CA (DER): the intermediate's key, name and *end*, self-signed: what trusting this one manifest means."""
    name = _name("Contrast mesh CA", transition.hex())
    return _ca(name, name, mesh_key.public_key(), mesh_key, path_length=0, now=now, serial=serial, end=end)


def ca_end(*certificates: bytes) -> datetime:
    """When the first of these CA certificates (DER) ends."""
    return min(x509.load_der_x509_certificate(each).not_valid_after_utc for each in certificates)


@dataclass(frozen=True, slots=True)
class LeafIssuer:
    """The intermediate ready to sign leaves: what does not change between two of them is computed once."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    authority: x509.AuthorityKeyIdentifier
    not_after: datetime

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey, intermediate: bytes, *, end: datetime | None = None) -> "LeafIssuer":
        """From the mesh CA key and the intermediate's DER; *end* is that of the whole chain, if it is earlier."""
        certificate = x509.load_der_x509_certificate(intermediate)
        return cls(
            key,
            certificate.subject,
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            certificate.not_valid_after_utc if end is None else min(end, certificate.not_valid_after_utc),
        )

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *,
        sans: Sequence[str],
        extensions: Iterable[x509.UnrecognizedExtension],
        now: datetime,
        serial: int,
        life: timedelta = LEAF_LIFE,
    ) -> x509.Certificate:
        """A leaf for *public_key* with the manifest's *sans*; ends with the CA at the latest.

        Args:
            public_key: P-256 or P-384, proven to be the requester's.
            sans: As the manifest has them.
            extensions: Of ``docs/formats.md`` section 11, non-critical.
            now: Aware; the certificate is backdated by an hour and cut to whole seconds.
            serial: Random, positive, at most 20 bytes.
            life: From *now*.
        """
        start = now.replace(microsecond=0)
        parsed = [parse_san(san, recorded=True) for san in sans]
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self.name)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(parsed))]))
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(start - BACKDATE)
            .not_valid_after(min(start + life, self.not_after))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_LEAF_USAGE, critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(self.authority, critical=False)
        )
        if parsed:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general_name(san) for san in parsed]), critical=False
            )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA384())


def general_name(san: San) -> x509.GeneralName:
    """The X.509 form of a SAN of the manifest."""
    match san.kind:
        case SanKind.IP:
            return x509.IPAddress(ipaddress.ip_address(san.value))
        case SanKind.URI:
            return x509.UniformResourceIdentifier(san.value)
        case SanKind.DNS:
            return x509.DNSName(san.value)


def common_name(sans: Sequence[San]) -> str:
    """The subject's common name: the first DNS SAN, cut to what X.509 allows; it decides nothing."""
    names = [san.value for san in sans if san.kind is SanKind.DNS]
    return (names[0] if names else "workload")[:MAX_COMMON_NAME]


def check_ca_chain(root: bytes, intermediate: bytes, mesh_ca: bytes, *, at: datetime | None = None) -> None:
    """That the three belong to one manifest: intermediate under root, mesh CA self-signed with the same key and name.

    Args:
        root: DER; its own signature is checked by :func:`check_root`, once per ledger.
        intermediate: DER.
        mesh_ca: DER.
        at: Also demand that all three are valid then.

    Raises:
        CertificateError: what was seen and wanted.
    """
    root_cert, middle, mesh = (
        load(der, what) for der, what in ((root, "root CA"), (intermediate, "intermediate"), (mesh_ca, "mesh CA"))
    )
    _check_ca(root_cert, "root CA", path_length=1)
    _check_ca(middle, "intermediate", path_length=0)
    _check_ca(mesh, "mesh CA", path_length=0)
    _check_signed(middle, by=root_cert, what="intermediate under the root CA")
    _check_signed(mesh, by=mesh, what="mesh CA under itself")
    if spki(middle) != spki(mesh) or middle.subject != mesh.subject:
        raise CertificateError("intermediate and mesh CA are not one key and name")
    for certificate, what in ((root_cert, "root CA"), (middle, "intermediate"), (mesh, "mesh CA")):
        if at is not None and not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            raise CertificateError(f"the {what} is not valid at {at.isoformat(timespec='seconds')}")


def check_root(root: bytes) -> None:
    """That *root* is a self-signed P-384 CA with path length 1.

    Raises:
        CertificateError: what was seen and wanted.
    """
    certificate = load(root, "root CA")
    _check_ca(certificate, "root CA", path_length=1)
    _check_signed(certificate, by=certificate, what="root CA under itself")


def check_leaf(leaf: x509.Certificate, mesh_ca: x509.Certificate, *, sans: Sequence[str], public_key: bytes) -> None:
    """That *leaf* is signed by the mesh CA, for the key *public_key* (SPKI DER), with exactly *sans*, and no CA itself.

    Raises:
        CertificateError: what was seen and wanted.
    """
    _check_signed(leaf, by=mesh_ca, what="leaf under the mesh CA")
    if spki(leaf) != public_key:
        raise CertificateError("the leaf's key is not the attested key")
    parsed = [parse_san(san, recorded=True) for san in sans]
    try:
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise CertificateError(f"the leaf's extensions: {error}") from None
    if constraints.ca:
        raise CertificateError("the leaf is a CA")
    seen = _names(leaf)
    if seen != [general_name(san) for san in parsed]:
        raise CertificateError(f"the leaf's SANs are {seen}, the manifest's {list(sans)}")
    # Some clients take the common name for a host's name where there is no DNS SAN.
    if leaf.subject != x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(parsed))]):
        raise CertificateError(f"the leaf's subject is {leaf.subject.rfc4514_string()}, wanted {common_name(parsed)}")
    if leaf.not_valid_after_utc > mesh_ca.not_valid_after_utc:
        raise CertificateError("the leaf outlives its CA")


def load(der: bytes, what: str) -> x509.Certificate:
    """The certificate, or a :class:`CertificateError` that names *what* it was to be.

    Everything that is asked of it later is read once here, since the library reads lazily: what stands in a blob may
    come from anybody, and an extension or key that cannot be read is no crash.
    """
    try:
        certificate = _read(der)
        serial = certificate.serial_number
    except (
        ValueError,
        TypeError,  # Some pairs of name and string type.
        UnsupportedAlgorithm,
        Warning,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise CertificateError(f"the {what} is no certificate that can be read: {error}") from None
    if serial <= 0:
        raise CertificateError(f"the {what} has the serial number {serial}, a positive one is wanted")
    return certificate


@lru_cache(maxsize=16)  # A root is asked for at each manifest of a history; certificates never change.
def _read(der: bytes) -> x509.Certificate:
    certificate = x509.load_der_x509_certificate(der)
    _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key())
    _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_hash_algorithm)
    return certificate


def spki(certificate: x509.Certificate) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER, of a key that stands in no certificate."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name(common: str, unique: str) -> x509.Name:
    # The unique part keeps two CAs of one name apart in trust stores; 64 bytes is all that X.509 gives.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{common} {unique[-16:]}")])


def _ca(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
    now: datetime,
    serial: int,
    end: datetime | None = None,
) -> bytes:
    start = now.replace(microsecond=0)
    not_after = start + CA_LIFE if end is None else min(start + CA_LIFE, end)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(start - BACKDATE)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA384())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def _check_ca(certificate: x509.Certificate, what: str, *, path_length: int) -> None:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise CertificateError(f"the {what} has no P-384 key")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except (x509.ExtensionNotFound, ValueError) as error:
        raise CertificateError(f"the {what}'s extensions: {error}") from None
    if not constraints.critical or not constraints.value.ca or constraints.value.path_length != path_length:
        raise CertificateError(f"the {what} is no CA with path length {path_length}")
    if not usage.value.key_cert_sign:
        raise CertificateError(f"the {what} may not sign certificates")


def _names(leaf: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _check_signed(certificate: x509.Certificate, *, by: x509.Certificate, what: str) -> None:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{what}: {str(error) or 'the signature is wrong'}") from None
