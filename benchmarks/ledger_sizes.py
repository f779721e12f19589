"""Audit time and append latency against the size of the ledger, for the plots: 10 000 to 3 000 000 events.

``python -m benchmarks.ledger_sizes [SIZE …]`` adds to the rows of build/bench.json, under ``ledger.sizes``. One ledger
is made for each size; its structure is checked by one process, in CPU time, and one client appends for a while. The
limit of each is measured right beside it: the bare hashing of the same bytes, and 1 KiB appends with fdatasync.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.__main__ import OUTPUT
from benchmarks.ledger_append import append_for, fdatasync_per_second
from benchmarks.ledger_audit import measure
from benchmarks.ledger_files import make_ledger
from ledger.lmdb_store import LmdbStore
from ledger.log import Log, stored_frontier

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
SECONDS = 2.0
ROW = "ledger.sizes"


def rows(sizes: tuple[int, ...] = SIZES) -> dict[str, dict[str, Any]]:
    """The row ``ledger.sizes``, with one point for each size."""
    with tempfile.TemporaryDirectory(prefix="ledger-sizes-", dir=os.environ.get("CONTRAST_BENCH_DIR")) as name:
        points = [point(Path(name) / str(size), size) for size in sizes]
    first, last = points[0], points[-1]
    return {
        ROW: {
            "value": round(last["audit_us"], 3),
            "limit": round(first["audit_us"], 3),
            "ratio": round(first["audit_us"] / last["audit_us"], 3),
            "unit": "us CPU per event",
            "limit_is": f"the same at {first['events']} events: flat is 1",
            "points": points,
        }
    }


def point(path: Path, size: int) -> dict[str, Any]:
    """Everything about one size."""
    make_ledger(path, size, signed=False)
    audit = measure("cpu", path, 1)
    store = LmdbStore(path)
    head = store.head()
    note = (store.finished() or b"").decode()
    log = Log(store, frontier=stored_frontier(store, size), head=head, time_ms=0, origin=None, finished=note)
    before = fdatasync_per_second(path)
    _, latencies = asyncio.run(append_for(log, 1, SECONDS))
    after = fdatasync_per_second(path)
    store.close()
    (path / "data.mdb").unlink()  # three million events are three gigabytes
    latencies.sort()
    print(f"{size} events", file=sys.stderr, flush=True)
    return {
        "events": size,
        "audit_cpu_s": round(audit["value"], 3),
        "audit_us": round(audit["value"] / size * 1e6, 3),
        "bare_us": round(audit["limit"] / size * 1e6, 3),
        "append_p50_ms": round(statistics.median(latencies) * 1000, 3),
        "append_p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 3),
        "fdatasync_ms": round(2000 / (before + after), 3),
    }


def main() -> None:
    found = rows(tuple(map(int, sys.argv[1:])) or SIZES)
    held = json.loads(OUTPUT.read_text("utf-8")) if OUTPUT.is_file() else {}
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(held | found, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
