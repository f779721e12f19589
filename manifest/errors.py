"""What can be wrong with a manifest, said so that a person finds the place; nothing here reads one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault of a document: where it stands, and what to write instead.

    ``path`` is a JSON path such as ``ReferenceValues.snp[0].MinimumTCB.SNPVersion`` (empty for the whole document),
    ``line`` counts from 1 and is None only where no line can be named.
    """

    path: str
    message: str
    line: int | None

    def located(self, name: str) -> str:
        """The problem as ``file:line: path: message``."""
        place = name if self.line is None else f"{name}:{self.line}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ManifestError(Exception):
    """A manifest, or a file of reference values, is refused; every fault that was found is listed."""

    code = "invalid_manifest"

    def __init__(self, problems: tuple[Problem, ...], *, name: str = "manifest.json") -> None:
        self.problems = problems
        self.name = name
        super().__init__("\n".join(problem.located(name) for problem in problems))
