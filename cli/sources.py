"""Ledgers wherever they are: a Coordinator's store, a directory, a tar, a web server, a Coordinator. Judges nothing.

This is the one place where the auditor's commands open what they are given, all of it without an import step. What is
on the network is read into a temporary folder first, since an audit comes back to its blobs; a Coordinator's file,
which is a stranger's, is read in a child process that holds nothing.
"""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cli.errors import LocalFileError, RefusedError, UsageFaultError
from cli.fetch import Get, fetch_ledger
from ledger.checked import CheckedSource
from ledger.entry import Entry
from ledger.isolated import foreign_store
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from ledger.source import DirectorySource, Source, StoredSource, StoreSource
from ledger.tar_source import TarSource
from ledger.verify import replay_source
from wire.client import CoordinatorClient
from wire.files import FileClient
from wire.problem import RemoteError, RemoteRefusedError
from wire.retry import Retry

Visit = Callable[[Entry], None]
_ROUTES = "/v1/ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A ledger whose structure, chain, tree and entry signatures were checked while it was opened.

    Attributes:
        source: to read from.
        size: number of entries.
        root: Merkle root over them.
        stored: whether it is a Coordinator's store, whose end may have no finished checkpoint yet.
    """

    source: CheckedSource
    size: int
    root: bytes
    stored: bool


@contextmanager
def open_source(where: str) -> Iterator[CheckedSource]:
    """Give the ledger at *where*; of all that is checked here only blobs, as they are read.

    Args:
        where: `https://…` or `http://…` (a web server with an exported ledger, or a Coordinator), a directory, a tar,
            or the folder of a Coordinator's `--ledger`.

    Raises:
        LocalFileError: there is no ledger.
        RemoteError: nobody answers there, or not with a ledger.
        LedgerError: it is no ledger's file.
    """
    if "://" in where:
        folder = Path(tempfile.mkdtemp(prefix="contrast-ledger."))
        try:
            asyncio.run(_download(where, folder))
            yield CheckedSource(DirectorySource(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    elif LmdbStore.exists(Path(where)):
        with foreign_store(Path(where)) as store:
            yield CheckedSource(StoredSource(store))
    else:
        with _files(Path(where)) as source:
            yield CheckedSource(source)


@contextmanager
def open_ledger(where: str, *, visit: Visit | None = None) -> Iterator[Opened]:
    """Open and check the ledger at *where*, calling *visit* for every entry. Raises as :func:`open_source`.

    A Coordinator's store is read to its very end, which a finished checkpoint may not cover yet.
    """
    if "://" not in where and LmdbStore.exists(Path(where)):
        with foreign_store(Path(where)) as store:
            log = open_log(store, visit=visit)
            yield Opened(source=CheckedSource(StoreSource(log)), size=log.size, root=log.root, stored=True)
        return
    with open_source(where) as source:
        verified = replay_source(source, visit=visit)
        yield Opened(source=source, size=verified.size, root=verified.root, stored=False)


@contextmanager
def _files(path: Path) -> Iterator[Source]:
    if path.is_file():
        with TarSource(path) as tar:
            yield tar
        return
    if not (path / "checkpoint").is_file():
        raise LocalFileError(
            f"{path} holds no ledger: wanted a Coordinator's folder (`--ledger`), an exported one (`verify/ledger`), "
            "a tar of it, or an address beginning with https://"
        )
    if not (path / "tile" / "entries").is_dir():
        raise LocalFileError(
            f"{path} holds only what `contrast verify` read of a ledger, the control chain and its proofs: "
            "`contrast verify --full` downloads all of it"
        )
    yield DirectorySource(path)


async def _download(where: str, folder: Path) -> None:
    """Read the ledger at the address *where*: first as files of a web server, then as a Coordinator."""
    url = urlsplit(where)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise UsageFaultError(f"{where} is no address of a ledger: wanted https://HOST[:PORT][/PATH]")
    may_be_coordinator = url.scheme == "https" and url.path.rstrip("/") in {"", _ROUTES}
    try:
        async with FileClient(where) as files:
            get = _patient(files.get)
            checkpoint = await files.get("checkpoint")
            await fetch_ledger(get, checkpoint, folder, withheld=True)
            return
    except RemoteError:
        if not may_be_coordinator:
            raise
    async with CoordinatorClient(url.netloc) as client:
        # Whoever answers proves nothing by it: what is believed is what the ledger's own signatures and evidence say.
        client.accept_unattested_UNSAFE()
        get = _patient(client.ledger_file)
        try:
            checkpoint = await client.ledger_file("checkpoint")
        except RemoteRefusedError as error:
            if error.code != "not_found":
                raise
            raise RefusedError(
                f"{where} shows no ledger: a Coordinator has none before the first `contrast set`, and shows it at its "
                "user port alone (1313 where nobody changed it)"
            ) from None
        await fetch_ledger(get, checkpoint, folder, withheld=True)


def _patient(get: Get) -> Get:
    retry = Retry(attempts=8, sleep=asyncio.sleep, chance=secrets.SystemRandom().random)
    return lambda path: retry.run(lambda: get(path))
