"""A small deployment for benchmarks: a manifest with one workload, and pods that can attest. Measures nothing."""

import hashlib
import json
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from attestation.binding import Purpose, report_data, workload_subject
from attestation.reference import SnpReferenceValues
from attestation.simulated.processor import Guest, GuestLaunch, SecureProcessor
from attestation.simulated.vendor import VendorChain
from manifest.authorise import genesis_previous
from manifest.model import Policy, Role
from manifest.render import render_manifest
from wire.bundle import parse_bundle
from wire.evidence import to_message
from wire.json import decode, encode
from wire.messages import CertificateRequest, CertificateResponse, SetManifestRequest

MEASUREMENT = hashlib.sha384(b"guest image of the benchmarks").digest()


def launch(vendor: VendorChain, policy: bytes) -> Guest:
    """A guest whose HOSTDATA is the digest of *policy*."""
    return SecureProcessor(vendor).launch(
        GuestLaunch(measurement=MEASUREMENT, host_data=hashlib.sha256(policy).digest())
    )


@dataclass(frozen=True, slots=True)
class Deployment:
    """One Coordinator and one workload; no owners, so that nobody has to sign."""

    vendor: VendorChain
    coordinator_policy: bytes = b"# policy of the Coordinator"
    workload_policy: bytes = b"# policy of the workload"

    def request(self, origin: str) -> SetManifestRequest:
        """The first set."""
        policies = {
            self.coordinator_policy: Policy(sans=("coordinator",), role=Role.COORDINATOR),
            self.workload_policy: Policy(sans=("web", "web.default.svc.cluster.local")),
        }
        values = SnpReferenceValues(
            platform="Metal-QEMU-SNP",
            product_name=self.vendor.product.name,
            trusted_measurement=MEASUREMENT,
            minimum_tcb=self.vendor.chip.tcb,
            trust_anchor=self.vendor.fingerprint,
            trust_anchor_spki=self.vendor.spki_fingerprint,
        )
        manifest = render_manifest(
            policies={hashlib.sha256(text).digest(): policy for text, policy in policies.items()},
            reference_values=(values,),
            workload_owner_key_digests=(),
            seedshare_owner_pub_keys=(),
        )
        return SetManifestRequest(
            manifest=manifest, policies=tuple(policies), previous=genesis_previous(origin).hex(), signatures=()
        )


class Pod:
    """A workload with a P-384 key."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.hpke_public = X25519PrivateKey.generate().public_key().public_bytes_raw()
        self.spki = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "workload")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA384())
        self.csr = csr.public_bytes(serialization.Encoding.DER)

    def binding(self, nonce: bytes) -> bytes:
        """The REPORT_DATA for *nonce*."""
        return report_data(Purpose.WORKLOAD, nonce, workload_subject(self.spki, self.hpke_public))

    def request(self, nonce: bytes) -> CertificateRequest:
        """What the Initializer would send."""
        evidence = to_message(self.guest.evidence(self.binding(nonce)))
        return CertificateRequest(nonce=nonce, csr=self.csr, hpke_public_key=self.hpke_public, evidence=evidence)

    def request_json(self, nonce: bytes) -> str:
        """The same, as the text of its JSON."""
        return json.dumps(json.loads(encode(self.request(nonce))))

    def check(self, answer: bytes) -> None:
        """Demand that *answer* holds a certificate for this pod's key."""
        bundle = parse_bundle(decode(answer, CertificateResponse, limit=1 << 20).bundle)
        leaf = x509.load_der_x509_certificate(bundle.leaf)
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(bundle.mesh_ca))
        if leaf.public_key() != self.key.public_key():
            raise RuntimeError("the certificate is for another key")
