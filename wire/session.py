"""How HTTP is spoken by every client of this package: what a session does not do, and bodies that have an end."""

import aiohttp


def open_session(*, connector: aiohttp.BaseConnector, exchange_s: float, connect_s: float) -> aiohttp.ClientSession:
    """A session whose answers come as they were sent.

    Args:
        connector: says whom to trust, and how many connections there may be.
        exchange_s: seconds for one whole exchange.
        connect_s: seconds for connecting.
    """
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=exchange_s, sock_connect=connect_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "contrast"},
    )


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body, of which at most *limit* bytes are taken from the network; None where there are more."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > limit:
            response.close()
            return None
    return bytes(raw)
