"""One writer: commands in, durable signed entries out. Knows no command's meaning; the domain is a Machine.

A batch is decided against a candidate state, signed here and on a helper thread, and written by one pinned thread; then
the candidate becomes the state and the answers go out. Nothing is answered before the store has confirmed it, refusals
included, since they too may rest on what the batch would have recorded.

If an append fails, nobody knows whether it took effect. The writer is then *stale*: before anything else it opens the
store again and demands that it extends the last confirmed (size, root). A batch found there byte for byte was
committed; entries of another writer are judged by the machine; anything less is a fork, and the writer stops for good.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.batch import Candidate, Commit, Decision, E, Machine, Proposal, S, build_commit, decide_all, sign_all
from ledger.checkpoint import Checkpoint, epoch_name
from ledger.entry import Entry
from ledger.errors import HeadMovedError, LedgerError, LedgerForkedError, StoreError, WriterClosedError
from ledger.log import Log
from ledger.note import NoteSigner
from ledger.pinned import PinnedThread
from ledger.recovery import reload_and_compare
from ledger.store import Batch

__all__ = ["Committed", "Machine", "Proposal", "Writer"]

C = TypeVar("C")
MAX_BATCH: Final = 512
MAX_QUEUE: Final = 4096
MAX_ATTEMPTS: Final = 8  # of one batch, while other writers keep winning
IDLE_S: Final = 0.2  # without a command for so long, the finished note is stored by itself


@dataclass(frozen=True, slots=True)
class Committed(Generic[S]):
    """A command's answer. ``finished`` is the raw note that covers its entries; empty for a ledger without entries."""

    entries: tuple[Entry, ...]
    state: S  # after this command
    size: int
    finished: str


@dataclass(slots=True)
class _Item(Generic[C, S]):
    command: C
    answer: asyncio.Future[Committed[S]]

    def give(self, committed: Committed[S]) -> None:
        if not self.answer.done():  # the submitter may have gone
            self.answer.set_result(committed)

    def refuse(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Writer(Generic[S, C, E]):
    """Appends to *log* with the keys of one epoch. ``run()`` lives in the caller's TaskGroup until ``close()``."""

    def __init__(
        self,
        log: Log,
        machine: Machine[S, C, E],
        state: S,
        *,
        epoch: Ed25519PrivateKey,
        ledger: Ed25519PrivateKey,
        clock_ms: Callable[[], int],
        origin: str,
    ) -> None:
        """*state* is what replaying *log* gave; *origin* is the ledger's name. Raises LedgerError if it has another."""
        if log.origin not in {None, origin}:
            raise LedgerError(f"the stored ledger is {log.origin}, the keys are of {origin}: another seed, or storage")
        self.log = log
        self.state = state
        self.stopped: LedgerError | None = None
        self._machine = machine
        self._epoch_key = epoch
        self._signer = epoch.public_key().public_bytes_raw()
        self._epoch = NoteSigner(epoch_name(origin), epoch)
        self._ledger = NoteSigner(origin, ledger)
        self._origin = origin
        self._clock_ms = clock_ms
        self._queue: deque[_Item[C, S]] = deque()
        self._room: deque[asyncio.Future[None]] = deque()  # submitters who wait until the queue is shorter
        self._arrived: asyncio.Future[None] | None = None  # run() waits for it while there is nothing to do
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._closing = self._ended = False
        self._stale = False
        self._doubt: Commit[S] | None = None
        self._store_thread = PinnedThread("ledger-store")
        self._helper = ThreadPoolExecutor(1, "ledger-sign")

    @property
    def waiting(self) -> int:
        """How many commands wait for the next batch."""
        return len(self._queue)

    async def submit(self, command: C) -> Committed[S]:
        """Decide and record *command*; returns when it is durable.

        Raises what decide() raised; StoreError (it is unknown whether the command was recorded: ask again with the same
        request id), StoreFullError, LedgerForkedError, WriterClosedError.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        while len(self._queue) >= MAX_QUEUE:
            room = loop.create_future()
            self._room.append(room)
            await room
            self._check_open()
        item: _Item[C, S] = _Item(command, loop.create_future())
        self._queue.append(item)
        self._wake()
        return await item.answer

    async def run(self) -> None:
        """Take commands until close(); then write the last finished note and let the threads go."""
        try:
            while await self._something_to_do():
                await self._process(self._take())
            await self._store_finished()
        finally:
            self._ended = True
            if self._idle is not None:
                self._idle.cancel()
            self._refuse_waiting()
            self._helper.shutdown()
            self._store_thread.stop()

    async def close(self) -> None:
        """Take no more commands; run() answers those that wait and returns."""
        self._closing = True
        self._wake()

    # --- the queue: a deque and a future, since asyncio.Queue costs more than deciding a command ---

    async def _something_to_do(self) -> bool:
        """Wait for a command, and store the finished note when none comes; False once closed and nothing waits."""
        loop = asyncio.get_running_loop()
        self._idle_since = loop.time()
        while not self._queue:
            if self._closing:
                return False
            if self._idle is None and self.log.unstored_finished is not None and not self._stale:
                self._idle = loop.call_later(IDLE_S, self._after_idle, loop)
            self._arrived = loop.create_future()
            await self._arrived
            self._arrived = None
            if not self._queue and not self._closing:
                await self._store_finished()
        return True

    def _take(self) -> list[_Item[C, S]]:
        """The next commands, at most MAX_BATCH."""
        queue = self._queue
        items = [queue.popleft() for _ in range(min(len(queue), MAX_BATCH))]
        for _ in range(min(len(self._room), MAX_QUEUE - len(queue))):
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
        return items

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _after_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for many commits: what came in between only moves it on."""
        self._idle = None
        if self._arrived is None or (left := self._idle_since + IDLE_S - loop.time()) <= 0:
            self._wake()
        else:
            self._idle = loop.call_later(left, self._after_idle, loop)

    def _check_open(self) -> None:
        if self.stopped is not None or self._closing or self._ended:
            raise self._closed_error()

    def _closed_error(self) -> LedgerError:
        """A new one each time: an exception raised again and again collects the frames of all who saw it."""
        if self.stopped is not None:
            return LedgerForkedError(str(self.stopped))
        return WriterClosedError("the Coordinator is shutting down and recorded nothing of this: ask another, or later")

    def _refuse_waiting(self) -> None:
        while self._queue:
            self._queue.popleft().refuse(self._closed_error())
        while self._room:  # they ask again and find it closed
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)

    # --- one batch ---

    async def _process(self, items: Sequence[_Item[C, S]]) -> None:
        try:
            await self._commit_or_raise(items)
        except LedgerError as error:
            if isinstance(error, LedgerForkedError) and self.stopped is None:
                self.stopped = error
            for item in items:
                item.refuse(error)
        except BaseException as error:
            # Cancelled, or a mistake of ours: nobody may wait for ever.
            for item in items:
                item.refuse(StoreError(f"the writer has ended ({type(error).__name__})"))
            raise

    async def _commit_or_raise(self, items: Sequence[_Item[C, S]]) -> None:
        for _ in range(MAX_ATTEMPTS):
            if self.stopped is not None:
                raise self._closed_error()
            if self._stale:
                await self._reload()
            waiting = [item for item in items if not item.answer.cancelled()]
            log = self.log
            now_ms = max(self._clock_ms(), log.last_time_ms)
            candidate = Candidate(self.state, log.position, now_ms, [], {}, {})
            outcomes = decide_all(
                self._machine, candidate, [item.command for item in waiting],
                signer=self._signer, earliest_ms=log.last_time_ms,
            )  # fmt: skip
            if not candidate.entries:
                self._answer(waiting, outcomes, ())
                return
            entries = sign_all(candidate.entries, self._epoch_key, self._helper)
            commit = build_commit(
                candidate, entries, previous=log.position, frontier=log.frontier(), origin=self._origin,
                epoch=self._epoch, finished=log.unstored_finished,
            )  # fmt: skip
            if await self._append(commit, partial(self._answer, waiting, outcomes, commit.entries)):
                return
        raise HeadMovedError(f"other writers were faster {MAX_ATTEMPTS} times; nothing was recorded: ask again")

    async def _append(self, commit: Commit[S], answer: Callable[[], None]) -> bool:
        """True if *commit* is recorded, and answered; False if another writer was faster.

        Raises StoreError if it is not, or nobody knows.
        """

        def recorded_now(_: None) -> None:
            self._confirm(commit)
            answer()

        try:
            # Answered in the turn in which it is heard: this coroutine would be woken one turn of the loop later.
            await self._store_thread.start(self.log.store.append, commit.batch, recorded_now)
        except HeadMovedError:
            self._stale = True
            return False
        except Exception as error:
            self._stale, self._doubt = True, commit
            failure = error if isinstance(error, StoreError) else StoreError(f"the store failed: {error}")
            try:
                recorded = await self._reload()
            except StoreError:  # still unreadable: it stays in doubt until the next batch looks again
                raise failure from error
            if not recorded:
                raise failure from error
            answer()
        return True

    def _confirm(self, commit: Commit[S]) -> None:
        log = self.log
        # The ledger key signs only now. Ed25519 is deterministic: the epoch's line is the draft's.
        finished = f"{commit.text}\n{self._ledger.line(commit.text.encode())}{commit.epoch_line}"
        # Nothing raises from here on.
        log.advance(
            frontier=commit.frontier, root=commit.root, head=commit.head, time_ms=commit.time_ms, origin=self._origin
        )
        if commit.batch.finished is not None:
            log.finished_was_stored(commit.batch.finished.decode())
        self.state = commit.state
        log.set_finished(finished)

    def _answer(
        self,
        items: Sequence[_Item[C, S]],
        outcomes: Sequence[Decision[S] | Exception],
        entries: tuple[Entry, ...],
    ) -> None:
        size, finished = self.log.size, self.log.finished or ""
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Decision):
                item.give(Committed(entries[outcome.start : outcome.end], outcome.state, size, finished))
            else:
                item.refuse(outcome)

    # --- when the store has failed ---

    async def _reload(self) -> bool:
        """Read the store again and adopt what stands there; True if the commit in doubt is part of it.

        Raises LedgerForkedError if it does not extend what was confirmed, StoreError if it cannot be read yet.
        """
        found = await self._store_thread.run(reload_and_compare, self.log)
        rest, state, recorded = found.entries, self.state, False
        doubt = self._doubt
        if doubt is not None and [entry.raw for entry in rest[: len(doubt.entries)]] == doubt.batch.entries:
            await self._store_thread.run(self._check_blobs, doubt)
            rest, state, recorded = rest[len(doubt.entries) :], doubt.state, True
        if rest:
            try:
                state = self._machine.replay(state, rest)
            except Exception as error:
                raise LedgerForkedError(
                    f"after size {self.log.size} the storage holds entries that the rules refuse: {error}"
                ) from error
        if found.entries:
            log = self.log
            log.advance(
                frontier=found.frontier, root=found.frontier.root(), head=found.head, time_ms=found.time_ms,
                origin=self._origin,
            )  # fmt: skip
            if self._machine.signs(state):
                text = Checkpoint(self._origin, log.size, log.root).text()
                raw = text.encode()
                log.set_finished(f"{text}\n{self._ledger.line(raw)}{self._epoch.line(raw)}")
            self.state = state
        self._stale, self._doubt = False, None
        return recorded

    def _check_blobs(self, commit: Commit[S]) -> None:
        for digest, blob in commit.batch.blobs.items():
            if self.log.store.blob(digest) != blob:
                raise LedgerForkedError(f"the storage kept a batch's entries but not its blob {digest.hex()}")

    async def _store_finished(self) -> None:
        note, position = self.log.unstored_finished, self.log.position
        if note is None or self._stale or self.stopped is not None:
            return
        try:
            batch = Batch(previous=position, head=position, finished=note.encode())
            await self._store_thread.run(self.log.store.append, batch)
        except (LedgerError, OSError):
            # The note can be signed again at any time, but the store must be looked at before the next batch.
            self._stale = True
        else:
            self.log.finished_was_stored(note)
