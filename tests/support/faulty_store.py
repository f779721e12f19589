"""A store that fails on command, before or after taking effect, forgets, or serves an older ledger when reloaded."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy

from ledger.errors import StoreError
from ledger.memory import MemoryStore
from ledger.store import Batch, Head, State


class FaultyStore:
    """Wraps the contents of a MemoryStore. ``plan`` holds what the next appends do, first one first."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.plan: list[Callable[[Batch], None]] = []
        self.reload_errors: list[Exception] = []
        self.on_reload: Callable[[], None] = lambda: None
        self.appended: list[Batch] = []

    # --- what can go wrong ---

    def lose(self, error: Exception | None = None) -> None:
        """The next append fails and did not take effect."""

        def fail(_: Batch) -> None:
            raise error or StoreError("the disk failed")

        self.plan.append(fail)

    def keep(self, error: Exception | None = None) -> None:
        """The next append fails though it took effect."""

        def fail(batch: Batch) -> None:
            self.inner.append(batch)
            raise error or StoreError("the disk failed")

        self.plan.append(fail)

    def forget(self) -> None:
        """The next append is acknowledged and forgotten."""
        self.plan.append(lambda _: None)

    def snapshot(self) -> MemoryStore:
        """A copy of what is stored now: last week's ledger."""
        return deepcopy(self.inner)

    def serve_on_reload(self, other: MemoryStore) -> None:
        """After the next reload, *other* is what stands in the storage."""

        def put_back() -> None:
            self.inner = other

        self.on_reload = put_back

    # --- the contract ---

    def append(self, batch: Batch) -> None:
        if self.plan:
            self.plan.pop(0)(batch)
        else:
            self.inner.append(batch)
        self.appended.append(batch)

    def reload(self) -> None:
        if self.reload_errors:
            raise self.reload_errors.pop(0)
        self.on_reload()

    def head(self) -> Head:
        return self.inner.head()

    def state(self) -> State:
        return self.inner.state()

    def entries(self, start: int, end: int) -> list[bytes]:
        return self.inner.entries(start, end)

    def nodes(self, start: int, end: int) -> list[bytes]:
        return self.inner.nodes(start, end)

    def nodes_at(self, positions: Sequence[int]) -> list[bytes]:
        return self.inner.nodes_at(positions)

    def reader(self) -> AbstractContextManager[Callable[[int], bytes]]:
        return self.inner.reader()

    def blob(self, digest: bytes) -> bytes | None:
        return self.inner.blob(digest)

    def blob_digests(self) -> list[bytes]:
        return self.inner.blob_digests()

    def request(self, request_id: bytes) -> int | None:
        return self.inner.request(request_id)

    def draft(self) -> bytes | None:
        return self.inner.draft()

    def finished(self) -> bytes | None:
        return self.inner.finished()

    def close(self) -> None:
        self.inner.close()
