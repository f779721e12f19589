"""A whole Coordinator in the test's process: real HTTP, TLS and ledger; clock and processor are the test's."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from attestation.issuer import Issuer
from coordinator import logs
from coordinator.epoch import Epoch, open_epoch, tls_context
from coordinator.metrics import Metrics
from coordinator.opening import open_ledger
from coordinator.server import Server
from coordinator.service import Service, World
from coordinator.settings import Limits, Settings
from coordinator.witnessing import Witnessing
from ledger.memory import MemoryStore
from ledger.store import Store
from tests.support.deployment import GuestIssuer, launch, random_nonce
from wire.client import CoordinatorClient
from wire.routes import Port
from wire.statement import Statement, parse_statement


class Clock:
    """Time that a test moves; by default it runs."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self.offset_ms


@dataclass(slots=True)
class Running:
    """A Coordinator that listens."""

    service: Service
    server: Server
    epoch: Epoch
    clock: Clock
    metrics: Metrics
    host: str = "127.0.0.1"

    def url(self, port: Port, path: str = "") -> str:
        scheme = "http" if port is Port.PROBE else "https"
        return f"{scheme}://{self.host}:{self.server.ports[port]}{path}"

    @asynccontextmanager
    async def client(self, port: Port = Port.USER) -> AsyncIterator[CoordinatorClient]:
        """A client that has pinned this Coordinator."""
        async with CoordinatorClient(f"{self.host}:{self.server.ports[port]}") as client:
            client.pin(self.epoch.tls_sha256)
            yield client

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that sends whatever it is told."""
        pin = aiohttp.Fingerprint(self.epoch.tls_sha256)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=pin)) as session:
            yield session

    async def statement(self) -> tuple[bytes, Statement]:
        async with self.client() as client:
            attested = await client.fetch_statement(random_nonce())
            return attested.statement_raw, parse_statement(attested.statement_raw)


@asynccontextmanager
async def coordinator(
    store: Store | None = None,
    *,
    issuer: Issuer | None = None,
    clock: Clock | None = None,
    limits: Limits | None = None,
    bind: str = "127.0.0.1",
    change: Callable[[Settings], Settings] | None = None,
    witnessing: Witnessing | None = None,
) -> AsyncIterator[Running]:
    """Open *store* (an empty one in memory), listen on free ports, stop gracefully at the end."""
    logs.configure("error", io.StringIO())
    time_source = clock or Clock()
    settings = Settings(
        ledger=Path("unused"),
        bind=bind,
        user_port=0,
        mesh_port=0,
        probe_port=0,
        limits=limits or Limits(),
        stop_timeout_s=5,
    )
    if change is not None:
        settings = change(settings)
    epoch = open_epoch(datetime.now(UTC))
    metrics = Metrics()
    opened = open_ledger(MemoryStore() if store is None else store)
    with ThreadPoolExecutor(max_workers=3) as threads:
        world = World(
            issuer=issuer or GuestIssuer(launch()),
            threads=threads,
            clock_ms=time_source.unix_ms,
            monotonic_ms=time_source.monotonic_ms,
            workers=2,
        )
        service = Service(opened, epoch, settings, world, metrics, witnessing=witnessing)
        server = Server(service, settings, metrics, tls_context(epoch))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            await service.ready.wait()
            await server.start()
            try:
                yield Running(service, server, epoch, time_source, metrics, bind)
            finally:
                await server.stop()
                service.stop()


async def problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The problem document of a refusal; anything else fails the test."""
    assert response.content_type == "application/problem+json", await response.text()
    document: dict[str, Any] = await response.json(content_type=None)
    assert document["status"] == response.status
    return document
