"""The store process: one LMDB environment, served to its parent over two sockets. Has no key and no network.

Run as ``python -m ledger.store_process PATH MODE MAP-SIZE READS-FD WRITES-FD`` by ledger/isolated.py, with nothing else
inherited. Ends when the parent closes the sockets, or dies.
"""

import socket
import sys
import threading
from pathlib import Path
from typing import assert_never

from ledger.confine import confine
from ledger.errors import LedgerError
from ledger.lmdb_store import LmdbStore
from ledger.store import Store
from ledger.store_wire import (
    Answer,
    Ask,
    Channel,
    ChannelClosedError,
    pack_error,
    pack_number,
    pack_state,
    unpack_batch,
    unpack_number,
)

DIGESTS_AT_ONCE = 65_536


def serve(store: Store, channel: Channel) -> None:
    """Answer until the other side closes."""
    while True:
        try:
            kind, parts = channel.receive()
        except ChannelClosedError:
            return
        try:
            found = answer(store, Ask(kind), parts)
        except LedgerError as error:
            channel.send(Answer.ERROR, pack_error(error))
        else:
            channel.send(Answer.NOTHING if found is None else Answer.DONE, found or ())


def answer(store: Store, asked: Ask, parts: list[bytes]) -> list[bytes] | None:
    """What *store* says; None for "there is none"."""
    match asked:
        case Ask.STATE:
            return pack_state(store.state())
        case Ask.APPEND:
            store.append(unpack_batch(parts))
            return []
        case Ask.ENTRIES:
            return store.entries(unpack_number(parts[0]), unpack_number(parts[1]))
        case Ask.NODES:
            return store.nodes(unpack_number(parts[0]), unpack_number(parts[1]))
        case Ask.NODES_AT:
            return store.nodes_at([unpack_number(part) for part in parts])
        case Ask.BLOB:
            blob = store.blob(parts[0])
            return None if blob is None else [blob]
        case Ask.BLOB_DIGESTS:
            return [digest for digest in store.blob_digests() if digest > parts[0]][:DIGESTS_AT_ONCE]
        case Ask.REQUEST:
            seq = store.request(parts[0])
            return None if seq is None else [pack_number(seq)]
        case _:
            assert_never(asked)


def main(path: Path, mode: str, map_size: int, reads: int, writes: int) -> None:
    """Open the store, say so or why not, and serve both sockets."""
    channels = [Channel(socket.socket(fileno=number)) for number in (reads, writes)]
    held = confine()
    try:
        store = LmdbStore(path, map_size=map_size, readonly=mode == "read")
    except LedgerError as error:
        channels[0].send(Answer.ERROR, pack_error(error))
        return
    channels[0].send(Answer.DONE, [each.encode() for each in held])
    writing = threading.Thread(target=serve, args=(store, channels[1]))
    writing.start()
    serve(store, channels[0])
    writing.join()
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
