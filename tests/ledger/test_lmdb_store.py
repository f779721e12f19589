"""What only the LMDB store promises: files, limits, other processes, and hostile files that do not kill the process."""

import asyncio
import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import lmdb
import pytest

from ledger.errors import LedgerContentError, LedgerError, StoreError, StoreFullError
from ledger.lmdb_file import check_file
from ledger.lmdb_store import LmdbStore
from ledger.log import Log, open_log
from ledger.merkle import Frontier
from ledger.store import EMPTY_HEAD, Batch, Head
from tests.support.ledger_machine import Note, make_writer
from tests.support.ledgers import batch_of, chain, filled, store_of


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A closed ledger of 300 entries."""
    path = tmp_path / "ledger"
    store = LmdbStore(path)
    filled(store, 300)
    store.close()
    return path


def opened(path: Path) -> Log:
    store = LmdbStore(path, readonly=True)
    try:
        return open_log(store, workers=1)
    finally:
        store.close()


def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    """Another user of the machine would read or change the ledger."""
    path = tmp_path / "deep" / "ledger"
    assert not LmdbStore.exists(path)
    LmdbStore(path).close()
    assert LmdbStore.exists(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


def test_reading_never_makes_a_ledger(tmp_path: Path) -> None:
    """A typing error in a path would look like an empty ledger."""
    with pytest.raises(StoreError, match="there is no ledger at"):
        LmdbStore(tmp_path / "nowhere", readonly=True)
    assert not (tmp_path / "nowhere").exists()


def test_storage_that_is_gone_is_no_empty_ledger(ledger: Path) -> None:
    """A volume that is away for a moment would be replaced by a new, empty ledger."""
    store = LmdbStore(ledger)
    ledger.rename(ledger.with_name("away"))
    with pytest.raises(StoreError, match="there is no ledger at"):
        store.reload()
    assert not ledger.exists()
    with pytest.raises(StoreError, match="closed"):
        store.head()
    ledger.with_name("away").rename(ledger)
    store.reload()
    assert open_log(store).size == 300
    store.close()


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    """The Coordinator would die with a traceback."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be used"):
        LmdbStore(tmp_path / "file")


def test_a_crash_right_after_creation_leaves_an_empty_store(tmp_path: Path) -> None:
    """A Coordinator killed at its very first start would never start again."""
    (tmp_path / "data.mdb").touch()
    store = LmdbStore(tmp_path)
    assert filled(store, 1).size == 1
    store.close()
    half = tmp_path / "half" / "new"  # killed while it was made beside
    half.mkdir(parents=True)
    lmdb.open(str(half), max_dbs=8).close()
    store = LmdbStore(half.parent)
    assert filled(store, 1).size == 1
    store.close()
    assert not half.exists()


def test_a_full_map_refuses_the_batch_and_nothing_else(tmp_path: Path) -> None:
    """A full ledger would be damaged, or the reason be a riddle."""
    store = LmdbStore(tmp_path, map_size=300_000)
    size = 0

    def fill() -> None:
        nonlocal size
        for seq in range(200):
            store.append(batch_of([bytes(4500)], head_hash=bytes([seq] * 32), previous=store.head()))
            size += 1

    with pytest.raises(StoreFullError, match="map of 300000 bytes") as caught:
        fill()
    assert caught.value.code == "ledger_full"
    assert store.head().size == size > 10
    store.reload()
    assert store.state().entry_count == size
    store.close()


async def test_a_writer_survives_a_full_map(tmp_path: Path) -> None:
    """A full ledger would take the answers to readers with it."""
    store = LmdbStore(tmp_path, map_size=200_000)
    async with asyncio.TaskGroup() as tasks:
        writer = make_writer(Log.empty(store))
        tasks.create_task(writer.run())
        results = await asyncio.gather(
            *(writer.submit(Note((bytes(2000),))) for _ in range(20)), return_exceptions=True
        )  # one batch, which fits
        recorded = writer.log.size
        assert recorded == 20
        assert not any(isinstance(result, BaseException) for result in results)
        with pytest.raises(StoreFullError):
            await asyncio.gather(*(writer.submit(Note((bytes(2000),))) for _ in range(200)))
        assert writer.stopped is None
        assert (writer.log.size, writer.log.entry(recorded - 1).body.seq) == (recorded, recorded - 1)
        await writer.close()
    assert open_log(store).size == recorded
    store.close()


def test_a_write_cut_short_by_the_kernel_loses_nothing(tmp_path: Path) -> None:
    """A failing disk would cost recorded entries (here a limit on the file's size cuts the write short)."""
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from ledger.errors import StoreError\n"
        "from ledger.lmdb_store import LmdbStore; from ledger.log import open_log\n"
        "from tests.support.ledgers import batch_of, filled\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = LmdbStore(Path(sys.argv[1])); filled(store, 3)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    store.append(batch_of([bytes(16_000)] * 50, head_hash=bytes(32), previous=store.head()))\n"
        "except StoreError as error:\n"
        "    print(error.code)\n"
        "store.reload(); print(open_log(store).size)\n"
    )
    result = run_python(program, str(tmp_path / "ledger"))
    assert result.stdout.split() == ["store_failed", "3"], result.stderr


def test_a_fork_does_not_inherit_the_store(tmp_path: Path) -> None:
    """Two processes would write through one environment and damage the file."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from ledger.errors import StoreError; from ledger.lmdb_store import LmdbStore\n"
        "store = LmdbStore(Path(sys.argv[1]))\n"
        "if os.fork() == 0:\n"
        "    try:\n        store.head()\n"
        "    except StoreError as error:\n        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait(); print(store.head().size)\n"
    )
    result = run_python(program, str(tmp_path / "ledger"))
    assert "before a fork" in result.stdout
    assert result.stdout.endswith("0\n")


def test_another_process_reads_beside_the_writer(tmp_path: Path) -> None:
    """`contrast ledger show` would need the Coordinator to stop."""
    path = tmp_path / "ledger"
    store = LmdbStore(path)
    log = filled(store, 50)
    program = (
        "import sys; from pathlib import Path\n"
        "from ledger.lmdb_store import LmdbStore; from ledger.log import open_log\n"
        "log = open_log(LmdbStore(Path(sys.argv[1]), readonly=True)); print(log.size, log.root.hex())\n"
    )
    result = run_python(program, str(path))
    assert result.stdout.split() == ["50", log.root.hex()], result.stderr
    entries = chain(1)
    store.append(batch_of([entries[0].raw], head_hash=bytes(32), previous=store.head()))
    store.close()


def test_a_reader_opens_while_the_writer_appends(tmp_path: Path) -> None:
    """A ledger at work would be called damaged, for its head and its records were read at two moments."""
    program = (
        "import sys; from pathlib import Path\n"
        "from ledger.lmdb_store import LmdbStore; from tests.support.ledgers import batch_of, chain\n"
        "from ledger.merkle import Frontier; from ledger.store import EMPTY_HEAD\n"
        "store = LmdbStore(Path(sys.argv[1])); head = EMPTY_HEAD; frontier = Frontier(); entries = chain(400)\n"
        "print('ready', flush=True)\n"
        "for entry in entries:\n"
        "    batch = batch_of([entry.raw], head_hash=entry.body_hash, previous=head, frontier=frontier)\n"
        "    store.append(batch); head = batch.head\n"
    )
    path = tmp_path / "ledger"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[2]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    store = LmdbStore(path, readonly=True)
    sizes: list[int] = []
    while process.poll() is None or not sizes:
        if store.head().size:
            sizes.append(open_log(store, workers=1).size)
    process.stdout.close()
    assert process.returncode == 0
    assert sizes == sorted(sizes)
    assert open_log(store).size == 400
    store.close()


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip


# --- files that a stranger has had in his hands ---


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    """Any file called data.mdb would be taken for a ledger, or crash the reader."""
    (tmp_path / "data.mdb").write_bytes(os.urandom(100_000))
    with pytest.raises(LedgerContentError, match="not an LMDB file"):
        LmdbStore(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"short")
    with pytest.raises(LedgerContentError, match="truncated"):
        LmdbStore(tmp_path)


def test_another_programs_lmdb_file_is_named(tmp_path: Path) -> None:
    """Another program's database would be overwritten."""
    environment = lmdb.open(str(tmp_path), max_dbs=2)
    with environment.begin(write=True) as txn:
        txn.put(b"theirs", b"data")
    environment.close()
    for readonly in (True, False):
        with pytest.raises(LedgerContentError, match="not one of a ledger"):
            LmdbStore(tmp_path, readonly=readonly)


def test_another_format_is_named(ledger: Path) -> None:
    """An old program would misread a newer ledger."""
    environment = lmdb.open(str(ledger), max_dbs=8)
    with environment.begin(write=True, db=environment.open_db(b"meta")) as txn:
        txn.put(b"format", b"contrast-ledger/2")
    environment.close()
    with pytest.raises(LedgerContentError, match="has format b'contrast-ledger/2'"):
        LmdbStore(ledger)


def test_a_truncated_file_is_refused_before_it_is_touched(ledger: Path) -> None:
    """The kernel would kill the process (SIGBUS) at the first missing page."""
    file = ledger / "data.mdb"
    environment = lmdb.open(str(ledger), readonly=True)
    size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]  # room made ahead may be lost
    environment.close()
    assert size <= file.stat().st_size
    for length in sorted({*range(0, 20_000, 1000), *range(20_000, size, 4096 * 5), size - 1}):
        copy = ledger.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(ledger, copy)
        os.truncate(copy / "data.mdb", length)
        with pytest.raises(LedgerError):
            opened(copy)
        with pytest.raises(LedgerContentError, match="truncated"):
            check_file(copy / "data.mdb")
    assert opened(ledger).size == 300


def test_room_is_made_ahead_for_small_batches_and_little_of_it(tmp_path: Path) -> None:
    """Every commit of a file that grows would wait for the file system's journal, too; a small ledger would be big."""
    store = LmdbStore(tmp_path, map_size=2**26)
    file, sizes = tmp_path / "data.mdb", set()
    entries = chain(400)
    frontier = Frontier()
    for seq, entry in enumerate(entries):
        previous = Head(seq, entries[seq - 1].body_hash) if seq else EMPTY_HEAD
        store.append(batch_of([entry.raw], head_hash=entry.body_hash, previous=previous, frontier=frontier))
        sizes.add(file.stat().st_size)
    assert len(sizes) < 40
    store.close()
    assert opened(tmp_path).size == 400
    environment = lmdb.open(str(tmp_path), readonly=True)
    used = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    environment.close()
    assert used <= file.stat().st_size <= 1.5 * used


def test_room_that_cannot_be_made_records_nothing(ledger: Path) -> None:
    """A full disk would be met in the middle of a commit, or a batch counted as failed that is there."""
    store = LmdbStore(ledger, map_size=2**30)
    head = store.head()
    batch = Batch(previous=head, head=head, draft=b"draft")
    with (
        patch.object(store, "_make_room", side_effect=OSError(errno.ENOSPC, "No space left on device")),
        pytest.raises(StoreFullError),
    ):
        store.append(batch)
    assert store.draft() != b"draft"
    store.append(batch)
    store.close()


def rewrite(path: Path, table: bytes, change: Callable[[dict[bytes, bytes]], None]) -> None:
    """Edit a table as someone with LMDB's own tools would."""
    environment = lmdb.open(str(path), max_dbs=8, map_size=2**30)
    database = environment.open_db(table)
    with environment.begin(write=True, db=database) as txn:
        content = {bytes(key): bytes(value) for key, value in txn.cursor()}
        change(content)
        txn.drop(database, delete=False)
        for key, value in content.items():
            txn.put(key, value)
    environment.close()


def key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def swap(content: dict[bytes, bytes]) -> None:
    content[key(7)], content[key(8)] = content[key(8)], content[key(7)]


def drop(content: dict[bytes, bytes]) -> None:
    del content[key(7)]


def drop_and_close_up(content: dict[bytes, bytes]) -> None:
    for seq in range(7, 299):
        content[key(seq)] = content[key(seq + 1)]
    del content[key(299)]


def drop_last(content: dict[bytes, bytes]) -> None:
    del content[key(299)]


def duplicate(content: dict[bytes, bytes]) -> None:
    content[key(8)] = content[key(7)]


def add(content: dict[bytes, bytes]) -> None:
    content[key(300)] = content[key(299)]


def strange_key(content: dict[bytes, bytes]) -> None:
    content[key(7) + b"x"] = b"y"


def splice(content: dict[bytes, bytes]) -> None:
    content[key(7)] = chain(8)[7].raw


def empty(content: dict[bytes, bytes]) -> None:
    content[key(7)] = b""


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        (swap, 7), (drop, 7), (drop_and_close_up, 7), (drop_last, 299), (duplicate, 8), (add, 300), (strange_key, None),
        (splice, 7), (empty, 7),
    ],
)  # fmt: skip
def test_changed_records_are_named(ledger: Path, change: Callable[[dict[bytes, bytes]], None], seq: int | None) -> None:
    """A record would be swapped, dropped, doubled or put in, and the history be believed."""
    rewrite(ledger, b"entry", change)
    with pytest.raises(LedgerContentError) as caught:
        opened(ledger)
    if seq is not None:
        assert caught.value.seq == seq, caught.value


@pytest.mark.parametrize("change", [swap, drop, splice, empty], ids=lambda change: change.__name__)
def test_changed_tree_nodes_are_named(ledger: Path, change: Callable[[dict[bytes, bytes]], None]) -> None:
    """Receipts made from the stored tree would prove nothing, and nobody know why."""
    rewrite(ledger, b"node", change)
    with pytest.raises(LedgerContentError, match=r"entry [345]: tree node 7"):
        opened(ledger)


@pytest.mark.parametrize("name", [b"draft", b"finished", b"head", b"format"])
def test_changed_checkpoints_and_heads_are_named(ledger: Path, name: bytes) -> None:
    """A shorter or other history would be taken for the newest."""

    def flip(content: dict[bytes, bytes]) -> None:
        content[name] = content[name][:-9] + bytes([content[name][-9] ^ 1]) + content[name][-8:]

    rewrite(ledger, b"meta", flip)
    if name == b"finished":
        # Its signatures are judged by who knows the epochs; here only that it is a checkpoint of this history.
        assert opened(ledger).finished is not None
        return
    with pytest.raises(LedgerContentError):
        opened(ledger)


def test_every_flipped_byte_in_a_record_is_found(ledger: Path) -> None:
    """LMDB reads a flipped byte silently."""
    file = ledger / "data.mdb"
    content = file.read_bytes()
    store = LmdbStore(ledger, readonly=True)
    raw = store.entries(9, 10)[0]
    store.close()
    # The newest copy of the page: earlier transactions leave old ones behind.
    places = [at for at in range(len(content)) if content.startswith(raw, at)]
    assert places
    for offset in range(0, len(raw), 7):
        changed = bytearray(content)
        for at in places:
            changed[at + offset] ^= 0x10
        file.write_bytes(changed)
        with pytest.raises(LedgerContentError) as caught:
            opened(ledger)
        assert caught.value.seq == 9
    file.write_bytes(content)
    assert opened(ledger).size == 300


def test_an_older_copy_is_whole_and_shorter(ledger: Path, tmp_path: Path) -> None:
    """The one attack that no file can show: it is left to remembered heads, which must be able to tell."""
    old = tmp_path / "old"
    shutil.copytree(ledger, old)
    before = opened(old)
    store = LmdbStore(ledger)
    log = open_log(store)
    last = log.entry(299)
    grown = chain(1, start=[log.entry(seq) for seq in range(300)])[300:]
    assert grown[0].body.prev == last.body_hash
    store.append(batch_of([grown[0].raw], head_hash=grown[0].body_hash, previous=log.position, frontier=log.frontier()))
    newer = open_log(store)
    store.close()
    shutil.copytree(old, ledger, dirs_exist_ok=True)
    rolled_back = opened(ledger)
    assert (rolled_back.size, rolled_back.root) == (before.size, before.root) != (newer.size, newer.root)


def test_a_store_made_by_hand_opens(tmp_path: Path) -> None:
    """The helpers of these tests would prove nothing, if what they make were refused anyway."""
    store = LmdbStore(tmp_path)
    assert open_log(store_of(chain(9), store)).size == 9
    store.close()
