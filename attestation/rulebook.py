"""Versions of the rules: by which checks evidence is judged, and was judged once. It makes no check itself.

What a verdict decided must be found again for ever by those who audit it, so the checks of a released version never
change: a stricter check, or one less, is a new version with functions of its own in this table, and the old ones stay.
Texts may be worded better at any time; ``tests/golden/verdicts-v1.json`` and ``published-v1.json`` hold what version 1
decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from attestation.azure import verify as azure_verify
from attestation.cache import ChainCache
from attestation.evidence import Evidence
from attestation.reference import AzureReferenceValues, SnpReferenceValues, TdxReferenceValues
from attestation.snp import verify as snp_verify
from attestation.snp.case import Expected
from attestation.tdx import verify as tdx_verify
from attestation.verdict import RULES_VERSION, Verdict

_Values_contra = TypeVar("_Values_contra", contravariant=True)


class Checks(Protocol[_Values_contra]):
    """The checks of one kind of evidence in one version."""

    def __call__(
        self,
        evidence: Evidence,
        entries: Sequence[tuple[int, _Values_contra]],
        expected: Expected,
        *,
        cache: ChainCache | None,
        thorough: bool,
    ) -> Verdict:
        """Judge *evidence* by each of *entries*, reference values with their index in the caller's list."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The checks of one version, by kind of evidence; simulated evidence is judged as SEV-SNP."""

    snp: Checks[SnpReferenceValues]
    tdx: Checks[TdxReferenceValues]
    azure: Checks[AzureReferenceValues]


RULE_SETS: Final[dict[int, RuleSet]] = {
    1: RuleSet(snp_verify.verify, tdx_verify.verify, azure_verify.verify),
}
"""Version -> its checks; the highest is today's, by which everything new is judged."""

assert max(RULE_SETS) == RULES_VERSION  # noqa: S101 - two names of one thing


def newest() -> int:
    """Today's version."""
    return max(RULE_SETS)


def is_known(rules: int) -> bool:
    """Whether this program can judge as version *rules* did."""
    return rules in RULE_SETS


def unknown(rules: int) -> str:
    """What to tell about a version that this program does not know."""
    return (
        f"it was decided by version {rules} of the rules, this program knows 1 to {newest()}: a newer release can "
        "judge it"
    )
