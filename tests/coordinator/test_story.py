"""The life of a Coordinator, told through its HTTP server: set, issue, update, restart, recover."""

import asyncio

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.events import decode_event
from ledger.checkpoint import epoch_name, open_finished
from ledger.memory import MemoryStore
from ledger.note import ed25519_key, note_text
from manifest.model import Policy
from tests.support.acts import certificate, check_bundle, ledger_key, open_secret, recover, set_manifest, types
from tests.support.coordinator import coordinator
from tests.support.deployment import (
    SECRET_ID,
    VAULT_POLICY,
    WEB_SANS,
    Deployment,
    Pod,
    owner_key,
)
from wire.bundle import parse_bundle
from wire.extensions import read_companions
from wire.messages import CertificateResponse, Head
from wire.problem import RemoteRefusedError
from wire.routes import Port
from wire.sealing import secret_check


async def test_the_first_set_creates_the_ledger_and_certificates_follow() -> None:
    """The main job."""
    async with coordinator() as running:
        _, before = await running.statement()
        assert before.state == "empty"
        answer = await set_manifest(running)
        assert types(running) == ["ledger.created", "epoch.opened", "manifest.set"]
        assert answer.generation == 1
        assert len(answer.seed_shares) == 1
        _, after = await running.statement()
        assert (after.state, after.origin, after.generation) == ("active", before.origin, 1)
        pod = Pod()
        bundle = check_bundle(await certificate(running, pod), pod, running)
        leaf = x509.load_der_x509_certificate(bundle.leaf)
        sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(name.value) for name in sans] == list(WEB_SANS)
        assert bundle.root_ca == answer.root_ca
        assert types(running)[3:] == ["attestation.accepted", "certificate.issued"]
        checkpoint = open_finished(
            answer.checkpoint.encode(),
            ledger_key=ledger_key(running),
            epoch_keys=[ed25519_key(epoch_name(running.service.state.origin), running.epoch.public)],
        )
        assert checkpoint.size == 3


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["p256", "p384"])
async def test_both_leaf_curves_are_issued(curve: ec.EllipticCurve) -> None:
    async with coordinator() as running:
        await set_manifest(running)
        pod = Pod(curve=curve)
        check_bundle(await certificate(running, pod), pod, running)


async def test_the_same_request_gets_the_same_certificate_and_writes_nothing() -> None:
    """A lost answer would cost a pod its nonce, or an attacker could fill the ledger by repeating."""
    async with coordinator() as running:
        await set_manifest(running)
        pod = Pod(VAULT_POLICY)
        async with running.client(Port.MESH) as client:
            request = pod.request((await client.challenge()).nonce)
            first = await client.certificate(request)
            size = running.service.ledger.size
            running.clock.offset_ms += 3_600_000  # The challenge is long expired, the memory of two minutes empty.
            running.service.workloads._recent._seqs.clear()
            again = await client.certificate(request)
        assert parse_bundle(again.bundle).leaf == parse_bundle(first.bundle).leaf
        assert running.service.ledger.size == size
        origin = running.service.state.origin
        assert open_secret(first, pod, origin) == open_secret(again, pod, origin)
        check_bundle(again, pod, running)


async def test_a_set_of_what_is_in_force_gets_the_recorded_answer() -> None:
    """A lost answer would lose the seed shares for ever."""
    async with coordinator() as running:
        _, statement = await running.statement()
        assert statement.origin is not None
        request = Deployment().request(statement.origin)
        async with running.client() as client:
            first = await client.set_manifest(request)
            later = Deployment().request(statement.origin, bytes.fromhex(first.transition))
            for again in (request, later):
                answer = await client.set_manifest(again)
                # The same checkpoint; cosignatures may have joined it meanwhile.
                assert note_text(answer.checkpoint) == note_text(first.checkpoint)
                assert msgspec.structs.replace(answer, checkpoint=first.checkpoint) == first
        assert running.service.ledger.size == 3


async def test_an_update_has_a_new_mesh_ca_and_the_old_root() -> None:
    """Trusting mesh-root.pem means trusting one manifest."""
    async with coordinator() as running:
        first = await set_manifest(running)
        vault = Pod(VAULT_POLICY)
        before = await certificate(running, vault)
        second = await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new",))))
        assert second.generation == 2
        assert second.root_ca == first.root_ca
        assert second.mesh_ca != first.mesh_ca
        assert second.seed_shares == first.seed_shares
        pod = Pod(b"# new")
        bundle = check_bundle(await certificate(running, pod), pod, running)
        assert bundle.mesh_ca == second.mesh_ca
        after = await certificate(running, vault)
        origin = running.service.state.origin
        secret = open_secret(before, vault, origin)
        assert secret == open_secret(after, vault, origin)
        leaf = x509.load_der_x509_certificate(parse_bundle(after.bundle).leaf)
        assert read_companions(leaf).secrets == {SECRET_ID: secret_check(secret)}
        async with running.client() as client:
            history = (await client.manifests()).manifests
        assert [each.generation for each in history] == [1, 2]
        assert history[1].previous == history[0].transition == first.transition


async def test_after_a_restart_the_seed_share_brings_everything_back() -> None:
    """A Coordinator without seed writes nothing, and with it goes on where it stopped."""
    store = MemoryStore()
    vault = Pod(VAULT_POLICY)
    async with coordinator(store) as running:
        first = await set_manifest(running)
        origin = running.service.state.origin
        secret = open_secret(await certificate(running, vault), vault, origin)
        size = running.service.ledger.size
    async with coordinator(store) as running:
        _, statement = await running.statement()
        assert statement.state == "recovery"
        assert statement.origin is statement.checkpoint is None
        assert statement.unverified is not None
        assert (statement.unverified.origin, statement.unverified.size) == (origin, size)
        async with running.client(Port.MESH) as client:
            with pytest.raises(RemoteRefusedError) as refused:
                await client.challenge()
            assert refused.value.code == "needs_recovery"
        async with running.client() as client:
            assert len(await client.ledger_file(f"tile/entries/000.p/{size}")) > 0
            assert len((await client.manifests()).manifests) == 1
        assert running.service.ledger.size == size
        await recover(running, first)
        assert types(running)[size:] == ["epoch.opened", "ledger.recovered"]
        answer = await certificate(running, vault)
        check_bundle(answer, vault, running)
        assert open_secret(answer, vault, origin) == secret
        assert parse_bundle(answer.bundle).mesh_ca == first.mesh_ca
    async with coordinator(store) as running:  # And once more: what a recovery wrote replays.
        await recover(running, first)
        assert running.service.state.recoveries == 2
        second = await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new",))))
        assert second.generation == 2


async def test_refusals_are_recorded_once_and_replay() -> None:
    """An attacker could grow the ledger otherwise."""
    store = MemoryStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        for _ in range(5):
            with pytest.raises(RemoteRefusedError):
                await certificate(running, Pod(b"# unknown"))
        async with running.client(Port.MESH) as client:
            await client.challenge()
        entry = running.service.ledger.entry(3)
        event, _ = decode_event(entry)
        assert event.type == "attestation.refused"
        assert types(running) == ["ledger.created", "epoch.opened", "manifest.set", "attestation.refused"]
    async with coordinator(store) as running:
        assert running.service.phase == "recovery"


async def test_a_consistency_proof_leads_from_the_head_that_a_client_knows() -> None:
    async with coordinator() as running:
        await set_manifest(running)
        ledger = running.service.ledger
        head = Head(size=ledger.size, root=ledger.root.hex())
        answer = await certificate(running, Pod(), known_head=head)
        assert answer.consistency is not None
        with pytest.raises(RemoteRefusedError) as refused:
            await certificate(running, Pod(), known_head=Head(size=10**6, root=ledger.root.hex()))
        assert refused.value.code == "head_mismatch"


async def test_owner_keys_decide_who_sets() -> None:
    new = Deployment().with_policy(b"# new", Policy(sans=("new",)))
    async with coordinator() as running:
        await set_manifest(running)
        size = running.service.ledger.size
        for signers, code in (((owner_key("stranger"),), "not_an_owner"), ((), "not_an_owner")):
            with pytest.raises(RemoteRefusedError) as refused:
                await set_manifest(running, new, signers=signers)
            assert refused.value.code == code
        assert running.service.ledger.size == size


async def test_certificates_issued_while_manifests_change_fit_their_own_authority() -> None:
    """A leaf of one manifest beside the CA of the next would verify nowhere."""
    async with coordinator() as running:
        await set_manifest(running)
        stop = asyncio.Event()
        answers: list[tuple[CertificateResponse, Pod]] = []

        async def workload() -> None:
            while not stop.is_set():
                pod = Pod(VAULT_POLICY)
                answers.append((await certificate(running, pod), pod))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(workload())
            for number in range(4):
                text = b"# %d" % number
                await set_manifest(running, Deployment().with_policy(text, Policy(sans=(f"new{number}",))))
            stop.set()
        for answer, pod in answers:
            check_bundle(answer, pod, running)
        assert running.service.state.generation == 5
