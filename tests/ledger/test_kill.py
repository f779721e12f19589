"""kill -9 of a writing process at any moment: every acknowledged entry is there, and nothing is half there."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger.lmdb_store import LmdbStore
from ledger.log import open_log

PROJECT = Path(__file__).resolve().parents[2]
# Acknowledgements go out by write(2), one line each, so that what was said is known even of a killed process.
PROGRAM = """
import asyncio, hashlib, os, sys
from pathlib import Path
from ledger.errors import LedgerEmptyError
from ledger.lmdb_store import LmdbStore
from ledger.log import Log, open_log
from tests.support.ledger_machine import Note, make_writer

async def client(writer, name):
    for number in range(100000):
        blob = b"%d/%d/%d" % (os.getpid(), name, number)
        digest = hashlib.sha256(blob).digest()
        answer = await writer.submit(Note((blob, blob), (blob,), digest))
        seqs = ",".join(str(entry.body.seq) for entry in answer.entries)
        line = f"{seqs} {answer.entries[0].leaf_hash.hex()} {digest.hex()}\\n"
        os.write(1, line.encode())

async def main():
    store = LmdbStore(Path(sys.argv[1]))
    try:
        log = open_log(store)
    except LedgerEmptyError:
        log = Log.empty(store)
    writer = make_writer(log)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        for name in range(int(sys.argv[2])):
            tasks.create_task(client(writer, name))

asyncio.run(main())
"""


@pytest.mark.parametrize("clients", [1, 40])
def test_a_killed_writer_keeps_every_acknowledged_entry(tmp_path: Path, clients: int) -> None:
    """A workload would hold a certificate that the ledger does not know."""
    path = tmp_path / "ledger"
    acknowledged: list[list[str]] = []
    for life in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), str(clients)], stdout=subprocess.PIPE, cwd=PROJECT
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # it is at work
        time.sleep(0.03 + 0.041 * life)  # anywhere in a commit: they take a fraction of this
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        acknowledged += [line.decode().split() for line in lines if line.endswith(b"\n")]
        store = LmdbStore(path)
        log = open_log(store)
        for seqs, leaf_hash, digest in acknowledged:
            first, second = (int(seq) for seq in seqs.split(","))
            assert second == first + 1
            entry = log.entry(first)
            assert entry.leaf_hash.hex() == leaf_hash
            found = log.find_request(bytes.fromhex(digest))
            assert found == entry
            blob = log.blob(bytes.fromhex(digest))
            assert blob is not None
            assert hashlib.sha256(blob).hexdigest() == digest
        # Commands are there whole or not at all: two entries each, and a blob.
        assert log.size % 2 == 0
        assert len(store.blob_digests()) == log.size // 2
        store.close()
    assert len(acknowledged) > 4
