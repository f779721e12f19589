"""Why the Initializer gives up, one type per reason; each message says what a person can do about it."""

from typing import ClassVar


class InitializerError(Exception):
    """The Initializer ends without files; `exit_status` is the process's."""

    code: ClassVar[str] = "initializer_failed"
    exit_status: ClassVar[int] = 1


class SettingsError(InitializerError):
    """The environment or the command line is incomplete or malformed."""

    code = "invalid_settings"
    exit_status = 2


class RefusedError(InitializerError):
    """The Coordinator refused for good: trying again without a change gives the same answer."""

    code = "refused"


class WrongAnswerError(InitializerError):
    """Parts of an answer do not belong together, or not to this pod: nothing of it is used.

    `check` is the number of the check in `initializer.checks` that failed.
    """

    code = "wrong_answer"

    def __init__(self, check: int, message: str) -> None:
        self.check = check
        super().__init__(
            f"the Coordinator's answer fails check {check}: {message}. Nothing was written. Somebody between this pod "
            "and the Coordinator may have changed it; if it happens again, attest it with `contrast verify`"
        )


class NoAnswerError(InitializerError):
    """The Coordinator could not be reached in as many tries as were allowed."""

    code = "unreachable"
    exit_status = 3


class LocalFaultError(InitializerError):
    """Something on this side is missing: the volume, or a secure processor."""

    code = "local_fault"
    exit_status = 4
