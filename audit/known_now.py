"""The second verdict: what an auditor knows today about evidence that was accepted then. It changes no history."""

from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.evidence import Evidence, host_data_of
from attestation.judge import ChainCache, judge
from attestation.reference import ReferenceValues, SnpReferenceValues, TdxReferenceValues
from attestation.verdict import Verdict
from audit.cases import Knowledge
from coordinator.epoch_rules import describe
from manifest.model import Manifest

CHIP_ID_BYTES: Final = 64
TURIN_ID_BYTES: Final = 8  # The rest of the 64 is zero.
PLATFORM_ID_BYTES: Final = 16


class CrlFileError(Exception):
    """A file that was to be a revocation list is none."""

    code = "bad_crl"


class Today:
    """Today's rules, revocation lists and deny-lists, ready to judge evidence again."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._crls = {x509.load_der_x509_crl(raw).issuer.public_bytes(): raw for raw in knowledge.crls}
        self._values: tuple[bytes, tuple[ReferenceValues, ...]] | None = None
        self._issuers: dict[bytes, bytes] = {}

    def refusal(
        self, evidence: Evidence, manifest: Manifest, *, report_data: bytes, cache: ChainCache | None = None
    ) -> str | None:
        """Why *evidence* would not pass now, or None; *report_data* is the recorded binding."""
        verdict = self._verdict(evidence, manifest, report_data, cache)
        return None if verdict.accepted else describe(verdict)

    def _verdict(self, evidence: Evidence, manifest: Manifest, report_data: bytes, cache: ChainCache | None) -> Verdict:
        return judge(
            self._with_list(evidence),
            self._values_of(manifest),
            report_data=report_data,
            host_data={host_data_of(evidence)},  # Which policies were allowed is the manifest's matter, judged then.
            now=self._knowledge.at,
            cache=cache,
        )

    def _with_list(self, evidence: Evidence) -> Evidence:
        """*evidence* with the revocation list of its root that was given; as recorded where none was."""
        root = evidence.part("root")
        if not self._crls or root is None:
            return evidence
        issuer = self._issuers.get(root)
        if issuer is None:
            try:
                issuer = x509.load_der_x509_certificate(root).subject.public_bytes()
            except (ValueError, UnsupportedAlgorithm):
                return evidence  # The judge refuses the chain, and says why.
            self._issuers[root] = issuer
        crl = self._crls.get(issuer)
        return evidence if crl is None else Evidence.make(evidence.kind, {**dict(evidence.parts), "crl": crl})

    def _values_of(self, manifest: Manifest) -> tuple[ReferenceValues, ...]:
        if self._values is None or self._values[0] != manifest.digest:
            given = self._knowledge.reference_values
            values = manifest.reference_values if given is None else given
            self._values = (manifest.digest, tuple(self._stricter(entry) for entry in values))
        return self._values[1]

    def _stricter(self, entry: ReferenceValues) -> ReferenceValues:
        if isinstance(entry, SnpReferenceValues):
            return self._stricter_snp(entry)
        if isinstance(entry, TdxReferenceValues):
            platforms = tuple(sorted(each for each in self._knowledge.denied if len(each) == PLATFORM_ID_BYTES))
            return replace(entry, denied_piids=(*entry.denied_piids, *platforms))
        return replace(entry, snp=self._stricter_snp(entry.snp))

    def _stricter_snp(self, entry: SnpReferenceValues) -> SnpReferenceValues:
        chips = tuple(sorted(each for each in self._knowledge.denied if len(each) == CHIP_ID_BYTES))
        # The list recorded with the evidence is old by now, and that is no fault of the evidence: its age counts only
        # where a newer one was given.
        return replace(
            entry,
            denied_chip_ids=(*entry.denied_chip_ids, *chips),
            crl=entry.crl if self._crls else "warn",
        )


def read_crl(raw: bytes, *, name: str) -> bytes:
    """A revocation list in DER or PEM, as DER.

    Raises:
        CrlFileError: it is none.
    """
    try:
        read = x509.load_pem_x509_crl if raw.lstrip().startswith(b"-----BEGIN") else x509.load_der_x509_crl
        crl = read(raw)
    except ValueError as error:
        raise CrlFileError(f"{name} is no X.509 revocation list in DER or PEM: {error}") from None
    return crl.public_bytes(Encoding.DER)
