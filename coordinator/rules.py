"""What a recorded event must satisfy in the state before it. The Coordinator's opening, verify and audit ask here.

The rules judge entries that the ledger has already checked for structure, chain, time order and their own signatures.
Here stands which event may come where and who may write it; what each one must hold is said by subject: CA
certificates (``ca_rules``), epochs (``epoch_rules``), owners (``owner_rules``), workloads (``workload_rules``).
They read blobs and earlier entries through two functions, and nothing else. What needs the evidence of every single
certificate stands in ``audit``.
"""

from collections.abc import Callable, Container, Sequence
from typing import Final, assert_never

from attestation.evidence import Evidence
from attestation.reference import ReferenceValues
from attestation.verdict import Verdict
from coordinator.ca_rules import CaRules
from coordinator.documents import Blob, Documents
from coordinator.epoch_rules import EpochRules
from coordinator.events import (
    FORMAT_VERSIONS,
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    EpochOpened,
    Event,
    EventError,
    ForkAccepted,
    LedgerCreated,
    LedgerRecovered,
    ManifestSet,
    References,
    SecretReleased,
    decode_event,
)
from coordinator.owner_rules import OwnerRules
from coordinator.refusals import RuleBrokenError
from coordinator.state import State, evolve
from coordinator.times import MAX_TIME_MS
from coordinator.workload_rules import WorkloadRules, check_refusals
from ledger.checkpoint import origin_of
from ledger.entry import Entry
from ledger.errors import LedgerError
from ledger.note import KeyType, VerifierKey
from manifest.model import Manifest

FIRST_COMMIT: Final = (LedgerCreated.type, EpochOpened.type, ManifestSet.type)


class Rules:
    """The rules, with what they need to look up.

    Args:
        blob: The blob with this SHA-256, or None when it is not there.
        body_hash: SHA-256(body) of an earlier entry, by seq.
    """

    def __init__(self, *, blob: Blob, body_hash: Callable[[int], bytes]) -> None:
        self._documents = Documents(blob=blob, body_hash=body_hash)
        self._ca = CaRules(self._documents)
        self._epochs = EpochRules(self._documents)
        self._owners = OwnerRules(self._documents, self._epochs, self._ca)
        self._workloads = WorkloadRules(self._documents)
        self._created_by: bytes | None = None
        self.head_claims: list[tuple[int, int, bytes]] = []
        """Of each recovery: its seq, and the size and root that its owner knew, to be compared with the tree."""

    def apply(self, state: State, entry: Entry) -> State:
        """The state after *entry*, once it satisfies every rule.

        Raises:
            RuleBrokenError: it does not.
            UnprovenError: a blob that a rule needs is missing.
        """
        event = self.check(state, entry)
        return evolve(state, entry, event)

    def check(self, state: State, entry: Entry) -> Event:
        """The event of *entry*, once it satisfies every rule in *state*. Raises as :meth:`apply`."""
        seq, body = entry.body.seq, entry.body
        if body.time_ms > MAX_TIME_MS:
            raise RuleBrokenError(seq, "its time is after the year 9999", seen=str(body.time_ms))
        try:
            event, link = decode_event(entry)
        except (EventError, LedgerError) as error:
            raise RuleBrokenError(seq, "the payload is not one of this version", seen=str(error)) from None
        if seq < len(FIRST_COMMIT) and event.type != FIRST_COMMIT[seq]:
            raise RuleBrokenError(seq, "the first commit has a fixed order", seen=event.type, wanted=FIRST_COMMIT[seq])
        if link is not None and link != state.control_head:
            raise RuleBrokenError(
                seq,
                "the control chain is broken",
                seen=f"link to {link.seq} {link.body_hash.hex()[:16]}",
                wanted=f"{state.control_head.seq} {state.control_head.body_hash.hex()[:16]}",
            )
        if not isinstance(event, LedgerCreated | EpochOpened) and state.open_epoch(body.signer) is None:
            raise RuleBrokenError(seq, "the signer is no open epoch", seen=body.signer.hex())
        if state.epochs and state.epochs[-1].seq == seq - 1 and seq > 2 and not isinstance(event, LedgerRecovered):
            raise RuleBrokenError(seq, "an epoch was opened that recovered nothing", seen=event.type)
        if state.last is not None:
            self._workloads.follows(state, state.last, event, seq)
        match event:
            case LedgerCreated():
                self._created(entry, event)
            case EpochOpened():
                self._epochs.opened(state, entry, event, self._created_by if seq == 1 else None)
            case ManifestSet():
                self._owners.manifest_set(state, entry, event)
            case LedgerRecovered():
                self._owners.recovered(state, entry, event)
                self.head_claims.append((seq, event.size, event.root))
            case ForkAccepted():
                self._owners.fork_accepted(state, entry, event)
            case AttestationAccepted():
                self._workloads.attested(state, entry, event)
            case AttestationRefused():
                check_refusals(state, entry, event)
            case CertificateIssued():
                self._workloads.issued(state, entry, event)
            case SecretReleased():
                self._workloads.released(state, entry, event)
            case _:
                assert_never(event)
        return event

    def complete(self, state: State) -> None:
        """That the ledger does not end in the middle of a command, as no commit does.

        Raises:
            RuleBrokenError: it does.
        """
        last, end = state.last, state.size
        if last is not None and (due := self._workloads.due(state, last, end)) is not None:
            raise RuleBrokenError(end, f"the ledger ends where {due} is due")
        if state.epochs and state.epochs[-1].seq == end - 1:
            raise RuleBrokenError(end, "the ledger ends with an epoch that recovered nothing")

    def manifest(self, digest: bytes, *, seq: int = 0) -> Manifest:
        """The manifest with this SHA-256. Raises as :meth:`coordinator.documents.Documents.manifest`."""
        return self._documents.manifest(digest, seq=seq)

    def evidence(self, references: References, seq: int) -> Evidence:
        """The evidence that *references* name. Raises as :meth:`coordinator.documents.Documents.evidence`."""
        return self._documents.evidence(references, seq)

    def judge_epoch(
        self,
        epoch: EpochOpened,
        reference_values: Sequence[ReferenceValues],
        *,
        policies: Container[bytes],
        at_ms: int,
        seq: int,
        rules: int | None = None,
    ) -> Verdict:
        """The epoch's evidence, judged as :meth:`coordinator.epoch_rules.EpochRules.judge` does."""
        return self._epochs.judge(epoch, reference_values, policies=policies, at_ms=at_ms, seq=seq, rules=rules)

    def _created(self, entry: Entry, event: LedgerCreated) -> None:
        seq = entry.body.seq
        if seq != 0:
            raise RuleBrokenError(seq, "a ledger is created once, at seq 0")
        try:
            keys = [VerifierKey.parse(line) for line in event.verifier_keys]
        except LedgerError as error:
            raise RuleBrokenError(seq, "a verifier key is malformed", seen=str(error)) from None
        types, names = [key.type for key in keys], {key.name for key in keys}
        if types != [KeyType.ED25519, KeyType.MLDSA44_COSIGNATURE] or names != {event.origin}:
            raise RuleBrokenError(seq, "the verifier keys are Ed25519 and ML-DSA-44 under the origin's name")
        if origin_of(keys[0].public) != event.origin:
            raise RuleBrokenError(
                seq, "the origin is not of the ledger key", seen=event.origin, wanted=origin_of(keys[0].public)
            )
        if event.formats != FORMAT_VERSIONS:
            raise RuleBrokenError(seq, "format versions", seen=str(event.formats), wanted=str(FORMAT_VERSIONS))
        self._ca.root(entry, event)
        self._created_by = entry.body.signer
