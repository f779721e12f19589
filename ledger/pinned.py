"""One thread, always the same one, for calls that block: LMDB wants its writer pinned. Knows nothing of ledgers.

Leaner than an executor's future, of which a commit would pay two more turns of the event loop.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

A = TypeVar("A")
R = TypeVar("R")
_Then: TypeAlias = Callable[[Any], None] | None
_Call: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[Any], Any], Any, _Then]


class PinnedThread:
    """Runs what it is given, one call after the other. Started by the first call, ended by stop()."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[[A], R], argument: A) -> R:
        """``function(argument)`` in the thread. Cancelling the wait does not stop the call."""
        return await self.start(function, argument)

    def start(
        self, function: Callable[[A], R], argument: A, then: Callable[[R], None] | None = None
    ) -> "asyncio.Future[R]":
        """As run(), to be awaited. *then* is called in the event loop with the result, a turn before who awaits it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._calls.put((loop, answer, function, argument, then))
        return answer

    def stop(self) -> None:
        """Wait for the calls that were given, and end the thread."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            loop, answer, function, argument, then = call
            try:
                result = function(argument)
            except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits
                _tell(loop, _fail, answer, error)
            else:
                _tell(loop, _succeed, answer, result, then)


def _tell(loop: asyncio.AbstractEventLoop, how: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(how, *arguments)
    except RuntimeError:  # the event loop is closed: nobody waits any more
        return


def _succeed(answer: "asyncio.Future[Any]", result: object, then: _Then) -> None:
    if answer.done():  # given up
        return
    try:
        if then is not None:
            then(result)
    except Exception as error:  # noqa: BLE001 - it belongs to the one who waits
        answer.set_exception(error)
    else:
        answer.set_result(result)


def _fail(answer: "asyncio.Future[Any]", error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
