"""One question, one answer: does this evidence satisfy one of these reference values? No clock, no file."""

from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import datetime

from attestation.cache import ChainCache
from attestation.evidence import Evidence, Kind
from attestation.findings import refusal
from attestation.reference import AzureReferenceValues, ReferenceValues, SnpReferenceValues, TdxReferenceValues
from attestation.rulebook import RULE_SETS, RuleSet, newest
from attestation.snp.case import Expected
from attestation.verdict import CHECK_NAMES, Check, Outcome, Verdict

__all__ = ["ChainCache", "judge"]


def judge(
    evidence: Evidence,
    reference_values: Sequence[ReferenceValues],
    *,
    report_data: bytes,
    host_data: Container[bytes],
    now: datetime,
    cache: ChainCache | None = None,
    thorough: bool = False,
    rules: int | None = None,
) -> Verdict:
    """Judge *evidence* by every entry that fits its kind.

    Simulated evidence is held against entries that name a simulated anchor and against no others, real evidence against
    entries that name none: same checks, other root. No bytes make this raise: whatever goes wrong is a failed check.

    Args:
        evidence: from a stranger.
        reference_values: what is acceptable; one satisfied entry is enough.
        report_data: the 64 bytes that the evidence must be bound to.
        host_data: digests of acceptable policies.
        now: aware; validity of certificates and revocation lists is judged then.
        cache: verified chains; a chain found there costs no RSA.
        thorough: make every check even where an earlier one failed, at the full price; for people who ask why.
        rules: as this version judged, which is one of ``rulebook.RULE_SETS``; None: as today's does.

    Returns:
        The verdict of the first satisfied entry, else of the one that came nearest.

    Raises:
        ValueError: *now* is naive.
        KeyError: *rules* is no version that this program knows; ask ``rulebook.is_known`` first.
    """
    if now.tzinfo is None:
        raise ValueError("now is naive; pass an aware datetime")
    expected = Expected(report_data, host_data, now)
    today = newest()
    version = today if rules is None else rules
    checks = RULE_SETS[version]
    if version != today and cache is not None:
        cache = cache.under(version)
    verdict = _judge(evidence, reference_values, expected, checks, cache=cache, thorough=thorough)
    return verdict if verdict.rules == version else replace(verdict, rules=version)


def _judge(
    evidence: Evidence,
    reference_values: Sequence[ReferenceValues],
    expected: Expected,
    checks: RuleSet,
    *,
    cache: ChainCache | None,
    thorough: bool,
) -> Verdict:
    try:
        if evidence.kind is Kind.TDX:
            tdx = [(i, values) for i, values in enumerate(reference_values) if isinstance(values, TdxReferenceValues)]
            if not tdx:
                return _none_fits(evidence.kind, "is for TDX")
            return checks.tdx(evidence, tdx, expected, cache=cache, thorough=thorough)
        if evidence.kind is Kind.AZURE:
            azure = [
                (i, values) for i, values in enumerate(reference_values) if isinstance(values, AzureReferenceValues)
            ]
            if not azure:
                return _none_fits(evidence.kind, "is for Azure's virtual TPM")
            return checks.azure(evidence, azure, expected, cache=cache, thorough=thorough)
        is_simulated = evidence.kind is Kind.SIMULATED
        snp = [
            (index, values)
            for index, values in enumerate(reference_values)
            if isinstance(values, SnpReferenceValues) and values.is_simulated == is_simulated
        ]
        if not snp:
            return _none_fits(
                evidence.kind, "names a simulated anchor" if is_simulated else "is for real SEV-SNP hardware"
            )
        return checks.snp(evidence, snp, expected, cache=cache, thorough=thorough)
    except Exception as error:  # noqa: BLE001  (27) A fault of ours on a stranger's bytes must refuse them, never pass them.
        return _refused(
            evidence.kind, 27, f"the checks broke off: {type(error).__name__}", "checks that run to their end"
        )


def _none_fits(kind: Kind, lacking: str) -> Verdict:
    return _refused(
        kind, 6, f"{kind} evidence", f"evidence of a kind that the reference values name; none of them {lacking}"
    )


def _refused(kind: Kind, number: int, seen: str, wanted: str) -> Verdict:
    return refusal(kind, [Check(number, CHECK_NAMES[number - 1], Outcome.FAILED, seen, wanted)], None)
