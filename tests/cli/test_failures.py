"""Each error ends with the exit code that the help promises, and defects of ours stay visible."""

import pytest

from cli.errors import LocalFileError, NoAnswerError, RefusedError, UsageFaultError
from cli.failures import failure_of
from ledger.errors import LedgerContentError, StoreFullError
from localnode.errors import UnwritableError
from manifest.errors import ManifestError, Problem
from wire.problem import UnreachableError


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RefusedError("no"), 1, "refused"),
        (UsageFaultError("how"), 2, "usage"),
        (NoAnswerError("where"), 3, "unreachable"),
        (LocalFileError("what"), 4, "local_io"),
        (UnreachableError("h:1313 does not answer"), 3, "unreachable"),
        (StoreFullError("full"), 4, "ledger_full"),
        (LedgerContentError(7, "broken"), 1, "ledger_damaged"),
        (ManifestError((Problem("a", "b", 3),)), 1, "invalid_manifest"),
        (PermissionError(13, "Permission denied", "/x"), 4, "local_io"),
        (OSError(28, "No space left on device"), 4, "local_io"),
        (UnwritableError("no space"), 4, "local_io"),
        (ExceptionGroup("tasks", [UnreachableError("gone")]), 3, "unreachable"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error: Exception, status: int, code: str) -> None:
    """Scripts branch on it."""
    failure = failure_of(error)
    assert failure is not None
    assert (failure.exit_status, failure.code) == (status, code)
    assert failure.message


def test_a_defect_is_not_dressed_up_as_a_refusal() -> None:
    """A KeyError told as `refused` would send the user to look for an attacker."""
    assert failure_of(KeyError("x")) is None
    assert failure_of(AssertionError()) is None


def test_all_faults_of_a_manifest_are_told() -> None:
    failure = failure_of(ManifestError((Problem("a", "one", 3), Problem("b", "two", 4)), name="m.json"))
    assert failure is not None
    assert (failure.message, failure.details) == ("m.json:3: a: one", ("m.json:4: b: two",))


def test_text_of_a_stranger_cannot_steer_the_terminal() -> None:
    failure = failure_of(RefusedError("a\x1b[2J", details=("b\x07",)))
    assert failure is not None
    assert "\x1b" not in failure.message
    assert "\x07" not in failure.details[0]


def test_a_full_disk_is_told_with_what_to_do() -> None:
    failure = failure_of(OSError(28, "No space left on device"))
    assert failure is not None
    assert "free some space" in failure.details[0]
