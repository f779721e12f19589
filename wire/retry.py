"""When to try again, and how long to wait; what is tried is the caller's. Clock and chance come as arguments."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from wire.problem import RemoteError, RemoteRefusedError, UnreachableError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double up to a ceiling, each shortened by chance so that many clients do not come back at once."""

    first_s: float = 0.5
    factor: float = 2.0
    ceiling_s: float = 30.0

    def delay_s(self, failures: int, chance: float) -> float:
        """Seconds to wait after *failures* (1 or more) in a row; *chance* in [0, 1) picks from the upper half."""
        full = self.ceiling_s
        if failures <= 64:  # Beyond, the power would only overflow on its way to the ceiling.
            full = min(self.ceiling_s, self.first_s * self.factor ** (failures - 1))
        return full * (0.5 + 0.5 * chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Up to *attempts* tries of what may pass: no answer, or a refusal that says so."""

    attempts: int
    sleep: Callable[[float], Awaitable[None]]
    chance: Callable[[], float]
    backoff: Backoff = Backoff()

    async def run(self, action: Callable[[], Awaitable[_T]]) -> _T:
        """What *action* gives, at the first try that succeeds.

        Raises:
            RemoteError: the last failure, or the first that waiting does not mend.
            CancelledError: this task was cancelled, though a library may have told it as a failed connection.
        """
        for failures in range(1, self.attempts):
            try:
                return await action()
            except RemoteError as error:
                if not passes(error):
                    raise
                demand_wanted()
                await self.sleep(max(self.backoff.delay_s(failures, self.chance()), asked_s(error)))
        return await action()


def demand_wanted() -> None:
    """Raise CancelledError if this task was told to end: what cancelled it must not be answered by another try."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def passes(error: RemoteError) -> bool:
    """Whether waiting can mend *error*."""
    return isinstance(error, UnreachableError) or (isinstance(error, RemoteRefusedError) and error.may_pass)


def asked_s(error: RemoteError) -> float:
    """How long the other side asked to wait, in seconds; at most a minute is believed."""
    asked = error.retry_after_s if isinstance(error, RemoteRefusedError) else None
    return 0.0 if asked is None else float(min(asked, 60))
