"""Names in certificates as a manifest writes them: IP address, URI or DNS name; nothing is issued here."""

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum

MAX_DNS = 253
MAX_URI = 1024

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS = re.compile(rf"(?:\*|(?:\*\.)?{_LABEL}(?:\.{_LABEL})*)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")
_HOST_PORT = re.compile(r"[a-z0-9.-]+:[0-9]{1,5}(?:/.*)?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # What resolvers and browsers read as an address, as 0x7f000001.
# RFC 3986: unreserved, reserved and percent-encoded, nothing else.
_URI = re.compile(r"[a-z][a-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


class SanKind(StrEnum):
    """How a name is written into a certificate."""

    IP = "ip"
    URI = "uri"
    DNS = "dns"


class SanError(ValueError):
    """A text is no name that a certificate may carry."""

    code = "invalid_san"


@dataclass(frozen=True, slots=True)
class San:
    """One subject alternative name; `value` is the text of the manifest."""

    kind: SanKind
    value: str


def parse_san(text: str, *, recorded: bool = False) -> San:
    """The name in *text*: what parses as an IP address is one, what begins with a scheme is a URI, all else is DNS.

    An address is written in its canonical form, a DNS name in lower case and without a final dot; `*` alone and a first
    label `*` are allowed.

    Args:
        text: As the manifest has it.
        recorded: The manifest is in force somewhere: names that readers understand in different ways were allowed once,
            and a ledger that holds some must stay readable. No new one may bring them.

    Raises:
        SanError: it is none of them, or not written in its one form.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass  # No address: a URI or a DNS name.
    else:
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None and not recorded:  # Versions of Python write it differently, and no client matches it.
            raise SanError(f"the address {_cut(text)} is an IPv4 address in IPv6: write {mapped}")
        if "%" in text or (str(address) != text and mapped is None):
            raise SanError(f"the address {_cut(text)} is written {_cut(str(address).partition('%')[0])}")
        return San(SanKind.IP, text)
    if _SCHEME.match(text):
        if len(text) > MAX_URI or not _URI.fullmatch(text):
            raise SanError(f"{_cut(text)} is no URI of at most {MAX_URI} ASCII characters")
        if _HOST_PORT.fullmatch(text) and not recorded:
            raise SanError(f"{_cut(text)} looks like a host with a port: names in certificates have none")
        return San(SanKind.URI, text)
    if len(text) > MAX_DNS or not _DNS.fullmatch(text):
        raise SanError(f"{_cut(text)} is no IP address, URI or DNS name{_advice(text)}")
    last = text.rpartition(".")[2]
    if last.isdigit() or (_NUMBER.fullmatch(last) and not recorded):
        raise SanError(f"{_cut(text)} looks like an IP address and is none")
    return San(SanKind.DNS, text)


def _advice(text: str) -> str:
    if not text.isascii():
        return ": write international names in their xn-- form"
    if text != text.lower():
        return ": write it in lower case"
    if text.endswith("."):
        return ": leave out the final dot"
    return ""


def _cut(text: str) -> str:
    shown = text if len(text) <= 60 else text[:59] + "…"
    return '"' + "".join(letter if letter.isprintable() else "?" for letter in shown) + '"'
