"""Downloading a ledger into a folder, in the layout of tlog-tiles; only blobs are checked here, against their names.

The size is that of the attested checkpoint, so what a Coordinator records meanwhile changes nothing.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, assert_never

from cli.errors import RefusedError
from coordinator.events import (
    CONTROL_TYPES,
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    EpochOpened,
    Event,
    EventError,
    LedgerCreated,
    LedgerRecovered,
    ManifestSet,
    SecretReleased,
    decode_event,
)
from ledger.checkpoint import Checkpoint, read_checkpoint
from ledger.entry import Entry, parse_entry
from ledger.tiles import TILE_WIDTH, bundles_of, decode_bundle, tiles_of
from manifest.errors import ManifestError
from manifest.parse import parse_manifest

AT_ONCE: Final = 16  # Requests in flight: enough to hide a round trip, too few to be taken for an attack.

Get = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was downloaded."""

    folder: Path
    checkpoint: Checkpoint
    blobs: int


async def fetch_ledger(get: Get, checkpoint_raw: bytes, folder: Path) -> Fetched:
    """Download the ledger of that checkpoint, with every blob that its events name, into the empty *folder*.

    Args:
        get: fetches a file by its path below the ledger's root, such as `tile/0/000` or `blob/<sha256>`.
        checkpoint_raw: the checkpoint as attested; it decides how much is fetched.
        folder: where to.

    Raises:
        RefusedError: a blob is not what its name says.
        LedgerError: an entry or bundle is malformed.
    """
    checkpoint = read_checkpoint(checkpoint_raw)
    _write(folder / "checkpoint", checkpoint_raw)
    wanted: set[bytes] = set()
    manifests: set[bytes] = set()

    async def bundle(path: str, start: int, width: int) -> None:
        raw = await get(path)
        _write(folder / path, raw)
        for seq, entry_raw in enumerate(decode_bundle(raw, width), start):
            entry = parse_entry(entry_raw, seq)
            if entry.body.type in CONTROL_TYPES:
                _write(folder / "entry" / str(seq), entry_raw)
            named, manifest = _named(entry)
            wanted.update(named)
            manifests.update(manifest)

    async def plain(path: str) -> None:
        _write(folder / path, await get(path))

    async def blob(digest: bytes) -> None:
        path = f"blob/{digest.hex()}"
        raw = await get(path)
        if hashlib.sha256(raw).digest() != digest:
            raise RefusedError(f"the blob {digest.hex()} as served has other bytes: the storage was changed")
        _write(folder / path, raw)

    size = checkpoint.size
    await _all(partial(bundle, tile.path(), tile.index * TILE_WIDTH, tile.width) for tile in bundles_of(size))
    await _all(partial(plain, tile.path()) for tile in tiles_of(size))
    await _all(partial(blob, digest) for digest in sorted(wanted))
    policies = _policies(folder, manifests) - wanted
    await _all(partial(blob, digest) for digest in sorted(policies))
    return Fetched(folder, checkpoint, len(wanted | policies))


def blobs_of(event: Event) -> tuple[bytes, ...]:
    """Return the digests of every blob that *event* names."""
    match event:
        case LedgerCreated():
            return (event.root_ca,)
        case EpochOpened():
            return (event.subject, event.verdict, *(digest for _, digest in event.evidence[1]))
        case ManifestSet():
            return (event.manifest, event.intermediate, event.mesh_ca)
        case AttestationAccepted():
            return (event.verdict, *(digest for _, digest in event.evidence[1]))
        case CertificateIssued():
            return (event.certificate,)
        case LedgerRecovered() | AttestationRefused() | SecretReleased():
            return ()
        case _:
            assert_never(event)


def _named(entry: Entry) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the blobs, and among them the manifests, that *entry* names; an unknown event is judged by the replay."""
    try:
        event, _ = decode_event(entry)
    except EventError:
        return (), ()
    return blobs_of(event), (event.manifest,) if isinstance(event, ManifestSet) else ()


def _policies(folder: Path, manifests: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for digest in manifests:
        try:
            found |= set(parse_manifest((folder / "blob" / digest.hex()).read_bytes()).policies)
        except ManifestError:
            continue  # The replay refuses it, with the entry's number.
    return found


async def _all(jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run all *jobs*, a few at a time; the first failure ends the others."""
    queue = iter(jobs)

    async def work() -> None:
        for job in queue:
            await job()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
