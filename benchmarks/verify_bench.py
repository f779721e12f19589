"""`contrast verify` on a ledger of a million events with a hundred manifests: bytes and seconds of the control chain.

The control events are those of a real Coordinator in which a hundred manifests were set, chained anew with a million
others between them, which nothing here reads: they are leaves of the tree and no more. The files are kept under build/.
They are served over HTTP by another process; the clock runs from the attested statement on, over downloading, proving
and judging, the proof that a head remembered at half the size is extended included. The limit is the arithmetic that
cannot be avoided: an owner's signature and two CA certificates for each manifest, the root, the Coordinator's report
(P-384), and the signatures of all control events and of the checkpoint (Ed25519), in a bare loop on one core.
"""

import asyncio
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.control import judge_control
from cli.fetch_control import fetch_control
from cli.heads import Head
from cli.memory import demand_proof
from cli.verifying import head_of_report
from coordinator.events import CONTROL_TYPES, NO_LINK, Link, decode_event, pack_event
from coordinator.keys import Seed
from ledger.checkpoint import Checkpoint, epoch_name
from ledger.entry import ZERO_HASH, Body, Entry, sign
from ledger.memory import MemoryStore
from ledger.merkle import Frontier, node_hash
from ledger.note import NoteSigner, sign_note
from ledger.tilenodes import TileNodes
from ledger.tiles import TILE_WIDTH, tiles_of
from manifest.model import Policy
from tests.support.coordinator import coordinator
from tests.support.deployment import Deployment, share_key
from wire.files import FileClient
from wire.sealing import open_seed_share

EVENTS = 1_000_000
MANIFESTS = 100
ROUNDS = 5
BUILD = Path(__file__).resolve().parent.parent / "build"
_FILES = "ledger"


def rows(events: int = EVENTS, manifests: int = MANIFESTS) -> dict[str, dict[str, Any]]:
    """The row ``verify.1m``."""
    folder = BUILD / f"verify-{events}-{manifests}"
    if not (folder / "facts.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        asyncio.run(_build(folder, events, manifests))
    facts = json.loads((folder / "facts.json").read_text())
    values, limits, seen = [], [], {"bytes": 0, "requests": 0}
    with _served(folder / _FILES) as address:
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(prefix="verify-bench-") as fresh:
                before = _limit(manifests)
                began = time.perf_counter()
                seen = asyncio.run(_verify(address, facts, Path(fresh)))
                values.append(time.perf_counter() - began)
                limits += [before, _limit(manifests)]
    value, limit = statistics.median(values), statistics.median(limits)
    return {
        "verify.1m": {
            "value": round(value, 3),
            "limit": round(limit, 3),
            "ratio": round(limit / value, 3),
            "unit": "s",
            "limit_is": f"{3 * manifests + 2} x P-384 verify, {manifests + 4} x Ed25519 verify",
            "events": events,
            "manifests": manifests,
            **seen,
        }
    }


async def _verify(address: str, facts: dict[str, Any], folder: Path) -> dict[str, int]:
    """What the command does between the attested statement and the files that it writes."""
    seen = {"bytes": 0, "requests": 0}
    head, checkpoint = Link(facts["head_seq"], bytes.fromhex(facts["head_hash"])), facts["checkpoint"].encode()
    async with FileClient(address) as client:

        async def get(path: str) -> bytes:
            raw = await client.get(path)
            seen["bytes"] += len(raw)
            seen["requests"] += 1
            return raw

        source = await fetch_control(get, checkpoint, head, remembered=facts["old_size"], hints=facts["manifests"])
    source.write(folder)
    report = judge_control(source, head)
    offered = head_of_report(report)
    remembered = Head(
        origin=offered.origin,
        ledger_key=offered.ledger_key,
        size=facts["old_size"],
        root=bytes.fromhex(facts["old_root"]),
        checkpoint=b"",
    )
    nodes = TileNodes(offered.size, lambda tile: source.tile(int(tile.level), tile.index, tile.width))
    demand_proof(remembered, offered, nodes, address=address)
    if not report.ok or len(report.manifests) != len(facts["manifests"]):
        raise RuntimeError("the ledger of the benchmark does not pass")
    return seen


async def _build(folder: Path, events: int, manifests: int) -> None:
    """Set *manifests* manifests in a real Coordinator, and spread its control events over *events*."""
    store = MemoryStore()
    async with coordinator(store) as running:
        _, statement = await running.statement()
        origin, previous = statement.origin or "", None
        sealed = b""
        for number in range(manifests):
            policy = Policy(sans=(f"service-{number}.default.svc.cluster.local",))
            request = Deployment().with_policy(b"# policy %d" % number, policy).request(origin, previous)
            async with running.client() as client:
                answer = await client.set_manifest(request)
            previous, sealed = bytes.fromhex(answer.transition), sealed or answer.seed_shares[0].sealed
        log, key = running.service.ledger, running.epoch.signing
        entries = [log.entry(seq) for seq in range(log.size)]
        blobs = {digest: store.blob(digest) or b"" for digest in store.blob_digests()}
    seed = Seed(*open_seed_share(sealed, share_key(), origin))
    files = folder / _FILES
    for digest, blob in blobs.items():
        _write(files / "blob" / digest.hex(), blob)
    controls = [entry for entry in entries if entry.body.type in CONTROL_TYPES]
    step = events // manifests
    places = {seq if seq < 3 else (seq - 2) * step: entry for seq, entry in enumerate(controls)}
    leaves, head = _chain(files, places, events, key)
    _tiles(files, leaves)
    old = Frontier()
    old.extend(leaves[: events // 2])
    whole = old.copy()
    whole.extend(leaves[events // 2 :])
    text = Checkpoint(origin, events, whole.root()).text()
    note = sign_note(text, [NoteSigner(origin, seed.ledger_key()), NoteSigner(epoch_name(origin), key)])
    facts = {
        "checkpoint": note,
        "head_seq": head.seq,
        "head_hash": head.body_hash.hex(),
        "old_size": events // 2,
        "old_root": old.root().hex(),
        "manifests": [seq for seq, entry in places.items() if entry.body.type == "manifest.set"],
    }
    _write(folder / "facts.json", json.dumps(facts).encode())


def _chain(files: Path, places: dict[int, Entry], events: int, key: Ed25519PrivateKey) -> tuple[list[bytes], Link]:
    """Leaf hashes of the whole ledger; control events at their *places*, written as files, others in between."""
    leaves: list[bytes] = []
    prev, link, signer = ZERO_HASH, NO_LINK, key.public_key().public_bytes_raw()
    time_ms = max(entry.body.time_ms for entry in places.values())
    for seq in range(events):
        found = places.get(seq)
        if found is None:
            body = Body(signer, seq, time_ms, prev, "certificate.issued", b"payload that nothing here reads", b"")
            entry = Entry.seal(body, bytes(64))
        else:
            event, _ = decode_event(found)
            kind, payload = pack_event(event, link)
            at = found.body.time_ms if seq < 3 else time_ms
            unsigned = Entry.unsigned(Body(signer, seq, at, prev, kind, payload, found.body.request_id))
            entry = unsigned.signed(sign(unsigned.body_hash, key))
            link = Link(seq, entry.body_hash)
            _write(files / "entry" / str(seq), entry.raw)
        leaves.append(entry.leaf_hash)
        prev = entry.body_hash
    return leaves, link


def _tiles(files: Path, leaves: Sequence[bytes]) -> None:
    row, level = list(leaves), 0
    for tile in tiles_of(len(leaves)):
        while tile.level != level:
            row, level = [_root(row[at : at + TILE_WIDTH]) for at in range(0, len(row) - 255, TILE_WIDTH)], level + 1
        first = tile.index * TILE_WIDTH
        _write(files / tile.path(), b"".join(row[first : first + tile.width]))


def _root(hashes_: list[bytes]) -> bytes:
    while len(hashes_) > 1:
        hashes_ = [node_hash(left, right) for left, right in list(pairwise(hashes_))[::2]]
    return hashes_[0]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """A web server for *folder* in a process of its own."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(folder, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        ours.send(None)
        process.join(10)


def _serve(folder: Path, pipe: Connection) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=(folder / request.path[1:]).read_bytes())

    async def life() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.to_thread(pipe.recv)
        await runner.cleanup()

    asyncio.run(life())


def _limit(manifests: int) -> float:
    """Seconds for the verifications that cannot be avoided, one after another."""
    p384, algorithm, message = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384()), os.urandom(672)
    ed25519, digest = Ed25519PrivateKey.generate(), hashlib.sha256(message).digest()
    first, second = p384.sign(message, algorithm), ed25519.sign(digest)
    verify_first = partial(p384.public_key().verify, first, message, algorithm)
    verify_second = partial(ed25519.public_key().verify, second, digest)
    began = time.perf_counter()
    for _ in range(3 * manifests + 2):
        verify_first()
    for _ in range(manifests + 4):
        verify_second()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(rows(), indent=2))
