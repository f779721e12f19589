"""One YAML file of a person: read for values and positions, changed by insertion, never written anew.

Every byte that no edit names stays: comments, order, quoting, indentation, line breaks, byte order mark. The result is
parsed again and compared with what the edits meant; a difference refuses them all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
        splices = self._splices(edits)
        result = "".join(_pieces(self.text, splices))
        raw = result.encode()
        self._check(edits, splices, raw)
        return raw

    def _splices(self, edits: Sequence[Edit]) -> list[Splice]:
        splices: list[tuple[Splice, Edit]] = []
        problems = []
        habits = {edit.document: self._indentless(edit.document) for edit in edits}
        for edit in edits:
            root = self.documents[edit.document].root
            try:
                splice = plan(self.text, root, edit, indentless=habits[edit.document])
            except PlanError as error:
                problems.append(self.problem(edit.document, edit.path, f"cannot be changed: {error}"))
                continue
            same = next((number for number, (other, _) in enumerate(splices) if splice.joins(other)), None)
            if same is None:
                splices.append((splice, edit))
            elif splice.shared:
                splices[same] = (splice, edit)
        splices.sort(key=lambda pair: (pair[0].start, pair[0].end > pair[0].start, -pair[0].depth))
        for (first, _), (second, edit) in pairwise(splices):
            if second.start < first.end:
                message = "two changes meet here: make one of them by hand"
                problems.append(self.problem(edit.document, edit.path, message))
        if problems:
            raise EditError(problems)
        return [splice for splice, _ in splices]

    def _indentless(self, document: int) -> bool:
        root = self.documents[document].root
        return root is not None and indentless_habit(root)

    def _check(self, edits: Sequence[Edit], splices: Iterable[Splice], raw: bytes) -> None:
        try:
            result = YamlFile.parse(self.path, raw)
        except ResourceError as error:
            raise EditError([self._unexpected(edits, None, f"would not be YAML any more ({error})")]) from None
        if len(result.documents) != len(self.documents):
            raise EditError([self._unexpected(edits, None, "would change the number of documents")])
        problems = []
        for document, after in zip(self.documents, result.documents, strict=True):
            mine = [edit for edit in edits if edit.document == document.index]
            expected = apply_to_data(document.data, mine)
            where = first_difference(expected, after.data)
            if where is not None:
                problems.append(self._meets_others(document, where, mine, splices))
        if problems:
            raise EditError(problems)

    def _meets_others(
        self, document: Document, where: Path, edits: Sequence[Edit], splices: Iterable[Splice]
    ) -> Problem:
        for splice in splices:
            for node in splice.shared:
                name = f"*{node.name}" if isinstance(node, AliasNode) else "a merge key (<<)"
                message = (
                    f"is shared by {name} (line {node.line}), so the change would also reach {show_path(where)}: "
                    "write it out here instead of sharing it"
                )
                edit = next((edit for edit in edits), None)
                return self.problem(document.index, () if edit is None else edit.path, message)
        edit = edits[0] if edits else None
        return self.problem(
            document.index, () if edit is None else edit.path,
            f"cannot be changed without changing {show_path(where) or 'the document'} too, because of how it is "
            "written (an anchor, a comment or a rare style): write this part in block style without anchors",
        )  # fmt: skip

    def _unexpected(self, edits: Sequence[Edit], path: Path | None, message: str) -> Problem:
        edit = edits[0]
        return self.problem(
            edit.document, edit.path if path is None else path,
            f"cannot be changed: the file {message}; write this part in plain block style",
        )  # fmt: skip


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
