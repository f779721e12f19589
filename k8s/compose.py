"""Text to positioned nodes: the only place that calls the YAML library, and it never asks it to write.

The library's events are composed here and not by its own composer, because positions of colons, dashes and aliases are
needed, duplicate keys must be refused with their line, and scalars must mean what they mean to Kubernetes.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.docinfo import DocInfo
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tokens import ScalarToken

from k8s.nodes import AliasNode, Entry, MappingNode, Node, ScalarNode, SequenceNode, follow, size_of
from k8s.problems import Path, Problem, show_path
from k8s.scalars import Scalar, ScalarError, key_text, resolve

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 1_000_000  # of one document, aliases written out: a few lines can ask for billions

_END_OF_LINE: Final = "\0\r\n"
_GAP: Final = re.compile(r"(?:[ \t\r\n]|(?<=[ \t\r\n])#[^\r\n]*)*")
_LONG: Final = re.compile(r"[A-Za-z0-9+/=_.]{64,}")
_ODD_BREAK: Final = re.compile("[\x85\u2028\u2029]")
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BREAK: Final = re.compile(r"\r\n|\r|\n")
_ANCHOR: Final = re.compile(r"[0-9A-Za-z_-]+")
_COLLECTION_TAGS: Final = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!"})


class _Scanner(Scanner):
    """The library's scanner with Kubernetes' rule for tabs, and a memory for where dashes and colons stand."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.dashes: list[int] = []
        self.colons: list[int] = []

    def scan_to_next_token(self) -> None:
        """Skip blanks, comments and line breaks; a tab may stand wherever it cannot be taken for indentation."""
        reader = self.reader
        if reader.index == 0 and reader.peek() == "\ufeff":
            reader.forward()
        while True:
            blanks = " \t" if self.flow_level or not self.allow_simple_key else " "
            while reader.peek() in blanks:
                reader.forward()
            if reader.peek() == "#":
                while reader.peek() not in _END_OF_LINE:
                    reader.forward()
            if not self.scan_line_break():
                return
            if not self.flow_level:
                self.allow_simple_key = True

    def scan_plain(self) -> Any:
        """Take a long text without blanks (a policy in base64) at once; the library asks for each character twice."""
        reader = self.reader
        long = _LONG.match(reader.buffer, reader.pointer)
        if long is None:
            return super().scan_plain()
        before = (reader.index, reader.pointer, reader.column, self.allow_simple_key)
        start = reader.get_mark()
        for name in ("index", "pointer", "column"):
            setattr(reader, name, getattr(reader, name) + len(long[0]))
        end = reader.get_mark()
        if reader.peek() in _END_OF_LINE:
            line = reader.line
            self.allow_simple_key = False
            spaces = self.scan_plain_spaces(self.indent + 1, start)
            if not spaces or reader.peek() == "#" or (not self.flow_level and reader.column < self.indent + 1):
                return ScalarToken(long[0], True, start, end)
            reader.line = line
        # It goes on: the library shall see it from its beginning.
        reader.index, reader.pointer, reader.column, self.allow_simple_key = before
        return super().scan_plain()

    def scan_plain_spaces(self, indent: Any, start_mark: Any) -> Any:
        """Let tabs stand inside and after a plain scalar, as Kubernetes does."""
        reader, length = self.reader, 0
        while reader.peek(length) in " \t":
            length += 1
        if "\t" not in reader.prefix(length):
            return super().scan_plain_spaces(indent, start_mark)
        if reader.peek(length) in _END_OF_LINE:
            reader.forward(length)
            return super().scan_plain_spaces(indent, start_mark)
        blanks = reader.prefix(length)
        reader.forward(length)
        return [blanks]

    def fetch_block_entry(self) -> None:
        self.dashes.append(self.reader.index)
        super().fetch_block_entry()

    def fetch_value(self) -> None:
        self.colons.append(self.reader.index)
        super().fetch_value()


def compose(file: str, text: str) -> tuple[tuple[Node | None, ...], list[Problem]]:
    """Give the root of every document of *text* (None for an empty one) and every fault found.

    After a fault of syntax nothing more can be read of that file; faults of meaning are all reported.
    """
    bad = _ODD_BREAK.search(text) or _UNPRINTABLE.search(text)
    if bad:
        code = f"U+{ord(bad[0]):04X}"
        why = (
            f"the character {code} is a line break to Kubernetes, not to people: write it as an escape in double quotes"
            if _ODD_BREAK.match(bad[0])
            else f"the control character {code} may not stand in YAML: write it as an escape in double quotes"
        )
        return (), [Problem(file=file, line=line_at(text, bad.start()), path="", message=why)]
    composer = _Composer(file, text)
    roots: list[Node | None] = []
    try:
        roots.extend(composer.documents())
    except MarkedYAMLError as error:
        composer.problem(_line(error), (), _explain(error))
    except YAMLError as error:
        composer.problem(0, (), f"not YAML: {str(error).splitlines()[0]}")
    except (ValueError, IndexError, KeyError, AttributeError, TypeError, AssertionError, OverflowError) as error:
        # The library answers some malformed input (escapes beyond Unicode, broken tags) with bare Python errors.
        composer.problem(composer.line, (), f"not YAML that can be read ({type(error).__name__}: {error})")
    return tuple(roots), _templates(text, composer.problems)


def line_at(text: str, offset: int) -> int:
    """Give the line of *offset*, counted from 1; CR, LF and CR LF each end a line."""
    return 1 + sum(1 for _ in _BREAK.finditer(text, 0, offset))


class _TooDeepError(MarkedYAMLError):
    """Nested deeper than a recursive reader should follow."""


class _Composer:
    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node] = {}
        self.line = 0
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = _Scanner
        yaml.tags = {}
        yaml.doc_infos.append(DocInfo())
        _, parser = yaml.get_constructor_parser(text)
        self.events: Iterator[Any] = iter(parser.get_event, None)
        self.scanner: _Scanner = yaml.scanner

    def problem(self, line: int, path: Path, message: str) -> None:
        self.problems.append(Problem(file=self.file, line=line, path=show_path(path), message=message))

    def documents(self) -> Iterator[Node | None]:
        for event in self.events:
            if isinstance(event, StreamEndEvent):
                return
            if not isinstance(event, DocumentStartEvent):
                continue
            if event.version not in (None, (1, 1)):
                self.problem(
                    event.start_mark.line + 1, (), "Kubernetes reads YAML 1.1 only: remove the %YAML directive"
                )
            self.anchors = {}
            root = self.node(next(self.events), (), 0)
            if size_of(root) > MAX_VALUES:
                self.problem(root.line, (), f"more than {MAX_VALUES} values after every alias is written out")
                yield None
            else:
                yield None if isinstance(root, ScalarNode) and root.style == "absent" else root
            if not isinstance(next(self.events), DocumentEndEvent):
                raise TypeError("a document that does not end")

    def node(self, event: Any, path: Path, depth: int) -> Node:
        mark = event.start_mark
        self.line = mark.line + 1
        if depth > MAX_DEPTH:
            raise _TooDeepError(None, None, f"nested more than {MAX_DEPTH} deep", mark)
        match event:
            case AliasEvent():
                return self.alias(event)
            case ScalarEvent():
                node: Node = self.scalar(event, path)
            case SequenceStartEvent():
                node = self.sequence(event, path, depth)
            case MappingStartEvent():
                node = self.mapping(event, path, depth)
            case _:
                raise TypeError(type(event).__name__)
        if event.anchor is not None:
            if not _ANCHOR.fullmatch(event.anchor):
                message = f"&{event.anchor} is no name that Kubernetes reads: write letters, digits, '-' and '_'"
                self.problem(event.start_mark.line + 1, path, message)
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> AliasNode:
        start, end = event.start_mark, event.end_mark
        target = self.anchors.get(event.anchor)
        if target is None:
            raise MarkedYAMLError(None, None, f"*{event.anchor} mentions an anchor that is not defined above it", start)
        return AliasNode(
            start=start.index, end=end.index, line=start.line + 1, column=start.column, anchor=None,
            name=event.anchor, target=target,
        )  # fmt: skip

    def scalar(self, event: Any, path: Path) -> ScalarNode:
        start, end, plain = event.start_mark, event.end_mark, event.style is None
        tag = event.tag
        value = self.value(event, path)
        style = "plain" if event.style is None else event.style
        if plain and event.value == "" and event.anchor is None and tag is None:
            style = "absent"
        return ScalarNode(
            start=start.index, end=end.index, line=start.line + 1, column=start.column, anchor=event.anchor,
            value=value, style=style,
        )  # fmt: skip

    def value(self, event: Any, path: Path) -> Scalar:
        line = event.start_mark.line + 1
        if _SURROGATE.search(event.value):
            self.problem(line, path, "an escape of half a surrogate pair: write the character, or \\U and eight digits")
            return None
        try:
            return resolve(event.value, tag=event.tag, plain=event.style is None)
        except ScalarError as error:
            self.problem(line, path, str(error))
            return None

    def sequence(self, event: Any, path: Path, depth: int) -> SequenceNode:
        start = event.start_mark
        self.check_tag(event, path)
        items: list[Node] = []
        while not isinstance(following := next(self.events), SequenceEndEvent):
            items.append(self.node(following, (*path, len(items)), depth + 1))
        flow = bool(event.flow_style)
        column = start.column
        dashes: tuple[int, ...] = ()
        if not flow:
            first = bisect_left(self.scanner.dashes, start.index)
            column = self.column(self.scanner.dashes[first])
            dashes = self.dashes(items, column)
        return SequenceNode(
            start=start.index, end=following.end_mark.index, line=start.line + 1, column=column, anchor=event.anchor,
            flow=flow, items=tuple(items), dashes=dashes, size=1 + sum(map(size_of, items)),
        )  # fmt: skip

    def dashes(self, items: list[Node], column: int) -> tuple[int, ...]:
        """Give the dash of each item: the last one before it that stands in the list's column."""
        found = []
        for item in items:
            index = bisect_left(self.scanner.dashes, item.start) - 1
            while self.column(self.scanner.dashes[index]) != column:
                index -= 1
            found.append(self.scanner.dashes[index])
        return tuple(found)

    def column(self, offset: int) -> int:
        line_start = max(self.text.rfind("\n", 0, offset), self.text.rfind("\r", 0, offset)) + 1
        return offset - line_start - self.text.count("\ufeff", line_start, offset)

    def mapping(self, event: Any, path: Path, depth: int) -> MappingNode:
        start = event.start_mark
        self.check_tag(event, path)
        entries: list[Entry] = []
        seen: dict[str, int] = {}
        size = 1
        while not isinstance(following := next(self.events), MappingEndEvent):
            entry = self.entry(following, path, depth, seen, entries)
            if entry is not None:
                entries.append(entry)
                size += size_of(entry.value)
        flow = bool(event.flow_style)
        column = start.column
        if not flow and entries:
            column = self.column(entries[0].key.start)
        node = MappingNode(
            start=start.index, end=following.end_mark.index, line=start.line + 1, column=column, anchor=event.anchor,
            flow=flow, entries=tuple(entries), size=size,
        )  # fmt: skip
        self.check_merge(node, path)
        return node

    def entry(self, event: Any, path: Path, depth: int, seen: dict[str, int], before: list[Entry]) -> Entry | None:
        """Read one key and its value; None, and a problem said, where the key cannot be kept."""
        node = self.node(event, path, depth + 1)
        key = follow(node)
        name = self.name(key, path)
        value = self.node(next(self.events), (*path, name or ""), depth + 1)
        if name is None or not isinstance(key, ScalarNode):
            return None
        tag = getattr(event, "tag", None)
        merge = (key.style == "plain" and name == "<<" and tag is None) or tag == "tag:yaml.org,2002:merge"
        if merge and any(other.merge for other in before):
            self.problem(node.line, (*path, name), "a second merge key: write one, <<: [*first, *second]")
            return None
        if not merge and name in seen:
            self.problem(
                node.line, (*path, name), f"this key stands in line {seen[name]} already: remove one of the two"
            )
            return None
        if not merge:
            seen[name] = node.line
        if node is not key:  # A key written as an alias stands where the alias does.
            key = replace(key, start=node.start, end=node.end, line=node.line, column=node.column)
        return Entry(key=key, name=name, merge=merge, colon=self.colon(node.end), value=value)

    def name(self, key: Node, path: Path) -> str | None:
        if not isinstance(key, ScalarNode):
            self.problem(key.line, path, "a key that is a list or a mapping: Kubernetes has text keys only")
            return None
        try:
            return key_text(key.value)
        except ScalarError as error:
            self.problem(key.line, path, str(error))
            return None

    def colon(self, after_key: int) -> int | None:
        index = bisect_right(self.scanner.colons, after_key - 1)
        if index == len(self.scanner.colons):
            return None
        colon = self.scanner.colons[index]
        gap = _GAP.match(self.text, after_key)
        return colon if gap is not None and gap.end() == colon else None

    def check_tag(self, event: Any, path: Path) -> None:
        tag = event.tag
        if tag is not None and tag not in _COLLECTION_TAGS:
            self.problem(event.start_mark.line + 1, path, f"the tag {tag} means nothing to Kubernetes: remove it")

    def check_merge(self, node: MappingNode, path: Path) -> None:
        for number, entry in enumerate(node.entries):
            if not entry.merge:
                continue
            value = follow(entry.value)
            parts = [follow(item) for item in value.items] if isinstance(value, SequenceNode) else [value]
            if not all(isinstance(part, MappingNode) for part in parts):
                self.problem(entry.key.line, (*path, "<<"), "a merge key wants a mapping or a list of mappings")
                continue
            for earlier in node.entries[:number]:
                if any(merged.get(earlier.name) for merged in node.merged()):
                    # Kubernetes' own tools disagree here: some let the merged value win over the one written before it.
                    self.problem(
                        entry.key.line, (*path, earlier.name),
                        "the merge key brings this key in again after it was written: put << first in this mapping",
                    )  # fmt: skip


def _templates(text: str, problems: list[Problem]) -> list[Problem]:
    """Say of a line of a template that it is one, once; what the parser makes of it helps nobody."""
    if not problems or "{{" not in text:
        return problems
    lines = _BREAK.split(text)
    said: list[Problem] = []
    for problem in problems:
        if not (0 < problem.line <= len(lines) and "{{" in lines[problem.line - 1]):
            said.append(problem)
        elif not any(one.path == "" and "template" in one.message for one in said):
            message = "{{ … }} belongs to a template: render it first, as `helm template` does, and give the result"
            said.append(replace(problem, path="", message=message))
    return said


def _line(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return 0 if mark is None else int(mark.line) + 1


def _explain(error: MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    message = "not YAML: " + ", ".join(parts)
    if "'\\t'" in message:
        message += "; a tab cannot indent: write spaces"
    return message
