"""Jobs on threads: each is done once and answered to the one who waits for it, however they are bunched."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.crew import MOST_AT_ONCE, Crew


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_every_job_is_answered_with_its_own_result(size: int) -> None:
    """A certificate would go to another pod otherwise."""
    done: list[int] = []
    with ThreadPoolExecutor(size) as threads:
        crew = Crew(threads, size=size)

        def job(number: int) -> int:
            done.append(number)
            return number * number

        results = await asyncio.gather(*(crew.do(lambda n=number: job(n)) for number in range(200)))  # type: ignore[misc]
    assert results == [number * number for number in range(200)]
    assert sorted(done) == list(range(200))


async def test_a_job_that_fails_fails_alone() -> None:
    with ThreadPoolExecutor(1) as threads:
        crew = Crew(threads, size=1)
        jobs = [crew.do(lambda: 1), crew.do(lambda: 1 // 0), crew.do(lambda: 3)]
        first, second, third = await asyncio.gather(*jobs, return_exceptions=True)
    assert (first, third) == (1, 3)
    assert isinstance(second, ZeroDivisionError)


async def test_jobs_that_wait_are_taken_together_and_bounded() -> None:
    """One delivery for all of them is what saves the time; without bound the first would wait for the last."""
    gate, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        gate.wait()

    order: list[str] = []
    with ThreadPoolExecutor(1) as threads:
        crew = Crew(threads, size=1)

        async def ask(name: str) -> None:
            await crew.do(lambda: order.append(f"done {name}"))
            order.append(f"told {name}")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crew.do(hold))
            await asyncio.to_thread(begun.wait)
            for number in range(MOST_AT_ONCE + 1):
                tasks.create_task(ask(str(number)))
            await asyncio.sleep(0)
            gate.set()
    first_told = next(at for at, line in enumerate(order) if line.startswith("told"))
    assert [line for line in order if line.startswith("done")] == [f"done {n}" for n in range(MOST_AT_ONCE + 1)]
    assert first_told >= MOST_AT_ONCE


async def test_a_job_whose_asker_is_gone_is_not_done() -> None:
    gate, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        gate.wait()

    done: list[str] = []
    with ThreadPoolExecutor(1) as threads:
        crew = Crew(threads, size=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crew.do(hold))
            gone = tasks.create_task(crew.do(lambda: done.append("gone")))
            kept = tasks.create_task(crew.do(lambda: done.append("kept")))
            await asyncio.to_thread(begun.wait)
            gone.cancel()
            gate.set()
            await kept
    assert done == ["kept"]


async def test_a_crew_that_had_nothing_to_do_works_again() -> None:
    with ThreadPoolExecutor(2) as threads:
        crew = Crew(threads, size=2)
        for number in range(50):
            assert await crew.do(lambda n=number: n) == number  # type: ignore[misc]
