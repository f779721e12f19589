"""A YAML document as a tree of values with exact positions; neither parses nor changes anything."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from k8s.problems import Path
from k8s.scalars import Scalar

Data = dict[str, "Data"] | list["Data"] | Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarNode:
    """A scalar with its value as Kubernetes understands it.

    Attributes:
        start: Offset of the first character in the decoded text, anchor and tag included.
        end: Offset after the last character that belongs to it (a block scalar's last line break included).
        line: Counted from 1.
        column: Counted from 0, of the content's start.
        style: One of ``plain``, ``'``, ``"``, ``|``, ``>``, or ``absent`` for a value that is not written at all.
    """

    start: int
    end: int
    line: int
    column: int
    anchor: str | None
    value: Scalar
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceNode:
    """A list; in block style *column* is that of its dashes, and *dashes* holds their offsets."""

    start: int
    end: int
    line: int
    column: int
    anchor: str | None
    flow: bool
    items: tuple["Node", ...]
    dashes: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key and its value; *colon* is the offset of the colon, None where none is written."""

    key: ScalarNode
    name: str
    merge: bool
    colon: int | None
    value: "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingNode:
    """A mapping; in block style *column* is that of its keys."""

    start: int
    end: int
    line: int
    column: int
    anchor: str | None
    flow: bool
    entries: tuple[Entry, ...]
    size: int

    def own(self, name: str) -> Entry | None:
        """Give the entry written here under *name*, merge keys not considered."""
        return next((entry for entry in self.entries if entry.name == name and not entry.merge), None)

    def get(self, name: str) -> Entry | None:
        """Give the entry that decides the value of *name*: written here, else merged in."""
        return self.own(name) or next(
            (found for merged in self.merged() if (found := merged.get(name)) is not None), None
        )

    def merged(self) -> Iterator["MappingNode"]:
        """Give the mappings that ``<<`` brings in, the strongest first."""
        for entry in self.entries:
            if entry.merge:
                value = follow(entry.value)
                for node in value.items if isinstance(value, SequenceNode) else (value,):
                    target = follow(node)
                    if isinstance(target, MappingNode):
                        yield target


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasNode:
    """A mention of an anchored node (``*name``)."""

    start: int
    end: int
    line: int
    column: int
    anchor: None
    name: str
    target: "Node"


Node = ScalarNode | SequenceNode | MappingNode | AliasNode
Target = ScalarNode | SequenceNode | MappingNode


def follow(node: Node) -> Target:
    """Give what *node* stands for."""
    while isinstance(node, AliasNode):
        node = node.target
    return node


def size_of(node: Node) -> int:
    """Give the number of values in *node* after every alias is written out: the cost of ``to_data``."""
    target = follow(node)
    return 1 if isinstance(target, ScalarNode) else target.size


def to_data(node: Node) -> Data:
    """Give *node* as plain data, fresh objects every time, aliases and merge keys written out."""
    match follow(node):
        case ScalarNode() as scalar:
            return scalar.value
        case SequenceNode(items=items):
            return [to_data(item) for item in items]
        case MappingNode() as mapping:
            data: dict[str, Data] = {}
            for merged in mapping.merged():
                for name, value in _merged_data(merged).items():
                    data.setdefault(name, value)
            data.update({entry.name: to_data(entry.value) for entry in mapping.entries if not entry.merge})
            return data
        case other:
            assert_never(other)


def _merged_data(mapping: MappingNode) -> dict[str, Data]:
    data = to_data(mapping)
    return data if isinstance(data, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a path led: the node as written there (perhaps an alias), and the entry that holds it."""

    node: Node
    entry: Entry | None
    shared: tuple[Node, ...]  # aliases and merged mappings passed on the way: a change there reaches other places too


def find(root: Node, path: Path) -> Step | None:
    """Walk *path* from *root*, through aliases and merge keys; None where there is nothing."""
    step = Step(node=root, entry=None, shared=())
    for part in path:
        target = follow(step.node)
        shared = step.shared
        if isinstance(step.node, AliasNode):
            shared = (*shared, step.node)
        if isinstance(target, MappingNode) and isinstance(part, str):
            entry = target.get(part)
            if entry is None:
                return None
            if target.own(part) is None:
                shared = (*shared, target)
            step = Step(node=entry.value, entry=entry, shared=shared)
        elif isinstance(target, SequenceNode) and isinstance(part, int) and 0 <= part < len(target.items):
            step = Step(node=target.items[part], entry=None, shared=shared)
        else:
            return None
    return step


def line_of(root: Node, path: Path) -> int:
    """Give the line of *path*, or of the nearest thing above it that exists; a key's line for a mapping's value."""
    for length in range(len(path), 0, -1):
        step = find(root, path[:length])
        if step is not None:
            return step.entry.key.line if step.entry is not None else step.node.line
    return root.line
