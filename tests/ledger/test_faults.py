"""Each system call on the ledger's files fails, or is the last one of the process: nothing acknowledged is lost.

Without CONTRAST_EXHAUSTIVE a choice of the calls is tried; ``make faults`` tries every single one.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ledger.errors import LedgerEmptyError
from ledger.lmdb_store import LmdbStore
from ledger.log import Log, open_log
from tests.support.ledgers import filled
from tests.support.strace import Acked, Fault, acknowledged, count_calls, need_strace, run_victim, run_with_fault

ACTIONS = ("error=EIO", "error=ENOSPC", "signal=SIGKILL")
EVERY = bool(os.environ.get("CONTRAST_EXHAUSTIVE"))


def prepared(mode: str, folder: Path) -> Path:
    path = folder / "ledger"
    if mode != "create":
        store = LmdbStore(path, map_size=2**26)
        filled(store, 20)
        store.close()
    return path


def check_whole(path: Path, promised: Sequence[Acked], *, about: object) -> None:
    """The whole-log check: it opens, every record verifies, and what was acknowledged is there."""
    store = LmdbStore(path, map_size=2**26)
    try:
        try:
            log = open_log(store, workers=1)
        except LedgerEmptyError:
            assert not promised, about
            Log.empty(store)
            return
        for each in promised:
            assert log.entry(each.seq).leaf_hash == each.leaf_hash, about
            assert log.blob(each.blob) is not None, about
            found = log.find_request(each.blob)
            assert found is not None, about
            assert found.body.seq == each.seq, about
    finally:
        store.close()
    # And it can be gone on with.
    assert len(acknowledged(run_victim("append", path))) == 3, about


def faults(mode: str, folder: Path) -> Iterator[Fault]:
    counts = count_calls(mode, prepared(mode, folder), folder / "trace")
    assert counts["fdatasync"] >= 3
    assert counts["pwrite64"] >= 3
    turn = 0
    for syscall in sorted(counts):
        for number in range(1, counts[syscall] + 1):
            for action in ACTIONS:
                turn += 1
                # One in nineteen, so that calls and actions take turns.
                if EVERY or turn % 19 == 0:
                    yield Fault(syscall, number, action)


@pytest.mark.parametrize("mode", ["create", "append", "blob"])
def test_a_failing_or_last_system_call_loses_nothing_acknowledged(mode: str, tmp_path: Path) -> None:
    """A disk error would take a certificate out of the ledger, or the whole ledger with it."""
    need_strace()
    tried = 0
    for fault in faults(mode, tmp_path):
        shutil.rmtree(tmp_path / "ledger")
        path = prepared(mode, tmp_path)
        lines = run_with_fault(mode, path, fault)
        check_whole(path, acknowledged(lines), about=(str(fault), lines))
        tried += 1
    assert tried >= 3
