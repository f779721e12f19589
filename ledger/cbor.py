"""Deterministic CBOR (RFC 8949, section 4.2) of the few types that receipts need. Knows no receipt.

Values are integers of at most 64 bits, bytes, text, arrays (tuples), maps with integer keys, None, and one tag around
the whole. What is read must be the one encoding of its value.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from ledger.errors import ProofError

Value: TypeAlias = "int | bytes | str | tuple[Value, ...] | dict[int, Value] | Tagged | None"
Encodable: TypeAlias = "int | bytes | str | Sequence[Encodable] | Mapping[int, Encodable] | Tagged | None"
MAX_DEPTH: Final = 8
_NULL: Final = 0xF6


class Tagged(tuple[int, "Value"]):
    """A tag and its content."""

    __slots__ = ()


def encode(value: Encodable) -> bytes:
    """The one encoding of *value*. Raises ProofError if it has none here."""
    match value:
        case None:
            return bytes([_NULL])
        case bool():
            raise ProofError("this CBOR has no booleans")
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            raw = value.encode()
            return _head(3, len(raw)) + raw
        case Tagged():
            return _head(6, value[0]) + encode(value[1])
        case Mapping():
            items = sorted((encode(key), encode(item)) for key, item in value.items())
            return _head(5, len(items)) + b"".join(key + item for key, item in items)
        case Sequence():
            return _head(4, len(value)) + b"".join(encode(item) for item in value)
        case _:
            raise ProofError(f"a {type(value).__name__} has no place in this CBOR")


def decode(raw: bytes) -> Value:
    """The value in *raw*. Raises ProofError unless encode() of it gives the same bytes."""
    value, end = _read(raw, 0, MAX_DEPTH)
    if end != len(raw):
        raise ProofError(f"{len(raw) - end} bytes follow the CBOR value")
    if encode(value) != raw:
        raise ProofError("the CBOR is not deterministically encoded")
    return value


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << (8 * width):
            return bytes([major << 5 | code]) + number.to_bytes(width, "big")
    raise ProofError("a number of the CBOR is beyond 64 bits")


def _read(raw: bytes, at: int, depth: int) -> tuple[Value, int]:
    if at >= len(raw) or depth == 0:
        raise ProofError("the CBOR ends early, or is nested too deep")
    first = raw[at]
    if first == _NULL:
        return None, at + 1
    major, code = first >> 5, first & 31
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(code, 0)
    if code > 27 or at + 1 + width > len(raw):
        raise ProofError("the CBOR has an item of another kind than this format has, or ends early")
    number = int.from_bytes(raw[at + 1 : at + 1 + width], "big") if width else code
    at += 1 + width
    match major:
        case 0:
            return number, at
        case 1:
            return -1 - number, at
        case 2 | 3:
            return _string(raw, at, number, text=major == 3), at + number
        case 4:
            return _array(raw, at, number, depth)
        case 5:
            return _map(raw, at, number, depth)
        case 6:
            item, at = _read(raw, at, depth - 1)
            return Tagged((number, item)), at
        case _:
            raise ProofError("the CBOR has a simple value or a float, which this format has not")


def _string(raw: bytes, at: int, length: int, *, text: bool) -> bytes | str:
    if at + length > len(raw):
        raise ProofError("a string of the CBOR is cut off")
    part = raw[at : at + length]
    if not text:
        return part
    try:
        return part.decode()
    except UnicodeDecodeError:
        raise ProofError("a text of the CBOR is not UTF-8") from None


def _array(raw: bytes, at: int, length: int, depth: int) -> tuple[Value, int]:
    items: list[Value] = []
    for _ in range(length):  # each costs at least one byte, so the input bounds it
        item, at = _read(raw, at, depth - 1)
        items.append(item)
    return tuple(items), at


def _map(raw: bytes, at: int, length: int, depth: int) -> tuple[Value, int]:
    found: dict[int, Value] = {}
    for _ in range(length):
        key, at = _read(raw, at, depth - 1)
        item, at = _read(raw, at, depth - 1)
        if type(key) is not int or key in found:
            raise ProofError("a key of the CBOR is no integer, or stands twice")
        found[key] = item
    return found, at
