"""Helpers change how long it takes, never what is found."""

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import LedgerContentError
from ledger.helper import READY
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from ledger.signature_worker import serve
from ledger.signatures import ANSWER, COUNT, NONE_BAD, WORTH_A_HELPER, Job, Signatures
from tests.support.ledgers import chain, store_of

JOBS: list[Job] = [(entry.body.signer, entry.signature, entry.body_hash) for entry in chain(300)]


def spoiled(*bad: int) -> list[Job]:
    return [
        (signer, bytes(64) if index in bad else signature, digest)
        for index, (signer, signature, digest) in enumerate(JOBS)
    ]


@pytest.fixture
def helped() -> Iterator[Signatures]:
    """Two helpers that are up."""
    with Signatures(3, WORTH_A_HELPER) as signatures:
        deadline = time.monotonic() + 60
        while not all(helper.ready() for helper in signatures._helpers):
            assert time.monotonic() < deadline, "the helpers do not start"
            time.sleep(0.01)
        yield signatures


def pid(signatures: Signatures, number: int) -> int:
    process = signatures._helpers[number]._process
    assert process is not None
    return process.pid


@pytest.mark.parametrize("bad", [(), (0,), (99,), (150,), (299,), (5, 120, 299), (250, 260)])
def test_the_first_bad_signature_is_found_by_whoever_has_it(helped: Signatures, bad: tuple[int, ...]) -> None:
    """A bad signature would pass on a machine with more cores, or another record be named."""
    for _ in range(3):
        helped.start(spoiled(*bad))
        assert len(helped._shares) == 2
        assert helped.finish() == (bad[0] if bad else None)
    assert helped.first_bad(JOBS) is None
    assert helped.first_bad([]) is None
    with Signatures(1) as alone:
        assert alone.first_bad(spoiled(*bad)) == (bad[0] if bad else None)


def test_a_dead_helper_leaves_nothing_unverified(helped: Signatures) -> None:
    """Killing a process would let a forged record in."""
    os.kill(pid(helped, 0), signal.SIGSTOP)
    helped.start(spoiled(10))
    os.kill(pid(helped, 0), signal.SIGKILL)
    assert helped.finish() == 10
    assert helped.first_bad(spoiled(20)) == 20
    os.kill(pid(helped, 1), signal.SIGKILL)
    assert helped.first_bad(spoiled(30, 290)) == 30
    assert helped.first_bad(JOBS) is None


def test_without_processes_everything_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that forbids processes would keep the ledger shut."""
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Signatures(2, WORTH_A_HELPER) as signatures:
        assert signatures.first_bad(spoiled(7)) == 7
        assert not signatures._helpers[0].ready()


def test_the_helper_ends_with_its_input_and_answers_only_whole_chunks() -> None:
    """A helper would outlive its ledger, or answer for what it has not read."""
    raw = COUNT.pack(300) + b"".join(part for job in spoiled(42) for part in job)
    good = COUNT.pack(1) + b"".join(JOBS[0])
    answers = io.BytesIO()
    serve(io.BytesIO(raw + good + raw[:-1]), answers)
    assert answers.getvalue() == READY + ANSWER.pack(42) + ANSWER.pack(NONE_BAD)


def test_a_big_ledger_opens_with_helpers(tmp_path: Path) -> None:
    """The helpers' verdicts would be mixed up between chunks."""
    entries = chain(WORTH_A_HELPER + 100)
    store = LmdbStore(tmp_path / "good")
    seen: list[int] = []
    log = open_log(store_of(entries, store), visit=lambda entry: seen.append(entry.body.seq), workers=2)
    assert (log.size, seen) == (len(entries), list(range(len(entries))))
    store.close()
    entries[4000] = entries[4000].signed(bytes(64))
    bad = LmdbStore(tmp_path / "bad")
    with pytest.raises(LedgerContentError, match="entry 4000: its signature"):
        open_log(store_of(entries, bad), workers=2)
    bad.close()
