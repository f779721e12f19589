"""The remembered heads of a workspace, and proofs that a ledger extends one; the rule itself is in `heads`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cli.errors import ForkedError, ReplacedError
from cli.heads import Head, check_extends, parse_heads, render_heads
from cli.workspace import FileChange, Workspace, change, read_optional
from ledger.checkpoint import epoch_name, open_finished
from ledger.errors import NoteError, ProofError
from ledger.merkle import verify_consistency
from ledger.note import ed25519_key
from ledger.tilenodes import TileNodes, tiles_for_consistency
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
    tiles = {tile: await get(tile.path()) for tile in tiles_for_consistency(remembered.size, offered.size)}
    demand_proof(remembered, offered, TileNodes(offered.size, tiles.__getitem__), address=address)


def demand_proof(remembered: Head, offered: Head, nodes: TileNodes, *, address: str) -> None:
    """Demand that *offered* extends *remembered*, by a consistency proof from *nodes*, the offered ledger's tree.

    Raises:
        HeadError: it does not; both heads are told.
    """
    check_extends(remembered, offered, lambda _: remembered.root, address=address)  # Replaced and rolled back.
    if remembered.size == offered.size:
        check_extends(remembered, offered, lambda _: offered.root, address=address)
        return
    try:
        path = nodes.consistency(remembered.size)
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
