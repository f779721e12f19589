"""What this package refuses, said so that a person knows which line to change."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """One thing in a pod that no policy can express, or that this version does not.

    Attributes:
        file: The file as the user named it.
        line: Counted from 1; 0 where the file as a whole is meant.
        path: The field within the pod spec, as ``spec.containers[0].image``.
        reason: Why it cannot be.
        instead: What to write.
    """

    file: str
    line: int
    path: str
    reason: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path}: {self.reason}; {self.instead}"


class PolicyError(Exception):
    """The base of what this package raises; ``code`` is stable."""

    code = "policy_refused"


class UnsupportedError(PolicyError):
    """The pod cannot be described tightly; every such place at once."""

    code = "policy_unsupported"

    def __init__(self, problems: Iterable[Unsupported]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.path)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PolicyTextError(PolicyError):
    """A text that is no policy of this program, or that the interpreter cannot read."""

    code = "policy_text_invalid"
