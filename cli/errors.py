"""What can go wrong in a command, and which exit code says so; nothing is printed here.

| code | meaning |
|---|---|
| 0 | done |
| 1 | refused: a verification failed, something differs, the other side said no |
| 2 | usage: the command line asks for something that cannot be |
| 3 | unreachable: nobody answered in time |
| 4 | local files: unreadable, unwritable, full |
"""

from typing import ClassVar


class CliError(Exception):
    """A command ended without doing what was asked.

    Attributes:
        code: stable name for programs that read `--json`.
        exit_status: the exit code of the process.
        details: further lines, one fault each, already fit for a terminal.
    """

    code: ClassVar[str] = "refused"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details


def counted(number: int, noun: str) -> str:
    """``1 finding``, ``2 findings``: for messages."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class RefusedError(CliError):
    """A check failed; nothing was written."""


class DiffersError(CliError):
    """Two things that should be equal are not; every difference stands in the details."""

    code = "differs"


class NotAttestedError(CliError):
    """The Coordinator's evidence does not satisfy what the user gave to judge it by."""

    code = "not_attested"


class HeadError(CliError):
    """The ledger offered does not extend the one remembered."""

    code = "head"


class ReplacedError(HeadError):
    """Another ledger answers at this address."""

    code = "ledger_replaced"


class RolledBackError(HeadError):
    """The ledger is shorter than it was when last seen."""

    code = "ledger_rolled_back"


class ForkedError(HeadError):
    """The ledger tells another history than the one remembered."""

    code = "ledger_forked"


class UsageFaultError(CliError):
    """The options contradict each other or something needed was not given."""

    code = "usage"
    exit_status = 2


class NoAnswerError(CliError):
    """Nobody answered within the time allowed."""

    code = "unreachable"
    exit_status = 3


class LocalFileError(CliError):
    """A file of this machine could not be read or written."""

    code = "local_io"
    exit_status = 4
