"""What the four services share: TLS from the issued files, bounded HTTP, JSON logs, a clean stop; no business."""

import http.client
import json
import os
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

BODY_LIMIT = 4096  # bytes; no request of this example needs a body at all
ANSWER_LIMIT = 256 * 1024  # bytes read from a peer
PEER_TIMEOUT = 10.0  # seconds a connection may stay silent
MAX_CONNECTIONS = 64  # at a time; more wait in the kernel's queue
CHOICE = re.compile(r":[a-z0-9_+-]{1,40}:")


class Refusal(Exception):  # noqa: N818  it is an answer, not a fault
    """An answer other than 200: status and a stable code, in JSON."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class PeerError(Exception):
    """A service of the mesh did not answer, or is not who it should be."""


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed request; `client` holds the DNS names of the client's certificate, if it showed one."""

    method: str
    path: str
    query: Mapping[str, str]
    client: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: bytes and their type."""

    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    status: HTTPStatus = HTTPStatus.OK

    @classmethod
    def json(cls, value: Any, status: HTTPStatus = HTTPStatus.OK) -> "Answer":
        return cls(json.dumps(value, ensure_ascii=False).encode(), status=status)


_log_lock = threading.Lock()


def log(event: str, **fields: object) -> None:
    """One line of JSON for one event, on stdout."""
    line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False)
    with _log_lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def tls_directory() -> Path:
    """Where the Initializer left key and certificates."""
    return Path(os.environ.get("CONTRAST_TLS_DIR", "/contrast/tls-config"))


def server_context(*, mutual: bool) -> ssl.SSLContext:
    """TLS 1.3 with the issued certificate; *mutual* refuses clients that the mesh CA did not certify."""
    directory = tls_directory()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(directory / "certChain.pem", directory / "key.pem")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(directory / "mesh-root.pem")
    return context


def client_context() -> ssl.SSLContext:
    """TLS 1.3 that trusts this manifest's mesh CA alone, checks the server's name, and shows our certificate."""
    directory = tls_directory()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(directory / "mesh-root.pem")
    context.load_cert_chain(directory / "certChain.pem", directory / "key.pem")
    return context


def call(address: str, method: str, path: str, *, context: ssl.SSLContext) -> Any:
    """Ask the service at *address* (`name:port`); its certificate must hold that name. Raises PeerError."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=PEER_TIMEOUT, context=context)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        raw = response.read(ANSWER_LIMIT + 1)
        if len(raw) > ANSWER_LIMIT:
            raise PeerError(f"{address} sent more than {ANSWER_LIMIT} bytes for {path}")
        value = json.loads(raw)
        if response.status != HTTPStatus.OK:
            raise PeerError(f"{address} answered {response.status} to {method} {path}: {value}")
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise PeerError(f"{address} could not be asked for {path}: {type(error).__name__}: {error}") from error
    else:
        return value
    finally:
        connection.close()


def choice_of(request: Request) -> str:
    """The emoji that a request names, checked for its shape."""
    choice = request.query.get("choice", "")
    if not CHOICE.fullmatch(choice):
        raise Refusal(HTTPStatus.BAD_REQUEST, "bad_choice", "choice must look like :doughnut:")
    return choice


def allow_only(request: Request, names: frozenset[str]) -> None:
    """Being in the mesh is not enough: the client's certificate must hold one of *names*."""
    if names.isdisjoint(request.client):
        raise Refusal(HTTPStatus.FORBIDDEN, "wrong_client", f"this service answers {sorted(names)} only")


def allowed_clients() -> frozenset[str]:
    """ALLOWED_CLIENTS, names separated by commas."""
    return frozenset(name for name in os.environ["ALLOWED_CLIENTS"].split(",") if name)


def serve(answer: Callable[[Request], Answer], *, service: str, mutual: bool) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way and return.

    Binds POD_IP (all addresses when unset) and LISTEN_PORT (default 8443, 0 for any free one).
    """
    address = (os.environ.get("POD_IP", ""), int(os.environ.get("LISTEN_PORT", "8443")))
    server = _Server(address, _handler(answer), server_context(mutual=mutual))
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop that this thread is running, so another thread has to call it.
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    log(
        "listening", service=service, address=server.server_address[0], port=server.server_address[1], mutual_tls=mutual
    )
    server.serve_forever(poll_interval=0.1)
    server.server_close()  # joins the threads that still answer
    log("stopped", service=service)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # a request under way is finished before the program ends
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext
    ) -> None:
        self._context = context
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  the base class names them
        log("failed", peer=client_address[0], error=repr(sys.exception()))

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake belongs in the connection's own thread: a silent client must not stop the others.
        plain: socket = request
        plain.settimeout(PEER_TIMEOUT)
        try:
            with self._context.wrap_socket(plain, server_side=True) as secured:
                self.RequestHandlerClass(secured, client_address, self)
        except ssl.SSLEOFError:
            return  # somebody knocked and went away, as the kubelet's probe does
        except (ssl.SSLError, OSError) as error:
            log("tls_refused", peer=client_address[0], reason=getattr(error, "reason", None) or type(error).__name__)


def _handler(answer: Callable[[Request], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "emojivoto", ""
        timeout = PEER_TIMEOUT

        def _respond(self) -> None:
            path, client = self.path.partition("?")[0], _names(self.connection)
            try:
                _bounded(self.headers.get("content-length"))
                query = parse_qs(urlsplit(self.path).query, max_num_fields=8)
                result = answer(Request(self.command, path, {name: texts[0] for name, texts in query.items()}, client))
            except Refusal as refusal:
                result = Answer.json({"code": refusal.code, "detail": refusal.detail}, refusal.status)
            except PeerError as error:
                log("peer_failed", path=path, detail=str(error))
                result = Answer.json(
                    {"code": "peer_failed", "detail": "another service is away"}, HTTPStatus.BAD_GATEWAY
                )
            except ValueError:
                result = Answer.json({"code": "bad_request", "detail": "not understood"}, HTTPStatus.BAD_REQUEST)
            self.send_response(result.status)
            self.send_header("content-type", result.content_type)
            self.send_header("content-length", str(len(result.body)))
            for name, value in result.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(result.body)
            log("request", method=self.command, path=path, status=int(result.status), client=client)

        do_GET = do_POST = _respond  # noqa: N815  http.server looks for these names

        def log_message(self, *_: object) -> None:
            """Replaced by our own line of JSON."""

    return Handler


def _bounded(content_length: str | None) -> None:
    if int(content_length or 0) > BODY_LIMIT:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"at most {BODY_LIMIT} bytes are read")


def _names(connection: Any) -> tuple[str, ...]:
    certificate = connection.getpeercert() or {}
    return tuple(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")
