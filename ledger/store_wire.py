"""The bytes between a program and its store process: requests, answers, errors. Opens nothing and starts nothing.

A frame is a length (u32), one byte that says what it is, and parts of bytes, each with its length. Both sides are this
very code, but the store process reads a file that is the host's: what comes from it is bounded and checked here.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Final

from ledger.errors import (
    HeadMovedError,
    LedgerContentError,
    LedgerEmptyError,
    LedgerError,
    StoreError,
    StoreFullError,
)
from ledger.store import Batch, Head, State

MAX_FRAME: Final = 128 * 2**20  # 4096 entries of 16 KiB, or a blob: a store has nothing longer to say
_LENGTH: Final = struct.Struct(">I")
_NUMBER: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">Q32s")
_STATE: Final = struct.Struct(">Q32sQQ??")
_ERRORS: Final[tuple[type[LedgerError], ...]] = (
    StoreError, StoreFullError, HeadMovedError, LedgerContentError, LedgerEmptyError, LedgerError,
)  # fmt: skip
_NO_SEQ: Final = 2**64 - 1


class Ask(IntEnum):
    """What a store can be asked; ledger/store.py says what each means."""

    STATE = 1
    APPEND = 2
    ENTRIES = 3
    NODES = 4
    NODES_AT = 5
    BLOB = 6
    BLOB_DIGESTS = 7
    REQUEST = 8


class Answer(IntEnum):
    """What comes back."""

    DONE = 0
    NOTHING = 1
    ERROR = 2


class ChannelClosedError(Exception):
    """The other side is gone, or has said something that this code would not say."""


class Channel:
    """Frames over one connected socket; one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, kind: int, parts: Sequence[bytes] = ()) -> None:
        """Write one frame. Raises ChannelClosedError."""
        lengths = struct.pack(f">BI{len(parts)}I", kind, len(parts), *map(len, parts))
        size = len(lengths) + sum(map(len, parts))
        try:
            if size < 65_536:
                self._socket.sendall(b"".join((_LENGTH.pack(size), lengths, *parts)))
            else:
                self._socket.sendall(_LENGTH.pack(size) + lengths)
                self._socket.sendall(b"".join(parts))
        except OSError as error:
            raise ChannelClosedError(str(error)) from error

    def receive(self) -> tuple[int, list[bytes]]:
        """Read one frame. Raises ChannelClosedError at the end, or for a frame that is none."""
        (size,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if not 5 <= size <= MAX_FRAME:
            raise ChannelClosedError(f"a frame of {size} bytes")
        frame = self._exactly(size)
        kind, count = struct.unpack_from(">BI", frame)
        begin = 5 + 4 * count
        if begin > size:
            raise ChannelClosedError("a frame that is shorter than its lengths")
        parts, at = [], begin
        for length in struct.unpack_from(f">{count}I", frame, 5):
            parts.append(frame[at : at + length])
            at += length
        if at != size:
            raise ChannelClosedError("a frame whose parts are not its length")
        return kind, parts

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            try:
                piece = self._socket.recv(min(count, 2**20))
            except OSError as error:
                raise ChannelClosedError(str(error)) from error
            if not piece:
                raise ChannelClosedError("the other side has closed")
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def pack_number(number: int) -> bytes:
    """A seq or position."""
    return _NUMBER.pack(number)


def unpack_number(part: bytes) -> int:
    """What pack_number() wrote."""
    return int(_NUMBER.unpack(part)[0])


def pack_state(state: State) -> list[bytes]:
    """The parts of an answer to STATE."""
    head = state.head
    fixed = _STATE.pack(
        head.size, head.hash, state.entry_count, state.node_count, state.draft is not None, state.finished is not None
    )
    return [fixed, state.draft or b"", state.finished or b""]


def unpack_state(parts: Sequence[bytes]) -> State:
    """What pack_state() wrote."""
    fixed, draft, finished = parts
    size, digest, entries, nodes, has_draft, has_finished = _STATE.unpack(fixed)
    return State(
        head=Head(size, digest), entry_count=entries, node_count=nodes, draft=draft if has_draft else None,
        finished=finished if has_finished else None,
    )  # fmt: skip


def pack_batch(batch: Batch) -> list[bytes]:
    """The parts of an APPEND."""
    counts = struct.pack(
        ">4I??", len(batch.entries), len(batch.nodes), len(batch.blobs), len(batch.requests),
        batch.draft is not None, batch.finished is not None,
    )  # fmt: skip
    heads = _HEAD.pack(batch.previous.size, batch.previous.hash) + _HEAD.pack(batch.head.size, batch.head.hash)
    return [
        counts + heads, *batch.entries, *batch.nodes, *(part for pair in batch.blobs.items() for part in pair),
        *(part for key, seq in batch.requests.items() for part in (key, _NUMBER.pack(seq))),
        batch.draft or b"", batch.finished or b"",
    ]  # fmt: skip


def unpack_batch(parts: Sequence[bytes]) -> Batch:
    """What pack_batch() wrote."""
    fixed, *rest, draft, finished = parts
    entries, nodes, blobs, requests, has_draft, has_finished = struct.unpack_from(">4I??", fixed)
    previous, head = (Head(*_HEAD.unpack_from(fixed, 18 + number * _HEAD.size)) for number in range(2))
    at = entries + nodes
    pairs = rest[at : at + 2 * blobs]
    asked = rest[at + 2 * blobs :]
    batch = Batch(
        previous=previous, head=head, entries=rest[:entries], nodes=rest[entries:at],
        blobs=dict(zip(pairs[::2], pairs[1::2], strict=True)),
        requests={key: unpack_number(seq) for key, seq in zip(asked[::2], asked[1::2], strict=True)},
    )  # fmt: skip
    if len(asked) != 2 * requests:
        raise ChannelClosedError("a batch with other requests than it counts")
    return replace(batch, draft=draft if has_draft else None, finished=finished if has_finished else None)


def pack_error(error: LedgerError) -> list[bytes]:
    """The parts of an ERROR."""
    kind = next((at for at, cls in enumerate(_ERRORS) if type(error) is cls), len(_ERRORS) - 1)
    seq, text = _NO_SEQ, str(error)
    if isinstance(error, LedgerContentError):
        kind, text = _ERRORS.index(LedgerContentError), error.reason
        seq = _NO_SEQ if error.seq is None else error.seq
    return [bytes([kind]), _NUMBER.pack(seq), text.encode(errors="replace")[:4096]]


def unpack_error(parts: Sequence[bytes]) -> LedgerError:
    """What pack_error() wrote."""
    kind, seq, text = parts
    cls, message = _ERRORS[kind[0]], text.decode(errors="replace")
    if cls is LedgerContentError:
        number = unpack_number(seq)
        return LedgerContentError(None if number == _NO_SEQ else number, message)
    return cls(message)
