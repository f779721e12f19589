"""The bundle a workload receives, as bytes (docs/formats.md section 9); whether they fit together is not seen here."""

import hashlib
from dataclasses import dataclass

BUNDLE_VERSION = 1
MAX_CERTIFICATE = 16_384
MAX_RECEIPT = 65_536


class BundleError(Exception):
    """Bytes are no bundle: a length, a count or a version is wrong."""

    code = "invalid_bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Leaf, intermediate, mesh CA and root CA in DER, and the receipt (a tlog-proof whose extra is the entry)."""

    leaf: bytes
    intermediate: bytes
    mesh_ca: bytes
    root_ca: bytes
    receipt: bytes

    def pack(self) -> bytes:
        """`u32 length, bytes` for the version and each part, in the declared order."""
        parts = (bytes([BUNDLE_VERSION]), self.leaf, self.intermediate, self.mesh_ca, self.root_ca, self.receipt)
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def parse_bundle(raw: bytes) -> Bundle:
    """The bundle in *raw*, which ends with its last part.

    Raises:
        BundleError: truncated, too long, empty parts, or another version.
    """
    at = 0
    parts: list[bytes] = []
    for limit in (1, MAX_CERTIFICATE, MAX_CERTIFICATE, MAX_CERTIFICATE, MAX_CERTIFICATE, MAX_RECEIPT):
        length = int.from_bytes(raw[at : at + 4], "big")
        if len(raw) < at + 4 or len(raw) < at + 4 + length:
            raise BundleError(f"the bundle ends within part {len(parts)}: {len(raw)} bytes are not a whole bundle")
        if not 0 < length <= limit:
            raise BundleError(f"part {len(parts)} of the bundle has {length} bytes, 1 to {limit} are allowed")
        parts.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(raw):
        raise BundleError(f"{len(raw) - at} bytes follow the bundle's last part")
    version, leaf, intermediate, mesh_ca, root_ca, receipt = parts
    if version != bytes([BUNDLE_VERSION]):
        raise BundleError(
            f"bundle version {version[0]}, this program reads version {BUNDLE_VERSION}: use matching versions"
        )
    return Bundle(leaf=leaf, intermediate=intermediate, mesh_ca=mesh_ca, root_ca=root_ca, receipt=receipt)


def bundle_digest(raw: bytes) -> bytes:
    """SHA-256 of the packed bundle, to which secrets are bound."""
    return hashlib.sha256(raw).digest()
