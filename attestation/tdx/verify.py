"""The numbered checks of a TDX quote against one entry of reference values. No I/O, no clock.

Numbers and names are those of the verdict (docs/formats.md, section 7), with their meaning for TDX:

 1 exact length, nothing behind it    10 revocation lists                   19 memory integrity, SMT, static
 2 version 4 or 5, TD 1.0 or TD 1.5   11 signatures: quote, QE, PCK         20 VM of a partitioned TD
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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attestation.cache import ChainCache
from attestation.errors import QuoteError
from attestation.evidence import Evidence
from attestation.findings import Findings, refusal
from attestation.reference import TdxReferenceValues
from attestation.snp.case import Expected
from attestation.tdx.endorsed import Endorsed, endorsement_checks, library_checks, own_signature
from attestation.tdx.fields import WANTED, field_checks
from attestation.tdx.quote import Quote
from attestation.verdict import CHECK_NAMES, RULES_VERSION, Check, Outcome, TdxClaims, Verdict

_MANDATORY: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 21, 22, 24, 25)


@dataclass(frozen=True, slots=True)
class _Result:
    stage: int
    findings: Findings
    index: int
    values: TdxReferenceValues
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
    endorsed = Endorsed(evidence.part("quote") or b"", evidence.part("collateral"), None if thorough else cache)
    results = []
    for index, values in entries:
        standing = endorsed.standing(values, expected)
        if standing is not None:
            texts = standing.texts_for(expected.report_data)
            return Verdict(evidence.kind, RULES_VERSION, True, standing.outcomes, texts, standing.claims, index)
        try:
            quote = endorsed.quote()
        except QuoteError as error:
            check = Check(error.check, CHECK_NAMES[error.check - 1], Outcome.FAILED, str(error), WANTED[error.check])
            return refusal(evidence.kind, [check], entries[0][0])
        result = _try_entry(quote, values, expected, endorsed, index, thorough=thorough)
        if result.findings.failures == 0:
            break
        results.append(result)
    else:
        result = min(results, key=lambda result: result.rank)
    findings = result.findings
    accepted = findings.conclude(_MANDATORY)
    claims = _claims(evidence, endorsed.quote(), endorsed, result) if accepted else None
    outcomes, texts = bytes(findings.outcomes), tuple(findings.texts)
    verdict = Verdict(evidence.kind, RULES_VERSION, accepted, outcomes, texts, claims, result.index)
    if claims is not None:
        endorsed.remember(verdict, result.values, claims, expected.now)
    return verdict


def _try_entry(
    quote: Quote,
    values: TdxReferenceValues,
    expected: Expected,
    endorsed: Endorsed,
    index: int,
    *,
    thorough: bool,
) -> _Result:
    findings = Findings()
    field_checks(findings, quote, values, expected)
    stage, status = 0, ""
    advisories: tuple[str, ...] = ()
    if thorough or not findings.failures:
        stage = 1
        has_collateral = endorsement_checks(findings, endorsed, values, expected)
        if has_collateral and (thorough or not findings.failures):
            stage = 2
            status, advisories = library_checks(findings, endorsed, values, expected.now, quote, thorough=thorough)
        elif thorough:
            own_signature(findings, quote, "collateral that fits: without it dcap-qvl judges nothing")
    return _Result(stage, findings, index, values, status, advisories)


def _claims(evidence: Evidence, quote: Quote, endorsed: Endorsed, result: _Result) -> TdxClaims:
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
