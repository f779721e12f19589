"""From what was read to a report: the checkpoint's signatures, and who the Coordinators were. Reads no entry."""

from collections.abc import Collection, Sequence

from attestation.binding import Purpose, report_data
from attestation.reference import ReferenceValues
from audit.cases import Knowledge
from audit.judging import verdict_fault
from audit.known_now import Today
from audit.reading import Reading
from audit.report import EpochEntry, Finding, Report
from coordinator.epoch_rules import describe, epoch_verifier_key
from coordinator.events import EpochOpened
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.state import Epoch, State
from ledger.checkpoint import Checkpoint, open_finished, parse_checkpoint, read_checkpoint
from ledger.errors import LedgerContentError, NoteError
from ledger.note import VerifierKey, open_note
from manifest.model import Manifest


def conclude(
    reading: Reading,
    checkpoint_raw: bytes,
    *,
    reference_values: Sequence[ReferenceValues] | None,
    coordinator_policies: Collection[bytes] | None,
    draft: bool = False,
    full: bool = True,
    knowledge: Knowledge | None = None,
) -> Report:
    """The report on what *reading* has read, up to the checkpoint.

    Raises:
        NoteError: the checkpoint's signatures are not those that it must have.
        LedgerContentError: there is no manifest.
        UnprovenError: a CA certificate is missing.
    """
    state = reading.state
    if state.current is None:
        raise LedgerContentError(None, "the ledger ends before its first manifest")
    checkpoint = judged_checkpoint(checkpoint_raw, state, draft=draft)
    epochs = tuple(_epoch(reading, epoch, reference_values) for epoch in state.epochs)
    named = tuple(
        dict.fromkeys(digest for entry in reading.manifests for digest in sorted(entry.manifest.coordinator_policies))
    )
    findings = [*reading.findings, *_strangers(epochs, named, reference_values, coordinator_policies)]
    if full:
        findings += _verdicts(reading)
    if knowledge is not None:
        findings += _refused_now(reading, knowledge)
    return Report(
        checkpoint=checkpoint,
        checkpoint_raw=checkpoint_raw,
        state=state,
        manifests=tuple(reading.manifests),
        epochs=epochs,
        coordinator_policies=named,
        root_ca=_need(reading, state.root_ca, "the root CA"),
        mesh_ca=_need(reading, state.current.mesh_ca, "the mesh CA"),
        intermediate=_need(reading, state.current.intermediate, "the intermediate CA"),
        counts=dict(reading.counts),
        findings=tuple(findings),
        full=full,
    )


def judged_checkpoint(raw: bytes, state: State, *, draft: bool) -> Checkpoint:
    """The checkpoint in the note, signed by an epoch that is open at its size, and unless *draft* by the ledger key.

    Raises:
        NoteError: it is not.
    """
    size = read_checkpoint(raw).size
    epochs = [epoch_verifier_key(state, epoch) for epoch in state.epochs if epoch.signs(size)]
    if not draft:
        keys = [VerifierKey.parse(line) for line in state.verifier_keys]
        finished = open_finished(raw, ledger_key=keys[0], epoch_keys=epochs)
        open_note(raw, keys)  # A signature by the ledger's other keys may be absent, but not wrong.
        return finished
    text, signed = open_note(raw, epochs)
    checkpoint = parse_checkpoint(text)
    if not signed or checkpoint.origin != state.origin:
        raise NoteError("no epoch that is open in this ledger signed its last checkpoint: its end was exchanged")
    return checkpoint


def _epoch(reading: Reading, epoch: Epoch, reference_values: Sequence[ReferenceValues] | None) -> EpochEntry:
    accepted, reason, product = None, "", epoch.event.evidence[0]
    if reference_values is not None:
        verdict = reading.rules.judge_epoch(
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
            about=EpochOpened.type,
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


def _verdicts(reading: Reading) -> list[Finding]:
    """What Coordinators recorded of themselves, compared with what is found: the rules judge only the evidence."""
    findings = []
    for epoch in reading.state.epochs:
        manifest = _judged_by(reading, epoch)
        verdict = reading.rules.judge_epoch(
            epoch.event,
            manifest.reference_values,
            policies=manifest.coordinator_policies,
            at_ms=epoch.time_ms,
            seq=epoch.seq,
            rules=epoch.event.rules,
        )
        recorded = reading.source.blob(epoch.event.verdict)
        if recorded is None:
            error: Exception = UnprovenError(epoch.seq, f"the verdict (blob {epoch.event.verdict.hex()})")
        elif (fault := verdict_fault(recorded, verdict)) is not None:
            error = RuleBrokenError(epoch.seq, fault[0], seen=fault[1], wanted=fault[2])
        else:
            continue
        findings.append(
            Finding(
                seq=epoch.seq,
                code=str(getattr(error, "code", "")),
                text=str(error),
                proven_wrong=isinstance(error, RuleBrokenError),
                about=EpochOpened.type,
            )
        )
    return findings


def _judged_by(reading: Reading, epoch: Epoch) -> Manifest:
    """The manifest in force when the epoch was opened; for the first one, the manifest that follows it."""
    earlier = [entry.manifest for entry in reading.manifests if entry.seq < epoch.seq]
    return earlier[-1] if earlier else reading.manifests[0].manifest


def _refused_now(reading: Reading, knowledge: Knowledge) -> list[Finding]:
    """Epochs whose evidence would be refused today: such a Coordinator may have been an extracted key's."""
    today, findings = Today(knowledge), []
    for epoch in reading.state.epochs:
        manifest = _judged_by(reading, epoch)
        subject = _need(reading, epoch.event.subject, "the epoch's subject")
        binding = report_data(Purpose.EPOCH, reading.body_hash(epoch.event.anchor_seq), subject)
        evidence = reading.rules.evidence(epoch.event.evidence, epoch.seq)
        refusal = today.refusal(evidence, manifest, report_data=binding)
        if refusal is not None:
            text = f"entry {epoch.seq}: what is known now refuses this Coordinator's evidence; seen: {refusal}"
            findings.append(Finding(seq=epoch.seq, code="refused_now", text=text, about=EpochOpened.type, now=True))
    return findings


def _need(reading: Reading, digest: bytes, what: str) -> bytes:
    data = reading.source.blob(digest)
    if data is None:
        raise UnprovenError(0, f"{what} (blob {digest.hex()})")
    return data
