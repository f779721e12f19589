"""What one workload owner has: a simulated vendor, owner and share keys, policies, a manifest; and pods that attest."""

import dataclasses
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from attestation.binding import Purpose, report_data, workload_subject
from attestation.evidence import Evidence, Kind
from attestation.reference import SnpReferenceValues
from attestation.simulated.processor import Guest, GuestLaunch, SecureProcessor
from attestation.simulated.vendor import VendorChain
from manifest.authorise import genesis_previous, key_digest, sign_transition, transition
from manifest.model import Policy, Role
from manifest.render import render_manifest
from tests.support.vendor import vendor_chain
from wire.evidence import to_message
from wire.messages import CertificateRequest, OwnerSignature, RecoveryRequest, SetManifestRequest
from wire.sealing import hpke_seal, open_seed_share, recovery_input, seed_info, sign_recovery

MEASUREMENT = hashlib.sha384(b"guest image of the tests").digest()
COORDINATOR_POLICY = b"package agent_policy\n# coordinator\n"
WEB_POLICY = b"package agent_policy\n# web\n"
VAULT_POLICY = b"package agent_policy\n# vault, with a secret\n"
SECRET_ID = "apps/v1/StatefulSet/default/vault"
WEB_SANS = ("web", "web.default.svc.cluster.local", "127.0.0.1", "*")


@lru_cache
def vendor() -> VendorChain:
    """The vendor that the manifests of the tests name."""
    return vendor_chain()


@lru_cache
def other_vendor() -> VendorChain:
    """A vendor that no manifest of the tests names."""
    return vendor_chain(name="other")


@lru_cache
def owner_key(name: str = "owner") -> ec.EllipticCurvePrivateKey:
    """A workload owner's P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


@lru_cache
def share_key(name: str = "share") -> rsa.RSAPrivateKey:
    """A seed share owner's key."""
    return rsa.generate_private_key(65537, 4096)


def pkcs1(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)


def values_of(chain: VendorChain, measurement: bytes = MEASUREMENT) -> SnpReferenceValues:
    return SnpReferenceValues(
        platform="Metal-QEMU-SNP",
        product_name=chain.product.name,
        trusted_measurement=measurement,
        minimum_tcb=chain.chip.tcb,
        trust_anchor=chain.fingerprint,
        trust_anchor_spki=chain.spki_fingerprint,
    )


def digest(policy: bytes) -> bytes:
    return hashlib.sha256(policy).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A manifest with everything that is sent with it."""

    policies: Mapping[bytes, Policy] = field(
        default_factory=lambda: {
            COORDINATOR_POLICY: Policy(sans=("coordinator",), role=Role.COORDINATOR),
            WEB_POLICY: Policy(sans=WEB_SANS),
            VAULT_POLICY: Policy(sans=("vault",), workload_secret_id=SECRET_ID),
        }
    )
    owners: tuple[ec.EllipticCurvePrivateKey, ...] = field(default_factory=lambda: (owner_key(),))
    share_owners: tuple[rsa.RSAPrivateKey, ...] = field(default_factory=lambda: (share_key(),))
    values: tuple[SnpReferenceValues, ...] = field(default_factory=lambda: (values_of(vendor()),))

    @property
    def manifest(self) -> bytes:
        return render_manifest(
            policies={digest(text): policy for text, policy in self.policies.items()},
            reference_values=self.values,
            workload_owner_key_digests=[key_digest(key.public_key()) for key in self.owners],
            seedshare_owner_pub_keys=[pkcs1(key) for key in self.share_owners],
        )

    def with_policy(self, text: bytes, policy: Policy) -> "Deployment":
        return dataclasses.replace(self, policies={**self.policies, text: policy})

    def request(
        self,
        origin: str,
        previous: bytes | None = None,
        *,
        signers: tuple[ec.EllipticCurvePrivateKey, ...] | None = None,
    ) -> SetManifestRequest:
        """The request that sets this manifest after *previous* (None: as the first)."""
        manifest = self.manifest
        before = genesis_previous(origin) if previous is None else previous
        after = transition(hashlib.sha256(manifest).digest(), before)
        signatures = [sign_transition(key, origin, after) for key in (self.owners if signers is None else signers)]
        return SetManifestRequest(
            manifest=manifest,
            policies=tuple(self.policies),
            previous=before.hex(),
            signatures=tuple(OwnerSignature(public_key=each.spki, signature=each.signature) for each in signatures),
        )


def launch(policy: bytes = COORDINATOR_POLICY, /, *, chain: VendorChain | None = None, **other: object) -> Guest:
    """A simulated guest with this policy as HOSTDATA."""
    fields: dict[str, object] = {"measurement": MEASUREMENT, "host_data": digest(policy), **other}
    return SecureProcessor(chain or vendor()).launch(GuestLaunch(**fields))  # type: ignore[arg-type]


class GuestIssuer:
    """An issuer that asks a simulated guest in this process."""

    kind = Kind.SIMULATED

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    async def issue(self, report_data: bytes) -> Evidence:
        return self.guest.evidence(report_data)


class Pod:
    """A workload: keys of its own, a guest with its policy, requests for certificates."""

    def __init__(
        self, policy: bytes = WEB_POLICY, *, guest: Guest | None = None, curve: ec.EllipticCurve | None = None
    ) -> None:
        self.guest = launch(policy) if guest is None else guest
        self.key = ec.generate_private_key(curve or ec.SECP384R1())
        self.hpke = X25519PrivateKey.generate()
        self.hpke_public = self.hpke.public_key().public_bytes_raw()
        self.spki = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ignored")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA384())
        self.csr = csr.public_bytes(serialization.Encoding.DER)

    def binding(self, nonce: bytes, purpose: Purpose = Purpose.WORKLOAD) -> bytes:
        return report_data(purpose, nonce, workload_subject(self.spki, self.hpke_public))

    def request(self, nonce: bytes, **changes: object) -> CertificateRequest:
        """A request as an honest pod sends it, with *changes* put in for tests."""
        fields: dict[str, object] = {
            "nonce": nonce,
            "csr": self.csr,
            "hpke_public_key": self.hpke_public,
            "evidence": to_message(self.guest.evidence(self.binding(nonce))),
            **changes,
        }
        return CertificateRequest(**fields)  # type: ignore[arg-type]


def recovery_request(
    sealed_share: bytes,
    *,
    origin: str,
    hpke_public: bytes,
    statement: bytes,
    size: int,
    root: bytes,
    owner: rsa.RSAPrivateKey | None = None,
    seed: bytes | None = None,
) -> RecoveryRequest:
    """What ``contrast recover`` sends: the opened share, sealed for the attested Coordinator and signed."""
    key = share_key() if owner is None else owner
    plain = b"".join(open_seed_share(sealed_share, share_key(), origin)) if seed is None else seed
    statement_sha256 = hashlib.sha256(statement).digest()
    sealed = hpke_seal(plain, hpke_public, seed_info(origin, statement_sha256, size, root))
    message = recovery_input(origin, statement_sha256, size, root, hashlib.sha256(sealed).digest())
    return RecoveryRequest(
        sealed=sealed,
        statement=statement_sha256.hex(),
        size=size,
        root=root.hex(),
        share_owner=hashlib.sha256(pkcs1(key)).hexdigest(),
        signature=sign_recovery(key, message),
    )


def random_nonce() -> bytes:
    return secrets.token_bytes(32)
