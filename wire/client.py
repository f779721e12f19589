"""The one HTTP client: pinned connections, bounded answers, typed errors. It judges no evidence.

TLS proves nothing here but that the peer holds the key of one certificate; which certificate that must be, evidence
says. A client therefore records the certificate of its first connection and never speaks to another; `fetch_statement`
demands that the statement names it, the caller judges the evidence and calls `pin`, and only then do the other methods
work.
"""

import asyncio
import hashlib
import json
import os
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from msgspec import Struct

from attestation.evidence import Evidence
from wire import routes
from wire.address import with_port
from wire.evidence import from_message
from wire.json import MessageError, decode, encode
from wire.messages import (
    AttestRequest,
    AttestResponse,
    Capabilities,
    CertificateRequest,
    CertificateResponse,
    ChallengeResponse,
    ManifestsResponse,
    RecoveryRequest,
    RecoveryResponse,
    SetManifestRequest,
    SetManifestResponse,
)
from wire.problem import (
    CONTENT_TYPE,
    MAX_PROBLEM,
    RemoteError,
    RemoteRefusedError,
    UnreachableError,
    UntrustworthyAnswerError,
    WrongPortError,
    parse_problem,
)
from wire.retry import Retry
from wire.routes import Port, Route
from wire.session import open_session, read_body
from wire.statement import Statement, parse_statement

_M = TypeVar("_M", bound=Struct)
_NUMBER = re.compile(r"[0-9]{1,18}")
_PORTS = (
    f"Operators and data owners speak to the user port, {Port.USER:d} where nobody changed it, and pods to the mesh "
    f"port, {Port.MESH:d}; {Port.PROBE:d} holds probes, in plain HTTP"
)
_TILE_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/(?:x[0-9]{3}/){0,5}[0-9]{3}(?:\.p/[0-9]{1,3})?")


class NotPinnedError(RemoteError):
    """Something was asked of a Coordinator before its evidence was judged: a fault of the calling program."""

    code = "not_pinned"


class CertificateChangedError(UntrustworthyAnswerError):
    """Another certificate answers than the attested one: another replica, a restart, or somebody in between."""

    code = "certificate_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait for a connection, and for a whole exchange."""

    connect_s: float = 10.0
    exchange_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """A statement and the evidence that came with it, not judged; the connection's certificate is the one it names."""

    statement_raw: bytes
    statement: Statement
    evidence: Evidence
    tls_sha256: bytes


class CoordinatorClient:
    """Speaks to one port of one Coordinator; an async context manager.

    Args:
        address: `host` or `host:port`, an IPv6 address in brackets.
        port: the port where *address* names none.
        retry: what to try again; by default nothing is.
        timeouts: how long to wait.

    Raises:
        AddressError: *address* is not one.
    """

    def __init__(
        self, address: str, *, port: int = Port.USER, retry: Retry | None = None, timeouts: Timeouts | None = None
    ) -> None:
        self.address = with_port(address, port)
        self._base = f"https://{self.address}"
        self._retry = retry
        self._certificate = _PeerCertificate()
        self._usable = False
        self._timeouts = timeouts or Timeouts()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        wait = self._timeouts
        connector = aiohttp.TCPConnector(ssl=self._certificate, limit=32)
        self._session = open_session(connector=connector, exchange_s=wait.exchange_s, connect_s=wait.connect_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def tls_sha256(self) -> bytes | None:
        """SHA-256 of the certificate that this client speaks to, None before the first connection."""
        return self._certificate.wanted

    def pin(self, tls_sha256: bytes) -> None:
        """Speak to the holder of this attested certificate alone, and allow the other methods.

        Raises:
            CertificateChangedError: this client has met another certificate.
        """
        if self._certificate.wanted not in (None, tls_sha256):
            raise CertificateChangedError(
                f"{self.address} holds another certificate than the attested one: attest again with a new client"
            )
        self._certificate.wanted = tls_sha256
        self._usable = True

    def accept_unattested_UNSAFE(self) -> None:  # noqa: N802 -- The dangerous thing looks dangerous.
        """Speak to whatever certificate answers first, and to no other, without any evidence.

        For the Initializer, which has nothing to judge a Coordinator by, and whose peers judge what it was given; and
        for reading a ledger, which is judged by its own signatures and evidence.
        """
        self._usable = True

    async def fetch_statement(self, nonce: bytes) -> Attested:
        """Ask for the statement with *nonce* (32 random bytes); the caller judges the evidence.

        Raises:
            UntrustworthyAnswerError: the statement is malformed, or names another certificate than the connection's.
            RemoteError: no answer, or a refusal.
        """
        answer = await self._message(routes.ATTEST, AttestResponse, body=AttestRequest(nonce=nonce), usable=True)
        seen = self._certificate.wanted or b""
        try:
            statement = parse_statement(answer.statement)
            evidence = from_message(answer.evidence)
        except MessageError as error:
            raise UntrustworthyAnswerError(f"{self.address} sent a statement that cannot be read: {error}") from None
        if bytes.fromhex(statement.tls_cert_sha256) != seen:
            raise UntrustworthyAnswerError(
                f"someone stands between you and the Coordinator at {self.address}: its statement names the "
                f"certificate {statement.tls_cert_sha256}, the connection has {seen.hex()}. Connect to it directly, or "
                "through a proxy that passes TLS on"
            )
        return Attested(statement_raw=answer.statement, statement=statement, evidence=evidence, tls_sha256=seen)

    async def capabilities(self) -> Capabilities:
        """Which versions of the API the other side speaks; works before attestation, so it is a hint."""
        return await self._message(routes.CAPABILITIES, Capabilities, usable=True)

    async def set_manifest(self, request: SetManifestRequest) -> SetManifestResponse:
        """Set a manifest. Repeating it is safe: the recorded answer comes again."""
        return await self._message(routes.SET_MANIFEST, SetManifestResponse, body=request)

    async def manifests(self) -> ManifestsResponse:
        """The history of manifests."""
        return await self._message(routes.MANIFESTS, ManifestsResponse)

    async def recover(self, request: RecoveryRequest) -> RecoveryResponse:
        """Give the seed back."""
        return await self._message(routes.RECOVER, RecoveryResponse, body=request)

    async def challenge(self) -> ChallengeResponse:
        """A nonce for a workload's evidence."""
        return await self._message(routes.CHALLENGE, ChallengeResponse)

    async def certificate(self, request: CertificateRequest) -> CertificateResponse:
        """A certificate for an attested key. Repeating it is safe: the same certificate comes again."""
        return await self._message(routes.CERTIFICATE, CertificateResponse, body=request)

    async def checkpoint(self) -> bytes:
        """The newest finished checkpoint, as it was signed."""
        return await self._bytes(routes.CHECKPOINT, "")

    async def entry(self, seq: int) -> bytes:
        """The raw entry *seq*."""
        return await self._bytes(routes.ENTRY, f"/{seq}")

    async def blob(self, sha256: bytes) -> bytes:
        """The blob of this hash; it is hashed again here.

        Raises:
            UntrustworthyAnswerError: other bytes came.
        """
        raw = await self._bytes(routes.BLOB, f"/{sha256.hex()}")
        if hashlib.sha256(raw).digest() != sha256:
            raise UntrustworthyAnswerError(f"{self.address} sent other bytes for the blob {sha256.hex()}")
        return raw

    async def ledger_file(self, path: str) -> bytes:
        """A file of the ledger by its path in the tlog-tiles layout: `checkpoint`, `tile/…`, `entry/…`, `blob/…`.

        Raises:
            ValueError: there is no such path in that layout.
        """
        kind, _, rest = path.partition("/")
        if path == "checkpoint":
            return await self.checkpoint()
        if kind == "entry" and _NUMBER.fullmatch(rest):
            return await self.entry(int(rest))
        if kind == "blob" and len(rest) == 64:
            return await self.blob(bytes.fromhex(rest))
        if not _TILE_PATH.fullmatch(path):
            raise ValueError(f"{path!r} is no path of a ledger")
        route = routes.ENTRY_BUNDLE if path.startswith("tile/entries/") else routes.TILE
        return await self._exchange_again(route, f"/v1/ledger/{path}", None)

    async def openapi(self) -> object:
        """The API's description, as parsed JSON."""
        return json.loads(await self._bytes(routes.OPENAPI, ""))

    async def _message(self, route: Route, kind: type[_M], *, body: Struct | None = None, usable: bool = False) -> _M:
        self._check_usable(usable)
        raw = await self._exchange_again(route, route.path, None if body is None else encode(body))
        try:
            return decode(raw, kind, limit=route.max_answer)
        except MessageError as error:
            raise UntrustworthyAnswerError(
                f"{self.address} answered {route.path} with something else than {kind.__name__} ({error}): "
                "is it a Coordinator, and of this version?"
            ) from None

    async def _bytes(self, route: Route, suffix: str) -> bytes:
        return await self._exchange_again(route, route.path.partition("/{")[0] + suffix, None)

    def _check_usable(self, usable: bool) -> None:
        if not (usable or self._usable):
            raise NotPinnedError(
                "attest the Coordinator, judge its evidence and pin its certificate before anything else"
            )

    async def _exchange_again(self, route: Route, path: str, body: bytes | None) -> bytes:
        self._check_usable(route in (routes.ATTEST, routes.CAPABILITIES))

        async def exchange() -> bytes:
            return await self._exchange(route, path, body)

        return await exchange() if self._retry is None else await self._retry.run(exchange)

    async def _exchange(self, route: Route, path: str, body: bytes | None) -> bytes:
        """One request and its answer."""
        if self._session is None:
            raise NotPinnedError("the client is used outside its `async with` block")
        headers = {} if body is None else {"Content-Type": routes.JSON}
        try:
            async with self._session.request(
                route.method, self._base + path, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status == 200:
                    return await self._read(response, route.max_answer)
                raise await self._refusal(response, route)
        except aiohttp.ClientConnectorSSLError:
            raise WrongPortError(
                f"{self.address} is no port of a Coordinator's API: something answers there, and not in TLS. {_PORTS}"
            ) from None
        except aiohttp.ServerFingerprintMismatch as error:
            if not error.got:
                raise WrongPortError(
                    f"{self.address} speaks an older TLS than 1.3: it is no Coordinator, or somebody in between ends "
                    "TLS. Connect to it directly, or through a proxy that passes TLS on"
                ) from None
            raise CertificateChangedError(
                f"{self.address} now answers with another certificate than the attested one (another replica, a "
                "restart, or somebody in between): attest it again"
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(
                f"{self.address} does not answer ({_reason(error)}): is the address right, does the Coordinator run, "
                "is the port reachable from here?"
            ) from None

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The body, of which at most *limit* bytes are taken from the network."""
        raw = await read_body(response, limit)
        if raw is None:
            raise UntrustworthyAnswerError(
                f"{self.address} sent more than {limit} bytes for {response.url.path}, which no Coordinator does"
            )
        return raw

    async def _refusal(self, response: aiohttp.ClientResponse, route: Route) -> RemoteError:
        if response.content_type != CONTENT_TYPE:
            response.close()
            text = f"{self.address} answered {response.status} without a problem document"
            if response.status >= 500:
                return UnreachableError(f"{text}: a proxy stands before the Coordinator, which does not answer")
            return WrongPortError(f"{text}: this is no Coordinator, or not this port of it. {_PORTS}")
        try:
            problem = parse_problem(await self._read(response, MAX_PROBLEM))
        except MessageError as error:
            return UntrustworthyAnswerError(f"{self.address} refused, and its reason cannot be read: {error}")
        if problem.code == "not_found" and not isinstance(route.answer, str):  # Only files may be absent.
            return WrongPortError(f"{self.address} has no {route.path}: another port of a Coordinator has it. {_PORTS}")
        asked = response.headers.get("Retry-After", "")
        retry_after_s = int(asked) if _NUMBER.fullmatch(asked) else None
        return RemoteRefusedError(problem, address=self.address, retry_after_s=retry_after_s)


class _PeerCertificate(aiohttp.Fingerprint):
    """The certificate a client speaks to: the first that it meets, unless told one; checked on each connection."""

    def __init__(self) -> None:
        super().__init__(bytes(32))
        self.wanted: bytes | None = None

    def check(self, transport: asyncio.Transport) -> None:
        """Refuse a connection with another certificate. Called before the first byte of a request is sent."""
        connection = transport.get_extra_info("ssl_object")
        if connection is None or connection.version() != "TLSv1.3":  # What every Coordinator speaks, and nothing older.
            raise aiohttp.ServerFingerprintMismatch(self.wanted or b"", b"", *_peer(transport))
        der = connection.getpeercert(binary_form=True)
        seen = hashlib.sha256(der or b"").digest()
        if self.wanted is None and der:
            self.wanted = seen
        if not der or seen != self.wanted:
            raise aiohttp.ServerFingerprintMismatch(self.wanted or b"", seen, *_peer(transport))


def _peer(transport: asyncio.Transport) -> tuple[str, int]:
    host, port, *_ = transport.get_extra_info("peername") or ("", 0)
    return host, port


def _reason(error: BaseException) -> str:
    """What went wrong on the network, without the traceback's detail."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name is unknown"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # What asyncio says instead repeats the address.
    return str(error) or type(error).__name__
