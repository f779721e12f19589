"""A process that creates a ledger, appends to one, or stores a big blob, and says what it was acknowledged.

Run as ``python -m tests.support.victim MODE DIR``, mostly under strace, which lets its system calls fail or kills it in
the middle of one. One line on stdout for each answer: ``acked SEQ LEAF-HASH BLOB-SHA256`` or ``refused CODE``.
"""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from ledger.errors import LedgerEmptyError, LedgerError
from ledger.lmdb_store import LmdbStore
from ledger.log import Log, open_log
from tests.support.ledger_machine import Note, make_writer

COMMANDS = 3
BLOB_BYTES = {"create": 40, "append": 40, "blob": 150_000}


def open_or_create(path: Path) -> Log:
    store = LmdbStore(path, map_size=2**26)
    try:
        return open_log(store, workers=1)
    except LedgerEmptyError:
        return Log.empty(store)


async def write(log: Log, mode: str) -> None:
    writer = make_writer(log)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        for number in range(COMMANDS):
            blob = (b"%s %d %d " % (mode.encode(), log.size, number)).ljust(BLOB_BYTES[mode], b".")
            digest = hashlib.sha256(blob).digest()
            try:
                answer = await writer.submit(Note((blob[:40],), (blob,), digest))
            except LedgerError as error:
                say(f"refused {error.code}")
            else:
                entry = answer.entries[0]
                say(f"acked {entry.body.seq} {entry.leaf_hash.hex()} {digest.hex()}")
        await writer.close()


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one system call: what was said is known even of a killed process


def main(mode: str, path: str) -> None:
    try:
        log = open_or_create(Path(path))
    except LedgerError as error:
        say(f"refused {error.code}")
        return
    try:
        asyncio.run(write(log, mode))
    finally:
        log.store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
