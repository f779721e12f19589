"""The three ports: which handler answers which route of wire.routes, listening, and stopping gracefully."""

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import web, web_response

from coordinator import __version__
from coordinator.admission import Gate
from coordinator.budgets import Budget, Credit
from coordinator.errors import CoordinatorError, NoCheckpointError, NotFoundError
from coordinator.lane import Lane
from coordinator.listening import Listener
from coordinator.metrics import CONTENT_TYPE, Metrics
from coordinator.peers import peer_of
from coordinator.service import Service
from coordinator.settings import Settings
from coordinator.web import Handler, bytes_answer, demand_no_body, guard, json_answer, read_message
from ledger.errors import ProofError
from ledger.tiles import parse_path
from wire import routes
from wire.json import MessageError
from wire.messages import (
    MAX_POLICY,
    AttestRequest,
    Capabilities,
    CertificateRequest,
    RecoveryRequest,
    SetManifestRequest,
)
from wire.openapi import document
from wire.routes import Port, Route
from wire.statement import API_VERSION

_HEADER_BYTES = 8190
_KEEPALIVE_S = 75.0  # Also how long a connection may take to send its first request's head.
_PROBES = 512  # Connections to the port for probes and metrics, which two or three programs ask.
_EVERYBODY = "everybody"
_PODS_AT_ONCE = 4  # Of peers who were refused too often: each may take three signatures to find out.
_OWNERS_REST = 3.0  # Strangers' manifests take a quarter of one thread: each may take a second to read.
_BODY_MEMORY = 128 * 1024 * 1024  # Bytes of request bodies per route, if all in work are as large as they may be.
_ANSWER_MEMORY = 384 * 1024 * 1024  # As much for large answers, of which one client has sixteen at a time.
log = structlog.get_logger("coordinator.server")


class Handlers:
    """One method per route; what it means is decided by the service."""

    def __init__(self, service: Service, metrics: Metrics, settings: Settings) -> None:
        self._service = service
        self._metrics = metrics
        limits = settings.limits
        self._timeout_s = limits.body_timeout_s
        self._clock_ms = service.kernel.world.monotonic_ms
        key = secrets.token_bytes(32)
        self._attesting = Budget("requests for evidence", peer=limits.attest_per_peer, everybody=limits.attest, key=key)
        self._owning = Credit(limits.owner_per_peer, key=key)
        self._owning_all = Credit(limits.owner, key=key)
        self._owners_lane = Lane(1, rest=_OWNERS_REST)
        self._refused = Credit(limits.refused_per_peer, key=key)
        self._pods_lane = Lane(_PODS_AT_ONCE)
        self._openapi = msgspec.json.encode(document())
        self._capabilities = Capabilities(api_versions=(API_VERSION,), version=__version__)
        self.listening = False

    def table(self) -> Mapping[Route, Handler]:
        """Every route with its handler."""
        return {
            routes.CAPABILITIES: self.capabilities,
            routes.OPENAPI: self.openapi,
            routes.ATTEST: self.attest,
            routes.SET_MANIFEST: self.set_manifest,
            routes.MANIFESTS: self.manifests,
            routes.RECOVER: self.recover,
            routes.CHECKPOINT: self.checkpoint,
            routes.ENTRY_BUNDLE: self.tile,  # First: its path is one of the tiles' pattern, too.
            routes.TILE: self.tile,
            routes.ENTRY: self.entry,
            routes.BLOB: self.blob,
            routes.CHALLENGE: self.challenge,
            routes.CERTIFICATE: self.certificate,
            routes.STARTUP: self.startup,
            routes.LIVENESS: self.liveness,
            routes.READINESS: self.readiness,
            routes.METRICS: self.metrics,
        }

    async def capabilities(self, _request: web.Request) -> web.Response:
        """API versions."""
        return json_answer(self._capabilities)

    async def openapi(self, _request: web.Request) -> web.Response:
        """The description of all routes."""
        return web.Response(body=self._openapi, content_type=routes.JSON)

    async def attest(self, request: web.Request) -> web.Response:
        """Statement and evidence."""
        message = await read_message(request, AttestRequest, limit=routes.ATTEST.max_request, timeout_s=self._timeout_s)
        self._attesting.take(_peer(request), now_ms=self._clock_ms())
        return json_answer(await self._service.attest(message))

    async def challenge(self, request: web.Request) -> web.Response:
        """A nonce; the request has no body."""
        await demand_no_body(request, timeout_s=self._timeout_s)
        return json_answer(self._service.workloads.challenge())

    async def certificate(self, request: web.Request) -> web.Response:
        """A certificate for an attested key."""
        peer = _peer(request)
        try:
            message = await read_message(
                request, CertificateRequest, limit=routes.CERTIFICATE.max_request, timeout_s=self._timeout_s
            )
            async with self._pods_turn(peer):
                return json_answer(await self._service.workloads.certificate(message))
        except (CoordinatorError, MessageError) as error:
            if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                self._refused.spend(peer, now_ms=self._clock_ms())
            raise

    async def set_manifest(self, request: web.Request) -> web.Response:
        """A manifest comes into force."""
        message = await read_message(
            request, SetManifestRequest, limit=routes.SET_MANIFEST.max_request, timeout_s=self._timeout_s
        )
        async with self._owners_turn(_peer(request)):
            return json_answer(await self._service.set_manifest(message))

    async def manifests(self, _request: web.Request) -> web.Response:
        """The history of manifests."""
        return json_answer(self._service.manifests())

    async def recover(self, request: web.Request) -> web.Response:
        """The seed comes back."""
        message = await read_message(
            request, RecoveryRequest, limit=routes.RECOVER.max_request, timeout_s=self._timeout_s
        )
        async with self._owners_turn(_peer(request)):
            return json_answer(await self._service.recover(message))

    async def checkpoint(self, _request: web.Request) -> web.Response:
        """The newest finished checkpoint; drafts never leave."""
        finished = self._service.ledger.finished
        if finished is None:
            raise NoCheckpointError("There is no finished checkpoint yet.")
        return bytes_answer(finished.encode(), routes.TEXT)

    async def tile(self, request: web.Request) -> web.Response:
        """A tile of hashes or a bundle of entries."""
        path = request.path.removeprefix("/v1/ledger/")
        try:
            tile = parse_path(path)
            ledger = self._service.ledger
            if tile.level == "entries":
                return bytes_answer(ledger.bundle(tile.index, tile.width), immutable=True)
            return bytes_answer(ledger.tile(tile.level, tile.index, tile.width), immutable=True)
        except ProofError as error:
            raise NotFoundError(str(error)) from None

    async def entry(self, request: web.Request) -> web.Response:
        """One raw entry."""
        seq = request.match_info["seq"]
        if not (seq.isascii() and seq.isdigit() and len(seq) <= 19 and str(int(seq)) == seq):
            raise NotFoundError("An entry is named by its number.", seen=seq[:64], wanted="0, 1, 2, …")
        try:
            return bytes_answer(self._service.ledger.entry(int(seq)).raw, immutable=True)
        except ProofError as error:
            raise NotFoundError(str(error)) from None

    async def blob(self, request: web.Request) -> web.Response:
        """A document that entries name."""
        digest = request.match_info["sha256"]
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise NotFoundError("A blob is named by its SHA-256.", seen=digest[:80], wanted="64 lower-case hex digits")
        data = self._service.ledger.blob(bytes.fromhex(digest))
        if data is None:
            raise NotFoundError("There is no such blob.", seen=digest)
        return bytes_answer(data, immutable=True)

    async def startup(self, _request: web.Request) -> web.Response:
        """Whether the ports listen."""
        return _probe(None if self.listening else "not listening yet")

    async def liveness(self, _request: web.Request) -> web.Response:
        """Whether writing is still possible at all."""
        stopped = self._service.stopped
        if self._service.replaced:
            return _probe("replaced: another Coordinator has closed this one's epoch")
        return _probe(None if stopped is None else f"{stopped.code}: {stopped}")

    async def readiness(self, _request: web.Request) -> web.Response:
        """Whether certificates can be issued."""
        stopped = self._service.stopped
        if not self.listening or stopped is not None:
            return _probe("not listening" if stopped is None else f"{stopped.code}: {stopped}")
        phase, fault = self._service.phase, self._service.kernel.clock_fault
        if fault is not None:
            return _probe(f"{fault.code}: {fault}")
        return _probe(None if phase == "active" else phase)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Prometheus' text format."""
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _pods_turn(self, peer: str) -> AbstractAsyncContextManager[None]:
        """At once, unless *peer* was refused too often: many pods may stand behind the address of one that was."""
        credit = self._refused.has(peer, now_ms=self._clock_ms())
        return contextlib.nullcontext() if credit else self._pods_lane.turn()

    def _owners_turn(self, peer: str) -> AbstractAsyncContextManager[None]:
        """Anybody may say that he is an owner, so every request counts, and no owner is ever refused for it."""
        now_ms = self._clock_ms()
        credit = self._owning.has(peer, now_ms=now_ms) and self._owning_all.has(_EVERYBODY, now_ms=now_ms)
        self._owning.spend(peer, now_ms=now_ms)
        self._owning_all.spend(_EVERYBODY, now_ms=now_ms)
        return contextlib.nullcontext() if credit else self._owners_lane.turn()


@dataclass(slots=True)
class Server:
    """The listening ports of one Coordinator."""

    service: Service
    settings: Settings
    metrics: Metrics
    tls: ssl.SSLContext = field(repr=False)
    ports: dict[Port, int] = field(default_factory=dict)
    _runners: list[web.AppRunner] = field(default_factory=list)
    _listeners: list[Listener] = field(default_factory=list)
    _handlers: Handlers | None = None
    _gate: Gate | None = None

    async def start(self) -> None:
        """Listen on all three ports; :attr:`ports` says which they are.

        Raises:
            OSError: A port is taken, or the address is not this machine's.
        """
        web_response.SERVER_SOFTWARE = "contrast"  # type: ignore[attr-defined]  # Else each answer tells versions.
        handlers = self._handlers = Handlers(self.service, self.metrics, self.settings)
        limits = self.settings.limits
        gate = self._gate = Gate(per_peer=limits.requests_per_peer, per_route=limits.requests_per_route, heavy=_heavy())
        probes = Gate(per_peer=limits.requests_per_peer, per_route=limits.requests_per_route)  # Asked to the end.
        self.metrics.in_work.set_function(lambda: float(gate.in_work))
        for port, number in (
            (Port.PROBE, self.settings.probe_port),
            (Port.USER, self.settings.user_port),
            (Port.MESH, self.settings.mesh_port),
        ):
            app = make_app(
                handlers,
                port,
                probes if port is Port.PROBE else gate,
                self.metrics,
                answer_timeout_s=limits.answer_timeout_s,
                access_log=self.settings.access_log,
            )
            runner = web.AppRunner(
                app,
                access_log=None,
                keepalive_timeout=_KEEPALIVE_S,
                max_line_size=_HEADER_BYTES,
                max_field_size=_HEADER_BYTES,
                shutdown_timeout=self.settings.stop_timeout_s,
                handle_signals=False,
                auto_decompress=False,
            )
            self._runners.append(runner)
            await runner.setup()
            self.ports[port] = self._listen(runner, port, number).port
        handlers.listening = True
        log.info(
            "listening",
            bind=self.settings.bind,
            user_port=self.ports[Port.USER],
            mesh_port=self.ports[Port.MESH],
            probe_port=self.ports[Port.PROBE],
            state=self.service.phase,
            ledger=str(self.settings.ledger),
        )

    async def stop(self) -> None:
        """Take no new requests, let those in work finish, close. A request that comes meanwhile is told so."""
        if self._handlers is not None:
            self._handlers.listening = False
        if self._gate is not None:
            self._gate.close()
        for listener in self._listeners:
            await listener.stop()
        if self._gate is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.stop_timeout_s):
                    await self._gate.idle.wait()
        await asyncio.gather(*(runner.cleanup() for runner in reversed(self._runners)))
        self._listeners.clear()
        self._runners.clear()

    def _listen(self, runner: web.AppRunner, port: Port, number: int) -> Listener:
        """Accept connections on *number*, as many at a time as the limits allow."""
        if runner.server is None:
            raise RuntimeError("the runner is not set up")
        limits = self.settings.limits
        tls, most = (None, _PROBES) if port is Port.PROBE else (self.tls, limits.connections)
        listener = Listener(
            runner.server, self.settings.bind, number, tls, most=most, per_peer=limits.connections_per_peer
        )
        self._listeners.append(listener)
        listener.start()
        return listener


def make_app(
    handlers: Handlers, port: Port, gate: Gate, metrics: Metrics, *, access_log: bool, answer_timeout_s: float = 60.0
) -> web.Application:
    """The routes of one port behind the common manners."""
    app = web.Application(middlewares=[guard(gate, metrics, answer_timeout_s=answer_timeout_s, access_log=access_log)])
    for route, handler in handlers.table().items():
        if port in route.ports:
            app.router.add_route(route.method, _path(route), handler)
    return app


def _peer(request: web.Request) -> str:
    return peer_of(request.remote or "")


def _heavy() -> dict[str, int]:
    """How many requests of each route fit into the memory that bodies, and answers that nobody reads, may take."""
    places = {route: _BODY_MEMORY // route.max_request for route in routes.ROUTES if route.max_request}
    places[routes.ENTRY_BUNDLE] = _ANSWER_MEMORY // routes.ENTRY_BUNDLE.max_answer
    places[routes.BLOB] = _ANSWER_MEMORY // MAX_POLICY  # Those of strangers are no longer.
    return {f"{route.method} {route.path}": max(1, most) for route, most in places.items()}


def _path(route: Route) -> str:
    """The path in aiohttp's notation: a tile's number holds slashes."""
    return route.path.replace("{N}", "{N:.+}")


def _probe(fault: str | None) -> web.Response:
    return web.Response(text="ok\n" if fault is None else f"{fault}\n", status=200 if fault is None else 503)
