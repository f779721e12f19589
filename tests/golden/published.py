"""What version 1 of the rules decides about published evidence of real hardware, as hashes; the evidence stays outside.

    .venv/bin/python -m tests.golden.published VECTORS tests/golden/published-v1.json

The file is never made again for a version that was released; a new version gets one of its own.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attestation.azure.hcl import parse_hcl
from attestation.azure.tpm import PCR_COUNT, POLICY_PCR, extended, pcr_digest, quote_extra
from attestation.codec import pack
from attestation.evidence import Evidence, Kind
from attestation.judge import judge
from attestation.reference import AzureReferenceValues, Pcr, ReferenceValues
from tests.golden.verdicts import decided
from tests.support.snp_vectors import CRL_CLOCK, Genuine, find, genuine_reports
from tests.support.tdx_vectors import Published, published_quotes

POLICY, REPORT_DATA = b"\x50" * 32, b"\x52" * 64
Question = tuple[Evidence, Sequence[ReferenceValues], dict[str, Any]]


def questions(vectors: Path) -> Iterator[tuple[str, Question]]:
    """Each with its name, which begins with the kind of evidence."""
    for report in genuine_reports(vectors):
        for name, question in _snp(vectors, report):
            yield f"snp, {Path(report.facts['file']).name}, {name}", question
    for quote in published_quotes(vectors):
        for name, question in _tdx(quote):
            yield f"tdx, {quote.name}, {name}", question
    for name, question in _azure(vectors):
        yield f"azure, {name}", question


def _snp(vectors: Path, report: Genuine) -> Iterator[tuple[str, Question]]:
    evidence, values, parsed = report.evidence(), [report.values()], report.parsed
    asked = {"report_data": parsed.report_data, "host_data": {parsed.host_data}, "now": report.clock}
    yield "as it is", (evidence, values, asked)
    yield "a list demanded", (evidence, [report.values(crl="required")], asked)
    crl = (vectors / "snp/crls/crl-milan-2023-05-09.der").read_bytes()
    yield "with Milan's list", (
        report.evidence(crl=crl), [report.values(crl="required")], {**asked, "now": max(CRL_CLOCK, report.clock)},
    )  # fmt: skip
    yield "another binding", (evidence, values, {**asked, "report_data": bytes(64)})
    yield "no policy", (evidence, values, {**asked, "host_data": frozenset[bytes]()})
    yield "long after", (evidence, values, {**asked, "now": datetime(2199, 1, 1, tzinfo=UTC)})
    yield "long ago", (evidence, values, {**asked, "now": datetime(2000, 1, 1, tzinfo=UTC)})
    yield "another level", (evidence, [report.values(vmpl=3 - parsed.vmpl)], asked)
    yield "an ID block demanded", (
        evidence, [report.values(require_id_block=True, id_key_digests=(b"\1" * 48,))], asked,
    )  # fmt: skip
    yield "the chip denied", (evidence, [report.values(denied_chip_ids=(parsed.chip_id,))], asked)
    yield "no provider", (evidence, [report.values(allowed_providers=())], asked)
    yield "a root and itself", (report.evidence(intermediate=report.root), values, asked)
    for offset in (0x08, 0x38, 0x50, 0x180, 0x189, 0x1A0, 0x1F8, 0x2A0, 0x2D0):
        data = bytearray(report.report)
        data[offset] ^= 1
        yield f"changed at {offset:#x}", (report.evidence(report=bytes(data)), values, asked)
    vek = bytearray(report.vek)
    vek[-1] ^= 1
    yield "another end of its certificate", (report.evidence(vek=bytes(vek)), values, asked)


def _tdx(quote: Published) -> Iterator[tuple[str, Question]]:
    parsed = quote.parsed
    asked = {
        "report_data": parsed.report_data,
        "host_data": {parsed.host_data},
        "now": datetime(2026, 1, 1, tzinfo=UTC),
    }
    yield "without collateral", (quote.evidence(None), [quote.values()], asked)
    for name, said in sorted(quote.opinions.items()):
        if not (quote.folder / "collateral" / f"{name}.json").exists():
            continue
        evidence, now = quote.evidence(quote.collateral(name)), datetime.fromtimestamp(said["now"], UTC)
        then = {**asked, "now": now}
        yield f"with {name}", (evidence, [quote.values()], then)
        yield f"with {name}, up to date only", (evidence, [quote.values(allowed_tcb_statuses=("UpToDate",))], then)
        yield f"with {name}, years later", (evidence, [quote.values()], {**then, "now": now + timedelta(days=1000)})
        yield f"with {name}, another module", (evidence, [quote.values(mr_seam=bytes(48))], then)
        yield f"with {name}, another binding", (evidence, [quote.values()], {**then, "report_data": bytes(64)})
        data = bytearray(quote.raw)
        data[200] ^= 1
        changed = Evidence.make(Kind.TDX, {"quote": bytes(data), "collateral": quote.collateral(name)})
        yield f"with {name}, changed", (changed, [quote.values()], then)


def _azure(vectors: Path) -> Iterator[tuple[str, Question]]:
    """The published blob and its report are genuine; nobody published the quote of its TPM, so none here holds."""
    blob, report = (vectors / "snp/misc/azure-hcl-report-milan-v2.bin").read_bytes(), find(vectors, "07")
    pcrs = {4: bytes(32), POLICY_PCR: extended(POLICY)}
    selection = b"\0\0\0\1\0\x0b\3" + sum(1 << index for index in pcrs).to_bytes(PCR_COUNT // 8, "little")
    extra = quote_extra(REPORT_DATA)
    head = b"\xffTCG\x80\x18" + b"\0\2na" + len(extra).to_bytes(2, "big") + extra + bytes(25)
    size = parse_hcl(blob).ak[0].bit_length() // 8
    parts = {
        "hcl": blob,
        "quote": head + selection + b"\0\x20" + pcr_digest(pcrs),
        "signature": b"\0\x14\0\x0b" + size.to_bytes(2, "big") + b"\1" * size,
        "pcrs": pack([[index, value] for index, value in sorted(pcrs.items())]),
        "policy": POLICY,
        "bound": REPORT_DATA,
        "vek": report.vek,
        "intermediate": report.intermediate,
        "root": report.root,
    }
    values = [AzureReferenceValues(snp=report.values(), pcrs=(Pcr(index=4, value=bytes(32)),))]
    asked = {"report_data": REPORT_DATA, "host_data": {POLICY}, "now": report.clock}
    yield "a signature of nobody", (Evidence.make(Kind.AZURE, parts), values, asked)
    yield "another binding", (Evidence.make(Kind.AZURE, parts), values, {**asked, "report_data": bytes(64)})
    yield "another policy", (Evidence.make(Kind.AZURE, parts), values, {**asked, "host_data": {bytes(32)}})
    yield (
        "another PCR",
        (
            Evidence.make(Kind.AZURE, parts),
            [AzureReferenceValues(snp=report.values(), pcrs=(Pcr(index=4, value=b"\1" * 32),))],
            asked,
        ),
    )
    changed = bytearray(blob)
    changed[0x20 + 0x90] ^= 1
    yield "another measurement", (Evidence.make(Kind.AZURE, {**parts, "hcl": bytes(changed)}), values, asked)
    for role in ("hcl", "quote", "signature", "pcrs"):
        yield f"no {role}", (Evidence.make(Kind.AZURE, {**parts, role: b"\0"}), values, asked)


def decisions(vectors: Path, rules: int) -> dict[str, str]:
    """Every question: accepted or refused, and the hash of what was decided as fast as can be and with every check."""
    found = {}
    for name, (evidence, values, asked) in questions(vectors):
        verdicts = [judge(evidence, values, **asked, thorough=thorough, rules=rules) for thorough in (False, True)]
        digest = hashlib.sha256(json.dumps([decided(verdict) for verdict in verdicts], sort_keys=True).encode())
        words = sorted({"accepted" if verdict.accepted else "refused" for verdict in verdicts})
        found[name] = f"{' and '.join(words)} {digest.hexdigest()[:32]}"
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(decisions(Path(sys.argv[1]), 1), indent=1) + "\n")
