"""A report that is like one accepted before: a shorter way to the same verdict, byte for byte, and to no other."""

from collections.abc import Container, Hashable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.cache import Recent
from attestation.evidence import Evidence, Kind
from attestation.judge import ChainCache, judge
from attestation.reference import TDX_STATUSES, SnpReferenceValues, TdxReferenceValues
from attestation.snp import verify as snp_verify
from attestation.snp.report import REPORT_SIZE
from attestation.snp.standing import Standing, likeness
from attestation.tdx import verify as tdx_verify
from attestation.verdict import Verdict
from tests.support.tdx_intel import TdxGuest, made_up_intel, trusting
from tests.support.tdx_quotes import Body
from tests.support.tdx_vectors import Published, find_quote
from tests.support.vendor import HOST_DATA, NOW, launch, reference_values, vendor_chain

BINDINGS = (b"\x11" * 64, b"\x22" * 64)
VENDOR = vendor_chain("Milan")
GUEST = launch(VENDOR)
VALUES = reference_values(VENDOR)


class Question:
    """One judgement, and the same without anything remembered."""

    def __init__(self, cache: ChainCache) -> None:
        self.cache = cache

    def ask(
        self,
        evidence: Evidence,
        values: SnpReferenceValues = VALUES,
        *,
        report_data: bytes = BINDINGS[0],
        host_data: Container[bytes] = frozenset({HOST_DATA}),
        now: datetime = NOW,
    ) -> Verdict:
        """The verdict with what is remembered, after demanding that it is the one without."""
        arguments: dict[str, Any] = {"report_data": report_data, "host_data": host_data, "now": now}
        remembered = judge(evidence, (values,), cache=self.cache, **arguments)
        anew = judge(evidence, (values,), **arguments)
        assert remembered.json() == anew.json()
        assert remembered == anew
        assert remembered.claims == anew.claims
        return remembered


@pytest.fixture
def question() -> Question:
    """What has been accepted: one report, so that its like take the shorter way."""
    question = Question(ChainCache())
    assert question.ask(GUEST.evidence(BINDINGS[0])).accepted
    assert len(question.cache.standings) == 1
    return question


def with_report(evidence: Evidence, report: bytes) -> Evidence:
    return Evidence.make(evidence.kind, {**dict(evidence.parts), "report": report})


def test_a_report_for_another_exchange_is_judged_the_short_way(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this failed, the short way would not be taken and nothing below would test it."""
    calls: list[object] = []
    monkeypatch.setattr(snp_verify, "field_checks", calls.append)
    evidence = GUEST.evidence(BINDINGS[1])
    arguments: dict[str, Any] = {"report_data": BINDINGS[1], "host_data": {HOST_DATA}, "now": NOW}
    assert judge(evidence, (VALUES,), cache=question.cache, **arguments).accepted
    assert not calls
    assert len(question.cache.standings) == 1


def test_its_binding_policy_clock_and_signature_are_asked_again(question: Question) -> None:
    good = GUEST.evidence(BINDINGS[1])
    assert question.ask(good, report_data=BINDINGS[1]).accepted
    report = bytearray(good.part("report") or b"")
    report[0x2A0] ^= 1
    for number, verdict in (
        (25, question.ask(good)),
        (24, question.ask(good, report_data=BINDINGS[1], host_data=())),
        (7, question.ask(good, report_data=BINDINGS[1], now=NOW + timedelta(days=9000))),
        (10, question.ask(good, report_data=BINDINGS[1], now=NOW + timedelta(days=9000))),
        (11, question.ask(with_report(good, bytes(report)), report_data=BINDINGS[1])),
    ):
        assert number in [check.number for check in verdict.failures]


def test_another_entry_is_another_question(question: Question) -> None:
    """Equal entries are not the same one: what is remembered goes by the very object that was judged by."""
    evidence = GUEST.evidence(BINDINGS[1])
    stricter = replace(VALUES, vmpl=1)
    assert question.ask(evidence, stricter, report_data=BINDINGS[1]).first_failure.number == 20  # type: ignore[union-attr]
    distrusting = replace(VALUES, distrusted=True)
    assert question.ask(evidence, distrusting, report_data=BINDINGS[1]).first_failure.number == 16  # type: ignore[union-attr]
    assert question.ask(evidence, replace(VALUES), report_data=BINDINGS[1]).accepted


def test_another_chain_is_another_question(question: Question) -> None:
    other = launch(vendor_chain("Milan", name="other")).evidence(BINDINGS[0])
    mixed = Evidence.make(
        Kind.SIMULATED, {**dict(other.parts), "report": GUEST.evidence(BINDINGS[0]).part("report") or b""}
    )
    assert not question.ask(mixed).accepted
    without = {role: data for role, data in GUEST.evidence(BINDINGS[0]).parts if role != "crl"}
    assert [check.number for check in question.ask(Evidence.make(Kind.SIMULATED, without)).failures] == [10, 27]


def test_nothing_of_a_refused_report_is_remembered() -> None:
    question = Question(ChainCache())
    assert not question.ask(GUEST.evidence(BINDINGS[1])).accepted
    assert not len(question.cache.standings)


class Kept(Recent[Standing]):
    """A memory that shows what was put into it last."""

    last: Standing

    def put(self, key: Hashable, value: Standing) -> None:
        super().put(key, value)
        self.last = value


def test_what_is_remembered_leaves_open_whatever_belongs_to_an_exchange() -> None:
    question, kept = Question(ChainCache()), Kept()
    question.cache.standings = kept
    assert question.ask(GUEST.evidence(BINDINGS[0])).accepted
    standing = kept.last
    assert standing.values is VALUES
    assert BINDINGS[0].hex() not in [text() if callable(text) else text for text, _ in standing.texts_for(BINDINGS[1])]
    raw, left_out = bytes(REPORT_SIZE), ((0x50, 0x90), (0x140, 0x160), (0x2A0, 0x2D0), (0x2E8, 0x318))
    for start, stop in left_out:
        assert likeness(raw[:start] + b"\xff" * (stop - start) + raw[stop:]) == likeness(raw)
    assert len(likeness(raw)) == REPORT_SIZE - sum(stop - start for start, stop in left_out)


WARM = Question(ChainCache())
ENTRIES = (VALUES, replace(VALUES, vmpl=2), replace(VALUES, crl="warn"), replace(VALUES, allowed_chip_ids=(bytes(64),)))


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, REPORT_SIZE - 1), st.sampled_from((0x00, 0x01, 0x80, 0xFF, 0x04))), max_size=3
    ),
    bindings=st.tuples(st.sampled_from(BINDINGS), st.sampled_from(BINDINGS)),
    entry=st.sampled_from(ENTRIES),
    policies=st.sampled_from((frozenset({HOST_DATA}), frozenset())),
    days=st.sampled_from((0, 0, 0, 3000, -3000)),
)
def test_mutated_reports_get_the_verdict_that_they_get_without_a_memory(
    changes: list[tuple[int, int]],
    bindings: tuple[bytes, bytes],
    entry: SnpReferenceValues,
    policies: frozenset[bytes],
    days: int,
) -> None:
    """What is remembered would otherwise accept what is refused, or refuse in other words."""
    bound, expected = bindings
    evidence = GUEST.evidence(bound)
    WARM.ask(GUEST.evidence(BINDINGS[0]))  # Whatever else it has forgotten, this one is remembered.
    report = bytearray(evidence.part("report") or b"")
    for position, value in changes:
        report[position] ^= value
    WARM.ask(
        with_report(evidence, bytes(report)),
        entry,
        report_data=expected,
        host_data=policies,
        now=NOW + timedelta(days=days),
    )


@settings(max_examples=60, deadline=None)
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "guest_svn": st.integers(0, 3),
            "vmpl": st.integers(0, 3),
            "platform_info": st.sampled_from((0, 1, 0x25)),
            "host_data": st.sampled_from((HOST_DATA, bytes(32))),
        },
    ),
    binding=st.sampled_from(BINDINGS),
    entry=st.sampled_from(ENTRIES),
)
def test_signed_reports_of_unlike_guests_do_too(
    changes: dict[str, Any], binding: bytes, entry: SnpReferenceValues
) -> None:
    evidence = launch(VENDOR, **changes).evidence(binding)
    for _ in range(2):
        WARM.ask(evidence, entry, report_data=binding)


# --- Quotes

QUOTE_TIME = datetime.fromtimestamp(1772707803, UTC)


@pytest.fixture(scope="module")
def quote(vectors: Path) -> Published:
    """A published quote with collateral of its time."""
    return find_quote(vectors, "go-tdx-guest-cf77a6e9")


def judged_both_ways(
    quote: Published,
    cache: ChainCache,
    values: TdxReferenceValues,
    *,
    now: datetime = QUOTE_TIME,
    raw: bytes | None = None,
    **changed: Any,
) -> Verdict:
    parts = {"quote": quote.raw if raw is None else raw, "collateral": quote.collateral("phala_outdated")}
    arguments: dict[str, Any] = {
        "report_data": quote.parsed.report_data,
        "host_data": {quote.parsed.host_data},
        "now": now,
        **changed,
    }
    remembered = judge(Evidence.make(Kind.TDX, parts), (values,), cache=cache, **arguments)
    anew = judge(Evidence.make(Kind.TDX, parts), (values,), **arguments)
    assert remembered.json() == anew.json()
    assert remembered == anew
    return remembered


def test_a_quote_is_judged_the_short_way_and_its_exchange_asked_again(
    quote: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, values = ChainCache(), quote.values()
    assert judged_both_ways(quote, cache, values).accepted
    assert len(cache.quotes) == 1
    for number, changed in (
        (25, {"report_data": bytes(64)}),
        (24, {"host_data": ()}),
        (14, {"now": QUOTE_TIME + timedelta(days=400)}),
    ):
        verdict = judged_both_ways(quote, cache, values, **changed)
        assert number in [check.number for check in verdict.failures]
    assert judged_both_ways(quote, cache, replace(values, distrusted=True)).first_failure.number == 16  # type: ignore[union-attr]
    monkeypatch.setattr(tdx_verify, "field_checks", None)
    parts = {"quote": quote.raw, "collateral": quote.collateral("phala_outdated")}
    arguments: dict[str, Any] = {"report_data": quote.parsed.report_data, "host_data": {quote.parsed.host_data}}
    assert judge(Evidence.make(Kind.TDX, parts), (values,), cache=cache, now=QUOTE_TIME, **arguments).accepted


def test_a_quote_that_only_grace_lets_pass_is_never_remembered(vectors: Path) -> None:
    """Grace ends by the clock, which what is remembered does not know."""
    outdated = find_quote(vectors, "00806f050000-go-tdx-guest-00b2526a")
    collateral, opinion = next((name, said) for name, said in outdated.opinions.items() if said["result"] == "ok")
    for days, remembered in ((0, 1), (3650, 0)):
        values = outdated.values(
            grace_period_days=days, allowed_tcb_statuses=TDX_STATUSES if days == 0 else ("UpToDate",)
        )
        cache = ChainCache()
        assert outdated.judge(collateral, opinion["now"], values, thorough=False, cache=cache).accepted
        assert len(cache.quotes) == remembered


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 4000), value=st.sampled_from((0x01, 0x80, 0xFF)), days=st.sampled_from((0, 0, 400)))
def test_mutated_quotes_get_the_verdict_that_they_get_without_a_memory(
    quote: Published, position: int, value: int, days: int
) -> None:
    cache, values = QUOTE_CACHE
    raw = bytearray(quote.raw)
    raw[position % len(raw)] ^= value
    entry = values.setdefault("entry", quote.values())
    judged_both_ways(quote, cache, entry)
    judged_both_ways(quote, cache, entry, raw=bytes(raw), now=QUOTE_TIME + timedelta(days=days))


QUOTE_CACHE: tuple[ChainCache, dict[str, TdxReferenceValues]] = ChainCache(), {}


@settings(max_examples=60, deadline=None)
@given(
    binding=st.sampled_from(BINDINGS),
    expected=st.sampled_from(BINDINGS),
    policy=st.sampled_from((HOST_DATA, b"\x01" * 32)),
    framing=st.sampled_from(("v4", "td10", "td15")),
    attributes=st.sampled_from((1 << 28, 1 << 28 | 1 << 63)),
    days=st.sampled_from((0, 0, 0, 3000)),
)
def test_signed_quotes_of_like_and_unlike_guests_do_too(**drawn: Any) -> None:
    intel, now = made_up_intel(), NOW + timedelta(days=drawn["days"])
    body = Body(attributes=drawn["attributes"])
    guest = TdxGuest(intel, drawn["policy"], drawn["framing"], body=body)
    arguments: dict[str, Any] = {"report_data": drawn["expected"], "host_data": {HOST_DATA}, "now": now}
    evidence = guest.evidence(drawn["binding"])
    with trusting(intel):
        remembered = judge(evidence, (MADE_UP,), cache=WARM.cache, **arguments)
        assert remembered == judge(evidence, (MADE_UP,), **arguments)
    fits = drawn["binding"] == drawn["expected"] and drawn["policy"] == HOST_DATA
    assert remembered.accepted == (fits and not body.attributes >> 63 and not drawn["days"])


MADE_UP = made_up_intel().values()
