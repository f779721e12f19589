"""A registry and a token server of our own on loopback, honest until told otherwise, and images to put into them."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import ssl
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import zstandard
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from images.build import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, TAR_TYPE, descriptor, digest_of
from images.credentials import Credentials
from images.reference import ImageReference, parse_reference
from images.registry import RegistryClient
from images.transport import Mirror, RegistrySettings

USER, PASSWORD = "alice", "correct-horse-battery"
TOKEN = "token-that-opens-the-repository"
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "+gzip": gzip.compress,
    "+zstd": zstandard.ZstdCompressor().compress,
}
Answer = Callable[[web.Request], Any]


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A plain tar of regular files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


@dataclass
class Pushed:
    """An image as a registry holds it."""

    digest: str
    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]


@dataclass
class FakeRegistry:
    """What it holds, how it authenticates, what it does wrong, and every request it saw."""

    auth: str = ""  # "", "basic" or "bearer"
    token_server: "TokenServer | None" = None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by tag or digest: type, bytes
    wrong: dict[str, Answer] = field(default_factory=dict)  # by last part of the path
    fail_first: list[web.Response] = field(default_factory=list)
    seen: list[web.Request] = field(default_factory=list)
    host: str = ""

    def push(
        self, *layers: bytes, tag: str = "v1", packed: str = "+gzip", architecture: str = "amd64", config: Any = None
    ) -> Pushed:
        """Put an image with these (uncompressed) layers there."""
        stored = tuple(PACK[packed](layer) for layer in layers)
        document = dumped({
            "os": "linux", "architecture": architecture, "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        })  # fmt: skip
        manifest = dumped({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": descriptor(CONFIG_TYPE, document),
            "layers": [descriptor(TAR_TYPE + packed, layer) for layer in stored],
        })  # fmt: skip
        for blob in (document, *stored):
            self.blobs[digest_of(blob)] = blob
        self.name(manifest, MANIFEST_TYPE, tag)
        return Pushed(digest_of(manifest), manifest, document, stored)

    def push_index(self, images: Mapping[str, Pushed], tag: str = "v1") -> str:
        """Put an index of several architectures there; returns its digest."""
        entries = [
            {**descriptor(MANIFEST_TYPE, image.manifest), "platform": {"os": "linux", "architecture": machine}}
            for machine, image in images.items()
        ]
        index = dumped({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries})
        self.name(index, INDEX_TYPE, tag)
        return digest_of(index)

    def name(self, raw: bytes, media_type: str, tag: str) -> None:
        self.manifests[tag] = self.manifests[digest_of(raw)] = (media_type, raw)

    def reference(self, tag: str = "v1", digest: str = "") -> ImageReference:
        return parse_reference(f"{self.host}/team/app:{tag}" + (f"@{digest}" if digest else ""))

    def paths(self) -> list[str]:
        return [request.path for request in self.seen]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Serve one request as the distribution specification says."""
        self.seen.append(request)
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if self.fail_first:
            return self.fail_first.pop(0)
        kind, name = request.path.split("/")[-2:]
        if (wrong := self.wrong.get(name) or self.wrong.get(kind)) is not None:
            found: web.StreamResponse = await wrong(request)
            return found
        if kind == "manifests" and name in self.manifests:
            media_type, raw = self.manifests[name]
            if media_type not in request.headers.get("Accept", ""):
                return web.Response(status=404, text="accept header does not support this")
            return web.Response(body=raw, content_type=media_type, headers={"Docker-Content-Digest": digest_of(raw)})
        if kind == "blobs" and name in self.blobs:
            return web.Response(body=self.blobs[name], content_type="application/octet-stream")
        document = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "not here\x1b[31m"}]}
        return web.json_response(document, status=404)

    def _refusal(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self.auth == "basic" and given != basic(USER, PASSWORD):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="a, registry"'})
        if self.auth == "bearer" and given != f"Bearer {TOKEN}":
            realm = self.token_server.url if self.token_server else "http://nowhere.invalid/token"
            challenge = f'Bearer realm="{realm}",service="our registry",scope="repository:team/app:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return None


@dataclass
class TokenServer:
    """Gives the token to who knows the password, or to everybody."""

    anonymous: bool = False
    token: str = TOKEN
    url: str = ""
    seen: list[web.Request] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    fail_first: list[web.Response] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if self.fail_first:
            return self.fail_first.pop(0)
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.forms.append(form)
        known = request.headers.get("Authorization") == basic(USER, PASSWORD) or form.get("refresh_token") == PASSWORD
        if not known and not self.anonymous:
            return web.Response(status=401)
        return web.json_response({"access_token": self.token} if form else {"token": self.token})


class Known:
    """Credentials by registry; remembers who asked."""

    def __init__(self, **by_host: Credentials) -> None:
        self.by_host: dict[str, Credentials] = dict(by_host)
        self.asked: list[str] = []

    async def lookup(self, registry: str) -> Credentials | None:
        self.asked.append(registry)
        return self.by_host.get(registry)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Any], *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve *answer* on every path on loopback; gives `host:port`."""
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app, scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.close()


@asynccontextmanager
async def running(registry: FakeRegistry, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
    """Serve *registry*."""
    async with serving(registry.answer, tls=tls) as host:
        registry.host = host
        yield registry


@asynccontextmanager
async def client_of(
    *registries: FakeRegistry | str,
    credentials: Any = None,
    mirrors: tuple[Mirror, ...] = (),
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[RegistryClient]:
    """A client that speaks plain HTTP with *registries* and does not wait long."""
    hosts = frozenset(r if isinstance(r, str) else r.host for r in registries)
    chosen = RegistrySettings(
        insecure=hosts, mirrors=mirrors, **{"tries": 2, "pause_s": 0.0, "idle_s": 5.0, **settings}
    )
    async with RegistryClient(chosen, credentials or Known(), environ or {}) as client:
        yield client


def login(registry: FakeRegistry, *, identity: bool = False) -> Known:
    known = Known()
    known.by_host[registry.host] = Credentials(username=USER, secret=PASSWORD, identity=identity)
    return known


async def endless(request: web.Request) -> web.StreamResponse:
    """Bytes for ever, without a length."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(1 << 16))
        await asyncio.sleep(0)


def blob_answer(data: bytes, **more: Any) -> Answer:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=data, **{"content_type": "application/octet-stream", **more})

    return answer


def status_answer(status: int, **headers: str) -> Answer:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    return answer


def server_tls(folder: Path) -> tuple[ssl.SSLContext, Path, Path]:
    """A self-made CA and server certificate for 127.0.0.1: context, CA file, file of key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry of the tests")])
    start = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, start, start + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    ca, both = folder / "ca.pem", folder / "server.pem"
    ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + ca.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, ca, both


def scratch() -> Any:
    """A file for a blob."""
    return tempfile.TemporaryFile()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
