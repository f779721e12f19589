"""How long a proof of inclusion takes at a million events, to build from the store and to verify; nothing is signed.

Rows ``ledger.proof.build`` and ``ledger.proof.verify``, in milliseconds; the limit is hashing a path of that length and
nothing else, and the ratio is limit to value. All three are measured in turn, so that the machine's mood is the same.
"""

import json
import os
import random
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.ledger_files import make_ledger
from ledger.checkpoint import read_checkpoint
from ledger.lmdb_store import LmdbStore
from ledger.log import Log
from ledger.log import stored_frontier as frontier_of
from ledger.merkle import verify_inclusion

EVENTS = 1_000_000
PROOFS = 2_000
ROUNDS = 5


def rows(events: int = EVENTS) -> dict[str, dict[str, Any]]:
    """The rows of build/bench.json."""
    with tempfile.TemporaryDirectory(prefix="ledger-proof-", dir=os.environ.get("CONTRAST_BENCH_DIR")) as folder:
        path = Path(folder) / "ledger"
        make_ledger(path, events, signed=False)
        return measure(path)


def measure(path: Path) -> dict[str, dict[str, Any]]:
    """Proofs of random entries of the ledger at *path*."""
    store = LmdbStore(path, readonly=True)
    note = store.finished()
    if note is None:
        raise RuntimeError("the ledger has no checkpoint")
    checkpoint, head = read_checkpoint(note), store.head()
    log = Log(store, frontier=frontier_of(store, head.size), head=head, time_ms=0, origin=None, finished=None)
    choose = random.Random(1)  # noqa: S311 - the same entries every time
    seqs = [choose.randrange(head.size) for _ in range(PROOFS)]
    leaves = [sha256(b"\x00" + store.entries(seq, seq + 1)[0]).digest() for seq in seqs]
    build, verify, bare = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        paths = [log.proof(seq) for seq in seqs]
        build.append(time.perf_counter() - began)
        began = time.perf_counter()
        for seq, leaf, path_up in zip(seqs, leaves, paths, strict=True):
            verify_inclusion(leaf, seq, checkpoint.size, path_up, checkpoint.root)
        verify.append(time.perf_counter() - began)
        began = time.perf_counter()
        for leaf, path_up in zip(leaves, paths, strict=True):
            node = leaf
            for step in path_up:
                node = sha256(b"\x01" + node + step).digest()
        bare.append(time.perf_counter() - began)
    store.close()
    return {
        f"ledger.proof.{name}": {
            "value": round(min(seconds) * 1000 / PROOFS, 4),
            "limit": round(min(bare) * 1000 / PROOFS, 4),
            "ratio": round(min(bare) / min(seconds), 3),
            "unit": "ms",
            "limit_is": "bare hashing of the path",
            "events": head.size,
        }
        for name, seconds in (("build", build), ("verify", verify))
    }


if __name__ == "__main__":
    print(json.dumps(rows(int(sys.argv[1])) if sys.argv[1:] else rows(), indent=2))
