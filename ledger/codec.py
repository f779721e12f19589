"""Canonical MessagePack (docs/formats.md, section 1): one encoding for each value. Knows no record."""

from collections.abc import Sequence
from typing import TypeAlias

import msgpack

from ledger.errors import CodecError

Value: TypeAlias = "bool | int | str | bytes | tuple[Value, ...] | None"
Packable: TypeAlias = "bool | int | str | bytes | Sequence[Packable] | None"

MAX_INT = 2**63 - 1
MAX_DEPTH = 8
# Arrays that a stranger sends are allocated before their elements are read: without a bound, nested headers of a few
# bytes each claim gigabytes.
MAX_ARRAY = 1024

_PACKER = msgpack.Packer(use_bin_type=True)  # reused: no Python code runs inside pack(), so threads cannot interleave


def pack(value: Packable) -> bytes:
    """The one encoding of *value*. Raises CodecError if it has none (map, float, negative integer, too deep, …)."""
    _check(value, MAX_DEPTH)
    return pack_trusted(value)


def pack_trusted(value: Packable) -> bytes:
    """As pack(), for values whose types the caller has established: the hot path of the writer and of every reader."""
    try:
        packed: bytes = _PACKER.pack(value)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError) as error:
        raise CodecError(f"this value cannot be encoded: {error}") from error
    return packed


def unpack(data: bytes, *, max_depth: int = MAX_DEPTH) -> Value:
    """The value that *data* encodes, arrays as tuples. Raises CodecError unless pack() of it gives the same bytes."""
    value = unpack_trusting(data)
    _check(value, max_depth)
    if pack_trusted(value) != data:
        raise CodecError("the bytes are not the shortest encoding of their value")
    return value


def unpack_trusting(data: bytes) -> Value:
    """The value in *data*, not checked to be canonical: for readers that check every type and pack it again."""
    try:
        value: Value = msgpack.unpackb(
            data, raw=False, use_list=False, max_array_len=MAX_ARRAY, max_map_len=0, max_ext_len=0
        )
    except RecursionError as error:
        raise CodecError("the value is nested too deep") from error
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        # msgpack's messages may hold input; name the kind of fault only.
        raise CodecError(f"this is not MessagePack of the permitted types ({type(error).__name__})") from error
    return value


def _check(value: object, depth: int) -> None:
    kind = type(value)
    if kind is bytes or kind is bool or value is None:
        return
    if kind is str:
        return
    if kind is int:
        if not 0 <= value <= MAX_INT:  # type: ignore[operator]  # kind says int; isinstance would let bool through
            raise CodecError(f"integer {value} is outside 0 to 2^63-1")
        return
    if kind is tuple or kind is list:
        if depth == 0:
            raise CodecError(f"arrays are nested deeper than {MAX_DEPTH}")
        if len(value) > MAX_ARRAY:  # type: ignore[arg-type]
            raise CodecError(f"an array has {len(value)} elements, at most {MAX_ARRAY} are permitted")  # type: ignore[arg-type]
        for element in value:  # type: ignore[attr-defined]
            _check(element, depth - 1)
        return
    raise CodecError(f"a value of type {kind.__name__} is not permitted here")
