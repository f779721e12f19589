"""The remembered heads of a workspace, and proofs that a ledger extends one; the rule itself is in `heads`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cli.errors import ForkedError, ReplacedError
from cli.heads import Head, check_extends, parse_heads, render_heads
from cli.workspace import FileChange, Workspace, change, read_optional
from ledger.checkpoint import epoch_name, open_finished
from ledger.errors import NoteError, ProofError
from ledger.merkle import consistency_path, node_hash, verify_consistency
from ledger.note import ed25519_key
from ledger.tiles import TILE_WIDTH, Tile, split_tile, width_at
from wire.statement import Statement

Get = Callable[[str], Awaitable[bytes]]


@dataclass(slots=True)
class Memory:
    """The heads of one workspace."""

    workspace: Workspace
    heads: dict[str, Head] = field(default_factory=dict)

    @classmethod
    def load(cls, workspace: Workspace) -> "Memory":
        """Read them.

        Raises:
            RefusedError: the file is damaged.
        """
        return cls(
            workspace, parse_heads(read_optional(workspace.heads, what="remembered heads"), name=str(workspace.heads))
        )

    def recall(self, address: str, *, origin: str, new_ledger: bool) -> Head | None:
        """Return the head that the ledger at *address* must extend; none if `--new-ledger` accepts another origin."""
        head = self.heads.get(address)
        return None if head is not None and new_ledger and head.origin != origin else head

    def remembering(self, address: str, head: Head) -> tuple[FileChange, ...]:
        """Return the change that remembers *head* for *address*."""
        return change(self.workspace.heads, render_heads({**self.heads, address: head}), what="remembered heads")


def head_of(statement: Statement, note: str) -> Head:
    """Return the head in the finished checkpoint *note*, signed by the ledger and the epoch that *statement* names.

    In state `recovery` the ledger is the one under `unverified`.

    Raises:
        NoteError: it is not finished, or of another ledger.
    """
    named = statement.unverified or statement
    if named.origin is None or named.ledger_key is None:
        raise NoteError("the statement names no ledger")
    key = bytes.fromhex(named.ledger_key)
    checkpoint = open_finished(
        note.encode(),
        ledger_key=ed25519_key(named.origin, key),
        epoch_keys=[ed25519_key(epoch_name(named.origin), bytes.fromhex(statement.epoch_key))],
    )
    return Head(
        origin=named.origin, ledger_key=key, size=checkpoint.size, root=checkpoint.root, checkpoint=note.encode()
    )


async def demand_extension(remembered: Head | None, offered: Head, get: Get, *, address: str) -> None:
    """Demand that *offered* extends *remembered*, by a consistency proof made from the ledger's tiles.

    Raises:
        HeadError: it does not; both heads are told.
    """
    if remembered is None:
        return
    check_extends(remembered, offered, lambda _: remembered.root, address=address)  # Replaced and rolled back.
    if remembered.size == offered.size:
        check_extends(remembered, offered, lambda _: offered.root, address=address)
        return
    path = await _consistency(get, remembered.size, offered.size)
    try:
        verify_consistency(remembered.size, offered.size, remembered.root, offered.root, path)
    except ProofError as error:
        raise ForkedError(
            f"the ledger at {address} is forked: it does not continue the one seen before. "
            "Keep both checkpoints, they prove it; do not trust this Coordinator",
            details=(f"remembered: {remembered}", f"offered:    {offered}", str(error)),
        ) from error


def demand_no_ledger(remembered: Head | None, *, address: str) -> None:
    """Refuse a Coordinator without a ledger where one was seen.

    Raises:
        ReplacedError: there was one.
    """
    if remembered is not None:
        raise ReplacedError(
            f"the Coordinator at {address} has no ledger, but this workspace has seen one there: "
            "its storage was emptied or replaced. If you mean to begin a new one, add --new-ledger",
            details=(f"remembered: {remembered}", "offered:    no ledger"),
        )


async def _consistency(get: Get, old: int, new: int) -> list[bytes]:
    """Return the consistency proof, from only those tiles that hold its nodes."""
    wanted: list[Tile] = []

    def place(level: int, index: int) -> tuple[Tile, int, int]:
        tile_level, height = divmod(level, 8)
        first = index << height  # Index of the first node of the tile's own level below this one.
        tile = Tile(tile_level, first // TILE_WIDTH)
        return Tile(tile_level, tile.index, width_at(tile, new)), first % TILE_WIDTH, 1 << height

    def note_tile(level: int, index: int) -> bytes:
        wanted.append(place(level, index)[0])
        return bytes(32)

    consistency_path(old, new, note_tile)
    tiles = {tile: split_tile(await get(tile.path()), tile.width) for tile in dict.fromkeys(wanted)}

    def node(level: int, index: int) -> bytes:
        tile, start, count = place(level, index)
        return _root(tiles[tile][start : start + count])

    return consistency_path(old, new, node)


def _root(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]
