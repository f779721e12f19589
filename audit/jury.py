"""Where cases are judged: in this process while they are few, on all cores when they are many. It decides nothing."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Final, Self

from audit.cases import Case, Fault, Head, Knowledge
from audit.judging import Judge

BATCH: Final = 128  # Long enough that sending it costs little beside judging it.
FEW: Final = 512  # Below, starting processes takes longer than judging.
AHEAD: Final = 6  # Batches under way per process: bounds memory, and no process waits for the reader.


class Jury:
    """Takes cases, gives faults; a context manager.

    Args:
        workers: Processes to judge in; 1 or fewer: this one alone.
        knowledge: See :class:`audit.judging.Judge`.
    """

    def __init__(self, *, workers: int, knowledge: Knowledge | None = None) -> None:
        self._workers = workers
        self._knowledge = knowledge
        self._waiting: list[Case] = []
        self._pool: ProcessPoolExecutor | None = None
        self._running: deque[Future[tuple[list[Fault], list[Head]]]] = deque()
        self._faults: list[Fault] = []
        self._heads: list[Head] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, case: Case) -> None:
        """Have *case* judged, now or later."""
        self._waiting.append(case)
        if self._workers > 1 and len(self._waiting) >= (FEW if self._pool is None else BATCH):
            self._start()

    def faults(self) -> list[Fault]:
        """Every fault of every case submitted so far, in the order of the ledger. Waits for all of them."""
        if self._pool is None:
            judge = Judge(self._knowledge)
            self._faults += [fault for case in self._waiting for fault in judge.judge(case)]
            self._heads += judge.heads
            self._waiting = []
        elif self._waiting:
            self._start()
        self._collect(0)
        return sorted(self._faults, key=lambda fault: fault.seq)

    @property
    def heads(self) -> list[Head]:
        """The heads that certificates carry, once :meth:`faults` has waited for all cases."""
        return self._heads

    def _collect(self, left: int) -> None:
        while len(self._running) > left:
            faults, heads = self._running.popleft().result()
            self._faults += faults
            self._heads += heads

    def _start(self) -> None:
        if self._pool is None:
            # Started afresh: a fork would copy the threads' locks and the store's file handles of this process.
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=get_context("spawn"), initializer=_prepare, initargs=(self._knowledge,)
            )
        cases, self._waiting = self._waiting, []
        for at in range(0, len(cases), BATCH):
            self._running.append(self._pool.submit(_judge, cases[at : at + BATCH]))
        self._collect(AHEAD * self._workers)


_JUDGE: list[Judge] = []


def _prepare(knowledge: Knowledge | None) -> None:
    _JUDGE[:] = [Judge(knowledge)]


def _judge(cases: Sequence[Case]) -> tuple[list[Fault], list[Head]]:
    judge = _JUDGE[0]
    faults = [fault for case in cases for fault in judge.judge(case)]
    heads, judge.heads = judge.heads, []
    return faults, heads
