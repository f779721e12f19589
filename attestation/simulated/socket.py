"""A simulated processor on a Unix socket, one per guest: who can open it is the guest. It judges nothing.

Request: u32 length, msgpack ``[1, REPORT_DATA]``. Answer: u32 length, msgpack ``[1, kind, [[role, bytes], ...]]``, or
``[0, reason]``. One connection may ask several times.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from attestation.codec import pack, unpack
from attestation.errors import AttestationError, CodecError, EvidenceError, IssueError
from attestation.evidence import Evidence, Kind
from attestation.simulated.processor import Guest

MAX_REQUEST: Final = 128
MAX_ANSWER: Final = 131_072
MAX_PATH: Final = 107  # sun_path of Linux has 108 bytes, one of them the terminating zero.
_TIMEOUT_S: Final = 10.0
_OK: Final = 1
_REFUSED: Final = 0


def check_path(path: Path) -> None:
    """Demand that the kernel can bind *path*.

    Raises:
        IssueError: it is longer than 107 bytes.
    """
    size = len(str(path).encode())
    if size > MAX_PATH:
        raise IssueError(
            f"the socket path has {size} bytes, the kernel takes at most {MAX_PATH}: {path}; "
            "use a shorter directory, for example under /tmp or $XDG_RUNTIME_DIR"
        )


@asynccontextmanager
async def serve(guest: Guest, path: Path) -> AsyncIterator[None]:
    """Answer for *guest* on the socket *path* (0600, in a directory made 0700 if it is not there) until the block ends.

    Raises:
        IssueError: the path is too long, or something lives there already.
    """
    listener = _bind(path)

    peers: set[asyncio.StreamWriter] = set()
    alone = asyncio.Event()
    alone.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer)
        alone.clear()
        # A peer that goes away, or is slow, or babbles, is dropped; the guest beside it must not notice.
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, CodecError):
            try:
                await _converse(guest, reader, writer)
            finally:
                writer.close()
                peers.discard(writer)
                if not peers:
                    alone.set()

    server = await asyncio.start_unix_server(answer, sock=listener)
    try:
        yield
    finally:
        server.close()
        _remove(path)
        # Peers that stay connected are hung up on, so that no conversation outlives the guest.
        for peer in tuple(peers):
            peer.transport.abort()
        await alone.wait()


def _bind(path: Path) -> socket.socket:
    check_path(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_socket() and not _is_answered(path):
        path.unlink()  # Left by a guest that was killed.
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # The socket is 0600 from its first moment.
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise IssueError(f"cannot listen on {path} ({error.strerror}); another guest may be using it") from None
    finally:
        os.umask(mask)
    return listener


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)  # A full backlog would keep us waiting; then somebody lives there.
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # Not ours to remove.
    return True


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _converse(guest: Guest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (request := await _read(reader, MAX_REQUEST)) is not None:
        match unpack(request):
            case [1, bytes() as report_data]:
                try:
                    evidence = guest.evidence(report_data)
                except AttestationError as error:
                    answer = pack([_REFUSED, str(error)])
                else:
                    answer = pack([_OK, evidence.kind.value, [list(part) for part in evidence.parts]])
            case _:
                answer = pack([_REFUSED, "the request is not [1, REPORT_DATA]"])
        writer.write(len(answer).to_bytes(4, "big") + answer)
        async with asyncio.timeout(_TIMEOUT_S):
            await writer.drain()


async def request_evidence(path: Path, report_data: bytes) -> Evidence:
    """Ask the simulated processor at *path* for evidence about this guest and *report_data*.

    Raises:
        IssueError: nobody answers there, or not with evidence.
    """
    check_path(path)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                request = pack([1, report_data])
                writer.write(len(request).to_bytes(4, "big") + request)
                await writer.drain()
                answer = await _read(reader, MAX_ANSWER)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise IssueError(
            f"no simulated processor answers at {path} ({type(error).__name__}: {error}); "
            "it lives as long as its guest: start one with `contrast dev guest` or `contrast dev run`"
        ) from None
    return _evidence(answer, path)


def _evidence(answer: bytes | None, path: Path) -> Evidence:
    try:
        value = unpack(answer or b"")
        match value:
            case [0, str() as reason]:
                raise IssueError(f"the simulated processor at {path} refused: {reason[:200]}")
            case [1, "simulated", list() as parts]:
                return Evidence(Kind.SIMULATED, tuple(_part(part) for part in parts))
            case _:
                pass
    except (CodecError, EvidenceError) as error:
        raise IssueError(f"the simulated processor at {path} answered with no evidence: {error}") from None
    raise IssueError(f"the simulated processor at {path} answered with something else than simulated evidence")


def _part(part: object) -> tuple[str, bytes]:
    match part:
        case [str() as role, bytes() as data]:
            return role, data
        case _:
            raise EvidenceError("a part is not [role, bytes]")


async def _read(reader: asyncio.StreamReader, limit: int) -> bytes | None:
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    if not 0 < size <= limit:
        raise CodecError(f"a message of {size} bytes, wanted 1 to {limit}")
    async with asyncio.timeout(_TIMEOUT_S):
        return await reader.readexactly(size)
