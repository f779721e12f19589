"""Downloading what `contrast verify` reads of a ledger: the control chain, its proofs, and what its events name.

Nothing is judged here: links are followed as they come, and audit/control.py refuses what they led to.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from cli.fetch import Get, blobs_of, fetch_all, fetch_blob, write_file
from coordinator.events import (
    CONTROL_TYPES,
    EpochOpened,
    Event,
    EventError,
    LedgerRecovered,
    Link,
    ManifestSet,
    decode_event,
)
from coordinator.refusals import RuleBrokenError
from ledger.checkpoint import read_checkpoint
from ledger.entry import parse_entry
from ledger.tilenodes import tiles_for_consistency, tiles_for_inclusion
from ledger.tiles import Tile
from manifest.errors import ManifestError
from manifest.parse import parse_manifest

MAX_HINTS: Final = 4096


async def fetch_control(
    get: Get,
    checkpoint_raw: bytes,
    head: Link,
    folder: Path,
    *,
    remembered: int = 0,
    hints: Iterable[int] = (),
) -> None:
    """Download the control chain from *head*, its inclusion proofs, and every blob but policies of past manifests.

    Args:
        get: fetches a file by its path below the ledger's root.
        checkpoint_raw: the checkpoint as attested.
        head: the last control event as attested.
        folder: where to; laid out as a whole ledger would be.
        remembered: size of the ledger seen before, for the tiles of its consistency proof; 0 for none.
        hints: where control events are said to be, so that they can be fetched at once; what counts are the links.

    Raises:
        RefusedError: a blob is not what its name says.
        RuleBrokenError: a link leads forward, or to another event than a control event.
        LedgerError: an entry is malformed.
    """
    size = read_checkpoint(checkpoint_raw).size
    write_file(folder / "checkpoint", checkpoint_raw)
    chain = _Chain(get, folder, size)
    await chain.prefetch(seq for seq, _ in zip(dict.fromkeys(hints), range(MAX_HINTS), strict=False))
    events = await chain.follow(head)
    anchors = {event.anchor_seq for _, event in events if isinstance(event, EpochOpened)}
    await chain.prefetch(anchors)
    tiles = dict.fromkeys(_tiles(chain.read, events, size, remembered))
    wanted = dict.fromkeys(digest for _, event in events for digest in _needed(event))
    await asyncio.gather(
        fetch_all(partial(_file, get, folder, tile.path()) for tile in tiles),
        fetch_all(partial(fetch_blob, get, folder, digest) for digest in wanted),
    )
    await fetch_all(partial(fetch_blob, get, folder, digest) for digest in _policies(folder, events))


class _Chain:
    """Entries of the chain, each fetched once."""

    def __init__(self, get: Get, folder: Path, size: int) -> None:
        self._get = get
        self._folder = folder
        self._size = size
        self.read: dict[int, bytes] = {}

    async def prefetch(self, seqs: Iterable[int]) -> None:
        await fetch_all(partial(self._prefetch, seq) for seq in seqs if 0 <= seq < self._size)

    async def follow(self, head: Link) -> list[tuple[int, Event]]:
        """The events from *head* back to entry 0."""
        events: list[tuple[int, Event]] = []
        seq = head.seq
        while True:
            entry = parse_entry(await self._entry(seq), seq)
            if entry.body.type not in CONTROL_TYPES:
                raise RuleBrokenError(seq, "the control chain leads to an event that is none of its own")
            try:
                event, link = decode_event(entry)
            except EventError as error:
                raise RuleBrokenError(seq, "the payload is not one of this version", seen=str(error)) from None
            events.append((seq, event))
            if seq == 0 or link is None:
                return events
            if link.seq >= seq:
                raise RuleBrokenError(seq, "it links to no earlier entry", seen=str(link.seq))
            seq = link.seq

    async def _prefetch(self, seq: int) -> None:
        await self._entry(seq)

    async def _entry(self, seq: int) -> bytes:
        known = self.read.get(seq)
        if known is None:
            known = self.read[seq] = await self._get(f"entry/{seq}")
            write_file(self._folder / "entry" / str(seq), known)
        return known


def _tiles(seqs: Iterable[int], events: Sequence[tuple[int, Event]], size: int, remembered: int) -> Iterable[Tile]:
    for seq in seqs:
        yield from tiles_for_inclusion(seq, size)
    earlier = {event.size for _, event in events if isinstance(event, LedgerRecovered)} | {remembered}
    for old in earlier:
        if 0 < old < size:
            yield from tiles_for_consistency(old, size)


def _needed(event: Event) -> tuple[bytes, ...]:
    """What judging *event* takes: of an epoch not the recorded verdict, which is found anew."""
    named = blobs_of(event)
    return tuple(digest for digest in named if digest != event.verdict) if isinstance(event, EpochOpened) else named


def _policies(folder: Path, events: Sequence[tuple[int, Event]]) -> tuple[bytes, ...]:
    """The policies of the manifest in force; none where it is no manifest, which the judge refuses."""
    current = next((event for _, event in events if isinstance(event, ManifestSet)), None)
    if current is None:
        return ()
    try:
        return tuple(parse_manifest((folder / "blob" / current.manifest.hex()).read_bytes()).policies)
    except ManifestError:
        return ()


async def _file(get: Get, folder: Path, path: str) -> None:
    write_file(folder / path, await get(path))
