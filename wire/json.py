"""Strict JSON for messages: one text, one meaning; which messages there are stands in `wire.messages`.

What is refused beyond RFC 8259: byte order marks, duplicate keys, NaN and infinities, nesting beyond `MAX_DEPTH`,
unknown fields, and base64 that is not the padded standard alphabet with zero pad bits. The last is checked by writing
the decoded message again and comparing, so that nothing is accepted that these programs would not write.
"""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import TypeVar

import msgspec

MAX_DEPTH = 16

_T = TypeVar("_T")
# Strings are skipped whole, so that brackets inside them do not count; the parser refuses a string that does not end.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class MessageError(Exception):
    """A message is not what its route or its sender promised; `path` is the fault's JSON path, "" for the whole."""

    code = "malformed_request"
    status = HTTPStatus.BAD_REQUEST

    def __init__(self, reason: str, *, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path else reason)


class MessageTooLargeError(MessageError):
    """A message is longer than its route allows."""

    code = "too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def __init__(self, size: int | None, limit: int) -> None:
        seen = "more" if size is None else f"{size} bytes"
        super().__init__(f"the message has {seen}, at most {limit} bytes are read here: send less")


def decode(raw: bytes, kind: type[_T], *, limit: int) -> _T:
    """The message of type *kind* in *raw*, which has at most *limit* bytes.

    Raises:
        MessageTooLargeError: *raw* is longer than *limit*.
        MessageError: *raw* is not exactly one message of this type.
    """
    if len(raw) > limit:
        raise MessageTooLargeError(len(raw), limit)
    # Our own programs send exactly what `encode` writes. One comparison then proves at little cost what is otherwise
    # found out slowly: no key twice, no unknown field, canonical base64.
    try:
        message = msgspec.json.decode(raw, type=kind, strict=True)
        if msgspec.json.encode(message) == raw:
            return message
    except (ValueError, RecursionError):
        pass  # The strict reading below says what is wrong, and where.
    check_depth(raw)
    plain = _plain(raw)
    try:
        message = msgspec.json.decode(raw, type=kind, strict=True)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at ")
        raise MessageError(reason, path=path.strip("`").removeprefix("$").removeprefix(".")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"this is not JSON: {error}") from None
    for path in _differences(plain, msgspec.to_builtins(message), ""):
        raise MessageError(
            "this is not the one way to write this value (base64 is padded, with zero pad bits)", path=path
        )
    return message


def encode(message: msgspec.Struct) -> bytes:
    """The JSON bytes of *message*; absent optional fields are left out."""
    return msgspec.json.encode(message)


def check_depth(raw: bytes) -> None:
    """Refuse nesting beyond `MAX_DEPTH` before any parser recurses into it."""
    depth = 0
    for token in _TOKENS.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise MessageError(f"nested deeper than {MAX_DEPTH} levels")
        elif first in b"]}":
            depth -= 1


def _plain(raw: bytes) -> object:
    """*raw* as Python values, every duplicate key and every non-number refused."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MessageError(f"byte {error.start} is not UTF-8") from None
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except MessageError:
        raise
    except (ValueError, RecursionError) as error:  # JSONDecodeError, or a number of absurd length.
        raise MessageError(f"this is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise MessageError(f"the key {key[:64]!r} stands twice")
            seen.add(key)
    return members


def _no_constant(word: str) -> object:
    raise MessageError(f"{word} is not JSON")


def _differences(given: object, again: object, path: str) -> Iterator[str]:
    """Paths at which *given* is not what writing the message again gives; an explicit null equals an absent field."""
    if isinstance(given, dict) and isinstance(again, dict):
        for key, value in given.items():
            yield from _differences(value, again.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(given, list) and isinstance(again, list | tuple) and len(given) == len(again):
        for position, (left, right) in enumerate(zip(given, again, strict=True)):
            yield from _differences(left, right, f"{path}[{position}]")
    elif given != again or type(given) is not type(again):
        yield path
