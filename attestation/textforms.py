"""Files as people hand them on: hex, base64, PEM with words around it. Turned into bytes; nothing is asked of them."""

import base64
import binascii
import re
from typing import Final

from attestation.errors import UnknownFormatError

CERTIFICATE: Final = "CERTIFICATE"
REVOCATION_LIST: Final = "X509 CRL"
_HEX: Final = re.compile(rb"(?:0[xX])?([0-9a-fA-F]+)\Z")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2}\Z")
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([^-]*)-----END ([A-Z0-9 ]{1,40})-----")
_BEGIN: Final = b"-----BEGIN "
_SHORTEST: Final = 64


def unwrap(raw: bytes) -> bytes:
    """The bytes that *raw* spells in hex or base64 (also base64url, also without padding), else *raw* itself.

    Nothing that this package reads in bytes is printable throughout and as long as this.
    """
    text = b"".join(raw.split())
    if len(text) < _SHORTEST or is_pem(raw):
        return raw
    spelled = _HEX.match(text)
    if spelled and len(spelled[1]) % 2 == 0:
        return bytes.fromhex(spelled[1].decode("ascii"))
    text = text.translate(bytes.maketrans(b"-_", b"+/"))
    if not _BASE64.match(text):
        return raw
    try:
        return base64.b64decode(text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4), validate=True)
    except binascii.Error:
        return raw


def is_pem(raw: bytes) -> bool:
    """Whether there is a PEM block somewhere in a text."""
    return _BEGIN in raw and b"\0" not in raw


def pem_blocks(raw: bytes) -> tuple[tuple[str, bytes], ...]:
    """The certificates and revocation lists of a text, in its order: (label, DER).

    What stands outside of blocks is passed over (RFC 7468, section 2), as openssl writes it there.

    Raises:
        UnknownFormatError: a block is cut off, holds no base64, or holds something else.
    """
    found = []
    for begin, content, end in _BLOCK.findall(raw):
        label = begin.decode("ascii")
        if begin != end or label not in (CERTIFICATE, REVOCATION_LIST):
            raise UnknownFormatError(f"a PEM block {label!r}, wanted {CERTIFICATE!r} or {REVOCATION_LIST!r}")
        try:
            found.append((label, base64.b64decode(b"".join(content.split()), validate=True)))
        except binascii.Error:
            raise UnknownFormatError(f"the PEM block {label!r} number {len(found) + 1} is not base64") from None
    if len(found) != raw.count(_BEGIN):
        raise UnknownFormatError(f"{raw.count(_BEGIN)} PEM blocks begin and {len(found)} are whole")
    return tuple(found)
