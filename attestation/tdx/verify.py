"""The numbered checks of a TDX quote against one entry of reference values. No I/O, no clock.

Numbers and names are those of the verdict (docs/formats.md, section 7), with their meaning for TDX:

 1 exact length, nothing behind it    10 revocation lists                   19 memory integrity, SMT, static
 2 version 4 or 5, TD 1.0 or TD 1.5   11 signatures: quote, QE, PCK         20 (no privilege levels)
 3 algorithm, TEE, quoting enclave    12 TCB status as the entry allows     21 MRTD, MRSEAM, RTMRs, XFAM
 4 zero where zero must be            13 (with 5: the platform's FMSPC)     22 no service TD
 5 collateral for this platform       14 collateral is of its time          23 (no guest version)
 6 Intel's root, pinned               15 TCB evaluation number              24 MRCONFIGID[0:32] is a known policy
 7 PCK chain, the quote's own         16 distrust: switch, deny-list        25 REPORT_DATA binds this exchange
 8 a PCK certificate under its CA     17 advisories                         26 platform allow-list
 9 strict encoding of certificates    18 TD attributes                      27 every check decided, none failed

7, 10, 11 and the TCB level are dcap-qvl's word, asked with the quote, the collateral and a time, and nothing else; what
its word is worth is decided here. It refuses some genuine quotes whatever anybody wants (SEPT_VE_DISABLE clear, a
service TD): then 11 tells by our own arithmetic whether the quote is genuine, where somebody asks (`thorough`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dcap_qvl

from attestation.cache import ChainCache
from attestation.errors import CertificateError, CollateralError, QuoteError
from attestation.evidence import Evidence
from attestation.findings import Findings, refusal
from attestation.reference import UP_TO_DATE, TdxReferenceValues
from attestation.snp.case import Expected
from attestation.tdx.attributes import attributes_fault, describe_attributes
from attestation.tdx.collateral import Collateral, parse_collateral, parse_date
from attestation.tdx.pck import INTEL_ROOT, Platform, parse_platform
from attestation.tdx.quote import ALGORITHM_P256, INTEL_QE_VENDOR, TEE_TDX, VERSIONS, Quote, parse_quote
from attestation.tdx.signatures import signature_fault
from attestation.verdict import CHECK_NAMES, RULES_VERSION, Check, Outcome, TdxClaims, Verdict

_MANDATORY: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 21, 22, 24, 25)
_ZERO_48: Final = bytes(48)
_REVOKED: Final = "Revoked"
_GRACE: Final = frozenset({"OutOfDate", "OutOfDateConfigurationNeeded"})
_WANTED: Final = {
    1: "exactly one quote",
    2: f"version {VERSIONS[0]} or {VERSIONS[1]} with a TD 1.0 or TD 1.5 body",
    3: "a PCK certificate chain (certification data type 5) inside the quoting enclave's (type 6)",
    9: "PCK certificate, intermediate and root, as Intel writes them",
}
# What dcap-qvl says -> the check that it is about. Its refusal counts whatever it says; this only finds the number.
_REASONS: Final = (
    ("SEPT_VE_DISABLE", 18),
    ("service TD", 22),
    ("Debug mode", 18),
    ("mscp", 5),
    ("TCB level", 12),
    ("ollateral expired", 14),
    ("CRL", 10),
    ("revo", 10),
    ("certificate chain", 7),
)


@dataclass(frozen=True, slots=True)
class _Result:
    stage: int
    findings: Findings
    index: int
    status: str
    advisories: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, int, int]:
        """Smaller is nearer to acceptance: the stage reached, then the failures, then the order of entries."""
        return -self.stage, self.findings.failures, self.index


def verify(
    evidence: Evidence,
    entries: Sequence[tuple[int, TdxReferenceValues]],
    expected: Expected,
    *,
    cache: ChainCache | None,
    thorough: bool,
) -> Verdict:
    """Judge *evidence* by every entry; the first that is satisfied decides, else the one that came nearest.

    Args:
        evidence: of kind ``tdx``: quote and collateral.
        entries: reference values with their index in the caller's list, at least one.
        expected: what the quote must be bound to, and the time.
        cache: collateral and certificates that have been read.
        thorough: make all checks whatever failed before; for people who ask why.
    """
    try:
        quote = parse_quote(evidence.part("quote") or b"")
    except QuoteError as error:
        check = Check(error.check, CHECK_NAMES[error.check - 1], Outcome.FAILED, str(error), _WANTED[error.check])
        return refusal(evidence.kind, {error.check: check}, entries[0][0])
    endorsed = _Endorsed(quote, evidence.part("collateral"), cache)
    results = []
    for index, values in entries:
        result = _try_entry(quote, values, expected, endorsed, index, thorough=thorough)
        if result.findings.failures == 0:
            break
        results.append(result)
    else:
        result = min(results, key=lambda result: result.rank)
    accepted, checks = result.findings.conclude(_MANDATORY)
    claims = _claims(evidence, quote, endorsed, result) if accepted else None
    return Verdict(evidence.kind, RULES_VERSION, accepted, checks, claims, result.index)


class _Endorsed:
    """What came along with a quote, read at most once however many entries ask, and the library's word on it."""

    def __init__(self, quote: Quote, collateral: bytes | None, cache: ChainCache | None) -> None:
        self._quote = quote
        self._raw = collateral
        self._cache = cache
        self._answer: tuple[Any, str] | None = None

    def platform(self) -> Platform:
        """The platform that the PCK certificate names. Raises CertificateError."""
        key = hashlib.sha256(self._quote.chain_pem).digest()
        found = None if self._cache is None else self._cache.platforms.get(key)
        if found is None:
            found = parse_platform(self._quote.certificates)
            if self._cache is not None and found.root == INTEL_ROOT:
                self._cache.platforms.put(key, found)
        return found

    def collateral(self) -> Collateral:
        """The collateral. Raises CollateralError."""
        if self._raw is None:
            raise CollateralError("no collateral came with the quote")
        key = hashlib.sha256(self._raw).digest()
        found = None if self._cache is None else self._cache.collaterals.get(key)
        if found is None:
            found = parse_collateral(self._raw)
            if self._cache is not None:
                self._cache.collaterals.put(key, found)
        return found

    def answer(self, now: datetime) -> tuple[Any, str]:
        """What dcap-qvl says: its report and "", or None and why it refuses."""
        if self._answer is None:
            try:
                report = dcap_qvl.verify(self._quote.raw, self.collateral().library, int(now.timestamp()))
            except ValueError as error:
                self._answer = None, " ".join(str(error).split()).removeprefix("Verification failed: ")[:300]
            else:
                self._answer = report, ""
        return self._answer

    def superseded(self, now: datetime) -> datetime | None:
        """When Intel dated the level that superseded the platform's; None where that is not all that is out of date."""
        seconds = int(now.timestamp())
        policy = dcap_qvl.QuotePolicy.claims_only(seconds)
        collateral = self.collateral()
        verified = dcap_qvl.QuoteVerifier().verify_with_policy(self._quote.raw, collateral.library, seconds, policy)
        claims = json.loads(verified.to_json())
        level = parse_date(claims["platform"]["tcb_level"]["tcbDate"])
        newer = [date for date in collateral.level_dates if date > level]
        if claims["qe"]["tcb_level"]["tcbStatus"] != UP_TO_DATE or not newer:
            return None
        return min(newer)


def _try_entry(
    quote: Quote,
    values: TdxReferenceValues,
    expected: Expected,
    endorsed: _Endorsed,
    index: int,
    *,
    thorough: bool,
) -> _Result:
    findings = Findings()
    _fields(findings, quote, values, expected)
    stage, status = 0, ""
    advisories: tuple[str, ...] = ()
    if thorough or not findings.failures:
        stage = 1
        has_collateral = _endorsements(findings, endorsed, values, expected)
        if has_collateral and (thorough or not findings.failures):
            stage = 2
            status, advisories = _library(findings, endorsed, values, expected.now, quote, thorough=thorough)
        elif thorough:
            _own_signature(findings, quote, "collateral that fits: without it dcap-qvl judges nothing")
    return _Result(stage, findings, index, status, advisories)


def _fields(findings: Findings, quote: Quote, values: TdxReferenceValues, expected: Expected) -> None:
    """Make every check that needs the quote's own bytes and nothing else."""
    findings.decide(1, True, lambda: f"{len(quote.raw)} bytes", _WANTED[1])  # (1, 2) The parser has made these.
    findings.decide(2, True, lambda: f"version {quote.version}, {quote.body}", _WANTED[2])
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
    # (18) As the guest policy of SNP, attributes are no part of MRTD.
    fault = attributes_fault(quote.td_attributes, allow_perfmon=values.allow_perfmon)
    findings.decide(
        18,
        fault is None,
        lambda: fault or describe_attributes(quote.td_attributes),
        "SEPT_VE_DISABLE; no DEBUG, no MIGRATABLE, nothing undefined"
        + ("" if values.allow_perfmon else ", no PERFMON"),
    )
    findings.skip(20, "TDX has no privilege levels", "not asked for")
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
    # (22) A service TD may migrate the guest or speak for it.
    findings.decide(
        22,
        quote.mr_service_td == _ZERO_48,
        lambda: f"MRSERVICETD {quote.mr_service_td.hex()}",
        "no service TD: dcap-qvl judges no quote with one, genuine or not",
    )
    findings.skip(
        23, lambda: f"MROWNER {quote.mr_owner.hex()}, MROWNERCONFIG {quote.mr_owner_config.hex()}", "not asked for"
    )
    # (24) The policy that the host launched the guest with must be one that somebody vetted.
    findings.decide(
        24, quote.host_data in expected.host_data, quote.mr_config_id.hex, "the digest of a policy that is named"
    )
    # (25) Replay, relay: this quote was made for this exchange and no other.
    findings.decide(25, quote.report_data == expected.report_data, quote.report_data.hex, expected.report_data.hex)


def _endorsements(findings: Findings, endorsed: _Endorsed, values: TdxReferenceValues, expected: Expected) -> bool:
    """Checks of what came along; False where the library has nothing to go on with."""
    try:
        platform = endorsed.platform()
    except CertificateError as error:
        findings.decide(9, False, str(error), _WANTED[9])
        return False
    findings.decide(9, True, "strict PEM and DER", _WANTED[9])
    # (6) The root is compared with what is pinned, never taken as it came.
    findings.decide(
        6,
        platform.root == INTEL_ROOT,
        lambda: f"root {platform.root.hex()}",
        lambda: f"Intel SGX Root CA {INTEL_ROOT.hex()}",
    )
    findings.decide(8, True, lambda: f"PCK certificate under the {platform.ca} CA", "a PCK certificate of Intel's")
    _platform(findings, platform, values)
    try:
        collateral = endorsed.collateral()
    except CollateralError as error:
        findings.decide(12, False, str(error), "Intel's collateral for the platform")
        return False
    # (5) Collateral of another platform says nothing about this one.
    findings.decide(
        5,
        collateral.fmspc == platform.fmspc,
        lambda: f"collateral for FMSPC {collateral.fmspc.hex()}",
        lambda: f"FMSPC {platform.fmspc.hex()}, as the PCK certificate says",
    )
    findings.skip(13, lambda: f"FMSPC {platform.fmspc.hex()}", "with check 5: a PCK certificate names no chip")
    # (14) Neither collateral from the future nor a level that Intel has withdrawn since.
    is_fresh = collateral.issued <= expected.now < collateral.expires
    findings.decide(
        14,
        is_fresh,
        lambda: f"collateral from {_minute(collateral.issued)} to {_minute(collateral.expires)}",
        "collateral that is valid when judged" + ("" if is_fresh else f", at {_minute(expected.now)}"),
    )
    # (15) Older collateral may be valid still and not know of a new weakness.
    minimum = values.minimum_tcb_evaluation_data_number
    if minimum:
        findings.decide(
            15,
            collateral.evaluation_number >= minimum,
            f"evaluation number {collateral.evaluation_number}",
            f"{minimum} or later",
        )
    else:
        findings.skip(15, f"evaluation number {collateral.evaluation_number}", "not asked for")
    return collateral.fmspc == platform.fmspc


def _platform(findings: Findings, platform: Platform, values: TdxReferenceValues) -> None:
    # (16) Platforms and products that are trusted no more.
    is_denied = platform.instance_id is not None and platform.instance_id in values.denied_piids
    findings.decide(
        16,
        not is_denied and not values.distrusted,
        lambda: (
            "TDX, which this entry distrusts"
            if values.distrusted
            else f"platform {'on' if is_denied else 'not on'} the deny-list"
        ),
        "platform not on the deny-list, entry not distrusted",
    )
    # (19) Only what Intel certifies; silence is no yes.
    faults = []
    if values.memory_integrity and platform.memory != "scalable with integrity":
        faults.append(f"memory protection is {platform.memory}")
    if values.smt_disabled and platform.smt is not False:
        faults.append("SMT is on" if platform.smt else "nothing is said about SMT")
    if values.static_platform and platform.dynamic is not False:
        faults.append("the platform is dynamic" if platform.dynamic else "nothing is said about the platform's changes")

    def seen() -> str:
        return ", ".join(faults) or (
            f"memory {platform.memory}, SMT {_said(platform.smt)}, dynamic {_said(platform.dynamic)}, "
            f"cached keys {_said(platform.cached_keys)}"
        )

    if values.memory_integrity or values.smt_disabled or values.static_platform:
        wanted = [
            text
            for asked, text in (
                (values.memory_integrity, "memory integrity"),
                (values.smt_disabled, "no SMT"),
                (values.static_platform, "a static platform"),
            )
            if asked
        ]
        findings.decide(19, not faults, seen, ", ".join(wanted))
    else:
        findings.skip(19, seen, "not asked for")
    # (26) Only these machines, where some are named.
    instance = "none" if platform.instance_id is None else platform.instance_id.hex()
    if values.allowed_piids:
        findings.decide(
            26,
            platform.instance_id in values.allowed_piids,
            f"platform instance {instance}",
            f"one of {len(values.allowed_piids)} named platforms",
        )
    else:
        findings.skip(26, f"platform instance {instance}", "not asked for")


def _library(
    findings: Findings,
    endorsed: _Endorsed,
    values: TdxReferenceValues,
    now: datetime,
    quote: Quote,
    *,
    thorough: bool,
) -> tuple[str, tuple[str, ...]]:
    """Checks 7, 10, 11, 12 and 17: what dcap-qvl says, and what the entry makes of it."""
    report, reason = endorsed.answer(now)
    if report is None:
        number = next((number for text, number in _REASONS if text in reason), 11)
        findings.decide(number, False, f"dcap-qvl refuses: {reason}", "a quote that dcap-qvl verifies")
        if thorough:
            # Where the library stopped before or after its arithmetic, ours tells whether the quote is genuine.
            _own_signature(findings, quote, "dcap-qvl's word, which it does not give")
        return "", ()
    findings.decide(7, True, "the quote's own PCK chain holds", "the quote's own PCK chain, valid when judged")
    findings.decide(10, True, "on no list", "no certificate on Intel's revocation lists, and lists that are fresh")
    findings.decide(11, True, "signature holds", "signatures of PCK key, quoting enclave and attestation key")
    status, advisories = str(report.status), tuple(map(str, report.advisory_ids))
    _status(findings, endorsed, values, now, status)
    rejected = [name for name in advisories if name in values.rejected_advisories]
    if values.rejected_advisories:
        findings.decide(
            17,
            not rejected,
            ", ".join(rejected or advisories) or "no advisory",
            f"none of {', '.join(values.rejected_advisories)}",
        )
    else:
        findings.skip(17, ", ".join(advisories) or "no advisory", "not asked for")
    return status, advisories


def _status(findings: Findings, endorsed: _Endorsed, values: TdxReferenceValues, now: datetime, status: str) -> None:
    """(12) The library calls OutOfDate verified; whether that is good enough is the entry's to say."""
    allowed = status in values.allowed_tcb_statuses and status != _REVOKED
    seen, wanted = f"status {status}", f"status {', '.join(values.allowed_tcb_statuses)}"
    if values.grace_period_days:
        wanted += f", or out of date for at most {values.grace_period_days} days"
        if not allowed and status in _GRACE:
            dated = endorsed.superseded(now)
            allowed = dated is not None and now <= dated + timedelta(days=values.grace_period_days)
            seen += (
                ", and not by a newer level alone" if dated is None else f", superseded on {dated.date().isoformat()}"
            )
    findings.decide(12, allowed, seen, wanted)


def _own_signature(findings: Findings, quote: Quote, missing: str) -> None:
    fault = signature_fault(quote)
    if fault is not None:
        findings.decide(11, False, fault, "signatures of PCK key, quoting enclave and attestation key")
    else:
        findings.skip(
            11, f"signatures of quote and quoting enclave hold; not judged is the rest, for want of {missing}", ""
        )


def _claims(evidence: Evidence, quote: Quote, endorsed: _Endorsed, result: _Result) -> TdxClaims:
    return TdxClaims(
        kind=evidence.kind,
        quote_version=quote.version,
        tcb_status=result.status,
        advisories=result.advisories,
        evaluation_number=endorsed.collateral().evaluation_number,
        memory=endorsed.platform().memory,
        host_data=quote.host_data,
        mr_td=quote.mr_td,
        mr_seam=quote.mr_seam,
        rtmrs=quote.rtmrs,
        xfam=quote.xfam,
        td_attributes=quote.td_attributes,
        tee_tcb_svn=quote.tee_tcb_svn,
    )


def _said(flag: bool | None) -> str:
    return "not said" if flag is None else "on" if flag else "off"


def _minute(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"
