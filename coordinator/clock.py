"""Whether the host's clock can be believed for a record: compared with elapsed time, with the ledger, with an owner.

The ledger's time never runs backwards, so one entry dated far ahead dates everything after it (docs/adr/0023).
A clock that jumps while the process runs is told from one that was set right while the machine was off by what does not
jump: the monotonic clock. The bases are taken where an owner acts, and his clock is compared then.
"""

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from coordinator.ca import BACKDATE
from coordinator.errors import CoordinatorError
from coordinator.times import MAX_TIME_MS, shown

MAX_JUMP_MS: Final = 24 * 3_600_000
"""How far the host's clock may depart from elapsed time, and from an owner's. Machines are paused for hours."""
MAX_AHEAD_MS: Final = BACKDATE // timedelta(milliseconds=1)
"""How far the ledger may be ahead of this clock: a certificate that is issued now would not be valid yet beyond."""


class ClockJumpedError(CoordinatorError):
    """The host's clock has departed from elapsed time since the owner set the manifest or brought the seed."""

    code, status = "clock_jumped", HTTPStatus.SERVICE_UNAVAILABLE
    title = "The Coordinator's clock has jumped"
    action = (
        "Nothing was recorded. Set the machine's clock right: the Coordinator goes on by itself. If the clock is right "
        "now and was wrong before, restart the Coordinator and run `contrast recover`. If the witnesses' clocks are "
        "wrong, name others."
    )
    retry_after_s = 60


class ClockBehindError(CoordinatorError):
    """The newest entry of the ledger lies in this clock's future."""

    code, status = "clock_behind", HTTPStatus.SERVICE_UNAVAILABLE
    title = "The ledger is ahead of the Coordinator's clock"
    action = (
        "Nothing was recorded. If this clock is wrong, set it right: the Coordinator goes on by itself. If it is "
        "right, the newest entry was written under a clock that was ahead: wait until then, or begin a new ledger."
    )
    retry_after_s = 60


class ClockDiffersError(CoordinatorError):
    """The owner's clock and the Coordinator's are more than a day apart."""

    code, status = "clock_differs", HTTPStatus.CONFLICT
    title = "The owner's clock and the Coordinator's differ"
    action = "Nothing was recorded. Set the one that is wrong right, and try again."


class SteadyClock:
    """The host's clock as far as it agrees with elapsed time.

    Args:
        wall_ms: The host's clock, Unix milliseconds.
        monotonic_ms: Milliseconds that nobody sets; a machine's sleep counts.
    """

    def __init__(self, *, wall_ms: Callable[[], int], monotonic_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_ms
        self._vouched_ms = 0
        self._base_ms = 0
        self.rebase()

    def rebase(self) -> None:
        """Believe the host's clock as it is now: an owner is about to begin or to continue the ledger."""
        self._base_ms = self._wall_ms() - self._monotonic_ms()

    def vouch(self, unix_ms: int) -> None:
        """It is *unix_ms* at least: a quorum of witnesses says so. It dates nothing that the host's clock denies."""
        self._vouched_ms = max(self._vouched_ms, unix_ms)

    def now_ms(self) -> int:
        """Unix milliseconds for a record: the host's clock or, where it has jumped, what has elapsed since the base."""
        said, elapsed = self._said_and_elapsed()
        return max(said, self._vouched_ms) if self._agree(said, elapsed) else elapsed

    def fault(self, newest_ms: int) -> CoordinatorError | None:
        """What keeps entries from being dated now, after one of *newest_ms*; None when nothing does."""
        said, elapsed = self._said_and_elapsed()
        if not self._agree(said, elapsed):
            known, whence = elapsed, "the time that has elapsed"
            if self._vouched_ms > elapsed:
                known, whence = self._vouched_ms, "what a quorum of witnesses has signed"
            return ClockJumpedError(seen=f"{_shown(said)} on this clock", wanted=f"about {_shown(known)}, by {whence}")
        if newest_ms > said + MAX_AHEAD_MS:
            return ClockBehindError(
                seen=f"the newest entry is of {_shown(newest_ms)}",
                wanted=f"not after {_shown(said)}, this clock",
            )
        return None

    def demand(self, newest_ms: int) -> None:
        """Raise what :meth:`fault` names."""
        fault = self.fault(newest_ms)
        if fault is not None:
            raise fault

    def compare(self, owner_ms: int | None) -> None:
        """Compare with an owner's clock, if he tells it. Raises ClockDiffersError."""
        said, _ = self._said_and_elapsed()
        if owner_ms is not None and abs(said - owner_ms) > MAX_JUMP_MS:
            raise ClockDiffersError(
                seen=f"{_shown(said)} at the Coordinator",
                wanted=f"within a day of {_shown(owner_ms)}, the owner's",
            )

    def _agree(self, said: int, elapsed: int) -> bool:
        # Witnesses stand in for elapsed time, which a paused machine lacks, and not for the clock: a quorum that is
        # wrong would date the ledger for good.
        return abs(said - max(elapsed, self._vouched_ms)) <= MAX_JUMP_MS

    def _said_and_elapsed(self) -> tuple[int, int]:
        return self._wall_ms(), self._base_ms + self._monotonic_ms()


def _shown(time_ms: int) -> str:
    return shown(time_ms) if 0 <= time_ms <= MAX_TIME_MS else f"{time_ms} ms"
