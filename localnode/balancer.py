"""Passes TCP connections from one address to the ready pods of a Service, in turn; understands no byte of them."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

_CHUNK = 1 << 16
_CONNECT_TIMEOUT = 5.0  # seconds
_MAX_CONNECTIONS = 256


class Balancer:
    """One port of a LoadBalancer Service. TLS ends in the pod: who runs this learns nothing but amounts and times."""

    def __init__(self, endpoints: Callable[[], Sequence[tuple[str, int]]]) -> None:
        """*endpoints* is asked at every connection."""
        self._endpoints = endpoints
        self._turn = 0
        self._open = 0

    async def serve(self, address: str, port: int) -> asyncio.Server:
        """Listen; the caller closes the server.

        Raises:
            OSError: the address is taken or not ours.
        """
        return await asyncio.start_server(self._pass, address, port, limit=_CHUNK)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > _MAX_CONNECTIONS:
                return
            upstream = await self._connect()
            if upstream is None:
                return
            up_reader, up_writer = upstream
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, up_writer))
                    group.create_task(_copy(up_reader, writer))
            finally:
                up_writer.close()
        finally:
            self._open -= 1
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        endpoints = self._endpoints()
        for _ in range(len(endpoints)):
            self._turn += 1
            address, port = endpoints[self._turn % len(endpoints)]
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    return await asyncio.open_connection(address, port, limit=_CHUNK)
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # A connection that breaks on one side is ended on the other; who spoke last sees why.
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
