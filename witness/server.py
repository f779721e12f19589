"""A small witness as an HTTP server: reads requests, asks ledger.witness, stores, answers. It decides nothing.

``POST /add-checkpoint`` and ``GET /<hex SHA-256 of the origin>/checkpoint``, both below one prefix, the server's root.
Plain HTTP: everything that it says is signed, and everything that it is told is too. Put it behind a TLS proxy where
others should not see which sizes a log has.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from aiohttp import web

from ledger.errors import LedgerError
from ledger.note import VerifierKey
from ledger.witness import (
    MAX_REQUEST_BYTES,
    TEXT,
    Cosigner,
    Known,
    Request,
    WitnessError,
    cosign,
    judge_history,
    judge_signature,
    monitor_path,
    parse_request,
)
from ledger.witness_store import WitnessStore

_BODY_TIMEOUT_S: Final = 10.0
_MOST_IN_WORK: Final = 64
log = structlog.get_logger("witness")


class WitnessService:
    """One witness: its logs, its keys, its memory.

    Args:
        store: What it remembers.
        cosigners: Its keys; every answer holds a line of each.
        logs: Origin -> the log's keys.
        clock_s: Unix time in seconds.
    """

    def __init__(
        self,
        store: WitnessStore,
        cosigners: Sequence[Cosigner],
        logs: Mapping[str, Sequence[VerifierKey]],
        clock_s: Callable[[], int],
    ) -> None:
        self._store = store
        self._cosigners = tuple(cosigners)
        self._logs = logs
        self._clock_s = clock_s

    def add_checkpoint(self, raw: bytes) -> str:
        """The cosignature lines for a request. Blocks on the disk.

        Raises:
            WitnessError: it is not cosigned.
            LedgerError: the state is damaged or cannot be written; nothing was cosigned.
        """
        request = parse_request(raw)
        signed_by = judge_signature(request, self._logs)
        return self._store.update(request.checkpoint.origin, lambda known: self._decide(request, signed_by, known))

    def newest(self, digest: str) -> bytes | None:
        """The checkpoint cosigned last for the log whose origin has this SHA-256 in hex."""
        for origin in self._logs:
            if _digest(origin) == digest:
                known = self._store.known(origin)
                return None if known is None else known.note
        return None

    def _decide(self, request: Request, signed_by: Sequence[VerifierKey], known: Known | None) -> tuple[str, Known]:
        judge_history(request, known)
        return cosign(request, signed_by, known, self._cosigners, now_s=self._clock_s())


def make_app(service: WitnessService) -> web.Application:
    """The routes. Requests that change something wait for each other in one thread."""
    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    threads = ThreadPoolExecutor(1, "witness")
    room = asyncio.Semaphore(_MOST_IN_WORK)

    async def add_checkpoint(request: web.Request) -> web.Response:
        if room.locked():
            return _answer(429, "busy\n")
        async with room:
            raw = await _body(request)
            if raw is None:
                return _answer(400, "malformed request: too long, or too slow\n")
            try:
                lines = await asyncio.get_running_loop().run_in_executor(threads, service.add_checkpoint, raw)
            except WitnessError as refusal:
                log.info("refused", status=refusal.status, why=str(refusal)[:200])
                return _answer(refusal.status, refusal.body, refusal.content_type)
            except LedgerError as error:
                log.error("failed", code=error.code, why=str(error))  # noqa: TRY400 - said for people, no trace wanted.
                return _answer(500, "the witness cannot answer now\n")
        return _answer(200, lines)

    async def newest(request: web.Request) -> web.Response:
        try:
            note = service.newest(request.match_info["digest"])
        except LedgerError as error:
            log.error("failed", code=error.code, why=str(error))  # noqa: TRY400 - as above.
            return _answer(500, "the witness cannot answer now\n")
        return _answer(404, "unknown log\n") if note is None else _answer(200, note.decode())

    async def let_go(_: web.Application) -> None:
        threads.shutdown()

    app.router.add_post("/add-checkpoint", add_checkpoint)
    app.router.add_get("/{digest:[0-9a-f]{64}}/checkpoint", newest)
    app.on_cleanup.append(let_go)
    return app


async def _body(request: web.Request) -> bytes | None:
    raw = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                raw += chunk
                if len(raw) > MAX_REQUEST_BYTES:
                    return None
    except TimeoutError:
        return None
    return bytes(raw)


def _answer(status: int, body: str, content_type: str = TEXT) -> web.Response:
    # The header is set as it stands: text/x.tlog.size has no charset.
    return web.Response(status=status, body=body.encode(), headers={"Content-Type": content_type})


def _digest(origin: str) -> str:
    return monitor_path(origin).partition("/")[0]
