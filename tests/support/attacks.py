"""What a reader makes of a ledger's file that was tampered with. Run as a program, it tries many flipped bits.

``python -m tests.support.attacks GOOD-FILE FOLDER FIRST-BIT STOP STEP`` says one line for each bit: its number and the
verdict. Should a bit kill it, the last line that it said names the bit before.
"""

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from ledger import checkpoint, entry, note, signatures
from ledger.errors import LedgerError
from ledger.isolated import foreign_store
from ledger.lmdb_store import LmdbStore
from ledger.log import Log, open_log
from ledger.store import Store

MAP_SIZE = 2**24


@dataclass(frozen=True, slots=True)
class Known:
    """What an honest reader saw: the remembered head, and what the ledger held."""

    size: int
    root: bytes
    head: bytes
    blobs: tuple[bytes, ...]
    requests: tuple[tuple[bytes, int], ...]

    @classmethod
    def of(cls, log: Log) -> "Known":
        entries = [log.entry(seq) for seq in range(log.size)]
        requests = {entry.body.request_id: entry.body.seq for entry in reversed(entries) if entry.body.request_id}
        return cls(log.size, log.root, log.head, tuple(log.store.blob_digests()), tuple(requests.items()))


def verdict(store: Store, known: Known) -> str:
    """``same``, ``rollback``, ``withheld`` (a blob or hint is gone), or ``refused`` with the reason.

    ``FORGED`` is what must never come: other content that was taken for the ledger.
    """
    try:
        log = open_log(store, workers=1)
        if log.size < known.size:
            return "rollback"
        if (log.size, log.root, log.head) != (known.size, known.root, known.head):
            return f"FORGED: size {log.size}, root {log.root.hex()}"
        withheld = any(log.blob(digest) is None for digest in known.blobs)
        for request_id, seq in known.requests:
            found = log.find_request(request_id)
            if found is not None and found.body.seq != seq:
                return f"FORGED: request of entry {seq} answered with {found.body.seq}"
            withheld = withheld or found is None
    except LedgerError as error:
        return f"refused: {error}"
    return "withheld" if withheld else "same"


def verdict_on(path: Path, known: Known) -> str:
    """The same for the stranger's file at *path*: in a child process."""
    try:
        with foreign_store(path) as store:
            return verdict(store, known)
    except LedgerError as error:
        return f"refused: {error}"


def main(good: Path, folder: Path, first: int, stop: int, step: int) -> None:
    """Most flips leave most records alone: what was verified once, byte for byte the same, is not verified again."""
    remember = functools.lru_cache(256)
    split = remember(note.split_note)
    with (
        patch.object(signatures, "signature_holds", remember(entry.signature_holds)),
        patch.object(note, "_verify", remember(note._verify)),
        patch.object(note, "split_note", split),
        patch.object(checkpoint, "split_note", split),
    ):
        flip(good, folder, first, stop, step)


def flip(good: Path, folder: Path, first: int, stop: int, step: int) -> None:
    """Try every *step*-th bit from *first* on, before *stop*."""
    honest = LmdbStore(good, map_size=MAP_SIZE, readonly=True)
    known = Known.of(open_log(honest, workers=1))
    honest.close()
    image = bytearray((good / "data.mdb").read_bytes())
    folder.mkdir(exist_ok=True)
    handle = os.open(folder / "data.mdb", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(handle, image)
    for bit in range(first, min(stop, 8 * len(image)), step):
        byte = image[bit // 8]
        os.pwrite(handle, bytes([byte ^ 1 << bit % 8]), bit // 8)
        try:
            store = LmdbStore(folder, map_size=MAP_SIZE, readonly=True)
        except LedgerError as error:
            said = f"refused: {error}"
        else:
            said = verdict(store, known)
            store.close()
        os.write(1, f"{bit} {said}\n".encode())
        os.pwrite(handle, bytes([byte]), bit // 8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
