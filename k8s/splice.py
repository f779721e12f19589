"""Where the text of an edit goes: from a change of data to the characters inserted or replaced.

Insertion is at the end of the line where the thing before it ends, so comments, blank lines and indentation around it
stay where they are. Whatever this module decides is parsed again and compared by its caller; a plan that would change
anything else is refused there, so a rare form may be planned badly here but never written.
"""

import re
from dataclasses import dataclass
from typing import Final

from k8s import render
from k8s.edits import Edit, InsertItem, SetValue
from k8s.nodes import AliasNode, Data, Entry, MappingNode, Node, ScalarNode, SequenceNode, Step, find, follow
from k8s.problems import show_path

_BREAK: Final = re.compile(r"\r\n|\r|\n")
_REST_OF_LINE: Final = re.compile(r"[ \t]*(?:(?<=[ \t])#[^\r\n]*)?(?=[\r\n]|\Z)")
_INLINE: Final = 1 << 20
_PROPERTY: Final = re.compile(r"[&!][^\s]*\s*")


class PlanError(ValueError):
    """This edit has no place in the text; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """Characters ``start`` to ``end`` of the decoded text become *text*.

    Attributes:
        depth: How deep the insertion lies: of two in one place the deeper one comes first. Twice the column, one more
            within a list (its dashes may stand in the column of the key above them), most within a line.
        shared: Aliases and merged mappings that the path went through.
    """

    start: int
    end: int
    text: str
    depth: int
    shared: tuple[Node, ...]

    def joins(self, other: "Splice") -> bool:
        """True where one change reached one place twice, through an anchor and its aliases: it is made once."""
        same = (self.start, self.end, self.text) == (other.start, other.end, other.text)
        return same and bool(self.shared or other.shared)


def plan(text: str, root: Node | None, edit: Edit, *, indentless: bool) -> Splice:
    """Find the place of *edit* in *text*.

    Args:
        text: The whole decoded file.
        root: The document's root, composed from *text*; None where it is empty.
        edit: What shall change; its path is that of the data before any edit.
        indentless: The document's habit, where the surroundings do not show one.

    Raises:
        PlanError: There is no such place.
    """
    if root is None:
        raise PlanError("the document is empty")
    return _Planner(text, indentless, is_json(root)).plan(root, edit)


def is_json(root: Node) -> bool:
    """True where a document is written as JSON: what is inserted must be JSON too, for kubectl reads it as such."""
    return isinstance(root, MappingNode) and root.flow and all(entry.key.style == '"' for entry in root.entries)


def indentless_habit(root: Node) -> bool:
    """True where the first block list under a key has its dashes in the key's column."""
    return bool(_habit(root))


def _habit(node: Node) -> bool | None:
    if isinstance(node, MappingNode) and not node.flow:
        for entry in node.entries:
            if isinstance(entry.value, SequenceNode) and not entry.value.flow:
                return entry.value.column == node.column
            if (found := _habit(entry.value)) is not None:
                return found
    elif isinstance(node, SequenceNode) and not node.flow:
        return next((found for item in node.items if (found := _habit(item)) is not None), None)
    return None


@dataclass(frozen=True, slots=True)
class _Planner:
    text: str
    indentless: bool
    json: bool

    def plan(self, root: Node, edit: Edit) -> Splice:
        if isinstance(edit, InsertItem):
            step = self.step(root, edit.path, edit)
            target = follow(step.node)
            if not isinstance(target, SequenceNode) or not 0 <= edit.index <= len(target.items):
                raise PlanError("there is no list with this place in it")
            shared = (*step.shared, step.node) if isinstance(step.node, AliasNode) else step.shared
            return self.insert(target, step.entry if not shared else None, edit, shared)
        return self.set(root, edit)

    def step(self, root: Node, path: tuple[str | int, ...], edit: Edit) -> Step:
        step = find(root, path)
        if step is None:
            raise PlanError(f"{show_path(path)} does not exist, so {show_path(edit.path)} cannot be written into it")
        return step

    # Setting a key or replacing a value

    def set(self, root: Node, edit: SetValue) -> Splice:
        parent = self.step(root, edit.path[:-1], edit)
        target, last = follow(parent.node), edit.path[-1]
        shared = (*parent.shared, parent.node) if isinstance(parent.node, AliasNode) else parent.shared
        if isinstance(target, SequenceNode) and isinstance(last, int) and 0 <= last < len(target.items):
            return self.replace(target.items[last], None, target, edit, shared)
        if isinstance(target, MappingNode) and isinstance(last, str):
            entry = target.own(last)
            if entry is not None:
                return self.replace(entry.value, entry, target, edit, shared)
            return self.add(target, last, edit, shared)
        raise PlanError("there is no mapping that could hold this key")

    def add(self, target: MappingNode, name: str, edit: SetValue, shared: tuple[Node, ...]) -> Splice:
        if target.flow:
            return self.into_flow(target, f"{self.flow(name)}: {self.flow(edit.value)}", shared)
        indentless = self.habit(target)
        lines = render.entry(name, edit.value, indentless=indentless)
        last = self.end_of(target.entries[-1].value, target.entries[-1])
        if self.unterminated(target):
            # A line break after an unterminated block scalar would become part of it, so the new key goes to the front.
            first = target.entries[0].key
            newline = self.newline(first.start)
            text = newline.join([*lines[:1], *(" " * target.column + line for line in lines[1:])])
            return Splice(
                start=first.start, end=first.start, text=text + newline + " " * target.column,
                depth=-target.column, shared=shared,
            )  # fmt: skip
        return self.after(last, lines, target.column, 2 * target.column, shared)

    def replace(
        self,
        old: Node,
        entry: Entry | None,
        parent: MappingNode | SequenceNode,
        edit: SetValue,
        shared: tuple[Node, ...],
    ) -> Splice:
        value = edit.value
        filled = isinstance(value, dict | list) and bool(value)
        if isinstance(old, ScalarNode) and old.style == "absent":
            place = self.end_of(old, entry)
            if filled and entry is not None and entry.colon is not None and not parent.flow:
                indentless = self.habit(parent)
                lines = render.block(value, indentless=indentless)
                column = parent.column + (0 if indentless and isinstance(value, list) else 2)
                return self.after(place, lines, column, 2 * column + 1, shared)
            text = self.flow(value) if filled or parent.flow else render.block(value, indentless=False)[0]
            colon = "" if entry is None or entry.colon is not None else ":"
            return Splice(start=place, end=place, text=f"{colon} {text}", depth=_INLINE, shared=shared)
        start, end = self.content_start(old), self.end_of(old, entry)
        match old:
            case ScalarNode(style=style) if not filled and not isinstance(value, dict | list):
                quotes = '"' if self.json else style if style in {"'", '"'} else "plain"
                text = render.scalar(value, style=quotes, flow=parent.flow)
            case MappingNode(flow=False, column=column) | SequenceNode(flow=False, column=column) if filled:
                lines = render.block(value, indentless=self.indentless)
                text = (self.newline(start) + " " * column).join(lines)
            case _:
                text = self.flow(value)
        while end > start and self.text[end - 1] in "\r\n":
            end -= 1
        return Splice(start=start, end=end, text=text, depth=parent.column, shared=shared)

    # Inserting into a list

    def insert(self, target: SequenceNode, entry: Entry | None, edit: InsertItem, shared: tuple[Node, ...]) -> Splice:
        if target.flow:
            if edit.index == len(target.items):
                return self.into_flow(target, self.flow(edit.value), shared)
            start = target.items[edit.index].start
            return Splice(start=start, end=start, text=self.flow(edit.value) + ", ", depth=0, shared=shared)
        lines = render.block([edit.value], indentless=self.habit(target))
        if edit.index > 0:
            last = self.end_of(target.items[edit.index - 1], None)
            if self.unterminated(target.items[edit.index - 1]):
                raise PlanError("the file ends within a block scalar without a line break: end its last line first")
            return self.after(last, lines, target.column, 2 * target.column + 1, shared)
        if entry is not None and entry.colon is not None and _BREAK.search(self.text, entry.colon, target.dashes[0]):
            # Above the comments of the item that was first, which speak of that item.
            place = entry.colon + 1
            properties = re.compile(r"(?:[ \t]+[&!][^\s]*)*").match(self.text, place)
            place = properties.end() if properties else place
            return self.after(place, lines, target.column, 2 * target.column + 1, shared)
        start = target.dashes[0]
        newline = self.newline(start)
        indent = newline + " " * target.column
        return Splice(start=start, end=start, text=indent.join(lines) + indent, depth=-target.column, shared=shared)

    # Places

    def flow(self, value: Data) -> str:
        return render.json_text(value) if self.json else render.flow(value)

    def after(self, place: int, lines: list[str], column: int, depth: int, shared: tuple[Node, ...]) -> Splice:
        """Insert whole *lines* below the line in which *place* lies."""
        indented = [" " * column + line for line in lines]
        if place > 0 and self.text[place - 1] in "\r\n":  # the end of a block scalar: a line starts here already
            newline = self.newline(place)
            text = "".join(line + newline for line in indented)
            return Splice(start=place, end=place, text=text, depth=depth, shared=shared)
        rest = _REST_OF_LINE.match(self.text, place)
        if rest is None:
            raise PlanError("something else stands in the line after which it would go: give it a line of its own")
        newline = self.newline(rest.end())
        text = "".join(newline + line for line in indented)
        return Splice(start=rest.end(), end=rest.end(), text=text, depth=depth, shared=shared)

    def into_flow(self, target: MappingNode | SequenceNode, text: str, shared: tuple[Node, ...]) -> Splice:
        """Insert *text* as the last member of a collection in braces or brackets."""
        members = target.entries if isinstance(target, MappingNode) else target.items
        if not members:
            start = self.content_start(target)
            if self.text[start : start + 1] not in ("{", "["):
                raise PlanError("this collection is written without braces: write it with them")
            return Splice(start=start + 1, end=start + 1, text=text, depth=0, shared=shared)
        if isinstance(target, MappingNode):
            if self.text[self.content_start(target)] != "{":
                raise PlanError("this mapping is a single pair in a list: write it in braces")
            place = self.end_of(target.entries[-1].value, target.entries[-1])
        else:
            place = self.end_of(target.items[-1], None)
        return Splice(start=place, end=place, text=f", {text}", depth=0, shared=shared)

    def end_of(self, node: Node, entry: Entry | None) -> int:
        """Give the offset after the last character of *node*'s content."""
        match node:
            case ScalarNode(style="absent"):
                if entry is None:
                    return node.start
                return entry.key.end if entry.colon is None else entry.colon + 1
            case MappingNode(flow=False, entries=entries) if entries:
                return self.end_of(entries[-1].value, entries[-1])
            case SequenceNode(flow=False, items=items) if items:
                return self.end_of(items[-1], None)
        return node.end

    def content_start(self, node: Node) -> int:
        """Give the offset of *node*'s content, after its anchor and tag."""
        start = node.start
        if not isinstance(node, AliasNode) and not (isinstance(node, ScalarNode) and node.style == "absent"):
            while (found := _PROPERTY.match(self.text, start)) and found.end() <= node.end:
                start = found.end()
        return start

    def unterminated(self, node: Node) -> bool:
        """True where *node* ends in a block scalar whose last line has no line break: the file ends there."""
        match node:
            case ScalarNode(style="|" | ">", end=end):
                return self.text[end - 1] not in "\r\n"
            case MappingNode(flow=False, entries=entries) if entries:
                return self.unterminated(entries[-1].value)
            case SequenceNode(flow=False, items=items) if items:
                return self.unterminated(items[-1])
        return False

    def habit(self, near: Node) -> bool:
        """Tell how the lists beside *near* are indented; the document's habit where there are none."""
        if isinstance(near, MappingNode):
            for entry in near.entries:
                if isinstance(entry.value, SequenceNode) and not entry.value.flow:
                    return entry.value.column == near.column
        return self.indentless

    def newline(self, offset: int) -> str:
        """Give the line break nearest to *offset*: the one that ends its line, else the one before, else LF."""
        found = _BREAK.search(self.text, offset)
        if found:
            return found[0]
        before = max(self.text.rfind("\n", 0, offset), self.text.rfind("\r", 0, offset))
        if before < 0:
            return "\n"
        return "\r\n" if self.text[max(before - 1, 0) : before + 1] == "\r\n" else self.text[before]
