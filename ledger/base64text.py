"""Base64 in its one spelling: standard letters, padded, no stray bits. Knows nothing of what it encodes."""

import base64
import binascii


def decode(text: str) -> bytes:
    """The bytes that *text* spells. Raises ValueError, whose words continue a sentence that names *text*."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if encode(raw) != text:
        raise ValueError("has stray bits in its base64")
    return raw


def encode(raw: bytes) -> str:
    """The one spelling of *raw*."""
    return base64.b64encode(raw).decode()
