"""What a witness remembers, in LMDB: a record per log, checked and replaced in one transaction. Judges nothing.

A witness that forgets can be made to sign two histories. So the record is synced before the answer goes out, a store
that is gone is no fresh one (the caller says when it may begin), and an older copy put back is the operator's fault
that no program can see: the state directory belongs on a disk that is not restored from backups.
"""

from __future__ import annotations  # lmdb's types are generic for the checker only

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from ledger.errors import LedgerError, StoreError
from ledger.witness import AcceptedFork, Known

_MAP_SIZE: Final = 2**30
_FORMAT: Final = b"contrast-witness/1"
_FORK: Final = b"fork/"  # before the log's key and a number
_KEY_BYTES: Final = 32
T = TypeVar("T")


class WitnessStore:
    """One directory, one writing process. Decisions are made inside the write transaction, one at a time."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the state at *path*; only with *create* may there be none yet.

        Raises:
            StoreError: there is none, or the directory cannot be used.
        """
        self._path = path
        self._lock = threading.Lock()
        file = path / "data.mdb"
        if not create and not file.exists():
            raise StoreError(f"there is no state of a witness at {path}: it was lost, and this witness must not go on")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            umask = os.umask(0o077)
            try:
                self._env = lmdb.open(str(path), map_size=_MAP_SIZE, max_dbs=1, mode=0o600)
            finally:
                os.umask(umask)
            self._logs = self._env.open_db(b"logs")
            self._check_format()
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"the state of the witness at {path} cannot be used ({error})") from error

    def known(self, origin: str) -> Known | None:
        """What was cosigned last for the log called *origin*. Raises LedgerError if the record is damaged."""
        try:
            with self._env.begin(db=self._logs) as txn:
                raw = txn.get(_key(origin))
        except lmdb.Error as error:
            raise StoreError(f"the state of the witness at {self._path} cannot be read ({error})") from error
        return None if raw is None else Known.unpack(bytes(raw))

    def update(self, origin: str, decide: Callable[[Known | None], tuple[T, Known]]) -> T:
        """Let *decide* see what is known and say what is to be known; durable when this returns.

        What *decide* raises leaves everything as it was. Raises StoreError if the transaction fails: nothing may be
        answered then, since it is unknown whether the record was replaced.
        """
        with self._lock:
            try:
                with self._env.begin(db=self._logs, write=True) as txn:
                    raw = txn.get(_key(origin))
                    result, new = decide(None if raw is None else Known.unpack(bytes(raw)))
                    if not txn.put(_key(origin), new.pack()):
                        raise StoreError("LMDB refused the record without a reason; nothing was cosigned")
            except lmdb.Error as error:
                raise StoreError(f"the state of the witness at {self._path} cannot be written ({error})") from error
        return result

    def accept_fork(self, origin: str, decide: Callable[[Known | None], tuple[AcceptedFork, Known]]) -> AcceptedFork:
        """As update(), for a fork that the operator accepts: recorded with the replacement, and never forgotten."""
        with self._lock:
            try:
                with self._env.begin(db=self._logs, write=True) as txn:
                    raw = txn.get(_key(origin))
                    accepted, new = decide(None if raw is None else Known.unpack(bytes(raw)))
                    number = sum(1 for _ in _forks(txn, self._logs, origin))
                    record = _FORK + _key(origin) + struct.pack(">I", number)
                    if not (txn.put(record, accepted.pack(), overwrite=False) and txn.put(_key(origin), new.pack())):
                        raise StoreError("LMDB refused the record without a reason; nothing was accepted")
            except lmdb.Error as error:
                raise StoreError(f"the state of the witness at {self._path} cannot be written ({error})") from error
        return accepted

    def forks(self, origin: str) -> tuple[AcceptedFork, ...]:
        """Every fork of the log called *origin* that was accepted here, oldest first."""
        try:
            with self._env.begin(db=self._logs) as txn:
                return tuple(AcceptedFork.unpack(raw) for raw in _forks(txn, self._logs, origin))
        except lmdb.Error as error:
            raise StoreError(f"the state of the witness at {self._path} cannot be read ({error})") from error

    def all_known(self) -> tuple[Known, ...]:
        """What is remembered of every log."""
        try:
            with self._env.begin(db=self._logs) as txn, txn.cursor() as cursor:
                return tuple(Known.unpack(bytes(raw)) for key, raw in cursor if len(key) == _KEY_BYTES)
        except lmdb.Error as error:
            raise StoreError(f"the state of the witness at {self._path} cannot be read ({error})") from error

    def close(self) -> None:
        """Let go of the directory. Closing twice is harmless."""
        self._env.close()

    def _check_format(self) -> None:
        with self._env.begin(db=self._logs, write=True) as txn:
            seen = txn.get(b"format")
            if seen is None:
                if txn.stat(self._logs)["entries"]:
                    raise LedgerError(f"{self._path} holds something else than the state of a witness")
                txn.put(b"format", _FORMAT)
            elif bytes(seen) != _FORMAT:
                raise LedgerError(
                    f"the state at {self._path} has format {bytes(seen)!r}, this program reads {_FORMAT!r}"
                )


def _forks(txn: lmdb.Transaction, logs: lmdb._Database, origin: str) -> Iterator[bytes]:
    prefix = _FORK + _key(origin)
    with txn.cursor(logs) as cursor:
        there = cursor.set_range(prefix)
        while there and bytes(cursor.key()).startswith(prefix):
            yield bytes(cursor.value())
            there = cursor.next()


def _key(origin: str) -> bytes:
    return hashlib.sha256(origin.encode()).digest()
