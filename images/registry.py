"""Reads from OCI registries (distribution-spec v1.1), every byte against its digest; decides nothing about images.

Credentials go to the registry they belong to and to the token server that it names, never to a mirror, and never along
a redirect to another host.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Final, Self, TypeVar

import aiohttp
from yarl import URL

from images.challenges import Challenge, parse_challenges
from images.credentials import Credentials, CredentialSource
from images.errors import (
    CacheError,
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnreachableError,
)
from images.model import INDEX_TYPES, MANIFEST_TYPES, MAX_JSON, Descriptor
from images.reference import ImageReference
from images.transport import (
    MAX_PAUSE_S,
    TRY_AGAIN,
    RegistrySettings,
    TransientError,
    Transport,
    bounded,
    origin,
    retry_after,
    shown,
)

T = TypeVar("T")

_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_ACCEPT: Final = ", ".join(sorted(INDEX_TYPES | MANIFEST_TYPES))
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+"
_MAX_TOKEN: Final = 256 << 10
_MAX_REASON: Final = 16 << 10
_CHUNK: Final = 1 << 20
_SLOWEST: Final = 50_000  # Bytes per second below which a download is given up.


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A manifest or index as received; ``digest`` is that of ``raw``."""

    raw: bytes
    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class _Place:
    """One host that may have the image."""

    host: str
    repository: str
    base: URL

    def url(self, kind: str, name: str) -> URL:
        return self.base / "v2" / self.repository / kind / name


class RegistryClient:
    """Pulls from any registry; an async context manager."""

    def __init__(
        self, settings: RegistrySettings, credentials: CredentialSource, environ: Mapping[str, str] | None = None
    ) -> None:
        """*environ* is where proxies are named.

        Raises:
            RegistryError: the file of CA certificates cannot be used.
        """
        self._settings = settings
        self._credentials = credentials
        self._http = Transport(settings, environ or {})
        self._authorization: dict[tuple[str, str], str] = {}
        self._asking: dict[tuple[str, str], asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        """Make the connection pool."""
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._http.__aexit__(kind, error, trace)

    async def manifest(self, reference: ImageReference, digest: str | None = None) -> Document:
        """The manifest or index of *digest*, else of the reference's digest, else of its tag.

        Raises:
            ImageNotFoundError: no place has it.
            ImageError: what came is not what was asked for, or nobody could be asked.
        """
        wanted = digest or reference.digest

        async def get(place: _Place) -> Document:
            url = place.url("manifests", wanted or reference.tag or "latest")
            async with self._open(place, url, accept=_ACCEPT, seconds=60) as response:
                raw = await bounded(response, MAX_JSON, f"{place.host}: the manifest of {reference}")
                return _document(raw, response, wanted, f"{place.host}, image {reference}")

        return await self._anywhere(reference, get)

    async def blob(
        self, reference: ImageReference, wanted: Descriptor, file: IO[bytes], *, progress: Callable[[int], None]
    ) -> None:
        """Write a blob to *file* (from its beginning), verified; *progress* gets the bytes so far.

        Raises:
            DigestMismatchError: every place gave other bytes.
            ImageError: as `manifest`.
        """

        async def get(place: _Place) -> None:
            seconds = 60 + wanted.size / _SLOWEST
            async with self._open(place, place.url("blobs", wanted.digest), accept="*/*", seconds=seconds) as response:
                file.seek(0)
                file.truncate()
                await _receive(response, wanted, file, place.host, progress)

        await self._anywhere(reference, get)

    async def _anywhere(self, reference: ImageReference, get: Callable[[_Place], Awaitable[T]]) -> T:
        """Ask the mirrors in order, then the registry; the registry's own failure counts most."""
        failures: list[ImageError] = []
        for place in self._places(reference):
            try:
                return await self._patiently(place, lambda place=place: get(place))  # type: ignore[misc]  # bound here
            except ImageError as error:
                failures.append(error)
        last = failures[-1]
        if len(failures) > 1:
            before = "; ".join(str(failure) for failure in failures[:-1])
            raise type(last)(f"{last} (before that, mirrors: {before})") from last
        raise last

    def _places(self, reference: ImageReference) -> list[_Place]:
        found = [
            self._place(
                mirror.host, f"{mirror.prefix}/{reference.repository}" if mirror.prefix else reference.repository
            )
            for mirror in self._settings.mirrors
            if mirror.registry == reference.registry
        ]
        host = _HUB_HOST if reference.registry == _HUB else reference.registry
        return [*found, self._place(host, reference.repository)]

    def _place(self, host: str, repository: str) -> _Place:
        return _Place(host, repository, self._http.address(host))

    async def _patiently(self, place: _Place, call: Callable[[], Awaitable[T]]) -> T:
        pause = self._settings.pause_s
        for left in reversed(range(self._settings.tries)):
            try:
                return await call()
            except TransientError as error:
                if not left:
                    raise RegistryUnreachableError(
                        f"{place.host}: {error}, {self._settings.tries} times in a row: try again later"
                    ) from error
                await asyncio.sleep(min(max(pause, error.pause_s), MAX_PAUSE_S))
                pause *= 2
        raise AssertionError("at least one try is made")

    @asynccontextmanager
    async def _open(
        self, place: _Place, url: URL, *, accept: str, seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the answer 200 to a GET, authenticated if the registry wants that."""
        key = (place.host, place.repository)
        used = self._authorization.get(key)
        for first in (True, False):
            headers = {"Accept": accept} | ({"Authorization": used} if used else {})
            async with self._http.follow(url, headers, seconds) as response:
                if response.status == 200:
                    yield response
                    return
                # Who was redirected elsewhere is not asked for credentials: that host is not the registry.
                own = origin(response.url) == origin(url)
                if response.status != 401 or not first or not own:
                    await self._refused(place, url, response)
                challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
            used = await self._authorize(place, challenges, used)

    async def _authorize(self, place: _Place, challenges: tuple[Challenge, ...], used: str | None) -> str:
        """What to send as Authorization; requests that run side by side ask once."""
        key = (place.host, place.repository)
        async with self._asking.setdefault(key, asyncio.Lock()):
            if (known := self._authorization.get(key)) is not None and known != used:
                return known
            credentials = await self._credentials.lookup(place.host)
            by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
            if "bearer" in by_scheme:
                fresh = await self._token(place, by_scheme["bearer"], credentials)
            elif "basic" in by_scheme and credentials is not None and not credentials.identity:
                fresh = credentials.basic
            elif "basic" in by_scheme:
                raise _denied(place, "wants a user name and password, and none are known")
            else:
                schemes = ", ".join(sorted(by_scheme)) or "nothing that can be understood"
                raise RegistryError(f"{place.host} asks for {shown(schemes)}; Bearer and Basic are understood")
            self._authorization[key] = fresh
            return fresh

    async def _token(self, place: _Place, challenge: Challenge, credentials: Credentials | None) -> str:
        """Ask the token server (distribution's token specification); OAuth 2 for identity tokens."""
        realm = challenge.parameters.get("realm", "")
        try:
            url = URL(realm)
            host = url.host or ""
        except ValueError:
            url, host = URL(), ""
        if not host or not self._http.allowed(url):
            raise RegistryError(f"{place.host} names the token server {shown(realm)}; wanted https://…")
        query = {"scope": f"repository:{place.repository}:pull"}
        if service := challenge.parameters.get("service"):
            query["service"] = service
        headers = {"Accept": "application/json"}
        if credentials is not None and credentials.identity:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.secret,
                "client_id": "contrast",
                **query,
            }
            sending = self._http.request("POST", url, headers, seconds=30, form=form)
        else:
            if credentials is not None:
                headers["Authorization"] = credentials.basic
            sending = self._http.request("GET", url.update_query(query), headers, seconds=30)
        where = f"{place.host}: its token server {shown(host)}"
        async with sending as response:
            if response.status in TRY_AGAIN:
                raise TransientError(f"{where} answers with status {response.status}", retry_after(response))
            if response.status in {400, 401, 403, 404}:
                raise _denied(place, f"has a token server that answers with status {response.status}")
            if response.status != 200:
                raise RegistryError(f"{where} answers with status {response.status}, wanted 200")
            raw = await bounded(response, _MAX_TOKEN, where)
        return f"Bearer {_token_of(raw, where)}"

    async def _refused(self, place: _Place, url: URL, response: aiohttp.ClientResponse) -> None:
        status, name = response.status, url.path.removeprefix("/v2/")
        if status in TRY_AGAIN:
            raise TransientError(f"answers with status {status}", retry_after(response))
        reason = await _reason(response)
        if status in {401, 403}:
            raise _denied(place, f"refuses {name} (status {status}{reason})")
        if status == 404:
            raise ImageNotFoundError(f"{place.host} has no {name}{reason}")
        raise RegistryError(f"{place.host} answers with status {status} for {name}, wanted 200{reason}")


async def _receive(
    response: aiohttp.ClientResponse, wanted: Descriptor, file: IO[bytes], host: str, progress: Callable[[int], None]
) -> None:
    said = response.headers.get("Content-Length")
    if said is not None and said.isdigit() and int(said) != wanted.size:
        raise DigestMismatchError(f"{host}: the blob {wanted.digest} has {said} bytes, its manifest says {wanted.size}")
    digest, size = hashlib.sha256(), 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > wanted.size:
            raise DigestMismatchError(f"{host}: the blob {wanted.digest} has more than the {wanted.size} bytes named")
        digest.update(chunk)
        try:
            file.write(chunk)
        except OSError as error:  # Of the disk, not of the network: trying again would not help.
            raise CacheError(f"the cache cannot take the blob {wanted.digest}: {error.strerror or error}") from error
        progress(size)
    if size < wanted.size:
        raise TransientError(f"the blob {wanted.digest} ends after {size} of {wanted.size} bytes")
    if (seen := f"sha256:{digest.hexdigest()}") != wanted.digest:
        raise DigestMismatchError(
            f"{host}: the blob {wanted.digest} has the digest {seen}: the registry or somebody on the way changed it"
        )


def _document(raw: bytes, response: aiohttp.ClientResponse, wanted: str | None, where: str) -> Document:
    media_type = response.content_type
    if media_type.startswith(_SCHEMA_1):  # First of all: its digest leaves out the signature that it carries.
        raise RegistryError(
            f"{where}: the image is in Docker's form of before 2016 (schema 1), which guests of today do not "
            "pull: push it anew, for example with `skopeo copy --format v2s2`"
        )
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if wanted is not None and digest != wanted:
        raise DigestMismatchError(
            f"{where}: the manifest has the digest {digest}, wanted {wanted}: "
            "the registry or somebody on the way changed it"
        )
    said = response.headers.get("Docker-Content-Digest", digest)
    if said != digest and said.startswith("sha256:"):
        raise DigestMismatchError(f"{where}: the answer names the digest {shown(said)}, its bytes have {digest}")
    if media_type not in INDEX_TYPES | MANIFEST_TYPES:
        raise RegistryError(f"{where}: the answer is of type {shown(media_type)}, which is no manifest and no index")
    with contextlib.suppress(ValueError, RecursionError):  # What is no JSON is refused where it is parsed.
        inside = json.loads(raw)
        if isinstance(inside, dict) and inside.get("mediaType", media_type) != media_type:
            raise RegistryError(
                f"{where}: the answer's header says {shown(media_type)}, its text {shown(str(inside['mediaType']))}"
            )
    return Document(raw=raw, digest=digest, media_type=media_type)


async def _reason(response: aiohttp.ClientResponse) -> str:
    """What the registry says, for a message; its text is a stranger's."""
    try:
        raw = await bounded(response, _MAX_REASON, "")
        first = json.loads(raw)["errors"][0]
        return f", {shown(str(first['code']))}: {shown(str(first.get('message', '')))}"
    except (ImageError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ""


def _token_of(raw: bytes, where: str) -> str:
    try:
        answer = json.loads(raw)
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
        raise RegistryError(f"{where} gives no token")
    return token


def _denied(place: _Place, what: str) -> RegistryDeniedError:
    return RegistryDeniedError(
        f"{place.host} {what}: log in (docker login {place.host}), and check that this user may pull {place.repository}"
    )
