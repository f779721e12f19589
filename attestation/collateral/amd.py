"""AMD's key distribution service: addresses per product, and what its answers hold. It fetches nothing itself.

The service is asked by the very bytes of a report. A wrongly decoded TCB gets a valid certificate for another key, a
chip id in the wrong length a 404: so addresses are made in one place, from the product's own layout.
"""

import base64
import binascii
from typing import Final

from attestation.errors import CertificateError
from attestation.snp.certificates import parse_certificate
from attestation.snp.endorsement import EndorsementKind
from attestation.snp.products import Product, Tcb

SERVICE: Final = "https://kdsintf.amd.com"
MAX_CERTIFICATE: Final = 4096
MAX_CHAIN: Final = 16_384
MAX_CRL: Final = 65_536
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def vcek_address(service: str, product: Product, chip_id: bytes, tcb: Tcb) -> str:
    """Where the VCEK of a chip for *tcb* is; *chip_id* as in the report, 64 bytes."""
    parts = [] if tcb.fmc is None else [("fmcSPL", tcb.fmc)]
    parts += [("blSPL", tcb.bootloader), ("teeSPL", tcb.tee), ("snpSPL", tcb.snp), ("ucodeSPL", tcb.microcode)]
    query = "&".join(f"{name}={value:02}" for name, value in parts)
    return f"{_base(service, product, EndorsementKind.VCEK)}/{chip_id[: product.chip_id_size].hex()}?{query}"


def chain_address(service: str, product: Product, kind: EndorsementKind) -> str:
    """Where ASK or ASVK, and ARK, are, as PEM."""
    return f"{_base(service, product, kind)}/cert_chain"


def crl_address(service: str, product: Product, kind: EndorsementKind) -> str:
    """Where the list is that may name the product's ASK or ASVK, in DER."""
    return f"{_base(service, product, kind)}/crl"


def _base(service: str, product: Product, kind: EndorsementKind) -> str:
    return f"{service.rstrip('/')}/{kind.value.lower()}/v1/{product.chain}"


def parse_pem_certificates(pem: bytes) -> tuple[bytes, ...]:
    """Certificates in DER from PEM blocks, in their order; nothing but white space between them.

    Raises:
        CertificateError: something else than PEM certificates.
    """
    found = []
    for block in pem.strip().split(_END)[:-1]:
        lines = block.strip()
        if not lines.startswith(_BEGIN):
            raise CertificateError("something else than a PEM certificate stands between certificates")
        try:
            found.append(base64.b64decode(b"".join(lines.removeprefix(_BEGIN).split()), validate=True))
        except binascii.Error:
            raise CertificateError("a PEM certificate has something else than base64 in it") from None
    if not found or not pem.strip().endswith(_END):
        raise CertificateError("there is no PEM certificate, or something behind the last")
    return tuple(found)


def parse_chain_answer(pem: bytes) -> tuple[bytes, bytes]:
    """Intermediate and root of a chain file: two certificates, in either order; the root is the one that names itself.

    Raises:
        CertificateError: another number of certificates.
    """
    certificates = parse_pem_certificates(pem)
    if len(certificates) != 2:
        raise CertificateError(f"{len(certificates)} certificates, wanted intermediate and root")
    first, second = certificates
    return (second, first) if _is_root(first) and not _is_root(second) else (first, second)


def _is_root(raw: bytes) -> bool:
    try:
        certificate = parse_certificate(raw)
    except CertificateError:
        return False  # The judge says what is wrong with it.
    return certificate.subject == certificate.issuer
