"""Evidence of a fork from its first moment: two epochs that were opened on one parent. Fetches nothing.

Every epoch begins with an entry that its own key signs and whose hash chain names the entry before it. Two of them on
the same entry are two histories from there on. Each side is a receipt: the entry, its place in a tree, and that tree's
finished note, so neither side needs the other's ledger, and no sizes need to fit together.

A note must be finished: a crash or a lost race leaves an epoch's entry behind that never came to stand in a ledger.
The checks, numbered as in the code:

1. Both receipts can be read, and hold the entry that they are of.
2. Each entry is signed by its signer, an epoch of the verifier's keys that begins with this very entry.
3. Each tree is signed by the ledger and by an epoch of the keys that was open at its size, and holds the entry.
4. Both entries follow the same entry, and are of two epochs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.checkpoint import Checkpoint
from ledger.contradiction import MAX_EVIDENCE_BYTES, EvidenceError
from ledger.entry import ZERO_HASH, Entry, parse_entry, verify_signature
from ledger.errors import LedgerError
from ledger.keyring import EpochKey, Keyring
from ledger.merkle import verify_inclusion
from ledger.proof import TlogProof, parse_proof

FORMAT: Final = "contrast/epoch-fork-evidence/v1"


@dataclass(frozen=True, slots=True)
class EpochForkEvidence:
    """Two receipts (tlog-proof) of entries that open an epoch; the smaller epoch key first."""

    first: str
    second: str

    def text(self) -> bytes:
        """The file, in its one spelling."""
        document = {"format": FORMAT, "first": self.first, "second": self.second}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Opening:
    """One side: the epoch, and the finished checkpoint of the tree that its opening stands in."""

    epoch: EpochKey
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class EpochFork:
    """A fork that is proven: two epochs opened at *seq*, after the entry with the hash *parent*."""

    seq: int
    parent: bytes
    first: Opening
    second: Opening


def make_epoch_evidence(one: TlogProof, other: TlogProof) -> EpochForkEvidence | None:
    """The evidence that two receipts are; None where they are not of two epochs on one parent.

    Raises EvidenceError for a receipt without its entry.
    """
    sides = sorted((_entry(proof).body.signer, proof.text()) for proof in (one, other))
    bodies = [_entry(proof).body for proof in (one, other)]
    if sides[0][0] == sides[1][0] or bodies[0].seq != bodies[1].seq or bodies[0].prev != bodies[1].prev:
        return None
    return EpochForkEvidence(sides[0][1], sides[1][1])


def parse_epoch_evidence(raw: bytes) -> EpochForkEvidence:
    """Read evidence; nothing is verified. Raises EvidenceError."""
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise EvidenceError(f"the file has {len(raw)} bytes, at most {MAX_EVIDENCE_BYTES} are read")
    try:
        found = json.loads(raw)
        evidence = EpochForkEvidence(found["first"], found["second"])
        same = evidence.text() == raw
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EvidenceError(f"the file is no evidence of a fork, which is JSON of format {FORMAT}") from None
    if not same:
        raise EvidenceError("the evidence is not written in its one spelling: it was changed")
    return evidence


def verify_epoch_evidence(evidence: EpochForkEvidence, keyrings: Sequence[Keyring]) -> EpochFork:
    """Demand that *evidence* proves a fork of the ledger of *keyrings*, as different people judged its epochs.

    Raises EvidenceError.
    """
    if len({keys.ledger for keys in keyrings}) > 1:
        raise EvidenceError("the keys given are of several ledgers")
    (first_entry, first), (second_entry, second) = (_open(text, keyrings) for text in (evidence.first, evidence.second))
    # (4) One parent, two epochs.
    one, other = first_entry.body, second_entry.body
    if one.signer == other.signer:
        raise EvidenceError("both receipts are of one epoch: that is no fork")
    if one.signer > other.signer:
        raise EvidenceError("the receipt of the smaller epoch key comes first")
    if one.seq != other.seq or one.prev != other.prev or one.prev == ZERO_HASH:
        raise EvidenceError(f"the epochs were opened on different entries, before {one.seq} and {other.seq}")
    return EpochFork(one.seq, one.prev, first, second)


def _open(text: str, keyrings: Sequence[Keyring]) -> tuple[Entry, Opening]:
    # (1) Readable.
    try:
        proof = parse_proof(text.encode())
        entry = _entry(proof)
        # (2) The entry's own signature, and what it opens.
        verify_signature(entry)
    except (LedgerError, UnicodeEncodeError) as error:
        raise EvidenceError(f"a receipt is none: {error}") from None
    seq, signer = entry.body.seq, entry.body.signer
    begun = [each for keys in keyrings for each in keys.epochs if each.key.public == signer and each.first == seq + 1]
    if not begun:
        raise EvidenceError(
            f"entry {seq} is signed by {signer.hex()}, which is no epoch that these keys know to begin there. If you "
            "never judged it, verify that ledger and give its ledger.vkeys as well"
        )
    # (3) A finished tree that holds it.
    reasons: list[str] = []
    for keys in keyrings:
        try:
            checkpoint, _ = keys.open_finished(proof.checkpoint_raw.encode())
            verify_inclusion(entry.leaf_hash, seq, checkpoint.size, proof.hashes, checkpoint.root)
        except LedgerError as error:
            reasons.append(str(error))
        else:
            return entry, Opening(begun[0], checkpoint)
    raise EvidenceError(f"the tree of a receipt does not count by these keys: {'; '.join(dict.fromkeys(reasons))}")


def _entry(proof: TlogProof) -> Entry:
    try:
        return parse_entry(proof.extra, proof.index)
    except LedgerError as error:
        raise EvidenceError(f"the receipt does not hold its entry: {error}") from None
