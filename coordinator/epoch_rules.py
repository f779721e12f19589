"""What an epoch of a recorded ledger must be: one Coordinator with keys of its own, bound by evidence to its place."""

from collections.abc import Container, Sequence
from typing import TypeAlias

from attestation.binding import Purpose, epoch_subject, report_data
from attestation.errors import EvidenceError
from attestation.evidence import host_data_of
from attestation.judge import ChainCache, judge
from attestation.reference import ReferenceValues
from attestation.rulebook import is_known, unknown
from attestation.verdict import Verdict
from coordinator.documents import Documents
from coordinator.events import EpochOpened
from coordinator.keys import sha256
from coordinator.refusals import RuleBrokenError, UnknownRulesError
from coordinator.state import Epoch, State
from coordinator.times import moment
from ledger.checkpoint import epoch_name
from ledger.entry import Entry
from ledger.note import VerifierKey, ed25519_key
from manifest.model import Manifest

_Judged: TypeAlias = tuple[EpochOpened, int, tuple[ReferenceValues, ...], bool, int]


class EpochRules:
    """Judges epochs, at their opening and by every manifest that is set while they are open."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._accepted: dict[_Judged, bool] = {}
        self._chains = ChainCache()  # One epoch is judged by every manifest that is set while it is open.

    def opened(self, state: State, entry: Entry, event: EpochOpened, created_by: bytes | None) -> None:
        """An epoch begins: its key signs, its evidence binds it to an entry, the manifest in force accepts it.

        Args:
            state: Before the entry.
            entry: That opens the epoch.
            event: Its content.
            created_by: Who signed the entry before, where that is the one that created the ledger.
        """
        seq = entry.body.seq
        if entry.body.signer != event.epoch_key:
            raise RuleBrokenError(seq, "an epoch is signed by the key it announces", seen=entry.body.signer.hex())
        if any(epoch.key == event.epoch_key for epoch in state.epochs):
            raise RuleBrokenError(seq, "an epoch key is used once", seen=event.epoch_key.hex())
        if created_by not in (None, event.epoch_key):
            raise RuleBrokenError(seq, "the ledger was created by another key than the first epoch's")
        oldest = state.current.seq if state.current else 0
        if not oldest <= event.anchor_seq < seq:
            raise RuleBrokenError(
                seq,
                "the anchor is older than the manifest in force",
                seen=str(event.anchor_seq),
                wanted=f"{oldest} to {seq - 1}",
            )
        subject = epoch_subject(state.origin, event.anchor_seq, event.epoch_key, event.tls_certificate, event.hpke_key)
        if sha256(subject) != event.subject:
            raise RuleBrokenError(seq, "the epoch's subject names other keys than its event")
        try:
            host_data = host_data_of(self._documents.evidence(event.evidence, seq))
        except EvidenceError as error:
            raise RuleBrokenError(seq, "the epoch's evidence is malformed", seen=str(error)) from None
        if host_data != event.policy:
            raise RuleBrokenError(
                seq, "the epoch's policy is not its evidence's", seen=event.policy.hex(), wanted=host_data.hex()
            )
        demand_known(event.rules, seq)
        if state.current is not None:  # The first epoch is judged by the manifest that follows it.
            self._accepts(state.current.manifest, event, entry.body.time_ms, seq)

    def _accepts(self, manifest: bytes, event: EpochOpened, at_ms: int, seq: int) -> None:
        verdict = self._judge_by(self._documents.manifest(manifest, seq=seq), event, at_ms, seq, event.rules)
        if not verdict.accepted:
            raise RuleBrokenError(seq, "the manifest does not accept this epoch", seen=describe(verdict))

    def judge(
        self,
        epoch: EpochOpened,
        reference_values: Sequence[ReferenceValues],
        *,
        policies: Container[bytes],
        at_ms: int,
        seq: int,
        rules: int | None = None,
    ) -> Verdict:
        """The epoch's evidence, judged by *reference_values* at the time of its opening; its HOSTDATA in *policies*.

        Version *rules* of the rules judges, today's where None is given.
        """
        evidence = self._documents.evidence(epoch.evidence, seq)
        anchor = self._documents.body_hash(epoch.anchor_seq)
        subject = self._documents.need(epoch.subject, seq, "the epoch's subject")
        return judge(
            evidence,
            reference_values,
            report_data=report_data(Purpose.EPOCH, anchor, subject),
            host_data=policies,
            now=moment(at_ms),
            cache=self._chains,
            rules=rules,
        )

    def _judge_by(self, manifest: Manifest, epoch: EpochOpened, at_ms: int, seq: int, rules: int) -> Verdict:
        policies = manifest.coordinator_policies
        return self.judge(epoch, manifest.reference_values, policies=policies, at_ms=at_ms, seq=seq, rules=rules)

    def still_accepts(self, manifest: Manifest, epoch: Epoch, seq: int, rules: int) -> bool:
        """Whether *manifest* accepts an epoch by version *rules*, judged once for each set of reference values.

        Manifests differ in other things mostly; the same evidence, values and time give the same verdict.
        """
        known = epoch.event.policy in manifest.coordinator_policies
        key = (epoch.event, epoch.time_ms, manifest.reference_values, known, rules)
        accepted = self._accepted.get(key)
        if accepted is None:
            accepted = self._judge_by(manifest, epoch.event, epoch.time_ms, seq, rules).accepted
            self._accepted[key] = accepted
        return accepted


def demand_known(rules: int, seq: int) -> None:
    """Demand that this program can judge as version *rules* of the rules did.

    Raises:
        RuleBrokenError: there never is such a version.
        UnknownRulesError: a newer release made it.
    """
    if rules < 1:
        raise RuleBrokenError(seq, "version of the rules", seen=str(rules), wanted="1 or more")
    if not is_known(rules):
        raise UnknownRulesError(seq, unknown(rules))


def describe(verdict: Verdict) -> str:
    """The first failed check of a verdict in one line."""
    failure = verdict.first_failure
    if failure is None:
        return "accepted"
    return f"check {failure.number} {failure.name}: seen {failure.seen}, wanted {failure.wanted}"


def epoch_verifier_key(state: State, epoch: Epoch) -> VerifierKey:
    """The verifier key under which *epoch* signs checkpoints."""
    return ed25519_key(epoch_name(state.origin), epoch.key)
