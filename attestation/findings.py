"""What checks found, under their numbers, and the verdict made of it; no check is made here."""

from collections.abc import Iterable
from typing import Final

from attestation.evidence import Kind
from attestation.verdict import CHECK_COUNT, RULES_VERSION, Check, Outcome, Text, Verdict

COMPLETE: Final = "no check failed, none that must pass left out"
_NOT_REACHED: Final[tuple[Text, Text]] = ("not reached: an earlier check failed", "")
# As plain numbers: looking a member up in its enumeration costs more than the check around it.
_PASSED, _FAILED = int(Outcome.PASSED), int(Outcome.FAILED)


class Findings:
    """The outcome of each check under its number, as the checks are made: one byte, and what was seen and wanted."""

    __slots__ = ("failures", "outcomes", "texts")

    def __init__(self) -> None:
        self.outcomes = bytearray(CHECK_COUNT)
        self.texts: list[tuple[Text, Text]] = [_NOT_REACHED] * CHECK_COUNT
        self.failures = 0

    def decide(self, number: int, passed: bool, seen: Text, wanted: Text) -> None:
        """Note that check *number* passed or failed; a failure noted before stands."""
        at = number - 1
        if self.texts[at] is not _NOT_REACHED and (passed or self.outcomes[at] == _FAILED):
            return
        if passed:
            self.outcomes[at] = _PASSED
        else:
            self.outcomes[at] = _FAILED
            self.failures += 1
        self.texts[at] = (seen, wanted)

    def skip(self, number: int, seen: Text, wanted: Text) -> None:
        """Note that check *number* does not apply, or was not asked for; what was noted before stands."""
        if self.texts[number - 1] is _NOT_REACHED:
            self.texts[number - 1] = (seen, wanted)

    def forget(self, number: int) -> None:
        """Take back what was noted of check *number*, which passed or was skipped: it is decided anew."""
        self.outcomes[number - 1] = 0
        self.texts[number - 1] = _NOT_REACHED

    def note(self, check: Check) -> None:
        """Note a check that was made elsewhere."""
        if check.outcome is Outcome.NOT_APPLICABLE:
            self.skip(check.number, check.seen, check.wanted)
        else:
            self.decide(check.number, check.outcome is Outcome.PASSED, check.seen, check.wanted)

    def conclude(self, mandatory: tuple[int, ...]) -> bool:
        """(27) Accepted means that everything *mandatory* was reached and passed, not only that nothing failed."""
        outcomes, failures = self.outcomes, self.failures
        missing = [number for number in mandatory if not outcomes[number - 1]]
        accepted = failures == 0 and not missing
        text = f"{failures} failed" + (f", not decided: {', '.join(map(str, missing))}" if missing else "")
        self.decide(27, accepted, text, COMPLETE)
        return accepted


def refusal(kind: Kind, checks: Iterable[Check], index: int | None) -> Verdict:
    """A verdict that refuses for *checks*, the others not reached."""
    findings = Findings()
    for check in checks:
        findings.note(check)
    findings.decide(27, False, "refused before all checks could be made", COMPLETE)
    return Verdict(kind, RULES_VERSION, False, bytes(findings.outcomes), tuple(findings.texts), None, index)
