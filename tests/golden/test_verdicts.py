"""Versions of the rules: what a released one decided is found again for ever, today's judges what is new.

If one of these fails, a release condemns old ledgers, or pardons them.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attestation.cache import ChainCache
from attestation.judge import judge
from attestation.rulebook import RULE_SETS, newest
from attestation.verdict import Outcome, Verdict
from audit.cases import Knowledge
from audit.replay import examine, replay
from coordinator.refusals import UnknownRulesError
from ledger.source import DirectorySource
from tests.golden import published
from tests.golden.verdicts import LEDGER, decided, decisions, questions
from tests.support.dishonest import Ledger, honest_ledger

FROZEN = Path(__file__).parent / "verdicts-v1.json"
PUBLISHED = Path(__file__).parent / "published-v1.json"


def test_version_1_decides_what_it_decided_when_it_was_released() -> None:
    frozen = json.loads(FROZEN.read_text())
    found = decisions(1)
    assert set(found) == set(frozen)
    assert {name: found[name] for name in found if found[name] != frozen[name]} == {}
    accepted = {name for name, each in frozen.items() if each["accepted"]}
    assert len(accepted) >= 6
    assert len(frozen) - len(accepted) > 60


def test_version_1_decides_the_same_about_real_hardware(vectors: Path) -> None:
    """Simulated evidence alone would not show a product, a status or a blob that is judged otherwise now."""
    frozen = json.loads(PUBLISHED.read_text())
    found = published.decisions(vectors, 1)
    assert set(found) == set(frozen)
    assert [name for name in found if found[name] != frozen[name]] == []
    for kind in ("snp", "tdx"):
        assert sum(name.startswith(kind) and word.startswith("accepted") for name, word in frozen.items()) > 40
    for kind in ("snp", "tdx", "azure"):
        assert sum(name.startswith(kind) and word.startswith("refused") for name, word in frozen.items()) >= 9


def test_texts_may_be_worded_better_and_decisions_may_not_change() -> None:
    """The recorded verdicts of the golden ledger are those that its evidence gives now."""
    assert replay(DirectorySource(LEDGER)).ok


@pytest.fixture
def stricter(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A release to come, whose version 2 refuses what version 1 accepts."""

    def refuse(*arguments: Any, **more: Any) -> Verdict:
        verdict = RULE_SETS[1].snp(*arguments, **more)
        outcomes = bytearray(verdict.outcomes)
        outcomes[16] = outcomes[26] = Outcome.FAILED
        return replace(verdict, accepted=False, outcomes=bytes(outcomes), claims=None)

    monkeypatch.setitem(RULE_SETS, 2, replace(RULE_SETS[1], snp=refuse))
    yield 2
    assert newest() == 2


def test_a_ledger_is_judged_as_then_by_the_rules_of_then_and_as_now_by_todays(stricter: int) -> None:
    """Old decisions were right when they were made; whether they would be made again is another question."""
    knowledge = Knowledge(at=datetime(2026, 11, 25, tzinfo=UTC))
    result = examine(DirectorySource(LEDGER), knowledge=knowledge).result
    assert not result.contradictions
    assert not result.unproven
    assert result.report is not None
    refused = [finding.about for finding in result.refused_now]
    assert refused.count("attestation.accepted") == result.tallies["attestation.accepted"].seen
    assert refused.count("epoch.opened") == result.tallies["epoch.opened"].seen
    assert stricter == newest()


def test_a_memory_of_one_version_is_not_anothers(stricter: int) -> None:
    """What is remembered of a report that passed would let it pass the stricter rules."""
    cache = ChainCache()
    name, (evidence, values, arguments) = next(iter(questions()))
    for _ in range(2):
        assert judge(evidence, values, **arguments, cache=cache, rules=1).accepted, name
        today = judge(evidence, values, **arguments, cache=cache)
        assert not today.accepted
        assert decided(today)["rules"] == stricter


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


@pytest.mark.parametrize("kind", ["attestation.accepted", "epoch.opened"])
def test_rules_of_a_newer_release_are_unproven_and_never_judged_by_older_ones(honest: Ledger, kind: str) -> None:
    seq = honest.find(kind)
    ledger = honest.changed(seq, rules=2)
    with pytest.raises(UnknownRulesError, match="version 2 of the rules, this program knows 1 to 1"):
        replay(ledger.source())
    result = examine(ledger.source()).result
    assert not result.contradictions
    assert result.broken is not None
    assert (result.broken.seq, result.broken.code, result.broken.proven_wrong) == (seq, "unknown_rules", False)


def test_a_verdict_of_a_version_that_the_event_does_not_name_is_found(honest: Ledger) -> None:
    """Else a Coordinator could judge by one version and record another."""
    event: Any = honest.written[honest.find("attestation.accepted")].event
    verdict = honest.blobs[event.verdict].replace(b'"rules":1', b'"rules":2')
    ledger = honest.with_blob(verdict).changed(
        honest.find("attestation.accepted"), verdict=hashlib.sha256(verdict).digest()
    )
    with pytest.raises(Exception, match="verdict recorded is not the one found"):
        replay(ledger.source())
