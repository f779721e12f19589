"""The numbered checks of an SEV-SNP report against one entry of reference values. No I/O, no clock, no second opinion.

Numbers are those of the verdict (docs/formats.md, section 7), not the order of work. The work goes in three stages,
each only where the one before refused nothing: what the report says (``fields``), what the certificates say, and the
signatures (both ``endorsed``; one P-384 verification, and up to four RSA-4096 for a chain not seen before). A report
that is like one accepted before needs a few of them only (``standing``).

 1 exact length                      10 revocation list                  19 platform state
 2 version 2 to 5                    11 signature over bytes 000..29F    20 privilege level
 3 algorithm, flags, signing key     12 certificate TCB = REPORTED_TCB   21 launch measurement
 4 zero where zero must be; r, s     13 hwID = CHIP_ID, or provider      22 ID block
 5 product                           14 order of the TCB versions        23 guest version and ids
 6 trust anchor                      15 minimum TCB                      24 HOST_DATA is a known policy
 7 chain links and validity          16 distrust: bounds and deny-list   25 REPORT_DATA binds this exchange
 8 VCEK under ASK, VLEK under ASVK   17 mitigations                      26 chip allow-list
 9 strict encoding of certificates   18 launch policy                    27 every check decided, none failed
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attestation.cache import ChainCache
from attestation.errors import ReportError
from attestation.evidence import Evidence
from attestation.findings import refusal
from attestation.reference import SnpReferenceValues
from attestation.snp.case import Case, Expected
from attestation.snp.chain import Chain
from attestation.snp.endorsed import Endorsements, endorsement_checks, signature_checks
from attestation.snp.fields import field_checks, unreadable
from attestation.snp.report import Report, parse_report
from attestation.verdict import RULES_VERSION, Claims, Verdict

# (27) What must have passed, whatever an entry asks for; the rest must not have failed.
_MANDATORY: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 18, 20, 21, 24, 25)
_MANDATORY_WITH_LIST: Final = tuple(sorted((*_MANDATORY, 10)))


@dataclass(frozen=True, slots=True)
class _Result:
    stage: int
    failures: int
    case: Case
    index: int

    @property
    def rank(self) -> tuple[int, int, int]:
        """Smaller is nearer to acceptance: the stage reached, then the failures, then the order of entries."""
        return -self.stage, self.failures, self.index


def verify(
    evidence: Evidence,
    entries: Sequence[tuple[int, SnpReferenceValues]],
    expected: Expected,
    *,
    cache: ChainCache | None,
    thorough: bool,
) -> Verdict:
    """Judge *evidence* by every entry; the first that is satisfied decides, else the one that came nearest.

    Args:
        evidence: of kind ``snp`` or ``simulated``.
        entries: reference values with their index in the caller's list, at least one.
        expected: what the report must be bound to, and the time.
        cache: verified chains.
        thorough: make all checks whatever failed before; for people who ask why.
    """
    endorsements = Endorsements(evidence, None if thorough else cache)
    report: Report | None = None
    results = []
    for index, values in entries:
        standing = endorsements.standing(values, expected)
        if standing is not None:
            texts = standing.texts_for(expected.report_data)
            return Verdict(evidence.kind, RULES_VERSION, True, standing.outcomes, texts, standing.claims, index)
        if report is None:
            try:
                report = parse_report(evidence.part("report") or b"")
            except ReportError as error:
                return refusal(evidence.kind, unreadable(error), entries[0][0])
        result = _try_entry(Case(report, values, expected), endorsements, index, thorough=thorough)
        if result.failures == 0:
            break
        results.append(result)
    else:
        result = min(results, key=lambda result: result.rank)
    return _conclude(evidence, result, endorsements)


def _try_entry(case: Case, endorsements: Endorsements, index: int, *, thorough: bool) -> _Result:
    field_checks(case)
    stage = 0
    if thorough or case.failures == 0:
        stage = 1
        has_chain = endorsement_checks(case, endorsements)
        if has_chain and (thorough or case.failures == 0):
            stage = 2
            signature_checks(case, endorsements)
    return _Result(stage, case.failures, case, index)


def _conclude(evidence: Evidence, result: _Result, endorsements: Endorsements) -> Verdict:
    case = result.case
    accepted = case.conclude(_MANDATORY_WITH_LIST if case.values.crl == "required" else _MANDATORY)
    claims = _claims(evidence, case, endorsements.chain()) if accepted else None
    verdict = Verdict(
        evidence.kind, RULES_VERSION, accepted, bytes(case.outcomes), tuple(case.texts), claims, result.index
    )
    if claims is not None:
        endorsements.remember(verdict, case.values, claims, case.expected.now)
    return verdict


def _claims(evidence: Evidence, case: Case, chain: Chain) -> Claims:
    report, tcbs = case.report, case.tcbs
    return Claims(
        kind=evidence.kind,
        product=case.product.name,
        report_version=report.version,
        endorsement=chain.endorsement.kind.value,
        provider=chain.endorsement.provider,
        measurement=report.measurement,
        host_data=report.host_data,
        guest_policy=report.policy,
        guest_svn=report.guest_svn,
        family_id=report.family_id,
        image_id=report.image_id,
        vmpl=report.vmpl,
        platform_info=report.platform_info,
        reported_tcb=tcbs.reported,
        current_tcb=tcbs.current,
        committed_tcb=tcbs.committed,
        launch_tcb=tcbs.launch,
        current_firmware=_dotted(report.current_firmware),
        committed_firmware=_dotted(report.committed_firmware),
        id_key_digest=report.id_key_digest,
        author_key_digest=report.author_key_digest,
        launch_mitigations=report.launch_mitigations,
        current_mitigations=report.current_mitigations,
    )


def _dotted(version: tuple[int, int, int]) -> str:
    major, minor, build = version
    return f"{major}.{minor}.{build}"
