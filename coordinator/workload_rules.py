"""What is recorded for workloads: attestations, certificates, secrets, counted refusals, and in which order.

What needs the evidence of every single certificate stands in ``audit``.
"""

from typing import Final

from attestation.binding import Purpose, report_data
from attestation.verdict import Outcome
from coordinator.decide import MAX_REFUSAL_CODES, REFUSAL_INTERVAL_MS
from coordinator.documents import Documents
from coordinator.epoch_rules import demand_known
from coordinator.events import AttestationAccepted, AttestationRefused, CertificateIssued, Event, SecretReleased
from coordinator.keys import sha256
from coordinator.refusals import RuleBrokenError
from coordinator.state import LastAttestation, State
from ledger.entry import Entry

CHECKS: Final = 27


class WorkloadRules:
    """Judges what one command after the other recorded for pods."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def due(self, state: State, last: LastAttestation, seq: int) -> str | None:
        """The type that must stand at *seq*, since one command records an attestation and all that it led to."""
        if not last.certificate:
            return CertificateIssued.type
        if seq == last.seq + 2 and state.current is not None:
            policy = self._documents.manifest(state.current.manifest, seq=seq).policies.get(last.event.policy)
            if policy is not None and policy.workload_secret_id is not None:
                return SecretReleased.type
        return None

    def follows(self, state: State, last: LastAttestation, event: Event, seq: int) -> None:
        """Whatever follows an attestation is what it led to, until its command is whole."""
        due = self.due(state, last, seq)
        if due is not None and event.type != due:
            raise RuleBrokenError(
                seq, "an attestation is recorded with all that it led to", seen=event.type, wanted=due
            )

    def attested(self, state: State, entry: Entry, event: AttestationAccepted) -> None:
        """Evidence was accepted: for a policy of the manifest in force, bound to nonce and keys, no check failed."""
        seq, current = entry.body.seq, state.current
        if current is None or event.manifest_seq != current.seq:
            raise RuleBrokenError(seq, "judged by another manifest than the one in force", seen=str(event.manifest_seq))
        if event.purpose != Purpose.WORKLOAD.value:
            raise RuleBrokenError(seq, "purpose of the evidence", seen=event.purpose, wanted=Purpose.WORKLOAD.value)
        if event.policy not in self._documents.manifest(current.manifest, seq=seq).policies:
            raise RuleBrokenError(seq, "the manifest does not name this policy", seen=event.policy.hex())
        if sha256(report_data(Purpose.WORKLOAD, event.nonce, event.subject)) != entry.body.request_id:
            raise RuleBrokenError(seq, "the request id is not of this nonce and subject")
        demand_known(event.rules, seq)
        if len(event.outcomes) != CHECKS or Outcome.FAILED in event.outcomes:
            raise RuleBrokenError(seq, "an accepted attestation has a failed check", seen=event.outcomes.hex())

    def issued(self, state: State, entry: Entry, event: CertificateIssued) -> None:
        """A certificate for the attestation right before, with the manifest's names."""
        seq, last, current = entry.body.seq, state.last, state.current
        if last is None or current is None or last.seq != seq - 1 or last.request_id != entry.body.request_id:
            raise RuleBrokenError(seq, "a certificate follows the attestation it was issued for")
        if event.attestation_seq != last.seq:
            raise RuleBrokenError(seq, "attestation seq", seen=str(event.attestation_seq), wanted=str(last.seq))
        sans = self._documents.manifest(current.manifest, seq=seq).policies[last.event.policy].sans
        if event.sans != sans:
            raise RuleBrokenError(seq, "the SANs are not the manifest's", seen=str(event.sans), wanted=str(sans))
        if not event.not_before < event.not_after:
            raise RuleBrokenError(seq, "validity", seen=f"{event.not_before} to {event.not_after}")

    def released(self, state: State, entry: Entry, event: SecretReleased) -> None:
        """A secret for the certificate right before: the one that the manifest gives its policy."""
        seq, last, current = entry.body.seq, state.last, state.current
        if last is None or current is None or not last.certificate or last.request_id != entry.body.request_id:
            raise RuleBrokenError(seq, "a secret follows the certificate it was released with")
        if seq != last.seq + 2:
            raise RuleBrokenError(seq, "a secret is released once for a certificate")
        if (event.attestation_seq, event.certificate, event.policy) != (last.seq, last.certificate, last.event.policy):
            raise RuleBrokenError(seq, "the secret went to another than the attested pod")
        wanted = self._documents.manifest(current.manifest, seq=seq).policies[event.policy].workload_secret_id
        if event.secret_id != wanted:
            raise RuleBrokenError(
                seq, "the manifest gives this policy another secret", seen=event.secret_id, wanted=str(wanted)
            )


def check_refusals(state: State, entry: Entry, event: AttestationRefused) -> None:
    """Counted refusals: at most sixteen codes, each at most every ten minutes, so that no stranger grows the ledger."""
    seq = entry.body.seq
    last = state.refusals.get(event.refusal)
    if last is None and len(state.refusals) >= MAX_REFUSAL_CODES:
        raise RuleBrokenError(seq, "more codes of refusals than may be recorded", wanted=f"at most {MAX_REFUSAL_CODES}")
    if last is not None and entry.body.time_ms - last < REFUSAL_INTERVAL_MS:
        raise RuleBrokenError(seq, "refusals of one code are recorded more often than every ten minutes")
    if event.count < 1 or event.first_ms > event.last_ms:
        raise RuleBrokenError(seq, "a count of refusals", seen=f"{event.count}, {event.first_ms} to {event.last_ms}")
