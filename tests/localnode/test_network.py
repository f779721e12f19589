"""The balancer and the probes, on real sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from localnode.balancer import Balancer
from localnode.probes import Probe, is_ready
from tests.support.mesh import Mesh

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    answering: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(handle(reader, writer))
        answering.add(task)
        task.add_done_callback(answering.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
    # A connection that outlives its test is a warning in another one.
    for task in tuple(answering):
        task.cancel()
    await asyncio.gather(*answering, return_exceptions=True)


def says(text: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\n")
        writer.write(text)
        await writer.drain()

    return handler


async def ask(port: int, question: bytes = b"?\n") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(question)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


async def test_connections_go_to_the_ready_pods_in_turn() -> None:
    async with listening(says(b"one")) as one, listening(says(b"two")) as two:
        server = await Balancer(lambda: [("127.0.0.1", one), ("127.0.0.1", two)]).serve("127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            assert {await ask(port), await ask(port)} == {b"one", b"two"}


async def test_a_pod_that_is_gone_is_passed_over() -> None:
    async with listening(says(b"one")) as one:
        async with listening(says(b"")) as gone:
            pass
        server = await Balancer(lambda: [("127.0.0.1", gone), ("127.0.0.1", one)]).serve("127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            assert [await ask(port), await ask(port)] == [b"one", b"one"]


async def test_without_a_ready_pod_the_connection_is_closed() -> None:
    server = await Balancer(list).serve("127.0.0.1", 0)
    async with server:
        answer = b""
        with contextlib.suppress(ConnectionError):  # closed cleanly is as good as reset
            answer = await ask(server.sockets[0].getsockname()[1])
        assert answer == b""


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\n\r\n", True),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", False),
        (b"SSH-2.0 200 \r\n", False),
        (b"", False),
        (b"HTTP/1.0", False),
    ],
)
async def test_a_get_probe_believes_2xx_and_3xx(answer: bytes, ready: bool) -> None:
    async with listening(says(answer)) as port:
        assert await is_ready(Probe(port=port, path="/ready"), "127.0.0.1") is ready


async def test_a_https_probe_looks_through_tls(tmp_path: Path) -> None:
    directory = Mesh().issue(tmp_path / "tls", "web")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certChain.pem", directory / "key.pem")
    async with listening(says(b"HTTP/1.0 200 OK\r\n\r\n"), context) as port:
        assert await is_ready(Probe(port=port, path="/", scheme="HTTPS"), "127.0.0.1")
        assert not await is_ready(Probe(port=port, path="/", scheme="HTTP"), "127.0.0.1")


async def test_a_silent_container_is_not_ready() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        assert await is_ready(Probe(port=port), "127.0.0.1")
        assert not await is_ready(Probe(port=port, path="/", timeout=0.05), "127.0.0.1")
    assert not await is_ready(Probe(port=port), "127.0.0.1")
