"""The served log, read by a monitor without code of ours: written here from the C2SP texts, on hashlib and Ed25519."""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.support.acts import certificate, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import Pod
from wire.routes import Port

Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True)
class Head:
    origin: str
    size: int
    root: bytes


def open_checkpoint(note: bytes, vkey: str) -> Head:
    """signed-note and tlog-checkpoint, for one Ed25519 key."""
    name, key_id, encoded = vkey.split("+", 2)
    kind, public = base64.b64decode(encoded)[0], base64.b64decode(encoded)[1:]
    assert kind == 1
    assert hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4].hex() == key_id
    text, lines = note.decode().rsplit("\n\n", 1)
    text += "\n"
    found = 0
    for line in lines.splitlines():
        dash, signer, signature = line.split(" ")
        raw = base64.b64decode(signature)
        assert dash == "\u2014"
        if signer == name and raw[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], text.encode())
            found += 1
    assert found == 1
    origin, size, root, end = text.split("\n")
    assert end == ""
    return Head(origin, int(size), base64.b64decode(root))


def tile_path(level: int | str, number: int, width: int) -> str:
    """tlog-tiles: three digits a group, all but the last with an x; partial tiles by their width."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.insert(0, f"x{number % 1000:03d}")
    return f"tile/{level}/{'/'.join(groups)}" + (f".p/{width}" if width < 256 else "")


async def read_entries(fetch: Fetch, size: int) -> list[bytes]:
    entries: list[bytes] = []
    for number in range(-(-size // 256)):
        width = min(256, size - number * 256)
        raw = await fetch(tile_path("entries", number, width))
        while raw:
            length = int.from_bytes(raw[:2], "big")
            entries.append(raw[2 : 2 + length])
            raw = raw[2 + length :]
    assert len(entries) == size
    return entries


async def read_level_0(fetch: Fetch, size: int) -> list[bytes]:
    hashes: list[bytes] = []
    for number in range(-(-size // 256)):
        width = min(256, size - number * 256)
        raw = await fetch(tile_path(0, number, width))
        assert len(raw) == 32 * width
        hashes += [raw[at : at + 32] for at in range(0, len(raw), 32)]
    return hashes


def tree_head(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is defined there."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + tree_head(hashes[:split]) + tree_head(hashes[split:])).digest()


async def monitor(running: Running, session: aiohttp.ClientSession) -> tuple[Head, list[bytes]]:
    """One visit of a monitor: newest checkpoint, all entries, all tiles, everything compared."""

    async def fetch(path: str) -> bytes:
        async with session.get(running.url(Port.USER, f"/v1/ledger/{path}")) as response:
            assert response.status == 200, path
            return await response.read()

    head = open_checkpoint(await fetch("checkpoint"), running.service.state.verifier_keys[0])
    entries = await read_entries(fetch, head.size)
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert tree_head(leaves) == head.root
    assert await read_level_0(fetch, head.size) == leaves
    for number in range(head.size >> 8):
        raw = await fetch(tile_path(1, number >> 8, (head.size >> 8) - (number >> 8 << 8)))
        assert raw[32 * (number & 255) :][:32] == tree_head(leaves[number * 256 : number * 256 + 256])
    return head, entries


async def test_a_monitor_of_other_peoples_making_follows_the_log() -> None:
    """Only our own programs could audit us."""
    async with coordinator() as running:
        await set_manifest(running)
        async with running.raw() as session:
            before, seen = await monitor(running, session)
            for _ in range(140):  # Past the first full tile and bundle.
                await certificate(running, Pod())
            after, entries = await monitor(running, session)
        assert before.origin == after.origin
        assert after.size == 3 + 2 * 140
        assert entries[: len(seen)] == seen  # Nothing of what was seen has changed.


async def test_the_monitor_would_notice() -> None:
    """The reader above would prove nothing."""
    async with coordinator() as running:
        await set_manifest(running)
        note = (running.service.ledger.finished or "").encode()
        with pytest.raises((InvalidSignature, AssertionError)):
            open_checkpoint(note.replace(b"\n3\n", b"\n4\n", 1), running.service.state.verifier_keys[0])
    assert tree_head([b"a" * 32, b"b" * 32]) != tree_head([b"b" * 32, b"a" * 32])
