"""The published SEV-SNP vectors as evidence, with reference values that each genuine report satisfies."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attestation.evidence import Evidence, Kind
from attestation.judge import judge
from attestation.reference import SnpReferenceValues
from attestation.snp.endorsement import parse_endorsement
from attestation.snp.products import Tcb, parse_tcb, product_of
from attestation.snp.report import Report, parse_report
from attestation.verdict import Verdict

CRL_CLOCK = datetime(2023, 6, 1, tzinfo=UTC)
"""A moment at which Milan's newest published revocation list is fresh."""


@dataclass(frozen=True)
class Genuine:
    """One genuine report: the published description, and the bytes."""

    facts: dict[str, Any]
    report: bytes
    vek: bytes
    root: bytes
    intermediate: bytes

    @property
    def parsed(self) -> Report:
        return parse_report(self.report)

    @property
    def product(self) -> str:
        """As reference values name it: Siena is told from Genoa by the signed model."""
        cpuid = self.parsed.cpuid
        product = None if cpuid is None else product_of(cpuid[0], cpuid[1])
        return str(self.facts["product"]) if product is None else product.name

    @property
    def clock(self) -> datetime:
        """A moment at which the certificate is valid."""
        return datetime.fromisoformat(self.facts["cert_not_before"]) + timedelta(days=1)

    def evidence(self, **parts: bytes) -> Evidence:
        own = {"report": self.report, "vek": self.vek, "intermediate": self.intermediate, "root": self.root}
        return Evidence.make(Kind.SNP, {**own, **parts})

    def values(self, **changes: Any) -> SnpReferenceValues:
        """The strictest entry that this report satisfies, except for a revocation list."""
        report, notes = self.parsed, str(self.facts["notes"])
        fields: dict[str, Any] = {
            "platform": "vector",
            "product_name": self.product,
            "trusted_measurement": report.measurement,
            "vmpl": report.vmpl,
            "minimum_tcb": self.lowest_tcb(report.reported_tcb, report.committed_tcb, report.launch_tcb),
            "allow_provisional_firmware": "provisional" in notes,
            "allowed_chip_ids": (report.chip_id,),
            "allowed_providers": tuple(filter(None, (parse_endorsement(self.vek).provider,))),
            "crl": "warn",
        }
        return SnpReferenceValues(**{**fields, **changes})

    def lowest_tcb(self, *raw: bytes) -> Tcb:
        product = product_of(*(self.parsed.cpuid or (0x19, 0x1A if self.product == "Genoa" else 1, 0))[:2])
        assert product is not None
        tcbs = [parse_tcb(tcb, product) for tcb in raw]
        return Tcb(
            bootloader=min(tcb.bootloader for tcb in tcbs),
            tee=min(tcb.tee for tcb in tcbs),
            snp=min(tcb.snp for tcb in tcbs),
            microcode=min(tcb.microcode for tcb in tcbs),
            fmc=min(tcb.fmc or 0 for tcb in tcbs) if product.has_fmc else None,
        )

    def judge(
        self,
        evidence: Evidence | None = None,
        values: SnpReferenceValues | None = None,
        *,
        now: datetime | None = None,
        thorough: bool = True,
    ) -> Verdict:
        report = self.parsed
        return judge(
            evidence or self.evidence(),
            [values or self.values()],
            report_data=report.report_data,
            host_data={report.host_data},
            now=now or self.clock,
            thorough=thorough,
        )


def genuine_reports(vectors: Path) -> list[Genuine]:
    """Every genuine report of the vectors."""
    folder = vectors / "snp"
    reports = []
    for facts in json.loads((folder / "reports.json").read_text()):
        chain = str(facts["product"]).lower()
        middle = "asvk" if facts["key"] == "VLEK" else "ask"
        reports.append(
            Genuine(
                facts,
                (folder / facts["file"]).read_bytes(),
                (folder / facts["cert"]).read_bytes(),
                (folder / "certs" / f"ark-{chain}.der").read_bytes(),
                (folder / "certs" / f"{middle}-{chain}.der").read_bytes(),
            )
        )
    return reports


def find(vectors: Path, number: str) -> Genuine:
    """The genuine report whose file name starts with *number*."""
    return next(
        report for report in genuine_reports(vectors) if Path(report.facts["file"]).name.startswith(f"{number}-")
    )
