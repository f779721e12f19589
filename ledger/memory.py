"""A store that lives and dies with the process: for tests, replays and tools. The contract is in ledger/store.py."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ledger.errors import LedgerContentError, StoreError
from ledger.store import EMPTY_HEAD, Batch, Head, State, head_moved


class MemoryStore:
    """Keeps everything in lists and dictionaries, and polices its own use as strictly as LMDB would."""

    def __init__(self) -> None:
        self._head = EMPTY_HEAD
        self._entries: list[bytes] = []
        self._nodes: list[bytes] = []
        self._blobs: dict[bytes, bytes] = {}
        self._requests: dict[bytes, int] = {}
        self._draft: bytes | None = None
        self._finished: bytes | None = None
        self._closed = False

    def head(self) -> Head:
        """Where the stored ledger ends."""
        self._check_open()
        return self._head

    def state(self) -> State:
        """Head, counts and notes."""
        self._check_open()
        return State(
            head=self._head, entry_count=len(self._entries), node_count=len(self._nodes), draft=self._draft,
            finished=self._finished,
        )  # fmt: skip

    def append(self, batch: Batch) -> None:
        """Make *batch* durable, or raise with nothing written."""
        self._check_open()
        if batch.previous != self._head:
            raise head_moved(self._head, batch.previous)
        if batch.head.size != batch.previous.size + len(batch.entries):
            raise ValueError("the batch's head does not count its entries")
        self._entries += batch.entries
        self._nodes += batch.nodes
        self._blobs.update(batch.blobs)
        self._requests.update(batch.requests)
        self._head = batch.head
        self._draft = self._draft if batch.draft is None else batch.draft
        self._finished = self._finished if batch.finished is None else batch.finished

    def entries(self, start: int, end: int) -> list[bytes]:
        """Entries [start, end), up to the first missing."""
        self._check_open()
        return self._entries[start:end]

    def nodes(self, start: int, end: int) -> list[bytes]:
        """Tree nodes by position, up to the first missing."""
        self._check_open()
        return self._nodes[start:end]

    def nodes_at(self, positions: Sequence[int]) -> list[bytes]:
        """Tree nodes by position."""
        with self.reader() as read:
            return [read(position) for position in positions]

    @contextmanager
    def reader(self) -> Iterator[Callable[[int], bytes]]:
        """Read single nodes from one consistent view."""
        self._check_open()

        def node(position: int) -> bytes:
            try:
                return self._nodes[position]
            except IndexError:
                raise LedgerContentError(None, f"tree node {position} is missing") from None

        yield node

    def blob(self, digest: bytes) -> bytes | None:
        """The bytes stored under *digest*, not yet hashed again."""
        self._check_open()
        return self._blobs.get(digest)

    def blob_digests(self) -> list[bytes]:
        """All keys of blobs, ascending."""
        self._check_open()
        return sorted(self._blobs)

    def request(self, request_id: bytes) -> int | None:
        """The hint where this command begins."""
        self._check_open()
        return self._requests.get(request_id)

    def draft(self) -> bytes | None:
        """The newest draft checkpoint."""
        self._check_open()
        return self._draft

    def finished(self) -> bytes | None:
        """The newest stored finished note."""
        self._check_open()
        return self._finished

    def reload(self) -> None:
        """Open again, after a failure."""
        self._check_open()

    def close(self) -> None:
        """Let go of everything."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
