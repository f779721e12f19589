"""What one judgement is about: a report, parsed once, and the entry it is held against. No check is made here."""

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime

from attestation.findings import Findings
from attestation.reference import SnpReferenceValues
from attestation.snp.products import Tcb, parse_tcb
from attestation.snp.report import Report


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


class Case(Findings):
    """One report against one entry, and what the checks found: the one thing here that changes."""

    __slots__ = ("_tcbs", "expected", "product", "report", "values")

    def __init__(self, report: Report, values: SnpReferenceValues, expected: Expected) -> None:
        super().__init__()
        self.report = report
        self.values = values
        self.product = values.product
        self.expected = expected
        self._tcbs: Tcbs | None = None

    @property
    def tcbs(self) -> Tcbs:
        """The report's four TCB versions."""
        if self._tcbs is None:
            report, product = self.report, self.product
            self._tcbs = Tcbs(
                parse_tcb(report.reported_tcb, product),
                parse_tcb(report.current_tcb, product),
                parse_tcb(report.committed_tcb, product),
                parse_tcb(report.launch_tcb, product),
            )
        return self._tcbs
