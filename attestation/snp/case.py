"""What one judgement is about: a report, parsed once, and the entry it is held against. No check is made here."""

from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime

from attestation.reference import SnpReferenceValues
from attestation.snp.products import Product, Tcb, parse_tcb
from attestation.snp.report import Report
from attestation.verdict import CHECK_NAMES, Check, Outcome, Text


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


@dataclass(frozen=True, slots=True)
class Case:
    """One report against one entry; ``found`` collects the outcome of each check under its number."""

    report: Report
    values: SnpReferenceValues
    product: Product
    expected: Expected
    tcbs: Tcbs
    found: dict[int, Check] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Report, values: SnpReferenceValues, expected: Expected) -> "Case":
        """The case of *report* against *values*."""
        product = values.product
        tcbs = Tcbs(
            parse_tcb(report.reported_tcb, product),
            parse_tcb(report.current_tcb, product),
            parse_tcb(report.committed_tcb, product),
            parse_tcb(report.launch_tcb, product),
        )
        return cls(report, values, product, expected, tcbs)

    def decide(self, number: int, passed: bool, seen: Text, wanted: Text) -> None:
        """Note that check *number* passed or failed."""
        outcome = Outcome.PASSED if passed else Outcome.FAILED
        self.found[number] = Check(number, CHECK_NAMES[number - 1], outcome, seen, wanted)

    def skip(self, number: int, seen: Text, wanted: Text) -> None:
        """Note that check *number* does not apply, or was not asked for."""
        self.found[number] = Check(number, CHECK_NAMES[number - 1], Outcome.NOT_APPLICABLE, seen, wanted)

    @property
    def failed(self) -> bool:
        """Whether any check has failed so far."""
        return any(check.outcome is Outcome.FAILED for check in self.found.values())
