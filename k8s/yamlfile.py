"""One YAML file of a person: read for values and positions, changed by insertion, never written anew.

Every byte that no edit names stays: comments, order, quoting, indentation, line breaks, byte order mark. The result is
parsed again and compared with what the edits meant; a difference refuses them all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from k8s.compose import compose, line_at
from k8s.edits import Edit, apply_to_data, first_difference
from k8s.nodes import AliasNode, Data, Node, line_of, to_data
from k8s.problems import EditError, Path, Problem, ResourceError, show_path
from k8s.splice import PlanError, Splice, indentless_habit, plan

MAX_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file; *root* is None where it is empty or holds comments only."""

    index: int
    root: Node | None

    @property
    def data(self) -> Data:
        """The document as plain data, fresh at every call."""
        return None if self.root is None else to_data(self.root)

    def line(self, path: Path = ()) -> int:
        """Give the line of *path* (of the nearest existing thing above it), counted from 1; 0 in an empty document."""
        return 0 if self.root is None else line_of(self.root, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlFile:
    """A parsed file. ``path`` is the name shown to people; ``raw`` are its bytes."""

    path: str
    raw: bytes
    text: str
    documents: tuple[Document, ...]

    @classmethod
    def parse(cls, path: str, raw: bytes) -> "YamlFile":
        """Read *raw*.

        Raises:
            ResourceError: Not YAML as Kubernetes reads it; every fault with its line.
        """
        text = _decode(path, raw)
        roots, problems = compose(path, text)
        if problems:
            raise ResourceError(problems)
        documents = tuple(Document(index=index, root=root) for index, root in enumerate(roots))
        return cls(path=path, raw=raw, text=text, documents=documents)

    def problem(self, document: int, path: Path, message: str) -> Problem:
        """Say what is wrong at *path* of a document."""
        return Problem(file=self.path, line=self.documents[document].line(path), path=show_path(path), message=message)

    def apply(self, edits: Sequence[Edit]) -> bytes:
        """Give the file's bytes after *edits*; without edits these are its bytes as they are.

        Raises:
            EditError: An edit has no place, two edits meet, or the result would differ in something else.
        """
        if not edits:
            return self.raw
        planned = self._plan(edits)
        raw = "".join(_pieces(self.text, [splice for splice, _ in planned])).encode()
        self._check(edits, planned, raw)
        return raw

    def splices(self, edits: Sequence[Edit]) -> tuple[Splice, ...]:
        """Give the spans of ``text`` that *edits* insert or replace, in order; ``apply`` checks what they lead to.

        Raises:
            EditError: An edit has no place, or two edits meet.
        """
        return tuple(splice for splice, _ in self._plan(edits))

    def _plan(self, edits: Sequence[Edit]) -> list[tuple[Splice, Edit]]:
        planned: list[tuple[Splice, Edit]] = []
        places: dict[tuple[int, int, str], int] = {}
        problems = []
        habits = {edit.document: self._indentless(edit.document) for edit in edits}
        for edit in edits:
            root = self.documents[edit.document].root
            try:
                splice = plan(self.text, root, edit, indentless=habits[edit.document])
            except PlanError as error:
                problems.append(self.problem(edit.document, edit.path, f"cannot be changed: {error}"))
                continue
            same = places.get((splice.start, splice.end, splice.text))
            if same is None or not splice.joins(planned[same][0]):
                places[splice.start, splice.end, splice.text] = len(planned)
                planned.append((splice, edit))
            elif splice.shared:
                planned[same] = (splice, edit)
        planned.sort(key=lambda pair: (pair[0].start, pair[0].end > pair[0].start, -pair[0].depth))
        for (first, _), (second, edit) in pairwise(planned):
            if second.start < first.end:
                message = "two changes meet here: make one of them by hand"
                problems.append(self.problem(edit.document, edit.path, message))
        if problems:
            raise EditError(problems)
        return planned

    def _indentless(self, document: int) -> bool:
        root = self.documents[document].root
        return root is not None and indentless_habit(root)

    def _check(self, edits: Sequence[Edit], planned: Sequence[tuple[Splice, Edit]], raw: bytes) -> None:
        try:
            after = YamlFile.parse(self.path, raw).documents
        except ResourceError as error:
            reason = f"the file would not be YAML any more ({error.problems[0].message})"
            raise EditError([self._refused(planned, edits[0], reason)]) from None
        if len(after) != len(self.documents):
            raise EditError([self._refused(planned, edits[0], "the number of documents would change")])
        problems = []
        for document, changed in zip(self.documents, after, strict=True):
            mine = [edit for edit in edits if edit.document == document.index]
            where = first_difference(apply_to_data(document.data, mine), changed.data)
            if where is not None:
                edit = mine[0] if mine else edits[0]
                reason = f"{show_path(where) or 'the document'} would change too"
                problems.append(self._refused(planned, edit, reason))
        if problems:
            raise EditError(problems)

    def _refused(self, planned: Sequence[tuple[Splice, Edit]], edit: Edit, reason: str) -> Problem:
        """Say why nothing is changed; an anchor on the way is the usual reason, and then its line is named."""
        for splice, through in planned:
            if splice.shared and through.document == edit.document:
                node = splice.shared[-1]
                name = f"*{node.name}" if isinstance(node, AliasNode) else "a merge key (<<)"
                message = f"cannot be changed: it is shared through {name}, so {reason}: write it out here instead"
                problem = self.problem(through.document, through.path, message)
                return problem if problem.line >= node.line else replace(problem, line=node.line)
        message = f"cannot be changed: {reason}, because of how this is written: use plain block style without anchors"
        return self.problem(edit.document, edit.path, message)


def _pieces(text: str, splices: Iterable[Splice]) -> Iterable[str]:
    done = 0
    for splice in splices:
        yield text[done : splice.start]
        yield splice.text
        done = splice.end
    yield text[done:]


def _decode(path: str, raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        message = f"{len(raw)} bytes; at most {MAX_BYTES} are read"
        raise ResourceError([Problem(file=path, line=0, path="", message=message)])
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ResourceError([Problem(file=path, line=0, path="", message="UTF-16; save the file as UTF-8")])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = line_at(raw[: error.start].decode(), error.start)
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise ResourceError([Problem(file=path, line=line, path="", message=message)]) from None
