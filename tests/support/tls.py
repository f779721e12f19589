"""TLS servers with throw-away certificates, as every epoch of a Coordinator has one."""

import hashlib
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


class ServerIdentity:
    """A key and a self-made certificate; `sha256` is what a client pins."""

    def __init__(self, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        start = datetime.now(UTC) - timedelta(hours=1)
        self.certificate = x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), start, start + timedelta(days=1)
        ).sign(key, hashes.SHA256())
        self.sha256 = hashlib.sha256(self.certificate.public_bytes(serialization.Encoding.DER)).digest()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.maximum_version = newest
        plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "both.pem"
            path.write_bytes(plain + self.certificate.public_bytes(PEM))
            self.context.load_cert_chain(path)


@asynccontextmanager
async def serve(app: web.Application, identity: ServerIdentity, *, port: int = 0) -> AsyncIterator[str]:
    """Serve *app* over TLS on loopback; gives `host:port`."""
    server = TestServer(app, port=port or None, scheme="https")
    await server.start_server(ssl=identity.context)
    try:
        yield f"{server.host}:{server.port}"
    finally:
        await server.close()
