"""What is fuzzed: every reader of bytes from strangers, what it may raise, and where mutation starts from."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from attestation.azure.hcl import parse_hcl
from attestation.azure.tpm import parse_quote as parse_tpm_quote
from attestation.azure.tpm import parse_signature
from attestation.collateral import amd, azure, intel
from attestation.errors import (
    AttestationError,
    CertificateError,
    CertificateTableError,
    CodecError,
    CollateralError,
    EvidenceError,
    HclError,
    QuoteError,
    ReportError,
    TpmError,
)
from attestation.evidence import Evidence, Kind
from attestation.explain import explain
from attestation.judge import judge
from attestation.reference import SnpReferenceValues, TdxReferenceValues
from attestation.snp.certificates import parse_authority, parse_crl
from attestation.snp.endorsement import parse_endorsement
from attestation.snp.products import Tcb
from attestation.snp.report import parse_report
from attestation.snp.table import parse_certificate_table
from attestation.tdx.collateral import parse_collateral
from attestation.tdx.pck import parse_platform
from attestation.tdx.quote import parse_pem_chain, parse_quote

VECTORS = Path(os.environ.get("CONTRAST_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))
_NOW = datetime(2026, 3, 5, tzinfo=UTC)
_SNP = SnpReferenceValues(
    platform="fuzz",
    product_name="Milan",
    trusted_measurement=bytes(48),
    minimum_tcb=Tcb(bootloader=0, tee=0, snp=0, microcode=0),
)
_TDX = TdxReferenceValues(platform="fuzz", mr_td=bytes(48), mr_seam=bytes(48), rtmrs=(bytes(48),) * 4, xfam=bytes(8))


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        read: gives the bytes to the code under test.
        refusals: the only exceptions that may come out.
        patterns: published files to start from, below the vectors' folder.
    """

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    patterns: tuple[str, ...] = ()
    extra: tuple[bytes, ...] = field(default=())

    def seeds(self) -> Iterator[bytes]:
        """Where mutation starts from: always something, more where the vectors are there."""
        yield from self.extra or (b"",)
        for pattern in self.patterns:
            yield from (path.read_bytes() for path in sorted(VECTORS.glob(pattern))[:12])


def _judge(raw: bytes) -> object:
    """Report or quote with whatever follows as its endorsements: no bytes may make the judge raise."""
    for kind, role, other in ((Kind.SNP, "report", "vek"), (Kind.TDX, "quote", "collateral")):
        size = 1184 if kind is Kind.SNP else max(1, len(raw) // 2)
        parts = {role: raw[:size][:4096] or b"\0", other: raw[size:][:4096] or b"\0"}
        verdict = judge(
            Evidence.make(kind, parts), [_SNP, _TDX], report_data=bytes(64), host_data=(), now=_NOW, thorough=True
        )
        assert not verdict.accepted
        assert "broke off" not in verdict.checks[26].seen, verdict.checks[26].seen
        assert verdict.json()
    return None


def _intel(raw: bytes) -> object:
    chain = "-----BEGIN CERTIFICATE-----"
    return intel.assemble(pck_crl=(raw, chain), tcb_info=(raw, chain), identity=(raw, chain), root_crl=raw)


TARGETS: dict[str, Target] = {
    "report": Target(parse_report, (ReportError,), ("snp/reports/*.report.bin", "snp/negative/*.report.bin")),
    "table": Target(parse_certificate_table, (CertificateTableError,), ("snp/misc/tsm-*.bin",)),
    "endorsement": Target(
        parse_endorsement, (CertificateError,), ("snp/reports/*.der", "snp/misc/*.der", "snp/negative/*.der")
    ),
    "authority": Target(parse_authority, (CertificateError,), ("snp/certs/*.der",)),
    "crl": Target(parse_crl, (CertificateError,), ("snp/crls/*.der",)),
    "chain": Target(amd.parse_chain_answer, (CertificateError,), ("snp/certs/*.pem",)),
    "thim": Target(azure.parse_thim, (CollateralError,), ("snp/misc/*.json",)),
    "quote": Target(parse_quote, (QuoteError,), ("tdx/quotes/v*.bin", "tdx/negative/*.bin")),
    "pck": Target(
        lambda raw: parse_platform(parse_pem_chain(raw[-3678:])), (QuoteError, CertificateError), ("tdx/quotes/v*.bin",)
    ),
    "collateral": Target(parse_collateral, (CollateralError,), ("tdx/collateral/*.json",)),
    "intel": Target(_intel, (CollateralError,), ("tdx/collateral/*.json",), (b'{"tcbInfo":{},"signature":"00"}',)),
    "hcl": Target(parse_hcl, (HclError,), ("snp/misc/azure-hcl*.bin",)),
    "tpm": Target(
        lambda raw: (parse_tpm_quote(raw), parse_signature(raw)),
        (TpmError,),
        (),
        (
            b"\xffTCG\x80\x18\0\2na\0\1x" + bytes(25) + b"\0\0\0\1\0\x0b\3\xff\xff\xff\0\x20" + bytes(32),
            b"\0\x14\0\x0b\0\2ab",
        ),
    ),
    "explain": Target(explain, (AttestationError,), ("snp/*/*", "tdx/*/*")),
    "judge": Target(
        _judge, (EvidenceError, CodecError), ("snp/reports/*.report.bin", "tdx/quotes/v*.bin", "tdx/negative/*.bin")
    ),
}
