"""Downloading what `contrast verify` reads of a ledger: the control chain, its proofs, and what its events name.

Nothing is judged here: links are followed as they come, and audit/control.py refuses what they led to.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from cli.fetch import Get, blobs_of, fetch_all, write_file
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
from ledger.errors import LedgerContentError
from ledger.source import DirectorySource
from ledger.tilenodes import tiles_for_consistency, tiles_for_inclusion
from ledger.tiles import Tile
from manifest.errors import ManifestError
from manifest.parse import parse_manifest

MAX_HINTS: Final = 4096


class FetchedSource(DirectorySource):
    """What was read of a ledger, in memory: a few megabytes, laid out as in a directory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(Path())
        self.files = files

    def write(self, folder: Path) -> None:
        """Write everything into *folder*."""
        for name, data in self.files.items():
            write_file(folder / name, data)

    def _read(self, name: str, limit: int) -> bytes | None:
        data = self.files.get(name)
        if data is not None and len(data) > limit:
            raise LedgerContentError(None, f"{name} is longer than {limit} bytes, the most that it can be")
        return data


async def fetch_control(
    get: Get,
    checkpoint_raw: bytes,
    head: Link,
    *,
    remembered: int = 0,
    hints: Iterable[int] = (),
) -> FetchedSource:
    """Download the control chain from *head*, its inclusion proofs, and every blob but policies of past manifests.

    Args:
        get: fetches a file by its path below the ledger's root.
        checkpoint_raw: the checkpoint as attested.
        head: the last control event as attested.
        remembered: size of the ledger seen before, for the tiles of its consistency proof; 0 for none.
        hints: where control events are said to be, so that they can be fetched at once; what counts are the links.

    Raises:
        RuleBrokenError: a link leads forward, or to another event than a control event.
        LedgerError: an entry is malformed.
    """
    size = read_checkpoint(checkpoint_raw).size
    files = {"checkpoint": checkpoint_raw}

    async def fetch(path: str) -> None:
        if path not in files:
            files[path] = await get(path)

    chain = _Chain(fetch, files, size)
    await chain.prefetch(seq for seq, _ in zip(dict.fromkeys(hints), range(MAX_HINTS), strict=False))
    events = await chain.follow(head)
    anchors = {event.anchor_seq for _, event in events if isinstance(event, EpochOpened)}
    await chain.prefetch(anchors)
    tiles = [tile.path() for tile in dict.fromkeys(_tiles(chain.seqs, events, size, remembered))]
    blobs = [f"blob/{digest.hex()}" for digest in dict.fromkeys(each for _, event in events for each in _needed(event))]
    await fetch_all(partial(fetch, path) for path in (*tiles, *blobs))
    await fetch_all(partial(fetch, f"blob/{digest.hex()}") for digest in _policies(files, events))
    return FetchedSource(files)


class _Chain:
    """Entries of the chain, each fetched once."""

    def __init__(self, fetch: Callable[[str], Awaitable[None]], files: Mapping[str, bytes], size: int) -> None:
        self._fetch = fetch
        self._files = files
        self._size = size
        self.seqs: dict[int, None] = {}

    async def prefetch(self, seqs: Iterable[int]) -> None:
        """Fetch those that exist."""
        wanted = [seq for seq in seqs if 0 <= seq < self._size]
        self.seqs.update(dict.fromkeys(wanted))
        await fetch_all(partial(self._fetch, f"entry/{seq}") for seq in wanted)

    async def follow(self, head: Link) -> list[tuple[int, Event]]:
        """The events from *head* back to entry 0."""
        events: list[tuple[int, Event]] = []
        seq = head.seq
        while True:
            await self.prefetch([seq])
            raw = self._files.get(f"entry/{seq}")
            if raw is None:
                raise LedgerContentError(seq, f"the checkpoint covers entries 0 to {self._size - 1} only")
            entry = parse_entry(raw, seq)
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


def _policies(files: Mapping[str, bytes], events: Sequence[tuple[int, Event]]) -> tuple[bytes, ...]:
    """The policies of the manifest in force; none where it is no manifest, which the judge refuses."""
    current = next((event for _, event in events if isinstance(event, ManifestSet)), None)
    if current is None:
        return ()
    try:
        return tuple(parse_manifest(files[f"blob/{current.manifest.hex()}"], recorded=True).policies)
    except ManifestError:
        return ()
