"""Canonical MessagePack (docs/formats.md, section 1): each value has one encoding, everything else is refused.

No shapes and no meaning here; ``ledger/`` has its own reader, because the two packages do not know each other.
"""

from collections.abc import Sequence

import msgpack

from attestation.errors import CodecError

MAX_DEPTH = 8
MAX_INT = 2**63 - 1

Value = bytes | str | int | bool | None | Sequence["Value"]


def pack(value: Value) -> bytes:
    """Encode *value* in its one shortest form.

    Raises:
        CodecError: *value* holds something the format has no place for (maps, floats, negative integers, deep nesting).
    """
    _check(value, MAX_DEPTH)
    packed = msgpack.packb(value, use_bin_type=True)
    if not isinstance(packed, bytes):  # The packer's stub allows None, for its streaming mode only.
        raise CodecError("the packer returned no bytes")
    return packed


def unpack(data: bytes, *, max_depth: int = MAX_DEPTH) -> Value:
    """Decode exactly one value; arrays come back as lists.

    Raises:
        CodecError: *data* is not one value, or not in the form that :func:`pack` writes.
    """
    try:
        value = msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=False, max_ext_len=0, max_map_len=0)
    except (ValueError, TypeError, RecursionError) as error:
        # msgpack's own exceptions (ExtraData, FormatError, StackError) are ValueErrors, UnicodeDecodeError as well.
        raise CodecError(f"not one MessagePack value: {type(error).__name__}") from None
    _check(value, max_depth)
    if msgpack.packb(value, use_bin_type=True) != data:
        raise CodecError(
            "the bytes differ from the shortest encoding of what they say; write each value in one way only"
        )
    return value  # type: ignore[no-any-return]  # _check has walked it


def _check(value: object, depth: int) -> None:
    match value:
        case None | bool() | bytes():
            return
        case str():
            if not value.isascii():
                _check_text(value)
        case int():
            if not 0 <= value <= MAX_INT:
                raise CodecError(f"integer {value} is outside 0..2^63-1")
        case list() | tuple():
            if depth == 0:
                raise CodecError(f"arrays nest deeper than {MAX_DEPTH}")
            for item in value:
                _check(item, depth - 1)
        case _:
            raise CodecError(f"{type(value).__name__} is none of array, bytes, text, integer, bool, nil")


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CodecError("text holds a lone surrogate, which UTF-8 cannot say") from None
