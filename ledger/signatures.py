"""Verifying many signatures on all cores. Knows records only as (signer, signature, hash of the body).

Helpers are processes: a thread would get the interpreter's lock only now and then while the main thread parses, and a
replay is half parsing. A helper is given its share of a chunk, works on it while the main process goes on with its own
work, and answers with the first bad one. What a dead helper leaves undone is done here, so helpers change nothing but
the time it takes.
"""

import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

from ledger.entry import signature_holds
from ledger.helper import HelperProcess

Job: TypeAlias = tuple[bytes, bytes, bytes]  # signer, signature, SHA-256(body)
WORTH_A_HELPER: Final = 4096  # signatures: a third of a second, about what starting a process costs
COUNT: Final = struct.Struct(">I")
ANSWER: Final = struct.Struct(">I")
NONE_BAD: Final = 2**32 - 1
JOB_BYTES: Final = 32 + 64 + 32


class Signatures:
    """Verifies chunk after chunk: start() a chunk, do something else, finish() it."""

    def __init__(self, workers: int, expected: int = 0) -> None:
        """Use *workers* cores, this process's included, if *expected* signatures are worth it."""
        self._helpers = [_Helper() for _ in range(workers - 1)] if expected >= WORTH_A_HELPER else []
        self._jobs: Sequence[Job] = ()
        self._shares: list[tuple[_Helper, int, int]] = []  # who verifies which [start, end)
        self._mine = 0  # from here on this process verifies
        self._started = 0.0
        self._elsewhere_s = 0.0  # how long the caller did something else during the last chunk
        self._each_s = 100e-6  # how long one signature takes, measured as we go

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in self._helpers:
            helper.stop()

    def start(self, jobs: Sequence[Job]) -> None:
        """Give the helpers their shares of *jobs*; finish() is due before the next chunk."""
        self._jobs, self._shares, self._mine = jobs, [], 0
        ready = [helper for helper in self._helpers if helper.ready()]
        # So many that helpers and this process, which has its other work besides, are done together.
        total_s = self._elsewhere_s + len(jobs) * self._each_s
        share = int(total_s / ((len(ready) + 1) * self._each_s))
        for helper in ready:
            end = min(self._mine + share, len(jobs))
            if end > self._mine and helper.give(jobs[self._mine : end]):
                self._shares.append((helper, self._mine, end))
                self._mine = end
        self._started = time.perf_counter()

    def finish(self) -> int | None:
        """Verify the rest; the index of the first signature of the chunk that does not hold."""
        jobs, began = self._jobs, time.perf_counter()
        self._elsewhere_s = began - self._started
        mine = first_bad(jobs, self._mine, len(jobs))
        if len(jobs) > self._mine and mine is None:
            self._each_s = (time.perf_counter() - began) / (len(jobs) - self._mine)
        # Every answer is read, so that none is taken for the next chunk's. Shares come in order, ours last.
        found = [self._result(helper, start, end) for helper, start, end in self._shares]
        return next((bad for bad in (*found, mine) if bad is not None), None)

    def first_bad(self, jobs: Sequence[Job]) -> int | None:
        """start() and finish() in one."""
        self.start(jobs)
        return self.finish()

    def _result(self, helper: "_Helper", start: int, end: int) -> int | None:
        answer = helper.answer()
        if answer is None:  # it died: what it was given is done here
            return first_bad(self._jobs, start, end)
        return None if answer == NONE_BAD else start + answer


def first_bad(jobs: Sequence[Job], start: int, end: int) -> int | None:
    """The index of the first of jobs [start, end) that does not hold, by this process alone."""
    for index in range(start, end):
        signer, signature, digest = jobs[index]
        if not signature_holds(signer, signature, digest):
            return index
    return None


class _Helper(HelperProcess):
    """A process of ledger/signature_worker.py."""

    def __init__(self) -> None:
        super().__init__("ledger.signature_worker")

    def give(self, jobs: Sequence[Job]) -> bool:
        """Hand over *jobs*; False if the process has died."""
        raw = b"".join(part for job in jobs for part in job)
        if len(raw) != len(jobs) * JOB_BYTES:
            return False  # no record has fields of other lengths, and the helper could not tell them apart
        return self.write(COUNT.pack(len(jobs)) + raw)

    def answer(self) -> int | None:
        """What the process found; None if it died before it could say."""
        raw = self.read(ANSWER.size)
        return None if raw is None else int(ANSWER.unpack(raw)[0])
