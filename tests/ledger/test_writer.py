"""The writer: what is answered is recorded, what fails goes nowhere, and history never goes back."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import epoch_name, open_finished
from ledger.errors import (
    HeadMovedError,
    LedgerContentError,
    LedgerError,
    LedgerForkedError,
    StoreError,
    StoreFullError,
    WriterClosedError,
)
from ledger.log import Log, open_log
from ledger.memory import MemoryStore
from ledger.note import ed25519_key
from ledger.store import Store
from ledger.writer import IDLE_S, Writer
from tests.support.faulty_store import FaultyStore
from tests.support.ledger_machine import (
    EPOCH,
    LEDGER,
    ORIGIN,
    START_MS,
    Clock,
    Counted,
    Note,
    NoteMachine,
    RefusedError,
    make_writer,
)  # fmt: skip

NoteWriter = Writer[Counted, Note, bytes]
OTHER_EPOCH = Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))


@asynccontextmanager
async def running(writer: NoteWriter) -> AsyncIterator[NoteWriter]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        try:
            yield writer
        finally:
            await writer.close()


def reopened(store: Store) -> Log:
    return open_log(store, workers=1)


async def test_an_answer_means_recorded_and_signed_twice() -> None:
    """A certificate would leave that the ledger does not hold."""
    store = MemoryStore()
    async with running(make_writer(Log.empty(store))) as writer:
        answer = await writer.submit(Note((b"a", b"b"), (b"blob",), bytes(32)))
        assert (answer.size, answer.state.count, [entry.body.seq for entry in answer.entries]) == (2, 2, [0, 1])
        assert [store.entries(seq, seq + 1) for seq in range(2)] == [[entry.raw] for entry in answer.entries]
        keys = {
            "ledger_key": ed25519_key(ORIGIN, LEDGER.public_key().public_bytes_raw()),
            "epoch_keys": [ed25519_key(epoch_name(ORIGIN), EPOCH.public_key().public_bytes_raw())],
        }
        checkpoint = open_finished(answer.finished.encode(), **keys)  # type: ignore[arg-type]
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, 2, writer.log.root)
        assert writer.log.blob(hashlib.sha256(b"blob").digest()) == b"blob"
        found = writer.log.find_request(bytes(32))
        assert found == answer.entries[0]
        assert writer.log.entry(1) == answer.entries[1]
        assert writer.state == answer.state
    again = reopened(store)
    assert (again.size, again.root, again.head, again.finished) == (
        2,
        writer.log.root,
        writer.log.head,
        answer.finished,
    )


async def test_a_batch_is_decided_in_order_and_committed_at_once() -> None:
    """Commands of one batch would not see each other, or each would cost a commit."""
    store = FaultyStore()
    writer = make_writer(Log.empty(store))
    waiting = [asyncio.ensure_future(writer.submit(Note((bytes([n]),)))) for n in range(100)]
    await asyncio.sleep(0)
    async with running(writer):
        answers = await asyncio.gather(*waiting)
    assert [answer.state.count for answer in answers] == list(range(1, 101))
    assert {answer.size for answer in answers} == {100}
    assert [len(batch.entries) for batch in store.appended] == [100, 0]  # and the finished note at the end
    assert reopened(store).size == 100


async def test_a_refusal_reaches_its_submitter_and_leaves_no_trace() -> None:
    """One bad command would spoil its neighbours, or be recorded."""
    store = MemoryStore()
    writer = make_writer(Log.empty(store))
    async with running(writer):
        results = await asyncio.gather(
            writer.submit(Note((b"a",))),
            writer.submit(Note((b"x",), refuse=True)),
            writer.submit(Note((bytes(20_000),))),
            writer.submit(Note((b"b", bytes(20_000)))),
            writer.submit(Note((b"c",), time_ms=1)),
            writer.submit(Note((b"b",))),
            return_exceptions=True,
        )
    assert isinstance(results[1], RefusedError)
    assert [isinstance(results[at], LedgerContentError) for at in (2, 3)] == [True, True]
    assert isinstance(results[4], LedgerError)
    assert writer.state.count == writer.log.size == reopened(store).size == 2


async def test_no_events_are_answered_and_nothing_is_written() -> None:
    """An identical set would write to the ledger, or wait for ever."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        answer = await writer.submit(Note(()))
        assert (answer.entries, answer.size, answer.finished) == ((), 0, "")
    assert store.appended == []


async def test_a_fixed_time_is_kept_and_time_never_goes_back() -> None:
    """The genesis body, hashed before it is written, would be another one; or an opened ledger would be refused."""
    store, clock = MemoryStore(), Clock(step_ms=0)
    async with running(make_writer(Log.empty(store), clock=clock)) as writer:
        first = await writer.submit(Note((b"a",), time_ms=START_MS - 5))
        assert first.entries[0].body.time_ms == START_MS - 5
        clock.now_ms = START_MS - 1000
        second = await writer.submit(Note((b"b",)))
        assert second.entries[0].body.time_ms == START_MS - 5
        with pytest.raises(LedgerError, match="prepare it anew"):
            await writer.submit(Note((b"c",), time_ms=START_MS - 6))
    assert reopened(store).size == 2


async def test_the_finished_note_is_stored_when_idle_and_at_the_end() -> None:
    """After a restart the newest finished checkpoint would be lost for long."""
    store = MemoryStore()
    async with running(make_writer(Log.empty(store))) as writer:
        answer = await writer.submit(Note((b"a",)))
        assert store.state().finished is None
        for _ in range(100):
            await asyncio.sleep(IDLE_S / 4)
            if store.state().finished is not None:
                break
        assert store.state().finished == answer.finished.encode()
        last = await writer.submit(Note((b"b",)))
    assert store.state().finished == last.finished.encode()


@pytest.mark.parametrize("persists", [False, True], ids=["lost", "kept"])
@pytest.mark.parametrize("at", [0, 1], ids=["first-commit", "later-commit"])
@pytest.mark.parametrize("error", [StoreError("EIO"), OSError(errno.EIO, "EIO")], ids=["store-error", "os-error"])
async def test_a_failed_append_is_looked_up(persists: bool, at: int, error: Exception) -> None:
    """A recorded command would be reported as failed, or a lost one as recorded."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        for number in range(at):
            await writer.submit(Note((bytes([number]),)))
        (store.keep if persists else store.lose)(error)
        if persists:
            answer = await writer.submit(Note((b"doubtful",), (b"blob",)))
            assert answer.size == writer.log.size == writer.state.count == at + 1
        else:
            with pytest.raises(StoreError):
                await writer.submit(Note((b"doubtful",), (b"blob",)))
            assert writer.log.size == writer.state.count == at
        after = await writer.submit(Note((b"after",)))
        assert after.size == after.state.count == at + 1 + persists
    again = reopened(store)
    assert (again.size, again.finished) == (after.size, after.finished)


@pytest.mark.parametrize("persists", [False, True], ids=["lost", "kept"])
async def test_doubt_lasts_until_the_store_can_be_read(persists: bool) -> None:
    """The writer would go on without knowing whether its batch was recorded."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        (store.keep if persists else store.lose)()
        store.reload_errors = [StoreError("still gone"), StoreError("still gone")]
        for _ in range(2):
            with pytest.raises(StoreError):
                await writer.submit(Note((b"doubtful",)))
        assert writer.log.size == 1
        answer = await writer.submit(Note((b"after",)))
        assert answer.size == answer.state.count == 2 + persists
    assert reopened(store).size == answer.size


@pytest.mark.parametrize("error", [StoreFullError("MapFull"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
async def test_a_full_store_refuses_and_recovers(error: Exception) -> None:
    """A full disk would stop the Coordinator for good, or corrupt it."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        store.lose(error)
        with pytest.raises(StoreError) as caught:
            await writer.submit(Note((b"b",)))
        assert caught.value.code in {"ledger_full", "store_failed"}
        assert (await writer.submit(Note((b"c",)))).size == 2


async def test_an_older_ledger_on_reload_stops_the_writer_for_good() -> None:
    """The host would roll the ledger back under a running Coordinator."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        last_week = store.snapshot()
        await writer.submit(Note((b"b",)))
        store.lose()
        store.serve_on_reload(last_week)
        with pytest.raises(LedgerForkedError, match="went back to size 1, 2 were confirmed"):
            await writer.submit(Note((b"c",)))
        assert isinstance(writer.stopped, LedgerForkedError)
        with pytest.raises(LedgerForkedError):
            await writer.submit(Note((b"d",)))
    assert (writer.log.size, writer.state.count) == (2, 2)


async def test_another_history_of_the_same_size_stops_the_writer() -> None:
    """The host would swap the ledger for a fork that looks as long."""
    fork = FaultyStore()
    async with running(make_writer(Log.empty(fork), epoch=OTHER_EPOCH)) as other:
        await other.submit(Note((b"a",)))
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        store.lose()
        store.serve_on_reload(fork.inner)
        with pytest.raises(LedgerForkedError, match="another history"):
            await writer.submit(Note((b"b",)))


async def test_an_acknowledged_and_forgotten_batch_stops_the_writer() -> None:
    """What was answered would be missing, and the next entry stand in its place."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        store.forget()
        await writer.submit(Note((b"b",)))
        with pytest.raises(LedgerForkedError):
            await writer.submit(Note((b"c",)))


async def test_a_batch_without_its_blob_stops_the_writer() -> None:
    """Half of a batch would count as the whole."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        store.keep()
        store.on_reload = store.inner._blobs.clear
        with pytest.raises(LedgerForkedError, match="not its blob"):
            await writer.submit(Note((b"a",), (b"blob",)))


async def test_a_damaged_extension_stops_the_writer() -> None:
    """Junk written behind the confirmed history would be adopted."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        store.keep()

        def flip() -> None:
            raw = store.inner._entries[1]
            store.inner._entries[1] = raw[:-1] + bytes([raw[-1] ^ 1])

        store.on_reload = flip
        with pytest.raises(LedgerForkedError, match="entry 1: its signature"):
            await writer.submit(Note((b"b",)))


async def append_foreign(store: FaultyStore, count: int, *, epoch: Ed25519PrivateKey = OTHER_EPOCH) -> None:
    """What another Coordinator writes to the same store."""
    async with running(make_writer(open_log(store.inner, workers=1), epoch=epoch)) as other:
        for number in range(count):
            await other.submit(Note((b"foreign %d" % number,)))


async def test_after_a_lost_race_the_others_entries_are_adopted() -> None:
    """Two Coordinators would fork the ledger, or the slower one stop."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        await append_foreign(store, 3)
        answer = await writer.submit(Note((b"b",)))
        assert (answer.size, answer.state.count, answer.entries[0].body.seq) == (5, 5, 4)
    assert reopened(store).size == 5


async def test_foreign_entries_that_the_rules_refuse_stop_the_writer() -> None:
    """Entries of nobody's epoch would be built upon."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store), machine=NoteMachine(refuse_foreign=True))) as writer:
        await writer.submit(Note((b"a",)))
        await append_foreign(store, 1)
        with pytest.raises(LedgerForkedError, match="the rules refuse"):
            await writer.submit(Note((b"b",)))


async def test_a_writer_that_always_loses_gives_up() -> None:
    """A command would be retried for ever."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
        for _ in range(20):
            store.lose(HeadMovedError("another was faster"))
        with pytest.raises(HeadMovedError, match="nothing was recorded"):
            await writer.submit(Note((b"b",)))
        store.plan.clear()
        assert (await writer.submit(Note((b"c",)))).size == 2


async def test_close_answers_everyone_and_then_refuses() -> None:
    """A command taken before the shutdown would be lost without a word."""
    store = MemoryStore()
    writer = make_writer(Log.empty(store))
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(writer.submit(Note((b"x",)))) for _ in range(700)]
        await asyncio.sleep(0)
        tasks.create_task(writer.run())
        await writer.close()
        with pytest.raises(WriterClosedError):
            await writer.submit(Note((b"late",)))
    assert {task.result().size for task in waiting} <= {512, 700}
    assert reopened(store).size == 700
    with pytest.raises(WriterClosedError):
        await writer.submit(Note((b"later",)))


async def test_a_cancelled_writer_leaves_nobody_waiting() -> None:
    """Requests would hang after the writer has ended."""
    writer = make_writer(Log.empty(MemoryStore()))
    run = asyncio.ensure_future(writer.run())
    first = await writer.submit(Note((b"a",)))
    late = asyncio.ensure_future(writer.submit(Note((b"b",))))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert first.size == 1
    result = (await asyncio.gather(late, return_exceptions=True))[0]
    assert not isinstance(result, BaseException) or isinstance(result, LedgerError)


async def test_a_submitter_that_went_away_is_not_waited_for() -> None:
    """One impatient client would stop the writer."""
    store = MemoryStore()
    writer = make_writer(Log.empty(store))
    gone = asyncio.ensure_future(writer.submit(Note((b"gone",))))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    async with running(writer):
        assert (await writer.submit(Note((b"a",)))).size == 1


async def test_another_ledgers_keys_are_refused() -> None:
    """A Coordinator with another seed would continue a stranger's ledger."""
    store = MemoryStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",)))
    with pytest.raises(LedgerError, match="another seed"):
        Writer(open_log(store), NoteMachine(), Counted(), epoch=EPOCH, ledger=EPOCH, clock_ms=Clock(), origin="else")
    with pytest.raises(HeadMovedError):
        Log.empty(store)


async def test_an_index_that_points_elsewhere_is_refused() -> None:
    """The host would answer a request with another's certificate."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        await writer.submit(Note((b"a",), request_id=bytes([1] * 32)))
        await writer.submit(Note((b"b",), request_id=bytes([2] * 32)))
        store.inner._requests[bytes([1] * 32)] = 1
        with pytest.raises(LedgerContentError, match="answers another one"):
            writer.log.find_request(bytes([1] * 32))
        store.inner._requests[bytes([1] * 32)] = 7
        assert writer.log.find_request(bytes([1] * 32)) is None
        assert writer.log.find_request(bytes([3] * 32)) is None


async def test_reads_are_held_against_memory() -> None:
    """The storage would change an entry or a blob after it was checked."""
    store = FaultyStore()
    async with running(make_writer(Log.empty(store))) as writer:
        answer = await writer.submit(Note((b"a", b"b"), (b"blob",)))
        digest = hashlib.sha256(b"blob").digest()
        store.inner._blobs[digest] = b"other"
        with pytest.raises(LedgerContentError, match="was changed"):
            writer.log.blob(digest)
        forged = FaultyStore()
        async with running(make_writer(Log.empty(forged), clock=Clock(START_MS + 9))) as other:
            await other.submit(Note((b"a", b"b")))
        store.inner._entries[0] = forged.inner._entries[0]
        with pytest.raises(LedgerContentError, match="entry 0: the storage holds another record"):
            writer.log.entry(0)
        store.inner._nodes[0] = forged.inner._nodes[0]
        with pytest.raises(LedgerContentError):
            writer.log.entry(0)
        assert writer.log.entries(1, 2) == [answer.entries[1].raw]
        store.inner._entries.clear()
        with pytest.raises(LedgerContentError, match="gone"):
            writer.log.entry(1)
