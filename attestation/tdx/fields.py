"""Checks 1 to 4, 18 and 20 to 25 of a TDX quote: what its own bytes say, held against one entry. Not yet proven."""

from typing import Final

from attestation.findings import Findings
from attestation.reference import TdxReferenceValues
from attestation.snp.case import Expected
from attestation.tdx.attributes import attributes_fault, describe_attributes
from attestation.tdx.quote import ALGORITHM_P256, INTEL_QE_VENDOR, TEE_TDX, VERSIONS, ExtendedBody, Quote

_ZERO_48: Final = bytes(48)
WANTED: Final = {
    1: "exactly one quote",
    2: f"version {VERSIONS[0]} or {VERSIONS[1]} with a TD 1.0 or TD 1.5 body",
    3: "a PCK certificate chain (certification data type 5) inside the quoting enclave's (type 6)",
    9: "PCK certificate, intermediate and root, as Intel writes them",
}


def field_checks(findings: Findings, quote: Quote, values: TdxReferenceValues, expected: Expected) -> None:
    """Make every check that needs the quote's own bytes and nothing else."""
    _header(findings, quote)
    _guest(findings, quote, values)
    _measured(findings, quote, values)
    # (24) The policy that the host launched the guest with must be one that somebody vetted.
    findings.decide(
        24, quote.host_data in expected.host_data, quote.mr_config_id.hex, "the digest of a policy that is named"
    )
    # (25) Replay, relay: this quote was made for this exchange and no other.
    findings.decide(25, quote.report_data == expected.report_data, quote.report_data.hex, expected.report_data.hex)


def _header(findings: Findings, quote: Quote) -> None:
    findings.decide(1, True, lambda: f"{len(quote.raw)} bytes", WANTED[1])  # (1, 2) The parser has made these.
    findings.decide(2, True, lambda: f"version {quote.version}, {quote.body}", WANTED[2])
    # (3) Another algorithm, another TEE, another quoting enclave.
    findings.decide(
        3,
        quote.algorithm == ALGORITHM_P256 and quote.tee_type == TEE_TDX and quote.qe_vendor == INTEL_QE_VENDOR,
        lambda: f"algorithm {quote.algorithm}, TEE {quote.tee_type:#x}, vendor {quote.qe_vendor.hex()}",
        "algorithm 2 (ECDSA P-256), TEE 0x81 (TDX), Intel's quoting enclave",
    )
    # (4) Smuggled bytes; a TDX module that is not Intel's, or one in debug.
    findings.decide(
        4,
        not any(quote.header_reserved) and not any(quote.mr_signer_seam) and not any(quote.seam_attributes),
        lambda: (
            f"header {quote.header_reserved.hex()}, MRSIGNERSEAM {quote.mr_signer_seam.hex()}, "
            f"SEAMATTRIBUTES {quote.seam_attributes.hex()}"
        ),
        "all of them zero: a TDX module by Intel, not in debug",
    )


def _guest(findings: Findings, quote: Quote, values: TdxReferenceValues) -> None:
    # (18) As the guest policy of SNP, attributes are no part of MRTD.
    fault = attributes_fault(quote.td_attributes, allow_perfmon=values.allow_perfmon)
    findings.decide(
        18,
        fault is None,
        lambda: fault or describe_attributes(quote.td_attributes),
        "SEPT_VE_DISABLE; no DEBUG, no MIGRATABLE, nothing undefined"
        + ("" if values.allow_perfmon else ", no PERFMON"),
    )
    # (20) A VM inside a partitioned TD is not the TD that was measured.
    extended = quote.extended
    if extended is None:
        findings.skip(20, "TDX has no privilege levels", "not asked for")
    else:
        findings.decide(20, extended.vm_index == 0, f"VM {extended.vm_index}", "VM 0: the TD itself")
    # (22) A service TD may migrate the guest or speak for it.
    findings.decide(
        22,
        quote.mr_service_td == _ZERO_48 and not (extended and extended.names_service_td),
        lambda: f"MRSERVICETD {quote.mr_service_td.hex()}" + ("" if extended is None else _service_tds(extended)),
        "no service TD: dcap-qvl judges no quote with one, genuine or not",
    )
    findings.skip(
        23, lambda: f"MROWNER {quote.mr_owner.hex()}, MROWNERCONFIG {quote.mr_owner_config.hex()}", "not asked for"
    )


def _measured(findings: Findings, quote: Quote, values: TdxReferenceValues) -> None:
    # (21) Firmware, TDX module, what was measured at run time, extended features: all of them, each by name.
    differing = [
        f"{name} {seen.hex()}"
        for name, seen, wanted in (
            ("MRTD", quote.mr_td, values.mr_td),
            ("MRSEAM", quote.mr_seam, values.mr_seam),
            *((f"RTMR{i}", *pair) for i, pair in enumerate(zip(quote.rtmrs, values.rtmrs, strict=True))),
            ("XFAM", quote.xfam, values.xfam),
        )
        if seen != wanted
    ]
    findings.decide(
        21,
        not differing,
        lambda: ", ".join(differing) or f"MRTD {quote.mr_td.hex()}, and MRSEAM, RTMRs, XFAM",
        lambda: (
            f"MRTD {values.mr_td.hex()}, MRSEAM {values.mr_seam.hex()}, RTMRs "
            f"{' '.join(rtmr.hex() for rtmr in values.rtmrs)}, XFAM {values.xfam.hex()}"
        ),
    )


def _service_tds(extended: ExtendedBody) -> str:
    return (
        f"; service TDs at creation {extended.first_service_td.hex()} ({extended.first_service_attributes.hex()}), "
        f"now {extended.service_td.hex()} ({extended.service_attributes.hex()})"
    )
