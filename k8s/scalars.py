"""What a YAML scalar means to Kubernetes; knows nothing of files and positions.

Kubernetes reads YAML with a Go parser of its own habits: ``yes`` and ``on`` are booleans, ``017`` and ``0o17`` are 15,
``1_000`` is 1000, ``12:30:45`` and ``2020-01-01`` are text. No Python library agrees with it, so the rules stand here
and are held to ``kubectl label --local`` by a test.
"""

import base64
import binascii
import re
from typing import Final

Scalar = str | int | float | bool | None

_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_NOT_JSON: Final = frozenset(sign + word for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")) | {
    ".nan",
    ".NaN",
    ".NAN",
}
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DOT_FLOAT: Final = re.compile(r"\.[0-9]+([eE][-+]?[0-9]+)?")
_INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([1-9][0-9]*|0))")
_RESOLVED_TAGS: Final = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "timestamp"))


class ScalarError(ValueError):
    """This scalar has no value that Kubernetes could store; the message says why and what to write."""


def resolve(text: str, *, tag: str | None, plain: bool) -> Scalar:
    """Give the value of a scalar as ``sigs.k8s.io/yaml`` would.

    Args:
        text: The scalar's content, quotes and escapes already undone.
        tag: Its explicit tag, in full, or None.
        plain: True where it stands unquoted and is no block scalar.

    Raises:
        ScalarError: An infinity, NaN, or a tag that does not fit the content.
    """
    if tag == _TAG + "binary":
        return _binary(text)
    if tag not in _RESOLVED_TAGS and (tag is not None or not plain):
        return text
    value = _untagged(text)
    if tag is None or tag == _tag_of(value):
        return value
    if tag == _TAG + "float" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if tag == _TAG + "timestamp" and isinstance(value, str):
        return value
    raise ScalarError(f"{text!r} cannot be read as !!{tag.removeprefix(_TAG)}: remove the tag or quote the text")


def number(value: float) -> int | float:
    """Give *value* as JSON would carry it: whole numbers below 1e21 have no fraction there."""
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def key_text(value: Scalar) -> str:
    """Give the JSON key that a YAML mapping key becomes.

    Raises:
        ScalarError: An empty or null key.
    """
    match value:
        case None:
            raise ScalarError("an empty or null key; write a text in quotes")
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _tag_of(value: Scalar) -> str:
    match value:
        case None:
            return _TAG + "null"
        case bool():
            return _TAG + "bool"
        case int():
            return _TAG + "int"
        case float():
            return _TAG + "float"
        case str():
            return _TAG + "str"


def _untagged(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if text in _NOT_JSON:
        raise ScalarError(f"{text} is no number that Kubernetes can store: quote it if text is meant")
    first = text[0]
    if first == ".":
        return _float(text) if _DOT_FLOAT.fullmatch(text) else text
    if first not in "+-0123456789":
        return text
    digits = text.replace("_", "")
    found = _INTEGER.fullmatch(digits)
    if found and (value := _integer(found)) is not None:
        return value
    return _float(digits, text) if _FLOAT.fullmatch(digits) else text


def _integer(found: re.Match[str]) -> int | float | None:
    """Read a matched integer; None where it is decimal or octal and beyond what Kubernetes takes as one."""
    sign, hexadecimal, binary, octal, decimal = found.groups()
    value = next(int(part, base) for part, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10)) if part)
    if sign == "-":
        value = -value
    if -(2**63) <= value < 2**63:
        return value
    if 0 <= value < 2**64 and not sign:
        return number(float(value))  # The API server holds such a number as a float.
    return None


def _float(digits: str, text: str | None = None) -> int | float | str:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        return digits if text is None else text
    return number(value)


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ScalarError("!!binary that is not base64 of UTF-8 text: use a Secret's data instead") from None
