"""Whole ledgers for tests: written by the real writer, or by hand with everything but one thing right."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import Checkpoint, epoch_name
from ledger.entry import ZERO_HASH, Body, Entry, sign
from ledger.log import Log
from ledger.merkle import Frontier
from ledger.note import NoteSigner, sign_note
from ledger.store import EMPTY_HEAD, Batch, Head, Store
from tests.support.ledger_machine import EPOCH, LEDGER, ORIGIN, START_MS, Note, make_writer


async def write_notes(store: Store, count: int, *, size: int = 20) -> Log:
    """Let the writer record *count* notes of *size* bytes, each with a blob and a request id."""
    log = Log.empty(store)
    async with asyncio.TaskGroup() as tasks:
        writer = make_writer(log)
        tasks.create_task(writer.run())
        async with asyncio.TaskGroup() as commands:
            for number in range(count):
                text = number.to_bytes(size, "big")
                blob, request_id = b"blob %d" % number, hashlib.sha256(text).digest()
                commands.create_task(writer.submit(Note((text,), (blob,), request_id)))
        await writer.close()
    return log


def filled(store: Store, count: int) -> Log:
    """As write_notes(), from a test that is not async."""
    return asyncio.run(write_notes(store, count))


def chain(count: int, *, key: Ed25519PrivateKey = EPOCH, start: Sequence[Entry] = ()) -> list[Entry]:
    """*count* good entries, after *start*."""
    entries = list(start)
    signer = key.public_key().public_bytes_raw()
    for seq in range(len(entries), len(entries) + count):
        prev = entries[-1].body_hash if entries else ZERO_HASH
        body = Body(signer, seq, START_MS + seq, prev, "note.taken", b"%d" % seq)
        entries.append(sealed(body, key))
    return entries


def sealed(body: Body, key: Ed25519PrivateKey = EPOCH) -> Entry:
    """The entry of *body*, signed by *key*."""
    return Entry.seal(body, sign(hashlib.sha256(body.pack()).digest(), key))


def batch_of(
    raws: Sequence[bytes], *, head_hash: bytes, previous: Head = EMPTY_HEAD, frontier: Frontier | None = None,
    epoch: Ed25519PrivateKey = EPOCH,
) -> Batch:  # fmt: skip
    """A batch that is right about itself, whatever the entries are: what a host with a hex editor would make."""
    frontier = frontier or Frontier()
    nodes = frontier.extend([hashlib.sha256(b"\x00" + raw).digest() for raw in raws])
    head = Head(previous.size + len(raws), head_hash)
    text = Checkpoint(ORIGIN, head.size, frontier.root()).text()
    draft = sign_note(text, [NoteSigner(epoch_name(ORIGIN), epoch)])
    finished = sign_note(text, [NoteSigner(ORIGIN, LEDGER), NoteSigner(epoch_name(ORIGIN), epoch)])
    return Batch(
        previous=previous, head=head, entries=list(raws), nodes=nodes, draft=draft.encode(), finished=finished.encode()
    )


def store_of(entries: Sequence[Entry], store: Store, **changes: object) -> Store:
    """*store*, holding *entries* in one batch with *changes* to it."""
    last = entries[-1].body_hash if entries else ZERO_HASH
    batch = batch_of([entry.raw for entry in entries], head_hash=last)
    store.append(replace(batch, **changes))  # type: ignore[arg-type]
    return store
