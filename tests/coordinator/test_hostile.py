"""Requests that no honest client sends, to every route: each gets a problem document, and nothing is recorded."""

import asyncio
import base64
import contextlib
import io
import json
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from coordinator import errors, refusals
from coordinator.settings import Limits
from tests.support.acts import set_manifest
from tests.support.coordinator import coordinator, problem
from tests.support.deployment import Deployment, Pod, random_nonce
from wire import routes
from wire.json import encode
from wire.messages import AttestRequest, RecoveryRequest
from wire.routes import PROBLEM_STATUS, ROUTES, Port, Route

POSTS = [route for route in ROUTES if route.request is not None]
JSON = {"Content-Type": "application/json"}


def genuine(route: Route, origin: str) -> dict[str, Any]:
    """A request that would be accepted, or at least understood."""
    match route.name:
        case "attest":
            message: Any = AttestRequest(nonce=random_nonce())
        case "set_manifest":
            message = Deployment().request(origin)
        case "certificate":
            message = Pod().request(random_nonce())
        case "recover":
            message = RecoveryRequest(
                sealed=bytes(144), statement="0" * 64, size=3, root="0" * 64, share_owner="0" * 64, signature=b"s"
            )
        case _:
            raise AssertionError(route.name)
    document: dict[str, Any] = json.loads(encode(message))
    return document


def nested(depth: int) -> bytes:
    return b'{"nonce":' + b"[" * depth + b"]" * depth + b"}"


def first_key(document: dict[str, Any]) -> str:
    return next(iter(document))


BROKEN: dict[str, Callable[[Route, dict[str, Any]], bytes]] = {
    "empty": lambda *_: b"",
    "truncated": lambda _, body: json.dumps(body).encode()[:-1],
    "not json": lambda *_: b"<xml/>",
    "binary": lambda *_: bytes(range(256)),
    "array": lambda _, body: json.dumps([body]).encode(),
    "null": lambda *_: b"null",
    "nested": lambda *_: nested(10_000),
    "nested a little": lambda *_: nested(40),
    "byte order mark": lambda _, body: b"\xef\xbb\xbf" + json.dumps(body).encode(),
    "utf-16": lambda _, body: json.dumps(body).encode("utf-16"),
    "trailing bytes": lambda _, body: json.dumps(body).encode() + b"{}",
    "duplicate key": lambda _, body: (
        b'{"%s":null,' % first_key(body).encode() + json.dumps(body).encode().removeprefix(b"{")
    ),
    "duplicate key, same value": lambda _, body: (
        json.dumps(body).encode().removesuffix(b"}")
        + b',"%s":%s}' % (first_key(body).encode(), json.dumps(body[first_key(body)]).encode())
    ),
    "unknown field": lambda _, body: json.dumps({**body, "surplus": 1}).encode(),
    "missing field": lambda _, body: json.dumps({k: v for k, v in body.items() if k != first_key(body)}).encode(),
    "wrong type": lambda _, body: json.dumps({**body, first_key(body): 7}).encode(),
    "null field": lambda _, body: json.dumps({**body, first_key(body): None}).encode(),
    "nan": lambda _, body: json.dumps({**body, first_key(body): float("nan")}).encode(),
    "unpadded base64": lambda _, body: json.dumps({**body, first_key(body): "AAAA" * 10 + "A"}).encode(),
    "url base64": lambda _, body: json.dumps({**body, first_key(body): "-_" * 21 + "A="}).encode(),
    "stray base64 bits": lambda _, body: json.dumps({**body, first_key(body): "A" * 42 + "B="}).encode(),
}


@pytest.mark.parametrize("active", [False, True], ids=["empty", "active"])
@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.name)
async def test_broken_bodies_are_refused_and_change_nothing(route: Route, active: bool) -> None:
    async with coordinator() as running, running.raw() as session:
        if active:
            await set_manifest(running)
        _, statement = await running.statement()
        size = running.service.ledger.size
        body = genuine(route, statement.origin or "")
        url = running.url(route.ports[-1], route.path)
        for name, broken in BROKEN.items():
            async with session.post(url, data=broken(route, body), headers=JSON) as response:
                document = await problem(response)
                assert document["code"] in {"malformed_request", "too_large"}, (name, document)
                assert document["action"], name
        async with session.post(url, data=io.BytesIO(b" " * (route.max_request + 1)), headers=JSON) as response:
            assert (await problem(response))["code"] == "too_large"
        async with session.post(url, data=chunks(route.max_request + 1), headers=JSON) as response:
            assert (await problem(response))["code"] == "too_large"
        for headers in (
            {"Content-Type": "text/plain"},
            {**JSON, "Content-Encoding": "gzip"},
            {"Content-Type": "application/x-www-form-urlencoded"},
        ):
            async with session.post(url, data=json.dumps(body), headers=headers) as response:
                assert (await problem(response))["code"] == "unsupported_media_type"
        assert running.service.ledger.size == size


async def chunks(size: int) -> Any:
    """A body without a declared length."""
    for _ in range(0, size, 65_536):
        yield b" " * 65_536


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_other_methods_are_refused(route: Route) -> None:
    async with coordinator() as running, running.raw() as session:
        port = route.ports[0]
        path = route.path.replace("{L}", "0").replace("{N}", "000").replace("{seq}", "0").replace("{sha256}", "0" * 64)
        for method in ("PUT", "DELETE", "PATCH"):
            async with session.request(method, running.url(port, path)) as response:
                document = await problem(response)
                assert document["code"] == "method_not_allowed"
                assert route.method in response.headers["Allow"]


@pytest.mark.parametrize("port", list(Port))
async def test_routes_of_one_port_do_not_answer_on_another(port: Port) -> None:
    """Workloads could set manifests, or strangers read metrics, otherwise."""
    async with coordinator() as running, running.raw() as session:
        for route in ROUTES:
            if port in route.ports or "{" in route.path:
                continue
            async with session.request(route.method, running.url(port, route.path)) as response:
                assert (await problem(response))["code"] in {"not_found", "method_not_allowed"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/ledger/entry/-1",
        "/v1/ledger/entry/01",
        "/v1/ledger/entry/3",
        "/v1/ledger/entry/99999999999999999999999",
        "/v1/ledger/entry/%D9%A3",
        "/v1/ledger/blob/" + "0" * 64,
        "/v1/ledger/blob/" + "A" * 64,
        "/v1/ledger/blob/..%2f..%2fetc",
        "/v1/ledger/tile/0/001",
        "/v1/ledger/tile/0/000",
        "/v1/ledger/tile/0/000.p/4",
        "/v1/ledger/tile/0/000.p/0",
        "/v1/ledger/tile/0/000.p/256",
        "/v1/ledger/tile/8/000.p/1",
        "/v1/ledger/tile/00/000.p/1",
        "/v1/ledger/tile/0/x000/000.p/1",
        "/v1/ledger/tile/entries/000.p/4",
        "/v1/ledger/tile/entries/../../data.mdb",
        "/v1/ledger/tile/0/" + "x999/" * 30 + "999",
        "/v1/ledger/tile/0/0.p/1",
    ],
)
async def test_what_is_not_there_is_not_found(path: str) -> None:
    async with coordinator() as running, running.raw() as session:
        await set_manifest(running)
        async with session.get(running.url(Port.USER, path)) as response:
            assert (await problem(response))["code"] == "not_found"


async def test_readers_get_tiles_entries_and_blobs_as_recorded() -> None:
    async with coordinator() as running, running.client() as client:
        await set_manifest(running)
        ledger = running.service.ledger
        assert await client.ledger_file("tile/0/000.p/3") == ledger.tile(0, 0, 3)
        assert await client.ledger_file("tile/entries/000.p/3") == ledger.bundle(0, 3)
        assert await client.entry(2) == ledger.entry(2).raw
        current = running.service.state.current
        assert current is not None
        assert await client.blob(current.manifest) == Deployment().manifest
        assert (await client.checkpoint()).decode() == ledger.finished


async def test_garbage_on_the_wire_does_not_stop_the_server() -> None:
    async with coordinator() as running:
        for port in (Port.USER, Port.MESH):
            _, writer = await asyncio.open_connection(running.host, running.server.ports[port])
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            writer.close()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for garbage in (
            b"\x00" * 100,
            b"POST /v1/attest HTTP/9.9\r\n\r\n",
            b"GET /" + b"a" * 100_000,
            b"POST /v1/attest HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/attest HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            b"POST /v1/attest HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        ):
            reader, writer = await asyncio.open_connection(running.host, running.server.ports[Port.USER], ssl=context)
            writer.write(garbage)
            writer.write_eof() if writer.can_write_eof() else None
            await asyncio.wait_for(_drain(reader, writer), 5)
        async with running.client() as client:
            assert (await client.fetch_statement(random_nonce())).statement.state == "empty"


async def _drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Whatever comes back, until the server closes or a second has passed."""
    try:
        async with asyncio.timeout(1):
            while await reader.read(65_536):
                pass
    except (TimeoutError, OSError):
        pass
    writer.transport.abort()


async def test_a_slow_body_does_not_hold_a_place_for_ever() -> None:
    async with coordinator(limits=Limits(body_timeout_s=0.2, requests_per_peer=1)) as running, running.raw() as session:

        async def slow() -> Any:
            yield b"{"
            await asyncio.sleep(0.6)
            yield b"}"

        url = running.url(Port.USER, "/v1/attest")
        async with session.post(url, data=slow(), headers=JSON) as response:
            assert (await problem(response))["code"] == "malformed_request"
        async with session.get(running.url(Port.USER, "/v1/capabilities")) as response:
            assert response.status == 200


async def test_connections_are_bounded() -> None:
    """Idle connections would use up the process's descriptors otherwise."""
    async with coordinator(limits=Limits(connections=2)) as running:
        port = running.server.ports[Port.PROBE]
        held = [await asyncio.open_connection(running.host, port) for _ in range(2)]
        for _, writer in held:
            writer.write(b"GET /probe/startup HTTP/1.1\r\nHost: c\r\n\r\n")
        for reader, _ in held:
            assert b"200" in await reader.readline()
        reader, writer = await asyncio.open_connection(running.host, port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        for _, each in [*held, (reader, writer)]:
            each.close()


async def test_one_peer_cannot_hold_every_place() -> None:
    async with coordinator(limits=Limits(requests_per_peer=2, body_timeout_s=5)) as running, running.raw() as session:
        release = asyncio.Event()

        async def waiting() -> Any:
            yield b"{"
            await release.wait()
            yield b"}"

        url = running.url(Port.USER, "/v1/attest")

        async def ask() -> int:
            async with session.post(url, data=waiting(), headers=JSON) as response:
                return response.status

        async with asyncio.TaskGroup() as tasks:
            held = [tasks.create_task(ask()) for _ in range(2)]
            while True:
                async with session.get(running.url(Port.USER, "/v1/capabilities")) as response:
                    if response.status == 429:
                        assert (await problem(response))["code"] == "busy"
                        assert response.headers["Retry-After"] == "1"
                        break
            connector = aiohttp.TCPConnector(
                ssl=aiohttp.Fingerprint(running.epoch.tls_sha256), local_addr=("127.0.0.7", 0)
            )
            async with (
                aiohttp.ClientSession(connector=connector) as other,
                other.get(running.url(Port.USER, "/v1/capabilities")) as response,
            ):
                assert response.status == 200
            release.set()
        assert {task.result() for task in held} == {400}


async def test_bad_manifests_and_policies_name_what_is_wrong() -> None:
    async with coordinator() as running, running.raw() as session:
        _, statement = await running.statement()
        good = json.loads(encode(Deployment().request(statement.origin or "")))
        url = running.url(Port.USER, "/v1/manifests")
        manifest = base64.b64decode(good["manifest"])
        for change, code in (
            ({"manifest": base64.b64encode(b"{}").decode()}, "invalid_manifest"),
            (
                {"manifest": base64.b64encode(manifest.replace(b'"Policies"', b'"Polices"')).decode()},
                "invalid_manifest",
            ),
            ({"policies": good["policies"][1:]}, "policies_mismatch"),
            ({"policies": [*good["policies"], base64.b64encode(b"more").decode()]}, "policies_mismatch"),
            ({"policies": [*good["policies"], good["policies"][0]]}, "policies_mismatch"),
            ({"previous": "0" * 64}, "stale_transition"),
            ({"signatures": []}, "not_an_owner"),
            ({"signatures": good["signatures"] * 2}, "bad_owner_signature"),
        ):
            async with session.post(url, json={**good, **change}) as response:
                document = await problem(response)
                assert document["code"] == code, document
                assert PROBLEM_STATUS[code] == response.status
        assert running.service.ledger.size == 0
        assert running.service.phase == "empty"


async def test_large_manifests_have_few_places() -> None:
    """Sixteen megabytes each, from many peers at once."""
    async with coordinator(limits=Limits(body_timeout_s=5)) as running, running.raw() as session:
        release = asyncio.Event()

        async def waiting() -> Any:
            yield b"{"
            await release.wait()
            yield b"}"

        async def ask(number: int) -> int:
            here = (f"127.0.0.{2 + number}", 0)  # One of each peer, which is allowed while there is a place.
            connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(running.epoch.tls_sha256), local_addr=here)
            url = running.url(Port.USER, "/v1/manifests")
            async with (
                aiohttp.ClientSession(connector=connector) as peer,
                peer.post(url, data=waiting(), headers=JSON) as response,
            ):
                return response.status

        async with asyncio.TaskGroup() as tasks:
            held = [tasks.create_task(ask(number)) for number in range(9)]
            done, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [429]
            async with session.get(running.url(Port.USER, "/v1/manifests")) as response:
                assert response.status == 200
            release.set()
        assert sorted(task.result() for task in held) == [400] * 8 + [429]


async def test_answers_stay_within_the_bounds_that_clients_demand() -> None:
    async with coordinator() as running, running.raw() as session:
        await set_manifest(running)
        for route in (routes.OPENAPI, routes.CAPABILITIES, routes.MANIFESTS, routes.CHECKPOINT):
            async with session.get(running.url(Port.USER, route.path)) as response:
                assert response.status == 200
                assert len(await response.read()) <= route.max_answer


async def test_unexpected_failures_say_nothing_of_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback could name paths, or worse."""
    async with coordinator() as running, running.raw() as session:
        monkeypatch.setattr(running.service, "manifests", lambda: 1 / 0)
        async with session.get(running.url(Port.USER, "/v1/manifests")) as response:
            document = await problem(response)
            assert document["code"] == "internal"
            assert "Zero" not in json.dumps(document)


def test_every_refusal_is_known_to_clients() -> None:
    """A code that the table of routes does not know would be a surprise to every client."""
    shown = {
        kind.code: kind.status
        for module in (errors, refusals)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, errors.CoordinatorError)
    }
    inside = {"stale_preparation", "refusal_not_due"}
    assert {
        code: status for code, status in shown.items() if code not in inside and PROBLEM_STATUS.get(code) != status
    } == {}
