"""The client: it speaks to one attested certificate, takes no more than it asked for, and says what went wrong."""

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from attestation.evidence import Evidence, Kind
from tests.support.tls import ServerIdentity, serve
from wire.address import AddressError, with_port
from wire.client import CertificateChangedError, CoordinatorClient, NotPinnedError, Timeouts
from wire.evidence import to_message
from wire.messages import AttestRequest, AttestResponse, ManifestsResponse
from wire.problem import (
    CONTENT_TYPE,
    RemoteRefusedError,
    UnreachableError,
    UntrustworthyAnswerError,
    WrongPortError,
    make_problem,
)
from wire.retry import Backoff, Retry
from wire.statement import Statement, origin_of, statement_bytes

IDENTITY = ServerIdentity()
EVIDENCE = Evidence.make(Kind.SIMULATED, {"report": b"r" * 1184})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def statement_for(tls_sha256: bytes) -> bytes:
    key = bytes(32)
    return statement_bytes(
        Statement(
            version=1,
            state="empty",
            epoch_key="01" * 32,
            tls_cert_sha256=tls_sha256.hex(),
            hpke_public_key="03" * 32,
            generation=0,
            api_versions=("v1",),
            simulated=True,
            origin=origin_of(key),
            ledger_key=key.hex(),
        )
    )


def application(tls_sha256: bytes = IDENTITY.sha256, **routes: Handler) -> web.Application:
    """A Coordinator of one statement; *routes* add GET handlers under `/v1/`, slashes written as two underscores."""

    async def attest(request: web.Request) -> web.StreamResponse:
        msgspec.json.decode(await request.read(), type=AttestRequest)
        answer = AttestResponse(statement=statement_for(tls_sha256), evidence=to_message(EVIDENCE))
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/attest", attest)
    for name, handler in routes.items():
        app.router.add_get("/v1/" + name.replace("__", "/"), handler)
    return app


def answering(body: bytes, *, status: int = 200, content_type: str = "application/json", **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(
            body=body,
            status=status,
            content_type=content_type,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    return handler


def refusing(code: str, status: HTTPStatus, **headers: str) -> Handler:
    problem = make_problem(code, status, "no", seen="this", wanted="that", action="do so")
    return answering(problem.bytes(), status=status, content_type=CONTENT_TYPE, **headers)


async def test_a_statement_names_the_certificate_of_its_connection() -> None:
    async with serve(application(), IDENTITY) as address, CoordinatorClient(address) as client:
        assert client.tls_sha256 is None
        attested = await client.fetch_statement(bytes(32))
        assert attested.tls_sha256 == IDENTITY.sha256 == client.tls_sha256
        assert attested.statement_raw == statement_for(IDENTITY.sha256)
        assert attested.evidence == EVIDENCE


async def test_a_relay_with_a_certificate_of_its_own_is_found() -> None:
    """Whoever terminates TLS in between can pass statement and evidence on, but not the certificate."""
    async with serve(application(b"x" * 32), IDENTITY) as address, CoordinatorClient(address) as client:
        with pytest.raises(UntrustworthyAnswerError, match="someone stands between"):
            await client.fetch_statement(bytes(32))


async def test_nothing_is_asked_before_the_certificate_is_pinned() -> None:
    async with serve(application(), IDENTITY) as address, CoordinatorClient(address) as client:
        for ask in (client.manifests, client.challenge, client.checkpoint, client.openapi):
            with pytest.raises(NotPinnedError):
                await ask()
        await client.fetch_statement(bytes(32))
        with pytest.raises(NotPinnedError):
            await client.manifests()


async def test_a_peer_that_speaks_an_older_tls_gets_no_request() -> None:
    """TLS 1.2 shows certificates in the clear, resumes without them, and knows weaker ciphers."""
    old = ServerIdentity(newest=ssl.TLSVersion.TLSv1_2)
    async with serve(application(old.sha256), old) as address, CoordinatorClient(address) as client:
        with pytest.raises(WrongPortError, match=r"older TLS than 1\.3"):
            await client.fetch_statement(bytes(32))


async def test_a_pinned_client_sends_nothing_to_another_certificate() -> None:
    asked: list[str] = []

    async def manifests(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(body=b'{"manifests":[]}', content_type="application/json")

    async with serve(application(manifests=manifests), IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(b"y" * 32)
        with pytest.raises(CertificateChangedError):
            await client.manifests()
    assert asked == []


async def test_a_certificate_that_changes_later_is_refused() -> None:
    """Another replica, or a host that takes the address over: its certificate was not attested."""
    other = ServerIdentity()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with CoordinatorClient(f"127.0.0.1:{port}") as client:
        async with serve(application(), IDENTITY, port=port):
            client.pin((await client.fetch_statement(bytes(32))).tls_sha256)
        async with serve(application(other.sha256), other, port=port):
            with pytest.raises(CertificateChangedError):
                await client.manifests()


async def test_a_pin_cannot_be_moved() -> None:
    async with serve(application(), IDENTITY) as address, CoordinatorClient(address) as client:
        await client.fetch_statement(bytes(32))
        with pytest.raises(CertificateChangedError):
            client.pin(b"z" * 32)


async def test_an_answer_is_read_whole_and_typed() -> None:
    app = application(
        manifests=answering(b'{"manifests":[]}'),
        ledger__checkpoint=answering(b"note", content_type="text/plain"),
        ledger__entry__7=answering(b"entry"),
        ledger__tile__0__x001__234=answering(b"tile"),
    )
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        assert await client.manifests() == ManifestsResponse(manifests=())
        assert await client.ledger_file("checkpoint") == b"note"
        assert await client.ledger_file("entry/7") == b"entry"
        assert await client.ledger_file("tile/0/x001/234") == b"tile"


@pytest.mark.parametrize(
    "path", ["", "tile", "tile/0/../x", "tile/0/1", "entry/-1", "entry/x", "../manifests", "tile/0/000?x", "blob/zz"]
)
async def test_a_path_outside_the_ledger_is_not_asked_for(path: str) -> None:
    async with CoordinatorClient("127.0.0.1:1") as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(ValueError, match=r"no path of a ledger"):
            await client.ledger_file(path)


async def test_a_blob_is_hashed_again() -> None:
    name = "00" * 32
    app = application()
    app.router.add_get(f"/v1/ledger/blob/{name}", answering(b"other"))
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(UntrustworthyAnswerError, match="other bytes"):
            await client.blob(bytes(32))


async def test_an_endless_answer_is_cut_off() -> None:
    """A hostile server must not fill the memory of whoever verifies it."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
                sent += 65_536
        except ConnectionError:
            return response

    async with serve(application(ledger__entry__7=endless), IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(UntrustworthyAnswerError, match="more than 16384 bytes"):
            await client.entry(7)
    assert sent < 32 * 1024 * 1024


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"<html>", b'{"manifests":[],"manifests":[]}', b'{"manifests":[],"more":1}', b"[" * 50_000],
)
async def test_an_answer_of_another_shape_is_refused(body: bytes) -> None:
    async with (
        serve(application(manifests=answering(body)), IDENTITY) as address,
        CoordinatorClient(address) as client,
    ):
        client.pin(IDENTITY.sha256)
        with pytest.raises(UntrustworthyAnswerError, match="ManifestsResponse"):
            await client.manifests()


async def test_a_refusal_carries_its_document() -> None:
    app = application(manifests=refusing("needs_recovery", HTTPStatus.SERVICE_UNAVAILABLE, Retry_After="7"))
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(RemoteRefusedError) as caught:
            await client.manifests()
    assert (caught.value.code, caught.value.retry_after_s, caught.value.may_pass) == ("needs_recovery", 7, True)
    for word in (address, "no", "this", "that", "do so"):
        assert word in str(caught.value)


async def test_a_redirect_is_not_followed() -> None:
    app = application(manifests=answering(b"", status=302, Location="https://127.0.0.1:1/"))
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(UntrustworthyAnswerError, match="302 without a problem document"):
            await client.manifests()


async def test_a_proxy_in_front_of_a_stopped_coordinator_reads_as_no_answer() -> None:
    app = application(manifests=answering(b"<html>bad gateway", status=502, content_type="text/html"))
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(UnreachableError, match="502"):
            await client.manifests()


async def test_a_closed_port_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        async with CoordinatorClient(address) as client:
            with pytest.raises(UnreachableError, match=rf"{address} does not answer .*is the address right"):
                await client.fetch_statement(bytes(32))


async def test_a_port_without_tls_is_no_port_of_ours_and_not_tried_again() -> None:
    """The probe port, a web server, an sshd: a raw error of a TLS library tells nobody which port to give."""
    server = TestServer(application())  # Plain HTTP.
    await server.start_server()
    retry = Retry(attempts=5, sleep=asyncio.sleep, chance=lambda: 0.0)
    try:
        async with CoordinatorClient(f"127.0.0.1:{server.port}", retry=retry) as client:
            with pytest.raises(WrongPortError, match=r"not in TLS\. .*user port, 1313 .*mesh port, 7777"):
                await client.fetch_statement(bytes(32))
    finally:
        await server.close()


async def test_a_route_that_is_on_another_port_says_so() -> None:
    """`contrast set` at the mesh port: attestation works there, and then `not_found` would say nothing."""
    app = application(manifests=refusing("not_found", HTTPStatus.NOT_FOUND))
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(WrongPortError, match=r"no /v1/manifests: .*user port, 1313"):
            await client.manifests()


async def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with CoordinatorClient(address, timeouts=Timeouts(exchange_s=0.05)) as client:
            with pytest.raises(UnreachableError, match="no answer in time"):
                await client.fetch_statement(bytes(32))


async def test_what_may_pass_is_tried_again_and_nothing_else() -> None:
    slept: list[float] = []
    answers = iter(
        [
            refusing("busy", HTTPStatus.TOO_MANY_REQUESTS, Retry_After="9"),
            refusing("shutting_down", HTTPStatus.SERVICE_UNAVAILABLE),
            answering(b'{"manifests":[]}'),
            refusing("stale_statement", HTTPStatus.CONFLICT),
        ]
    )

    async def manifests(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    retry = Retry(attempts=5, sleep=sleep, chance=lambda: 0.0, backoff=Backoff(first_s=1.0))
    async with (
        serve(application(manifests=manifests), IDENTITY) as address,
        CoordinatorClient(address, retry=retry) as client,
    ):
        client.pin(IDENTITY.sha256)
        assert await client.manifests() == ManifestsResponse(manifests=())
        assert slept == [9.0, 1.0]
        with pytest.raises(RemoteRefusedError):
            await client.manifests()
    assert len(slept) == 2


@pytest.mark.parametrize(
    ("address", "whole"),
    [
        ("coordinator", "coordinator:7777"),
        ("coordinator:1", "coordinator:1"),
        ("127.0.0.1", "127.0.0.1:7777"),
        ("[::1]", "[::1]:7777"),
        ("[::1]:65535", "[::1]:65535"),
    ],
)
def test_an_address_gets_its_default_port(address: str, whole: str) -> None:
    assert with_port(address, 7777) == whole


@pytest.mark.parametrize(
    "address", ["", ":1", "a:0", "a:65536", "a:b", "https://a", "a/b", "::1", "a b", "user@host", "a:1:2", "a\n"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(AddressError):
        with_port(address, 7777)


async def test_no_proxy_of_the_environment_sees_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets a pod's environment would read which ledger it asks, and could hold every answer back."""
    async with serve(application(), IDENTITY) as address:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9/")
        monkeypatch.setenv("NO_PROXY", "")
        async with CoordinatorClient(address) as client:
            assert (await client.fetch_statement(bytes(32))).tls_sha256 == IDENTITY.sha256


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """A kilobyte of it would be a gigabyte in the pod."""
    bomb = gzip.compress(bytes(50_000_000))
    app = application(manifests=answering(bomb, Content_Encoding="gzip"))
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        client.pin(IDENTITY.sha256)
        with pytest.raises(UntrustworthyAnswerError, match="something else"):
            await client.manifests()


async def test_a_refusal_longer_than_any_is_cut_off() -> None:
    """Refusals are read before anybody is known."""
    long = make_problem("busy", HTTPStatus.TOO_MANY_REQUESTS, "x").bytes()[:-1] + b',"more":"' + b"x" * 10**6 + b'"}'
    app = application(capabilities=answering(long, status=429, content_type=CONTENT_TYPE))
    async with serve(app, IDENTITY) as address, CoordinatorClient(address) as client:
        with pytest.raises(UntrustworthyAnswerError, match="more than"):
            await client.capabilities()


async def test_a_wait_that_somebody_asks_for_has_an_end() -> None:
    """A pod that is told to come back in a year would be a pod that never starts."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    app = application(capabilities=refusing("busy", HTTPStatus.TOO_MANY_REQUESTS, Retry_After="99999999"))
    retry = Retry(attempts=2, sleep=sleep, chance=lambda: 0.0)
    async with serve(app, IDENTITY) as address, CoordinatorClient(address, retry=retry) as client:
        with pytest.raises(RemoteRefusedError):
            await client.capabilities()
    assert waited == [60.0]


async def test_headers_without_end_are_cut_off() -> None:
    """They are read before the first byte of a body is counted."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(100_000):
                writer.write(b"X-%d: %s\r\n" % (number, b"y" * 1000))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0, ssl=IDENTITY.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with CoordinatorClient(f"127.0.0.1:{port}", timeouts=Timeouts(exchange_s=20)) as client:
            with pytest.raises((UnreachableError, UntrustworthyAnswerError)):
                await client.capabilities()


async def test_a_cancellation_that_a_library_tells_as_a_failed_connection_ends_the_tries() -> None:
    """Ctrl-C at the moment in which a connection stands was answered by another try, and was lost."""
    tries = 0

    async def action() -> None:
        nonlocal tries
        tries += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise UnreachableError("the connection was closed") from None

    retry = Retry(attempts=5, sleep=asyncio.sleep, chance=lambda: 0.0)
    task = asyncio.ensure_future(retry.run(action))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tries == 1
