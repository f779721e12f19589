"""Evidence from loose files: which is the report, which certificate has which part. Nothing is judged here."""

from collections.abc import Sequence
from typing import Final

from attestation.azure.hcl import parse_hcl
from attestation.collateral.azure import parse_thim
from attestation.errors import UnknownFormatError
from attestation.evidence import REPORT_SIZE, Evidence, Kind
from attestation.explain import explain
from attestation.snp.certificates import parse_certificate
from attestation.snp.report import SIGNING_KEY_VLEK
from attestation.snp.table import parse_certificate_table
from attestation.textforms import CERTIFICATE, is_pem, pem_blocks, unwrap

_FLAGS: Final = 0x48


def gather(report: bytes, endorsements: Sequence[bytes], *, simulated: bool = False) -> Evidence:
    """Evidence of *report* and whatever else was found beside it.

    Args:
        report: an SEV-SNP report, a TDX quote, or a blob of Azure's paravisor, whose report is taken.
        endorsements: certificates (DER, PEM, chains), revocation lists, certificate tables, THIM's answers, collateral.
            All of them also in hex or base64.
        simulated: whether the report's processor is a simulated one.

    Raises:
        UnknownFormatError: *report* is neither, an endorsement is nothing we read, or two claim the same place.
        AttestationError: bytes that begin like something and are not.
    """
    report = unwrap(report)
    if report[:4] == b"HCLA":
        report = parse_hcl(report).report
    kind = Kind.TDX if len(report) != REPORT_SIZE and report[4:8] == b"\x81\0\0\0" else Kind.SNP
    is_vlek = kind is Kind.SNP and len(report) == REPORT_SIZE and report[_FLAGS] >> 2 & 7 == SIGNING_KEY_VLEK
    parts = {"quote" if kind is Kind.TDX else "report": report}
    for raw in endorsements:
        for role, data in _roles(unwrap(raw), prefer_vlek=is_vlek):
            if parts.setdefault(role, data) != data:
                raise UnknownFormatError(f"two different files give the {role}: name only the one that belongs here")
    return Evidence.make(Kind.SIMULATED if simulated and kind is Kind.SNP else kind, parts)


def _roles(raw: bytes, *, prefer_vlek: bool) -> list[tuple[str, bytes]]:
    kinds = [found.kind for found in explain(raw)]
    if kinds[0] == "collateral":
        return [("collateral", raw)]
    if kinds[0] == "thim":
        answer = parse_thim(raw)
        return [("vek", answer.vek), ("intermediate", answer.intermediate), ("root", answer.root)]
    if is_pem(raw):
        return [(_role(data) if label == CERTIFICATE else "crl", data) for label, data in pem_blocks(raw)]
    if raw[:1] == b"\x30":
        return [("crl", raw)] if kinds[0] == "crl" else [(_role(raw), raw)]
    if set(kinds) <= {"certificate", "crl"}:
        return list(parse_certificate_table(raw, prefer_vlek=prefer_vlek).items())
    raise UnknownFormatError(f"a {kinds[0]} is no endorsement")


def _role(certificate: bytes) -> str:
    name = parse_certificate(certificate).common_name
    if name in ("SEV-VCEK", "SEV-VLEK"):
        return "vek"
    return "root" if name.startswith("ARK-") else "intermediate"
