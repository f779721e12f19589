"""What can be wrong with a person's YAML, said with file, line and path; nothing here reads or writes a file."""

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]


def show_path(path: Path) -> str:
    """Write *path* as a person would: ``spec.containers[0].image``; keys with odd characters in brackets."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part.replace("-", "").replace("_", "").isalnum():
            shown += f".{part}" if shown else part
        else:
            shown += f"['{part}']"
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault: where it stands, and what to do about it.

    Attributes:
        file: The file as the user named it.
        line: Counted from 1; 0 where the file as a whole is meant.
        path: The field, in the words of ``show_path``; empty for the document or file.
        message: What was seen, what was wanted, what to do.
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ResourceError(Exception):
    """The YAML cannot be used as it is; all faults at once, nothing was written."""

    code = "kubernetes_yaml_invalid"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class EditError(ResourceError):
    """A change cannot be made without touching something that was not meant; nothing was written."""

    code = "kubernetes_edit_refused"
