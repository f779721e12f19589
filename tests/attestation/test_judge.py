"""The judge on simulated evidence: each lie is met by its own check, cheap ones first, and nothing makes it raise."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation import verdict as verdicts
from attestation.cache import ChainCache
from attestation.evidence import Evidence, Kind
from attestation.judge import judge
from attestation.reference import GuestPolicy, PlatformInfo, ReferenceValues, SnpReferenceValues, TdxReferenceValues
from attestation.simulated.vendor import ProductName, VendorChain
from attestation.snp import endorsed
from attestation.snp.endorsement import EndorsementKind
from attestation.snp.products import Tcb
from attestation.verdict import CHECK_NAMES, Outcome, Verdict
from tests.support.vendor import (
    HOST_DATA,
    MEASUREMENT,
    NOW,
    START,
    make_evidence,
    reference_values,
    vendor_chain,
)

REPORT_DATA = b"\x52" * 64
VENDOR: ProductName = "Milan"


def check(evidence: Evidence, *entries: ReferenceValues, **changes: Any) -> Verdict:
    """One door between all these cases and the judge."""
    arguments: dict[str, Any] = {"report_data": REPORT_DATA, "host_data": {HOST_DATA}, "now": NOW}
    return judge(evidence, entries, **{**arguments, **changes})


def failed(verdict: Verdict) -> list[int]:
    return [check.number for check in verdict.failures if check.number != 27]


def edited(evidence: Evidence, **parts: bytes | None) -> Evidence:
    kept = {role: data for role, data in evidence.parts if role not in parts}
    return Evidence.make(evidence.kind, {**kept, **{role: data for role, data in parts.items() if data is not None}})


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


LAUNCHES: list[tuple[str, dict[str, Any], int]] = [
    ("another measurement", {"measurement": b"\1" * 48}, 21),
    ("another policy", {"host_data": b"\1" * 32}, 24),
    ("debug", {"policy": 0xB0000}, 18),
    ("migration", {"policy": 0x70000}, 18),
    ("bit 17 zero", {"policy": 0x10000}, 18),
    ("undefined bit", {"policy": 0x30000 | 1 << 40}, 18),
    ("cxl", {"policy": 0x230000}, 18),
    ("vmpl 1", {"vmpl": 1}, 20),
    ("launch that cannot be", {"launch_tcb": Tcb(bootloader=4, tee=0, snp=24, microcode=255)}, 16),
    ("old launch", {"launch_tcb": Tcb(bootloader=3, tee=0, snp=24, microcode=219)}, 15),
    ("provisional", {"current_tcb": Tcb(bootloader=5, tee=0, snp=24, microcode=219)}, 14),
    ("reported above current", {"current_tcb": Tcb(bootloader=3, tee=0, snp=24, microcode=219)}, 14),
]


@pytest.mark.parametrize(("changes", "number"), [case[1:] for case in LAUNCHES], ids=[case[0] for case in LAUNCHES])
def test_a_wrong_launch_is_refused_for_its_reason(changes: dict[str, Any], number: int) -> None:
    vendor = vendor_chain(VENDOR)
    verdict = check(make_evidence(vendor, REPORT_DATA, **changes), reference_values(vendor))
    assert failed(verdict) == [number]
    assert not verdict.accepted
    assert verdict.claims is None
    assert verdict.first_failure is not None
    assert verdict.first_failure.seen != verdict.first_failure.wanted


ENTRIES: list[tuple[str, dict[str, Any], int]] = [
    ("higher minimum", {"minimum_tcb": Tcb(bootloader=4, tee=0, snp=25, microcode=219)}, 15),
    ("higher launch minimum", {"minimum_launch_tcb": Tcb(bootloader=5, tee=0, snp=0, microcode=0)}, 15),
    ("lower maximum", {"maximum_tcb": Tcb(bootloader=4, tee=0, snp=24, microcode=218)}, 16),
    ("mitigations", {"minimum_mitigation_vector": 2}, 17),
    ("smt", {"guest_policy": GuestPolicy(smt=False)}, 18),
    ("single socket", {"guest_policy": GuestPolicy(single_socket=True)}, 18),
    ("abi", {"guest_policy": GuestPolicy(abi_minor=31)}, 18),
    ("tsme", {"platform_info": PlatformInfo(tsme_enabled=True)}, 19),
    ("no smt", {"platform_info": PlatformInfo(smt_enabled=False)}, 19),
    ("id block", {"require_id_block": True, "id_key_digests": (b"\1" * 48,)}, 22),
    ("svn", {"minimum_guest_svn": 1}, 23),
    ("family", {"family_id": b"\1" * 16}, 23),
    ("other chips", {"allowed_chip_ids": (b"\1" * 64,)}, 26),
    ("other anchor", {"trust_anchor": b"\1" * 32}, 6),
    ("other anchor key", {"trust_anchor_spki": b"\1" * 32}, 6),
    ("other product", {"product_name": "Genoa"}, 5),
]


@pytest.mark.parametrize(("changes", "number"), [case[1:] for case in ENTRIES], ids=[case[0] for case in ENTRIES])
def test_an_entry_that_wants_more_refuses_for_its_reason(changes: dict[str, Any], number: int) -> None:
    vendor = vendor_chain(VENDOR)
    verdict = check(make_evidence(vendor, REPORT_DATA), reference_values(vendor, **changes))
    assert failed(verdict) == [number]


def test_a_denied_chip_is_refused() -> None:
    vendor = vendor_chain(VENDOR)
    values = reference_values(vendor, denied_chip_ids=(vendor.chip.chip_id,))
    assert failed(check(make_evidence(vendor, REPORT_DATA), values)) == [16]


def test_a_report_for_another_exchange_is_refused() -> None:
    vendor = vendor_chain(VENDOR)
    evidence = make_evidence(vendor, REPORT_DATA)
    assert failed(check(evidence, reference_values(vendor), report_data=b"\1" * 64)) == [25]


def test_all_cheap_differences_are_told_at_once() -> None:
    vendor = vendor_chain(VENDOR)
    evidence = make_evidence(vendor, b"\1" * 64, host_data=b"\1" * 32, measurement=b"\1" * 48, vmpl=2)
    assert failed(check(evidence, reference_values(vendor))) == [20, 21, 24, 25]


def test_no_signature_is_computed_where_a_cheap_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger must not buy half a millisecond of our time with a wrong REPORT_DATA."""

    def costly(*_: object) -> None:
        raise AssertionError("a signature was computed")

    monkeypatch.setattr(endorsed, "parse_chain", costly)
    monkeypatch.setattr(endorsed, "link_fault", costly)
    monkeypatch.setattr(endorsed.Endorsements, "signature_holds", costly)
    vendor = vendor_chain(VENDOR)
    verdict = check(make_evidence(vendor, b"\1" * 64), reference_values(vendor))
    assert failed(verdict) == [25]
    assert verdict.checks[10].outcome is Outcome.NOT_APPLICABLE
    assert "not reached" in verdict.checks[10].seen


def test_thorough_makes_every_check() -> None:
    vendor = vendor_chain(VENDOR)
    verdict = check(make_evidence(vendor, b"\1" * 64, policy=0xB0000), reference_values(vendor), thorough=True)
    assert failed(verdict) == [18, 25]
    assert verdict.checks[10].outcome is Outcome.PASSED


def report_of(evidence: Evidence) -> bytes:
    return evidence.part("report") or b""


def with_report(evidence: Evidence, *bits: int) -> Evidence:
    """The evidence with some bits of its report flipped."""
    report = report_of(evidence)
    for bit in bits:
        report = flipped(report, bit)
    return edited(evidence, report=report)


def other_vendor() -> VendorChain:
    return vendor_chain(VENDOR, name="other")


FLAGS = 0x48 * 8
PARTS: list[tuple[str, Callable[[Evidence], Evidence], int]] = [
    ("another vendor's root", lambda e: edited(e, root=other_vendor().root), 6),
    ("no root", lambda e: edited(e, root=None), 9),
    ("no intermediate", lambda e: edited(e, intermediate=None), 9),
    ("no leaf", lambda e: edited(e, vek=None), 9),
    ("no list", lambda e: edited(e, crl=None), 10),
    ("another vendor's list", lambda e: edited(e, crl=other_vendor().crl), 10),
    ("another vendor's intermediate", lambda e: edited(e, intermediate=other_vendor().intermediate), 7),
    ("a leaf as intermediate", lambda e: edited(e, intermediate=e.part("vek")), 9),
    ("an intermediate as leaf", lambda e: edited(e, vek=e.part("intermediate")), 9),
    ("trailing byte on leaf", lambda e: edited(e, vek=(e.part("vek") or b"") + b"\0"), 9),
    ("trailing byte on list", lambda e: edited(e, crl=(e.part("crl") or b"") + b"\0"), 9),
    ("short report", lambda e: edited(e, report=report_of(e)[:-1]), 1),
    ("long report", lambda e: edited(e, report=report_of(e) + b"\0"), 1),
    ("version 6", lambda e: edited(e, report=b"\6" + report_of(e)[1:]), 2),
    ("no signing key", lambda e: with_report(e, FLAGS + 2, FLAGS + 3, FLAGS + 4), 3),
    ("masked signing key", lambda e: with_report(e, FLAGS + 1), 3),
    ("unknown flag", lambda e: with_report(e, FLAGS + 5), 3),
    ("other algorithm", lambda e: with_report(e, 0x34 * 8 + 1), 3),
    ("zero signature", lambda e: edited(e, report=report_of(e)[:0x2A0] + bytes(512)), 4),
    ("padded r", lambda e: with_report(e, 0x2D0 * 8), 4),
    ("smuggled tail", lambda e: with_report(e, 0x49F * 8), 4),
    ("reserved byte", lambda e: with_report(e, 0x208 * 8), 4),
    ("reserved TCB byte", lambda e: with_report(e, 0x3A * 8), 4),
    ("masked chip", lambda e: edited(e, report=report_of(e)[:0x1A0] + bytes(64) + report_of(e)[0x1E0:]), 13),
    ("other chip", lambda e: with_report(e, 0x1A0 * 8), 13),
    ("flipped signature", lambda e: with_report(e, 0x2A0 * 8), 11),
]


@pytest.mark.parametrize(("edit", "number"), [case[1:] for case in PARTS], ids=[case[0] for case in PARTS])
def test_swapped_or_edited_parts_are_refused_for_their_reason(
    edit: Callable[[Evidence], Evidence], number: int
) -> None:
    vendor = vendor_chain(VENDOR)
    verdict = check(edit(make_evidence(vendor, REPORT_DATA)), reference_values(vendor))
    assert failed(verdict) == [number], verdict.failures


def test_the_chain_is_judged_at_the_time_given() -> None:
    vendor = vendor_chain(VENDOR)
    evidence, values = make_evidence(vendor, REPORT_DATA), reference_values(vendor)
    cache = ChainCache()
    assert check(evidence, values, cache=cache).accepted
    for now, numbers in (
        (START - timedelta(days=1), [7, 10]),
        (START + timedelta(days=7 * 365 + 1), [7, 10]),
        (START + timedelta(days=7 * 365 - 1), []),
    ):
        for memory in (cache, None):
            assert failed(check(evidence, values, now=now, cache=memory)) == numbers


def test_a_naive_clock_is_a_fault_of_ours() -> None:
    vendor = vendor_chain(VENDOR)
    with pytest.raises(ValueError, match="naive"):
        check(make_evidence(vendor, REPORT_DATA), reference_values(vendor), now=datetime(2026, 6, 1))


def test_revocation_in_the_vendors_own_list() -> None:
    vendor = vendor_chain(VENDOR)
    revoked = vendor.make_crl(this_update=START, next_update=START + timedelta(days=365), revoked=(0x10001,))
    stale = vendor.make_crl(this_update=START, next_update=START + timedelta(days=1))
    future = vendor.make_crl(this_update=NOW + timedelta(days=1), next_update=NOW + timedelta(days=2))
    evidence = make_evidence(vendor, REPORT_DATA)
    for crl, required, warn in ((revoked, [10], [10]), (stale, [10], []), (future, [10], []), (None, [10], [])):
        other = edited(evidence, crl=crl)
        assert failed(check(other, reference_values(vendor))) == required
        verdict = check(other, reference_values(vendor, crl="warn"))
        assert failed(verdict) == warn
        assert verdict.checks[9].outcome is (Outcome.FAILED if warn else Outcome.NOT_APPLICABLE)


def test_kinds_do_not_mix() -> None:
    """A simulated anchor must never vouch for what calls itself real, nor a real one be asked about a simulation."""
    vendor = vendor_chain(VENDOR)
    simulated = make_evidence(vendor, REPORT_DATA)
    posing = Evidence(Kind.SNP, simulated.parts)
    real = replace(reference_values(vendor), trust_anchor=None, trust_anchor_spki=None)
    assert failed(check(posing, reference_values(vendor))) == [6]
    assert failed(check(simulated, real)) == [6]
    assert failed(check(posing, real)) == [6]
    assert check(posing, reference_values(vendor)).entry_index is None
    assert failed(check(simulated)) == [6]


def test_a_torn_tdx_quote_is_refused_in_words() -> None:
    tdx = TdxReferenceValues(platform="tdx", mr_td=bytes(48), mr_seam=bytes(48), rtmrs=(bytes(48),) * 4, xfam=bytes(8))
    verdict = check(Evidence.make(Kind.TDX, {"quote": b"\4\0"}), tdx)
    assert failed(verdict) == [1]
    assert verdict.checks[0].seen == "2 bytes"
    assert len(verdict.outcomes) == 27


def test_any_satisfied_entry_is_enough() -> None:
    vendor = vendor_chain(VENDOR)
    wrong = reference_values(vendor, measurement=b"\1" * 48)
    right = reference_values(vendor)
    assert check(make_evidence(vendor, REPORT_DATA), wrong, wrong, right).entry_index == 2


def test_the_nearest_entry_explains_a_refusal() -> None:
    vendor = vendor_chain(VENDOR)
    far = reference_values(vendor, measurement=b"\1" * 48, vmpl=2)
    near = reference_values(vendor, measurement=b"\1" * 48)
    nearest = reference_values(vendor, trust_anchor=b"\1" * 32)
    evidence = make_evidence(vendor, REPORT_DATA)
    assert check(evidence, far, near).entry_index == 1
    assert check(evidence, far, near, nearest).entry_index == 2


def test_a_masked_chip_is_accepted_where_allowed() -> None:
    vendor = vendor_chain(VENDOR)
    masked = replace(vendor, chip=replace(vendor.chip, chip_id=bytes(64)))
    evidence = make_evidence(masked, REPORT_DATA)
    assert failed(check(evidence, reference_values(vendor))) == [13]
    assert check(evidence, reference_values(vendor, allow_masked_chip_id=True)).accepted


def test_a_vlek_needs_a_named_provider() -> None:
    vendor = vendor_chain(VENDOR, EndorsementKind.VLEK)
    evidence = make_evidence(vendor, REPORT_DATA)
    assert failed(check(evidence, reference_values(vendor, allowed_providers=()))) == [13]
    assert failed(check(evidence, reference_values(vendor, allowed_providers=("CN=else",)))) == [13]


def test_a_vlek_does_not_pass_for_a_vcek() -> None:
    vcek, vlek = vendor_chain(VENDOR), vendor_chain(VENDOR, EndorsementKind.VLEK)
    evidence = make_evidence(vlek, REPORT_DATA)
    report = flipped(evidence.part("report") or b"", 0x48 * 8 + 2)
    entry = reference_values(vlek, allowed_providers=("CN=cc-simulated.contrast.invalid",))
    assert failed(check(edited(evidence, report=report), entry)) == [8]
    other = edited(make_evidence(vcek, REPORT_DATA), vek=vlek.chip.certificate, intermediate=vlek.intermediate)
    assert 8 in failed(check(other, reference_values(vcek)))


def test_a_warm_cache_changes_no_outcome_and_skips_rsa(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = vendor_chain(VENDOR)
    values, cache = reference_values(vendor), ChainCache()
    evidence = make_evidence(vendor, REPORT_DATA)
    cold = check(evidence, values, cache=cache)
    assert len(cache) == 1

    def costly(*_: object) -> None:
        raise AssertionError("the chain was verified again")

    monkeypatch.setattr(endorsed, "parse_chain", costly)
    monkeypatch.setattr(endorsed, "link_fault", costly)
    warm = check(evidence, values, cache=cache)
    assert warm.json() == cold.json()
    broken = edited(evidence, report=flipped(evidence.part("report") or b"", 0x2A0 * 8))
    assert failed(check(broken, values, cache=cache)) == [11]


def test_only_trusted_and_whole_chains_are_remembered() -> None:
    vendor, other = vendor_chain(VENDOR), vendor_chain(VENDOR, name="other")
    cache = ChainCache()
    check(make_evidence(other, REPORT_DATA), reference_values(vendor), cache=cache)
    check(make_evidence(other, REPORT_DATA), reference_values(vendor), cache=cache, thorough=True)
    check(edited(make_evidence(vendor, REPORT_DATA), crl=other.crl), reference_values(vendor), cache=cache)
    check(
        edited(make_evidence(vendor, REPORT_DATA), intermediate=other.intermediate),
        reference_values(vendor),
        cache=cache,
    )
    assert len(cache) == 0


def test_a_cached_chain_is_no_anchor() -> None:
    """What one manifest trusts must not leak into the judgement by another."""
    vendor, cache = vendor_chain(VENDOR), ChainCache()
    evidence = make_evidence(vendor, REPORT_DATA)
    assert check(evidence, reference_values(vendor), cache=cache).accepted
    assert failed(check(evidence, reference_values(vendor, trust_anchor=b"\1" * 32), cache=cache)) == [6]


def test_the_cache_is_bounded() -> None:
    vendor, cache = vendor_chain(VENDOR), ChainCache(capacity=2)
    for day in range(4):
        crl = vendor.make_crl(this_update=START, next_update=NOW + timedelta(days=1 + day))
        assert check(
            edited(make_evidence(vendor, REPORT_DATA), crl=crl), reference_values(vendor), cache=cache
        ).accepted
    assert len(cache) == 2


def test_a_verdict_is_the_same_bytes_every_time() -> None:
    vendor = vendor_chain(VENDOR)
    evidence, values = make_evidence(vendor, REPORT_DATA), reference_values(vendor)
    first, second = check(evidence, values), check(evidence, values)
    assert first.json() == second.json()
    assert first == second
    document = json.loads(first.json())
    assert list(document) == ["kind", "rules", "accepted", "checks", "claims"]
    assert [entry["number"] for entry in document["checks"]] == list(range(1, 28))
    assert [entry["name"] for entry in document["checks"]] == list(CHECK_NAMES)
    assert {tuple(entry) for entry in document["checks"]} == {("number", "name", "outcome", "seen", "wanted")}
    assert len(first.outcomes) == verdicts.CHECK_COUNT


def test_an_accepted_verdict_does_not_depend_on_the_minute_of_judgement() -> None:
    """The Coordinator judges, then writes; an audit judges at the written time and must get the same bytes."""
    vendor = vendor_chain(VENDOR)
    evidence, values = make_evidence(vendor, REPORT_DATA), reference_values(vendor)
    later = check(evidence, values, now=NOW + timedelta(hours=5))
    assert later.json() == check(evidence, values).json()
    refused = check(evidence, values, now=START - timedelta(days=1))
    assert "2025-12-31T00:00Z" in refused.checks[6].wanted


def test_every_check_can_be_read_by_a_person() -> None:
    vendor = vendor_chain(VENDOR)
    for verdict in (
        check(make_evidence(vendor, REPORT_DATA), reference_values(vendor)),
        check(make_evidence(vendor, b"\1" * 64), reference_values(vendor), thorough=True),
    ):
        for entry in verdict.checks:
            assert entry.seen
            assert len(entry.seen) + len(entry.wanted) < 600
            assert entry.wanted or entry.outcome is Outcome.NOT_APPLICABLE


def test_claims_name_no_machine() -> None:
    vendor = vendor_chain(VENDOR)
    evidence = make_evidence(vendor, REPORT_DATA)
    claims = check(evidence, reference_values(vendor)).claims
    assert claims is not None
    text = claims.json().decode()
    assert vendor.chip.chip_id.hex() not in text
    assert (evidence.part("report") or b"")[0x140:0x160].hex() not in text
    assert REPORT_DATA.hex() not in text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert json.loads(text)["measurement"] == MEASUREMENT.hex()


def test_every_sampled_bit_of_the_signed_part_counts() -> None:
    """A bit that nothing protects is a bit that the host chooses."""
    vendor = vendor_chain(VENDOR)
    evidence, values, cache = make_evidence(vendor, REPORT_DATA), reference_values(vendor), ChainCache()
    report = evidence.part("report") or b""
    assert check(evidence, values, cache=cache).accepted
    for bit in range(3, 0x2A0 * 8, 13):  # 13 is odd, so that every position in a byte is sampled.
        verdict = check(edited(evidence, report=flipped(report, bit)), values, cache=cache)
        assert not verdict.accepted, f"bit {bit}"


def test_every_sampled_bit_of_signature_and_certificates_counts() -> None:
    vendor = vendor_chain(VENDOR)
    evidence, values = make_evidence(vendor, REPORT_DATA), reference_values(vendor)
    for role, data in evidence.parts:
        start = 0x2A0 * 8 if role == "report" else 0
        for bit in range(start, len(data) * 8, 151):
            assert not check(edited(evidence, **{role: flipped(data, bit)}), values).accepted, f"{role} bit {bit}"


HOSTILE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ROLES = ["report", "vek", "intermediate", "root", "crl"]


@HOSTILE
@given(parts=st.dictionaries(st.sampled_from(ROLES), st.binary(min_size=1, max_size=1500)))
def test_no_bytes_make_the_judge_raise(parts: dict[str, bytes]) -> None:
    vendor = vendor_chain(VENDOR)
    evidence = Evidence.make(Kind.SIMULATED, {"report": bytes(1184), **parts})
    for thorough in (False, True):
        verdict = check(evidence, reference_values(vendor), thorough=thorough)
        assert not verdict.accepted
        assert json.loads(verdict.json())["accepted"] is False
        assert "broke off" not in verdict.checks[26].seen


@HOSTILE
@given(data=st.data())
def test_no_edit_of_genuine_evidence_makes_the_judge_raise_or_accept(data: st.DataObject) -> None:
    """Edited headers, lengths and fields reach deeper than random bytes do."""
    vendor = vendor_chain(VENDOR)
    evidence = make_evidence(vendor, REPORT_DATA)
    role = data.draw(st.sampled_from(ROLES))
    original = evidence.part(role) or b""
    at = data.draw(st.integers(0, len(original) - 1))
    chunk = data.draw(st.binary(min_size=0, max_size=12))
    until = data.draw(st.integers(at, min(len(original), at + 12)))
    changed = original[:at] + chunk + original[until:]
    if changed in (original, b""):
        return
    verdict = check(edited(evidence, **{role: changed}), reference_values(vendor), thorough=True)
    assert not verdict.accepted
    assert json.loads(verdict.json())["accepted"] is False
    assert "broke off" not in verdict.checks[26].seen


def test_a_fault_of_ours_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """(27) Whatever breaks inside must never pass a report."""

    def broken(*_: object) -> bool:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(endorsed.Endorsements, "signature_holds", broken)
    vendor = vendor_chain(VENDOR)
    verdict = check(make_evidence(vendor, REPORT_DATA), reference_values(vendor))
    assert not verdict.accepted
    assert verdict.checks[26].seen == "the checks broke off: RuntimeError"


def test_an_aware_clock_of_another_zone_is_the_same_moment() -> None:
    vendor = vendor_chain(VENDOR)
    evidence: Evidence = make_evidence(vendor, REPORT_DATA)
    values: SnpReferenceValues = reference_values(vendor)
    zone = NOW.astimezone(datetime.now(UTC).astimezone().tzinfo)
    assert check(evidence, values, now=zone).outcomes == check(evidence, values).outcomes
