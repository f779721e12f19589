"""The host edits the ledger's file: every edit is refused by name, or is a rollback to whoever remembers the head.

Without CONTRAST_EXHAUSTIVE a choice of the bits is flipped; ``make faults`` flips every single one.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.entry import Body, Entry
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from tests.support.attacks import MAP_SIZE, Known, verdict_on
from tests.support.ledgers import chain, filled, sealed, store_of

EVERY = bool(os.environ.get("CONTRAST_EXHAUSTIVE"))
PROJECT = Path(__file__).resolve().parents[2]
STRIDE = 1 if EVERY else 331  # a prime, so that all bits of a byte and all places of a page take turns
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A small ledger with everything in it: entries, nodes, blobs, requests, both notes, and freed pages."""
    path = tmp_path / "good"
    store = LmdbStore(path, map_size=MAP_SIZE)
    filled(store, 3)
    store.close()
    return path


def known_of(path: Path) -> Known:
    store = LmdbStore(path, map_size=MAP_SIZE, readonly=True)
    try:
        return Known.of(open_log(store, workers=1))
    finally:
        store.close()


def test_no_flipped_bit_changes_what_a_ledger_says(good: Path, tmp_path: Path) -> None:
    """One bit would turn a record, a hash or an index into another one."""
    bits = range(0, 8 * (good / "data.mdb").stat().st_size, STRIDE)
    cores = os.cpu_count() or 1
    shares = [bits[len(bits) * core // cores : len(bits) * (core + 1) // cores] for core in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        found = list(pool.map(partial(flip_each, good), shares, [tmp_path / str(core) for core in range(cores)]))
    verdicts = sum(found, Counter[str]())
    assert verdicts.total() == len(bits)
    assert set(verdicts) <= {"same", "refused", "rollback", "withheld", "killed"}
    assert verdicts["refused"] > verdicts["rollback"]


def flip_each(good: Path, bits: range, folder: Path) -> Counter[str]:
    """Flip each of *bits* in turn, in a process of its own; how often which verdict was given."""
    verdicts: Counter[str] = Counter()
    while bits:
        argv = [str(good), str(folder), str(bits.start), str(bits.stop), str(bits.step)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.attacks", *argv], cwd=PROJECT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
        assert [int(number) for number, _ in said] == list(bits[: len(said)])
        forged = [(number, words) for number, words in said if words.startswith("FORGED")]
        assert not forged
        verdicts.update(words.partition(":")[0].strip() for _, words in said)
        bits = bits[len(said) :]
        if done.returncode >= 0:
            assert done.returncode == 0, done.stderr
            assert not bits
            break
        # It was killed by LMDB's own reading. That is why strangers' files are read in a child: there it is a refusal.
        check_in_a_child(good, folder / "killer", bits[0])
        verdicts["killed"] += 1
        bits = bits[1:]
    return verdicts


def check_in_a_child(good: Path, folder: Path, bit: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image = bytearray((good / "data.mdb").read_bytes())
    image[bit // 8] ^= 1 << bit % 8
    (folder / "data.mdb").write_bytes(image)
    assert verdict_on(folder, known_of(good)).startswith("refused")


def test_a_file_cut_at_any_page_is_refused(good: Path, tmp_path: Path) -> None:
    """A shorter history would open, or the program die."""
    image = (good / "data.mdb").read_bytes()
    known = known_of(good)
    cut = tmp_path / "cut"
    cut.mkdir()
    for pages in range(len(image) // 4096):
        (cut / "data.mdb").write_bytes(image[: pages * 4096])
        assert verdict_on(cut, known).startswith("refused"), pages


def test_an_older_copy_is_a_rollback_to_whoever_remembers(good: Path, tmp_path: Path) -> None:
    """Last week's manifest would be in force again."""
    store = LmdbStore(good, map_size=MAP_SIZE)
    older = open_log(store, workers=1)
    entries = chain(2, start=[older.entry(seq) for seq in range(older.size)])
    store.close()
    store_of(entries, LmdbStore(tmp_path / "grown", map_size=MAP_SIZE)).close()
    known = known_of(tmp_path / "grown")
    assert verdict_on(good, known) == "rollback"


GOOD = chain(40)
OTHER = chain(40, key=STRANGER)


def resigned(entry: Entry) -> Entry:
    """With the signer's name kept: the host has no epoch key, and signs with one of its own."""
    return Entry.seal(entry.body, sealed(entry.body, STRANGER).signature)


def rewritten() -> list[Entry]:
    """The whole history after entry 20 in other words, chained and hashed anew, signed without the epoch's key."""
    entries = GOOD[:20]
    for old in GOOD[20:]:
        body: Body = replace(old.body, prev=entries[-1].body_hash, payload=b"in other words")
        entries = [*entries, Entry.seal(body, sealed(body, STRANGER).signature)]
    return entries


@pytest.mark.parametrize(
    ("entries", "first_bad"),
    [
        ([*GOOD[:10], GOOD[11], GOOD[10], *GOOD[12:]], 10),
        ([*GOOD[:10], *GOOD[11:]], 10),
        ([*GOOD[:10], GOOD[9], *GOOD[10:]], 10),
        ([*GOOD[:10], OTHER[10], *GOOD[11:]], 10),
        ([*GOOD[:10], *OTHER[10:]], 10),
        ([*GOOD[:10], resigned(GOOD[10]), *GOOD[11:]], 10),
        (rewritten(), 20),
        (GOOD[1:], 0),
    ],
    ids=[
        "swapped",
        "dropped",
        "doubled",
        "one spliced in",
        "another's from here on",
        "signed anew",
        "rewritten",
        "headless",
    ],
)
def test_an_edited_history_is_refused_at_its_first_bad_record(
    entries: Sequence[Entry], first_bad: int, tmp_path: Path
) -> None:
    """Tree, nodes, head and notes are right about it, as a host with the seed would make them: the records are not."""
    store_of(entries, LmdbStore(tmp_path, map_size=MAP_SIZE)).close()
    known = Known(len(GOOD), b"", b"", (), ())
    assert verdict_on(tmp_path, known).startswith(f"refused: entry {first_bad}:")


@pytest.mark.parametrize("lock", ["random", "ones", "empty", "long", "directory", "loop"])
def test_a_hostile_lock_file_changes_nothing(lock: str, good: Path) -> None:
    """LMDB maps that file, too, and counts in it."""
    known = known_of(good)
    file = good / "lock.mdb"
    file.unlink()
    match lock:
        case "random":
            file.write_bytes(os.urandom(8192))
        case "ones":
            file.write_bytes(b"\xff" * 8192)
        case "empty":
            file.touch()
        case "long":
            file.write_bytes(bytes(2**22))
        case "directory":
            file.mkdir()
        case _:
            file.symlink_to(file)
    found = verdict_on(good, known)
    assert found == "same" or found.startswith("refused")
