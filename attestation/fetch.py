"""The one HTTP client for vendors' collateral: bounded answers, few tries, no redirects. It believes nothing it gets.

Everything that comes back is signed by somebody and judged elsewhere, so a proxy or a mirror is as good as the vendor's
own service, and plain HTTP to a link-local one is no hole. The other client, ``wire.client``, speaks to Coordinators;
docs/adr/0011 says why there are two.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from attestation.errors import FetchError

_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
LINK_LOCAL: Final = "http://169.254."
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said with status 200.

    Attributes:
        body: at most as many bytes as were allowed.
        headers: by lower-case name.
    """

    body: bytes
    headers: Mapping[str, str]


class Fetcher:
    """Asks for one document at a time; an async context manager.

    Args:
        chance: a number in [0, 1), so that many clients do not come back at the same moment.
        proxy: URL of an HTTP proxy for everything that is fetched, except from a link-local address.
        attempts: tries for one document; what waiting does not mend is tried once.
        timeout_s: for one exchange.
        sleep: waits.
    """

    def __init__(
        self,
        *,
        chance: Callable[[], float],
        proxy: str | None = None,
        attempts: int = 4,
        timeout_s: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._chance = chance
        self._proxy = proxy
        self._attempts = attempts
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 5.0))
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=8),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "contrast"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(
        self, url: str, *, limit: int, headers: Mapping[str, str] | None = None, attempts: int | None = None
    ) -> Answer:
        """The document at *url*, after at most *attempts* tries (by default as many as the fetcher makes).

        Raises:
            FetchError: no usable answer after all tries, or one that trying again does not mend.
        """
        attempts = self._attempts if attempts is None else attempts
        for failures in range(1, attempts + 1):
            try:
                return await self._once(url, limit, headers or {})
            except FetchError as error:
                if not error.may_pass or failures == attempts:
                    raise
                pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (failures - 1)) * (0.5 + 0.5 * self._chance())
                await self._sleep(min(_LONGEST_PAUSE_S, max(pause_s, error.retry_after_s)))
        raise AssertionError("a try either returns or raises")

    def _proxy_for(self, url: str) -> str | None:
        # A link-local service is the machine's own: through a proxy it would answer for another one, or not at all.
        return None if url.startswith(LINK_LOCAL) else self._proxy

    async def _once(self, url: str, limit: int, headers: Mapping[str, str]) -> Answer:
        if self._session is None:
            raise RuntimeError("the fetcher is used outside its context")
        try:
            async with self._session.get(
                url, headers=headers, proxy=self._proxy_for(url), allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise FetchError(
                        f"{url} answered {response.status}",
                        status=response.status,
                        may_pass=response.status in _PASSING,
                        retry_after_s=_seconds(response.headers.get("Retry-After")),
                    )
                body = await response.content.read(limit + 1)
                while len(body) <= limit and (more := await response.content.read(limit + 1 - len(body))):
                    body += more
                if len(body) > limit:
                    raise FetchError(f"{url} answered more than {limit} bytes", status=200)
                return Answer(body, {name.lower(): value for name, value in response.headers.items()})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FetchError(f"{url} cannot be reached: {type(error).__name__}: {error}"[:400], may_pass=True) from None
        except ValueError as error:  # aiohttp's word for an address that is none.
            raise FetchError(f"{url[:200]} is no address that can be fetched: {error}"[:400]) from None


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 6 else 0.0
