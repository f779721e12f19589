"""The store process: what it cannot reach, what its death means, and that its answers are not believed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import (
    HeadMovedError,
    LedgerContentError,
    LedgerEmptyError,
    LedgerError,
    StoreError,
    StoreFullError,
)
from ledger.isolated import IsolatedStore, foreign_store
from ledger.lmdb_store import LmdbStore
from ledger.log import Log, open_log
from ledger.store import Batch, Head, State
from ledger.store_wire import (
    Channel,
    ChannelClosedError,
    pack_batch,
    pack_error,
    pack_state,
    unpack_batch,
    unpack_error,
    unpack_state,
)
from tests.support.ledger_machine import Note, make_writer
from tests.support.ledgers import filled

CONFINED = """
import os, socket
from ledger.confine import confine
held = confine()
def denied(call, *arguments):
    try:
        call(*arguments)
    except PermissionError:
        return True
    return False
print(sorted(held))
print(denied(socket.socket), denied(os.execv, "/bin/true", ["true"]))
"""


def test_a_confined_process_reaches_no_network_and_no_program() -> None:
    """LMDB's code, taken over by a hostile file, could send away what it finds, or start something else."""
    done = subprocess.run([sys.executable, "-c", CONFINED], check=True, stdout=subprocess.PIPE, text=True)
    held, denied = done.stdout.splitlines()
    assert "limits" in held
    assert "no new privileges" in held
    if "no sockets, no programs" not in held:
        pytest.skip("this kernel or architecture has no seccomp filter here; the rest of the confinement holds")
    assert denied == "True True"


def test_the_store_process_inherits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment, or an open connection, would be in the reach of a hostile file."""
    monkeypatch.setenv("CONTRAST_SECRET_OF_A_TEST", "x")
    with socket.socket() as connection:
        os.set_inheritable(connection.fileno(), True)
        store = IsolatedStore(tmp_path / "ledger")
        try:
            environ = Path(f"/proc/{store.pid}/environ").read_bytes()
            opened = [str(name.readlink()) for name in Path(f"/proc/{store.pid}/fd").iterdir()]
        except PermissionError:
            pytest.skip("the process lets nobody look into it, which is right; to see it one must be root")
        finally:
            store.close()
    assert b"CONTRAST" not in environ
    assert sum(name.startswith("socket:") for name in opened) == 2
    ours = {str(tmp_path / "ledger" / name) for name in ("data.mdb", "lock.mdb")}
    assert {name for name in opened if not name.startswith("socket:")} <= {os.devnull, *ours}


async def test_a_writer_survives_the_death_of_its_store_process(tmp_path: Path) -> None:
    """The Coordinator would hang, or answer for what was never recorded."""
    store = IsolatedStore(tmp_path / "ledger")
    log = Log.empty(store)
    writer = make_writer(log)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        first = await writer.submit(Note((b"first",)))
        for number in range(3):
            assert store.pid is not None
            os.kill(store.pid, signal.SIGKILL)
            try:
                answer = await writer.submit(Note((b"during",)))
            except StoreError:
                answer = await writer.submit(Note((b"after",)))
            assert answer.size >= number + 2
        await writer.close()
    store.close()
    again = LmdbStore(tmp_path / "ledger")
    found = open_log(again, workers=1)
    assert found.size == log.size
    assert found.entry(0) == first.entries[0]
    again.close()


def test_a_dead_process_is_a_failed_store_and_a_closed_one_says_so(tmp_path: Path) -> None:
    """Reading would wait for ever."""
    store = IsolatedStore(tmp_path / "ledger")
    filled(store, 3)
    assert store.pid is not None
    os.kill(store.pid, signal.SIGKILL)
    with pytest.raises(StoreError, match="store process has died"):
        store.state()
    store.reload()
    assert store.head().size == 3
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.head()


def test_a_process_that_dies_before_it_answers_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that kills each new one would use up all descriptors."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    descriptors = sorted(Path("/proc/self/fd").iterdir())
    for foreign, kind in ((False, StoreError), (True, LedgerContentError)):
        with pytest.raises(kind):
            IsolatedStore(tmp_path, foreign=foreign)
    assert sorted(Path("/proc/self/fd").iterdir()) == descriptors


def test_storage_that_is_gone_is_no_empty_ledger_here_either(tmp_path: Path) -> None:
    """A new ledger would begin silently."""
    store = IsolatedStore(tmp_path / "ledger")
    filled(store, 3)
    (tmp_path / "ledger" / "data.mdb").unlink()
    with pytest.raises(StoreError, match="no ledger"):
        store.reload()
    store.close()


def test_a_foreign_file_that_kills_its_reader_is_a_damaged_one(tmp_path: Path) -> None:
    """An auditor's program would die without a word."""
    store = LmdbStore(tmp_path)
    filled(store, 200)
    store.close()
    with foreign_store(tmp_path) as foreign:
        assert open_log(foreign, workers=1).size == 200
        os.truncate(tmp_path / "data.mdb", 3 * 4096)  # under its feet: touching the map is SIGBUS now
        with pytest.raises(LedgerContentError, match="kills or stops"):
            open_log(foreign, workers=1)
    with pytest.raises(StoreError, match="no ledger"), foreign_store(tmp_path / "nowhere"):
        pass


@pytest.mark.parametrize(
    "error",
    [
        StoreError("s"), StoreFullError("f"), HeadMovedError("h"), LedgerContentError(None, "c"),
        LedgerContentError(7, "c"), LedgerEmptyError("e"), LedgerError("l"),
    ],
)  # fmt: skip
def test_errors_arrive_as_they_were_raised(error: LedgerError) -> None:
    """The writer would take a full disk for a fork."""
    found = unpack_error(pack_error(error))
    assert type(found) is type(error)
    assert str(found) == str(error)


HEADS = st.builds(Head, st.integers(0, 2**63), st.binary(min_size=32, max_size=32))
NOTES = st.none() | st.binary(max_size=50)


@given(
    batch=st.builds(
        Batch, previous=HEADS, head=HEADS, entries=st.lists(st.binary(max_size=40), max_size=5),
        nodes=st.lists(st.binary(max_size=40), max_size=5),
        blobs=st.dictionaries(st.binary(max_size=32), st.binary(max_size=100), max_size=4),
        requests=st.dictionaries(st.binary(max_size=32), st.integers(0, 2**63), max_size=4), draft=NOTES,
        finished=NOTES,
    ),
    state=st.builds(
        State, head=HEADS, entry_count=st.integers(0, 9), node_count=st.integers(0, 9), draft=NOTES, finished=NOTES
    ),
)  # fmt: skip
def test_batches_and_states_arrive_as_they_were_sent(batch: Batch, state: State) -> None:
    """Something else would be recorded than was signed."""
    assert unpack_batch(pack_batch(batch)) == batch
    assert unpack_state(pack_state(state)) == state


@given(raw=st.binary(max_size=200) | st.binary(max_size=60).map(lambda body: len(body).to_bytes(4, "big") + body))
def test_any_bytes_of_the_other_side_are_a_frame_or_the_end(raw: bytes) -> None:
    """A process that was taken over would take its parent along."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(raw)
    theirs.close()
    try:
        while True:
            channel.receive()
    except ChannelClosedError:
        pass
    finally:
        channel.close()


class _Liar(Channel):
    """Answers every question with the same frame."""

    def __init__(self, kind: int, parts: list[bytes]) -> None:
        self.frame = (kind, parts)

    def send(self, kind: int, parts: object = ()) -> None:
        pass

    def receive(self) -> tuple[int, list[bytes]]:
        return self.frame

    def close(self) -> None:
        pass


QUESTIONS: list[Callable[[IsolatedStore], object]] = [
    lambda store: store.state(),
    lambda store: store.head(),
    lambda store: store.append(Batch(previous=Head(0, bytes(32)), head=Head(0, bytes(32)))),
    lambda store: store.entries(0, 2),
    lambda store: store.nodes(0, 2),
    lambda store: store.nodes_at([1, 2]),
    lambda store: store.blob(bytes(32)),
    lambda store: store.request(bytes(32)),
    lambda store: store.blob_digests(),
]


@pytest.fixture(scope="module", params=[False, True], ids=["own", "foreign"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> IsolatedStore:
    path = tmp_path_factory.mktemp("asked")
    LmdbStore(path).close()
    store = IsolatedStore(path, foreign=request.param)
    store._stop()
    return store


@given(
    kind=st.integers(0, 3), parts=st.lists(st.binary(max_size=60) | st.just(bytes(50)), max_size=4),
    question=st.sampled_from(QUESTIONS),
)  # fmt: skip
def test_a_lying_store_process_raises_nothing_but_ledger_errors(
    asked: IsolatedStore, kind: int, parts: list[bytes], question: Callable[[IsolatedStore], object]
) -> None:
    """A traceback instead of a verdict."""
    asked._channels = (_Liar(kind, parts), _Liar(kind, parts))
    try:
        question(asked)
    except LedgerError:
        pass
    finally:
        asked._channels = None
