"""One question, one answer: does this evidence satisfy one of these reference values? No clock, no file."""

from collections.abc import Container, Sequence
from datetime import datetime

from attestation.cache import ChainCache
from attestation.evidence import Evidence, Kind
from attestation.reference import ReferenceValues, SnpReferenceValues
from attestation.snp.case import Expected
from attestation.snp.verify import refusal, verify
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

    Returns:
        The verdict of the first satisfied entry, else of the one that came nearest.

    Raises:
        ValueError: *now* is naive.
    """
    if now.tzinfo is None:
        raise ValueError("now is naive; pass an aware datetime")
    if evidence.kind is Kind.TDX:
        return _refused(evidence.kind, 27, "a TDX quote", "SEV-SNP evidence: this version judges no TDX quotes")
    is_simulated = evidence.kind is Kind.SIMULATED
    entries = [
        (index, values)
        for index, values in enumerate(reference_values)
        if isinstance(values, SnpReferenceValues) and values.is_simulated == is_simulated
    ]
    if not entries:
        wanted = "evidence of a kind that the reference values name; none of them " + (
            "names a simulated anchor" if is_simulated else "is for real SEV-SNP hardware"
        )
        return _refused(evidence.kind, 6, f"{evidence.kind} evidence", wanted)
    try:
        return verify(evidence, entries, Expected(report_data, host_data, now), cache=cache, thorough=thorough)
    except Exception as error:  # noqa: BLE001  (27) A fault of ours on a stranger's bytes must refuse them, never pass them.
        return _refused(
            evidence.kind, 27, f"the checks broke off: {type(error).__name__}", "checks that run to their end"
        )


def _refused(kind: Kind, number: int, seen: str, wanted: str) -> Verdict:
    return refusal(kind, {number: Check(number, CHECK_NAMES[number - 1], Outcome.FAILED, seen, wanted)}, None)
