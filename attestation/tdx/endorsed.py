"""Checks 5 to 17, 19 and 26 of a TDX quote: what came along with it, and what dcap-qvl says, judged by an entry."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dcap_qvl

from attestation.cache import ChainCache
from attestation.errors import CertificateError, CollateralError
from attestation.evidence import TDX_BODY, TDX_BODY_V5, TDX_REPORT_DATA
from attestation.findings import Findings
from attestation.reference import UP_TO_DATE, TdxReferenceValues
from attestation.snp.case import Expected
from attestation.tdx.collateral import Collateral, parse_collateral, parse_date
from attestation.tdx.fields import WANTED
from attestation.tdx.pck import INTEL_ROOT, Platform, parse_platform
from attestation.tdx.quote import Quote, parse_quote
from attestation.tdx.signatures import signature_fault
from attestation.tdx.standing import Standing, likeness
from attestation.verdict import TdxClaims, Verdict

_REVOKED: Final = "Revoked"
_GRACE: Final = frozenset({"OutOfDate", "OutOfDateConfigurationNeeded"})
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


class Endorsed:
    """What came along with a quote, read at most once however many entries ask, and the library's word on it."""

    def __init__(self, raw: bytes, collateral: bytes | None, cache: ChainCache | None) -> None:
        self._quote_raw = raw
        self._raw = collateral
        self._cache = cache
        self._key = b"" if cache is None or collateral is None else hashlib.sha256(collateral).digest()
        self._quote: Quote | None = None
        self._platform: Platform | None = None
        self._collateral: Collateral | None = None
        self._answer: tuple[Any, str] | None = None

    def quote(self) -> Quote:
        """The quote. Raises QuoteError."""
        if self._quote is None:
            self._quote = parse_quote(self._quote_raw)
        return self._quote

    def standing(self, values: TdxReferenceValues, expected: Expected) -> Standing | None:
        """What is remembered of a like quote with this collateral, accepted by this entry, if this one is, too.

        It never says so of a quote that is not: dcap-qvl is asked about this one, last since it costs the most.
        """
        if self._cache is None or self._raw is None:
            return None
        raw, now = self._quote_raw, expected.now
        found = self._cache.quotes.get(self._standing_key(values))
        if found is None or found.values is not values:
            return None
        body = TDX_BODY_V5 if raw[:2] == b"\5\0" else TDX_BODY
        return (
            found
            if raw[body + TDX_REPORT_DATA : body + TDX_REPORT_DATA + 64] == expected.report_data  # (25)
            and found.claims.host_data in expected.host_data  # (24)
            and found.issued <= now < found.expires  # (14)
            and self.word(now) == found.word  # (7, 10, 11, 12, 17)
            else None
        )

    def remember(self, verdict: Verdict, values: TdxReferenceValues, claims: TdxClaims, now: datetime) -> None:
        """Keep what was found of a quote that was accepted, unless only for a while: then the clock decides anew."""
        word = self.word(now)
        if self._cache is not None and word is not None and word[0] in values.allowed_tcb_statuses:
            read = self.collateral()
            standing = Standing(values, word, read.issued, read.expires, verdict.outcomes, verdict.texts, claims)
            self._cache.quotes.put(self._standing_key(values), standing)

    def _standing_key(self, values: TdxReferenceValues) -> tuple[bytes, int, bytes]:
        return self._key, id(values), likeness(self._quote_raw)

    def word(self, now: datetime) -> tuple[str, tuple[str, ...]] | None:
        """Status and advisories, as dcap-qvl gives them; None where it refuses."""
        report, _ = self.answer(now)
        return None if report is None else (str(report.status), tuple(map(str, report.advisory_ids)))

    def platform(self) -> Platform:
        """The platform that the PCK certificate names. Raises CertificateError."""
        if self._platform is not None:
            return self._platform
        quote = self.quote()
        key = hashlib.sha256(quote.chain_pem).digest()
        found = None if self._cache is None else self._cache.platforms.get(key)
        if found is None:
            found = parse_platform(quote.certificates)
            if self._cache is not None and found.root == INTEL_ROOT:
                self._cache.platforms.put(key, found)
        self._platform = found
        return found

    def collateral(self) -> Collateral:
        """The collateral. Raises CollateralError."""
        if self._collateral is not None:
            return self._collateral
        if self._raw is None:
            raise CollateralError("no collateral came with the quote")
        found = None if self._cache is None else self._cache.collaterals.get(self._key)
        if found is None:
            found = parse_collateral(self._raw)
            if self._cache is not None:
                self._cache.collaterals.put(self._key, found)
        self._collateral = found
        return found

    def answer(self, now: datetime) -> tuple[Any, str]:
        """What dcap-qvl says: its report and "", or None and why it refuses."""
        if self._answer is None:
            try:
                report = dcap_qvl.verify(self._quote_raw, self.collateral().library, int(now.timestamp()))
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
        verified = dcap_qvl.QuoteVerifier().verify_with_policy(self._quote_raw, collateral.library, seconds, policy)
        claims = json.loads(verified.to_json())
        level = parse_date(claims["platform"]["tcb_level"]["tcbDate"])
        newer = [date for date in collateral.level_dates if date > level]
        if claims["qe"]["tcb_level"]["tcbStatus"] != UP_TO_DATE or not newer:
            return None
        return min(newer)


def endorsement_checks(findings: Findings, endorsed: Endorsed, values: TdxReferenceValues, expected: Expected) -> bool:
    """Checks of what came along; False where the library has nothing to go on with."""
    try:
        platform = endorsed.platform()
    except CertificateError as error:
        findings.decide(9, False, str(error), WANTED[9])
        return False
    findings.decide(9, True, "strict PEM and DER", WANTED[9])
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


def library_checks(
    findings: Findings,
    endorsed: Endorsed,
    values: TdxReferenceValues,
    now: datetime,
    quote: Quote,
    *,
    thorough: bool,
) -> tuple[str, tuple[str, ...]]:
    """Checks 7, 10, 11, 12 and 17: what dcap-qvl says, and what the entry makes of it."""
    word = endorsed.word(now)
    if word is None:
        _, reason = endorsed.answer(now)
        number = next((number for text, number in _REASONS if text in reason), 11)
        findings.decide(number, False, f"dcap-qvl refuses: {reason}", "a quote that dcap-qvl verifies")
        if thorough:
            # Where the library stopped before or after its arithmetic, ours tells whether the quote is genuine.
            own_signature(findings, quote, "dcap-qvl's word, which it does not give")
        return "", ()
    findings.decide(7, True, "the quote's own PCK chain holds", "the quote's own PCK chain, valid when judged")
    findings.decide(10, True, "on no list", "no certificate on Intel's revocation lists, and lists that are fresh")
    findings.decide(11, True, "signature holds", "signatures of PCK key, quoting enclave and attestation key")
    status, advisories = word
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


def _status(findings: Findings, endorsed: Endorsed, values: TdxReferenceValues, now: datetime, status: str) -> None:
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


def own_signature(findings: Findings, quote: Quote, missing: str) -> None:
    """(11) What our own arithmetic says of a quote that the library does not judge, for want of *missing*."""
    fault = signature_fault(quote)
    if fault is not None:
        findings.decide(11, False, fault, "signatures of PCK key, quoting enclave and attestation key")
    else:
        findings.skip(
            11, f"signatures of quote and quoting enclave hold; not judged is the rest, for want of {missing}", ""
        )


def _said(flag: bool | None) -> str:
    return "not said" if flag is None else "on" if flag else "off"


def _minute(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"
