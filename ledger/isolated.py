"""A ledger's LMDB in a process of its own (``--isolated-store``, and every file of a stranger). Judges no content.

The file belongs to the host, and LMDB is C code that maps it: bytes that change under it can kill the process, or
worse. So it runs where no key is (ledger/store_process.py), and what it says is checked like anything from storage. For
a Coordinator its death is a StoreError, after which the writer's rules apply: reload() starts another one. For a reader
of a foreign file its death is a damaged file.
"""

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ledger.errors import LedgerContentError, LedgerError, StoreError
from ledger.lmdb_store import DEFAULT_MAP_SIZE
from ledger.store import Batch, Head, State
from ledger.store_wire import (
    Answer,
    Ask,
    Channel,
    ChannelClosedError,
    pack_batch,
    pack_number,
    unpack_error,
    unpack_number,
    unpack_state,
)

_T = TypeVar("_T")
_MAX_DIGESTS = 2**25
_FOREIGN_TIMEOUT_S = 120.0  # a hostile file may lead a reader in circles


class IsolatedStore:
    """An LmdbStore in a child process. At most one thread reads and one writes at a time; others wait for them."""

    def __init__(
        self, path: Path, *, map_size: int = DEFAULT_MAP_SIZE, readonly: bool = False, foreign: bool = False
    ) -> None:
        """Start the process and open the ledger at *path* there; with *foreign* for reading, and its death is damage.

        Raises as LmdbStore does.
        """
        self._path = path
        self._map_size = map_size
        self._readonly = readonly or foreign
        self._foreign = foreign
        self._reading = threading.RLock()
        self._writing = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channels: tuple[Channel, Channel] | None = None
        self.confined: tuple[str, ...] = ()
        self._start()

    @property
    def pid(self) -> int | None:
        """The process that holds the store; None when closed."""
        return None if self._process is None else self._process.pid

    def head(self) -> Head:
        """Where the stored ledger ends."""
        return self.state().head

    def state(self) -> State:
        """Head, counts and notes, in one transaction."""
        parts = self._demand(self._ask(Ask.STATE, ()), 3)
        return self._checked(lambda: unpack_state(parts))

    def append(self, batch: Batch) -> None:
        """Make *batch* durable, or raise."""
        if batch.head.size != batch.previous.size + len(batch.entries):
            raise ValueError("the batch's head does not count its entries")
        with self._writing:
            self._exchange(1, Ask.APPEND, pack_batch(batch))

    def entries(self, start: int, end: int) -> list[bytes]:
        """Entries [start, end), up to the first missing."""
        return self._some(Ask.ENTRIES, start, end)

    def nodes(self, start: int, end: int) -> list[bytes]:
        """Tree nodes by position, up to the first missing."""
        return self._some(Ask.NODES, start, end)

    def nodes_at(self, positions: Sequence[int]) -> list[bytes]:
        """Tree nodes by position, from one consistent view."""
        return self._demand(self._ask(Ask.NODES_AT, [pack_number(each) for each in positions]), len(positions))

    @contextmanager
    def reader(self) -> Iterator[Callable[[int], bytes]]:
        """Read single nodes; a complete node never changes, so every view of them is consistent."""
        yield lambda position: self.nodes_at([position])[0]

    def blob(self, digest: bytes) -> bytes | None:
        """The bytes stored under *digest*, not yet hashed again."""
        found = self._ask(Ask.BLOB, [digest])
        return None if found is None else self._demand(found, 1)[0]

    def blob_digests(self) -> list[bytes]:
        """All keys of blobs, ascending."""
        found: list[bytes] = []
        last = b""
        while more := self._ask(Ask.BLOB_DIGESTS, [last]):
            for digest in more:
                if digest <= last or len(digest) != 32 or len(found) == _MAX_DIGESTS:
                    raise self._broken("keys that do not ascend, are no hashes, or do not end")
                found.append(digest)
                last = digest
        return found

    def request(self, request_id: bytes) -> int | None:
        """The hint where this command begins."""
        found = self._ask(Ask.REQUEST, [request_id])
        if found is None:
            return None
        part = self._demand(found, 1)[0]
        return self._checked(lambda: unpack_number(part))

    def draft(self) -> bytes | None:
        """The newest draft checkpoint."""
        return self.state().draft

    def finished(self) -> bytes | None:
        """The newest stored finished note."""
        return self.state().finished

    def reload(self) -> None:
        """Start another process and open the storage again there, after a failure."""
        with self._writing, self._reading:
            self._stop()
            if not self._readonly and not (self._path / "data.mdb").exists():
                raise StoreError(f"there is no ledger at {self._path}: storage that is gone is no empty ledger")
            self._start()

    def close(self) -> None:
        """End the process; it closes the store."""
        with self._writing, self._reading:
            self._stop()

    # --- the process ---

    def _start(self) -> None:
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        mode = "read" if self._readonly else "write"
        argv = [
            sys.executable, "-P", "-m", "ledger.store_process", str(self._path.absolute()), mode, str(self._map_size),
            *(str(each.fileno()) for each in theirs),
        ]  # fmt: skip
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # its death is seen here
                pass_fds=[each.fileno() for each in theirs],
                # Nothing of our environment but where the code is.
                env={"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path), "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            for each in ours:
                each.close()
            raise StoreError(f"no store process could be started ({error.strerror})") from error
        finally:
            for each in theirs:
                each.close()
        for each in ours:
            each.settimeout(_FOREIGN_TIMEOUT_S if self._foreign else None)
        self._channels = (Channel(ours[0]), Channel(ours[1]))
        try:
            kind, parts = self._channels[0].receive()
        except ChannelClosedError as error:
            died = self._died(error)
            self._stop()
            raise died from error
        if kind != Answer.DONE:
            self._stop()
            raise self._checked(lambda: unpack_error(parts))
        self.confined = tuple(part.decode(errors="replace") for part in parts)

    def _stop(self) -> None:
        process, channels = self._process, self._channels
        self._process = self._channels = None
        for channel in channels or ():
            channel.close()
        if process is not None:
            try:
                process.wait(10)  # it closes its environment and goes
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- asking it ---

    def _some(self, asked: Ask, start: int, end: int) -> list[bytes]:
        if end <= start:
            return []
        found = self._ask(asked, [pack_number(start), pack_number(end)]) or []
        if len(found) > end - start:
            raise self._broken("more than was asked for")
        return found

    def _ask(self, asked: Ask, parts: Sequence[bytes]) -> list[bytes] | None:
        with self._reading:
            return self._exchange(0, asked, parts)

    def _exchange(self, number: int, asked: Ask, parts: Sequence[bytes]) -> list[bytes] | None:
        if self._channels is None:
            raise StoreError("the store is closed")
        channel = self._channels[number]
        try:
            channel.send(asked, parts)
            kind, found = channel.receive()
        except ChannelClosedError as error:
            raise self._died(error) from error
        if kind == Answer.ERROR:
            raise self._checked(lambda: unpack_error(found))
        return found if kind == Answer.DONE else None

    def _demand(self, parts: list[bytes] | None, count: int) -> list[bytes]:
        if parts is None or len(parts) != count:
            raise self._broken("an answer of another shape")
        return parts

    def _checked(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except (ValueError, IndexError, struct.error) as error:
            raise self._broken("an answer that cannot be read") from error

    def _broken(self, what: str) -> LedgerError:
        text = f"the process that reads {self._path} answers with {what}"
        return LedgerContentError(None, text) if self._foreign else StoreError(text)

    def _died(self, cause: Exception) -> LedgerError:
        process = self._process
        code = None if process is None else process.poll()
        if self._foreign:
            return LedgerContentError(
                None, f"the file at {self._path} kills or stops the process that reads it ({cause}, exit code {code}): "
                "it is damaged on purpose or by its disk"
            )  # fmt: skip
        return StoreError(
            f"the store process has died ({cause}, exit code {code}); it is started again and the ledger is read anew"
        )


@contextmanager
def foreign_store(path: Path) -> Iterator[IsolatedStore]:
    """The stranger's LMDB file at *path*, read in a child process that holds nothing; it ends with the block."""
    store = IsolatedStore(path, foreign=True)
    try:
        yield store
    finally:
        store.close()
