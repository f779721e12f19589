"""Threads that take several jobs at a time: one hand-over for up to eight of them. What the jobs do is not known here.

A hand-over between event loop and thread costs as much as a small signature. Jobs that wait anyway are taken together,
and so their results come back together and are recorded in one commit. A job that waits alone is taken alone, at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

_T = TypeVar("_T")
MOST_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    answer: asyncio.Future[Any]


class Crew:
    """Does jobs for one event loop on *size* threads of *threads*."""

    def __init__(self, threads: ThreadPoolExecutor, *, size: int) -> None:
        self._threads = threads
        self._size = size
        self._waiting: deque[_Job] = deque()
        self._at_work = 0

    async def do(self, work: Callable[[], _T]) -> _T:
        """What *work* returns or raises, done on another thread."""
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future())
        self._waiting.append(job)
        self._call(loop)
        return cast(_T, await job.answer)

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and self._at_work < self._size:
            self._at_work += 1
            self._threads.submit(self._shift, loop)

    def _shift(self, loop: asyncio.AbstractEventLoop) -> None:
        """On a thread: take jobs until none is left."""
        while jobs := self._take():
            loop.call_soon_threadsafe(_deliver, [_done(job) for job in jobs])
        loop.call_soon_threadsafe(self._leave, loop)

    def _take(self) -> list[_Job]:
        share = -(-len(self._waiting) // self._size)  # The other threads get their part.
        jobs: list[_Job] = []
        for _ in range(min(MOST_AT_ONCE, share)):
            try:
                jobs.append(self._waiting.popleft())
            except IndexError:  # Another thread was faster.
                break
        return jobs

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        self._at_work -= 1
        self._call(loop)  # A job may have come while this thread was leaving.


def _done(job: _Job) -> tuple[asyncio.Future[Any], Any, Exception | None]:
    if job.answer.cancelled():
        return job.answer, None, None
    try:
        return job.answer, job.work(), None
    except Exception as error:  # noqa: BLE001 - it belongs to the one who waits for the job.
        return job.answer, None, error


def _deliver(results: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for answer, value, error in results:
        if answer.done():
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
