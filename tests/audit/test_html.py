"""The audit's page is read by people who decide by it: a stranger's text must not become part of what it says."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from audit.cases import Knowledge
from audit.html import Facts, render
from audit.html_text import esc, when
from audit.replay import examine
from audit.report import Audit, Finding
from tests.support.dishonest import Ledger, honest_ledger

HOSTILE = "</code><script>alert(1)</script><img src=x onerror=alert(1)>'\"&\u202e\u0000\x1b[31m"


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def page(ledger: Ledger, result: Audit | None = None) -> str:
    source = ledger.source()
    facts = Facts(
        source=HOSTILE,
        made=datetime(2026, 11, 24, tzinfo=UTC),
        knowledge=Knowledge(at=datetime(2026, 11, 24, tzinfo=UTC)),
    )
    return render(result or examine(source).result, facts, source)


def test_text_of_strangers_is_shown_and_never_obeyed(honest: Ledger) -> None:
    result = examine(honest.source()).result
    activity = {digest: replace(each, sans=(HOSTILE,)) for digest, each in result.history.activity.items()}
    history = replace(result.history, activity=activity, refusals={HOSTILE: 3})
    findings = (Finding(seq=1, code=HOSTILE, text=HOSTILE), Finding(seq=None, code="x", text=HOSTILE, now=True))
    shown = page(honest, replace(result, history=history, findings=findings))
    assert "<script" not in shown
    assert "<img" not in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    assert "\\u202e" in shown
    assert "&lt;script&gt;" in shown
    assert not re.search(r"<[a-z]+[^>]*\son[a-z]+=", shown)


def test_the_page_tells_the_whole_history(honest: Ledger) -> None:
    shown = page(honest)
    assert shown.count("<article") == 2
    assert shown.count('class="closed"') == 1
    assert shown.count('class="open"') == 1
    assert 'class="recovery"' in shown
    assert "used at 1 recovery" in shown
    assert "Every decision follows" in shown
    assert "default-src 'none'" in shown


def test_the_page_of_a_simulated_platform_says_so_at_the_top(honest: Ledger) -> None:
    """Two green verdicts are handed on; a word in the list of manifests is not read."""
    assert "SIMULATED PLATFORM" in page(honest).partition("What was derived again")[0]


def test_a_ledger_that_breaks_off_has_a_page_too(honest: Ledger) -> None:
    """The page is wanted most when something is wrong."""
    broken = honest.changed(honest.find("manifest.set", 1), generation=7)
    source = broken.source()
    result = examine(source).result
    assert result.report is None
    facts = Facts(
        source="x", made=datetime(2026, 11, 24, tzinfo=UTC), knowledge=Knowledge(at=datetime(2026, 11, 24, tzinfo=UTC))
    )
    shown = render(result, facts, source)
    assert "Contradicted, first at entry" in shown
    assert "Not judged to the end" in shown


@pytest.mark.parametrize("value", [0, 2**63 - 1, 1_800_000_000_000])
def test_every_time_has_a_text(value: int) -> None:
    assert when(value)


@pytest.mark.parametrize(("text", "shown"), [("a<b", "a&lt;b"), ("\u2066x", "\\u2066x"), ("\x07", "\\x07"), ("ü", "ü")])
def test_what_could_steer_a_reader_is_shown(text: str, shown: str) -> None:
    assert esc(text) == shown
