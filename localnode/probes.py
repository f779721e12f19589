"""Asks a container whether it is ready, as a kubelet would: from outside, without certificates; starts no program."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Literal

_ANSWER = 256  # bytes: the status line


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A readiness probe: a connection to *port*, and if there is a *path*, a GET that must answer 2xx or 3xx."""

    port: int
    path: str | None = None
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    period: float = 10.0  # seconds
    timeout: float = 1.0  # seconds


async def is_ready(probe: Probe, address: str) -> bool:
    """Ask once. Certificates are not checked, like a kubelet's probe: it decides about traffic, not about trust."""
    context: ssl.SSLContext | None = None
    if probe.path is not None and probe.scheme == "HTTPS":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(probe.timeout):
            reader, writer = await asyncio.open_connection(address, probe.port, ssl=context)
            if probe.path is None:
                return True
            writer.write(f"GET {probe.path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            status = (await reader.read(_ANSWER)).split(b"\r\n")[0].split()
            return len(status) > 1 and status[0].startswith(b"HTTP/") and status[1][:1] in {b"2", b"3"}
    except (OSError, TimeoutError, ssl.SSLError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
