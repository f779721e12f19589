"""Opening a ledger of 100 000 events: full verification and replay, beside the bare arithmetic on the same cores.

The limit is unpacking, hashing and verifying the signature of the same records in a bare loop, one process per core.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import msgpack
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.evidence import Evidence, Kind
from attestation.judge import ChainCache
from attestation.simulated.processor import Guest
from attestation.simulated.vendor import VendorChain
from benchmarks.support import Deployment, Pod, launch
from coordinator.commands import IssueCertificate
from coordinator.epoch import open_epoch
from coordinator.issuing import granted, prepare, read_request
from coordinator.keys import sha256 as digest_of
from coordinator.metrics import Metrics
from coordinator.opening import open_ledger
from coordinator.service import Service, World
from coordinator.settings import Settings
from ledger.lmdb_store import LmdbStore
from ledger.note import note_text

EVENTS = 100_000
_BATCH = 512


class _Issuer:
    kind = Kind.SIMULATED

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    async def issue(self, report_data: bytes) -> Evidence:
        return self._guest.evidence(report_data)


def rows(events: int = EVENTS) -> dict[str, dict[str, Any]]:
    """The row ``coordinator.start.100k``: seconds to open the ledger."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="cs-bench-") as folder:
        path = Path(folder) / "ledger"
        asyncio.run(_fill(path, events))
        before = _limit(path, len(cores))
        store = LmdbStore(path)
        began = time.perf_counter()
        opened = open_ledger(store, workers=len(cores))
        value = time.perf_counter() - began
        size = opened.log.size
        store.close()
        after = _limit(path, len(cores))
    limit = (before + after) / 2
    row = {
        "value": round(value, 2),
        "limit": round(limit, 2),
        "ratio": round(limit / value, 3),
        "unit": "s",
        "limit_is": f"unpack, SHA-256 and Ed25519 verify of the same records, {len(cores)} processes",
        "limit_before_after": [round(before, 2), round(after, 2)],
        "events": size,
        "events_per_s": round(size / value),
    }
    return {"coordinator.start.100k": row}


async def _fill(path: Path, events: int) -> None:
    """A genuine ledger: one manifest, one pod's evidence, and as many certificates as it takes."""
    vendor = VendorChain.create(datetime.now(UTC))
    deployment = Deployment(vendor)
    store = LmdbStore(path)
    with ThreadPoolExecutor(2) as threads:
        world = World(
            issuer=_Issuer(launch(vendor, deployment.coordinator_policy)),
            threads=threads,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            monotonic_ms=lambda: time.monotonic_ns() // 1_000_000,
        )
        service = Service(open_ledger(store), open_epoch(datetime.now(UTC)), Settings(ledger=path), world, Metrics())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            await service.ready.wait()
            statement = json.loads(service.statement())
            await service.set_manifest(deployment.request(statement["origin"]))
            pod = Pod(launch(vendor, deployment.workload_policy))
            model = _model(service, pod)
            left = (events - service.ledger.size) // 2
            while left > 0:
                commands = [_another(model, pod) for _ in range(min(left, _BATCH))]
                await asyncio.gather(*(service.kernel.submit(command) for command in commands))
                left -= len(commands)
            service.stop()
    store.close()


def _model(service: Service, pod: Pod) -> IssueCertificate:
    asked = read_request(pod.request(os.urandom(32)))
    authority = service.kernel.authority()
    return prepare(
        asked,
        granted(asked, authority),
        authority,
        checkpoint=note_text(service.ledger.finished or ""),
        now=datetime.now(UTC),
        life=timedelta(days=365),
        cache=ChainCache(),
    ).command


def _another(model: IssueCertificate, pod: Pod) -> IssueCertificate:
    nonce = os.urandom(32)
    return replace(
        model, request_id=digest_of(pod.binding(nonce)), attestation=replace(model.attestation, nonce=nonce), blobs=()
    )


def _limit(path: Path, processes: int) -> float:
    context = get_context("fork")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_prepare, initargs=(path, processes, barrier)) as pool:
        return max(pool.map(_bare, range(processes), chunksize=1))


_SHARE: list[Any] = []


def _prepare(path: Path, processes: int, barrier: Barrier) -> None:
    _SHARE[:] = [path, processes, barrier]


def _bare(number: int) -> float:
    path, processes, barrier = _SHARE
    store = LmdbStore(path, readonly=True)  # Opened after the fork, never before.
    size = store.head().size
    raws = [raw for at in range(0, size, 4096) for raw in store.entries(at, min(at + 4096, size))][number::processes]
    store.close()
    keys: dict[bytes, Ed25519PublicKey] = {}
    barrier.wait(60)
    began = time.perf_counter()
    for raw in raws:
        body_raw, signature = msgpack.unpackb(raw)
        signer = msgpack.unpackb(body_raw)[1]
        key = keys.get(signer)
        if key is None:
            key = keys[signer] = Ed25519PublicKey.from_public_bytes(signer)
        key.verify(signature, b"contrast/event/v1\x00" + sha256(body_raw).digest())
    return time.perf_counter() - began


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the rows
    print(json.dumps(rows(int(sys.argv[1]) if sys.argv[1:] else EVENTS), indent=2))
