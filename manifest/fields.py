"""Typed fields of JSON objects, read and written by one table, every fault collected; the tables are elsewhere.

A `Column` names a field in JSON and in a dataclass and says how its value is read and written, so a document that was
rendered is one that can be parsed. A reader returns `FAULT` where it has reported a problem.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from manifest.errors import Problem
from manifest.jsontext import Member, Node, join

MAX_PROBLEMS = 500
_HEX = re.compile(r"[0-9a-f]*")

_T = TypeVar("_T")


class _Fault:
    """The type of `FAULT`."""


FAULT: Final = _Fault()


@dataclass(slots=True)
class Faults:
    """The problems of one document, at most `MAX_PROBLEMS` of them: a hostile file makes no endless message.

    `recorded` documents are held to what was demanded when they were set, new ones to what is demanded now.
    """

    recorded: bool = False
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, message: str, line: int | None) -> _Fault:
        """Report one problem."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(path, message, line))
        return FAULT

    def wrong_type(self, path: str, node: Node, wanted: str) -> _Fault:
        """Report that *node* is of another kind than *wanted*."""
        advice = "; leave the field out instead of writing null" if node.kind == "null" else ""
        return self.add(path, f"expected {wanted}, found {_shown(node)}{advice}", node.line)


class Codec(Protocol):
    """How one value is read from JSON and written to it."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """The value in *node*, or `FAULT` after reporting why not."""
        ...

    def write(self, value: object) -> object:
        """What `json.dumps` takes for *value*."""
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """One field: its JSON name, its attribute, how it is read; `shown` fields are written even at their default."""

    name: str
    attribute: str
    codec: Codec
    required: bool = False
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A string of 1 to `longest` characters without control characters; `choices` limits it further."""

    longest: int = 64
    choices: tuple[str, ...] = ()

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `Codec`."""
        if not isinstance(node.value, str):
            return faults.wrong_type(path, node, "a string")
        if self.choices and node.value not in self.choices:
            wanted = ", ".join(f'"{choice}"' for choice in self.choices)
            return faults.add(path, f"{_shown(node)} is none of {wanted}", node.line)
        if not node.value or len(node.value) > self.longest:
            return faults.add(path, f"has {len(node.value)} characters, wanted 1 to {self.longest}", node.line)
        if not node.value.isprintable() or node.value != node.value.strip():
            return faults.add(path, "has control characters, or spaces at an end", node.line)
        return node.value

    def write(self, value: object) -> object:
        """See `Codec`."""
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer from `low` to `high`."""

    low: int
    high: int

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `Codec`."""
        if node.kind != "integer" or not isinstance(node.value, int):
            return faults.wrong_type(path, node, "an integer")
        if not self.low <= node.value <= self.high:
            return faults.add(path, f"{node.value} is out of range, wanted {self.low} to {self.high}", node.line)
        return node.value

    def write(self, value: object) -> object:
        """See `Codec`."""
        return value


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `Codec`."""
        return node.value if node.kind == "boolean" else faults.wrong_type(path, node, "true or false")

    def write(self, value: object) -> object:
        """See `Codec`."""
        return value


@dataclass(frozen=True, slots=True)
class Hex:
    """Bytes in lower-case hex: exactly `size` of them, or at most `longest` where size is None.

    Where `short` is given, so many will do, too; what they then stand for is their reader's to say.
    """

    size: int | None
    longest: int = 0
    short: int | None = None

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `Codec`."""
        wanted = f"{self.size} bytes" if self.size is not None else f"1 to {self.longest} bytes"
        if self.short is not None:
            wanted += f" (or {self.short})"
        if not isinstance(node.value, str):
            return faults.wrong_type(path, node, f"{wanted} in hex")
        fault = hex_fault(node.value)
        if fault:
            return faults.add(path, f"{fault}, wanted {wanted} in lower-case hex", node.line)
        value = bytes.fromhex(node.value)
        fits = len(value) in (self.size, self.short) if self.size is not None else 0 < len(value) <= self.longest
        if not fits:
            return faults.add(path, f"has {len(value)} bytes, wanted {wanted} in lower-case hex", node.line)
        return value

    def write(self, value: object) -> object:
        """See `Codec`."""
        if not isinstance(value, bytes):
            raise TypeError(f"{value!r} is no bytes")
        return value.hex()


@dataclass(frozen=True, slots=True)
class HexNumber:
    """An unsigned number of `size` bytes, written as so many bytes of lower-case hex, most significant first."""

    size: int

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `Codec`."""
        value = Hex(self.size).read(node, path, faults)
        return int.from_bytes(value, "big") if isinstance(value, bytes) else value

    def write(self, value: object) -> object:
        """See `Codec`."""
        if not isinstance(value, int):
            raise TypeError(f"{value!r} is no number")
        return value.to_bytes(self.size, "big").hex()


@dataclass(frozen=True, slots=True)
class Listed:
    """An array of `shortest` to `longest` different values."""

    item: Codec
    longest: int
    shortest: int = 0
    unique: bool = True

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `Codec`."""
        nodes = elements(node, path, faults)
        if nodes is None:
            return FAULT
        if not self.shortest <= len(nodes) <= self.longest:
            wanted = str(self.longest) if self.shortest == self.longest else f"{self.shortest} to {self.longest}"
            return faults.add(path, f"has {len(nodes)} elements, wanted {wanted}", node.line)
        values = [self.item.read(item, f"{path}[{at}]", faults) for at, item in enumerate(nodes)]
        first: dict[object, int] = {}
        for at, value in enumerate(values):
            if self.unique and value is not FAULT and first.setdefault(value, at) != at:
                faults.add(f"{path}[{at}]", f"stands twice, as [{first[value]}] too: remove one", nodes[at].line)
        return FAULT if any(value is FAULT for value in values) else tuple(values)

    def write(self, value: object) -> object:
        """See `Codec`."""
        if not isinstance(value, tuple):
            raise TypeError(f"{value!r} is no tuple")
        return [self.item.write(item) for item in value]


@dataclass(frozen=True, slots=True)
class Table(Generic[_T]):
    """An object with the columns' fields, read into `make(**fields)`; `refusals` are the exceptions of `make`.

    `hints` has a word for fields that other implementations know and this one does not.
    """

    make: Callable[..., _T]
    columns: tuple[Column, ...]
    refusals: tuple[type[Exception], ...] = ()
    hints: Mapping[str, str] = field(default_factory=dict)

    def read(self, node: Node, path: str, faults: Faults) -> "_T | _Fault":
        """See `Codec`."""
        found = members(node, path, faults)
        if found is None:
            return FAULT
        before = len(faults.problems)
        self._report_unknown(found, path, faults)
        fields: dict[str, object] = {}
        for column in self.columns:
            member = found.get(column.name)
            if member is not None:
                fields[column.attribute] = column.codec.read(member.node, join(path, column.name), faults)
            elif column.required:
                faults.add(join(path, column.name), "is missing", node.line)
        if len(faults.problems) > before or any(value is FAULT for value in fields.values()):
            return FAULT
        try:
            return self.make(**fields)
        except self.refusals as error:
            return faults.add(path, str(error), node.line)

    def write(self, value: object) -> object:
        """See `Codec`; what is None or at its default is left out."""
        written: dict[str, object] = {}
        for column in self.columns:
            inner = getattr(value, column.attribute)
            if inner is None or not (column.required or column.shown or inner != _default(value, column.attribute)):
                continue
            written[column.name] = column.codec.write(inner)
        return written

    def _report_unknown(self, found: Mapping[str, Member], path: str, faults: Faults) -> None:
        names = [column.name for column in self.columns]
        for key, member in found.items():
            if key in names:
                continue
            near = difflib.get_close_matches(key[:64], names, n=1) or [
                name for name in names if name.lower() == key.lower()
            ]
            hint = self.hints.get(key) or (f'did you mean "{near[0]}"?' if near else "remove it")
            faults.add(join(path, key), f"this field is unknown: {hint}", member.line)


def members(node: Node, path: str, faults: Faults) -> dict[str, Member] | None:
    """The members of an object by key, None (and a problem) for anything else."""
    if node.kind != "object" or not isinstance(node.value, tuple):
        faults.wrong_type(path, node, "an object")
        return None
    return {member.key: member for member in node.value if isinstance(member, Member)}


def elements(node: Node, path: str, faults: Faults) -> Sequence[Node] | None:
    """The elements of an array, None (and a problem) for anything else."""
    if node.kind != "array" or not isinstance(node.value, tuple):
        faults.wrong_type(path, node, "an array")
        return None
    return [item for item in node.value if isinstance(item, Node)]


def hex_fault(text: str) -> str | None:
    """What keeps *text* from being lower-case hex of whole bytes, None if nothing does."""
    if not _HEX.fullmatch(text):
        upper = _HEX.fullmatch(text.lower()) is not None and text.isascii()
        return "has upper-case letters" if upper else "has characters that are no hex digits"
    return f"has {len(text)} hex digits, an odd number" if len(text) % 2 else None


def _default(value: object, attribute: str) -> object:
    """The default of a dataclass field; a field without one never equals it."""
    declared = getattr(type(value), "__dataclass_fields__", {}).get(attribute)
    return FAULT if declared is None else declared.default


def _shown(node: Node) -> str:
    if isinstance(node.value, str):
        cut = node.value if len(node.value) <= 40 else node.value[:39] + "…"
        return '"' + "".join(letter if letter.isprintable() else "?" for letter in cut) + '"'
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return (
        str(node.value)
        if isinstance(node.value, int)
        else {"object": "an object", "array": "an array"}.get(node.kind, "null")
    )
