"""What a witness decides (c2sp.org/tlog-witness, v1.0.0): pure. Receives no request, stores nothing, reads no clock.

A witness cosigns a log's checkpoint only if it extends the one that it cosigned before. So whoever demands its
cosignature sees one history, and the witness needs to remember one checkpoint per log.

The checks of add-checkpoint, numbered as in the code:

1. The body is an old size, at most 63 hashes, an empty line and a checkpoint: else 400. (What is wrong with the
   signature lines alone counts as 3, as the published conversation has it.)
2. The origin is of a log that is known: else 404.
3. A key of that log has signed the checkpoint, and no line of such a key is bad: else 403.
4. The old size is not above the checkpoint's: else 400.
5. The old size is the one cosigned last, 0 for the first: else 409, whose body says that size.
6. The proof leads from the old root to the new one; from 0 it is empty; one size has one root: else 422.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger import base64text
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import LedgerError, NoteError, ProofError
from ledger.merkle import EMPTY_ROOT, verify_consistency
from ledger.note import MLDSASigner, TimedNoteSigner, VerifierKey, open_note, split_note

MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_PROOF_LINES: Final = 63
TEXT: Final = "text/plain; charset=utf-8"
SIZE: Final = "text/x.tlog.size"

Logs = Mapping[str, Sequence[VerifierKey]]
"""Origin -> the keys that may sign its checkpoints."""
Cosigner = MLDSASigner | TimedNoteSigner


class WitnessError(LedgerError):
    """A request that a witness does not cosign: HTTP status, content type and body as the protocol has them."""

    code = "not_cosigned"

    def __init__(self, status: int, body: str, content_type: str = TEXT) -> None:
        """*body* is the whole answer."""
        super().__init__(body.strip())
        self.status = status
        self.body = body
        self.content_type = content_type


@dataclass(frozen=True, slots=True)
class Request:
    """The body of add-checkpoint, read but not judged."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes
    text: str
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Known:
    """What a witness remembers of a log: the checkpoint that it cosigned last, and when (Unix seconds)."""

    size: int
    root: bytes
    time_s: int
    note: bytes  # as it is given to monitors: the text, the log's own lines, the witness's

    _HEAD = struct.Struct(">BQ32sQ")
    _VERSION = 1

    def pack(self) -> bytes:
        """The bytes that a store keeps."""
        return self._HEAD.pack(self._VERSION, self.size, self.root, self.time_s) + self.note

    @classmethod
    def unpack(cls, raw: bytes) -> "Known":
        """Read what pack() wrote. Raises LedgerError for anything else."""
        if len(raw) < cls._HEAD.size or raw[0] != cls._VERSION:
            raise LedgerError("the state of the witness is damaged: it must not cosign until it is restored")
        _, size, root, time_s = cls._HEAD.unpack_from(raw)
        return cls(size, root, time_s, raw[cls._HEAD.size :])


@dataclass(frozen=True, slots=True)
class AcceptedFork:
    """That a witness's own operator made it forget one history and go on with another, and when (Unix seconds)."""

    time_s: int
    old_size: int
    old_root: bytes
    new_size: int
    new_root: bytes

    _SHAPE = struct.Struct(">BQQ32sQ32s")
    _VERSION = 1

    def pack(self) -> bytes:
        """The bytes that a store keeps."""
        return self._SHAPE.pack(self._VERSION, self.time_s, self.old_size, self.old_root, self.new_size, self.new_root)

    @classmethod
    def unpack(cls, raw: bytes) -> "AcceptedFork":
        """Read what pack() wrote. Raises LedgerError for anything else."""
        if len(raw) != cls._SHAPE.size or raw[0] != cls._VERSION:
            raise LedgerError("the state of the witness is damaged: it must not cosign until it is restored")
        return cls(*cls._SHAPE.unpack(raw)[1:])


class ForkNotAcceptedError(LedgerError):
    """A witness does not go on with another history as its operator asked; the message says why."""

    code = "fork_not_accepted"


def write_request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of add-checkpoint, as a log sends it."""
    lines = "".join(base64text.encode(each) + "\n" for each in proof)
    return f"old {old}\n{lines}\n{note}".encode()


def parse_request(raw: bytes) -> Request:
    """Read a request. Raises WitnessError 400."""
    # (1) The form.
    if len(raw) > MAX_REQUEST_BYTES:
        raise WitnessError(400, f"malformed request: more than {MAX_REQUEST_BYTES} bytes\n")
    try:
        return _request(raw)
    except (ValueError, NoteError) as error:
        raise WitnessError(400, f"malformed request: {error}\n") from None


def judge_signature(request: Request, logs: Logs) -> list[VerifierKey]:
    """Demand a signature of the log; gives the keys that signed. Raises WitnessError 404 or 403."""
    # (2) The log.
    keys = logs.get(request.checkpoint.origin)
    if not keys:
        raise WitnessError(404, "unknown log\n")
    # (3) Its signature.
    try:
        return open_note(request.note, keys)[1]
    except NoteError:
        raise WitnessError(403, "invalid signature\n") from None


def judge_history(request: Request, known: Known | None) -> None:
    """Demand that the checkpoint extends what is *known* of the log. Raises WitnessError 400, 409 or 422.

    Whoever calls this holds *known* fast until the new checkpoint is stored: the check and the storing are one step.
    """
    new = request.checkpoint
    # (4) The sizes' order.
    if request.old > new.size:
        raise WitnessError(400, "malformed request: the old size is above the checkpoint's\n")
    # (5) Where the log and this witness stand.
    size = 0 if known is None else known.size
    if request.old != size:
        raise WitnessError(409, f"{size}\n", SIZE)
    # (6) The proof.
    try:
        _check_proof(request, known)
    except ProofError as error:
        raise WitnessError(422, f"consistency proof: {error}\n") from None


def cosign(
    request: Request,
    signed_by: Sequence[VerifierKey],
    known: Known | None,
    cosigners: Sequence[Cosigner],
    *,
    now_s: int,
) -> tuple[str, Known]:
    """The answer to a request that passed, and what must be stored before it is given.

    The time never goes back for one log, whatever the clock (*now_s*, Unix seconds) does.
    """
    time_s = now_s if known is None else max(now_s, known.time_s)
    lines = "".join(signer.line(request.text.encode(), time_s) for signer in cosigners)
    own = {(key.name, key.key_id) for key in signed_by}
    kept = [line for line in split_note(request.note)[1] if (line.name, line.key_id) in own]
    shown = "".join(f"\N{EM DASH} {line.name} {base64text.encode(line.key_id + line.signature)}\n" for line in kept)
    note = f"{request.text}\n{shown}{lines}".encode()
    return lines, Known(request.checkpoint.size, request.checkpoint.root, time_s, note)


def accept_fork(
    note: bytes,
    logs: Logs,
    known: Known | None,
    cosigners: Sequence[Cosigner],
    *,
    old: tuple[int, bytes],
    now_s: int,
) -> tuple[AcceptedFork, Known]:
    """What a witness remembers and records once its operator has it go on with *note* instead of *old*.

    Nobody can ask for this from afar: it is no request of the protocol. Whoever decides it says both heads, so that
    neither a stale file nor a slip of the hand takes back more than was meant.

    Raises:
        ForkNotAcceptedError: *old* is not what it remembers, or *note* is that already.
        WitnessError: *note* is no checkpoint of a known log, signed by it.
    """
    request = parse_request(b"old 0\n\n" + note)
    signed_by = judge_signature(request, logs)
    new = request.checkpoint
    if known is None:
        raise ForkNotAcceptedError(f"this witness remembers nothing of {new.origin}: there is nothing to give up")
    if (known.size, known.root) != old:
        raise ForkNotAcceptedError(
            f"this witness remembers {known.size} entries, root {known.root.hex()}, not {old[0]} with {old[1].hex()}"
        )
    if (new.size, new.root) == old:
        raise ForkNotAcceptedError("the new head is the one that is remembered: there is nothing to give up")
    _, after = cosign(request, signed_by, known, cosigners, now_s=now_s)
    return AcceptedFork(after.time_s, known.size, known.root, new.size, new.root), after


def monitor_path(origin: str) -> str:
    """Where a witness shows what it cosigned last, below its monitoring prefix."""
    return f"{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"


def _request(raw: bytes) -> Request:
    head, blank, note = raw.partition(b"\n\n")
    first, *lines = head.decode("ascii").split("\n")
    number = first.removeprefix("old ")
    if not blank or number == first or not number.isdigit() or str(int(number[:20])) != number:
        raise ValueError("the first line is `old` and a decimal size")
    if int(number) >= 2**63 or len(lines) > MAX_PROOF_LINES:
        raise ValueError(f"sizes are below 2^63, and there are at most {MAX_PROOF_LINES} hashes")
    proof = tuple(_hash(line) for line in lines)
    at = note.rfind(b"\n\n")
    if at < 0:
        raise ValueError("a checkpoint is a text, a blank line and signature lines")
    text = note[: at + 1].decode()
    checkpoint = parse_checkpoint(text, extensions=True)
    if len(checkpoint.root) != len(EMPTY_ROOT):
        raise ValueError("the root has 32 bytes")
    return Request(int(number), proof, note, text, checkpoint)


def _check_proof(request: Request, known: Known | None) -> None:
    new = request.checkpoint
    if request.old == 0:
        if request.proof or (new.size == 0 and new.root != EMPTY_ROOT):
            raise ProofError("from size 0 there is nothing to prove, and an empty tree has the empty root")
        return
    root = EMPTY_ROOT if known is None else known.root
    if request.old == new.size:
        if request.proof or root != new.root:
            raise ProofError("one size has one root, and needs no proof")
        return
    verify_consistency(request.old, new.size, root, new.root, request.proof)


def _hash(line: str) -> bytes:
    try:
        raw = base64text.decode(line)
    except ValueError as error:
        raise ValueError(f"a hash {error}") from None
    if len(raw) != 32:
        raise ValueError(f"a hash has 32 bytes, this one has {len(raw)}")
    return raw
