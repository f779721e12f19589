"""A ledger that grew is told from one that was exchanged, from a few tiles and for every pair of sizes."""

import asyncio
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.errors import ForkedError, ReplacedError, RolledBackError
from cli.heads import Head
from cli.memory import Get, demand_extension, demand_no_ledger, head_of
from ledger.checkpoint import Checkpoint, epoch_name, origin_of
from ledger.errors import NoteError
from ledger.merkle import Frontier, leaf_hash, node_position
from ledger.note import NoteSigner, sign_note
from ledger.tiles import TILE_WIDTH, parse_path
from wire.statement import Statement, Unverified

LARGEST = TILE_WIDTH * TILE_WIDTH // 50 + 700


def grown(leaves: Callable[[int], bytes]) -> tuple[list[bytes], list[bytes]]:
    """Nodes in the order of node_position, and the root at every size."""
    frontier, nodes, roots = Frontier(), [], [Frontier().root()]
    for seq in range(LARGEST):
        nodes += frontier.append(leaf_hash(leaves(seq)))
        roots.append(frontier.root())
    return nodes, roots


NODES, ROOTS = grown(lambda seq: b"%d" % seq)
OTHER_NODES, OTHER_ROOTS = grown(lambda seq: b"%d" % seq if seq != 3 else b"changed")


def serve(nodes: list[bytes], asked: list[str] | None = None) -> Get:
    async def get(path: str) -> bytes:
        if asked is not None:
            asked.append(path)
        tile = parse_path(path)
        assert tile.level != "entries"
        first = tile.index * TILE_WIDTH
        return b"".join(nodes[node_position(8 * tile.level, first + at)] for at in range(tile.width))

    return get


def head(size: int, roots: list[bytes] = ROOTS, origin: str = "contrast.invalid/x") -> Head:
    return Head(origin=origin, ledger_key=bytes(32), size=size, root=roots[size], checkpoint=b"")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, LARGEST), st.integers(1, LARGEST))
def test_every_growth_is_proven_and_every_fork_is_found(one: int, two: int) -> None:
    old, new = sorted((one, two))
    asyncio.run(demand_extension(head(old), head(new), serve(NODES), address="h"))
    if old > 3:
        with pytest.raises(ForkedError) as caught:
            asyncio.run(demand_extension(head(old), head(new, OTHER_ROOTS), serve(OTHER_NODES), address="h"))
        assert any(ROOTS[old].hex() in line for line in caught.value.details)


async def test_a_long_ledger_costs_a_few_tiles() -> None:
    asked: list[str] = []
    await demand_extension(head(LARGEST - 900), head(LARGEST), serve(NODES, asked), address="h")
    assert len(asked) <= 4


async def test_a_shorter_and_another_ledger_are_told_apart() -> None:
    with pytest.raises(RolledBackError):
        await demand_extension(head(9), head(8), serve(NODES), address="h")
    with pytest.raises(ReplacedError):
        await demand_extension(head(9), head(10, origin="contrast.invalid/y"), serve(NODES), address="h")
    await demand_extension(None, head(8), serve(NODES), address="h")


def test_a_ledger_that_vanished_is_replaced() -> None:
    demand_no_ledger(None, address="h")
    with pytest.raises(ReplacedError, match="--new-ledger"):
        demand_no_ledger(head(3), address="h")


LEDGER, EPOCH = Ed25519PrivateKey.from_private_bytes(b"l" * 32), Ed25519PrivateKey.from_private_bytes(b"e" * 32)
ORIGIN = origin_of(LEDGER.public_key().public_bytes_raw())
SIGNERS = [NoteSigner(ORIGIN, LEDGER), NoteSigner(epoch_name(ORIGIN), EPOCH)]
NOTE = sign_note(Checkpoint(ORIGIN, 5, b"r" * 32).text(), SIGNERS)


def recovering() -> Statement:
    return Statement(
        version=1,
        state="recovery",
        epoch_key=EPOCH.public_key().public_bytes_raw().hex(),
        tls_cert_sha256="00" * 32,
        hpke_public_key="00" * 32,
        generation=0,
        api_versions=("v1",),
        simulated=True,
        unverified=Unverified(
            origin=ORIGIN,
            ledger_key=LEDGER.public_key().public_bytes_raw().hex(),
            size=5,
            root="00" * 32,
            draft="x",
            generation=1,
        ),
    )


def test_a_head_needs_the_signatures_of_ledger_and_epoch() -> None:
    """One of them alone is what a crash, or a thief of one key, leaves."""
    assert head_of(recovering(), NOTE).size == 5
    for signers in (SIGNERS[:1], SIGNERS[1:]):
        with pytest.raises(NoteError):
            head_of(recovering(), sign_note(Checkpoint(ORIGIN, 5, b"r" * 32).text(), signers))
