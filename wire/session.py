"""How every HTTP session of this package is opened: no cookies, no decompression, no proxy of the environment."""

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
