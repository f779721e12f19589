"""What owners and pods do to a running Coordinator, and what a pod can check of its answer."""

import hashlib

from cryptography import x509

from ledger.checkpoint import epoch_name
from ledger.entry import parse_entry
from ledger.note import VerifierKey, ed25519_key
from ledger.proof import parse_proof, verify
from tests.support.coordinator import Running
from tests.support.deployment import SECRET_ID, Deployment, Pod, recovery_request
from wire.bundle import Bundle, parse_bundle
from wire.extensions import read_checkpoint, read_companions, read_simulated
from wire.messages import CertificateResponse, RecoveryRequest, SetManifestResponse
from wire.routes import Port
from wire.sealing import hpke_open, secret_info
from wire.statement import parse_statement


async def set_manifest(running: Running, deployment: Deployment | None = None, **how: object) -> SetManifestResponse:
    deployment = deployment or Deployment()
    _, statement = await running.statement()
    assert statement.origin is not None
    previous = None if statement.transition is None else bytes.fromhex(statement.transition)
    async with running.client() as client:
        return await client.set_manifest(deployment.request(statement.origin, previous, **how))  # type: ignore[arg-type]


async def certificate(running: Running, pod: Pod, **changes: object) -> CertificateResponse:
    async with running.client(Port.MESH) as client:
        challenge = await client.challenge()
        return await client.certificate(pod.request(challenge.nonce, **changes))


def open_secret(answer: CertificateResponse, pod: Pod, origin: str) -> bytes:
    assert answer.sealed is not None
    (sealed,) = answer.sealed
    assert sealed.id == SECRET_ID
    return hpke_open(sealed.data, pod.hpke, secret_info(origin, hashlib.sha256(answer.bundle).digest()))


def recovery_for(
    raw: bytes, shares: SetManifestResponse, *, head: tuple[int, bytes] | None = None, **how: object
) -> RecoveryRequest:
    """The recovery that answers the statement *raw*, from *head*, else from all that the Coordinator has replayed."""
    statement = parse_statement(raw)
    there = statement.unverified
    assert there is not None
    size, root = head or (there.size, bytes.fromhex(there.root))
    return recovery_request(
        shares.seed_shares[0].sealed,
        origin=there.origin,
        hpke_public=bytes.fromhex(statement.hpke_public_key),
        statement=raw,
        size=size,
        root=root,
        **how,  # type: ignore[arg-type]
    )


async def recover(
    running: Running, shares: SetManifestResponse, *, head: tuple[int, bytes] | None = None, **how: object
) -> None:
    raw, _ = await running.statement()
    request = recovery_for(raw, shares, head=head, **how)
    async with running.client() as client:
        answer = await client.recover(request)
        assert answer == await client.recover(request)
        assert answer.root_ca == shares.root_ca


def check_bundle(answer: CertificateResponse, pod: Pod, running: Running) -> Bundle:
    """Everything a workload can check about its answer."""
    bundle = parse_bundle(answer.bundle)
    leaf, middle, mesh, root = (
        x509.load_der_x509_certificate(der)
        for der in (bundle.leaf, bundle.intermediate, bundle.mesh_ca, bundle.root_ca)
    )
    leaf.verify_directly_issued_by(mesh)
    leaf.verify_directly_issued_by(middle)
    middle.verify_directly_issued_by(root)
    assert leaf.public_key() == pod.key.public_key()
    assert read_companions(leaf).root_ca == hashlib.sha256(bundle.root_ca).digest()
    assert read_simulated(leaf)
    origin = running.service.state.origin
    assert read_checkpoint(leaf).origin == origin
    proof = parse_proof(bundle.receipt)
    entry = parse_entry(proof.extra, proof.index)
    keys = [ed25519_key(epoch_name(origin), epoch.key) for epoch in running.service.state.epochs]
    verify(proof, entry.leaf_hash, ledger_key=ledger_key(running), epoch_keys=keys)
    assert entry.body.type == "certificate.issued"
    return bundle


def ledger_key(running: Running) -> VerifierKey:
    return VerifierKey.parse(running.service.state.verifier_keys[0])


def types(running: Running) -> list[str]:
    ledger = running.service.ledger
    return [ledger.entry(seq).body.type for seq in range(ledger.size)]
