"""Following the control chain: the whole history of manifests, Coordinators and recoveries, from a few entries.

The steps, in order; what goes wrong is refused with the entry's number:
(1) the head, which the Coordinator attested, lies in the checkpoint's tree, (2) from it every link leads to an earlier
control event of exactly that hash, down to entry 0, (3) each is signed by its signer, (4) each is in the tree, by an
inclusion proof from tiles, (5) each satisfies the rules in the state that those before it lead to, and every epoch but
the first recovered the ledger at once, (6) anchors of epochs are in the tree, (7) heads told at recoveries are heads
of this tree, (8) the checkpoint is signed by the ledger key and an epoch open at its size, (9) the policies of the
manifest in force are there.
Not shown by this: single attestations and certificates, and that no control event stands outside the chain. The
Coordinator that attested the head has checked both, and so does ``audit.replay``.
"""

from collections.abc import Collection, Sequence

from attestation.reference import ReferenceValues
from audit.concluding import conclude
from audit.reading import Reading
from audit.report import Report
from coordinator.events import CONTROL_TYPES, NO_LINK, EventError, LedgerRecovered, Link, decode_event
from coordinator.refusals import RuleBrokenError, UnprovenError
from ledger.checked import CheckedSource
from ledger.checkpoint import Checkpoint, read_checkpoint
from ledger.entry import Entry, parse_entry, verify_signature
from ledger.errors import LedgerContentError, NoteError, ProofError
from ledger.merkle import verify_consistency, verify_inclusion
from ledger.source import Source
from ledger.tilenodes import TileNodes
from ledger.tiles import Tile


def judge_control(
    source: Source,
    head: Link,
    *,
    reference_values: Sequence[ReferenceValues] | None = None,
    coordinator_policies: Collection[bytes] | None = None,
) -> Report:
    """Follow the control chain of *source* from *head* and judge every event of it.

    Args:
        source: Checkpoint, entries, tiles and blobs of the control events; nothing else is read.
        head: The last control event, from an attested statement.
        reference_values: What the verifier itself accepts of Coordinators; None judges them by the manifests alone.
        coordinator_policies: The Coordinator policies that the verifier knows; None knows none and asks for none.

    Returns:
        A report that is not full: counts are of control events, the state knows nothing of others.

    Raises:
        LedgerError: a proof, signature or checkpoint is wrong, or something needed is missing.
        RuleBrokenError: a control event is one that no honest Coordinator could have written.
        UnprovenError: a blob is missing.
    """
    raw = source.checkpoint()
    try:
        checkpoint = read_checkpoint(raw)
    except NoteError as error:
        raise LedgerContentError(None, f"the checkpoint is malformed: {error}") from error
    proven = ProvenSource(source, checkpoint)
    reading = Reading(proven)
    for entry in control_chain(proven, head):
        verify_signature(entry)  # (3)
        _recovers_at_once(reading, entry)
        reading.visit(entry)  # (5) (6)
    if reading.state.epochs and reading.state.epochs[-1].seq == head.seq:
        raise RuleBrokenError(head.seq, "an epoch was opened that recovered nothing")
    for seq, size, root in reading.rules.head_claims:
        proven.demand_head(seq, size, root)  # (7)
    report = conclude(  # (8)
        reading,
        raw,
        reference_values=reference_values,
        coordinator_policies=coordinator_policies,
        full=False,
    )
    if report.checkpoint.origin != report.state.origin:
        raise NoteError(f"the checkpoint is of {report.checkpoint.origin}, the ledger is {report.state.origin}")
    for digest in report.manifests[-1].manifest.policies:  # (9)
        if proven.blob(digest) is None:
            raise UnprovenError(report.manifests[-1].seq, f"policy {digest.hex()} of the manifest in force")
    return report


def control_chain(source: Source, head: Link) -> list[Entry]:
    """The control events from entry 0 to *head*, found by their links; hashes compared, nothing judged.

    Raises:
        LedgerError: an entry is missing or malformed.
        RuleBrokenError: a link leads to something else than an earlier control event.
    """
    found: list[Entry] = []
    link, above = head, None
    while True:
        entry = parse_entry(source.entry(link.seq), link.seq)
        if entry.body_hash != link.body_hash:  # (2)
            raise RuleBrokenError(
                link.seq,
                "the control chain is broken: another entry stands here than the one that is linked to",
                seen=entry.body_hash.hex(),
                wanted=link.body_hash.hex(),
            )
        link = _link_of(entry)
        found.append(entry)
        if above is not None and entry.body.time_ms > above.body.time_ms:
            raise RuleBrokenError(entry.body.seq, "it is younger than the control event after it")
        if entry.body.seq == 0:
            if link != NO_LINK:
                raise RuleBrokenError(0, "the first control event links to another one", seen=str(link.seq))
            found.reverse()
            return found
        if link.seq >= entry.body.seq:
            raise RuleBrokenError(entry.body.seq, "it links to no earlier entry", seen=str(link.seq))
        above = entry


def _link_of(entry: Entry) -> Link:
    seq, kind = entry.body.seq, entry.body.type
    if kind not in CONTROL_TYPES:
        raise RuleBrokenError(
            seq,
            "the control chain leads to an event that is none of its own, or that this version does not know",
            seen=kind,
            wanted=", ".join(sorted(CONTROL_TYPES)),
        )
    try:
        _, link = decode_event(entry)
    except EventError as error:
        raise RuleBrokenError(seq, "the payload is not one of this version", seen=str(error)) from None
    if link is None:
        raise RuleBrokenError(seq, "a control event without a link")
    return link


def _recovers_at_once(reading: Reading, entry: Entry) -> None:
    """Between control events lie others, so that the rule about neighbours must be asked here."""
    state, seq = reading.state, entry.body.seq
    opened = state.epochs[-1].seq if state.epochs else -1
    if opened < 2 or opened != state.control_head.seq:  # The first epoch, at 1, recovers nothing.
        return
    if seq != opened + 1 or entry.body.type != LedgerRecovered.type:
        raise RuleBrokenError(
            opened, "an epoch was opened that recovered nothing", seen=f"{entry.body.type} at {seq} after it"
        )


class ProvenSource(CheckedSource):
    """A source whose single entries are in the tree of its checkpoint, by inclusion proofs from its tiles."""

    def __init__(self, source: Source, checkpoint: Checkpoint) -> None:
        super().__init__(source)
        self._checkpoint = checkpoint
        self._nodes = TileNodes(checkpoint.size, self._tile)

    def entry(self, seq: int) -> bytes:
        """One raw entry, proven to be in the tree. Raises LedgerContentError."""
        size, root = self._checkpoint.size, self._checkpoint.root
        if not 0 <= seq < size:  # (1)
            raise LedgerContentError(seq, f"the checkpoint covers entries 0 to {size - 1} only")
        raw = super().entry(seq)
        try:
            verify_inclusion(parse_entry(raw, seq).leaf_hash, seq, size, self._nodes.inclusion(seq), root)  # (4)
        except ProofError as error:
            raise LedgerContentError(seq, f"it is not in the tree of the checkpoint: {error}") from error
        return raw

    def demand_head(self, seq: int, size: int, root: bytes) -> None:
        """Demand that the first *size* entries have this *root*, as entry *seq* says."""
        whole = self._checkpoint
        try:
            verify_consistency(size, whole.size, root, whole.root, self._nodes.consistency(size))
        except ProofError as error:
            raise RuleBrokenError(
                seq, f"the recovery continued another ledger at size {size}", seen=str(error)
            ) from None

    def _tile(self, tile: Tile) -> bytes:
        if tile.level == "entries":
            raise LedgerContentError(None, "a bundle of entries holds no nodes")
        return self.tile(tile.level, tile.index, tile.width)
