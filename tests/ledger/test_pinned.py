"""The writer's thread: one, in order, and every outcome reaches who waits."""

import asyncio
import threading

import pytest

from ledger.pinned import PinnedThread


async def test_every_call_runs_in_the_same_thread_and_in_order() -> None:
    """LMDB's writer would move between threads."""
    thread = PinnedThread("test")
    seen: list[int] = []

    def note(number: int) -> str:
        seen.append(number)
        return threading.current_thread().name

    names = await asyncio.gather(*(thread.run(note, number) for number in range(50)))
    assert (set(names), seen) == ({"test"}, list(range(50)))
    thread.stop()
    thread.stop()
    assert "test" not in {each.name for each in threading.enumerate()}


async def test_errors_reach_the_one_who_waits() -> None:
    """A failed append would look like one that never ends."""
    thread = PinnedThread("test")
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda divisor: 1 // divisor, 0)
    assert await thread.run(lambda divisor: 1 // divisor, 1) == 1
    thread.stop()


def test_a_call_outlives_the_loop_that_waited_for_it() -> None:
    """A shutdown in the middle of a commit would end in a traceback, or never."""
    thread = PinnedThread("test")
    begin, done = threading.Event(), threading.Event()

    def slow(_: None) -> None:
        begin.set()
        done.wait(10)

    async def give_up() -> None:
        waiting = asyncio.ensure_future(thread.run(slow, None))
        await asyncio.to_thread(begin.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(give_up())
    done.set()
    thread.stop()


async def test_what_follows_is_done_in_the_loop_before_the_waiter_goes_on() -> None:
    """A commit would be answered in the store's thread, a turn late, twice, or after the wait for it was given up."""
    thread = PinnedThread("test")
    seen: list[object] = []

    def follow(result: int) -> None:
        seen.append((result, threading.current_thread() is threading.main_thread()))

    waiting = thread.start(abs, -1, follow)
    seen.append(await waiting)
    assert seen == [(1, True), 1]

    def fail(result: int) -> None:
        raise ValueError(result)

    with pytest.raises(ValueError, match="2"):
        await thread.start(abs, -2, fail)
    with pytest.raises(TypeError):
        await thread.start(abs, "no number", follow)  # type: ignore[arg-type]
    given_up = thread.start(abs, -3, follow)
    given_up.cancel()
    assert await thread.run(abs, -4) == 4
    thread.stop()
    assert seen == [(1, True), 1]
