"""Downloading a ledger into a folder, in the layout of tlog-tiles; only blobs are checked here, against their names.

The size is that of the attested checkpoint, so what a Coordinator records meanwhile changes nothing.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
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
    ForkAccepted,
    LedgerCreated,
    LedgerRecovered,
    ManifestSet,
    SecretReleased,
    decode_event,
)
from ledger.checkpoint import Checkpoint, read_checkpoint
from ledger.entry import parse_entry
from ledger.tiles import TILE_WIDTH, Tile, bundles_of, decode_bundle, tiles_of
from manifest.errors import ManifestError
from manifest.parse import parse_manifest
from wire.problem import RemoteRefusedError

AT_ONCE: Final = 16  # Requests in flight: enough to hide a round trip, too few to be taken for an attack.

Get = Callable[[str], Awaitable[bytes]]


async def fetch_ledger(get: Get, checkpoint_raw: bytes, folder: Path, *, withheld: bool = False) -> Checkpoint:
    """Download the ledger of that checkpoint, with every blob that its events name, into the empty *folder*.

    Memory stays bounded however long the ledger is: a few bundles, then the blobs that they name, and so on.

    Args:
        get: fetches a file by its path below the ledger's root, such as `tile/0/000` or `blob/<sha256>`.
        checkpoint_raw: the checkpoint as attested; it decides how much is fetched.
        folder: where to.
        withheld: go on without blobs that the other side says it has not; an audit names each of them.

    Raises:
        RefusedError: a blob is not what its name says.
        LedgerError: an entry or bundle is malformed.
    """
    checkpoint = read_checkpoint(checkpoint_raw)
    write_file(folder / "checkpoint", checkpoint_raw)
    download = _Download(get, folder, withheld=withheld)
    bundles = bundles_of(checkpoint.size)
    while some := tuple(islice(bundles, AT_ONCE)):
        await fetch_all(partial(download.bundle, tile) for tile in some)
        await download.blobs()
    download.add_policies()
    await download.blobs()
    await fetch_all(partial(download.file, tile.path()) for tile in tiles_of(checkpoint.size))
    return checkpoint


class _Download:
    """What is still wanted, and where it goes."""

    def __init__(self, get: Get, folder: Path, *, withheld: bool) -> None:
        self._get = get
        self._folder = folder
        self._withheld = withheld
        self._wanted: set[bytes] = set()
        self._manifests: set[bytes] = set()

    async def file(self, path: str) -> None:
        """Fetch one file."""
        write_file(self._folder / path, await self._get(path))

    async def bundle(self, tile: Tile) -> None:
        """Fetch one bundle of entries and note what they name."""
        raw = await self._get(tile.path())
        write_file(self._folder / tile.path(), raw)
        for seq, entry_raw in enumerate(decode_bundle(raw, tile.width), tile.index * TILE_WIDTH):
            entry = parse_entry(entry_raw, seq)
            if entry.body.type in CONTROL_TYPES:
                write_file(self._folder / "entry" / str(seq), entry_raw)
            try:
                event, _ = decode_event(entry)
            except EventError:
                continue  # The replay refuses it, with the entry's number.
            self._wanted.update(blobs_of(event))
            if isinstance(event, ManifestSet):
                self._manifests.add(event.manifest)

    async def blobs(self) -> None:
        """Fetch every blob that is wanted and not there yet."""
        missing = sorted(digest for digest in self._wanted if not self._blob(digest).exists())
        self._wanted.clear()
        await fetch_all(partial(self._fetch_blob, digest) for digest in missing)

    def add_policies(self) -> None:
        """Want the policies that the manifests name."""
        for digest in self._manifests:
            try:
                self._wanted |= set(parse_manifest(self._blob(digest).read_bytes(), recorded=True).policies)
            except (ManifestError, FileNotFoundError):
                continue  # The replay refuses it, with the entry's number.

    async def _fetch_blob(self, digest: bytes) -> None:
        try:
            await fetch_blob(self._get, self._folder, digest)
        except RemoteRefusedError as error:
            if not self._withheld or error.code != "not_found":
                raise

    def _blob(self, digest: bytes) -> Path:
        return self._folder / "blob" / digest.hex()


async def fetch_blob(get: Get, folder: Path, digest: bytes) -> None:
    """Fetch one blob into *folder*.

    Raises:
        RefusedError: other bytes came.
    """
    raw = await get(f"blob/{digest.hex()}")
    if hashlib.sha256(raw).digest() != digest:
        raise RefusedError(f"the blob {digest.hex()} as served has other bytes: the storage was changed")
    write_file(folder / "blob" / digest.hex(), raw)


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
        case LedgerRecovered() | ForkAccepted() | AttestationRefused() | SecretReleased():
            return ()
        case _:
            assert_never(event)


async def fetch_all(jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run all *jobs*, a few at a time; the first failure ends the others."""
    queue = iter(jobs)

    async def work() -> None:
        for job in queue:
            await job()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work())


def write_file(path: Path, data: bytes) -> None:
    """Write one file of the ledger."""
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
