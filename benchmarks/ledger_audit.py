"""How fast a stored ledger is checked, beside the bare hashing and verifying of the same bytes. Judges no payload.

``ledger.audit.structure.1m``: a million events of about 1 KiB with opaque payloads, shape, order, chain, time, tree and
checkpoint, in one process; the limit is, for the same bytes already in memory, unpacking entry and body, the hash of
the body, the hash of the leaf and the root. ``.2p`` is the same on two processes, as a multiple of the first.
``ledger.audit.signatures``: every signature besides, on all cores; the limit is Ed25519 verification alone, a process
per core. Each pass runs in a process of its own; the limit runs before and after it, in that very process.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.ledger_files import make_ledger
from ledger.checkpoint import read_checkpoint
from ledger.entry import parse_raw
from ledger.lmdb_store import LmdbStore
from ledger.merkle import Frontier
from ledger.segments import check_structure
from ledger.source import StoredSource
from ledger.verify import replay_source

EVENTS = 1_000_000
SIGNED = 60_000
_CHUNK = 4096


def rows(events: int = EVENTS, signed: int = SIGNED) -> dict[str, dict[str, Any]]:
    """The rows of build/bench.json."""
    name = f"ledger.audit.structure.{'1m' if events == EVENTS else events}"
    with tempfile.TemporaryDirectory(prefix="ledger-audit-", dir=os.environ.get("CONTRAST_BENCH_DIR")) as folder:
        path = Path(folder) / "ledger"
        make_ledger(path, events, signed=False)
        one, two = measure("structure", path, 1), measure("structure", path, 2)
        path = Path(folder) / "signed"
        make_ledger(path, signed, signed=True)
        signatures = measure("signatures", path, len(os.sched_getaffinity(0)))
    return {
        name: row(one, "bare unpack, body hash, leaf hash, root"),
        f"{name}.2p": {
            **row(two, "the same row in one process"),
            "limit": round(one["value"], 3),
            "ratio": round(one["value"] / two["value"], 3),
        },
        "ledger.audit.signatures": row(signatures, "bare Ed25519 verify, a process per core"),
    }


def row(measured: dict[str, Any], limit_is: str) -> dict[str, Any]:
    """One pass as a row."""
    return {
        "value": round(measured["value"], 3),
        "limit": round(measured["limit"], 3),
        "ratio": round(measured["limit"] / measured["value"], 3),
        "unit": "s",
        "limit_is": limit_is,
        "limit_before_after": [round(each, 3) for each in measured["limits"]],
        "events": measured["events"],
        "events_per_s": round(measured["events"] / measured["value"]),
        "rss_anon_mb": round(measured["rss_anon_mb"], 1),
    }


def measure(what: str, path: Path, workers: int) -> dict[str, Any]:
    """Run one pass in its own process."""
    argv = [sys.executable, "-m", "benchmarks.ledger_audit", what, str(path), str(workers)]
    result: dict[str, Any] = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    return result


def structure(path: Path, workers: int) -> dict[str, Any]:
    """The structure of the ledger at *path*, between two passes of bare hashing."""
    with _limits(lambda: _bare_structure(path)) as limits, _peak() as peak:
        store = LmdbStore(path, readonly=True)
        began = time.perf_counter()
        size = check_structure(StoredSource(store), workers=workers, path=path).size
        value = time.perf_counter() - began
        store.close()
    return {"value": value, "events": size, **limits(), **peak()}


def signatures(path: Path, workers: int) -> dict[str, Any]:
    """Every signature of the ledger at *path*, between two passes of bare verification."""
    with _limits(lambda: _bare_signatures(path, workers)) as limits, _peak() as peak:
        store = LmdbStore(path, readonly=True)
        began = time.perf_counter()
        size = replay_source(StoredSource(store), workers=workers, check_tiles=False).size
        value = time.perf_counter() - began
        store.close()
    return {"value": value, "events": size, **limits(), **peak()}


def _chunks(path: Path) -> Iterator[list[bytes]]:
    store = LmdbStore(path, readonly=True)
    size = store.head().size
    for start in range(0, size, _CHUNK):
        yield store.entries(start, min(start + _CHUNK, size))
    store.close()


def structure_cpu(path: Path) -> dict[str, float]:
    """CPU seconds of a check of the structure and of the bare hashing: for series that no other load may bend."""
    bare = _bare_structure(path, time.process_time)
    store = LmdbStore(path, readonly=True)
    began = time.process_time()
    check_structure(StoredSource(store))
    value = time.process_time() - began
    store.close()
    return {"value": value, "limit": bare}


def _bare_structure(path: Path, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of hashing; reading is not counted."""
    passed, frontier = 0.0, Frontier()
    for raws in _chunks(path):
        began = clock()
        leaves = []
        for raw in raws:
            body_raw, _ = msgpack.unpackb(raw)
            msgpack.unpackb(body_raw)
            sha256(body_raw).digest()
            leaves.append(sha256(b"\x00" + raw).digest())
        frontier.extend(leaves)
        passed += clock() - began
    store = LmdbStore(path, readonly=True)
    note = store.finished()
    store.close()
    if note is None or frontier.root() != read_checkpoint(note).root:
        raise RuntimeError("the limit hashed something else")
    return passed


def _bare_signatures(path: Path, processes: int) -> float:
    context = get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_share, initargs=(path, processes, barrier)) as pool:
        return max(pool.map(_verify, range(processes), chunksize=1))


_SHARE: list[Any] = []


def _share(path: Path, processes: int, barrier: Barrier) -> None:
    _SHARE[:] = [path, processes, barrier]


def _verify(number: int) -> float:
    path, processes, barrier = _SHARE
    jobs = []
    for at, raw in enumerate(raw for raws in _chunks(path) for raw in raws):
        if at % processes == number:
            fields, body_raw, signature = parse_raw(raw, at)
            key = Ed25519PublicKey.from_public_bytes(fields[1])
            jobs.append((key, signature, b"contrast/event/v1\x00" + sha256(body_raw).digest()))
    barrier.wait(60)
    began = time.perf_counter()
    for key, signature, message in jobs:
        key.verify(signature, message)
    return time.perf_counter() - began


class _limits:  # noqa: N801 - used as a function
    """Measure a limit before and after what stands in the block."""

    def __init__(self, limit: Any) -> None:
        self._limit = limit
        self._seconds: list[float] = []

    def __enter__(self) -> Any:
        self._seconds.append(self._limit())
        return lambda: {"limits": self._seconds, "limit": sum(self._seconds) / len(self._seconds)}

    def __exit__(self, *_: object) -> None:
        self._seconds.append(self._limit())


class _peak:  # noqa: N801 - used as a function
    """The most anonymous memory of this process while the block runs, looked at every 20 ms."""

    def __enter__(self) -> Any:
        self._most, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return lambda: {"rss_anon_mb": self._most / 1024}

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            status = Path("/proc/self/status").read_text()
            self._most = max(self._most, int(status.split("RssAnon:")[1].split()[0]))


def main() -> None:
    match sys.argv[1:]:
        case ["structure", path, workers]:
            print(json.dumps(structure(Path(path), int(workers))))
        case ["cpu", path, _]:
            print(json.dumps(structure_cpu(Path(path))))
        case ["signatures", path, workers]:
            print(json.dumps(signatures(Path(path), int(workers))))
        case [events]:
            print(json.dumps(rows(int(events)), indent=2))
        case _:
            print(json.dumps(rows(), indent=2))


if __name__ == "__main__":
    main()
