"""Big ledgers for benchmarks, written straight into a store. Measures nothing."""

import hashlib
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import Checkpoint, epoch_name
from ledger.entry import ZERO_HASH, Body, Entry, sign
from ledger.lmdb_store import LmdbStore
from ledger.merkle import Frontier
from ledger.note import NoteSigner, sign_note
from ledger.store import EMPTY_HEAD, Batch, Head
from tests.support.ledger_machine import EPOCH, LEDGER, ORIGIN, START_MS

PAYLOAD = 850  # with the fields around it about 1 KiB
_BATCH = 20_000


def make_ledger(path: Path, events: int, *, signed: bool, key: Ed25519PrivateKey = EPOCH) -> None:
    """A ledger of *events* with opaque payloads; without *signed* each signature is 64 arbitrary bytes."""
    store = LmdbStore(path)
    signer = key.public_key().public_bytes_raw()
    frontier, head, prev = Frontier(), EMPTY_HEAD, ZERO_HASH
    while head.size < events:
        raws, leaves = [], []
        for seq in range(head.size, min(head.size + _BATCH, events)):
            payload = os.urandom(PAYLOAD)
            body = Body(signer, seq, START_MS + seq, prev, "note.taken", payload, payload[:32])
            entry = Entry.unsigned(body)
            entry = entry.signed(sign(entry.body_hash, key) if signed else payload[:64])
            raws.append(entry.raw)
            leaves.append(entry.leaf_hash)
            prev = entry.body_hash
        nodes = frontier.extend(leaves)
        previous, head = head, Head(head.size + len(raws), prev)
        text = Checkpoint(ORIGIN, head.size, frontier.root()).text()
        epoch = NoteSigner(epoch_name(ORIGIN), key)
        store.append(
            Batch(
                previous=previous,
                head=head,
                entries=raws,
                nodes=nodes,
                draft=sign_note(text, [epoch]).encode(),
                finished=sign_note(text, [NoteSigner(ORIGIN, LEDGER), epoch]).encode(),
                requests={hashlib.sha256(raws[0]).digest(): previous.size},
            )
        )
    store.close()
