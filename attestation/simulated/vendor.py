"""A vendor that somebody made up: root, intermediate, chip keys and revocation list in AMD's exact shape.

Its certificates pass the very same reader as AMD's; what tells them apart is the root's fingerprint, which only
reference values of a simulated platform name. No release contains such a root or its key.
"""

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from attestation import der
from attestation.errors import AttestationError, CertificateError
from attestation.simulated import mint
from attestation.snp import endorsement as amd
from attestation.snp.certificates import parse_authority
from attestation.snp.endorsement import EndorsementKind, parse_endorsement
from attestation.snp.products import GENOA, MILAN, PRODUCTS, TURIN, Product, Tcb

ProductName = Literal["Milan", "Genoa", "Turin"]

DEFAULT_TCB: Final[Mapping[str, Tcb]] = {
    MILAN: Tcb(bootloader=4, tee=0, snp=24, microcode=219),
    GENOA: Tcb(bootloader=10, tee=0, snp=24, microcode=84),
    TURIN: Tcb(fmc=1, bootloader=1, tee=1, snp=4, microcode=71),
}
_PRODUCT_NAME: Mapping[str, str] = {MILAN: "Milan-B0", GENOA: "Genoa", TURIN: "Turin"}
PROVIDER: Final = "CN=cc-simulated.contrast.invalid"

# As AMD: roots live 25 years, VCEKs 7, VLEKs 1. The list is kept fresh for as long as a workspace may live.
_ROOT_LIFE = timedelta(days=25 * 365)
_LEAF_LIFE: Mapping[EndorsementKind, timedelta] = {
    EndorsementKind.VCEK: timedelta(days=7 * 365),
    EndorsementKind.VLEK: timedelta(days=365),
}
_CRL_LIFE = timedelta(days=7 * 365)
_SLACK = timedelta(hours=1)  # Clocks of one machine agree, those of two need not.
_ARK_SERIAL = 0x10000
_INTERMEDIATE_SERIAL = 0x10001


class VendorError(AttestationError):
    """A simulated vendor that cannot be stored or read back."""

    code = "simulated_vendor_unusable"


@dataclass(frozen=True, slots=True)
class Chip:
    """One made-up chip: its id, its versions, its signing key, and the certificate for both.

    Attributes:
        chip_id: 64 bytes; on Turin 8 bytes and zeros.
    """

    chip_id: bytes
    tcb: Tcb
    key: ec.EllipticCurvePrivateKey
    certificate: bytes


@dataclass(frozen=True, slots=True)
class VendorChain:
    """A vendor's keys and certificates for one product, and one chip that it made.

    Attributes:
        product: what it pretends to make.
        endorsement: whether chips sign with a VCEK under an ASK, or a VLEK under an ASVK.
        root, intermediate, crl: DER.
    """

    product: Product
    endorsement: EndorsementKind
    root: bytes
    intermediate: bytes
    crl: bytes
    root_key: rsa.RSAPrivateKey
    intermediate_key: rsa.RSAPrivateKey
    chip: Chip

    @classmethod
    def create(
        cls, now: datetime, product: ProductName = "Milan", endorsement: EndorsementKind = EndorsementKind.VCEK
    ) -> "VendorChain":
        """Make a vendor with fresh keys; costs a second or two for two RSA-4096 keys.

        Args:
            now: start of all validities, less an hour for clocks that disagree.
            product: Milan, Genoa or Turin, whose report and certificate layouts differ.
            endorsement: what kind of key its chip signs with.
        """
        line = PRODUCTS[product]
        root_key = rsa.generate_private_key(65537, 4096)
        intermediate_key = rsa.generate_private_key(65537, 4096)
        middle = f"SEV-{line.chain}" if endorsement is EndorsementKind.VCEK else f"SEV-VLEK-{line.chain}"
        root_name, middle_name = mint.name(f"ARK-{line.chain}"), mint.name(middle)
        start, end = now - _SLACK, now + _ROOT_LIFE
        root = mint.certificate(
            root_key,
            serial=_ARK_SERIAL,
            issuer=root_name,
            subject=root_name,
            validity=(start, end),
            spki=mint.spki(root_key),
            extensions=mint.authority(None, 0x06),
        )
        intermediate = mint.certificate(
            root_key,
            serial=_INTERMEDIATE_SERIAL,
            issuer=root_name,
            subject=middle_name,
            validity=(start, end),
            spki=mint.spki(intermediate_key),
            extensions=mint.authority(0, 0x04),
        )
        crl = mint.crl(root_name, start, now + _CRL_LIFE, (), root_key)
        issuer = _Issuer(line, endorsement, middle_name, intermediate_key)
        chip = issuer.make_chip(DEFAULT_TCB[product], start, secrets.token_bytes(line.chip_id_size))
        return cls(line, endorsement, root, intermediate, crl, root_key, intermediate_key, chip)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the root certificate: what reference values name as the trust anchor."""
        return hashlib.sha256(self.root).digest()

    @property
    def spki_fingerprint(self) -> bytes:
        """SHA-256 of the root's public key."""
        return hashlib.sha256(parse_authority(self.root).certificate.spki).digest()

    def make_chip(self, *, tcb: Tcb, not_before: datetime, chip_id: bytes) -> Chip:
        """Another chip, with the key for *tcb* that this vendor endorses.

        Args:
            tcb: what the certificate will say.
            not_before: start of the certificate's life.
            chip_id: 64 bytes, on Turin 8.
        """
        name = parse_authority(self.intermediate).certificate.subject
        issuer = _Issuer(self.product, self.endorsement, name, self.intermediate_key)
        return issuer.make_chip(tcb, not_before, chip_id)

    def make_crl(self, *, this_update: datetime, next_update: datetime, revoked: tuple[int, ...] = ()) -> bytes:
        """A revocation list by the root, naming *revoked* serial numbers."""
        name = parse_authority(self.root).certificate.subject
        return mint.crl(name, this_update, next_update, revoked, self.root_key)

    def save(self, directory: Path) -> None:
        """Write keys and certificates into *directory* (0700), files 0600: all of them or none, and never over others.

        Raises:
            VendorError: there is something already.
        """
        files = {
            "ark.der": self.root,
            "intermediate.der": self.intermediate,
            "crl.der": self.crl,
            "vek.der": self.chip.certificate,
            "chip-id.bin": self.chip.chip_id,
            "ark.key.pem": _pem(self.root_key),
            "intermediate.key.pem": _pem(self.intermediate_key),
            "vek.key.pem": _pem(self.chip.key),
        }
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))  # 0700 from the start.
        try:
            for name, content in files.items():
                descriptor = os.open(draft / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
            draft.rename(directory)  # Replaces an empty directory, and refuses any other.
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise VendorError(
                f"{directory} exists: a simulated vendor lives there already, and manifests may name it; "
                "remove the directory to start anew"
            ) from None

    @classmethod
    def load(cls, directory: Path) -> "VendorChain":
        """Read what :meth:`save` wrote.

        Raises:
            VendorError: a file is missing, unreadable or not what it should be.
        """
        try:
            root, intermediate, crl, vek, chip_id = (
                (directory / name).read_bytes()
                for name in ("ark.der", "intermediate.der", "crl.der", "vek.der", "chip-id.bin")
            )
            root_key, intermediate_key, vek_key = (
                # Our own files: checking the primes of RSA-4096 again would cost half a second at every start.
                load_pem_private_key((directory / name).read_bytes(), None, unsafe_skip_rsa_key_validation=True)
                for name in ("ark.key.pem", "intermediate.key.pem", "vek.key.pem")
            )
            endorsement = parse_endorsement(vek)
            product = PRODUCTS[parse_authority(root).certificate.common_name.removeprefix("ARK-")]
        except (OSError, ValueError, KeyError, CertificateError) as error:
            raise VendorError(
                f"{directory} holds no usable simulated vendor ({type(error).__name__}: {error}); make one with "
                "`contrast dev init` in an empty workspace"
            ) from None
        if (
            not isinstance(root_key, rsa.RSAPrivateKey)
            or not isinstance(intermediate_key, rsa.RSAPrivateKey)
            or not isinstance(vek_key, ec.EllipticCurvePrivateKey)
        ):
            raise VendorError(f"{directory} holds keys of another kind than RSA, RSA and P-384")
        chip = Chip(chip_id, endorsement.tcb, vek_key, vek)
        return cls(product, endorsement.kind, root, intermediate, crl, root_key, intermediate_key, chip)


@dataclass(frozen=True, slots=True)
class _Issuer:
    product: Product
    kind: EndorsementKind
    name: bytes
    key: rsa.RSAPrivateKey

    def make_chip(self, tcb: Tcb, not_before: datetime, chip_id: bytes) -> Chip:
        if len(chip_id) != self.product.chip_id_size:
            raise VendorError(
                f"a chip id of {self.product.name} has {self.product.chip_id_size} bytes, not {len(chip_id)}"
            )
        key = ec.generate_private_key(ec.SECP384R1())
        parts = {
            amd.TCB_BOOTLOADER: tcb.bootloader,
            amd.TCB_TEE: tcb.tee,
            amd.TCB_SNP: tcb.snp,
            **dict.fromkeys((5, 6, 7) if self.product.has_fmc else amd.TCB_RESERVED, 0),
            amd.TCB_MICROCODE: tcb.microcode,
        }
        if tcb.fmc is not None:
            parts[amd.TCB_FMC] = tcb.fmc
        extensions = [
            mint.extension(amd.OID_STRUCT_VERSION, der.integer(1)),
            mint.extension(
                amd.OID_PRODUCT_NAME, der.element(der.IA5_STRING, _PRODUCT_NAME[self.product.name].encode())
            ),
            *(mint.extension(amd.OID_TCB + bytes((part,)), der.integer(value)) for part, value in parts.items()),
        ]
        if self.kind is EndorsementKind.VCEK:
            extensions.append(mint.extension(amd.OID_HWID, chip_id))
        else:
            extensions.append(mint.extension(amd.OID_CSP_ID, der.element(der.IA5_STRING, PROVIDER.encode())))
        certificate = mint.certificate(
            self.key,
            serial=0,  # As AMD's.
            issuer=self.name,
            subject=mint.name(f"SEV-{self.kind}"),
            validity=(not_before, not_before + _LEAF_LIFE[self.kind]),
            spki=mint.spki(key),
            extensions=extensions,
        )
        return Chip(chip_id.ljust(64, b"\0"), tcb, key, certificate)


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
