"""Reading files of an exported ledger from any web server: bounded, no redirects, nothing believed.

What comes is judged by its reader, signature by signature, so the connection need not be the right one; TLS is checked
all the same, as a browser would, because what one reads is nobody else's business.
"""

from types import TracebackType
from typing import Self

import aiohttp

from wire.client import Timeouts
from wire.problem import Problem, RemoteRefusedError, UnreachableError, UntrustworthyAnswerError
from wire.routes import MAX_BLOB, MAX_ENTRY_BUNDLE
from wire.session import open_session, read_body


class FileClient:
    """Fetches files below a base address (`http://…` or `https://…`); an async context manager."""

    def __init__(self, base_url: str, *, timeouts: Timeouts | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeouts = timeouts or Timeouts()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        wait = self._timeouts
        connector = aiohttp.TCPConnector(limit=32)
        self._session = open_session(connector=connector, exchange_s=wait.exchange_s, connect_s=wait.connect_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str) -> bytes:
        """The file at *path* below the base.

        Raises:
            RemoteRefusedError: the server has no such file (code ``not_found``), or says no.
            UnreachableError: it does not answer, or its certificate is not good.
            UntrustworthyAnswerError: the file is longer than any of a ledger.
        """
        if self._session is None:
            raise UnreachableError("the client is used outside its `async with` block")
        url = f"{self.base_url}/{path}"
        limit = MAX_ENTRY_BUNDLE if path.startswith("tile/") else MAX_BLOB
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise _refusal(url, response.status)
                raw = await read_body(response, limit)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise UnreachableError(f"{url} cannot be read: {reason}") from None
        if raw is None:
            raise UntrustworthyAnswerError(f"{url} is longer than {limit} bytes, which no such file is")
        return raw


def _refusal(url: str, status: int) -> RemoteRefusedError:
    code = "not_found" if status in (404, 410) else "http_status"
    problem = Problem(type="about:blank", title="no such file", status=status, code=code, detail=f"HTTP {status}")
    return RemoteRefusedError(problem, address=url)
