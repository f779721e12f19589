"""Checkpoints (c2sp.org/tlog-checkpoint): which tree a log had, and the two signatures that finish one.

A *draft* is signed by the epoch key alone and never leaves the store. A *finished* checkpoint carries the ledger key's
signature under the origin and the epoch key's under ``origin/epoch``, in this order (docs/formats.md, section 4).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ledger import base64text
from ledger.errors import NoteError
from ledger.note import VerifierKey, open_note, split_note

ORIGIN_PREFIX: Final = "contrast.invalid/"
MAX_SIZE: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The root of the tree of the first *size* entries of the log called *origin*."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed, without extension lines."""
        return f"{self.origin}\n{self.size}\n{base64text.encode(self.root)}\n"


def parse_checkpoint(text: str, *, extensions: bool = False) -> Checkpoint:
    """Read a checkpoint's text (a note without blank line and signatures).

    Other logs may have extension lines; ours have none, so they are refused unless *extensions* allows them.
    Raises NoteError.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1]:
        raise NoteError("a checkpoint has three lines, origin, size and root, each ended by a newline")
    origin, size, root, *rest = lines[:-1]
    if not origin:
        raise NoteError("the checkpoint has no origin")
    if rest and (not extensions or not all(rest)):
        raise NoteError("the checkpoint has extension lines; checkpoints of this system have none")
    if not size.isascii() or not size.isdigit() or (size[0] == "0" and size != "0") or len(size) > 20:
        raise NoteError("the size of a checkpoint is a decimal number without leading zeros")
    if int(size) > MAX_SIZE:
        raise NoteError("the size of the checkpoint is beyond 2^63-1")
    try:
        decoded = base64text.decode(root)
    except ValueError as error:
        raise NoteError(f"the root of the checkpoint {error}") from None
    if len(decoded) != 32 and not extensions:
        raise NoteError(f"the root of the checkpoint has {len(decoded)} bytes, 32 are wanted")
    return Checkpoint(origin, int(size), decoded)


def read_checkpoint(raw: bytes) -> Checkpoint:
    """What a signed checkpoint says, its signatures NOT verified: for replays that compare, and for diagnostics.

    Raises NoteError.
    """
    return parse_checkpoint(split_note(raw)[0])


def open_finished(raw: bytes, *, ledger_key: VerifierKey, epoch_keys: Iterable[VerifierKey]) -> Checkpoint:
    """The checkpoint in *raw*, demanding the ledger key's signature and one by any of the epoch keys.

    Whether that epoch was open at this size is for the caller, who judged it: see signed_by(). Raises NoteError.
    """
    checkpoint, _ = open_finished_by(raw, ledger_key=ledger_key, epoch_keys=epoch_keys)
    return checkpoint


def open_finished_by(
    raw: bytes, *, ledger_key: VerifierKey, epoch_keys: Iterable[VerifierKey]
) -> tuple[Checkpoint, VerifierKey]:
    """As open_finished(), with the epoch key that signed. Raises NoteError."""
    epochs = tuple(epoch_keys)
    text, verified = open_note(raw, (ledger_key, *epochs))
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != ledger_key.name:
        raise NoteError(f"the checkpoint is of {checkpoint.origin}, the ledger is {ledger_key.name}")
    if ledger_key not in verified:
        raise NoteError("the ledger key has not signed the checkpoint: a draft proves nothing to others")
    name = epoch_name(checkpoint.origin)
    for key in verified:
        if key in epochs and key.name == name:
            return checkpoint, key
    raise NoteError("no epoch that was judged has signed the checkpoint: the ledger key alone does not count")


def origin_of(ledger_public: bytes) -> str:
    """The name of the ledger whose genesis ledger key is *ledger_public* (raw Ed25519)."""
    return ORIGIN_PREFIX + hashlib.sha256(ledger_public).hexdigest()


def epoch_name(origin: str) -> str:
    """The name under which epoch keys sign checkpoints."""
    return origin + "/epoch"
