"""The keys of one start of a Coordinator: made here, in memory, never stored. It knows no ledger and no manifest."""

import datetime as dt
import hashlib
import os
import secrets
import ssl
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=3650)  # Clients pin the certificate by its hash; its dates say nothing.
_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The identity of this process: whoever holds these keys *is* this epoch."""

    signing: Ed25519PrivateKey = field(repr=False)
    hpke: X25519PrivateKey = field(repr=False)
    tls_key: ec.EllipticCurvePrivateKey = field(repr=False)
    mac_key: bytearray = field(repr=False)
    tls_certificate: bytes
    """DER."""
    public: bytes
    """The Ed25519 public key, 32 bytes: the ``signer`` of this epoch's entries."""
    hpke_public: bytes
    """The X25519 public key, 32 bytes."""

    @property
    def tls_sha256(self) -> bytes:
        """SHA-256 of the TLS certificate's DER, which the attested statement names."""
        return hashlib.sha256(self.tls_certificate).digest()

    def forget(self) -> None:
        """Overwrite what can be overwritten. Best effort: OpenSSL and Python may hold copies."""
        self.mac_key[:] = bytes(len(self.mac_key))


def open_epoch(now: dt.datetime) -> Epoch:
    """Fresh keys and a self-signed TLS certificate, valid from an hour before *now*."""
    signing = Ed25519PrivateKey.generate()
    hpke = X25519PrivateKey.generate()
    tls_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "contrast coordinator")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(tls_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("coordinator"), x509.DNSName("coordinator-ready")]), False
        )
        .sign(tls_key, hashes.SHA256())
    )
    return Epoch(
        signing=signing,
        hpke=hpke,
        tls_key=tls_key,
        mac_key=bytearray(secrets.token_bytes(32)),
        tls_certificate=certificate.public_bytes(serialization.Encoding.DER),
        public=signing.public_key().public_bytes_raw(),
        hpke_public=hpke.public_key().public_bytes_raw(),
    )


def tls_context(epoch: Epoch) -> ssl.SSLContext:
    """A server context with the epoch's certificate: TLS 1.3 only, HTTP/1.1 only, no session tickets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    certificate = x509.load_der_x509_certificate(epoch.tls_certificate)
    pem = certificate.public_bytes(serialization.Encoding.PEM) + epoch.tls_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)  # load_cert_chain wants a path; no disk ever sees the key.
    try:
        os.write(handle, pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
        os.pwrite(handle, bytes(len(pem)), 0)
    finally:
        os.close(handle)
    return context
