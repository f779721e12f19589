"""Replaying a ledger as a stranger would: nothing in it is believed until it has been derived again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from attestation.reference import ReferenceValues
from audit.cases import Fault, Head, Knowledge
from audit.concluding import conclude
from audit.jury import Jury
from audit.reading import MAX_FINDINGS, Progress, Reading
from audit.report import Audit, Finding, Report, Tally
from coordinator.events import CertificateIssued, LedgerRecovered
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.state import State
from ledger.cosigned import Asked, Cosigned, cosigned_by
from ledger.entry import parse_entry
from ledger.errors import LedgerContentError, LedgerError
from ledger.merkle import range_root
from ledger.note import VerifierKey
from ledger.source import Source
from ledger.tilenodes import TileNodes
from ledger.tiles import Tile
from ledger.verify import replay_source


def replay(
    source: Source,
    *,
    reference_values: Sequence[ReferenceValues] | None = None,
    coordinator_policies: Collection[bytes] | None = None,
    workers: int = 2,
    draft: bool = False,
) -> Report:
    """Replay *source* and derive every decision again.

    Args:
        source: A ledger with its blobs.
        reference_values: What the verifier itself accepts of Coordinators; None judges them by the manifests alone.
        coordinator_policies: The Coordinator policies that the verifier knows; None knows none and asks for none.
        workers: Processes for signatures and decisions.
        draft: The checkpoint is a draft, signed by an epoch that is open at its size and not by the ledger key: what a
            Coordinator without its seed has. A draft proves nothing to others.

    Returns:
        A report; its findings name everything unproven and every Coordinator that the verifier does not know.

    Raises:
        LedgerError: structure, chain, signatures, tree or checkpoint are wrong: there is no history to report on.
        RuleBrokenError: an entry is one that no honest Coordinator could have written: the first.
        UnprovenError: a control event cannot be judged because a blob is missing.
    """
    examined = examine(
        source,
        reference_values=reference_values,
        coordinator_policies=coordinator_policies,
        workers=workers,
        draft=draft,
    )
    if examined.error is not None:
        raise examined.error
    report = examined.result.report
    if report is None:
        raise LedgerContentError(None, "the ledger ends before its first manifest")
    return report


@dataclass(frozen=True, slots=True)
class Examined:
    """An audit, and the error that a caller who wants all or nothing raises."""

    result: Audit
    error: Exception | None


def examine(
    source: Source,
    *,
    reference_values: Sequence[ReferenceValues] | None = None,
    coordinator_policies: Collection[bytes] | None = None,
    knowledge: Knowledge | None = None,
    witnesses: Asked | None = None,
    workers: int = 2,
    draft: bool = False,
    progress: Progress | None = None,
) -> Examined:
    """Replay *source* as far as it makes sense, and say what was found; nothing found is raised.

    As :func:`replay`; *knowledge* judges accepted evidence a second time, by what is known now.
    Cosignatures are verified where *witnesses* are given.

    Raises:
        NoteError: A checkpoint beside the ledger's own is none of this ledger, or the policy is for other logs.
    """
    report, broken, verified, cosigned = None, None, None, None
    with Jury(workers=workers, knowledge=knowledge) as jury:
        clock = None if knowledge is None or knowledge.clock is None else int(knowledge.clock.timestamp() * 1000)
        reading = Reading(source, jury, progress, clock_ms=clock)
        try:
            verified = replay_source(reading.source, visit=reading.visit, workers=workers)
            reading.rules.complete(reading.state)
        except (LedgerError, RuleBrokenError, UnprovenError) as error:
            broken = error
        faults = jury.faults() + reading.faults()
        if verified is not None:
            nodes = _nodes(reading.source, verified.size)
            try:
                faults += _strange_heads(
                    nodes,
                    sorted(reading.rules.head_claims),
                    "the recovery continued another ledger at size",
                    about=LedgerRecovered.type,
                )
                faults += _strange_heads(
                    nodes,
                    jury.heads,
                    "the leaf carries a checkpoint of another ledger at",
                    about=CertificateIssued.type,
                )
                report = conclude(
                    reading,
                    verified.checkpoint_raw,
                    reference_values=reference_values,
                    coordinator_policies=coordinator_policies,
                    draft=draft,
                    knowledge=knowledge,
                )
            except (LedgerError, RuleBrokenError, UnprovenError) as error:
                broken = error
            if report is not None and witnesses is not None:
                cosigned = cosigned_in(report, witnesses, nodes)
    faults.sort(key=lambda fault: fault.seq)
    return _examined(reading, report, broken, faults, cosigned)


def state_at(source: Source, size: int) -> State:
    """The state after the first *size* entries, judged by the rules on the way, and not decision by decision.

    Raises:
        LedgerError, RuleBrokenError, UnprovenError: as :func:`replay`.
    """
    reading = Reading(source)
    for raw in source.entries(0, size):
        try:
            entry = parse_entry(raw)
        except LedgerError as error:
            raise LedgerContentError(reading.state.size, str(error)) from None
        reading.visit(entry)
    return reading.state


def cosigned_in(report: Report, witnesses: Asked, nodes: TileNodes | None = None) -> Cosigned:
    """What *witnesses* say of the ledger of *report*; its *nodes* are needed for checkpoints beside its own.

    Raises:
        NoteError: as :func:`examine`.
    """
    end = report.checkpoint

    def root_at(size: int) -> bytes:
        return end.root if size == end.size or nodes is None else range_root(0, size, nodes.node)

    return cosigned_by(
        witnesses,
        report.checkpoint_raw,
        ledger_key=VerifierKey.parse(report.state.verifier_keys[0]),
        checkpoint=end,
        root_at=root_at,
    )


def _witness_findings(cosigned: Cosigned | None) -> list[Finding]:
    if cosigned is None:
        return []
    return [
        *(Finding(seq=None, code="cosignature_wrong", text=text) for text in cosigned.false),
        *(Finding(seq=None, code="witness_contradicts", text=text) for text in cosigned.contradictions),
    ]


def _examined(
    reading: Reading,
    report: Report | None,
    broken: Exception | None,
    faults: Sequence[Fault],
    cosigned: Cosigned | None,
) -> Examined:
    certain = [fault for fault in faults if not fault.now]
    first = certain[0] if certain else None
    error: Exception | None = broken
    where = getattr(broken, "seq", None)
    if first is not None and (broken is None or where is None or first.seq < where):
        error = RuleBrokenError(first.seq, first.rule, seen=first.seen, wanted=first.wanted)
    findings = [*reading.findings, *(_finding(fault) for fault in faults)]
    if report is not None:
        findings += [finding for finding in report.findings if finding not in reading.findings]
    ending = None if broken is None else _ending(broken, reading.state.size)
    if ending is not None:
        findings.append(ending)
    findings += _witness_findings(cosigned)
    findings.sort(key=lambda finding: (finding.seq is None, finding.seq or 0))
    known = set(map(id, reading.findings))
    tallies = {kind: Tally(seen=seen) for kind, seen in reading.counts.items()}
    for finding in findings:
        if id(finding) not in known and finding.about:
            tally = tallies.setdefault(finding.about, Tally())
            tally.refused_now += finding.now
            tally.wrong += finding.proven_wrong and not finding.now
            tally.unproven += not finding.proven_wrong
    for kind, number in reading.unproven.items():
        tallies.setdefault(kind, Tally()).unproven += number
    result = Audit(
        history=reading.history(),
        report=report,
        broken=ending,
        findings=tuple(findings[:MAX_FINDINGS]) if ending is None else (*findings[: MAX_FINDINGS - 1], ending),
        more=reading.more + max(0, len(findings) - MAX_FINDINGS),
        tallies=tallies,
        cosigned=cosigned,
    )
    return Examined(result, error)


def _finding(fault: Fault) -> Finding:
    error = RuleBrokenError(fault.seq, fault.rule, seen=fault.seen, wanted=fault.wanted)
    return Finding(
        seq=fault.seq,
        code="refused_now" if fault.now else error.code,
        text=str(error),
        about=fault.about,
        now=fault.now,
    )


def _ending(error: Exception, size: int) -> Finding:
    seq = getattr(error, "seq", None)
    proven_wrong = not isinstance(error, UnprovenError)
    return Finding(
        seq=size if seq is None and isinstance(error, UnprovenError) else seq,
        code=str(getattr(error, "code", "ledger_damaged")),
        text=str(error),
        proven_wrong=proven_wrong,
        about=str(getattr(error, "about", "")),
    )


def _nodes(source: Source, size: int) -> TileNodes:
    def read(tile: Tile) -> bytes:
        if tile.level == "entries":
            raise LedgerContentError(None, "a bundle of entries holds no nodes")
        return source.tile(tile.level, tile.index, tile.width)

    return TileNodes(size, read)


def _strange_heads(nodes: TileNodes, heads: Sequence[Head], rule: str, *, about: str) -> list[Fault]:
    """Every head that a recovery was told of, or that a certificate carries, is a head of this very tree."""
    faults: list[Fault] = []
    roots: dict[int, bytes] = {}
    for seq, size, root in heads:
        found = roots.get(size)
        if found is None:
            found = roots[size] = range_root(0, size, nodes.node)
        if found != root:
            faults.append(Fault(seq, f"{rule} {size}", root.hex(), found.hex(), about=about))
    return faults
