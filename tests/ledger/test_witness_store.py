"""A witness's memory: durable before it answers, atomic, and never silently empty."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ledger.errors import LedgerError, StoreError
from ledger.witness import Known
from ledger.witness_store import WitnessStore

ORIGIN = "log.example"


def known(size: int) -> Known:
    return Known(size, bytes([size % 256] * 32), 1_790_000_000 + size, b"note %d\n" % size)


def test_what_was_decided_is_there_after_reopening(tmp_path: Path) -> None:
    store = WitnessStore(tmp_path / "state", create=True)
    assert store.known(ORIGIN) is None
    assert store.update(ORIGIN, lambda before: (before, known(3))) is None
    assert store.update(ORIGIN, lambda before: (before, known(5))) == known(3)
    store.close()
    store = WitnessStore(tmp_path / "state")
    assert store.known(ORIGIN) == known(5)
    assert store.known("other.example") is None
    store.close()
    for path in (tmp_path / "state", tmp_path / "state" / "data.mdb"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_refusal_changes_nothing(tmp_path: Path) -> None:
    store = WitnessStore(tmp_path, create=True)
    store.update(ORIGIN, lambda _: (None, known(3)))

    def refuse(_: Known | None) -> tuple[None, Known]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.update(ORIGIN, refuse)
    assert store.known(ORIGIN) == known(3)
    store.close()


def test_check_and_replacement_are_one_step(tmp_path: Path) -> None:
    """Two requests at once would take leaves back that were cosigned a moment ago."""
    store = WitnessStore(tmp_path, create=True)
    store.update(ORIGIN, lambda _: (None, known(0)))

    def grow() -> None:
        for _ in range(25):
            store.update(ORIGIN, lambda before: (None, known((before.size if before else 0) + 1)))

    threads = [threading.Thread(target=grow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.known(ORIGIN)
    assert found is not None
    assert found.size == 100
    store.close()


def test_a_lost_memory_is_not_begun_again(tmp_path: Path) -> None:
    """A witness that forgot would cosign a second history."""
    with pytest.raises(StoreError, match="was lost"):
        WitnessStore(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"x" * 10_000)
    with pytest.raises(LedgerError):
        WitnessStore(tmp_path)


def test_a_witness_that_is_killed_has_kept_what_it_answered(tmp_path: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from ledger.witness import Known
from ledger.witness_store import WitnessStore
store = WitnessStore(Path({str(tmp_path)!r}), create=True)
for size in range(1, 10):
    store.update("log.example", lambda _: (None, Known(size, bytes(32), size, b"")))
print("answered", size, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
    assert done.stdout == "answered 9\n", done.stderr
    store = WitnessStore(tmp_path)
    found = store.known("log.example")
    assert found is not None
    assert found.size == 9
    store.close()
