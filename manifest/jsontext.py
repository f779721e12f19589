"""A strict JSON reader that keeps lines and sees every key twice; it knows nothing of manifests.

RFC 8259, and stricter: UTF-8 without byte order mark, no duplicate keys, no floating point, integers within ±2^64,
nesting at most `MAX_DEPTH`, no lone surrogates. Syntax errors end the reading (what follows has no certain meaning);
duplicate keys are collected, so that they are reported together with the faults of content.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

from manifest.errors import Problem

MAX_DEPTH = 16
MAX_INTEGER_DIGITS = 20

_SPACE = re.compile(r"[ \t\n\r]*")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(r"[.eE]")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX4 = re.compile(r"[0-9a-fA-F]{4}")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object: its key, the key's line, its value."""

    key: str
    line: int
    node: "Node"


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON value and the line it begins on; an object is a tuple of members, an array a tuple of nodes."""

    value: "str | int | bool | tuple[Member, ...] | tuple[Node, ...] | None"
    kind: str  # "object", "array", "string", "integer", "boolean", "null"
    line: int


class JsonSyntaxError(Exception):
    """The text is no JSON that this reader accepts."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.located("document"))


def read_json(raw: bytes) -> tuple[Node, tuple[Problem, ...]]:
    """The value of *raw* and the duplicate keys in it.

    Raises:
        JsonSyntaxError: it is not UTF-8, not JSON, too deep, or has a number that is not an integer of 64 bits.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise JsonSyntaxError(Problem("", f"byte {error.start} is not UTF-8: save the file as UTF-8", line)) from None
    if text.startswith("\ufeff"):
        raise JsonSyntaxError(Problem("", "begins with a byte order mark: save the file as UTF-8 without BOM", 1))
    reader = _Reader(text)
    return reader.document(), tuple(reader.duplicates)


class _Reader:
    """One pass over one text; `at` only grows."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.duplicates: list[Problem] = []
        self._line = 1
        self._line_at = 0  # The position up to which newlines have been counted.

    def line(self) -> int:
        self._line += self.text.count("\n", self._line_at, self.at)
        self._line_at = self.at
        return self._line

    def fail(self, message: str, path: str = "") -> NoReturn:
        raise JsonSyntaxError(Problem(path, message, self.line()))

    def skip_space(self) -> str:
        """Move to the next token and return its first character ("" at the end)."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def document(self) -> Node:
        node = self.value("", 0)
        if self.skip_space():
            self.fail(f"expected the end of the document, found {self._seen()}")
        return node

    def value(self, path: str, depth: int) -> Node:
        first = self.skip_space()
        line = self.line()
        if first in ("{", "["):
            if depth >= MAX_DEPTH:
                self.fail(f"nested deeper than {MAX_DEPTH} levels", path)
            if first == "{":
                return Node(self._members(path, depth), "object", line)
            return Node(self._elements(path, depth), "array", line)
        if first == '"':
            return Node(self._string(path), "string", line)
        if first and first in "-0123456789":
            return Node(self._integer(path), "integer", line)
        for word, meaning in _WORDS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return Node(meaning, "null" if meaning is None else "boolean", line)
        return self.fail(f"expected a value, found {self._seen()}", path)

    def _members(self, path: str, depth: int) -> tuple[Member, ...]:
        self.at += 1
        members: list[Member] = []
        lines: dict[str, int] = {}
        if self.skip_space() == "}":
            self.at += 1
            return ()
        while True:
            if self.skip_space() != '"':
                self.fail(f"expected a key in double quotes, found {self._seen()}", path)
            line = self.line()
            key = self._string(path)
            inner = join(path, key)
            if key in lines:
                self.duplicates.append(
                    Problem(inner, f"this key stands twice (first on line {lines[key]}): remove one", line)
                )
            lines.setdefault(key, line)
            if self.skip_space() != ":":
                self.fail(f"expected ':' after the key, found {self._seen()}", inner)
            self.at += 1
            members.append(Member(key, line, self.value(inner, depth + 1)))
            if self._next_or_end("}", path):
                return tuple(members)

    def _elements(self, path: str, depth: int) -> tuple[Node, ...]:
        self.at += 1
        nodes: list[Node] = []
        if self.skip_space() == "]":
            self.at += 1
            return ()
        while True:
            nodes.append(self.value(f"{path}[{len(nodes)}]", depth + 1))
            if self._next_or_end("]", path):
                return tuple(nodes)

    def _next_or_end(self, end: str, path: str) -> bool:
        """Pass a comma (False) or *end* (True)."""
        found = self.skip_space()
        if found not in (",", end) or not found:
            self.fail(f"expected ',' or '{end}', found {self._seen()}", path)
        self.at += 1
        return found == end

    def _string(self, path: str) -> str:
        self.at += 1
        pieces: list[str] = []
        while True:
            plain = _PLAIN.match(self.text, self.at)
            if plain:
                pieces.append(plain.group())
                self.at = plain.end()
            found = self.text[self.at : self.at + 1]
            if found == '"':
                self.at += 1
                return "".join(pieces)
            if found != "\\":
                self.fail("a string has no closing quote" if not found else "a control character must be escaped", path)
            pieces.append(self._escape(path))

    def _escape(self, path: str) -> str:
        letter = self.text[self.at + 1 : self.at + 2]
        if letter in _ESCAPES:
            self.at += 2
            return _ESCAPES[letter]
        if letter != "u":
            self.fail(f"unknown escape \\{letter}", path)
        unit = self._unit(path)
        if 0xD800 <= unit <= 0xDBFF and self.text.startswith("\\u", self.at):
            low = self._unit(path)
            if 0xDC00 <= low <= 0xDFFF:
                return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
            unit = 0xD800
        if 0xD800 <= unit <= 0xDFFF:
            self.fail("a \\u escape names half of a surrogate pair", path)
        return chr(unit)

    def _unit(self, path: str) -> int:
        digits = _HEX4.match(self.text, self.at + 2)
        if not digits:
            self.fail("\\u needs four hexadecimal digits", path)
        self.at = digits.end()
        return int(digits.group(), 16)

    def _integer(self, path: str) -> int:
        number = _INTEGER.match(self.text, self.at)
        if not number:
            self.fail(f"expected a number, found {self._seen()}", path)
        if _FRACTION.match(self.text, number.end()):
            self.fail("only integers are written here, without fraction or exponent", path)
        if self.text[number.end() : number.end() + 1].isdigit():
            self.fail("a number does not begin with 0", path)
        if len(number.group().lstrip("-")) > MAX_INTEGER_DIGITS or abs(int(number.group())) >= 1 << 64:
            self.fail("the number is larger than 64 bits", path)
        self.at = number.end()
        return int(number.group())

    def _seen(self) -> str:
        found = self.text[self.at : self.at + 1]
        return (
            f"'{found}'"
            if found and found.isprintable()
            else ("the end of the document" if not found else "a control character")
        )


def join(path: str, key: str) -> str:
    """The JSON path of member *key* of *path*; keys that are no plain words are quoted."""
    shown = key if key and key.replace("_", "a").isalnum() and key.isascii() else _quoted(key)
    return f"{path}.{shown}" if path else shown


def _quoted(key: str) -> str:
    cut = key if len(key) <= 80 else key[:79] + "…"
    return '"' + "".join(letter if letter.isprintable() and letter != '"' else "?" for letter in cut) + '"'
