"""What a leaf says beyond X.509: claims, checkpoint, companions, simulated (docs/formats.md section 11). Judges nobody.

All four are non-critical and hold one DER UTF8String. Building and reading stand together, because the Coordinator
writes what the Initializer and an audit read.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509

_ARC: Final = "2.25.39087375090174208149251464183092098787"
CLAIMS_OID: Final = x509.ObjectIdentifier(f"{_ARC}.1")
CHECKPOINT_OID: Final = x509.ObjectIdentifier(f"{_ARC}.2")
COMPANIONS_OID: Final = x509.ObjectIdentifier(f"{_ARC}.3")
SIMULATED_OID: Final = x509.ObjectIdentifier(f"{_ARC}.4")

MAX_TEXT: Final = 8192
_UTF8_STRING: Final = 0x0C
_SIMULATED: Final = "simulated"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_HEX32 = re.compile(r"[0-9a-f]{64}")


class ExtensionError(Exception):
    """A leaf lacks one of our extensions, or has one that is not written in its one form."""

    code = "invalid_extension"


@dataclass(frozen=True, slots=True)
class LeafCheckpoint:
    """The last finished checkpoint before the leaf was issued."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Origin, size and base64 of the root, a line each."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Companions:
    """What belongs to a leaf: SHA-256 of the root CA's DER, and the check of every secret by its id."""

    root_ca: bytes
    secrets: Mapping[str, bytes]

    def text(self) -> str:
        """The one JSON text: sorted keys, no spaces, UTF-8."""
        checks = {secret_id: check.hex() for secret_id, check in self.secrets.items()}
        return _json({"root_ca": self.root_ca.hex(), "secrets": checks})


def claims_extension(claims_json: bytes) -> x509.UnrecognizedExtension:
    """The extension for the verdict's claims, as `attestation.verdict.Claims.json` gives them."""
    return _extension(CLAIMS_OID, claims_json.decode())


def checkpoint_extension(text: str) -> x509.UnrecognizedExtension:
    """The extension for a checkpoint's text (three lines, no signatures)."""
    return _extension(CHECKPOINT_OID, text)


def companions_extension(root_ca_sha256: bytes, checks: Mapping[str, bytes]) -> x509.UnrecognizedExtension:
    """The extension that names the root CA and the secrets."""
    return _extension(COMPANIONS_OID, Companions(root_ca_sha256, checks).text())


def simulated_extension() -> x509.UnrecognizedExtension:
    """The extension that says: no hardware stands behind this certificate."""
    return _extension(SIMULATED_OID, _SIMULATED)


def read_claims(leaf: x509.Certificate) -> Mapping[str, object]:
    """The claims of the evidence for *leaf*. Raises ExtensionError."""
    return _object(_text(leaf, CLAIMS_OID, "claims"), "claims")


def read_checkpoint(leaf: x509.Certificate) -> LeafCheckpoint:
    """The checkpoint that *leaf* carries. Raises ExtensionError."""
    text = _text(leaf, CHECKPOINT_OID, "checkpoint")
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):
        raise ExtensionError("the leaf's checkpoint is not origin, size and root, a line each")
    try:
        checkpoint = LeafCheckpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))
    except (binascii.Error, ValueError):
        raise ExtensionError("the root in the leaf's checkpoint is not base64") from None
    if checkpoint.text() != text or len(checkpoint.root) != 32:
        raise ExtensionError("the root in the leaf's checkpoint is not 32 bytes in canonical base64")
    return checkpoint


def read_companions(leaf: x509.Certificate) -> Companions:
    """What *leaf* names as belonging to it. Raises ExtensionError."""
    text = _text(leaf, COMPANIONS_OID, "companions")
    found = _object(text, "companions")
    root_ca, secrets = found.get("root_ca"), found.get("secrets")
    if not isinstance(root_ca, str) or not isinstance(secrets, dict) or len(found) != 2:
        raise ExtensionError("the leaf's companions are not an object with root_ca and secrets")
    for value in (root_ca, *secrets.values()):
        if not isinstance(value, str) or not _HEX32.fullmatch(value):
            raise ExtensionError("the leaf's companions hold something else than SHA-256 in lower-case hex")
    return Companions(bytes.fromhex(root_ca), {name: bytes.fromhex(check) for name, check in secrets.items()})


def read_simulated(leaf: x509.Certificate) -> bool:
    """Whether *leaf* says that its evidence is simulated. Raises ExtensionError."""
    if not any(extension.oid == SIMULATED_OID for extension in _extensions(leaf)):
        return False
    if _text(leaf, SIMULATED_OID, "mark of simulation") != _SIMULATED:
        raise ExtensionError("the leaf's mark of simulation holds another text")
    return True


def _extension(oid: x509.ObjectIdentifier, text: str) -> x509.UnrecognizedExtension:
    raw = text.encode()
    if len(raw) > MAX_TEXT:
        raise ExtensionError(f"{len(raw)} bytes for the extension {oid.dotted_string}, at most {MAX_TEXT} fit a leaf")
    return x509.UnrecognizedExtension(oid, bytes([_UTF8_STRING]) + _length(len(raw)) + raw)


def _text(leaf: x509.Certificate, oid: x509.ObjectIdentifier, what: str) -> str:
    for extension in _extensions(leaf):
        if extension.oid == oid:
            break
    else:
        raise ExtensionError(f"the leaf has no {what} (extension {oid.dotted_string})")
    if extension.critical or not isinstance(extension.value, x509.UnrecognizedExtension):
        raise ExtensionError(f"the leaf's {what} must be a non-critical extension")
    raw = extension.value.value
    size = len(raw) - 2 if len(raw) < 130 else len(raw) - (3 if len(raw) < 259 else 4)
    header = bytes([_UTF8_STRING]) + _length(max(size, 0))
    if not raw.startswith(header) or len(raw) != len(header) + size or size > MAX_TEXT:
        raise ExtensionError(f"the leaf's {what} is not one UTF8String in DER")
    try:
        return raw[len(header) :].decode()
    except UnicodeDecodeError:
        raise ExtensionError(f"the leaf's {what} is not UTF-8") from None


def _extensions(leaf: x509.Certificate) -> x509.Extensions:
    try:
        return leaf.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise ExtensionError(f"the leaf's extensions cannot be read: {error}") from None


def _length(size: int) -> bytes:
    """A DER length, X.690 section 8.1.3, in its shortest form."""
    if size < 0x80:
        return bytes([size])
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(raw)]) + raw


def _object(text: str, what: str) -> dict[str, object]:
    """The JSON object in *text*, which is the one way to write it: that excludes duplicate keys and odd numbers too."""
    try:
        found = json.loads(text)
        canonical = _json(found)
    except (ValueError, RecursionError):
        raise ExtensionError(f"the leaf's {what} are not JSON") from None
    if not isinstance(found, dict) or canonical != text:
        raise ExtensionError(f"the leaf's {what} are not an object with sorted keys and no spaces")
    return found


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
