"""The HTTP client for registries: TLS, proxies, redirects, bounded answers; knows nothing of images and of passwords.

Plain HTTP is spoken only with hosts that were named for it. A redirect to another host carries no credentials there.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from images.errors import ImageTooLargeError, RegistryError, RegistryUnreachableError

TRY_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
MAX_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Ask *host* (below *prefix*, if any) before *registry* itself."""

    registry: str
    host: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How registries are reached.

    Attributes:
        mirrors: asked first, in this order.
        ca_file: PEM certificates that are trusted beside the system's.
        insecure: hosts (with port) that are spoken to without TLS.
        tries: how often one request is made before it is given up.
        pause_s: the first pause between two tries; it doubles.
        connect_s: how long a connection may take.
        idle_s: how long an answer may pause.
    """

    mirrors: tuple[Mirror, ...] = ()
    ca_file: Path | None = None
    insecure: frozenset[str] = frozenset()
    tries: int = 4
    pause_s: float = 0.5
    connect_s: float = 10.0
    idle_s: float = 30.0


class TransientError(Exception):
    """Worth another try: why, and after how many seconds the other side wants it."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Transport:
    """Sends requests; an async context manager."""

    def __init__(self, settings: RegistrySettings, environ: Mapping[str, str]) -> None:
        """*environ* is where proxies are named.

        Raises:
            RegistryError: the file of CA certificates cannot be used.
        """
        self._settings = settings
        self._proxies = _proxies(environ)
        self._tls = _tls(settings.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Make the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=16, limit_per_host=8),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # Digests are over the bytes as stored.
            headers={"User-Agent": "contrast", "Accept-Encoding": "identity"},
            trust_env=False,  # It would read ~/.netrc as well; proxies are looked up here.
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def address(self, host: str) -> URL:
        """The base address of *host*: TLS unless it was named as insecure."""
        return URL(f"{'http' if host in self._settings.insecure else 'https'}://{host}")

    def allowed(self, url: URL) -> bool:
        """Whether this address may be spoken to."""
        if url.scheme == "https":
            return True
        host = f"[{url.host}]" if ":" in (url.host or "") else url.host
        return url.scheme == "http" and bool({f"{host}:{url.port}", host} & self._settings.insecure)

    @asynccontextmanager
    async def follow(
        self, url: URL, headers: Mapping[str, str], seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a GET and follow redirects, without credentials where they lead elsewhere."""
        here, sent = url, dict(headers)
        for _ in range(_MAX_REDIRECTS + 1):
            async with self.request("GET", here, sent, seconds=seconds) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                target = _target(here, response.headers.get("Location", ""))
            if target is None or not self.allowed(target):
                raise RegistryError(
                    f"{url.host} redirects from {here.host} to {shown(str(target and target.with_query(None)))}; "
                    "wanted an address with https"
                )
            if origin(target) != origin(here):
                sent.pop("Authorization", None)
            here = target
        raise RegistryError(f"{url.host} redirects more than {_MAX_REDIRECTS} times, the last time to {here.host}")

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        seconds: float,
        form: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request; the answer may have any status.

        Raises:
            TransientError: nobody answered, or not in time.
            RegistryError: nobody will.
        """
        if self._session is None:
            raise AssertionError("the client is an async context manager: enter it first")
        settings = self._settings
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=settings.connect_s, sock_read=settings.idle_s)
        proxy, to_proxy = self._proxy(url)
        if url.scheme == "http":  # Such a request goes to the proxy as it is, without a tunnel.
            headers = {**headers, **to_proxy}
        try:
            async with self._session.request(
                method, url, headers=headers, data=form, allow_redirects=False, timeout=timeout, proxy=proxy,
                proxy_headers=to_proxy or None,
            ) as response:  # fmt: skip
                yield response
        except aiohttp.ClientConnectorCertificateError as error:
            raise RegistryUnreachableError(
                f"{url.host}: its certificate is not trusted ({shown(str(error.certificate_error))}); "
                "name the CA that signed it with --registry-ca FILE"
            ) from error
        except aiohttp.ClientSSLError as error:
            raise RegistryUnreachableError(
                f"{url.host}:{url.port}: no TLS ({shown(str(error))}); if this registry speaks plain HTTP "
                f"and the network is yours, name it with --insecure-registry {url.host}:{url.port}"
            ) from error
        except aiohttp.ClientHttpProxyError as error:
            name = f"{url.host}: the proxy {proxy and proxy.authority}"
            if error.status in TRY_AGAIN:
                raise TransientError(f"{name} refuses the way there (status {error.status})") from error
            if error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                raise RegistryUnreachableError(
                    f"{name} wants a user name and password, other than those it got: write them into "
                    f"{url.scheme.upper()}_PROXY as http://USER:PASSWORD@HOST:PORT"
                ) from error
            raise RegistryUnreachableError(f"{name} refuses the way there (status {error.status})") from error
        except aiohttp.InvalidURL as error:
            raise RegistryError(f"{url.host}: an address that cannot be used: {shown(str(error))}") from error
        except TimeoutError as error:
            raise TransientError(f"{url.host} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"{url.host}: {shown(str(error) or type(error).__name__)}") from error

    def _proxy(self, url: URL) -> tuple[URL | None, dict[str, str]]:
        """The proxy for *url*, and the headers for it alone."""
        found = self._proxies.get(url.scheme)
        if not found or bypasses(self._proxies.get("no", ""), url.host or "", url.port or 0):
            return None, {}
        try:
            proxy = URL(found)
        except ValueError:
            proxy = URL()
        if proxy.scheme not in {"http", "https"} or not proxy.host:
            raise RegistryError(
                f"{url.host}: the environment's {url.scheme.upper()}_PROXY is no proxy that is understood: "
                "write http://HOST:PORT"
            )
        if not proxy.user:
            return proxy, {}
        known = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
        return proxy.with_user(None), {"Proxy-Authorization": known}


def bypasses(rules: str, host: str, port: int) -> bool:
    """Whether ``NO_PROXY`` (*rules*) leads past the proxy to *host*: names, addresses and networks, as other tools."""
    host = host.lower()
    for rule in rules.lower().split(","):
        name, wanted = _rule(rule.strip())
        if not name or wanted not in {None, str(port)}:
            continue
        if name in {"*", host} or host.endswith("." + name):
            return True
        with contextlib.suppress(ValueError):
            if ip_address(host) in ip_network(name, strict=False):
                return True
    return False


def _rule(rule: str) -> tuple[str, str | None]:
    """Name and port of one rule; an address of version 6 may stand in brackets."""
    if rule.startswith("["):
        name, _, port = rule[1:].partition("]")
        return name, port.removeprefix(":") or None
    name, colon, port = rule.partition(":")
    if not colon or ":" in port:  # No port, or an address of version 6.
        name, port = rule, ""
    return (name if name == "*" else name.removeprefix("*").removeprefix(".")), port or None


async def bounded(response: aiohttp.ClientResponse, limit: int, where: str) -> bytes:
    """The body of *response*.

    Raises:
        ImageTooLargeError: it has more than *limit* bytes.
    """
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            raise ImageTooLargeError(f"{where} has more than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _target(here: URL, location: str) -> URL | None:
    try:
        target = here.join(URL(location)) if location else None
    except ValueError:
        return None
    return target if target is not None and target.host else None


def origin(url: URL) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: who gets credentials."""
    return url.scheme, url.host, url.port


def retry_after(response: aiohttp.ClientResponse) -> float:
    """How many seconds the other side asks to wait, within reason; 0 if it does not (RFC 9110, section 10.2.3).

    A date is held against the other side's own clock, which need not be ours; without that it says nothing.
    """
    said = response.headers.get("Retry-After", "")
    if said.isascii() and said.isdigit():
        return min(float(said[:9]), MAX_PAUSE_S)
    try:
        until, now = (parsedate_to_datetime(text) for text in (said, response.headers.get("Date", "")))
        return min(max((until - now).total_seconds(), 0.0), MAX_PAUSE_S)
    except (ValueError, TypeError, OverflowError):  # No date, or one with a zone beside one without.
        return 0.0


def shown(text: str) -> str:
    """A stranger's text, short and without anything that could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"{ca_file}: no PEM file with CA certificates ({error})") from error
    return context


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies of the environment by scheme, and ``no``; a lower-case name wins, as everywhere."""
    found: dict[str, str] = {}
    for scheme in ("http", "https", "no"):
        lower, upper = environ.get(f"{scheme}_proxy"), environ.get(f"{scheme.upper()}_PROXY")
        if value := upper if lower is None else lower:
            found[scheme] = value if scheme == "no" or "://" in value else f"http://{value}"
    return found
