"""What each error means to a person at a terminal: message, details, exit code; nothing is printed here.

Every package raises types with a stable `code` whose message says what to do, so one rule serves them all.
What has no code is a defect of ours and stays a traceback.
"""

import errno
from dataclasses import dataclass
from typing import Final

from cli.errors import CliError
from cli.output import clean
from ledger.errors import StoreError
from wire.problem import UnreachableError

_OURS: Final = frozenset(
    "attestation audit cli coordinator images k8s ledger localnode manifest policy wire".split()  # noqa: SIM905 reads better
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a command ended, ready to print."""

    message: str
    details: tuple[str, ...] = ()
    code: str
    exit_status: int


def failure_of(error: BaseException) -> Failure | None:
    """Return what to tell about *error*, or None if no command may end with it."""
    match error:
        case CliError():
            return _failure(error, str(error), error.details, error.code, error.exit_status)
        case BaseExceptionGroup():
            # A task group wraps what one of its tasks raised; several at once are told by the first.
            return failure_of(error.exceptions[0])
        case UnreachableError() | TimeoutError():
            return _failure(error, str(error), (), "unreachable", 3)
        case StoreError():
            return _failure(error, str(error), (), error.code, 4)
        case OSError():
            name = f"{error.filename}: " if error.filename else ""
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            advice = ("free some space where this command writes (temporary files: TMPDIR), and run it again",)
            return _failure(error, f"{name}{error.strerror or error}", advice if full else (), "local_io", 4)
        case _ if type(error).__module__.partition(".")[0] in _OURS and isinstance(getattr(error, "code", None), str):
            code = str(getattr(error, "code"))  # noqa: B009 checked just above
            return _failure(error, str(error), (), code, 4 if code == "local_io" else 1)
        case _:
            return None


def _failure(error: BaseException, text: str, details: tuple[str, ...], code: str, status: int) -> Failure:
    first, *rest = text.splitlines() or [type(error).__name__]
    return Failure(
        message=clean(first),
        details=tuple(clean(line) for line in (*rest, *details)),
        code=code,
        exit_status=status,
    )
