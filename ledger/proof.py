"""Receipts (c2sp.org/tlog-proof): an entry's place in a signed tree, in one text. Does not judge who signed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ledger import base64text
from ledger.checkpoint import Checkpoint, open_finished
from ledger.errors import ProofError
from ledger.merkle import verify_inclusion
from ledger.note import MAX_NOTE_BYTES, VerifierKey

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_MAX_HASHES: Final = 63


@dataclass(frozen=True, slots=True)
class TlogProof:
    """Entry *index* is in the tree of the signed checkpoint. *extra* is not authenticated: hash it before believing."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint_raw: str
    extra: bytes = b""

    def text(self) -> str:
        """The proof as a file, ``.tlog-proof``."""
        lines = [_HEADER]
        if self.extra:
            lines.append(f"extra {base64text.encode(self.extra)}")
        lines.append(f"index {self.index}")
        lines += [base64text.encode(each) for each in self.hashes]
        return "\n".join(lines) + "\n\n" + self.checkpoint_raw


def parse_proof(raw: bytes) -> TlogProof:
    """Read a proof; nothing is verified. Raises ProofError."""
    if len(raw) > 2 * MAX_NOTE_BYTES:
        raise ProofError(f"the proof has {len(raw)} bytes, at most {2 * MAX_NOTE_BYTES} are read")
    try:
        head, blank, checkpoint = raw.decode().partition("\n\n")
    except UnicodeDecodeError as error:
        raise ProofError("a proof is UTF-8; these bytes are not") from error
    lines = head.split("\n")
    if not blank or not checkpoint or lines[0] != _HEADER:
        raise ProofError(f"a proof begins with {_HEADER} and ends with a checkpoint after a blank line")
    lines = lines[1:]
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = _decode(lines.pop(0)[len("extra ") :])
        if not extra:
            raise ProofError("the extra line is empty; without data the line is left out")
    number = lines.pop(0).removeprefix("index ") if lines and lines[0].startswith("index ") else ""
    if not number.isascii() or not number.isdigit() or str(int(number[:20])) != number or int(number) >= 2**63:
        raise ProofError("the index line of the proof is missing or holds no number below 2^63")
    if len(lines) > _MAX_HASHES:
        raise ProofError(f"the proof has {len(lines)} hashes, at most {_MAX_HASHES} are possible")
    hashes = tuple(_decode(line) for line in lines)
    if any(len(each) != 32 for each in hashes):
        raise ProofError("every hash of a proof has 32 bytes")
    return TlogProof(int(number), hashes, checkpoint, extra)


def verify(
    proof: TlogProof, leaf_hash: bytes, *, ledger_key: VerifierKey, epoch_keys: Iterable[VerifierKey]
) -> Checkpoint:
    """Demand that the entry with *leaf_hash* is at ``proof.index`` of a finished checkpoint; gives the checkpoint.

    Raises ProofError, or NoteError where a signature is missing or bad.
    """
    checkpoint = open_finished(proof.checkpoint_raw.encode(), ledger_key=ledger_key, epoch_keys=epoch_keys)
    verify_inclusion(leaf_hash, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint


def _decode(encoded: str) -> bytes:
    try:
        return base64text.decode(encoded)
    except ValueError as error:
        raise ProofError(f"a line of the proof {error}") from None
