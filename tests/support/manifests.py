"""Manifests as documents that a test breaks one place of."""

import copy
import hashlib
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from manifest.model import Manifest
from manifest.parse import parse_manifest

COORDINATOR = "c0" * 32
WEB = "0a" * 32


@cache
def share_owner(bits: int = 3072, number: int = 0) -> rsa.RSAPrivateKey:
    """A seed share owner's key; *number* tells several apart."""
    del number
    return rsa.generate_private_key(65537, bits)


def pkcs1(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)


SNP: dict[str, Any] = {
    "Platform": "Metal-QEMU-SNP",
    "ProductName": "Milan",
    "TrustedMeasurement": "11" * 48,
    "MinimumTCB": {"BootloaderVersion": 3, "TEEVersion": 0, "SNPVersion": 22, "MicrocodeVersion": 211},
    "GuestPolicy": {"ABIMajor": 0, "ABIMinor": 31, "SMT": True, "Debug": False},
    "PlatformInfo": {"SMTEnabled": True, "AliasCheckComplete": True},
    "AllowedChipIDs": ["22" * 64],
}
SIMULATED: dict[str, Any] = {**SNP, "TrustAnchor": "33" * 32, "TrustAnchorSPKI": "44" * 32}
TDX: dict[str, Any] = {
    "Platform": "Metal-QEMU-TDX",
    "MrTd": "55" * 48,
    "MrSeam": "66" * 48,
    "Rtmrs": ["00" * 48, "77" * 48, "00" * 48, "00" * 48],
    "Xfam": "e702060000000000",
    "AllowedPIIDs": ["88" * 16],
}


def document(**changes: Any) -> dict[str, Any]:
    """A manifest with two policies, one owner and one share owner; *changes* replace top-level fields."""
    whole: dict[str, Any] = {
        "Policies": {
            COORDINATOR: {"SANs": ["coordinator"], "Role": "coordinator"},
            WEB: {"SANs": ["web", "*"], "WorkloadSecretID": "apps/v1/Deployment/default/web"},
        },
        "ReferenceValues": {"snp": [SNP]},
        "WorkloadOwnerKeyDigests": ["ab" * 32],
        "SeedshareOwnerPubKeys": [pkcs1(share_owner()).hex()],
    }
    return copy.deepcopy({**whole, **changes})


def raw(**changes: Any) -> bytes:
    return json.dumps(document(**changes), indent=2).encode()


def manifest(**changes: Any) -> Manifest:
    return parse_manifest(raw(**changes))


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
