"""A crowd at the door: thousands of strangers at once, and one pod that must be served all the same."""

import asyncio
import contextlib
import re
import resource
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.listening import RESERVED, room_for_connections
from coordinator.settings import Limits
from ledger.memory import MemoryStore
from tests.coordinator.test_evidence import until
from tests.coordinator.test_program import first_set, processor, program
from tests.coordinator.test_strangers import connect
from tests.support.acts import certificate, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import Pod
from wire.json import encode
from wire.messages import CertificateRequest, EvidenceMessage, EvidencePart
from wire.routes import Port

STRANGERS, ADDRESSES = 2000, 16
MOST_MEMORY = 300 * 1024 * 1024
SIGNATURE_AT = 0x2A0  # In an SNP report.


def bad_request(pod: Pod, nonce: bytes) -> bytes:
    """A request that is refused by the last and costliest check: everything fits, but the signature is nobody's."""
    pod.hpke_public = secrets.token_bytes(32)
    honest = pod.request(nonce)
    parts = []
    for part in honest.evidence.parts:
        data = bytearray(part.data)
        if part.role == "report":
            data[SIGNATURE_AT + 1] ^= 1
        parts.append(EvidencePart(role=part.role, data=bytes(data)))
    return encode(
        CertificateRequest(
            nonce=nonce,
            csr=honest.csr,
            hpke_public_key=honest.hpke_public_key,
            evidence=EvidenceMessage(kind=honest.evidence.kind, parts=tuple(parts)),
        )
    )


def head(body: bytes) -> bytes:
    lines = ("POST /v1/certificates HTTP/1.1", "Host: c", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def anonymous_memory(pid: int) -> int:
    """Bytes of a process's memory that are its own; pages of the ledger's file do not count."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture
def descriptors() -> int:
    """As many as the system gives this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def test_two_thousand_strangers_with_bad_evidence_keep_no_pod_out(tmp_path: Path, descriptors: int) -> None:
    """The Coordinator stood still, or grew until it was killed: with its seed."""
    crowd_size = min(STRANGERS, descriptors - 256)
    async with processor(tmp_path), program(tmp_path) as running:
        await first_set(running)
        before = anonymous_memory(running.process.pid)
        async with running.client("mesh") as client:
            await client.certificate(Pod().request((await client.challenge()).nonce))
            nonce, pod = (await client.challenge()).nonce, Pod()
            bodies = [bad_request(pod, nonce) for _ in range(ADDRESSES * 4)]
            statuses: Counter[str] = Counter()
            context, peak = tls(), 0

            async def stranger(number: int) -> None:
                address = f"127.0.2.{number % ADDRESSES + 1}"
                with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", running.ports["mesh"], ssl=context, server_hostname="c",
                        local_addr=(address, 0),
                    )  # fmt: skip
                    writer.write(head(bodies[number % len(bodies)]))
                    statuses[(await reader.readline())[9:12].decode()] += 1
                    await done.wait()
                    writer.transport.abort()

            done = asyncio.Event()
            async with asyncio.TaskGroup() as crowd:
                for number in range(crowd_size):
                    crowd.create_task(stranger(number))
                for _ in range(5):
                    fresh = Pod()
                    answer = await client.certificate(fresh.request((await client.challenge()).nonce))
                    assert answer.bundle
                    peak = max(peak, anonymous_memory(running.process.pid))
                while statuses.total() < crowd_size * 9 // 10:
                    await asyncio.sleep(0.1)
                    peak = max(peak, anonymous_memory(running.process.pid))
                # A newcomer finds a place while all of them hold theirs.
                async with running.client("mesh") as newcomer:
                    assert (await newcomer.certificate(Pod().request((await newcomer.challenge()).nonce))).bundle
                done.set()
        assert set(statuses) <= {"403", "429"}, statuses
        assert peak - before < MOST_MEMORY


async def test_handshakes_that_never_end_count_for_the_peer_who_opened_them() -> None:
    """Connections were counted once their handshake stood: silent ones took every descriptor of the process."""
    async with coordinator(limits=Limits(connections=40, connections_per_peer=1024)) as running:
        await set_manifest(running)
        listener = running.server._listeners[-1]
        with strangers(running, {"127.0.0.2": 60}):
            await until(lambda: listener.held >= 16)
            await certificate(running, Pod())
            assert listener.held <= 17
        await until(lambda: listener.held <= 1)


async def test_a_few_peers_cannot_take_every_place() -> None:
    """Each gets half of what is left, so there is always room for one more."""
    async with coordinator(limits=Limits(connections=256, connections_per_peer=256)) as running:
        await set_manifest(running)
        listener = running.server._listeners[-1]
        with strangers(running, {f"127.0.0.{last}": 120 for last in range(2, 7)}):
            await until(lambda: listener.held >= 200)
            await certificate(running, Pod())
            assert listener.held < 240


async def test_a_connection_in_plain_http_or_in_nonsense_is_forgotten() -> None:
    """A count that only grows would end in a door that is shut for good."""
    async with coordinator() as running:
        await set_manifest(running)
        listener = running.server._listeners[-1]
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70), b""):
            reader, writer = await asyncio.open_connection(running.host, running.server.ports[Port.MESH])
            writer.write(said)
            if not said:
                writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 30)
            writer.close()
        await until(lambda: listener.held == 0)
        reader, writer = await connect(running, Port.MESH)
        assert listener.held == 1
        writer.transport.abort()
        await until(lambda: listener.held == 0)
        await certificate(running, Pod())


async def test_a_handshake_that_breaks_something_ends_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected ended the task that accepts: the port was dead, and the probes said nothing."""
    async with coordinator() as running:
        await set_manifest(running)
        listener, loop = running.server._listeners[-1], asyncio.get_running_loop()
        broken: list[object] = []
        connect_accepted = loop.connect_accepted_socket

        async def fails_once(*args: object, **options: object) -> object:
            if not broken:
                broken.append(args)
                raise RuntimeError("a mistake of somebody's")
            return await connect_accepted(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "connect_accepted_socket", fails_once)
        silent = silent_connection(running, "127.0.0.3")
        await until(lambda: bool(broken) and listener.held == 0)
        silent.close()
        await certificate(running, Pod())


async def test_a_process_without_descriptors_goes_on_when_it_has_some_again() -> None:
    """An error of accept() that is not expected would end the task that accepts."""
    store = MemoryStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = descriptors_in_use()
        waiting = [silent_connection(running, "127.0.0.3") for _ in range(2)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        try:
            with contextlib.suppress(OSError):
                waiting.append(silent_connection(running, "127.0.0.3"))
            await asyncio.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in waiting:
            each.close()
        await certificate(running, Pod())


def test_connections_fit_into_the_descriptors_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual limit is 1024, fewer than one stranger may hold: accepting would fail for everybody."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    for limits, most, asked in (
        ((1024, 1024), (1024 - RESERVED) // 3, []),
        ((1024, 1_000_000), 4096, [(4096 * 3 + RESERVED, 1_000_000)]),
        ((1024, resource.RLIM_INFINITY), 4096, [(4096 * 3 + RESERVED, resource.RLIM_INFINITY)]),
        ((100_000, 100_000), 4096, []),
    ):
        given.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=limits: found)
        assert room_for_connections(4096, 3) == most
        assert [pair for pair in given if pair != limits] == asked


@contextlib.contextmanager
def strangers(running: Running, opened: dict[str, int]) -> Iterator[None]:
    """So many connections from each address, on which nothing is ever said."""
    silent = [silent_connection(running, address) for address, count in opened.items() for _ in range(count)]
    try:
        yield
    finally:
        for each in silent:
            each.close()


def silent_connection(running: Running, address: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((address, 0))
    with contextlib.suppress(BlockingIOError):
        sock.connect((running.host, running.server.ports[Port.MESH]))
    return sock


def descriptors_in_use() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
