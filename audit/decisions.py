"""From recorded events to cases: what each decision rests on is looked up here, and judged in judging.py."""

from collections.abc import Callable

from audit.cases import AttestationCase, CertificateCase, SecretCase
from coordinator.events import AttestationAccepted, CertificateIssued, SecretReleased
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.rules import Rules
from coordinator.state import State
from ledger.entry import Entry

Blob = Callable[[bytes], bytes | None]


class Decisions:
    """Gathers what decisions rest on.

    Args:
        rules: For manifests.
        blob: The blob with this SHA-256, or None.
    """

    def __init__(self, rules: Rules, blob: Blob) -> None:
        self._rules = rules
        self._blob = blob

    def attestation(self, state: State, entry: Entry, event: AttestationAccepted) -> AttestationCase:
        """The evidence, and the manifest that it must pass. *state* is the one before the entry.

        Raises:
            RuleBrokenError: nothing could have allowed the decision.
            UnprovenError: a blob is missing.
        """
        seq = entry.body.seq
        if state.current is None:
            raise RuleBrokenError(seq, "an attestation before any manifest")
        kind, parts = event.evidence
        return AttestationCase(
            seq=seq,
            time_ms=entry.body.time_ms,
            kind=kind,
            parts=tuple((role, self._need(digest, seq, f"evidence {role}")) for role, digest in parts),
            purpose=event.purpose,
            nonce=event.nonce,
            subject=event.subject,
            rules=event.rules,
            outcomes=event.outcomes,
            verdict=self._need(event.verdict, seq, "the verdict"),
            policy=event.policy,
            manifest_sha256=state.current.manifest,
            manifest=self._rules.manifest(state.current.manifest, seq=seq).raw,
        )

    def certificate(self, state: State, entry: Entry, event: CertificateIssued) -> CertificateCase:
        """The certificate, and what attestation and manifest say of it. As :meth:`attestation`."""
        seq = entry.body.seq
        if state.last is None or state.current is None:
            raise RuleBrokenError(seq, "a certificate without attestation")
        attested = state.last.event
        policy = self._rules.manifest(state.current.manifest, seq=seq).policies[attested.policy]
        return CertificateCase(
            seq=seq,
            time_ms=entry.body.time_ms,
            certificate=self._need(event.certificate, seq, "the certificate"),
            subject=attested.subject,
            verdict=self._need(attested.verdict, seq, "the verdict"),
            sans=event.sans,
            not_before=event.not_before,
            not_after=event.not_after,
            mesh_ca_sha256=state.current.mesh_ca,
            mesh_ca=self._need(state.current.mesh_ca, seq, "the mesh CA"),
            root_ca=state.root_ca,
            origin=state.origin,
            simulated=attested.evidence[0] == "simulated",
            secret_id=policy.workload_secret_id,
        )

    def secret(self, entry: Entry, event: SecretReleased) -> SecretCase:
        """The certificate that must name the secret. As :meth:`attestation`."""
        seq = entry.body.seq
        return SecretCase(
            seq=seq,
            certificate=self._need(event.certificate, seq, "the certificate"),
            secret_id=event.secret_id,
            check=event.check,
        )

    def _need(self, digest: bytes, seq: int, what: str) -> bytes:
        data = self._blob(digest)
        if data is None:
            raise UnprovenError(seq, f"{what} (blob {digest.hex()})")
        return data
