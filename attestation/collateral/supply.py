"""Documents by address, asked for as rarely as can be: one request for many callers, a budget, a memory of failures.

Two ways to ask: `lasting` for what never changes under its address (a chip's certificate for one TCB), `current` for
what does (revocation lists, TCB information): network first, and the last copy where the network gives nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from attestation.collateral.shelf import Document, Shelf
from attestation.errors import FetchError
from attestation.fetch import Fetcher

MAX_FAILURES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often the world outside may be asked.

    Attributes:
        at_once: requests under way at the same time.
        burst: requests that may follow each other immediately.
        refill_per_s: requests that may be made in the long run.
        failure_s: how long an address that failed is not asked again.
        current_s: how long a document that may change is taken as the newest.
    """

    at_once: int = 4
    burst: int = 64
    refill_per_s: float = 2.0
    failure_s: float = 30.0
    current_s: float = 300.0


class Supply:
    """Fetches through *fetcher*, keeps on *shelf*; for one event loop.

    Args:
        fetcher: the HTTP client.
        shelf: what was fetched before.
        clock_ms: Unix time, for the age of what is kept.
        monotonic_s: for budget and failures.
        patience: limits.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        shelf: Shelf,
        *,
        clock_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        patience: Patience | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._shelf = shelf
        self._clock_ms = clock_ms
        self._monotonic_s = monotonic_s
        self._patience = patience or Patience()
        self._slots = asyncio.Semaphore(self._patience.at_once)
        self._tokens = float(self._patience.burst)
        self._counted_s = monotonic_s()
        self._flights: dict[str, asyncio.Event] = {}
        self._failures: dict[str, tuple[float, FetchError]] = {}

    async def lasting(
        self, address: str, *, limit: int, notes: Sequence[str] = (), headers: Mapping[str, str] | None = None
    ) -> Document:
        """The document at *address*, which never changes: from the shelf if it is there.

        Raises:
            FetchError: see :meth:`Fetcher.get`; also when the budget is spent or *address* has just failed.
        """
        return await self._get(address, limit, notes, headers, oldest_ms=None)

    async def current(
        self, address: str, *, limit: int, notes: Sequence[str] = (), headers: Mapping[str, str] | None = None
    ) -> Document:
        """The document at *address*, newest first; the last copy where nobody answers.

        Args:
            address: its URL.
            limit: most bytes of its body.
            notes: names, in lower case, of the header that belongs to it: the first that is there is kept.
            headers: of the request.

        Raises:
            FetchError: nobody answers and there is no copy.
        """
        oldest_ms = self._clock_ms() - int(self._patience.current_s * 1000)
        try:
            return await self._get(address, limit, notes, headers, oldest_ms=oldest_ms)
        except FetchError:
            kept = self._shelf.get(address)
            if kept is None:
                raise
            return kept

    async def _get(
        self,
        address: str,
        limit: int,
        notes: Sequence[str],
        headers: Mapping[str, str] | None,
        *,
        oldest_ms: int | None,
    ) -> Document:
        while True:
            kept = self._shelf.get(address)
            if kept is not None and (oldest_ms is None or kept.fetched_ms >= oldest_ms):
                return kept
            self._recall_failure(address)
            landed = self._flights.get(address)
            if landed is None:
                break
            await landed.wait()  # Somebody else is asking: then it is on the shelf, or has failed, or was given up.
        landed = self._flights[address] = asyncio.Event()
        try:
            # Who has an older copy is not kept waiting for long.
            return await self._fetch(address, limit, notes, headers, attempts=None if kept is None else 1)
        except FetchError as error:
            self._remember_failure(address, error)
            raise
        finally:
            del self._flights[address]
            landed.set()

    async def _fetch(
        self, address: str, limit: int, notes: Sequence[str], headers: Mapping[str, str] | None, *, attempts: int | None
    ) -> Document:
        async with self._slots:
            self._spend(address)
            answer = await self._fetcher.get(address, limit=limit, headers=headers, attempts=attempts)
        note = next((answer.headers[name] for name in notes if name in answer.headers), "")
        document = Document(answer.body, note, self._clock_ms())
        self._shelf.put(address, document)
        return document

    def _spend(self, address: str) -> None:
        now_s = self._monotonic_s()
        grown = self._tokens + (now_s - self._counted_s) * self._patience.refill_per_s
        self._tokens, self._counted_s = min(float(self._patience.burst), grown), now_s
        if self._tokens < 1:
            raise FetchError(
                f"{address} is not asked: too many requests for collateral in too short a time", may_pass=True
            )
        self._tokens -= 1

    def _recall_failure(self, address: str) -> None:
        failure = self._failures.get(address)
        if failure is None:
            return
        until_s, error = failure
        if self._monotonic_s() < until_s:
            raise FetchError(
                f"{error} (a moment ago; not asked again yet)", status=error.status, may_pass=error.may_pass
            )
        del self._failures[address]

    def _remember_failure(self, address: str, error: FetchError) -> None:
        if len(self._failures) >= MAX_FAILURES:
            self._failures.pop(next(iter(self._failures)))
        self._failures[address] = (self._monotonic_s() + self._patience.failure_s, error)
