"""The HTTP client for witnesses (C2SP tlog-witness): bounded exchanges, no redirects, no retries. It believes nothing.

What a witness says counts only as far as its key has signed it, and that is judged by the caller. So plain HTTP is no
hole here; what it cannot give is privacy, or the certainty that the newest answer came.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from wire.problem import UnreachableError
from wire.session import open_session, read_body

MAX_ANSWER: Final = 64 * 1024
_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What came back: nothing in it is verified."""

    status: int
    content_type: str
    body: bytes


class WitnessClient:
    """Speaks to any number of witnesses; an async context manager. *timeout_s* is for one whole exchange."""

    def __init__(self, *, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=64)
        self._session = open_session(connector=connector, exchange_s=self._timeout_s, connect_s=self._timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def add_checkpoint(self, url: str, body: bytes) -> WitnessAnswer:
        """Submit *body* below the submission prefix *url*. Raises UnreachableError."""
        return await self._exchange("POST", f"{url.rstrip('/')}/add-checkpoint", body)

    async def newest(self, url: str, path: str) -> WitnessAnswer:
        """The checkpoint that a witness cosigned last, *path* below the monitoring prefix. Raises UnreachableError."""
        return await self._exchange("GET", f"{url.rstrip('/')}/{path}", None)

    async def _exchange(self, method: str, url: str, body: bytes | None) -> WitnessAnswer:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with` block")
        headers = {} if body is None else {"Content-Type": _TYPE}
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                raw = await read_body(response, MAX_ANSWER)
        except (aiohttp.ClientError, ValueError, TimeoutError, OSError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise UnreachableError(f"the witness at {url} does not answer ({reason})") from None
        if raw is None:
            raise UnreachableError(f"the witness at {url} sent more than {MAX_ANSWER} bytes")
        return WitnessAnswer(response.status, response.headers.get("Content-Type", ""), raw)
