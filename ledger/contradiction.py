"""Evidence that a ledger told two histories, for a third person who has its keys and nothing else. Fetches nothing.

Two finished checkpoints of one ledger contradict each other if they have one size and two roots; or if the longer one's
tree does not contain the shorter one's. The latter is shown by a consistency proof from the root that the longer tree
*really* had at that size: hashing leaves no second one, so that root and the shorter checkpoint's cannot both be right.

Drafts never count: a crash or a lost race leaves contradictory ones honestly. Each checkpoint carries both signatures.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, NoteError, ProofError
from ledger.keyring import EpochKey, Keyring
from ledger.merkle import verify_consistency

MAX_EVIDENCE_BYTES: Final = 256 * 1024
_FORMAT: Final = "contrast/fork-evidence/v1"


class EvidenceError(LedgerError):
    """A file is no evidence of a fork, or does not prove one by these keys; the message says why."""

    code = "fork_not_proven"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkEvidence:
    """Two finished notes, the one of the smaller size first.

    *prefix_root* and *consistency* are empty where the sizes are equal; else they show which root the second tree had
    at the size of the first.
    """

    first: str
    second: str
    prefix_root: bytes = b""
    consistency: tuple[bytes, ...] = ()

    def text(self) -> bytes:
        """The file, in its one spelling."""
        document = {
            "format": _FORMAT,
            "first": self.first,
            "second": self.second,
            "prefix_root": self.prefix_root.hex(),
            "consistency": [base64.b64encode(each).decode() for each in self.consistency],
        }
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Fork:
    """A fork that is proven: two checkpoints, and the epochs that signed them."""

    first: Checkpoint
    second: Checkpoint
    first_epoch: EpochKey
    second_epoch: EpochKey


def parse_evidence(raw: bytes) -> ForkEvidence:
    """Read evidence; nothing is verified. Raises EvidenceError."""
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise EvidenceError(f"the file has {len(raw)} bytes, at most {MAX_EVIDENCE_BYTES} are read")
    try:
        found = json.loads(raw)
        evidence = ForkEvidence(
            first=found["first"],
            second=found["second"],
            prefix_root=bytes.fromhex(found["prefix_root"]),
            consistency=tuple(base64.b64decode(each, validate=True) for each in found["consistency"]),
        )
        same = evidence.text() == raw
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise EvidenceError(f"the file is no evidence of a fork, which is JSON of format {_FORMAT}") from None
    if not same:
        raise EvidenceError("the evidence is not written in its one spelling: it was changed")
    return evidence


def verify_evidence(evidence: ForkEvidence, keyrings: Sequence[Keyring]) -> Fork:
    """Demand that *evidence* proves a fork of the ledger of *keyrings*.

    Several keyrings are of one ledger, as different people judged its epochs: a fork may have an epoch that only one of
    them has met. Raises EvidenceError.
    """
    first, first_epoch = _open(evidence.first, keyrings)
    second, second_epoch = _open(evidence.second, keyrings)
    if first.size > second.size:
        raise EvidenceError("the checkpoint of the smaller size comes first")
    if first.size == second.size:
        if evidence.prefix_root or evidence.consistency:
            raise EvidenceError("checkpoints of one size need no proof between them")
        if first.root == second.root:
            raise EvidenceError(f"both checkpoints are of one tree of {first.size} entries: they agree")
        return Fork(first, second, first_epoch, second_epoch)
    if evidence.prefix_root == first.root:
        raise EvidenceError(f"the ledger of {second.size} entries extends the one of {first.size}: they agree")
    try:
        verify_consistency(first.size, second.size, evidence.prefix_root, second.root, evidence.consistency)
    except ProofError as error:
        raise EvidenceError(f"the proof does not show what the longer ledger was at {first.size}: {error}") from None
    return Fork(first, second, first_epoch, second_epoch)


def make_evidence(
    one: tuple[bytes, Checkpoint],
    other: tuple[bytes, Checkpoint],
    *,
    history: Callable[[Checkpoint, int], tuple[bytes, Sequence[bytes]]],
) -> ForkEvidence | None:
    """The evidence that two finished notes contradict each other; None if they agree.

    Args:
        one: A note and what it says.
        other: Another.
        history: (longer checkpoint, smaller size) -> root that its ledger had then, and the consistency proof.

    Raises:
        EvidenceError: they are of two ledgers, or the longer one's history shows nothing.
    """
    (first_raw, first), (second_raw, second) = sorted((one, other), key=lambda each: each[1].size)
    if first.origin != second.origin:
        raise EvidenceError(f"these are two ledgers, {first.origin} and {second.origin}: they cannot contradict")
    if first == second:
        return None
    root, proof = (b"", ()) if first.size == second.size else history(second, first.size)
    if root == first.root:
        return None
    return ForkEvidence(
        first=first_raw.decode(), second=second_raw.decode(), prefix_root=root, consistency=tuple(proof)
    )


def _open(note: str, keyrings: Sequence[Keyring]) -> tuple[Checkpoint, EpochKey]:
    reasons: list[str] = []
    if len({keys.ledger for keys in keyrings}) > 1:
        raise EvidenceError("the keys given are of several ledgers")
    for keys in keyrings:
        try:
            return keys.open_finished(note.encode())
        except NoteError as error:
            reasons.append(str(error))
    raise EvidenceError(
        f"a checkpoint does not count by these keys: {'; '.join(dict.fromkeys(reasons)) or 'no keys were given'}. If "
        "its epoch is one that you never judged, verify that ledger and give its ledger.vkeys as well"
    )
