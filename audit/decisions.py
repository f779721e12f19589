"""Re-deriving single decisions: evidence judged again, certificates checked against what they were issued for."""

import json
from collections.abc import Callable

from cryptography import x509

from attestation.binding import Purpose, parse_workload_subject, report_data
from attestation.errors import EvidenceError
from attestation.evidence import host_data_of
from attestation.judge import ChainCache, judge
from attestation.verdict import Verdict
from coordinator import ca
from coordinator.events import AttestationAccepted, CertificateIssued, SecretReleased
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.rules import Rules, describe, moment
from coordinator.state import State
from ledger.entry import Entry
from wire.extensions import Companions, ExtensionError, read_checkpoint, read_companions, read_simulated

Blob = Callable[[bytes], bytes | None]


class Decisions:
    """Judges again what the Coordinator decided, from the evidence and certificates it recorded.

    Args:
        rules: For manifests and evidence.
        blob: The blob with this SHA-256, or None.
    """

    def __init__(self, rules: Rules, blob: Blob) -> None:
        self._rules = rules
        self._blob = blob
        self._cache = ChainCache()
        self._mesh: tuple[bytes, x509.Certificate] | None = None
        self._companions: tuple[bytes, Companions] | None = None

    def attestation(self, state: State, entry: Entry, event: AttestationAccepted) -> None:
        """The evidence passes the manifest in force, at the recorded time, for this purpose, nonce and subject.

        Raises:
            RuleBrokenError: it does not, or the recorded outcomes differ from those found now.
            UnprovenError: a part is missing.
        """
        seq = entry.body.seq
        if state.current is None:
            raise RuleBrokenError(seq, "an attestation before any manifest")
        manifest = self._rules.manifest(state.current.manifest, seq=seq)
        evidence = self._rules.evidence(event.evidence, seq)
        verdict = judge(
            evidence,
            manifest.reference_values,
            report_data=report_data(Purpose(event.purpose), event.nonce, event.subject),
            host_data=manifest.policies.keys(),
            now=moment(entry.body.time_ms),
            cache=self._cache,
        )
        if not verdict.accepted:
            raise RuleBrokenError(seq, "the evidence does not pass the manifest in force", seen=describe(verdict))
        if verdict.outcomes != event.outcomes:
            raise RuleBrokenError(
                seq,
                "the outcomes recorded are not those found",
                seen=event.outcomes.hex(),
                wanted=verdict.outcomes.hex(),
            )
        self._same_verdict(self._need(event.verdict, seq, "the verdict"), verdict, seq)
        try:
            host_data = host_data_of(evidence)
        except EvidenceError as error:
            raise RuleBrokenError(seq, "the evidence is malformed", seen=str(error)) from None
        if host_data != event.policy:
            raise RuleBrokenError(seq, "the policy recorded is not the evidence's", seen=event.policy.hex())

    def certificate(self, state: State, entry: Entry, event: CertificateIssued) -> None:
        """The certificate is signed by the mesh CA in force, for the attested key, with the manifest's SANs.

        *state* is the one before the entry. Raises as :meth:`attestation`.
        """
        seq = entry.body.seq
        if state.last is None or state.current is None:
            raise RuleBrokenError(seq, "a certificate without attestation")
        der = self._need(event.certificate, seq, "the certificate")
        try:
            leaf = ca.load(der, "leaf")
            spki, _ = parse_workload_subject(state.last.event.subject)
            ca.check_leaf(leaf, self._mesh_ca(state.current.mesh_ca, seq), sans=event.sans, public_key=spki)
            companions = read_companions(leaf)
            checkpoint = read_checkpoint(leaf)
            simulated = read_simulated(leaf)
        except (ca.CertificateError, EvidenceError, ExtensionError) as error:
            raise RuleBrokenError(seq, "the certificate breaks the rules", seen=str(error)) from None
        dates = (int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp()))
        if dates != (event.not_before, event.not_after):
            raise RuleBrokenError(seq, "the dates recorded are not the certificate's", seen=str(dates))
        if not event.not_before * 1000 <= entry.body.time_ms <= event.not_after * 1000:
            raise RuleBrokenError(seq, "the certificate was not valid when it was issued", seen=str(dates))
        if companions.root_ca != state.root_ca:
            raise RuleBrokenError(seq, "the leaf names another root CA", seen=companions.root_ca.hex())
        if checkpoint.origin != state.origin or checkpoint.size > seq:
            raise RuleBrokenError(
                seq, "the leaf carries a checkpoint that was not there yet", seen=str(checkpoint.size)
            )
        if simulated != (state.last.event.evidence[0] == "simulated"):
            raise RuleBrokenError(seq, "the leaf hides, or claims, simulated evidence")
        wanted = (
            self._rules.manifest(state.current.manifest, seq=seq).policies[state.last.event.policy].workload_secret_id
        )
        if set(companions.secrets) != ({wanted} if wanted else set()):
            raise RuleBrokenError(
                seq, "the leaf names other secrets than the manifest", seen=json.dumps(sorted(companions.secrets))
            )
        self._companions = (event.certificate, companions)

    def secret(self, entry: Entry, event: SecretReleased) -> None:
        """The leaf names this secret with this check. Raises as :meth:`attestation`."""
        seq = entry.body.seq
        if self._companions is None or self._companions[0] != event.certificate:
            raise UnprovenError(seq, f"certificate {event.certificate.hex()} could not be read; it")
        if self._companions[1].secrets.get(event.secret_id) != event.check:
            raise RuleBrokenError(seq, "the leaf names another secret than was released", seen=event.secret_id)

    def _same_verdict(self, recorded: bytes, found: Verdict, seq: int) -> None:
        """What a verdict decided is compared; its texts are for people and may be worded better some day."""
        try:
            seen = json.loads(recorded)
            outcomes = [(check["number"], check["outcome"]) for check in seen["checks"]]
            decided = (seen["kind"], seen["rules"], seen["accepted"], outcomes, seen["claims"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RuleBrokenError(seq, "the verdict recorded is no verdict", seen=repr(recorded[:60])) from None
        own = json.loads(found.json())
        wanted = (
            own["kind"],
            own["rules"],
            own["accepted"],
            [(check["number"], check["outcome"]) for check in own["checks"]],
            own["claims"],
        )
        if decided != wanted:
            raise RuleBrokenError(seq, "the verdict recorded is not the one found")

    def _mesh_ca(self, digest: bytes, seq: int) -> x509.Certificate:
        if self._mesh is None or self._mesh[0] != digest:
            self._mesh = (digest, ca.load(self._need(digest, seq, "the mesh CA"), "mesh CA"))
        return self._mesh[1]

    def _need(self, digest: bytes, seq: int, what: str) -> bytes:
        data = self._blob(digest)
        if data is None:
            raise UnprovenError(seq, f"{what} (blob {digest.hex()})")
        return data
