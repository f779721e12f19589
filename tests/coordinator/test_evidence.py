"""Evidence that must not get a certificate, each for its own reason; challenges; and what the refusals leave behind."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from attestation.binding import Purpose
from attestation.evidence import Evidence, Kind
from attestation.simulated.processor import GuestLaunch, SecureProcessor
from coordinator.admission import CHALLENGE_LIFE_MS
from coordinator.events import AttestationRefused, decode_event
from coordinator.settings import Limits
from tests.support.acts import certificate, check_bundle, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import (
    COORDINATOR_POLICY,
    MEASUREMENT,
    WEB_POLICY,
    Deployment,
    GuestIssuer,
    Pod,
    digest,
    launch,
    other_vendor,
    random_nonce,
    values_of,
    vendor,
)
from tests.support.vendor import START
from wire.bundle import parse_bundle
from wire.evidence import to_message
from wire.messages import CertificateRequest
from wire.problem import Problem, RemoteRefusedError
from wire.routes import Port

Forge = Callable[[Pod, bytes], CertificateRequest]


def with_guest(**launch_fields: object) -> Forge:
    return lambda _, nonce: Pod(guest=launch(WEB_POLICY, **launch_fields)).request(nonce)  # type: ignore[arg-type]


def changed_report(change: Callable[[bytearray], None]) -> Forge:
    def forge(pod: Pod, nonce: bytes) -> CertificateRequest:
        evidence = pod.guest.evidence(pod.binding(nonce))
        report = bytearray(evidence.part("report") or b"")
        change(report)
        parts = dict(evidence.parts) | {"report": bytes(report)}
        return pod.request(nonce, evidence=to_message(Evidence.make(evidence.kind, parts)))

    return forge


def flip(position: int) -> Callable[[bytearray], None]:
    def change(report: bytearray) -> None:
        report[position] ^= 1

    return change


def other_nonce(pod: Pod, nonce: bytes) -> CertificateRequest:
    return pod.request(nonce, evidence=to_message(pod.guest.evidence(pod.binding(random_nonce()))))


def other_key(pod: Pod, nonce: bytes) -> CertificateRequest:
    return pod.request(nonce, evidence=to_message(pod.guest.evidence(Pod().binding(nonce))))


def other_purpose(pod: Pod, nonce: bytes) -> CertificateRequest:
    return pod.request(nonce, evidence=to_message(pod.guest.evidence(pod.binding(nonce, Purpose.PEER))))


def other_hpke_key(pod: Pod, nonce: bytes) -> CertificateRequest:
    return pod.request(nonce, hpke_public_key=Pod().hpke_public)


def as_real_hardware(pod: Pod, nonce: bytes) -> CertificateRequest:
    parts = dict(pod.guest.evidence(pod.binding(nonce)).parts)
    return pod.request(nonce, evidence=to_message(Evidence.make(Kind.SNP, parts)))


def as_tdx(pod: Pod, nonce: bytes) -> CertificateRequest:
    quote = bytearray(48 + 584)
    quote[:2] = (4).to_bytes(2, "little")
    quote[48 + 184 : 48 + 216] = pod.guest.launch.host_data
    quote[48 + 520 : 48 + 584] = pod.binding(nonce)
    return pod.request(nonce, evidence=to_message(Evidence.make(Kind.TDX, {"quote": bytes(quote)})))


def stolen_csr(pod: Pod, nonce: bytes) -> CertificateRequest:
    """A CSR whose signature is not by its key: possession is not proven."""
    csr = bytearray(pod.csr)
    csr[-1] ^= 1
    return pod.request(nonce, csr=bytes(csr))


def rsa_csr(pod: Pod, nonce: bytes) -> CertificateRequest:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    key = rsa.generate_private_key(65537, 2048)
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return pod.request(nonce, csr=csr.public_bytes(serialization.Encoding.DER))


FORGED: dict[str, tuple[str, Forge]] = {
    "another nonce": ("binding_mismatch", other_nonce),
    "another key": ("binding_mismatch", other_key),
    "another HPKE key": ("binding_mismatch", other_hpke_key),
    "another purpose": ("binding_mismatch", other_purpose),
    "another policy": ("unknown_policy", lambda _, nonce: Pod(b"# not in the manifest").request(nonce)),
    "debug": ("evidence_refused", with_guest(policy=0x30000 | 1 << 19)),
    "migratable": ("evidence_refused", with_guest(policy=0x30000 | 1 << 18)),
    "another measurement": ("evidence_refused", with_guest(measurement=b"\x01" * 48)),
    "another privilege level": ("evidence_refused", with_guest(vmpl=1)),
    "another vendor": ("evidence_refused", lambda _, n: Pod(guest=launch(WEB_POLICY, chain=other_vendor())).request(n)),
    "said to be real": ("evidence_refused", as_real_hardware),
    "a TDX quote": ("evidence_refused", as_tdx),
    "changed measurement": ("evidence_refused", changed_report(flip(0x90))),
    "changed signature": ("evidence_refused", changed_report(flip(0x2A0))),
    "changed tail": ("evidence_refused", changed_report(flip(1183))),
    "CSR not signed by its key": ("bad_csr", stolen_csr),
    "CSR for RSA": ("bad_csr", rsa_csr),
    "CSR of rubbish": ("bad_csr", lambda pod, nonce: pod.request(nonce, csr=b"\x30\x03\x02\x01\x01")),
}


async def refused(running: Running, request: CertificateRequest) -> Problem:
    async with running.client(Port.MESH) as client:
        with pytest.raises(RemoteRefusedError) as caught:
            await client.certificate(request)
    return caught.value.problem


async def challenge(running: Running) -> bytes:
    async with running.client(Port.MESH) as client:
        return (await client.challenge()).nonce


async def test_forged_evidence_gets_no_certificate_and_a_reason() -> None:
    async with coordinator() as running:
        await set_manifest(running)
        for name, (code, forge) in FORGED.items():
            problem = await refused(running, forge(Pod(), await challenge(running)))
            assert problem.code == code, (name, problem)
            assert problem.action, name
        assert running.service.state.certificates == 0
        assert running.service.state.attestations == 0
        pod = Pod()
        check_bundle(await certificate(running, pod), pod, running)


@pytest.mark.parametrize("case", ["debug", "another measurement", "another vendor", "another policy", "CSR of rubbish"])
async def test_the_ledger_says_what_was_refused_and_holds_no_evidence(case: str) -> None:
    async with coordinator() as running:
        await set_manifest(running)
        blobs = len(running.service.ledger.store.blob_digests())
        _, forge = FORGED[case]
        for _ in range(3):
            await refused(running, forge(Pod(), await challenge(running)))
        ledger = running.service.ledger
        await until(lambda: ledger.size == 4)
        event, _ = decode_event(ledger.entry(3))
        assert isinstance(event, AttestationRefused)
        assert event.count == 1  # The first is told at once, the others when ten minutes have passed.
        assert len(ledger.store.blob_digests()) == blobs


async def test_a_refused_chip_is_not_named_in_the_public_ledger() -> None:
    """Ids of chips identify machines, and with them tenants."""
    ours = vendor().make_chip(tcb=vendor().chip.tcb, not_before=START, chip_id=b"\x11" * 64)
    values = dataclasses.replace(values_of(vendor()), allowed_chip_ids=(ours.chip_id,))
    fields = GuestLaunch(measurement=MEASUREMENT, host_data=digest(COORDINATOR_POLICY))
    issuer = GuestIssuer(SecureProcessor(vendor(), ours).launch(fields))
    async with coordinator(issuer=issuer) as running:
        await set_manifest(running, Deployment(values=(values,)))
        problem = await refused(running, Pod().request(await challenge(running)))
        assert "chip-allow-list" in problem.detail
        await until(lambda: running.service.ledger.size == 4)
        event, _ = decode_event(running.service.ledger.entry(3))
        assert isinstance(event, AttestationRefused)
        assert event.refusal == "evidence_identity"
        assert vendor().chip.chip_id.hex()[:16] not in event.seen + event.wanted


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not happened in ten seconds")


async def test_a_manifest_for_real_hardware_takes_no_simulated_evidence(vectors: Path) -> None:
    """A software key would pass for a CPU otherwise."""
    real = dataclasses.replace(values_of(vendor()), trust_anchor=None, trust_anchor_spki=None)
    async with coordinator() as running:
        _, statement = await running.statement()
        request = Deployment(values=(real,)).request(statement.origin or "")
        async with running.client() as client:
            with pytest.raises(RemoteRefusedError) as caught:
                await client.set_manifest(request)
        assert caught.value.code == "coordinator_excluded"
        assert running.service.ledger.size == 0


async def test_real_evidence_is_refused_where_a_simulated_anchor_is_named(vectors: Path) -> None:
    """Genuine reports of AMD processors, published by others, do not fit a simulated deployment."""
    row = json.loads((vectors / "snp" / "reports.json").read_text())[0]
    report = (vectors / "snp" / row["file"]).read_bytes()
    async with coordinator() as running:
        await set_manifest(running)
        pod = Pod()
        nonce = await challenge(running)
        for kind in (Kind.SNP, Kind.SIMULATED):
            evidence = to_message(Evidence.make(kind, {"report": report}))
            problem = await refused(running, pod.request(nonce, evidence=evidence))
            assert problem.code == "binding_mismatch"


async def test_a_challenge_expires() -> None:
    async with coordinator() as running:
        await set_manifest(running)
        nonce = await challenge(running)
        running.clock.offset_ms += CHALLENGE_LIFE_MS + 1000
        assert (await refused(running, Pod().request(nonce))).code == "challenge_expired"


async def test_a_challenge_of_another_coordinator_or_of_nobody_is_unknown() -> None:
    async with coordinator() as running, coordinator() as other:
        await set_manifest(running)
        await set_manifest(other)
        assert (await refused(running, Pod().request(await challenge(other)))).code == "challenge_unknown"
        assert (await refused(running, Pod().request(random_nonce()))).code == "challenge_unknown"


async def test_one_challenge_serves_each_key_once() -> None:
    """Another key with the same nonce is another binding; replaying either adds nothing."""
    async with coordinator() as running:
        await set_manifest(running)
        nonce = await challenge(running)
        requests = [Pod().request(nonce), Pod().request(nonce)]
        async with running.client(Port.MESH) as client:
            leaves = [parse_bundle((await client.certificate(each)).bundle).leaf for each in requests * 3]
        assert leaves[0] != leaves[1]
        assert leaves[:2] * 3 == leaves
        assert running.service.state.certificates == 2


async def test_the_same_request_many_times_at_once_is_issued_once() -> None:
    """A race between two copies of one request would issue two certificates for one attestation."""
    async with coordinator() as running:
        await set_manifest(running)
        request = Pod().request(await challenge(running))
        async with running.client(Port.MESH) as client:
            answers = await asyncio.gather(*(client.certificate(request) for _ in range(20)))
        assert len({parse_bundle(answer.bundle).leaf for answer in answers}) == 1
        assert running.service.state.certificates == 1


async def test_a_replayed_request_with_forged_evidence_gets_nothing_of_another_policy() -> None:
    """The recorded answer is for what was attested, whatever HOSTDATA the repetition claims."""
    async with coordinator() as running:
        await set_manifest(running)
        pod = Pod()
        nonce = await challenge(running)
        async with running.client(Port.MESH) as client:
            first = await client.certificate(pod.request(nonce))
            forged = Pod(guest=launch(COORDINATOR_POLICY))
            forged.key, forged.hpke, forged.hpke_public = pod.key, pod.hpke, pod.hpke_public
            forged.spki, forged.csr = pod.spki, pod.csr
            again = await client.certificate(forged.request(nonce))
        assert again.sealed is None
        assert parse_bundle(again.bundle).leaf == parse_bundle(first.bundle).leaf


async def test_a_policy_has_its_share_of_certificates() -> None:
    limits = Limits(policy_burst=2, policy_refill_per_s=0.001)
    async with coordinator(limits=limits) as running:
        await set_manifest(running)
        for _ in range(3):  # Refused requests do not use the share up.
            _, forge = FORGED["debug"]
            await refused(running, forge(Pod(), await challenge(running)))
        for _ in range(2):
            await certificate(running, Pod())
        problem = await refused(running, Pod().request(await challenge(running)))
        assert problem.code == "rate_limited"


@pytest.mark.parametrize(
    ("guest", "seen"),
    [
        ({"host_data": digest(WEB_POLICY)}, "policy"),
        ({"measurement": b"\x02" * 48}, "measurement"),
        ({"chain": "other"}, "trust-anchor"),
    ],
)
async def test_a_manifest_that_does_not_accept_the_coordinator_is_not_set(guest: dict[str, object], seen: str) -> None:
    """A ledger would begin with a Coordinator that its own manifest refuses."""
    fields = {**guest, "chain": other_vendor()} if "chain" in guest else guest
    issuer = GuestIssuer(launch(**fields))  # type: ignore[arg-type]
    async with coordinator(issuer=issuer) as running:
        with pytest.raises(RemoteRefusedError) as caught:
            await set_manifest(running)
        assert caught.value.code == "coordinator_excluded"
        assert seen in caught.value.problem.detail
        assert running.service.ledger.size == 0
        assert running.service.phase == "empty"


async def test_an_update_that_excludes_its_own_coordinator_is_refused() -> None:
    other = dataclasses.replace(Deployment(), values=(values_of(vendor(), b"\x09" * 48),))
    async with coordinator() as running:
        await set_manifest(running)
        with pytest.raises(RemoteRefusedError) as caught:
            await set_manifest(running, other)
        assert caught.value.code == "coordinator_excluded"
        assert running.service.ledger.size == 3
        pod = Pod()
        check_bundle(await certificate(running, pod), pod, running)


def test_the_curves_of_leaves_are_the_documented_ones() -> None:
    assert Pod(curve=ec.SECP256R1()).spki != Pod().spki
