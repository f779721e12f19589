"""Replaying a ledger as a stranger would: nothing in it is believed until it has been derived again."""

from collections import Counter
from collections.abc import Collection, Sequence

from attestation.reference import ReferenceValues
from audit.decisions import Decisions
from audit.report import EpochEntry, Finding, ManifestEntry, Report
from coordinator.events import AttestationAccepted, CertificateIssued, Event, ManifestSet, SecretReleased
from coordinator.keys import sha256
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.rules import Rules, describe, epoch_verifier_key
from coordinator.state import EMPTY, Epoch, State, evolve
from ledger.checkpoint import Checkpoint, open_finished
from ledger.entry import Entry, parse_entry
from ledger.errors import LedgerContentError, LedgerError
from ledger.merkle import Frontier, leaf_hash
from ledger.note import VerifierKey
from ledger.source import Source
from ledger.verify import replay_source

_MAX_FINDINGS = 100


class _Audit:
    """One pass over a ledger. A broken rule ends it: what follows a contradiction has no state to be judged in."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.state = EMPTY
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self.manifests: list[ManifestEntry] = []
        self._hashes: dict[int, bytes] = {}
        self._recent: tuple[int, bytes] = (-1, b"")
        self.rules = Rules(blob=self.blob, body_hash=self._body_hash)
        self._decisions = Decisions(self.rules, self.blob)

    def blob(self, digest: bytes) -> bytes | None:
        """The blob with this SHA-256; a name is a promise that a source does not have to keep."""
        data = self.source.blob(digest)
        if data is not None and sha256(data) != digest:
            raise LedgerContentError(
                None, f"the blob {digest.hex()} has other bytes than its name says: it was changed"
            )
        return data

    def visit(self, entry: Entry) -> None:
        """Judge *entry* in the state before it, then go on."""
        before, seq = self.state, entry.body.seq
        event = self.rules.check(before, entry)
        try:
            self._decide_again(before, entry, event)
        except UnprovenError as error:
            self._note(Finding(seq=seq, code=error.code, text=str(error), proven_wrong=False))
        self.state = evolve(before, entry, event)
        self.counts[event.type] += 1
        self._recent = (seq, entry.body_hash)
        if event.type == "ledger.created" or isinstance(event, ManifestSet):
            # Anchors of epochs are named by seq: the manifest in force, or what came right before the epoch.
            self._hashes[seq] = entry.body_hash
        if isinstance(event, ManifestSet):
            self.manifests.append(
                ManifestEntry(
                    generation=event.generation,
                    seq=seq,
                    time_ms=entry.body.time_ms,
                    transition=event.transition,
                    manifest=self.rules.manifest(event.manifest, seq=seq),
                )
            )
            self._policies_present(seq)

    def _decide_again(self, before: State, entry: Entry, event: Event) -> None:
        match event:
            case AttestationAccepted():
                self._decisions.attestation(before, entry, event)
            case CertificateIssued():
                self._decisions.certificate(before, entry, event)
            case SecretReleased():
                self._decisions.secret(entry, event)
            case _:
                pass  # Everything about the other events is in the rules.

    def _policies_present(self, seq: int) -> None:
        for digest in self.manifests[-1].manifest.policies:
            if self.blob(digest) is None:
                text = f"policy {digest.hex()} of the manifest is missing"
                self._note(Finding(seq=seq, code="unproven", text=text, proven_wrong=False))

    def _body_hash(self, seq: int) -> bytes:
        known = self._hashes.get(seq)
        if known is not None:
            return known
        if self._recent[0] == seq:
            return self._recent[1]
        raw = next(iter(self.source.entries(seq, seq + 1)))
        return parse_entry(raw).body_hash

    def _note(self, finding: Finding) -> None:
        if len(self.findings) < _MAX_FINDINGS:
            self.findings.append(finding)


def replay(
    source: Source,
    *,
    reference_values: Sequence[ReferenceValues] | None = None,
    coordinator_policies: Collection[bytes] | None = None,
    workers: int = 2,
) -> Report:
    """Replay *source* and derive every decision again.

    Args:
        source: A ledger with its blobs.
        reference_values: What the verifier itself accepts of Coordinators; None judges them by the manifests alone.
        coordinator_policies: The Coordinator policies that the verifier knows; None knows none and asks for none.
        workers: Threads for signatures.

    Returns:
        A report; its findings name the first contradiction, and everything unproven.

    Raises:
        LedgerError: structure, chain, signatures, tree or checkpoint are wrong: there is no history to report on.
        RuleBrokenError: an entry is one that no honest Coordinator could have written.
        UnprovenError: a control event cannot be judged because a blob is missing.
    """
    audit = _Audit(source)
    verified = replay_source(source, visit=audit.visit, workers=workers)
    state = audit.state
    if state.current is None:
        raise LedgerContentError(None, "the ledger ends before its first manifest")
    checkpoint = _checkpoint(verified.checkpoint_raw, state)
    _recovered_heads(source, audit)
    epochs = tuple(_epoch(audit, epoch, reference_values) for epoch in state.epochs)
    named = tuple(
        dict.fromkeys(digest for entry in audit.manifests for digest in sorted(entry.manifest.coordinator_policies))
    )
    findings = [*audit.findings, *_strangers(epochs, named, reference_values, coordinator_policies)]
    return Report(
        checkpoint=checkpoint,
        checkpoint_raw=verified.checkpoint_raw,
        state=state,
        manifests=tuple(audit.manifests),
        epochs=epochs,
        coordinator_policies=named,
        root_ca=_blob(audit, state.root_ca),
        mesh_ca=_blob(audit, state.current.mesh_ca),
        intermediate=_blob(audit, state.current.intermediate),
        counts=dict(audit.counts),
        findings=tuple(findings),
    )


def _checkpoint(raw: bytes, state: State) -> Checkpoint:
    """The checkpoint's note, signed by the ledger key and by an epoch that is open at its size."""
    ledger_key = VerifierKey.parse(state.verifier_keys[0])
    epochs = [epoch_verifier_key(state, epoch) for epoch in state.epochs if _signs(epoch, state.size)]
    return open_finished(raw, ledger_key=ledger_key, epoch_keys=epochs)


def _signs(epoch: Epoch, size: int) -> bool:
    return epoch.seq < size and (epoch.closed_at is None or size <= epoch.closed_at)


def _recovered_heads(source: Source, audit: _Audit) -> None:
    """Every head that a recovery was told of is a head of this very tree."""
    claims = sorted(audit.rules.head_claims, key=lambda claim: claim[1])
    frontier = Frontier()
    for seq, size, root in claims:
        for raw in source.entries(frontier.size, size):
            frontier.append(leaf_hash(raw))
        if frontier.root() != root:
            raise RuleBrokenError(
                seq,
                f"the recovery continued another ledger at size {size}",
                seen=frontier.root().hex(),
                wanted=root.hex(),
            )


def _epoch(audit: _Audit, epoch: Epoch, reference_values: Sequence[ReferenceValues] | None) -> EpochEntry:
    accepted, reason, product = None, "", epoch.event.evidence[0]
    if reference_values is not None:
        verdict = audit.rules.judge_epoch(
            epoch.event,
            reference_values,
            policies=frozenset({epoch.event.policy}),
            at_ms=epoch.time_ms,
            seq=epoch.seq,
        )
        accepted = verdict.accepted
        reason = "" if accepted else describe(verdict)
        if verdict.claims is not None:
            product = verdict.claims.product
    return EpochEntry(
        key=epoch.key,
        policy=epoch.event.policy,
        opened=epoch.seq,
        closed=epoch.closed_at,
        time_ms=epoch.time_ms,
        product=product,
        accepted_here=accepted,
        reason=reason,
    )


def _strangers(
    epochs: Sequence[EpochEntry],
    named: Sequence[bytes],
    reference_values: Sequence[ReferenceValues] | None,
    coordinator_policies: Collection[bytes] | None,
) -> list[Finding]:
    """Coordinators that the verifier does not know: each could have had the seed."""
    findings = [
        Finding(
            seq=epoch.opened,
            code="coordinator_refused",
            text=f"the Coordinator of epoch {epoch.key.hex()[:16]} does not pass your reference values: {epoch.reason}",
        )
        for epoch in epochs
        if reference_values is not None and epoch.accepted_here is False
    ]
    if coordinator_policies is not None:
        findings += [
            Finding(
                seq=None,
                code="unknown_coordinator",
                text=f"a manifest gave Role coordinator to policy {digest.hex()}, which you do not know: whoever runs "
                "it could have had the seed. Read that policy; if you trust it, name it with --coordinator-policy-hash",
            )
            for digest in named
            if digest not in coordinator_policies
        ]
    return findings


def _blob(audit: _Audit, digest: bytes) -> bytes:
    data = audit.blob(digest)
    if data is None:
        raise UnprovenError(0, f"blob {digest.hex()}")
    return data


def state_at(source: Source, size: int) -> State:
    """The state after the first *size* entries, judged by the rules on the way.

    Raises:
        LedgerError, RuleBrokenError, UnprovenError: as :func:`replay`.
    """
    audit = _Audit(source)
    for raw in source.entries(0, size):
        try:
            entry = parse_entry(raw)
        except LedgerError as error:
            raise LedgerContentError(audit.state.size, str(error)) from None
        audit.visit(entry)
    return audit.state
