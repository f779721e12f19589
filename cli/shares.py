"""The file `seed-shares.json`: the sealed seed of a ledger, one share for each owner; nothing is opened here."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cli.errors import RefusedError

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares by owner (SHA-256 of the owner's PKCS#1 DER), and the ledger that they are of."""

    origin: str
    shares: Mapping[bytes, bytes]


def render_shares(origin: str, shares: Mapping[bytes, bytes]) -> bytes:
    """Return the bytes of the file."""
    document = {
        "format": _FORMAT,
        "origin": origin,
        "seed_shares": [
            {"owner": owner.hex(), "sealed": base64.b64encode(sealed).decode()} for owner, sealed in shares.items()
        ],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def parse_shares(raw: bytes, *, name: str) -> Shares:
    """Return what the file *raw* holds.

    Raises:
        RefusedError: it is not one of `render_shares`.
    """
    try:
        document = json.loads(raw)
        shares = {
            bytes.fromhex(item["owner"]): base64.b64decode(item["sealed"], validate=True)
            for item in document["seed_shares"]
        }
        if document["format"] == _FORMAT and isinstance(document["origin"], str):
            return Shares(document["origin"], shares)
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise RefusedError(f"{name}: no seed shares as `contrast set` writes them ({type(error).__name__})") from error
    raise RefusedError(f"{name}: seed shares of an unknown format; use the release that wrote them, or a newer one")
