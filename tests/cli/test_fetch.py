"""A downloaded ledger is what was served, whole and in its place, and a blob is what its name says."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from cli.errors import RefusedError
from cli.fetch import AT_ONCE, blobs_of, fetch_ledger
from coordinator.events import CertificateIssued, SecretReleased, pack_event
from ledger.checkpoint import Checkpoint
from ledger.entry import Body, Entry
from ledger.errors import LedgerError
from ledger.merkle import Frontier
from ledger.tiles import TILE_WIDTH, bundles_of, encode_bundle, tiles_of

SIZE = TILE_WIDTH * (AT_ONCE + 1) + 3  # More than one round of bundles, and a partial one.


def issued(number: int) -> CertificateIssued:
    return CertificateIssued(
        certificate=_sha(blob(number)), attestation_seq=0, sans=("web",), not_before=0, not_after=1
    )


def blob(number: int) -> bytes:
    return b"certificate %d" % (number // 2)  # Each is named by two entries.


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Served:
    """A ledger of unsigned entries behind a `get`; what is asked for is counted."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        frontier = Frontier()
        entries = []
        for seq in range(SIZE):
            kind, payload = pack_event(issued(seq))
            entry = Entry.seal(Body(bytes(32), seq, 1, bytes(32), kind, payload), bytes(64))
            frontier.append(entry.leaf_hash)
            entries.append(entry.raw)
            self.files[f"blob/{_sha(blob(seq)).hex()}"] = blob(seq)
        for tile in bundles_of(SIZE):
            first = tile.index * TILE_WIDTH
            self.files[tile.path()] = encode_bundle(entries[first : first + tile.width])
        for tile in tiles_of(SIZE):
            self.files[tile.path()] = bytes(32) * tile.width
        self.checkpoint = (Checkpoint("contrast.invalid/x", SIZE, frontier.root()).text() + "\n— x AAAAAAA=\n").encode()

    async def get(self, path: str) -> bytes:
        self.asked.append(path)
        await asyncio.sleep(0)
        return self.files[path]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_everything_is_fetched_once(tmp_path: Path) -> None:
    served = Served()
    await fetch_ledger(served.get, served.checkpoint, tmp_path)
    assert tree(tmp_path) == served.files | {"checkpoint": served.checkpoint}
    assert sorted(served.asked) == sorted(served.files)


async def test_a_blob_with_other_bytes_ends_it(tmp_path: Path) -> None:
    served = Served()
    name = f"blob/{_sha(blob(7)).hex()}"
    served.files[name] = b"other"
    with pytest.raises(ExceptionGroup) as caught:
        await fetch_ledger(served.get, served.checkpoint, tmp_path)
    assert caught.group_contains(RefusedError, match="other bytes")
    assert not (tmp_path / name).exists()


async def test_a_short_bundle_ends_it(tmp_path: Path) -> None:
    served = Served()
    name = next(bundles_of(SIZE)).path()
    served.files[name] = served.files[name][:-5]
    with pytest.raises(ExceptionGroup) as caught:
        await fetch_ledger(served.get, served.checkpoint, tmp_path)
    assert caught.group_contains(LedgerError)


def test_events_without_blobs_name_none() -> None:
    event = SecretReleased(secret_id="a", policy=b"p", attestation_seq=0, certificate=b"c", check=b"x")
    assert blobs_of(event) == ()
    assert blobs_of(issued(0)) == (_sha(blob(0)),)
