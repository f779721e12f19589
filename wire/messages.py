"""The messages of the API, one frozen struct each; which route carries which stands in `wire.routes`.

Bytes travel as padded standard base64; hashes that name something are lower-case hex. Every field has a bound, since
strangers send these. Statements have a module of their own (`wire.statement`), since their bytes are attested.
"""

from typing import Annotated

from msgspec import Meta, Struct

Hex32 = Annotated[
    str, Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64, description="32 bytes, lower-case hex")
]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
OwnerTime = Annotated[
    int, Meta(ge=0, le=(1 << 63) - 1, description="the owner's clock, Unix milliseconds: compared, never recorded")
]
Size = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
SecretId = Annotated[str, Meta(min_length=1, max_length=256)]
ApiVersion = Annotated[str, Meta(min_length=1, max_length=16)]
ApiVersions = Annotated[tuple[ApiVersion, ...], Meta(min_length=1, max_length=16)]
Certificate = Annotated[bytes, Meta(min_length=1, max_length=16_384, description="X.509 certificate, DER")]

MAX_MANIFEST = 1 << 20
MAX_POLICY = 1 << 20
MAX_POLICIES = 4096
MAX_OWNERS = 16
MAX_STATEMENT = 65_536
MAX_EVIDENCE_PART = 262_144
MAX_BUNDLE = 131_072
MAX_PROOF_HASHES = 64


Policy = Annotated[bytes, Meta(min_length=1, max_length=MAX_POLICY)]


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all messages share: immutable, named fields, and no field that is not declared."""


class Head(Message, frozen=True, kw_only=True):
    """A tree head: how many entries, and the Merkle root over them."""

    size: Size
    root: Hex32


class EvidencePart(Message, frozen=True, kw_only=True):
    """One part of evidence, named by its role (report, vek, intermediate, root, crl, …)."""

    role: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", min_length=1, max_length=32)]
    data: Annotated[bytes, Meta(min_length=1, max_length=MAX_EVIDENCE_PART)]


class EvidenceMessage(Message, frozen=True, kw_only=True):
    """Evidence as it travels; `wire.evidence` turns it into `attestation.evidence.Evidence` and back."""

    kind: Annotated[str, Meta(pattern="^[a-z]+$", min_length=1, max_length=16)]
    parts: Annotated[tuple[EvidencePart, ...], Meta(min_length=1, max_length=16)]


class AttestRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/attest`: 32 bytes chosen by the client, bound into the evidence."""

    nonce: Bytes32


class AttestResponse(Message, frozen=True, kw_only=True):
    """The statement's bytes and evidence that binds exactly them and the nonce."""

    statement: Annotated[bytes, Meta(min_length=2, max_length=MAX_STATEMENT)]
    evidence: EvidenceMessage


class ChallengeResponse(Message, frozen=True, kw_only=True):
    """`POST /v1/challenges`: a nonce to attest with, and for how long it is good."""

    nonce: Bytes32
    expires_in_ms: Annotated[int, Meta(ge=1, le=3_600_000)]


class CertificateRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/certificates`: of the CSR only the key and the proof of possession are used."""

    nonce: Bytes32
    csr: Annotated[bytes, Meta(min_length=1, max_length=8192, description="PKCS#10, DER")]
    hpke_public_key: Bytes32
    evidence: EvidenceMessage
    known_head: Head | None = None


class SealedSecret(Message, frozen=True, kw_only=True):
    """A secret sealed by HPKE for the key in the request, bound to the bundle of this answer."""

    id: SecretId
    data: Annotated[bytes, Meta(min_length=48, max_length=4096)]


class CertificateResponse(Message, frozen=True, kw_only=True):
    """The bundle (docs/formats.md section 9), the secrets of the pod's policy, and a consistency proof if asked for."""

    bundle: Annotated[bytes, Meta(min_length=1, max_length=MAX_BUNDLE)]
    sealed: Annotated[tuple[SealedSecret, ...], Meta(max_length=16)] | None = None
    consistency: Annotated[tuple[Bytes32, ...], Meta(max_length=MAX_PROOF_HASHES)] | None = None


class OwnerSignature(Message, frozen=True, kw_only=True):
    """One owner's signature over the transition (docs/formats.md section 8)."""

    public_key: Annotated[bytes, Meta(min_length=1, max_length=512, description="SPKI, DER")]
    signature: Annotated[bytes, Meta(min_length=1, max_length=256, description="ECDSA P-384 with SHA-384, DER")]


class SetManifestRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/manifests`: the manifest's exact bytes, every policy it names, and the transition it continues."""

    manifest: Annotated[bytes, Meta(min_length=1, max_length=MAX_MANIFEST)]
    policies: Annotated[tuple[Policy, ...], Meta(min_length=1, max_length=MAX_POLICIES)]
    previous: Hex32
    signatures: Annotated[tuple[OwnerSignature, ...], Meta(max_length=MAX_OWNERS)]
    owner_time_ms: OwnerTime | None = None


class SeedShare(Message, frozen=True, kw_only=True):
    """The seed sealed for one share owner, who is named by SHA-256 of the key's PKCS#1 DER."""

    owner: Hex32
    sealed: Annotated[bytes, Meta(min_length=1, max_length=2048)]


class SetManifestResponse(Message, frozen=True, kw_only=True):
    """What was recorded. `seed_shares` is the same in every answer, so that a lost one loses no share."""

    transition: Hex32
    generation: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
    root_ca: Certificate
    mesh_ca: Certificate
    seed_shares: Annotated[tuple[SeedShare, ...], Meta(max_length=MAX_OWNERS)]
    checkpoint: Annotated[str, Meta(min_length=1, max_length=32_768)]


class ManifestSummary(Message, frozen=True, kw_only=True):
    """One manifest of the history; its bytes are the blob of that hash."""

    generation: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
    manifest: Hex32
    previous: Hex32
    transition: Hex32
    seq: Size


class ManifestsResponse(Message, frozen=True, kw_only=True):
    """`GET /v1/manifests`: the history, oldest first."""

    manifests: Annotated[tuple[ManifestSummary, ...], Meta(max_length=1_000_000)]


class AcceptedFork(Message, frozen=True, kw_only=True):
    """Heads that the ledger does not extend, and the share owner's signature to continue it all the same."""

    heads: Annotated[tuple[Head, ...], Meta(min_length=1, max_length=16)]
    signature: Annotated[bytes, Meta(min_length=1, max_length=2048)]


class RecoveryRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/recovery`: the sealed seed, and the share owner's signature (docs/formats.md section 10).

    `statement` is the SHA-256 of the attested statement whose HPKE key the seed is sealed to.
    """

    sealed: Annotated[bytes, Meta(min_length=48, max_length=1024)]
    statement: Hex32
    size: Size
    root: Hex32
    share_owner: Hex32
    signature: Annotated[bytes, Meta(min_length=1, max_length=2048)]
    accepted_fork: AcceptedFork | None = None
    owner_time_ms: OwnerTime | None = None


class RecoveryResponse(Message, frozen=True, kw_only=True):
    """What the recovered Coordinator now stands on."""

    origin: Annotated[str, Meta(min_length=1, max_length=256)]
    generation: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
    transition: Hex32
    root_ca: Certificate
    mesh_ca: Certificate
    checkpoint: Annotated[str, Meta(min_length=1, max_length=32_768)]


class Capabilities(Message, frozen=True, kw_only=True):
    """`GET /v1/capabilities`: what this Coordinator speaks. Not attested; the statement repeats `api_versions`."""

    api_versions: ApiVersions
    version: Annotated[str, Meta(min_length=1, max_length=64)]
