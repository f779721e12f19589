"""The blob that Azure's paravisor leaves in the virtual TPM (NV index 0x01400001): a report, and the data it is about.

Reading only. The report's REPORT_DATA holds the SHA-256 of the runtime data, whose keys are those of the virtual TPM.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from attestation.errors import HclError
from attestation.jsonobject import load_once

MAX_BLOB: Final = 16_384
_HEADER: Final = Struct("<4sIIIIIII")  # Signature, version, size, request type, status, three reserved.
_REPORT_OFFSET: Final = 0x20
_REPORT_SIZE: Final = 0x4A0
_RUNTIME: Final = Struct("<IIIII")  # Size, version, report type, hash type, size of the variable data.
_SNP, _TDX, _SHA256 = 2, 4, 1
_MAX_VERSION: Final = 2
_AK_NAME: Final = "HCLAkPub"
_MIN_MODULUS, _MAX_MODULUS = 256, 512


@dataclass(frozen=True, slots=True)
class HclReport:
    """One blob.

    Attributes:
        report: the SEV-SNP report, 1184 bytes.
        runtime: the JSON that the report is about, as it stands there.
        ak: modulus and exponent of the virtual TPM's attestation key.
        secure_boot, tpm_enabled, console_enabled: what the paravisor says of the VM; None where it says nothing.
    """

    report: bytes
    runtime: bytes
    ak: tuple[int, int]
    secure_boot: bool | None
    tpm_enabled: bool | None
    console_enabled: bool | None

    @property
    def binding(self) -> bytes:
        """What REPORT_DATA must be: the runtime data's SHA-256, and 32 zero bytes."""
        return hashlib.sha256(self.runtime).digest() + bytes(32)


def parse_hcl(raw: bytes) -> HclReport:
    """Read a blob; what follows the runtime data must be zero, as an NV index has a fixed size.

    Raises:
        HclError: it is none, or not about an SEV-SNP report with SHA-256.
    """
    start = _REPORT_OFFSET + _REPORT_SIZE
    if not start + _RUNTIME.size <= len(raw) <= MAX_BLOB:
        raise HclError(f"{len(raw)} bytes, wanted {start + _RUNTIME.size} to {MAX_BLOB}")
    signature, version, *_ = _HEADER.unpack_from(raw)
    if signature != b"HCLA" or not 0 < version <= _MAX_VERSION:
        raise HclError(f"header {signature!r} version {version}, wanted b'HCLA' version 1 or {_MAX_VERSION}")
    _, _, report_type, hash_type, size = _RUNTIME.unpack_from(raw, start)
    begin = start + _RUNTIME.size
    if (report_type, hash_type) != (_SNP, _SHA256):
        seen = f"report type {report_type}{' (TDX)' if report_type == _TDX else ''} and hash {hash_type}"
        raise HclError(f"{seen}, wanted {_SNP} (SEV-SNP) and {_SHA256} (SHA-256)")
    if begin + size > len(raw) or any(raw[begin + size :]):
        raise HclError(f"{size} bytes of runtime data do not fit, or something stands behind them")
    runtime = raw[begin : begin + size]
    document = _object(runtime)
    configuration = document.get("vm-configuration")
    flags = configuration if isinstance(configuration, dict) else {}
    return HclReport(
        raw[_REPORT_OFFSET:start],
        runtime,
        _attestation_key(document),
        _flag(flags, "secure-boot"),
        _flag(flags, "tpm-enabled"),
        _flag(flags, "console-enabled"),
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = load_once(raw)
    except (ValueError, RecursionError) as error:
        raise HclError(f"the runtime data is no JSON: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise HclError("the runtime data is no JSON object")
    return value


def _attestation_key(document: dict[str, Any]) -> tuple[int, int]:
    keys = document.get("keys")
    found = (
        [key for key in keys if isinstance(key, dict) and key.get("kid") == _AK_NAME] if isinstance(keys, list) else []
    )
    if len(found) != 1 or found[0].get("kty") != "RSA":
        raise HclError(f"the runtime data names {len(found)} RSA keys {_AK_NAME}, wanted one")
    modulus, exponent = _number(found[0].get("n")), _number(found[0].get("e"))
    size = (modulus.bit_length() + 7) // 8
    if not _MIN_MODULUS <= size <= _MAX_MODULUS or exponent != 65537 or not modulus & 1:
        raise HclError("the virtual TPM's key is not RSA of 2048 to 4096 bits with exponent 65537")
    return modulus, exponent


def _number(text: object) -> int:
    if not isinstance(text, str) or len(text) > 1024:
        raise HclError("a key's number is no text")
    try:
        return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), "big")
    except (binascii.Error, ValueError):
        raise HclError("a key's number is not base64url") from None


def _flag(document: dict[str, Any], name: str) -> bool | None:
    value = document.get(name)
    return value if isinstance(value, bool) else None
