"""Every published SEV-SNP vector: what is genuine is accepted, what is not is refused, for its own reason."""

import hashlib
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import ReportError
from attestation.reference import GuestPolicy, PlatformInfo
from attestation.snp.anchors import AMD_ROOTS, PINNED
from attestation.snp.certificates import is_signed_by, parse_authority, parse_crl
from attestation.snp.chain import link_fault, parse_chain
from attestation.snp.endorsement import EndorsementKind, parse_endorsement
from attestation.snp.products import PRODUCTS, Tcb, parse_tcb
from attestation.snp.report import parse_report
from attestation.snp.table import parse_certificate_table
from attestation.verdict import Outcome, Verdict
from tests.support.snp_vectors import CRL_CLOCK, Genuine, find, genuine_reports


def failed(verdict: Verdict) -> list[int]:
    """Numbers of the failed checks but the last, which only sums up."""
    return [check.number for check in verdict.failures if check.number != 27]


def refused_for(verdict: Verdict, *numbers: int) -> None:
    assert not verdict.accepted
    assert verdict.claims is None
    assert failed(verdict) == list(numbers), verdict.failures


def test_every_genuine_report_is_accepted(vectors: Path) -> None:
    """A genuine report refused is a customer's machine refused."""
    judged = 0
    for report in genuine_reports(vectors):
        if "DEBUG" in report.facts["notes"]:
            continue
        verdict = report.judge(thorough=False)
        assert verdict.accepted, (report.facts["file"], verdict.failures)
        judged += 1
    assert judged >= 33


def test_a_genuine_debug_guest_is_refused_for_that_alone(vectors: Path) -> None:
    """Everything about it is genuine; the host can read its memory all the same."""
    debugged = [report for report in genuine_reports(vectors) if "DEBUG" in report.facts["notes"]]
    assert debugged
    for report in debugged:
        verdict = report.judge()
        refused_for(verdict, 18)
        assert "DEBUG" in verdict.checks[17].seen
        assert verdict.checks[10].outcome is Outcome.PASSED


def test_every_field_is_read_as_published(vectors: Path) -> None:
    for report in genuine_reports(vectors):
        facts, parsed = report.facts, report.parsed
        tcb = parse_tcb(parsed.reported_tcb, PRODUCTS[report.product])
        published = facts["reported_tcb"]
        assert (tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode) == tuple(
            published[part] for part in ("bl", "tee", "snp", "ucode")
        )
        assert parsed.version == facts["version"]
        assert parsed.cpuid == (
            None if facts["family"] is None else (facts["family"], facts["model"], facts["stepping"])
        )
        assert parsed.policy == int(facts["policy"], 16)
        assert parsed.platform_info == int(facts["platform_info"], 16)
        assert parsed.vmpl == facts["vmpl"]
        assert parsed.current_tcb.hex() == facts["current_tcb"]
        assert parsed.committed_tcb.hex() == facts["committed_tcb"]
        assert parsed.launch_tcb.hex() == facts["launch_tcb"]
        assert ".".join(map(str, parsed.current_firmware)) == facts["fw_current"]
        assert parsed.measurement.hex() == facts["measurement"]
        assert parsed.host_data.hex() == facts["host_data"]
        assert (parsed.chip_id.hex() if any(parsed.chip_id) else "0").startswith(facts["chip_id"])
        assert parsed.report_id_ma == b"\xff" * 32


def test_milan_of_2023_is_accepted_with_a_required_list(vectors: Path) -> None:
    crl = (vectors / "snp/crls/crl-milan-2023-05-09.der").read_bytes()
    judged = 0
    for report in genuine_reports(vectors):
        not_before = datetime.fromisoformat(report.facts["cert_not_before"])
        if report.facts["product"] != "Milan" or not_before > CRL_CLOCK or "DEBUG" in report.facts["notes"]:
            continue
        verdict = report.judge(report.evidence(crl=crl), report.values(crl="required"), now=CRL_CLOCK)
        assert verdict.accepted, verdict.failures
        assert verdict.checks[9].outcome is Outcome.PASSED
        judged += 1
    assert judged >= 6


def test_an_old_list_is_no_list(vectors: Path) -> None:
    """Fail closed when it is required; tell when it is not."""
    report = find(vectors, "02")
    crl = (vectors / "snp/crls/crl-milan-2022-05-09.der").read_bytes()
    refused_for(report.judge(report.evidence(crl=crl), report.values(crl="required"), now=CRL_CLOCK), 10)
    verdict = report.judge(report.evidence(crl=crl), now=CRL_CLOCK)
    assert verdict.accepted
    assert verdict.checks[9].outcome is Outcome.NOT_APPLICABLE
    assert "2022-05-09" in verdict.checks[9].seen


def test_a_list_of_another_product_is_refused_even_where_none_is_required(vectors: Path) -> None:
    report = find(vectors, "02")
    crl = (vectors / "snp/crls/crl-genoa-2022-10-31.der").read_bytes()
    refused_for(report.judge(report.evidence(crl=crl), now=CRL_CLOCK), 10)


def test_a_revoked_intermediate_is_refused(vectors: Path) -> None:
    """Genuinely signed by ARK-Genoa, and withdrawn: only the list says so."""
    report = find(vectors, "48")
    folder = vectors / "snp"
    evidence = report.evidence(
        intermediate=(folder / "certs/ask-genoa-REVOKED-serial-0x20001.der").read_bytes(),
        crl=(folder / "crls/crl-genoa-2022-10-31.der").read_bytes(),
    )
    verdict = report.judge(evidence)
    assert 10 in failed(verdict)
    assert verdict.checks[9].seen == "serial 0x20001 is revoked"


@pytest.mark.parametrize("name", ["milan-legacy-raw-hwid-synthetic", "milan-der-octet-hwid-synthetic"])
def test_a_synthetic_certificate_parses_and_fails_in_the_chain(vectors: Path, name: str) -> None:
    report = find(vectors, "20")
    vek = (vectors / f"snp/negative/vcek-{name}.der").read_bytes()
    assert len(parse_endorsement(vek).hwid or b"") == 64
    verdict = report.judge(report.evidence(vek=vek))
    assert {7, 11} <= set(failed(verdict))
    assert verdict.checks[8].outcome is Outcome.PASSED


def test_another_chips_certificate_is_refused(vectors: Path) -> None:
    """A genuine VCEK under a genuine chain, for another machine."""
    report = find(vectors, "07")
    vek = (vectors / "snp/negative/vcek-milan-azure-other-chip-da8a5695.der").read_bytes()
    clock = parse_endorsement(vek).certificate.not_before + timedelta(days=1)
    verdict = report.judge(report.evidence(vek=vek), now=max(clock, report.clock))
    assert {11, 13} <= set(failed(verdict))
    assert verdict.checks[6].outcome is Outcome.PASSED


def test_negative_reports_are_refused(vectors: Path) -> None:
    """Invented reports of version 1, and one of version 2 with an invented signature."""
    report = find(vectors, "02")
    wanted = {"v1": 2, "v2": 11}
    for path in sorted((vectors / "snp/negative").glob("*.report.bin")):
        verdict = report.judge(report.evidence(report=path.read_bytes()))
        assert not verdict.accepted
        assert wanted[path.name[:2]] in failed(verdict), (path.name, verdict.failures)


def test_reports_without_certificates_parse(vectors: Path) -> None:
    for facts in json.loads((vectors / "snp/parse-only.json").read_text()):
        raw = (vectors / "snp" / facts["file"]).read_bytes()
        if facts["version"] == 1:
            with pytest.raises(ReportError, match="version 1"):
                parse_report(raw)
            continue
        report = parse_report(raw)
        assert report.version == facts["version"]
        assert report.policy == int(str(facts["policy"]), 16)
        assert report.vmpl == facts["vmpl"]
        assert not report.nonzero


def test_roots_are_pinned_and_nothing_else_is_a_root(vectors: Path) -> None:
    for facts in json.loads((vectors / "snp/certs.json").read_text()):
        if not facts["file"].endswith(".der"):
            continue
        pinned = {(anchor.certificate.hex(), (anchor.spki or b"").hex()) for anchor in AMD_ROOTS.values()}
        is_root = facts["subject"].startswith("ARK-")
        assert ((facts["sha256"], facts["spki_sha256"]) in pinned) == is_root


def test_real_chains_hold_link_by_link(vectors: Path) -> None:
    folder = vectors / "snp/certs"
    for product in ("milan", "genoa", "turin"):
        root = parse_authority((folder / f"ark-{product}.der").read_bytes())
        assert root.signs_crls
        for name in ("ark", "ask", "asvk"):
            authority = parse_authority((folder / f"{name}-{product}.der").read_bytes())
            assert is_signed_by(authority.certificate.signed, authority.certificate.signature, root.key)
            assert authority.path_length == (None if name == "ark" else 0)
    for facts in json.loads((vectors / "snp/crls.json").read_text()):
        crl = parse_crl((vectors / "snp" / facts["file"]).read_bytes())
        assert crl.revoked == {int(serial, 16) for serial in facts["revoked"]}
        assert crl.this_update == datetime.fromisoformat(facts["this_update"])
        assert crl.next_update == datetime.fromisoformat(facts["next_update"])


def test_lone_certificates_parse(vectors: Path) -> None:
    """Re-issued ones (same key, other bytes) among them: never pin a VCEK by its hash."""
    names = ["reissued-05788a16", "reissued-12d7b050", "reissued-a267ef49", "noreport-2246133e", "noreport-713c6d92"]
    for name in names:
        endorsement = parse_endorsement((vectors / f"snp/misc/vcek-{name}.der").read_bytes())
        assert endorsement.kind is EndorsementKind.VCEK
        assert endorsement.certificate.serial == 0
    turin = parse_endorsement((vectors / "snp/misc/vcek-noreport-a4a6abff.der").read_bytes())
    assert len(turin.hwid or b"") == 8
    assert turin.tcb == Tcb(fmc=0, bootloader=0, tee=0, snp=0, microcode=9)


def test_a_reissued_certificate_serves_as_well(vectors: Path) -> None:
    report = find(vectors, "55")
    for name in ("05788a16", "a267ef49"):
        vek = (vectors / f"snp/misc/vcek-reissued-{name}.der").read_bytes()
        clock = parse_endorsement(vek).certificate.not_before + timedelta(days=1)
        assert report.judge(report.evidence(vek=vek), now=clock).accepted


def test_a_real_certificate_table_serves_its_report(vectors: Path) -> None:
    """Payloads are PEM here, as a real kernel handed them out."""
    report = find(vectors, "52")
    table = parse_certificate_table((vectors / "snp/misc/tsm-auxblob-genoa-veraison.bin").read_bytes())
    assert sorted(table) == ["intermediate", "root", "vek"]
    assert report.judge(report.evidence(**table)).accepted


def test_an_azure_blob_holds_the_report_that_it_is_said_to(vectors: Path) -> None:
    blob = (vectors / "snp/misc/azure-hcl-report-milan-v2.bin").read_bytes()
    assert blob[0x20 : 0x20 + 1184] == find(vectors, "07").report


def test_every_pinned_root_has_signed_itself(vectors: Path) -> None:
    """Verdicts take this for granted of exactly these bytes, and of no others (docs/adr/0029)."""
    found = set()
    for path in (vectors / "snp/certs").glob("ark-*.der"):
        root = parse_authority(path.read_bytes())
        assert root.certificate.subject == root.certificate.issuer
        assert is_signed_by(root.certificate.signed, root.certificate.signature, root.key)
        found.add(hashlib.sha256(path.read_bytes()).digest())
    assert found >= PINNED
    assert {anchor.certificate for anchor in AMD_ROOTS.values()} == PINNED


@pytest.mark.parametrize("number", ["20", "46", "59"])
def test_a_root_with_other_bytes_has_its_signature_verified(vectors: Path, number: str) -> None:
    report = find(vectors, number)
    forged = report.root[:-1] + bytes((report.root[-1] ^ 1,))
    chain = parse_chain(report.evidence(root=forged))
    assert "is not signed by this ARK" in (link_fault(chain) or "")
    assert {6, 7} <= set(failed(report.judge(report.evidence(root=forged))))


@pytest.mark.parametrize("number", ["59", "60"])
def test_a_chip_of_turin_is_named_by_its_own_eight_bytes_or_as_in_the_report(vectors: Path, number: str) -> None:
    """AMD's service and its tools write 16 digits, the report has 64 bytes: either must let in, and keep out."""
    report = find(vectors, number)
    chip = report.parsed.chip_id
    assert not any(chip[8:])
    for name in (chip, chip[:8]):
        assert report.judge(values=report.values(allowed_chip_ids=(name,))).accepted
        refused_for(report.judge(values=report.values(denied_chip_ids=(name,))), 16)
    assert report.values(allowed_chip_ids=(chip[:8], chip)) == report.values(allowed_chip_ids=(chip,))
    refused_for(report.judge(values=report.values(allowed_chip_ids=(chip[1:9],))), 26)


@pytest.mark.parametrize(
    ("number", "changes", "check"),
    [
        ("03", {"allow_provisional_firmware": False}, 14),
        ("06", {"allow_provisional_firmware": False}, 14),
        ("19", {"vmpl": 0}, 20),
        ("45", {"vmpl": 0}, 20),
        ("19", {"allowed_providers": ()}, 13),
        ("19", {"allowed_providers": ("CN=cc-eu-west-1.amazonaws.com",)}, 13),
        ("20", {"allowed_chip_ids": (bytes(64),)}, 26),
        ("20", {"trusted_measurement": bytes(48)}, 21),
        ("20", {"minimum_mitigation_vector": 1}, 17),
        ("45", {"minimum_mitigation_vector": 0x1F}, 17),
        ("54", {"minimum_mitigation_vector": 0x3}, 17),
        ("10", {"guest_policy": GuestPolicy(smt=False)}, 18),
        ("02", {"guest_policy": GuestPolicy(abi_major=1, abi_minor=51)}, 18),
        ("20", {"guest_policy": GuestPolicy(page_swap_disable=True)}, 18),
        ("59", {"platform_info": PlatformInfo(iommu_write_safe=False)}, 19),
        ("52", {"platform_info": PlatformInfo(tsme_enabled=True)}, 19),
        ("20", {"require_id_block": True, "id_key_digests": (b"\1" * 48,)}, 22),
        ("02", {"require_id_block": True, "id_key_digests": (bytes(48),)}, 22),
        ("20", {"image_id": b"\1" * 16}, 23),
        ("20", {"minimum_guest_svn": 4_000_000_000}, 23),
        ("20", {"trust_anchor": None, "maximum_tcb": Tcb(bootloader=0, tee=0, snp=0, microcode=0)}, 16),
    ],
)
def test_peculiar_reports_fail_exactly_where_they_are_peculiar(
    vectors: Path, number: str, changes: dict[str, Any], check: int
) -> None:
    report = find(vectors, number)
    refused_for(report.judge(values=report.values(**changes)), check)


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        ("10", {"guest_policy": GuestPolicy(abi_major=1, abi_minor=51)}),
        ("45", {"guest_policy": GuestPolicy(page_swap_disable=True), "minimum_mitigation_vector": 0xF}),
        ("60", {"minimum_mitigation_vector": 0x3F, "platform_info": PlatformInfo(iommu_write_safe=True)}),
        ("55", {"minimum_mitigation_vector": 0xB}),
    ],
)
def test_peculiar_reports_satisfy_who_asks_for_that(vectors: Path, number: str, changes: dict[str, Any]) -> None:
    report = find(vectors, number)
    verdict = report.judge(values=report.values(**changes))
    assert verdict.accepted, verdict.failures


def test_an_id_block_with_author_key_is_recognised(vectors: Path) -> None:
    report = find(vectors, "10")
    parsed = report.parsed
    demand = {"require_id_block": True, "id_key_digests": (parsed.id_key_digest,)}
    assert parsed.has_author_key
    assert report.judge(values=report.values(**demand, author_key_digests=(parsed.author_key_digest,))).accepted
    refused_for(report.judge(values=report.values(**demand, author_key_digests=(b"\1" * 48,))), 22)


def test_an_expired_vlek_is_refused(vectors: Path) -> None:
    refused_for(find(vectors, "19").judge(now=datetime(2026, 1, 1, tzinfo=UTC)), 7)


def test_a_certificate_from_the_future_is_refused(vectors: Path) -> None:
    refused_for(find(vectors, "33").judge(now=datetime(2024, 1, 1, tzinfo=UTC)), 7)


def test_siena_is_not_genoa(vectors: Path) -> None:
    """They share the chain and count microcode differently: Genoa's minimum means nothing for Siena."""
    siena, genoa = find(vectors, "55"), find(vectors, "54")
    assert (siena.product, genoa.product) == ("Siena", "Genoa")
    refused_for(siena.judge(values=siena.values(product_name="Genoa")), 5)
    refused_for(genoa.judge(values=genoa.values(product_name="Siena")), 5)


def test_a_version_2_report_takes_its_product_from_the_chain(vectors: Path) -> None:
    report = find(vectors, "02")
    verdict = report.judge(values=report.values(product_name="Genoa"))
    assert {5, 6, 8} <= set(failed(verdict))


def test_a_vlek_is_no_vcek_and_the_reverse(vectors: Path) -> None:
    vlek, vcek = find(vectors, "45"), find(vectors, "20")
    verdict = vlek.judge(vlek.evidence(vek=vcek.vek, intermediate=vcek.intermediate))
    assert 8 in failed(verdict)
    verdict = vcek.judge(vcek.evidence(vek=vlek.vek, intermediate=vlek.intermediate))
    assert 8 in failed(verdict)


def test_missing_certificates_are_named(vectors: Path) -> None:
    report = find(vectors, "20")
    evidence = report.evidence()
    parts = {role: data for role, data in evidence.parts if role in ("report", "root")}
    verdict = report.judge(type(evidence).make(evidence.kind, parts))
    refused_for(verdict, 9)
    assert verdict.checks[8].seen == "no intermediate, no vek came with the report"


def test_two_reports_do_not_share_a_certificate_of_another_tcb(vectors: Path) -> None:
    """(12) Same product, other versions, other chip: both are told."""
    first, second = find(vectors, "20"), find(vectors, "41")
    verdict = first.judge(first.evidence(vek=second.vek), now=max(first.clock, second.clock))
    assert {11, 12, 13} <= set(failed(verdict))


def test_every_genuine_report_is_genuine_only_as_itself(vectors: Path) -> None:
    """Each report with the certificate of the next one of the same chain must fail in its signature."""
    by_chain: dict[tuple[Any, Any], list[Genuine]] = {}
    for report in genuine_reports(vectors):
        by_chain.setdefault((report.facts["product"], report.facts["key"]), []).append(report)
    for reports in by_chain.values():
        for report, other in itertools.pairwise(reports):
            if report.vek == other.vek or parse_endorsement(report.vek).hwid == parse_endorsement(other.vek).hwid:
                continue
            assert 11 in failed(report.judge(report.evidence(vek=other.vek)))
