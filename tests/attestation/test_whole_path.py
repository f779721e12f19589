"""Evidence through a whole Coordinator: every simulated product, and real reports and quotes under a fixed clock."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import binding
from attestation.binding import Purpose
from attestation.collateral.endorse import Endorser
from attestation.evidence import Evidence, Kind
from attestation.reference import ReferenceValues
from attestation.simulated.vendor import ProductName
from attestation.snp.endorsement import EndorsementKind
from audit import concluding, judging
from audit.replay import replay
from coordinator import epoch_rules, issuing, own_evidence, service, setting, workload_rules
from coordinator.events import AttestationAccepted, decode_event
from coordinator.kernel import World
from ledger.source import StoreSource
from manifest.model import Policy, Role
from tests.support.coordinator import Clock, Running, coordinator
from tests.support.deployment import COORDINATOR_POLICY, WEB_POLICY, Deployment, GuestIssuer, Pod, launch
from tests.support.deployment import MEASUREMENT as IMAGE
from tests.support.snp_vectors import Genuine, find, genuine_reports
from tests.support.tdx_vectors import find_quote
from tests.support.vendor import reference_values, vendor_chain
from tests.support.vendor_services import Service, amd_only, endorsing, intel_only, load_pccs, serving
from wire.bundle import parse_bundle
from wire.evidence import to_message
from wire.problem import RemoteRefusedError
from wire.routes import Port

CLOCK = datetime(2026, 3, 5, 12, tzinfo=UTC)  # The published collateral of GOOD_QUOTE is fresh.
GOOD_QUOTE, GOOD_COLLATERAL = "go-tdx-guest-cf77a6e9", "phala_outdated"


class Fixed(Clock):
    """A clock that stands still for certificates and runs for challenges."""

    def unix_ms(self) -> int:
        return int(CLOCK.timestamp() * 1000)


# --- Simulated products


@pytest.mark.parametrize(
    ("product", "endorsement"),
    [
        ("Milan", EndorsementKind.VCEK),
        ("Genoa", EndorsementKind.VCEK),
        ("Turin", EndorsementKind.VCEK),
        ("Milan", EndorsementKind.VLEK),
    ],
)
async def test_every_simulated_product_goes_from_manifest_to_audit(
    product: ProductName, endorsement: EndorsementKind
) -> None:
    vendor = vendor_chain(product, endorsement)
    values = reference_values(vendor, IMAGE)
    deployment = Deployment(values=(values,))
    issuer = GuestIssuer(launch(COORDINATOR_POLICY, chain=vendor))
    async with coordinator(issuer=issuer, clock=Fixed()) as running:
        await set_manifest(running, deployment)
        async with running.client(Port.MESH) as client:
            challenge = await client.challenge()
            pod = Pod(guest=launch(WEB_POLICY, chain=vendor))
            bundle = parse_bundle((await client.certificate(pod.request(challenge.nonce))).bundle)
            assert bundle.leaf
            foreign = Pod(guest=launch(WEB_POLICY, chain=vendor_chain(product, endorsement, "other")))
            challenge = await client.challenge()
            with pytest.raises(RemoteRefusedError) as refused:
                await client.certificate(foreign.request(challenge.nonce))
            assert "Check 6 (trust-anchor)" in refused.value.problem.detail
        report = replay(StoreSource(running.service.ledger), reference_values=(values,), workers=1)
        assert not [finding for finding in report.findings if "policy" not in str(finding).lower()]


# --- Real evidence


@dataclass
class Stage:
    """Real evidence, and what it is made to be bound to: the one thing in these tests that is not as it was."""

    evidence: dict[bytes, bytes] = field(default_factory=dict)
    """Subject -> REPORT_DATA of the evidence that stands for it."""
    own: bytes = b""
    policies: dict[bytes, bytes] = field(default_factory=dict)
    """Policy text -> HOSTDATA, whose real text nobody published."""

    def report_data(self, purpose: Purpose, nonce: bytes, subject: bytes) -> bytes:
        if purpose is Purpose.WORKLOAD:
            return self.evidence.get(subject, binding.report_data(purpose, nonce, subject))
        return self.own

    def sha256(self, data: bytes) -> Any:
        if data in self.policies:
            return SimpleNamespace(digest=lambda: self.policies[data])
        return hashlib.sha256(data)


@dataclass
class Replayed:
    """An issuer that has one real report."""

    evidence: Evidence
    kind: Kind = Kind.SNP

    async def issue(self, _report_data: bytes) -> Evidence:
        return self.evidence


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    for module in (issuing, own_evidence, epoch_rules, workload_rules, service, concluding, judging):
        monkeypatch.setattr(module, "report_data", stage.report_data)
    monkeypatch.setattr(setting, "hashlib", SimpleNamespace(sha256=stage.sha256))
    return stage


async def set_manifest(running: Running, deployment: Deployment) -> None:
    _, statement = await running.statement()
    async with running.client() as client:
        await client.set_manifest(deployment.request(statement.origin or ""))


class RealDeployment(Deployment):
    """A manifest whose policies are HOSTDATA of real guests."""

    @property
    def manifest(self) -> bytes:
        text = super().manifest
        for policy, host_data in STAGE[0].policies.items():
            text = text.replace(hashlib.sha256(policy).hexdigest().encode(), host_data.hex().encode())
        return text


STAGE: list[Stage] = []


def real_deployment(stage: Stage, own: Genuine, *others: tuple[bytes, tuple[ReferenceValues, ...]]) -> Deployment:
    """The Coordinator is *own*'s guest; further guests by HOSTDATA, each with its reference values."""
    STAGE[:] = [stage]
    stage.own = own.parsed.report_data
    policies = {COORDINATOR_POLICY: Policy(sans=("coordinator",), role=Role.COORDINATOR)}
    stage.policies[COORDINATOR_POLICY] = own.parsed.host_data
    values: list[ReferenceValues] = [own.values()]
    for number, (host_data, entries) in enumerate(others):
        if host_data not in stage.policies.values():
            text = b"# policy of guest %d" % number
            stage.policies[text] = host_data
            policies[text] = Policy(sans=(f"guest-{number}",))
        values += [entry for entry in entries if entry not in values]
    return RealDeployment(policies=policies, values=tuple(values))  # type: ignore[arg-type]


async def ask(running: Running, stage: Stage, evidence: Evidence, bound: bytes | None) -> Any:
    """Ask for a certificate with *evidence*, whose REPORT_DATA *bound* stands for this exchange."""
    pod = Pod()
    async with running.client(Port.MESH) as client:
        challenge = await client.challenge()
        request = pod.request(challenge.nonce, evidence=to_message(evidence))
        if bound is not None:
            stage.evidence[subject_of(pod)] = bound
        return await client.certificate(request)


def subject_of(pod: Pod) -> bytes:
    spki = pod.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return binding.workload_subject(spki, pod.hpke_public)


def usable(reports: list[Genuine]) -> list[Genuine]:
    """Genuine, not in DEBUG, and with certificates that are valid at CLOCK."""
    return [
        report
        for report in reports
        if "DEBUG" not in report.facts["notes"]
        and datetime.fromisoformat(report.facts["cert_not_before"]) < CLOCK
        and datetime.fromisoformat(report.facts["cert_not_after"]) > CLOCK
    ]


async def test_real_reports_get_certificates_and_an_audit_comes_to_the_same_verdicts(
    vectors: Path, stage: Stage
) -> None:
    """Milan, Genoa, Siena, Turin and a TDX quote under one manifest, judged by the ledger's own rules again."""
    own, quote = find(vectors, "20"), find_quote(vectors, GOOD_QUOTE)
    reports = usable(genuine_reports(vectors))
    chosen = {report.product: report for report in reports}
    guests = [(report.parsed.host_data, (report.values(),)) for report in chosen.values()]
    guests.append((quote.parsed.host_data, (quote.values(),)))  # type: ignore[arg-type]
    deployment = real_deployment(stage, own, *guests)
    assert set(chosen) >= {"Milan", "Genoa"}
    async with coordinator(issuer=Replayed(own.evidence()), clock=Fixed()) as running:
        await set_manifest(running, deployment)
        for report in chosen.values():
            answer = await ask(running, stage, report.evidence(), report.parsed.report_data)
            assert parse_bundle(answer.bundle).leaf
        evidence = quote.evidence(quote.collateral(GOOD_COLLATERAL))
        answer = await ask(running, stage, evidence, quote.parsed.report_data)
        assert parse_bundle(answer.bundle).leaf
        log = running.service.ledger
        accepted = [
            event
            for seq in range(log.size)
            if isinstance(event := decode_event(log.entry(seq))[0], AttestationAccepted)
        ]
        assert {event.evidence[0] for event in accepted} == {"snp", "tdx"}
        # What the ledger holds is the evidence with everything that was used, each part under its hash.
        for event in accepted:
            assert all(hashlib.sha256(log.blob(digest) or b"").digest() == digest for _, digest in event.evidence[1])
        findings = replay(StoreSource(log), workers=1).findings
        # Every decision is derived again; missing are only the texts of policies, which nobody published.
        assert {(finding.code, finding.about) for finding in findings} <= {("unproven", "manifest.set")}
        assert all("policy" in finding.text for finding in findings)


async def test_which_check_stops_a_foreign_report(vectors: Path, stage: Stage) -> None:
    """As it comes: its REPORT_DATA is for another exchange. With that out of the way: policy, image, chip, chain."""
    own = find(vectors, "20")
    milan = [report for report in usable(genuine_reports(vectors)) if report.product == "Milan"]
    same_policy = [report for report in milan if report.parsed.host_data != own.parsed.host_data]
    other = same_policy[0]
    # All of the other guest's entry fits it but the image, which is the Coordinator's.
    entry = other.values(trusted_measurement=own.parsed.measurement)
    deployment = real_deployment(stage, own, (other.parsed.host_data, (entry,)))
    stopped: dict[str, str] = {}

    async def refusal(evidence: Evidence, bound: bytes | None) -> str:
        with pytest.raises(RemoteRefusedError) as refused:
            await ask(running, stage, evidence, bound)
        problem = refused.value.problem
        return f"{problem.code}: {problem.detail}"

    async with coordinator(issuer=Replayed(own.evidence()), clock=Fixed()) as running:
        await set_manifest(running, deployment)
        stopped["as it comes"] = await refusal(other.evidence(), None)
        stranger = next(report for report in milan if report.parsed.host_data not in stage.policies.values())
        stopped["another policy"] = await refusal(stranger.evidence(), stranger.parsed.report_data)
        stopped["another image"] = await refusal(other.evidence(), other.parsed.report_data)
        edited = bytearray(own.report)
        edited[0x90] ^= 1
        stopped["edited measurement"] = await refusal(own.evidence(report=bytes(edited)), own.parsed.report_data)
        edited = bytearray(own.report)
        edited[0x2A0] ^= 1
        stopped["edited signature"] = await refusal(own.evidence(report=bytes(edited)), own.parsed.report_data)
        chip = other.evidence().part("vek") or b""
        stopped["another chip's key"] = await refusal(own.evidence(vek=chip), own.parsed.report_data)
        fake = vendor_chain()
        forged = own.evidence(root=fake.root, intermediate=fake.intermediate, vek=fake.chip.certificate)
        stopped["a vendor made up"] = await refusal(forged, own.parsed.report_data)
    refused = "evidence_refused: Check {} failed."
    assert stopped == {
        "as it comes": "binding_mismatch: The evidence does not belong to this request",  # 25, before all others.
        "another policy": "unknown_policy: The manifest does not name this pod's policy",  # 24, likewise.
        "another image": refused.format("21 (measurement)"),
        "edited measurement": refused.format("21 (measurement)"),
        "edited signature": refused.format("11 (signature)"),
        "another chip's key": refused.format("12 (certificate-tcb)"),
        "a vendor made up": refused.format("6 (trust-anchor)"),
    }


# --- Collateral that the Coordinator fetches


async def with_endorser(running: Running, endorser: Endorser) -> None:
    kernel = running.service.kernel
    world = kernel.world
    kernel.world = World(
        issuer=world.issuer,
        threads=world.threads,
        clock_ms=world.clock_ms,
        monotonic_ms=world.monotonic_ms,
        workers=world.workers,
        endorser=endorser,
    )


async def test_a_bare_quote_is_completed_and_what_was_used_is_recorded(vectors: Path, stage: Stage) -> None:
    own, quote = find(vectors, "20"), find_quote(vectors, GOOD_QUOTE)
    deployment = real_deployment(stage, own, (quote.parsed.host_data, (quote.values(),)))
    async with (
        serving(Service()) as pccs,
        endorsing(intel_only, pccs) as endorser,
        coordinator(issuer=Replayed(own.evidence()), clock=Fixed()) as running,
    ):
        load_pccs(pccs, quote.collateral(GOOD_COLLATERAL))
        await set_manifest(running, deployment)
        await with_endorser(running, endorser)
        await ask(running, stage, quote.evidence(None), quote.parsed.report_data)
        log = running.service.ledger
        (event,) = [
            event
            for seq in range(log.size)
            if isinstance(event := decode_event(log.entry(seq))[0], AttestationAccepted)
        ]
        assert [role for role, _ in event.evidence[1]] == ["collateral", "quote"]
        assert quote.judge(log.blob(dict(event.evidence[1])["collateral"]), CLOCK).accepted


async def test_nobody_is_asked_for_evidence_that_something_cheaper_refuses(vectors: Path, stage: Stage) -> None:
    """Otherwise a stranger with old reports could make a Coordinator ask AMD all day."""
    own, other = find(vectors, "20"), find(vectors, "21")
    changed = own.values(minimum_guest_svn=4_000_000_000)
    deployment = real_deployment(stage, own, (other.parsed.host_data, (changed,)))
    async with (
        serving(Service()) as kds,
        endorsing(amd_only, kds) as endorser,
        coordinator(issuer=Replayed(own.evidence()), clock=Fixed()) as running,
    ):
        await set_manifest(running, deployment)
        await with_endorser(running, endorser)
        bare = Evidence.make(Kind.SNP, {"report": other.report})
        with pytest.raises(RemoteRefusedError) as refused:
            await ask(running, stage, bare, other.parsed.report_data)
        assert refused.value.problem.code == "evidence_refused"
        assert not kds.asked
        mine = Evidence.make(Kind.SNP, {"report": own.report})
        with pytest.raises(RemoteRefusedError) as refused:
            await ask(running, stage, mine, own.parsed.report_data)
        assert refused.value.problem.code == "endorsements_missing"
        assert sum(kds.asked.values()) == 1
