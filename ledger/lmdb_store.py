"""The ledger in one LMDB environment: durable, ordered, read by other processes too. Believes and judges no content.

Everything is synced (never sync=False, metasync=False or writemap). An older file copied back opens silently and a
flipped byte reads silently: that is found by replaying (ledger/log.py) and by remembered heads, not here. A file
shorter than its own pages would kill the process when touched, so its size is compared first; a file from a stranger
belongs into a child process all the same.
"""

from __future__ import annotations  # lmdb's types are generic for the checker only

import errno
import os
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from ledger.errors import HeadMovedError, LedgerContentError, StoreError, StoreFullError
from ledger.lmdb_file import check_file
from ledger.store import EMPTY_HEAD, Batch, Head, State, head_moved

DEFAULT_MAP_SIZE: Final = 64 * 2**30  # address space, not disk: the file is only as long as its content
FORMAT: Final = b"contrast-ledger/1"
_DATABASES: Final = (b"entry", b"node", b"blob", b"request", b"meta")
_KEY = struct.Struct(">Q")  # big-endian, so that LMDB's order is ours
_HEAD = struct.Struct(">Q32s")
_LITTLE_SPACE: Final = 2**20
_ROOM: Final = 2**18  # bytes written ahead at once, when less than _LITTLE_ROOM is left
_LITTLE_ROOM: Final = 2**15
_SMALL: Final = 16  # entries; a bigger batch lets the file grow by more than is written ahead
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class LmdbStore:
    """One ledger in the directory *path*. At most one process may write; any number may read beside it."""

    def __init__(self, path: Path, *, map_size: int = DEFAULT_MAP_SIZE, readonly: bool = False) -> None:
        """Open the ledger at *path*, or prepare an empty one there.

        Raises LedgerContentError for a file that is no ledger, or damaged in a way that is seen at once, and StoreError
        if the directory cannot be used.
        """
        self._path = path
        self._file = str(path / "data.mdb")
        self._map_size = map_size
        self._readonly = readonly
        self._writing = threading.Lock()
        self._reading = threading.RLock()  # a read in one thread while another closes the environment would crash
        self._env: lmdb.Environment | None = None
        self._pid = os.getpid()
        self._open()

    @staticmethod
    def exists(path: Path) -> bool:
        """True if something is stored at *path*, whether it is a ledger or not."""
        return (path / "data.mdb").exists()

    def head(self) -> Head:
        """Where the stored ledger ends."""
        with self._read(self._meta) as txn:
            return _read_head(txn)

    def state(self) -> State:
        """Head, counts and notes, in one transaction."""
        with self._read(self._meta) as txn:
            return State(
                head=_read_head(txn), entry_count=txn.stat(self._entries)["entries"],
                node_count=txn.stat(self._nodes)["entries"], draft=_get(txn, b"draft"),
                finished=_get(txn, b"finished"),
            )  # fmt: skip

    def append(self, batch: Batch) -> None:
        """Make *batch* durable, or raise with nothing written."""
        if batch.head.size != batch.previous.size + len(batch.entries):
            raise ValueError("the batch's head does not count its entries")
        with self._writing:
            env = self._environment()
            try:
                with env.begin(write=True) as txn:
                    self._write(txn, batch)
                    if len(batch.entries) < _SMALL:
                        self._make_room()
                self._keep_whole(env)
            except lmdb.MapFullError as error:
                raise StoreFullError(
                    f"the ledger has reached its map of {self._map_size} bytes; nothing of the batch was recorded. "
                    "Start the Coordinator with a larger map"
                ) from error
            except (lmdb.Error, OSError) as error:
                raise _failed(error, self._path) from error

    def entries(self, start: int, end: int) -> list[bytes]:
        """Entries [start, end), up to the first missing."""
        try:
            return self._range(self._entries, start, end)
        except lmdb.Error:
            return self._entries_one_by_one(start, end)

    def nodes(self, start: int, end: int) -> list[bytes]:
        """Tree nodes by position, up to the first missing."""
        try:
            return self._range(self._nodes, start, end)
        except lmdb.Error as error:
            raise LedgerContentError(None, f"tree nodes from {start} cannot be read ({error})") from error

    def nodes_at(self, positions: Sequence[int]) -> list[bytes]:
        """Tree nodes by position, from one consistent view."""
        with self._read(self._nodes) as txn:
            get, pack = txn.get, _KEY.pack
            nodes = [get(pack(position), b"") for position in positions]
        for node, position in zip(nodes, positions, strict=True):
            if len(node) != 32:
                raise LedgerContentError(None, f"tree node {position} is missing or no hash")
        return nodes

    @contextmanager
    def reader(self) -> Iterator[Callable[[int], bytes]]:
        """Read single nodes from one consistent view."""
        with self._read(self._nodes) as txn:

            def node(position: int) -> bytes:
                value = _get(txn, _KEY.pack(position))
                if value is None or len(value) != 32:
                    raise LedgerContentError(None, f"tree node {position} is missing or no hash")
                return value

            yield node

    def blob(self, digest: bytes) -> bytes | None:
        """The bytes stored under *digest*, not yet hashed again."""
        with self._read(self._blobs) as txn:
            return _get(txn, digest)

    def blob_digests(self) -> list[bytes]:
        """All keys of blobs, ascending."""
        with self._read(self._blobs) as txn:
            return [bytes(key) for key in txn.cursor().iternext(keys=True, values=False)]

    def request(self, request_id: bytes) -> int | None:
        """The hint where this command begins."""
        if not request_id:
            return None
        with self._read(self._requests) as txn:
            value = _get(txn, request_id)
        return _KEY.unpack(value)[0] if value is not None and len(value) == _KEY.size else None

    def draft(self) -> bytes | None:
        """The newest draft checkpoint."""
        with self._read(self._meta) as txn:
            return _get(txn, b"draft")

    def finished(self) -> bytes | None:
        """The newest stored finished note."""
        with self._read(self._meta) as txn:
            return _get(txn, b"finished")

    def reload(self) -> None:
        """Open again, after a failure."""
        with self._writing, self._reading:
            self._close()
            self._open(must_exist=True)  # storage that is gone is no empty ledger

    def close(self) -> None:
        """Let go of everything."""
        with self._writing, self._reading:
            self._close()

    # --- opening ---

    def _open(self, *, must_exist: bool = False) -> None:
        file = self._path / "data.mdb"
        there = file.exists()
        if not there and (must_exist or self._readonly):
            raise StoreError(f"there is no ledger at {self._path}: give the directory that holds data.mdb")
        try:
            if not self._readonly and not (there and file.stat().st_size):
                self._create(file)
            check_file(file)
            env = lmdb.open(
                str(self._path),
                map_size=self._map_size,
                max_dbs=8,
                mode=0o600,
                readonly=self._readonly,
                create=False,
                # A reader on a medium that cannot be written needs no lock: nobody writes there.
                lock=os.access(self._path, os.W_OK),
                # meminit stays on: unused bytes of a page must not carry this process's memory to the disk.
            )
        except (lmdb.Error, OSError) as error:
            raise _damaged_or_failed(error, self._path) from error
        try:
            self._open_databases(env)
        except BaseException:
            env.close()
            raise
        self._env = env
        self._page_size = env.stat()["psize"]
        self._used = (env.info()["last_pgno"] + 1) * self._page_size
        self._bytes = file.stat().st_size

    def _create(self, file: Path) -> None:
        """Make an empty store beside, then put it in place: there is a whole file or none, whenever the power fails."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = self._path / "new"
        shutil.rmtree(making, ignore_errors=True)  # of a creation that was cut short
        making.mkdir(mode=0o700)
        env = lmdb.open(str(making), map_size=self._map_size, max_dbs=8, mode=0o600)
        try:
            with env.begin(write=True) as txn:
                databases = [env.open_db(name, txn=txn) for name in _DATABASES]
                _must(txn.put(b"format", FORMAT, db=databases[-1]))
        finally:
            env.close()
        (making / "data.mdb").rename(file)
        shutil.rmtree(making)
        _sync_directory(self._path)
        _sync_directory(self._path.parent)

    def _open_databases(self, env: lmdb.Environment) -> None:
        try:
            databases = [env.open_db(name, create=False) for name in _DATABASES]
            self._entries, self._nodes, self._blobs, self._requests, self._meta = databases
            with env.begin(db=self._meta) as txn:
                seen = txn.get(b"format")
        except lmdb.NotFoundError as error:
            raise LedgerContentError(None, f"{self._path} is an LMDB file, but not one of a ledger") from error
        except (lmdb.Error, OSError) as error:
            raise _damaged_or_failed(error, self._path) from error
        if seen != FORMAT:
            raise LedgerContentError(None, f"the file has format {seen!r}, this program reads {FORMAT!r}")

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is not None and self._pid == os.getpid():
            env.close()

    # --- reading and writing ---

    def _environment(self) -> lmdb.Environment:
        if self._env is None:
            raise StoreError("the store is closed")
        if self._pid != os.getpid():
            raise StoreError("this store was opened before a fork: open it in the process that uses it")
        return self._env

    @contextmanager
    def _read(self, database: lmdb._Database) -> Iterator[lmdb.Transaction[bytes]]:
        with self._reading:
            env = self._environment()
            try:
                with env.begin(db=database) as txn:
                    yield txn
            except lmdb.Error as error:
                raise _damaged_or_failed(error, self._path) from error

    def _range(self, database: lmdb._Database, start: int, end: int) -> list[bytes]:
        if end <= start:
            return []
        with self._reading, self._environment().begin(db=database) as txn:
            cursor = txn.cursor()
            if not cursor.set_key(_KEY.pack(start)):
                return []
            found = list(islice(cursor.iternext(keys=False), end - start))
            # Keys of eight bytes in ascending order: if the last one is right, none is missing. If not, cut at the gap.
            if cursor.key() == _KEY.pack(start + len(found) - 1):
                return found
            cursor.set_key(_KEY.pack(start))
            expected = (_KEY.pack(position) for position in range(start, end))
            return [value for (key, value), wanted in zip(cursor.iternext(), expected, strict=False) if key == wanted]

    def _entries_one_by_one(self, start: int, end: int) -> list[bytes]:
        """The slow way, to name the first record that cannot be read."""
        found: list[bytes] = []
        for seq in range(start, end):
            try:
                with self._reading, self._environment().begin(db=self._entries) as txn:
                    value = _get(txn, _KEY.pack(seq))
            except lmdb.Error as error:
                raise LedgerContentError(
                    seq, f"the file is damaged here, the record cannot be read ({error})"
                ) from error
            if value is None:
                break
            found.append(value)
        return found

    def _write(self, txn: lmdb.Transaction[bytes], batch: Batch) -> None:
        seen = _read_head(txn, self._meta)
        if seen != batch.previous:
            raise head_moved(seen, batch.previous)
        if batch.entries:
            first = batch.previous.size
            _append_all(txn, self._entries, first, batch.entries)
            _append_all(txn, self._nodes, 2 * first - first.bit_count(), batch.nodes)
        for digest, blob in batch.blobs.items():
            # Stored once. A damaged one is mended: its bytes are in hand.
            if not txn.put(digest, blob, db=self._blobs, overwrite=False) and txn.get(digest, db=self._blobs) != blob:
                _must(txn.put(digest, blob, db=self._blobs))
        for request_id, seq in batch.requests.items():
            _must(txn.put(request_id, _KEY.pack(seq), db=self._requests))
        _must(txn.put(b"head", _HEAD.pack(batch.head.size, batch.head.hash), db=self._meta))
        if batch.draft is not None:
            _must(txn.put(b"draft", batch.draft, db=self._meta))
        if batch.finished is not None:
            _must(txn.put(b"finished", batch.finished, db=self._meta))

    def _make_room(self) -> None:
        """Write zeros behind the last page before it is reached: a sync of a file that grows costs a third more.

        Within the transaction, so that no other writer can be using what is behind the end. Not synced: if the zeros
        are lost, the file is as long as LMDB has made it. A small ledger stays small.
        """
        if self._bytes - self._used >= min(_LITTLE_ROOM, self._used // 8):
            return
        handle = os.open(self._file, os.O_WRONLY)
        try:
            end = os.fstat(handle).st_size
            os.pwrite(handle, bytes(min(_ROOM, end // 4)), end)
            self._bytes = os.fstat(handle).st_size
        finally:
            os.close(handle)

    def _keep_whole(self, env: lmdb.Environment) -> None:
        """LMDB may allocate a last page that it never writes; check_file() counts on every page being there."""
        self._used = (env.info()["last_pgno"] + 1) * self._page_size
        if self._bytes < self._used:  # what is known of the file's length, which is never less
            self._bytes = os.stat(self._file).st_size  # noqa: PTH116 - a Path costs more than the call
            if self._bytes < self._used:
                os.truncate(self._file, self._used)
                self._bytes = self._used


def _read_head(txn: lmdb.Transaction[bytes], database: lmdb._Database | None = None) -> Head:
    raw = _get(txn, b"head", database)
    if raw is None:
        return EMPTY_HEAD
    if len(raw) != _HEAD.size:
        raise LedgerContentError(None, "the record of the newest head is damaged")
    return Head(*_HEAD.unpack(raw))


def _get(txn: lmdb.Transaction[bytes], key: bytes, database: lmdb._Database | None = None) -> bytes | None:
    value = txn.get(key, db=database)
    return None if value is None else bytes(value)  # bytes() of bytes copies nothing


def _append_all(txn: lmdb.Transaction[bytes], database: lmdb._Database, first: int, values: Sequence[bytes]) -> None:
    pack = _KEY.pack
    items = [(pack(at), value) for at, value in enumerate(values, first)]
    consumed, added = txn.cursor(database).putmulti(items, append=True)
    # append=True on a key that is not the greatest writes nothing and raises nothing.
    if not consumed == added == len(items):
        raise HeadMovedError(f"only {added} of {len(items)} records could be appended after {first}: others are there")


def _must(put: bool) -> None:
    if not put:
        raise StoreError("LMDB refused a record without a reason; nothing of the batch was recorded")


def _failed(error: Exception, path: Path) -> StoreError:
    full = isinstance(error, lmdb.DiskError) or any(reason in str(error) for reason in _FULL)
    if full or _free_bytes(path) < _LITTLE_SPACE:  # LMDB reports a write cut short by a full disk as EIO
        return StoreFullError(f"no space is left for the ledger at {path} ({error}). Free some or enlarge the volume")
    return StoreError(
        f"the ledger at {path} cannot be used ({error}). Look at the volume; what is recorded is read again"
    )


def _free_bytes(path: Path) -> int:
    try:
        found = os.statvfs(path)
    except OSError:
        return _LITTLE_SPACE  # the directory itself is gone: not a question of space
    return found.f_bavail * found.f_frsize


def _damaged_or_failed(error: Exception, path: Path) -> LedgerContentError | StoreError:
    damage = (
        lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError,
        lmdb.IncompatibleError, lmdb.BadDbiError, lmdb.BadTxnError, lmdb.BadValsizeError,
    )  # fmt: skip
    if isinstance(error, damage):
        return LedgerContentError(None, f"the file at {path} is damaged or no ledger ({error})")
    return _failed(error, path)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
