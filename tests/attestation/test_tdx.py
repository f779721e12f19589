"""Every published TDX quote: what is genuine and fit is accepted, everything else refused for its own reason."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest

from attestation.errors import CollateralError, QuoteError
from attestation.evidence import Evidence, Kind, binding_of, host_data_of
from attestation.judge import ChainCache, judge
from attestation.reference import TDX_STATUSES, ReferenceValues
from attestation.tdx.collateral import parse_collateral
from attestation.tdx.pck import INTEL_ROOT
from attestation.tdx.quote import parse_quote
from attestation.verdict import Outcome, TdxClaims, Verdict
from tests.support.tdx_vectors import Published, find_quote, published_quotes, with_chain, written

GOOD = "v5-td15-90c06f000000-go-tdx-guest-cf77a6e9"
GOOD_COLLATERAL, GOOD_NOW = "phala_outdated", 1772707803
OLD = "v4-td10-00806f050000-go-tdx-guest-00b2526a"
OLD_COLLATERAL, OLD_NOW = "fb_gcp", 1784102583
AHEAD_OF_COLLATERAL = "No matching TCB level found"


def failed(verdict: Verdict) -> list[int]:
    """Numbers of the failed checks but the last, which only sums up."""
    return [check.number for check in verdict.failures if check.number != 27]


def refused_for(verdict: Verdict, *numbers: int) -> None:
    assert not verdict.accepted
    assert verdict.claims is None
    assert failed(verdict) == list(numbers), verdict.failures


def opinions(quote: Published) -> list[tuple[str, dict[str, Any]]]:
    folder = quote.folder / "collateral"
    return [(name, said) for name, said in quote.opinions.items() if (folder / f"{name}.json").exists()]


def test_every_quote_is_judged_as_it_deserves_with_every_collateral(vectors: Path) -> None:
    """The published opinion names the status; what the entry makes of it, and why a quote is refused, is ours."""
    accepted = set()
    for quote in published_quotes(vectors):
        for name, said in opinions(quote):
            verdict = quote.judge(name, said["now"])
            where = (quote.name, name, verdict.failures)
            assert verdict.accepted == (said["result"] == "ok"), where
            if verdict.accepted:
                accepted.add(quote.name)
                assert isinstance(verdict.claims, TdxClaims)
                assert verdict.claims.tcb_status == said["status"], where
                assert list(verdict.claims.advisories) == said["advisories"], where
                assert verdict.claims.host_data == quote.parsed.host_data
                continue
            error = said["error"]
            if "certificate chain" in error:
                assert 7 in failed(verdict), where
            elif AHEAD_OF_COLLATERAL in error:
                assert 12 in failed(verdict), where
            elif "SEPT_VE_DISABLE" in error or "Debug" in error:
                assert 18 in failed(verdict), where
            elif "service TD" in error:
                assert failed(verdict) == [18, 22], where
            else:
                assert failed(verdict) == [11], where
    assert len(accepted) >= 12


def test_every_broken_quote_is_refused_for_what_is_broken(vectors: Path) -> None:
    """Three signatures that do not hold, two quotes under Intel's root from before production."""
    broken = [quote for quote in published_quotes(vectors) if not quote.facts["quote_sig"]]
    assert len(broken) == 3
    for quote in broken:
        verdict = quote.judge(None, GOOD_NOW)
        assert 11 in failed(verdict)
        assert verdict.checks[10].seen == "the quote's signature does not hold"
    early = [quote for quote in published_quotes(vectors) if "pre-production" in quote.facts["notes"]]
    assert len(early) == 2
    for quote in early:
        verdict = quote.judge(None, GOOD_NOW)
        assert 6 in failed(verdict)
        assert "e3f49e85" in verdict.checks[5].seen
        assert INTEL_ROOT.hex() in verdict.checks[5].wanted


def test_genuine_quotes_that_dcap_qvl_does_not_judge_are_refused_plainly(vectors: Path) -> None:
    """Mostly Azure's paravisor guests: genuine by our own arithmetic, refused all the same; the verdict says both."""
    refused = [quote for quote in published_quotes(vectors) if "hard-refuses" in quote.facts["notes"]]
    assert len(refused) >= 7
    for quote in refused:
        for name, said in opinions(quote):
            verdict = quote.judge(name, said["now"])
            assert {18, 22} & set(failed(verdict))
            assert 11 not in failed(verdict)
            assert "signatures of quote and quoting enclave hold" in verdict.checks[10].seen
            text = verdict.checks[17].seen + verdict.checks[21].wanted
            assert "genuine or not" in text


def test_every_field_is_read_as_published(vectors: Path) -> None:
    for quote in published_quotes(vectors):
        parsed, facts = quote.parsed, quote.facts
        assert parsed.version == facts["version"]
        assert parsed.body == {"td10": "TD 1.0", "td15": "TD 1.5"}[facts["body"]]
        assert parsed.td_attributes.to_bytes(8, "little").hex() == facts["td_attributes"]
        assert parsed.xfam.hex() == facts["xfam"]
        assert parsed.tee_tcb_svn.hex() == facts["tee_tcb_svn"]
        assert parsed.mr_seam.hex() == facts["mr_seam"]
        assert parsed.mr_td.hex() == facts["mr_td"]
        assert parsed.mr_config_id.hex() == facts["mr_config_id"]
        assert parsed.report_data.hex() == facts["report_data"]
        evidence = quote.evidence(None)
        assert binding_of(evidence) == parsed.report_data
        assert host_data_of(evidence) == parsed.host_data


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"x" * 40], ids=["zero", "newline", "text"])
def test_bytes_behind_a_quote_are_refused_though_the_library_takes_them(vectors: Path, tail: bytes) -> None:
    quote = find_quote(vectors, GOOD)
    collateral = parse_collateral(quote.collateral(GOOD_COLLATERAL)).library
    assert dcap_qvl.verify(quote.raw + tail, collateral, GOOD_NOW).status == "UpToDate"
    refused_for(quote.judge(GOOD_COLLATERAL, GOOD_NOW, raw=quote.raw + tail), 1)


def test_every_shortened_quote_is_refused(vectors: Path) -> None:
    quote = find_quote(vectors, GOOD)
    for size in range(0, len(quote.raw), 7):
        with pytest.raises(QuoteError):
            parse_quote(quote.raw[:size])


def test_a_chain_in_the_collateral_does_not_replace_the_quotes_own(vectors: Path) -> None:
    """dcap-qvl would judge this quote, whose PCK certificate is gone, by the chain that the collateral brings."""
    quote, other = find_quote(vectors, "attestation-rs-3ab56d67"), find_quote(vectors, "mpc-b9e238b2")
    now = quote.opinions["near"]["now"]
    fields = json.loads(quote.collateral("near"))
    assert "pck_certificate_chain" in fields
    fields["pck_certificate_chain"] = other.parsed.chain_pem.decode().rstrip("\0")
    verdict = quote.judge(json.dumps(fields).encode(), now)
    assert verdict.accepted
    assert (
        verdict.checks[11].seen == "status OutOfDate"
    )  # Its own platform's, not the other one's, which is up to date.


SPELLINGS: dict[str, dict[str, Any]] = {
    "with CRLF": {"eol": "\r\n", "tail": "\r\n"},
    "with CRLF and a zero": {"eol": "\r\n", "tail": "\r\n\0"},
    "in lines of 76": {"width": 76},
    "in one line each": {"width": 0},
    "without a last line end": {"tail": ""},
    "padded to eight bytes": {"tail": "\n" + "\0" * 7},
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_certificates_in_a_quote_may_be_written_in_any_one_way(vectors: Path, spelling: dict[str, Any]) -> None:
    """Another vendor's quoting service writes PEM as its own library does; the certificates are the same."""
    quote = find_quote(vectors, GOOD)
    raw = with_chain(quote.parsed, written(quote.parsed.certificates, **spelling))
    assert raw != quote.raw
    assert parse_quote(raw).certificates == quote.parsed.certificates
    assert quote.judge(GOOD_COLLATERAL, GOOD_NOW, raw=raw).accepted


def test_a_mixture_of_spellings_is_none(vectors: Path) -> None:
    """Else unsigned bytes of a quote could say anything; all that they say follows from the certificates."""
    quote = find_quote(vectors, GOOD).parsed
    pem, crlf = written(quote.certificates), written(quote.certificates, eol="\r\n", tail="\r\n")
    texts = [
        pem.replace(b"\n", b"\r\n", 1),
        crlf.replace(b"\r\n", b"\n", 1),
        pem.replace(b"\n", b"\n\n", 1),
        pem.replace(b"\n", b" \n", 1),
        pem.replace(b"-----END", b"\n-----END", 1),
        pem + b"\n",
        b"\n" + pem,
        pem + bytes(9),
        pem + b"\0\n",
        pem + b"\0x",
        pem.replace(b"\n", b"\r"),
        written(quote.certificates[:2]) + written(quote.certificates[2:], width=76),
        written(quote.certificates[:2]),
        written((*quote.certificates, quote.certificates[2])),
    ]
    for text in texts:
        with pytest.raises(QuoteError):
            parse_quote(with_chain(quote, text))


def test_the_library_calls_out_of_date_verified_and_the_entry_does_not(vectors: Path) -> None:
    quote = find_quote(vectors, OLD)
    verdict = quote.judge(OLD_COLLATERAL, OLD_NOW, quote.values(allowed_tcb_statuses=("UpToDate",)))
    refused_for(verdict, 12)
    assert verdict.checks[11].seen == "status OutOfDate"
    assert quote.judge(OLD_COLLATERAL, OLD_NOW, quote.values(allowed_tcb_statuses=("OutOfDate",))).accepted


def test_a_grace_period_runs_from_the_date_of_the_level_that_superseded(vectors: Path) -> None:
    quote = find_quote(vectors, OLD)
    strict = {"allowed_tcb_statuses": ("UpToDate",)}
    verdict = quote.judge(OLD_COLLATERAL, OLD_NOW, quote.values(**strict, grace_period_days=1))
    refused_for(verdict, 12)
    dated = datetime.fromisoformat(verdict.checks[11].seen.rpartition(" ")[2]).replace(tzinfo=UTC)
    age = (datetime.fromtimestamp(OLD_NOW, UTC) - dated).days
    assert quote.judge(OLD_COLLATERAL, OLD_NOW, quote.values(**strict, grace_period_days=age + 1)).accepted
    refused_for(quote.judge(OLD_COLLATERAL, OLD_NOW, quote.values(**strict, grace_period_days=age - 1)), 12)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"mr_td": bytes(48)}, 21),
        ({"mr_seam": bytes(48)}, 21),
        ({"rtmrs": (b"\1" * 48,) * 4}, 21),
        ({"xfam": bytes(8)}, 21),
        ({"minimum_tcb_evaluation_data_number": 99}, 15),
        ({"allowed_piids": (bytes(16),)}, 26),
        ({"memory_integrity": True}, 19),
        ({"distrusted": True}, 16),
    ],
)
def test_each_value_is_asked_for(vectors: Path, changes: dict[str, Any], check: int) -> None:
    quote = find_quote(vectors, GOOD)
    refused_for(quote.judge(GOOD_COLLATERAL, GOOD_NOW, quote.values(**changes)), check)


def test_a_platform_is_known_by_its_instance_id(vectors: Path) -> None:
    quote = find_quote(vectors, GOOD)
    seen = quote.judge(GOOD_COLLATERAL, GOOD_NOW).checks[25].seen
    instance = bytes.fromhex(seen.rpartition(" ")[2])
    assert quote.judge(GOOD_COLLATERAL, GOOD_NOW, quote.values(allowed_piids=(instance,))).accepted
    refused_for(quote.judge(GOOD_COLLATERAL, GOOD_NOW, quote.values(denied_piids=(instance,))), 16)


def test_an_advisory_can_be_enough_to_refuse(vectors: Path) -> None:
    quote = find_quote(vectors, OLD)
    refused_for(quote.judge(OLD_COLLATERAL, OLD_NOW, quote.values(rejected_advisories=("INTEL-SA-01036",))), 17)
    assert quote.judge(OLD_COLLATERAL, OLD_NOW, quote.values(rejected_advisories=("INTEL-SA-99999",))).accepted


def test_stale_and_future_collateral_is_refused(vectors: Path) -> None:
    quote = find_quote(vectors, GOOD)
    assert 14 in failed(quote.judge(GOOD_COLLATERAL, GOOD_NOW + 40 * 86_400))
    assert 14 in failed(quote.judge(GOOD_COLLATERAL, GOOD_NOW - 40 * 86_400))


def test_collateral_of_another_platform_is_refused(vectors: Path) -> None:
    quote = find_quote(vectors, GOOD)
    assert 5 in failed(quote.judge(OLD_COLLATERAL, OLD_NOW))


def test_a_foreign_policy_and_a_foreign_exchange_are_refused(vectors: Path) -> None:
    quote = find_quote(vectors, GOOD)
    evidence = quote.evidence(quote.collateral(GOOD_COLLATERAL))
    now = datetime.fromtimestamp(GOOD_NOW, UTC)
    parsed = quote.parsed
    for report_data, host_data, check in (
        (bytes(64), {parsed.host_data}, 25),
        (parsed.report_data, {b"\1" * 32}, 24),
    ):
        verdict = judge(evidence, [quote.values()], report_data=report_data, host_data=host_data, now=now)
        refused_for(verdict, check)
        assert verdict.checks[10].outcome is Outcome.NOT_APPLICABLE  # Cheap checks come first.


def test_an_edited_document_is_refused(vectors: Path) -> None:
    """An evaluation number that flatters: the signature of Intel's document no longer holds."""
    quote = find_quote(vectors, GOOD)
    raw = quote.collateral(GOOD_COLLATERAL)
    edited = raw.replace(b'\\"tcbEvaluationDataNumber\\":18', b'\\"tcbEvaluationDataNumber\\":98')
    assert edited != raw
    verdict = quote.judge(edited, GOOD_NOW)
    assert not verdict.accepted
    assert {7, 10, 11} & set(failed(verdict))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b'{"a":1,"a":2}',
        b"[" * 5000,
        b'{"x":' * 900 + b"1" + b"}" * 900,
        b'{"tcb_info":1}',
    ],
    ids=["empty", "none", "array", "bytes", "doubled", "brackets", "deep", "number"],
)
def test_collateral_of_another_shape_is_refused(raw: bytes) -> None:
    with pytest.raises(CollateralError):
        parse_collateral(raw)


def test_tdx_beside_snp_entries_finds_its_own(vectors: Path) -> None:
    """Verdicts name the entry; a manifest with both kinds of node works."""
    from tests.support.snp_vectors import find  # noqa: PLC0415 the other half of the vectors

    quote, report = find_quote(vectors, GOOD), find(vectors, "20")
    values: list[ReferenceValues] = [report.values(), quote.values(mr_td=bytes(48)), quote.values()]
    verdict = judge(
        quote.evidence(quote.collateral(GOOD_COLLATERAL)),
        values,
        report_data=quote.parsed.report_data,
        host_data={quote.parsed.host_data},
        now=datetime.fromtimestamp(GOOD_NOW, UTC),
    )
    assert verdict.accepted
    assert verdict.entry_index == 2
    other = judge(
        report.evidence(),
        values,
        report_data=report.parsed.report_data,
        host_data={report.parsed.host_data},
        now=report.clock,
    )
    assert other.accepted
    assert other.entry_index == 0


def test_a_verdict_is_the_same_with_and_without_a_cache(vectors: Path) -> None:
    quote, cache = find_quote(vectors, GOOD), ChainCache()
    first = quote.judge(GOOD_COLLATERAL, GOOD_NOW, thorough=False, cache=cache)
    assert len(cache.collaterals) == len(cache.platforms) == 1
    again = quote.judge(GOOD_COLLATERAL, GOOD_NOW, thorough=False, cache=cache)
    later = quote.judge(GOOD_COLLATERAL, GOOD_NOW + 3600, thorough=False)
    assert first.json() == again.json() == later.json()
    assert len(first.outcomes) == 27


def test_no_identifier_of_a_machine_gets_into_claims(vectors: Path) -> None:
    quote = find_quote(vectors, GOOD)
    verdict = quote.judge(GOOD_COLLATERAL, GOOD_NOW)
    assert verdict.claims is not None
    instance = verdict.checks[25].seen.rpartition(" ")[2]
    assert len(instance) == 32
    assert instance not in verdict.claims.json().decode()
    assert set(TDX_STATUSES) >= {verdict.claims.as_dict()["tcb_status"]}


def test_evidence_without_entries_for_it_is_refused(vectors: Path) -> None:
    quote = find_quote(vectors, GOOD)
    evidence = Evidence.make(Kind.TDX, {"quote": quote.raw})
    verdict = judge(evidence, [], report_data=bytes(64), host_data=set(), now=datetime(2026, 1, 1, tzinfo=UTC))
    assert failed(verdict) == [6]
