"""HTTP manners, the same on every port: bounded bodies, strict messages, problem documents. No route's meaning."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from attestation.errors import IssueError
from coordinator.admission import Gate
from coordinator.errors import (
    BusyError,
    CoordinatorError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
    ShuttingDownError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from coordinator.metrics import Metrics
from coordinator.peers import peer_of
from ledger.errors import LedgerError
from manifest.authorise import AuthorisationError
from wire.json import MessageError, decode
from wire.problem import CONTENT_TYPE, Problem, make_problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_T = TypeVar("_T", bound=msgspec.Struct)
_JSON = "application/json"
_LARGE = 128 * 1024
_PIECE = 64 * 1024
_GATE = web.RequestKey("gate", Gate)  # That the request came through, under the name of its route.
_ROUTE = web.RequestKey("route", str)
_encode = msgspec.json.Encoder().encode
log = structlog.get_logger("coordinator.web")

# What the ledger's errors mean to a client: the request may be right and the store is not.
_LEDGER_STATUS = {
    "ledger_full": HTTPStatus.INSUFFICIENT_STORAGE,
    "store_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "head_moved": HTTPStatus.SERVICE_UNAVAILABLE,
    "shutting_down": HTTPStatus.SERVICE_UNAVAILABLE,
}


def json_answer(message: msgspec.Struct) -> web.Response:
    """*message* as the JSON body of a 200."""
    return web.Response(body=_encode(message), content_type=_JSON)


def bytes_answer(
    body: bytes, content_type: str = "application/octet-stream", *, immutable: bool = False
) -> web.Response:
    """*body* as it is; immutable content may be kept by any cache for ever."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if immutable else "no-store"}
    return web.Response(body=body, content_type=content_type, headers=headers)


async def read_message(request: web.Request, kind: type[_T], *, limit: int, timeout_s: float) -> _T:
    """The one message of type *kind* that *request* carries.

    Raises:
        CoordinatorError: The body is too large, too slow, not JSON, or not exactly one such message.
    """
    if request.content_type != _JSON:
        raise UnsupportedMediaTypeError(seen=request.content_type[:100], wanted=_JSON)
    if "Content-Encoding" in request.headers:
        raise UnsupportedMediaTypeError("The body is compressed.", wanted="a plain body")
    raw = await _read_body(request, limit, timeout_s)
    if len(raw) > _LARGE:  # Reading a hostile megabyte strictly takes long enough for others to notice.
        return await asyncio.to_thread(parse_message, raw, kind, limit=limit)
    return parse_message(raw, kind, limit=limit)


def parse_message(raw: bytes, kind: type[_T], *, limit: int) -> _T:
    """The message in *raw*, exactly as :func:`wire.json.decode` reads it, at a fraction of its cost for honest bytes.

    Raises:
        MessageError: What is wrong, and where.
    """
    # What our own programs send is exactly what the encoder writes. One comparison then proves at little cost what the
    # strict reader would find out slowly: no key twice, no unknown field, canonical base64, no other way to write it.
    try:
        message = msgspec.json.decode(raw, type=kind)
        if _encode(message) == raw:
            return message
    except (ValueError, RecursionError):
        pass  # The strict reader below says what is wrong, and where.
    return decode(raw, kind, limit=limit)


async def _read_body(request: web.Request, limit: int, timeout_s: float) -> bytes:
    declared = request.content_length
    if declared is not None and declared > limit:
        raise TooLargeError(seen=f"{declared} bytes", wanted=f"at most {limit} bytes")
    content = request.content
    chunks: list[bytes] = []
    end = asyncio.timeout(timeout_s)
    with request[_GATE].reading(request[_ROUTE], peer_of(request.remote or ""), end) as reading:
        try:
            async with end:
                while chunk := await content.readany():
                    chunks.append(chunk)
                    reading.received += len(chunk)
                    if reading.received > limit:
                        raise TooLargeError(seen=f"more than {limit} bytes", wanted=f"at most {limit} bytes")
        except TimeoutError:
            if reading.gave_way:
                raise BusyError("The body came so slowly that its place was given to another request.") from None
            raise MalformedRequestError(
                "The body did not arrive in time.", wanted=f"within {timeout_s:.0f} s"
            ) from None
        except web.RequestPayloadError as error:
            raise MalformedRequestError(f"The body ended early: {error}") from None
    return b"".join(chunks)


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The problem document for *error*, and headers that go with it. An unexpected error says nothing of itself."""
    headers: dict[str, str] = {}
    match error:
        case CoordinatorError():
            if error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
                headers["Retry-After"] = str(error.retry_after_s)
            problem = make_problem(
                error.code,
                error.status,
                error.detail,
                title=error.title,
                seen=error.seen,
                wanted=error.wanted,
                action=error.action,
            )
        case MessageError():
            problem = make_problem(
                error.code,
                error.status,
                str(error),
                title="The request could not be read",
                action=MalformedRequestError.action,
            )
        case AuthorisationError():
            problem = make_problem(
                error.code,
                error.status,
                str(error),
                title="The manifest was not authorised",
                action="`contrast verify` shows the manifest in force, which decides who may set the next one.",
            )
        case IssueError():
            problem = make_problem(
                error.code,
                HTTPStatus.SERVICE_UNAVAILABLE,
                str(error),
                title="The secure processor gave no evidence",
                action="Try again; if it stays so, look at the Coordinator's log.",
            )
            headers["Retry-After"] = "1"
        case LedgerError():
            status = _LEDGER_STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
            problem = make_problem(error.code, status, str(error), title="The ledger could not take it")
        case web.HTTPMethodNotAllowed():
            headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return problem_of(MethodNotAllowedError(seen=error.method, wanted=headers["Allow"]))[0], headers
        case web.HTTPRequestEntityTooLarge():
            return problem_of(TooLargeError())
        case web.HTTPNotFound():
            return problem_of(NotFoundError())
        case web.HTTPException():
            return problem_of(MalformedRequestError(error.reason or ""))
        case _:
            problem = problem_of(CoordinatorError())[0]
    return problem, headers


async def demand_no_body(request: web.Request, *, timeout_s: float) -> None:
    """Refuse a request that has a body where none is read, without waiting for one that is only announced.

    Raises:
        MalformedRequestError: There is a body, or none that ends in time.
    """
    if not request.body_exists:
        return
    try:
        async with asyncio.timeout(timeout_s):
            if not request.content_length and not await request.content.read(1):
                return
    except TimeoutError:
        pass
    raise MalformedRequestError("This request has no body.", wanted="an empty body")


async def _hand_over(request: web.Request, response: web.StreamResponse, timeout_s: float) -> web.StreamResponse:
    """Write a large answer in pieces while its place is held: aiohttp would put all of it into memory at once.

    Who asks for many such answers and reads none would fill the memory otherwise.
    """
    body = response.body if isinstance(response, web.Response) else None
    if not isinstance(body, bytes) or len(body) <= _LARGE:
        return response
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    try:
        async with asyncio.timeout(timeout_s):
            await stream.prepare(request)
            for start in range(0, len(body), _PIECE):
                await stream.write(body[start : start + _PIECE])  # Waits while the client does not read.
            await stream.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return stream


def guard(gate: Gate, metrics: Metrics, *, answer_timeout_s: float, access_log: bool) -> Middleware:
    """One middleware for everything around a handler: places, problem documents, counting."""
    measured: dict[str, tuple[Callable[[float], None], dict[int, Callable[[], None]]]] = {}

    def count(route: str, status: int, seconds: float) -> None:
        if route not in measured:
            measured[route] = (metrics.seconds.labels(route).observe, {})
        observe, by_status = measured[route]
        if status not in by_status:
            by_status[status] = metrics.requests.labels(route, str(status)).inc
        observe(seconds)
        by_status[status]()
        if access_log:
            log.info("request", route=route, status=status, ms=round(seconds * 1000, 2))

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        try:
            request[_GATE], request[_ROUTE] = gate, f"{request.method} {route}"
            with gate.hold(request[_ROUTE], peer_of(request.remote or "")):
                response = await handler(request)
                response = await _hand_over(request, response, answer_timeout_s)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # The edge: whatever it is, the client gets a problem document, and the process goes on.
            problem, headers = problem_of(error)
            metrics.refusals.labels(problem.code).inc()
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, CoordinatorError):
                log.exception("failed", route=route, code=problem.code)
            else:
                log.debug("refused", route=route, code=problem.code)
            response = web.Response(
                body=problem.bytes(), status=problem.status, content_type=CONTENT_TYPE, headers=headers
            )
            if isinstance(error, ShuttingDownError):
                response.force_close()  # The next request goes to another Coordinator, or to the next start.
        count(route, response.status, time.perf_counter() - began)
        return response

    return middleware
