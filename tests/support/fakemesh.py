"""A Coordinator of the test's own, made of keys and formats alone: genuine answers, and parts to swap between them."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from attestation.evidence import Evidence, Kind, host_data_of
from ledger.checkpoint import Checkpoint, epoch_name, origin_of
from ledger.codec import pack
from ledger.entry import Body, Entry, sign
from ledger.merkle import consistency_path, inclusion_path, leaf_hash, node_hash
from ledger.note import NoteSigner, sign_note
from ledger.proof import TlogProof
from wire.bundle import Bundle, bundle_digest
from wire.evidence import from_message
from wire.extensions import (
    LeafCheckpoint,
    checkpoint_extension,
    claims_extension,
    companions_extension,
    simulated_extension,
)
from wire.messages import CertificateRequest, CertificateResponse, SealedSecret
from wire.sealing import hpke_seal, secret_check, secret_info

DER = serialization.Encoding.DER
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SECRET_ID = "apps/v1/Deployment/default/web"
PARTS = ("leaf", "intermediate", "mesh_ca", "root_ca", "receipt", "sealed")
Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP384R1())


def certificate(
    subject: str,
    issuer: str,
    public_key: CertificatePublicKeyTypes,
    signer: Key,
    *,
    path_length: int | None,
    extensions: Iterable[x509.ExtensionType] = (),
    start: datetime = NOW - HOUR,
    life: timedelta = YEAR,
    usage: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
) -> bytes:
    """One certificate in DER; *path_length* None makes a leaf."""
    by, of = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (issuer, subject))
    is_ca = path_length is not None
    builder = x509.CertificateBuilder(
        by, of, public_key, x509.random_serial_number(), start.replace(microsecond=0), start + life
    ).add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
    if not is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA384()).public_bytes(DER)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in parts, so that a test can take one from elsewhere."""

    leaf: bytes
    intermediate: bytes
    mesh_ca: bytes
    root_ca: bytes
    receipt: bytes
    sealed: tuple[SealedSecret, ...]
    consistency: tuple[bytes, ...] | None = None

    def bundle(self) -> bytes:
        return Bundle(
            leaf=self.leaf,
            intermediate=self.intermediate,
            mesh_ca=self.mesh_ca,
            root_ca=self.root_ca,
            receipt=self.receipt,
        ).pack()

    def response(self) -> CertificateResponse:
        return CertificateResponse(bundle=self.bundle(), sealed=self.sealed or None, consistency=self.consistency)

    def swapped(self, **parts: Any) -> "Answer":
        return replace(self, **parts)


@dataclass(slots=True)
class FakeMesh:
    """Keys, a ledger in a list, and an answer to every request."""

    root_key: Key = field(default_factory=new_key)
    mesh_key: Key = field(default_factory=new_key)
    ledger_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    epoch_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    secret: bytes | None = field(default_factory=lambda: secrets.token_bytes(64))
    now: datetime = NOW
    life: timedelta = YEAR
    entries: list[Entry] = field(default_factory=list)
    root_ca: bytes = b""
    intermediate: bytes = b""
    mesh_ca: bytes = b""

    def __post_init__(self) -> None:
        if not self.root_ca:
            self.root_ca = certificate("root", "root", self.root_key.public_key(), self.root_key, path_length=1)
        self.new_mesh(self.mesh_key)
        for number in range(3):
            self.append("manifest.set", [1, number])

    def new_mesh(self, key: Key) -> None:
        """Another manifest: intermediate and mesh CA of another key, under the same root."""
        self.mesh_key = key
        self.intermediate = certificate("mesh", "root", key.public_key(), self.root_key, path_length=0)
        self.mesh_ca = certificate("mesh", "mesh", key.public_key(), key, path_length=0)

    @property
    def origin(self) -> str:
        return origin_of(self.ledger_key.public_key().public_bytes_raw())

    def append(self, kind: str, payload: list[Any]) -> Entry:
        previous = self.entries[-1].body_hash if self.entries else bytes(32)
        body = Body(
            self.epoch_key.public_key().public_bytes_raw(), len(self.entries), 1000, previous, kind, pack(payload)
        )
        unsigned = Entry.unsigned(body)
        entry = unsigned.signed(sign(unsigned.body_hash, self.epoch_key))
        self.entries.append(entry)
        return entry

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self.entries[index].leaf_hash
        return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        wanted = len(self.entries) if size is None else size
        return Checkpoint(self.origin, wanted, _root([entry.leaf_hash for entry in self.entries[:wanted]]))

    def note(self, checkpoint: Checkpoint, *, signers: str = "ledger epoch") -> str:
        made = {
            "ledger": NoteSigner(self.origin, self.ledger_key),
            "epoch": NoteSigner(epoch_name(self.origin), self.epoch_key),
            "stranger": NoteSigner("stranger", self.epoch_key),
        }
        return sign_note(checkpoint.text(), [made[name] for name in signers.split()])

    def receipt(self, seq: int, *, signers: str = "ledger epoch", extra: bytes | None = None) -> bytes:
        checkpoint = self.checkpoint()
        path = inclusion_path(seq, checkpoint.size, self.node)
        raw = self.entries[seq].raw if extra is None else extra
        return TlogProof(seq, tuple(path), self.note(checkpoint, signers=signers), raw).text().encode()

    def leaf_extensions(self, policy: bytes, **changes: Any) -> list[x509.ExtensionType]:
        head = self.checkpoint()
        checks = {} if self.secret is None else {SECRET_ID: secret_check(self.secret)}
        made: dict[str, Any] = {
            "claims": claims_extension(f'{{"host_data":"{policy.hex()}","kind":"simulated"}}'.encode()),
            "checkpoint": checkpoint_extension(LeafCheckpoint(head.origin, head.size, head.root).text()),
            "companions": companions_extension(_sha256(self.root_ca), checks),
            "simulated": simulated_extension(),
        }
        return [extension for extension in {**made, **changes}.values() if extension is not None]

    def answer(self, request: CertificateRequest, **changes: Any) -> Answer:
        """A genuine answer; *changes* replace extensions of the leaf, or arguments of `certificate`."""
        csr = x509.load_der_x509_csr(request.csr)
        assert csr.is_signature_valid
        policy = host_data_of(from_message(request.evidence))
        extensions = {
            name: changes.pop(name) for name in ("claims", "checkpoint", "companions", "simulated") if name in changes
        }
        fields: dict[str, Any] = {"path_length": None, "start": self.now - HOUR, "life": self.life, **changes}
        leaf = certificate(
            "web",
            "mesh",
            csr.public_key(),
            self.mesh_key,
            extensions=self.leaf_extensions(policy, **extensions),
            **fields,
        )
        entry = self.append("certificate.issued", [1, _sha256(leaf), len(self.entries), ["web"], 0, 0])
        known, consistency = request.known_head, None
        if known is not None:
            consistency = tuple(consistency_path(known.size, len(self.entries), self.node))
        answer = Answer(
            leaf,
            self.intermediate,
            self.mesh_ca,
            self.root_ca,
            self.receipt(entry.body.seq),
            (),
            consistency,
        )
        return answer.swapped(sealed=self.seal(answer, request))

    def seal(self, answer: Answer, request: CertificateRequest) -> tuple[SealedSecret, ...]:
        if self.secret is None:
            return ()
        info = secret_info(self.origin, bundle_digest(answer.bundle()))
        return (SealedSecret(id=SECRET_ID, data=hpke_seal(self.secret, request.hpke_public_key, info)),)


class ReportIssuer:
    """A secure processor that fills in binding and policy, and signs nothing: nobody judges it in these tests."""

    kind = Kind.SIMULATED

    def __init__(self, policy: bytes = b"p" * 32) -> None:
        self.policy = policy

    async def issue(self, report_data: bytes) -> Evidence:
        report = bytearray(1184)
        report[0x50:0x90] = report_data
        report[0xC0:0xE0] = self.policy
        return Evidence.make(self.kind, {"report": bytes(report)})


def _root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(_root(leaves[:split]), _root(leaves[split:]))


def _sha256(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


__all__ = ["PARTS", "Answer", "FakeMesh", "ReportIssuer", "certificate", "leaf_hash", "new_key"]
