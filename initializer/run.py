"""The Initializer's life: try until a certificate is there, write it, end or renew. One try is in `obtain`."""

import hashlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from attestation.errors import AttestationError, IssueError
from attestation.issuer import Issuer
from initializer.errors import InitializerError, LocalFaultError, NoAnswerError, RefusedError
from initializer.files import place, prepare
from initializer.known import known_head
from initializer.obtain import Connect, Obtained, begin_again, obtain
from ledger.checkpoint import Checkpoint
from wire.client import CertificateChangedError
from wire.problem import RemoteError, RemoteRefusedError
from wire.retry import Backoff, asked_s, passes

RENEW_AT = 2 / 3
SOONEST_RENEWAL = timedelta(minutes=10)
LONGEST_SLEEP_S = 3600.0  # A clock that is set, or a machine that slept, is noticed within the hour.

log = structlog.get_logger("initializer")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything outside: the Coordinator, the secure processor, clock, sleep and chance (a number in [0, 1))."""

    connect: Connect
    source: Issuer
    clock: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    chance: Callable[[], float]
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(slots=True)
class Initializer:
    """One pod's Initializer. `placed` says whether a whole set of files is in place."""

    world: World
    directory: Path
    attempts: int = 0
    placed: bool = False
    _head: Checkpoint | None = None

    async def once(self) -> Obtained:
        """Get a certificate, however long it takes, and write the files.

        Raises:
            InitializerError: refused, wrong, unreachable or a local fault; files that were there before are untouched.
        """
        prepare(self.directory)
        if self._head is None:
            self._head = known_head(self.directory)
        obtained = await self._obtain()
        checked = obtained.checked
        place(self.directory, obtained.files(), label=hashlib.sha256(checked.bundle.leaf).hexdigest()[:16])
        self.placed = True
        self._head = checked.head
        log.info(
            "placed",
            directory=str(self.directory),
            serial=f"{checked.leaf.serial_number:x}",
            not_after=checked.leaf.not_valid_after_utc.isoformat(),
            ledger=checked.head.origin,
            seq=checked.seq,
            secrets=len(checked.secrets),
        )
        return obtained

    async def forever(self) -> None:
        """Get a certificate, and a new one at two thirds of each one's life, until cancelled.

        Raises:
            InitializerError: as `once`.
        """
        while True:
            obtained = await self.once()
            # A certificate may be due at once, where clocks differ by months or the CA is about to end.
            due = max(renewal_time(obtained), self.world.clock() + SOONEST_RENEWAL)
            log.info("renewal_planned", at=due.isoformat())
            while (left := (due - self.world.clock()).total_seconds()) > 0:
                await self.world.sleep(min(left, LONGEST_SLEEP_S))

    async def _obtain(self) -> Obtained:
        failures = 0
        while True:
            try:
                return await obtain(
                    self.world.connect, self.world.source, known_head=self._head, clock=self.world.clock
                )
            except RemoteError as error:
                if not (passes(error) or isinstance(error, CertificateChangedError) or _again(error)):
                    raise RefusedError(str(error)) from error
                failures += 1
                await self._wait(failures, error.code, str(error), asked_s(error))
            except IssueError as error:
                # The host's services make evidence too, and may be late at the pod's start.
                failures += 1
                if failures >= (self.attempts or math.inf):
                    raise LocalFaultError(f"no evidence could be made: {error}") from error
                await self._wait(failures, error.code, str(error), 0.0)
            except AttestationError as error:
                raise LocalFaultError(f"no evidence could be made: {error}") from error

    async def _wait(self, failures: int, code: str, reason: str, at_least_s: float) -> None:
        if failures >= (self.attempts or math.inf):
            raise NoAnswerError(f"gave up after {failures} tries; the last one: {reason}")
        pause_s = max(self.world.backoff.delay_s(failures, self.world.chance()), at_least_s)
        log.warning("trying_again", code=code, reason=reason, tries=failures, pause_s=round(pause_s, 3))
        await self.world.sleep(pause_s)


def renewal_time(obtained: Obtained) -> datetime:
    """When two thirds of the leaf's life are over."""
    leaf = obtained.checked.leaf
    life: timedelta = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + life * RENEW_AT


def _again(error: RemoteError) -> bool:
    return isinstance(error, RemoteRefusedError) and begin_again(error)


__all__ = ["Initializer", "InitializerError", "World", "renewal_time"]
