"""What checks found, under their numbers, and the verdict made of it; no check is made here."""

from collections.abc import Mapping
from typing import Final

from attestation.evidence import Kind
from attestation.verdict import CHECK_NAMES, RULES_VERSION, Check, Outcome, Text, Verdict

COMPLETE: Final = "no check failed, none that must pass left out"
NOT_REACHED: Final = tuple(
    Check(number, name, Outcome.NOT_APPLICABLE, "not reached: an earlier check failed", "")
    for number, name in enumerate(CHECK_NAMES, start=1)
)


class Findings:
    """The outcome of each check under its number, as the checks are made."""

    __slots__ = ("failures", "found")

    def __init__(self) -> None:
        self.found: dict[int, Check] = {}
        self.failures = 0

    def decide(self, number: int, passed: bool, seen: Text, wanted: Text) -> None:
        """Note that check *number* passed or failed; a failure noted before stands."""
        before = self.found.get(number)
        if before is not None and (passed or before.outcome is Outcome.FAILED):
            return
        if not passed:
            self.failures += 1
        outcome = Outcome.PASSED if passed else Outcome.FAILED
        self.found[number] = Check(number, CHECK_NAMES[number - 1], outcome, seen, wanted)

    def skip(self, number: int, seen: Text, wanted: Text) -> None:
        """Note that check *number* does not apply, or was not asked for."""
        if number not in self.found:
            self.found[number] = Check(number, CHECK_NAMES[number - 1], Outcome.NOT_APPLICABLE, seen, wanted)

    def conclude(self, mandatory: tuple[int, ...]) -> tuple[bool, tuple[Check, ...]]:
        """(27) Whether everything *mandatory* was reached and passed and nothing failed; and all 27 checks."""
        checks = [self.found.get(number, other) for number, other in enumerate(NOT_REACHED, start=1)]
        missing = [number for number in mandatory if not checks[number - 1].outcome]
        failures = self.failures
        accepted = failures == 0 and not missing
        text = f"{failures} failed" + (f", not decided: {', '.join(map(str, missing))}" if missing else "")
        self.decide(27, accepted, text, COMPLETE)
        checks[26] = self.found[27]
        return accepted, tuple(checks)


def refusal(kind: Kind, found: Mapping[int, Check], index: int | None) -> Verdict:
    """A verdict that refuses for what was *found*, the other checks not reached."""
    last = Check(27, CHECK_NAMES[26], Outcome.FAILED, "refused before all checks could be made", COMPLETE)
    checks = tuple({27: last, **found}.get(check.number, check) for check in NOT_REACHED)
    return Verdict(kind, RULES_VERSION, False, checks, None, index)
