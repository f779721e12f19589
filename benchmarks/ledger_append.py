"""How fast the ledger takes durable, signed events, beside what disk and signatures alone allow. Not a load test.

Rows ``ledger.append.c1``, ``.c64`` and ``.c512``, and ``.isolated.c64`` with the store in a process of its own: that
many clients, each waiting for its answer before the next event, of about 1 KiB. The limit of c1 is a 1 KiB append with
fdatasync, that of the others Ed25519 signing on one core, each in a bare loop around every run in the same process; the
quotient of the medians counts.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.entry import signing_input
from ledger.isolated import IsolatedStore
from ledger.lmdb_store import LmdbStore
from ledger.log import Log
from tests.support.ledger_machine import Note, make_writer

PAYLOAD = 850  # with the fields around it about 1 KiB
ROUNDS = 5
SECONDS = 1.0
CLIENTS = (1, 64, 512)


def fdatasync_per_second(folder: Path, seconds: float = SECONDS / 2) -> float:
    """1 KiB appends, each followed by fdatasync."""
    handle = os.open(folder / "limit", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def work() -> None:
        os.write(handle, bytes(1024))
        os.fdatasync(handle)

    try:
        return _rate(work, seconds, step=16)
    finally:
        os.close(handle)


def signatures_per_second(seconds: float = SECONDS / 2) -> float:
    """Ed25519 signatures of what an event signs, on one core."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    message = signing_input(bytes(32))
    return _rate(lambda: key.sign(message), seconds, step=256)


def _rate(work: Callable[[], object], seconds: float, *, step: int) -> float:
    done, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        for _ in range(step):
            work()
        done += step
    return done / passed


async def append_for(log: Log, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Durable events per second of *clients*, and every latency in seconds."""
    writer = make_writer(log)
    latencies: list[float] = []
    payload = bytes(PAYLOAD)
    begin = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - begin < seconds:
            asked = time.perf_counter()
            await writer.submit(Note((payload,)))
            latencies.append(time.perf_counter() - asked)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        async with asyncio.TaskGroup() as commands:
            for _ in range(clients):
                commands.create_task(client())
        passed = time.perf_counter() - begin
        await writer.close()
    return len(latencies) / passed, latencies


def measure(clients: int, kind: type[LmdbStore | IsolatedStore] = LmdbStore) -> dict[str, float | str]:
    """One row; every round measures the limit, the ledger and the limit again."""
    rates, limits, latencies = [], [], []
    with tempfile.TemporaryDirectory(prefix="ledger-append-", dir=os.environ.get("CONTRAST_BENCH_DIR")) as name:
        folder = Path(name)
        store = kind(folder / "ledger")
        log = Log.empty(store)

        def limit() -> float:
            return fdatasync_per_second(folder) if clients == 1 else signatures_per_second()

        for _ in range(ROUNDS):
            before = limit()
            rate, some = asyncio.run(append_for(log, clients, SECONDS))
            limits += [before, limit()]
            rates.append(rate)
            latencies += some
        size = log.size
        store.close()
    latencies.sort()
    value, bound = statistics.median(rates), statistics.median(limits)
    return {
        "value": round(value, 1),
        "limit": round(bound, 1),
        "ratio": round(value / bound, 3),
        "unit": "events/s",
        "limit_is": "1 KiB append + fdatasync" if clients == 1 else "Ed25519 signatures, one core",
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 3),
        "p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 3),
        "events": size,
    }


def rows() -> dict[str, dict[str, float | str]]:
    """The rows of build/bench.json."""
    found = {f"ledger.append.c{clients}": measure(clients) for clients in CLIENTS}
    found["ledger.append.isolated.c64"] = measure(64, IsolatedStore)
    return found


if __name__ == "__main__":
    print(json.dumps(rows(), indent=2))
