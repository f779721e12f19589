"""What each error of each package means to a person at a terminal: message, details, exit code; nothing is printed here."""

from dataclasses import dataclass

from cli.errors import CliError, LocalFileError, NoAnswerError
from cli.output import clean
from ledger.errors import LedgerError, StoreError, StoreFullError
from manifest.errors import ManifestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a command ended, ready to print."""

    message: str
    details: tuple[str, ...] = ()
    code: str
    exit_status: int


def failure_of(error: BaseException) -> Failure | None:
    """Return what to tell about *error*, or None if it is no error that a command may end with."""
    raise NotImplementedError
