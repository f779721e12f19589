"""Ledgers that a dishonest Coordinator could have written: chain, tree and signatures right, decisions wrong."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.events import CONTROL_TYPES, NO_LINK, Event, Link, decode_event, pack_event
from coordinator.keys import Seed, public_bytes
from ledger.checkpoint import Checkpoint, epoch_name
from ledger.entry import ZERO_HASH, Body, Entry, parse_entry, sign
from ledger.errors import LedgerContentError
from ledger.memory import MemoryStore
from ledger.merkle import Frontier
from ledger.note import NoteSigner, sign_note
from ledger.tiles import Tile, tiles_of
from manifest.model import Policy
from tests.support.acts import certificate, recover, set_manifest
from tests.support.coordinator import coordinator
from tests.support.deployment import VAULT_POLICY, Deployment, Pod, share_key
from wire.sealing import open_seed_share

Change = Callable[[int, Event], Event | None]


@dataclass(frozen=True, slots=True)
class Written:
    """An entry before it is chained: who signs it, when, for which request, and what it says."""

    signer: bytes
    time_ms: int
    request_id: bytes
    event: Event


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger as a list of facts, with every private key that an insider would have."""

    written: tuple[Written, ...]
    blobs: Mapping[bytes, bytes]
    epochs: Mapping[bytes, Ed25519PrivateKey] = field(repr=False)
    seed: Seed = field(repr=False)
    origin: str

    def find(self, kind: str, nth: int = 0) -> int:
        """The seq of the nth event of this type."""
        return [seq for seq, written in enumerate(self.written) if written.event.type == kind][nth]

    def changed(self, seq: int, **fields: object) -> "Ledger":
        """The same ledger, with fields of one event replaced."""
        one = self.written[seq]
        event = replace(one.event, **fields)  # type: ignore[arg-type]
        return self.swapped(seq, replace(one, event=event))

    def swapped(self, seq: int, written: Written) -> "Ledger":
        """The same ledger, with one entry replaced."""
        return replace(self, written=(*self.written[:seq], written, *self.written[seq + 1 :]))

    def without(self, seq: int) -> "Ledger":
        """The same ledger with one entry left out."""
        return replace(self, written=self.written[:seq] + self.written[seq + 1 :])

    def with_blob(self, blob: bytes) -> "Ledger":
        return replace(self, blobs={**self.blobs, hashlib.sha256(blob).digest(): blob})

    def source(self, *, signer: bytes | None = None) -> "ListSource":
        """Chained, signed, with a finished checkpoint by the newest epoch (or *signer*)."""
        raws: list[bytes] = []
        prev, link = ZERO_HASH, NO_LINK
        for seq, one in enumerate(self.written):
            kind, payload = pack_event(one.event, link)
            body = Body(one.signer, seq, one.time_ms, prev, kind, payload, one.request_id)
            entry = Entry.unsigned(body)
            entry = entry.signed(sign(entry.body_hash, self.epochs[one.signer]))
            raws.append(entry.raw)
            prev = entry.body_hash
            if kind in CONTROL_TYPES:
                link = Link(seq, entry.body_hash)
        key = self.epochs[signer or self.written[-1].signer]
        frontier = Frontier()
        frontier.extend(parse_entry(raw).leaf_hash for raw in raws)
        text = Checkpoint(self.origin, len(raws), frontier.root()).text()
        signers = [NoteSigner(self.origin, self.seed.ledger_key()), NoteSigner(epoch_name(self.origin), key)]
        return ListSource(tuple(raws), self.blobs, sign_note(text, signers).encode())


@dataclass(frozen=True, slots=True)
class ListSource:
    """A source in memory; its hash tiles are those of its entries."""

    raws: tuple[bytes, ...]
    blobs: Mapping[bytes, bytes]
    note: bytes

    def checkpoint(self) -> bytes:
        return self.note

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        if end > len(self.raws):
            raise LedgerContentError(len(self.raws), "missing")
        yield from self.raws[start:end]

    def entry(self, seq: int) -> bytes:
        return next(self.entries(seq, seq + 1))

    def tile(self, level: int, index: int, width: int) -> bytes:
        if Tile(level, index, width) not in set(tiles_of(len(self.raws))) or level:
            raise LedgerContentError(None, "missing")
        leaves = [parse_entry(raw).leaf_hash for raw in self.raws]
        return b"".join(leaves[index * 256 : index * 256 + width])

    def blob(self, digest: bytes) -> bytes | None:
        return self.blobs.get(digest)


def honest_ledger() -> Ledger:
    """The life of a real Coordinator: set, certificates, a secret, an update, a restart, a recovery, a certificate."""
    return asyncio.run(_live())


async def _live() -> Ledger:
    store = MemoryStore()
    epochs: dict[bytes, Ed25519PrivateKey] = {}
    async with coordinator(store) as running:
        epochs[running.epoch.public] = running.epoch.signing
        shares = await set_manifest(running, Deployment())
        await certificate(running, Pod())
        await certificate(running, Pod(VAULT_POLICY))
        await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new",))))
        await certificate(running, Pod(b"# new"))
    origin = running.service.state.origin
    async with coordinator(store) as again:
        epochs[again.epoch.public] = again.epoch.signing
        await recover(again, shares)
        await certificate(again, Pod())
        ledger = again.service.ledger
        written = []
        for seq in range(ledger.size):
            entry = ledger.entry(seq)
            event, _ = decode_event(entry)
            body = entry.body
            written.append(Written(body.signer, body.time_ms, body.request_id, event))
        blobs = {digest: ledger.blob(digest) or b"" for digest in store.blob_digests()}
    seed = Seed(*open_seed_share(shares.seed_shares[0].sealed, share_key(), origin))
    assert public_bytes(seed.ledger_key())
    return Ledger(tuple(written), blobs, epochs, seed, origin)
