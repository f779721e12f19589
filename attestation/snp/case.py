"""What one judgement is about: a report, parsed once, and the entry it is held against. No check is made here."""

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime

from attestation.reference import SnpReferenceValues
from attestation.snp.products import Tcb, parse_tcb
from attestation.snp.report import Report
from attestation.verdict import CHECK_NAMES, Check, Outcome, Text

# Bound once: looking a member up in its enumeration costs more than the check around it.
_PASSED, _FAILED, _NOT_APPLICABLE = Outcome.PASSED, Outcome.FAILED, Outcome.NOT_APPLICABLE


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller knows of the exchange.

    Attributes:
        report_data: the 64 bytes that the report must be bound to.
        host_data: the policy digests that are acceptable.
        now: when it is judged.
    """

    report_data: bytes
    host_data: Container[bytes]
    now: datetime


@dataclass(frozen=True, slots=True)
class Tcbs:
    """The four TCB versions of a report, in the layout of the entry's product."""

    reported: Tcb
    current: Tcb
    committed: Tcb
    launch: Tcb


class Case:
    """One report against one entry, and the outcome of each check under its number: the one thing here that changes."""

    __slots__ = ("expected", "failures", "found", "product", "report", "tcbs", "values")

    def __init__(self, report: Report, values: SnpReferenceValues, expected: Expected) -> None:
        product = values.product
        self.report = report
        self.values = values
        self.product = product
        self.expected = expected
        self.tcbs = Tcbs(
            parse_tcb(report.reported_tcb, product),
            parse_tcb(report.current_tcb, product),
            parse_tcb(report.committed_tcb, product),
            parse_tcb(report.launch_tcb, product),
        )
        self.found: dict[int, Check] = {}
        self.failures = 0

    def decide(self, number: int, passed: bool, seen: Text, wanted: Text) -> None:
        """Note that check *number* passed or failed; a failure noted before stands."""
        before = self.found.get(number)
        if before is not None and (passed or before.outcome is _FAILED):
            return
        if not passed:
            self.failures += 1
        self.found[number] = Check(number, CHECK_NAMES[number - 1], _PASSED if passed else _FAILED, seen, wanted)

    def skip(self, number: int, seen: Text, wanted: Text) -> None:
        """Note that check *number* does not apply, or was not asked for."""
        self.found[number] = Check(number, CHECK_NAMES[number - 1], _NOT_APPLICABLE, seen, wanted)
