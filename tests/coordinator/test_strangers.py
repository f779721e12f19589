"""What strangers may cost: places, connections and memory, taken by requests that never end or are never read."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus

import pytest

from coordinator import admission
from coordinator.admission import Gate, RefusalCounter
from coordinator.commands import Command, RecordRefusal
from coordinator.errors import BusyError
from coordinator.events import EventError
from coordinator.settings import Limits
from coordinator.state import State
from ledger.memory import MemoryStore
from ledger.writer import Committed
from tests.coordinator.test_evidence import until
from tests.support.acts import certificate, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import Pod
from wire.json import encode
from wire.messages import AttestRequest
from wire.problem import RemoteRefusedError, make_problem, parse_problem
from wire.routes import Port

LARGE = bytes(12 * 1024 * 1024)  # More than the buffers of a connection hold.


async def connect(
    running: Running, port: Port, *, buffer: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (running.host, running.server.ports[port]))
    return await asyncio.open_connection(sock=sock, ssl=context, server_hostname="c", limit=1024)


@pytest.mark.parametrize("announced", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_a_body_that_is_announced_and_never_sent_holds_no_place(announced: str) -> None:
    """Challenges have no body, so nobody would have waited for its end with a clock in his hand."""
    async with coordinator(limits=Limits(body_timeout_s=0.2, requests_per_peer=1)) as running:
        await set_manifest(running)
        reader, writer = await connect(running, Port.MESH)
        writer.write(f"POST /v1/challenges HTTP/1.1\r\nHost: c\r\n{announced}\r\n\r\n".encode())
        assert b"400" in await asyncio.wait_for(reader.readline(), 5)
        await until(lambda: in_work(running) == 0)
        await certificate(running, Pod())
        writer.close()


async def test_one_peer_cannot_hold_every_connection() -> None:
    """The pods of everybody else could not even ask."""
    async with coordinator(limits=Limits(connections_per_peer=2)) as running:
        port = running.server.ports[Port.PROBE]
        held = [await asyncio.open_connection(running.host, port) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /probe/startup HTTP/1.1\r\nHost: c\r\n\r\n")
            assert b"200" in await reader.readline()
        third, turned = await asyncio.open_connection(running.host, port)
        with contextlib.suppress(ConnectionError):
            assert await third.read() == b""
        turned.close()
        other, writer = await asyncio.open_connection(running.host, port, local_addr=("127.0.0.9", 0))
        writer.write(b"GET /probe/startup HTTP/1.1\r\nHost: c\r\n\r\n")
        assert b"200" in await other.readline()
        for _, each in [*held, (other, writer)]:
            each.close()
            with contextlib.suppress(ConnectionError):
                await each.wait_closed()
        await until(lambda: not running.server._runners[0].server.connections)  # type: ignore[union-attr]
        again, writer = await asyncio.open_connection(running.host, port)
        writer.write(b"GET /probe/startup HTTP/1.1\r\nHost: c\r\n\r\n")
        assert b"200" in await again.readline()
        writer.close()


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    """Megabytes would wait in memory for each of thousands of connections."""
    store = MemoryStore()
    digest = hashlib.sha256(LARGE).digest()
    async with coordinator(store, limits=Limits(answer_timeout_s=0.3)) as running:
        await set_manifest(running)
        store._blobs[digest] = LARGE
        reader, writer = await connect(running, Port.USER, buffer=4096)
        writer.write(f"GET /v1/ledger/blob/{digest.hex()} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
        await until(lambda: in_work(running) == 1)
        await until(lambda: in_work(running) == 0)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert len(await asyncio.wait_for(reader.read(-1), 10)) < len(LARGE)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()
        async with (
            running.raw() as session,
            session.get(running.url(Port.USER, f"/v1/ledger/blob/{digest.hex()}")) as answer,
        ):
            assert await answer.read() == LARGE
            assert (answer.content_length, answer.content_type) == (len(LARGE), "application/octet-stream")


def test_one_peer_has_a_share_of_a_route_with_few_places() -> None:
    """Eight slow bodies, one for each place of a large request, would keep an owner from setting a manifest."""
    gate = Gate(per_peer=64, per_route=512, heavy={"large": 8})
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(gate.hold("large", "stranger"))
        with pytest.raises(BusyError, match="share"):
            held.enter_context(gate.hold("large", "stranger"))
        held.enter_context(gate.hold("large", "owner"))
        held.enter_context(gate.hold("small", "stranger"))
    assert gate.in_work == 0
    with gate.hold("large", "stranger"):
        pass


async def test_a_csr_of_an_odd_version_is_the_senders_fault() -> None:
    """The library has an exception of its own for it, which was answered 500 and logged with its trace."""
    async with coordinator() as running:
        await set_manifest(running)
        pod = Pod()
        head = bytes.fromhex("020100")
        assert pod.csr.count(head) >= 1
        with pytest.raises(RemoteRefusedError) as caught:
            await certificate(running, pod, csr=pod.csr.replace(head, bytes.fromhex("020108"), 1))
        assert caught.value.code == "bad_csr"


def in_work(running: Running) -> int:
    get: Callable[[str], float | None] = running.metrics.registry.get_sample_value
    return int(get("contrast_coordinator_requests_in_work") or 0)


async def test_a_refusal_that_cannot_be_recorded_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task that records refusals would take the process with it, and the seed would have to be brought again."""
    async with coordinator() as running:
        await set_manifest(running)
        kernel, submit = running.service.kernel, running.service.kernel.submit
        failed = asyncio.Event()

        async def broken(command: Command) -> Committed[State]:
            if isinstance(command, RecordRefusal) and not failed.is_set():
                failed.set()
                raise EventError("seen: text was wanted")
            return await submit(command)

        monkeypatch.setattr(kernel, "submit", broken)
        async with running.client(Port.MESH) as client:
            with pytest.raises(RemoteRefusedError, match="policy"):
                await certificate(running, Pod(b"# unknown"))
            await asyncio.wait_for(failed.wait(), 10)
            with pytest.raises(RemoteRefusedError, match="challenge"):
                await client.certificate(Pod().request(bytes(32)))
        await until(lambda: running.service.state.refused == 1)
        await certificate(running, Pod())


def test_half_a_surrogate_pair_can_still_be_refused() -> None:
    """JSON of a stranger can hold one, and neither a problem document nor the ledger can write it."""
    counter = RefusalCounter()
    counter.count("evidence_tcb", now_ms=0, seen="\ud800 seen", wanted="\udfff" * 300)
    (refused,) = counter.due(now_ms=0)
    assert refused.seen == "? seen"
    assert len((refused.seen + refused.wanted).encode()) <= 512
    problem = make_problem("evidence_refused", HTTPStatus.FORBIDDEN, "\ud800", seen="\ud800" * 2000)
    assert parse_problem(problem.bytes()).detail == "?"


@pytest.mark.parametrize(
    ("limits", "places"),
    [
        pytest.param(Limits(requests_per_peer=2), 2, id="all of a peer"),
        pytest.param(Limits(requests_per_route=1), 1, id="all of a route"),
        pytest.param(Limits(requests_per_route=8), 2, id="a share"),
    ],
)
async def test_bodies_that_hardly_come_make_way(limits: Limits, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few headers every now and then held all places of an address, and a whole cluster may stand behind it."""
    monkeypatch.setattr(admission, "_PATIENCE_S", 0.05)
    async with coordinator(limits=limits) as running:
        await set_manifest(running)
        stalled = []
        for _ in range(places):
            reader, writer = await connect(running, Port.MESH)
            writer.write(
                b"POST /v1/certificates HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\n"
                b"Content-Length: 5000\r\n\r\n{"
            )
            stalled.append((reader, writer))
        await until(lambda: in_work(running) == places)
        await asyncio.sleep(0.1)
        await certificate(running, Pod())
        told = [asyncio.ensure_future(reader.readline()) for reader, _ in stalled]
        first, _ = await asyncio.wait(told, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result()[9:12] for task in first} == {b"429"}
        for _, writer in stalled:
            writer.transport.abort()
        await asyncio.wait(told)


async def test_a_body_that_comes_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner behind a slow line must be able to send a manifest of megabytes while strangers knock."""
    monkeypatch.setattr(admission, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(admission, "_SLOW", 1)
    gate = Gate(per_peer=1, per_route=8)
    with gate.hold("r", "a"), gate.reading("r", "a", asyncio.timeout(30)) as reading:
        reading.received = 1_000_000
        with pytest.raises(BusyError), gate.hold("r", "a"):
            pass
    assert not reading.gave_way


async def test_a_request_during_the_stop_is_told_so_and_one_in_work_ends() -> None:
    """It found a dead connection, or hung until somebody killed the process."""
    async with coordinator() as running:
        await set_manifest(running)
        body = encode(AttestRequest(nonce=bytes(32)))
        lines = (
            "POST /v1/attest HTTP/1.1",
            "Host: c",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        ask = "\r\n".join((*lines, "", ""))
        slow_reader, slow = await connect(running, Port.USER)
        slow.write(ask.encode() + body[:10])
        late_reader, late = await connect(running, Port.MESH)
        await until(lambda: in_work(running) == 1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(running.server.stop())
            await asyncio.sleep(0)
            late.write(b"POST /v1/challenges HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n")
            answer = await asyncio.wait_for(late_reader.read(), 30)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"shutting_down" in answer
            assert b"Retry-After: 1" in answer
            slow.write(body[10:])
            assert b"200" in await asyncio.wait_for(slow_reader.readline(), 30)
        slow.close()
        late.close()
