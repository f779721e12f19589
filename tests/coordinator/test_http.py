"""HTTP itself as a weapon: slow, doubled, smuggled, pipelined, compressed. What the library does is held here."""

import asyncio
import contextlib
import gzip
import socket
import ssl

import pytest

from coordinator import server
from tests.coordinator.test_evidence import until
from tests.coordinator.test_strangers import connect, in_work
from tests.support.acts import certificate, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import Pod
from wire.routes import Port

POST = b"POST /v1/attest HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\n"
GET = b"GET /v1/capabilities HTTP/1.1\r\nHost: c\r\n"


async def ask(running: Running, raw: bytes) -> bytes:
    """The head of what is answered to *raw*."""
    reader, writer = await connect(running, Port.USER)
    answer = b""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        writer.write(raw)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.transport.abort()
    return answer


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="two lengths"),
        pytest.param(POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400, id="two content lengths"),
        pytest.param(POST + b"Content-Length: +2\r\n\r\n{}", 400, id="signed length"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, id="compressed transfer"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="chunk without size"),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 9000 + b"\r\n{}\r\n0\r\n\r\n", 400, id="chunk ext"
        ),
        pytest.param(POST + b"Expect: wonders\r\nContent-Length: 2\r\n\r\n{}", 417, id="expectation"),
        pytest.param(GET + b"X: " + b"a" * 9000 + b"\r\n\r\n", 400, id="long field"),
        pytest.param(GET + b"".join(b"X%d: a\r\n" % i for i in range(20_000)) + b"\r\n", 400, id="many fields"),
        pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: c\r\n\r\n", 400, id="long path"),
        pytest.param(b"GET /v1/capabilities\x00 HTTP/1.1\r\nHost: c\r\n\r\n", 400, id="NUL"),
        pytest.param(b"GET /v1/ledger/../capabilities HTTP/1.1\r\nHost: c\r\n\r\n", 404, id="dots"),
        pytest.param(b"GET /v1/ledger/blob/..%2f..%2fetc HTTP/1.1\r\nHost: c\r\n\r\n", 404, id="escaped dots"),
        pytest.param(b"HEAD /v1/capabilities HTTP/1.1\r\nHost: c\r\n\r\n", 405, id="HEAD"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: c\r\n\r\n", 404, id="OPTIONS"),
        pytest.param(b"TRACE /v1/capabilities HTTP/1.1\r\nHost: c\r\n\r\n", 405, id="TRACE"),
        pytest.param(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: c\r\n\r\n", 404, id="CONNECT"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP 2"),
    ],
)
async def test_a_request_that_two_readers_would_read_differently_is_refused(raw: bytes, status: int) -> None:
    """A proxy in front, and this server, must see the same requests; and nothing here is a proxy."""
    async with coordinator() as running:
        answer = await ask(running, raw)
        assert answer[9:12] == str(status).encode(), answer[:200]
        assert running.service.ledger.size == 0


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Encoding: identity", "content-encoding: br"])
async def test_a_compressed_body_is_not_unpacked(header: str) -> None:
    """A kilobyte becomes a megabyte, and sixteen megabytes sixteen gigabytes."""
    bomb = gzip.compress(bytes(10_000_000))
    async with coordinator() as running:
        lengths = f"{header}\r\nContent-Length: {min(len(bomb), 900)}\r\n\r\n".encode()
        answer = await ask(running, POST + lengths + bomb[:900])
        assert b" 415 " in answer.splitlines()[0]


async def test_a_head_that_never_ends_does_not_hold_a_connection_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field now and then kept a connection open: that costs its owner nothing, and others the place."""
    monkeypatch.setattr(server, "_KEEPALIVE_S", 0.5)
    async with coordinator() as running:
        reader, writer = await connect(running, Port.USER)
        writer.write(GET)

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"X: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)

        await asyncio.wait_for(drip(), 30)
        writer.transport.abort()
        await until(lambda: all(each.held == 0 for each in running.server._listeners))


async def test_requests_sent_ahead_wait_at_the_sender() -> None:
    """Gigabytes of small requests on one connection, of which no answer is read, would all lie in memory."""
    async with coordinator() as running:
        await set_manifest(running)
        _, writer = await connect(running, Port.USER, buffer=4096)
        sent = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(400):
                writer.write((GET + b"\r\n") * 1000)
                sent += 1000
                await asyncio.wait_for(writer.drain(), 1)
        assert sent < 400_000
        assert in_work(running) <= 1
        runner = running.server._runners[1]
        assert runner.server is not None
        assert max(len(each._messages) for each in runner.server.connections) < 2000
        writer.transport.abort()
        await certificate(running, Pod())


async def test_metrics_hold_no_word_of_a_stranger() -> None:
    """A label for every path or code that somebody invents grows without end, and shows who asked for what."""
    async with coordinator() as running:
        await set_manifest(running)
        for path in ("/nowhere-xyz", "/v1/ledger/blob/" + "ab" * 32, "/v1/ledger/entry/99999"):
            await ask(running, f"GET {path} HTTP/1.1\r\nHost: stranger-host\r\nX-Name: xyz\r\n\r\n".encode())
        await ask(running, b"BREW /nowhere-xyz HTTP/1.1\r\nHost: c\r\n\r\n")
        text = running.metrics.text().decode()
        for word in ("xyz", "stranger", "BREW", "abab", "99999", "127.0.0"):
            assert word not in text


async def test_no_tls_session_outlives_its_connection() -> None:
    """A resumed session shows no certificate: after a restart it would hide that another epoch answers."""
    async with coordinator() as running:
        address = (running.host, running.server.ports[Port.USER])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def shake(session: ssl.SSLSession | None) -> tuple[str | None, bool | None, ssl.SSLSession | None]:
            with socket.create_connection(address) as plain, context.wrap_socket(plain, session=session) as tls:
                tls.sendall(GET + b"\r\n")
                tls.recv(65536)  # Tickets would come with it.
                return tls.version(), tls.session_reused, tls.session

        version, _, session = await asyncio.to_thread(shake, None)
        assert version == "TLSv1.3"
        assert session is None or not session.has_ticket
        assert (await asyncio.to_thread(shake, session))[1] is False
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):  # Whatever it is called: an alert, or an end.
            await asyncio.to_thread(shake, None)


@pytest.mark.parametrize("raw", [GET + b"\r\n", b"GET /none HTTP/1.1\r\nHost: c\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_no_answer_names_what_it_was_made_with(raw: bytes) -> None:
    """Versions of a library tell whoever looks for a known hole where to find it."""
    async with coordinator() as running:
        answer = await ask(running, raw)
        assert b"Server: contrast\r\n" in answer
        assert b"aiohttp" not in answer
        assert b"ython" not in answer


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_web_page_cannot_ask_by_way_of_its_readers_browser(kind: str) -> None:
    """What a browser sends for any page without asking (rebound names, too) is refused, and it is never allowed to."""
    async with coordinator() as running:
        simple = (
            f"POST /v1/attest HTTP/1.1\r\nHost: evil.example\r\nContent-Type: {kind}\r\nContent-Length: 2\r\n\r\n{{}}"
        )
        assert b" 415 " in await ask(running, simple.encode())
        asked = (
            b"OPTIONS /v1/attest HTTP/1.1\r\nHost: evil.example\r\nOrigin: https://evil.example\r\n"
            b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
        )
        answer = await ask(running, asked)
        assert b" 405 " in answer
        assert b"access-control" not in answer.lower()
