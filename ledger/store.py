"""What the ledger asks of storage, in one Protocol whose docstrings are the contract. Stores nothing itself.

Storage belongs to the attacker: nothing read from a store is believed. Entries are checked against the tree whose root
is in memory, blobs against their SHA-256, tree nodes by whoever receives the proof, and an index is a hint. What a
store does promise is atomic, durable appends, and that it says so when it fails.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from ledger.entry import ZERO_HASH
from ledger.errors import HeadMovedError

MAX_BLOB_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Head:
    """Where a ledger ends: how many entries, and SHA-256(body) of the last."""

    size: int
    hash: bytes


EMPTY_HEAD: Final = Head(0, ZERO_HASH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything that one commit writes: all of it durable, or none."""

    previous: Head  # where the store must end before
    head: Head  # where it ends after
    entries: Sequence[bytes] = ()
    nodes: Sequence[bytes] = ()  # of the tree, in the order of ledger.merkle.node_position()
    blobs: Mapping[bytes, bytes] = field(default_factory=dict)  # by SHA-256
    requests: Mapping[bytes, int] = field(default_factory=dict)  # request id -> seq of its first event
    draft: bytes | None = None  # the checkpoint of *head*, signed by the epoch key alone
    finished: bytes | None = None  # the newest finished note, of an earlier commit


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a store says about itself, all of one moment: another process may be appending."""

    head: Head
    entry_count: int  # how many are stored, whatever the head says
    node_count: int
    draft: bytes | None = None  # the newest draft checkpoint
    finished: bytes | None = None  # the newest finished note that was stored; it may be older than the draft


class Store(Protocol):
    """Storage for one ledger. Reads may come from any thread, appends and reload() from one at a time."""

    def head(self) -> Head:
        """Where the stored ledger ends; EMPTY_HEAD where there is none."""

    def state(self) -> State:
        """Head, counts and newest notes, read together."""

    def append(self, batch: Batch) -> None:
        """Make *batch* durable before returning.

        Raises HeadMovedError if the store does not end at ``batch.previous`` (nothing was written), StoreFullError for
        want of space (nothing was written), StoreError for any other failure (it may have been written, as a whole).
        """

    def entries(self, start: int, end: int) -> list[bytes]:
        """Entries [start, end), cut off before the first that is missing.

        Raises LedgerContentError naming the first unreadable one.
        """

    def nodes(self, start: int, end: int) -> list[bytes]:
        """Tree nodes at positions [start, end), cut off before the first that is missing."""

    def nodes_at(self, positions: Sequence[int]) -> list[bytes]:
        """The tree nodes at these positions, read together. Raises LedgerContentError naming one that is missing."""

    def reader(self) -> AbstractContextManager[Callable[[int], bytes]]:
        """A consistent view in which to read single tree nodes by position; the reader raises LedgerContentError."""

    def blob(self, digest: bytes) -> bytes | None:
        """What was stored under this SHA-256. The caller hashes it again."""

    def blob_digests(self) -> list[bytes]:
        """Under which SHA-256 values something is stored, in ascending order."""

    def request(self, request_id: bytes) -> int | None:
        """Where the newest command with this id begins: a hint."""

    def draft(self) -> bytes | None:
        """The newest draft checkpoint."""

    def finished(self) -> bytes | None:
        """The newest finished note that was stored; it may be older than the draft."""

    def reload(self) -> None:
        """Forget everything held in memory and open the storage again, after a failure. Raises StoreError."""

    def close(self) -> None:
        """Let go of the storage. Closing twice is harmless."""


def head_moved(seen: Head, wanted: Head) -> HeadMovedError:
    """The error for a batch that does not continue what is stored."""
    return HeadMovedError(
        f"the store ends at size {seen.size} ({seen.hash.hex()[:16]}…), the batch continues size {wanted.size} "
        f"({wanted.hash.hex()[:16]}…): another writer was faster, or the storage was put back"
    )
