"""What is in these bytes? Reports, quotes, certificates, lists, tables, collateral, Azure's blobs: told, not judged."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from attestation import der
from attestation.azure.hcl import parse_hcl
from attestation.collateral.azure import parse_thim
from attestation.der import Reader
from attestation.errors import AttestationError, CertificateError, UnknownFormatError
from attestation.snp import policy
from attestation.snp.anchors import AMD_ROOTS
from attestation.snp.certificates import parse_authority, parse_certificate, parse_crl
from attestation.snp.endorsement import parse_endorsement
from attestation.snp.products import PRODUCTS, Product, parse_tcb, product_of
from attestation.snp.report import REPORT_SIZE, VERSIONS, Report, parse_report
from attestation.snp.table import parse_certificate_table
from attestation.tdx.attributes import describe_attributes
from attestation.tdx.collateral import parse_collateral
from attestation.tdx.pck import INTEL_ROOT, parse_platform
from attestation.tdx.quote import INTEL_QE_VENDOR, ExtendedBody, Quote, parse_quote
from attestation.tdx.quote import VERSIONS as QUOTE_VERSIONS
from attestation.textforms import is_pem, pem_blocks, unwrap

MAX_FILE: Final = 1 << 20
_TDX: Final = b"\x81\0\0\0"
_UNSAID: Final = "-"

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One thing that was found.

    Attributes:
        kind: stable word for programs: report, quote, certificate, crl, collateral, thim, hcl.
        title: what it is, for people.
        rows: its fields, name and value, in the order of its bytes.
    """

    kind: str
    title: str
    rows: Rows


def explain(raw: bytes) -> tuple[Explanation, ...]:
    """Everything in *raw*: one thing, or for tables, blobs and chains several; also in hex, base64 or PEM.

    Raises:
        UnknownFormatError: it is nothing that this package reads.
        AttestationError: it begins like something and is not; the message says where it goes wrong.
    """
    if len(raw) > MAX_FILE:
        raise UnknownFormatError(f"{len(raw)} bytes, at most {MAX_FILE} are read")
    return tuple(_all(unwrap(raw)))


def _all(raw: bytes) -> Iterator[Explanation]:
    text = raw.strip()
    if not text:
        raise UnknownFormatError(f"there is nothing in these {len(raw)} bytes" if raw else "the file is empty")
    if len(raw) == REPORT_SIZE and raw[1:4] == bytes(3):
        if raw[0] not in VERSIONS:
            known = f"{VERSIONS.start} to {VERSIONS.stop - 1}"
            raise UnknownFormatError(f"an SEV-SNP report of version {raw[0]}: versions {known} are known here")
        yield _report(parse_report(raw))
    elif raw[:4] == b"HCLA":
        yield from _hcl(raw)
    elif raw[4:8] == _TDX or raw[12:28] == INTEL_QE_VENDOR:
        version = int.from_bytes(raw[:2], "little")
        if raw[4:8] != _TDX or version not in QUOTE_VERSIONS:
            what = "TDX" if raw[4:8] == _TDX else "SGX"
            raise UnknownFormatError(
                f"a quote of {what}, version {version}: quotes of TDX, versions {QUOTE_VERSIONS[0]} and "
                f"{QUOTE_VERSIONS[1]}, are known here"
            )
        yield from _quote(parse_quote(raw))
    elif text.startswith(b"{"):
        yield from _json(raw)
    elif is_pem(raw):
        yield from (_der(data) for _, data in pem_blocks(raw))
    elif raw[:1] == b"\x30":
        yield _der(raw)
    else:
        yield from _table(raw)


def _der(raw: bytes) -> Explanation:
    try:
        # Certificates have a version in brackets first, lists a bare number.
        is_certificate = Reader(raw).enter(der.SEQUENCE).enter(der.SEQUENCE).peek() == 0xA0
        return _certificate(raw) if is_certificate else _crl(raw)
    except CertificateError as error:
        raise UnknownFormatError(f"it begins like a certificate or a revocation list of AMD's: {error}") from None


def _report(report: Report) -> Explanation:
    product = None if report.cpuid is None else product_of(report.cpuid[0], report.cpuid[1])
    # Version 2 names no product; the layout of its TCB is Turin's only where the chip id is.
    layout: Product = product or PRODUCTS["Milan" if any(report.chip_id[8:]) else "Turin"]
    key = {0: "VCEK", 1: "VLEK", 7: "none"}.get(report.signing_key, "reserved")
    cpuid = report.cpuid
    rows = (
        ("version", str(report.version)),
        ("product", product.name if product else "not said in version 2" if cpuid is None else "unknown"),
        ("family, model, stepping", _UNSAID if cpuid is None else ", ".join(f"{part:#x}" for part in cpuid)),
        ("signed by", key),
        ("guest SVN", str(report.guest_svn)),
        ("policy", f"{report.policy:#x}: {policy.describe_policy_bits(report.policy)}"),
        ("family id", report.family_id.hex()),
        ("image id", report.image_id.hex()),
        ("VMPL", str(report.vmpl)),
        ("platform info", f"{report.platform_info:#x}: {policy.describe_platform_info(report.platform_info)}"),
        ("report data", report.report_data.hex()),
        ("measurement", report.measurement.hex()),
        ("host data", report.host_data.hex()),
        ("ID key digest", report.id_key_digest.hex()),
        ("author key digest", report.author_key_digest.hex()),
        ("report id", report.report_id.hex()),
        ("chip id", report.chip_id.hex()),
        ("reported TCB", str(parse_tcb(report.reported_tcb, layout))),
        ("current TCB", str(parse_tcb(report.current_tcb, layout))),
        ("committed TCB", str(parse_tcb(report.committed_tcb, layout))),
        ("launch TCB", str(parse_tcb(report.launch_tcb, layout))),
        ("current firmware", ".".join(map(str, report.current_firmware))),
        ("committed firmware", ".".join(map(str, report.committed_firmware))),
        ("mitigations", f"launch {report.launch_mitigations:#x}, current {report.current_mitigations:#x}"),
        ("not zero and should be", ", ".join(report.nonzero) or "nothing"),
    )
    return Explanation("report", "SEV-SNP attestation report", rows)


def _quote(quote: Quote) -> Iterator[Explanation]:
    rows = (
        ("version", f"{quote.version}, {quote.body}"),
        ("TD attributes", f"{quote.td_attributes:#x}: {describe_attributes(quote.td_attributes)}"),
        ("XFAM", quote.xfam.hex()),
        ("TEE TCB SVN", quote.tee_tcb_svn.hex()),
        ("MRSEAM", quote.mr_seam.hex()),
        ("MRTD", quote.mr_td.hex()),
        *((f"RTMR{number}", rtmr.hex()) for number, rtmr in enumerate(quote.rtmrs)),
        ("MRCONFIGID", quote.mr_config_id.hex()),
        ("host data", quote.host_data.hex()),
        ("MROWNER", quote.mr_owner.hex()),
        ("MROWNERCONFIG", quote.mr_owner_config.hex()),
        ("MRSERVICETD", quote.mr_service_td.hex()),
        ("report data", quote.report_data.hex()),
        *(() if quote.extended is None else _extended(quote.extended)),
    )
    yield Explanation("quote", "TDX quote", rows)
    platform = parse_platform(quote.certificates)
    yield Explanation(
        "certificate",
        "PCK certificate inside the quote",
        (
            ("under", f"Intel's {platform.ca} CA"),
            ("FMSPC", platform.fmspc.hex()),
            ("memory", platform.memory),
            ("platform instance", _UNSAID if platform.instance_id is None else platform.instance_id.hex()),
            ("root", f"{platform.root.hex()} ({'' if platform.root == INTEL_ROOT else 'NOT '}Intel's pinned root)"),
        ),
    )


def _extended(body: ExtendedBody) -> Rows:
    return (
        ("VM", f"{body.vm_index}{'' if body.vm_index else ': the TD itself'}"),
        ("TD id", body.td_id.hex()),
        ("device information", body.device_info.hex()),
        ("service TDs at creation", f"{body.first_service_td.hex()}, attributes {body.first_service_attributes.hex()}"),
        ("service TDs now", f"{body.service_td.hex()}, attributes {body.service_attributes.hex()}"),
        ("CPU SVN at creation", body.first_cpu_svn.hex()),
        ("TEE TCB SVN at creation", body.first_tee_tcb_svn.hex()),
        ("platform at creation", body.first_platform.hex()),
    )


def _certificate(raw: bytes) -> Explanation:
    certificate = parse_certificate(raw)
    fingerprint = hashlib.sha256(raw).digest()
    rows = [
        ("subject", certificate.common_name),
        ("issuer", certificate.issuer_common_name),
        ("serial", f"{certificate.serial:#x}"),
        ("valid", f"{certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"),
        ("SHA-256", fingerprint.hex()),
        ("SHA-256 of its key", hashlib.sha256(certificate.spki).hexdigest()),
    ]
    if certificate.common_name in ("SEV-VCEK", "SEV-VLEK"):
        endorsement = parse_endorsement(raw)
        rows += [
            ("product", endorsement.product_name),
            ("for TCB", str(endorsement.tcb)),
            ("chip id", _UNSAID if endorsement.hwid is None else endorsement.hwid.hex()),
            ("provider", endorsement.provider or _UNSAID),
        ]
        return Explanation("certificate", f"{endorsement.kind} certificate", tuple(rows))
    parse_authority(raw)
    pinned = [name for name, anchor in AMD_ROOTS.items() if anchor.certificate == fingerprint]
    rows.append(("pinned", f"as the root of {pinned[0]}" if pinned else "no: trust in it comes from a root"))
    return Explanation("certificate", "certificate of an authority", tuple(rows))


def _crl(raw: bytes) -> Explanation:
    crl = parse_crl(raw)
    return Explanation(
        "crl",
        "revocation list",
        (
            ("fresh", f"{crl.this_update.isoformat()} to {crl.next_update.isoformat()}"),
            ("revoked serials", ", ".join(f"{serial:#x}" for serial in sorted(crl.revoked)) or "none"),
        ),
    )


def _json(raw: bytes) -> Iterator[Explanation]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UnknownFormatError(f"it begins like JSON and is none: {type(error).__name__}") from None
    if isinstance(document, dict) and "vcekCert" in document:
        answer = parse_thim(raw)
        rows = (
            ("reported TCB", answer.reported_tcb.hex()),
            ("keep", _UNSAID if answer.keep_s is None else f"{answer.keep_s} s"),
        )
        yield Explanation("thim", "answer of Azure's THIM service", rows)
        for certificate in (answer.vek, answer.intermediate, answer.root):
            yield _certificate(certificate)
    elif isinstance(document, dict) and "tcb_info" in document:
        collateral = parse_collateral(raw)
        yield Explanation(
            "collateral",
            "Intel's collateral for TDX quotes",
            (
                ("for FMSPC", collateral.fmspc.hex()),
                ("TCB evaluation number", str(collateral.evaluation_number)),
                ("fresh", f"{collateral.issued.isoformat()} to {collateral.expires.isoformat()}"),
                ("TCB levels dated", ", ".join(date.date().isoformat() for date in collateral.level_dates)),
            ),
        )
    else:
        raise UnknownFormatError("it is JSON, but neither collateral nor an answer of Azure's THIM")


def _hcl(raw: bytes) -> Iterator[Explanation]:
    blob = parse_hcl(raw)
    report = parse_report(blob.report)
    holds = report.report_data == blob.binding
    yield Explanation(
        "hcl",
        "blob of Azure's paravisor",
        (
            ("SHA-256 of the runtime data", hashlib.sha256(blob.runtime).hexdigest()),
            ("named by the report", "yes" if holds else "NO: the report is about something else"),
            ("attestation key", f"RSA, {blob.ak[0].bit_length()} bits"),
            ("secure boot", str(blob.secure_boot)),
            ("console", str(blob.console_enabled)),
            ("virtual TPM", str(blob.tpm_enabled)),
        ),
    )
    yield _report(report)


def _table(raw: bytes) -> Iterator[Explanation]:
    try:
        parts = parse_certificate_table(raw)
    except AttestationError:
        parts = {}
    if not parts:
        is_like_a_report = raw[1:4] == bytes(3) and raw[0] in VERSIONS
        raise UnknownFormatError(
            f"it begins like an SEV-SNP report of version {raw[0]}, which has {REPORT_SIZE} bytes; these are {len(raw)}"
            if is_like_a_report
            else f"these {len(raw)} bytes are no report, quote, certificate, revocation list, certificate table, "
            "collateral, THIM answer or HCL blob"
        )
    readers: dict[str, Callable[[bytes], Explanation]] = {"crl": _crl}
    for role, data in parts.items():
        try:
            yield readers.get(role, _certificate)(data)
        except CertificateError as error:
            yield Explanation("certificate", f"unreadable {role} in a certificate table", (("fault", str(error)),))
