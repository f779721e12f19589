"""Witnesses in the test's own process: real ones with real state, and ones that are slow, down, or lie."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from ledger.note import VerifierKey
from ledger.witness_store import WitnessStore
from witness.keys import WitnessKeys, make_keys
from witness.server import WitnessService, make_app

Manner = Callable[[web.Request, Callable[[], Awaitable[web.StreamResponse]]], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class RunningWitness:
    """A witness that listens; *manner*, if set, stands before it and may answer otherwise."""

    name: str
    keys: WitnessKeys
    store: WitnessStore
    logs: dict[str, list[VerifierKey]] = field(default_factory=dict)
    url: str = ""
    manner: Manner | None = None
    asked: int = 0
    now_s: int | None = None

    @property
    def vkey(self) -> str:
        return str(self.keys.ed25519.key)

    def line(self, *, lattice: bool = False) -> str:
        """Its line in a policy."""
        key = self.keys.mldsa44.key if lattice else self.keys.ed25519.key
        return f"witness {self.name} {key} {self.url}\n"


@asynccontextmanager
async def running_witness(name: str, folder: Path | None = None) -> AsyncIterator[RunningWitness]:
    """A real witness that knows the logs in its ``logs``; add them before it is asked."""
    with tempfile.TemporaryDirectory() as scratch:
        state = folder or Path(scratch) / "state"
        store = WitnessStore(state, create=True)
        there = RunningWitness(name, make_keys(state, f"{name}.example"), store)

        times = [0]

        def now() -> int:
            times[0] += 1
            return there.now_s if there.now_s is not None else 1_790_000_000 + times[0]

        service = WitnessService(store, there.keys.cosigners, there.logs, now)

        @web.middleware
        async def stand_before(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            there.asked += 1
            if there.manner is None:
                return await handler(request)
            return await there.manner(request, lambda: handler(request))

        app = make_app(service)
        app.middlewares.append(stand_before)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        there.url = str(server.make_url("")).rstrip("/")
        try:
            yield there
        finally:
            await server.close()
            store.close()


@contextmanager
def live_witnesses(*names: str) -> Iterator[list[RunningWitness]]:
    """Witnesses in a thread of their own, for tests of commands."""
    started: list[RunningWitness] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def life() -> None:
        async with AsyncExitStack() as stack:
            started.extend([await stack.enter_async_context(running_witness(name)) for name in names])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(life()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield started
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
