"""Registries behind a proxy: TLS goes through a tunnel into which it cannot look, and what it refuses is said."""

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from yarl import URL

from images.errors import RegistryError, RegistryUnreachableError
from images.model import Descriptor
from images.registry import RegistryClient
from images.transport import RegistrySettings, Transport, bypasses
from tests.support.registry import PASSWORD, FakeRegistry, client_of, login, running, server_tls, sha256

DATA = b"behind a proxy" * 1000
BLOB = Descriptor(media_type="x/y", digest=sha256(DATA), size=len(DATA))


@dataclass
class Tunnels:
    """A proxy that speaks CONNECT alone, and what it saw."""

    status: str = "200 Connection established"
    heads: list[bytes] = field(default_factory=list)
    inside: bytearray = field(default_factory=bytearray)
    serving: list[asyncio.Task[None]] = field(default_factory=list)
    host: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.create_task(self.tunnel(reader, writer)))
        await self.serving[-1]

    async def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ends = [writer]
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            length = "" if self.status[:3] == "200" else "Content-Length: 0\r\n"
            writer.write(f"HTTP/1.1 {self.status}\r\n{length}\r\n".encode())
            if not length:
                host, _, port = head.split()[1].decode().rpartition(":")
                far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
                open_ends.append(far_writer)
                await asyncio.gather(self.copy(reader, far_writer, keep=True), self.copy(far_reader, writer))
        finally:
            for end in open_ends:
                end.close()
                with contextlib.suppress(ConnectionError):
                    await end.wait_closed()

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool = False) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if keep:
                    self.inside += data
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def tunnels(status: str = "200 Connection established") -> AsyncIterator[Tunnels]:
    proxy = Tunnels(status)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await server.wait_closed()
        for task in proxy.serving:
            task.cancel()
        await asyncio.gather(*proxy.serving, return_exceptions=True)


async def fetch(client: RegistryClient, registry: FakeRegistry) -> bytes:
    file = io.BytesIO()
    await client.blob(registry.reference(), BLOB, file, progress=lambda _size: None)
    return file.getvalue()


async def test_tls_goes_through_a_tunnel_that_sees_neither_credentials_nor_bytes(tmp_path: Path) -> None:
    """The proxy's password is for the proxy, the registry's for the registry."""
    context, ca, _both = server_tls(tmp_path)
    stored = FakeRegistry(auth="basic", blobs={BLOB.digest: DATA})
    async with tunnels() as proxy, running(stored, tls=context) as registry:
        environ = {"HTTPS_PROXY": f"http://me:proxy%20secret@{proxy.host}"}
        async with client_of(ca_file=ca, environ=environ, credentials=login(registry)) as client:
            assert await fetch(client, registry) == DATA
        wanted = base64.b64encode(b"me:proxy secret")
        assert all(head.startswith(f"CONNECT {registry.host} ".encode()) for head in proxy.heads)
        assert all(b"Proxy-Authorization: Basic " + wanted in head for head in proxy.heads)
        seen = b"".join(proxy.heads) + proxy.inside
        assert proxy.heads
        assert not any(word in seen for word in (PASSWORD.encode(), b"team/app", DATA[:64]))
        assert all("Proxy-Authorization" not in request.headers for request in registry.seen)


async def test_a_certificate_is_judged_through_the_tunnel_too(tmp_path: Path) -> None:
    """A proxy that ends TLS itself is somebody on the way."""
    context, _ca, _both = server_tls(tmp_path)
    stored = FakeRegistry(blobs={BLOB.digest: DATA})
    async with tunnels() as proxy, running(stored, tls=context) as registry:
        async with client_of(environ={"https_proxy": proxy.host}) as client:
            with pytest.raises(RegistryUnreachableError, match="--registry-ca"):
                await fetch(client, registry)
        assert proxy.heads
        assert not registry.seen


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("407 Proxy Authentication Required", "wants a user name and password.*HTTPS_PROXY"),
        ("403 Forbidden", "refuses.*403"),
        ("502 Bad Gateway", "refuses.*502"),
    ],
)
async def test_what_the_proxy_refuses_is_not_blamed_on_the_registry(tmp_path: Path, status: str, said: str) -> None:
    """Else a person looks for the fault at the registry, and tries its password."""
    context, ca, _both = server_tls(tmp_path)
    async with tunnels(status) as proxy, running(FakeRegistry(), tls=context) as registry:
        async with client_of(ca_file=ca, environ={"HTTPS_PROXY": f"http://me:hush@{proxy.host}"}) as client:
            with pytest.raises(RegistryError, match=f"the proxy {proxy.host} {said}") as caught:
                await fetch(client, registry)
        assert "hush" not in str(caught.value)
        assert len(proxy.heads) == (2 if status.startswith("502") else 1)


async def test_no_proxy_leads_past_it(tmp_path: Path) -> None:
    context, ca, _both = server_tls(tmp_path)
    stored = FakeRegistry(blobs={BLOB.digest: DATA})
    async with tunnels() as proxy, running(stored, tls=context) as registry:
        environ = {"HTTPS_PROXY": f"http://{proxy.host}", "NO_PROXY": "example.com, 127.0.0.0/8"}
        async with client_of(ca_file=ca, environ=environ) as client:
            assert await fetch(client, registry) == DATA
        assert not proxy.heads


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://[bad", "http://", "ftp://proxy:21", "http://a:x"])
async def test_a_proxy_that_cannot_be_used_is_named(proxy: str) -> None:
    """It stands in the environment, where nobody remembers to look."""
    async with client_of(environ={"HTTPS_PROXY": proxy}) as client:
        with pytest.raises(RegistryError, match=r"HTTPS_PROXY.*http://HOST:PORT"):
            await fetch(client, FakeRegistry(host="127.0.0.1:9"))


@pytest.mark.parametrize(
    ("host", "port", "rules", "past"),
    [
        ("r.example.com", 443, "example.com", True),
        ("r.example.com", 443, ".example.com", True),
        ("r.example.com", 443, "*.example.com", True),
        ("example.com", 443, "example.com", True),
        ("notexample.com", 443, "example.com", False),
        ("r.example.com", 443, "Example.COM", True),
        ("r.example.com", 443, "*", True),
        ("r.example.com", 443, "", False),
        ("r.example.com", 443, "other.com", False),
        ("r.example.com", 5000, "example.com:5000", True),
        ("r.example.com", 5001, "example.com:5000", False),
        ("r.example.com", 443, " a.com ,r.example.com ", True),
        ("10.1.2.3", 5000, "10.0.0.0/8", True),
        ("11.1.2.3", 5000, "10.0.0.0/8", False),
        ("10.1.2.3", 5000, "10.1.2.3", True),
        ("10.1.2.3", 5000, "10.1.2.3:5000", True),
        ("10.1.2.3", 5000, "10.1.2.3:443", False),
        ("10.1.2.33", 5000, "10.1.2.3", False),
        ("10.example.com", 443, "10.0.0.0/8", False),
        ("::1", 5000, "::1", True),
        ("::1", 5000, "[::1]", True),
        ("::1", 5000, "[::1]:5000", True),
        ("::1", 5000, "[::1]:443", False),
        ("fd00::5", 443, "fd00::/8", True),
        ("fd00::5", 443, "10.0.0.0/8,example.com", False),
        ("r.example.com", 443, "10.0.0.0/99", False),
    ],
)
def test_no_proxy_is_read_as_other_tools_read_it(host: str, port: int, rules: str, past: bool) -> None:
    """Names with what lies below them, addresses, networks, each with a port or without."""
    assert bypasses(rules, host, port) == past


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://[::1]:5000/token", True),
        ("http://127.0.0.1:5000/token", True),
        ("http://[::1]:5001/token", False),
        ("http://[::2]:5000/token", False),
        ("https://[::2]/token", True),
        ("ftp://127.0.0.1:5000/", False),
    ],
)
def test_plain_http_is_for_the_hosts_named_also_by_addresses_of_version_6(url: str, allowed: bool) -> None:
    """A registry named as [::1]:5000 could not send anybody to its own token server."""
    settings = RegistrySettings(insecure=frozenset({"[::1]:5000", "127.0.0.1:5000"}))
    assert Transport(settings, {}).allowed(URL(url)) == allowed
