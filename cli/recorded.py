"""Evidence that a ledger recorded, found from the file of one exported entry and the blobs beside it."""

from dataclasses import dataclass
from pathlib import Path

from attestation.binding import Purpose, report_data
from attestation.errors import EvidenceError
from attestation.evidence import Evidence
from cli.errors import RefusedError
from cli.workspace import read_file
from coordinator.events import AttestationAccepted, EpochOpened, decode_event
from coordinator.refusals import RuleBrokenError
from ledger.entry import parse_entry
from ledger.errors import LedgerError

MAX_ENTRY = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The evidence of one entry.

    Attributes:
        seq: of the entry.
        type: of its event.
        evidence: put together from the blobs.
        policy: the HOSTDATA that was accepted.
        report_data: what it was bound to; None for an epoch, whose anchor is another entry.
        time_ms: when it was judged.
    """

    seq: int
    type: str
    evidence: Evidence
    policy: bytes
    report_data: bytes | None
    time_ms: int


def recorded_evidence(path: Path, raw: bytes) -> Recorded | None:
    """The evidence that the entry in *raw* names; None where *raw* is no entry.

    Args:
        path: of the entry, ``…/entry/7``; its blobs are in ``…/blob/``.
        raw: the file's bytes.

    Raises:
        RefusedError: the entry is about no evidence, or a blob is missing or another.
    """
    if len(raw) > MAX_ENTRY:
        return None
    try:
        entry = parse_entry(raw)
        event, _ = decode_event(entry)
    except (LedgerError, RuleBrokenError):
        return None
    if not isinstance(event, AttestationAccepted | EpochOpened):
        raise RefusedError(f"{path}: an entry of type {entry.body.type} is about no evidence")
    kind, references = event.evidence
    blobs = path.parent.parent / "blob"
    parts = {role: read_file(blobs / digest.hex(), what=f"the {role}") for role, digest in references}
    try:
        evidence = Evidence.make(kind, parts)
    except EvidenceError as error:
        raise RefusedError(f"{path}: the blobs are no evidence: {error}") from None
    if evidence.references() != (kind, references):
        raise RefusedError(f"{path}: the files in {blobs} are not those that the entry names")
    bound = None
    if isinstance(event, AttestationAccepted):
        bound = report_data(Purpose(event.purpose), event.nonce, event.subject)
    return Recorded(
        seq=entry.body.seq,
        type=entry.body.type,
        evidence=evidence,
        policy=event.policy,
        report_data=bound,
        time_ms=entry.body.time_ms,
    )
