"""Addresses as a person writes them: `host` or `host:port`. Nothing is resolved here."""

import re

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")


class AddressError(ValueError):
    """A text is no `host` or `host:port`."""

    code = "invalid_address"


def with_port(address: str, port: int) -> str:
    """*address* with *port* where it names none.

    Raises:
        AddressError: it is no `host` or `host:port`.
    """
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise AddressError(f"{address[:100]!r} is no host or host:port (an IPv6 address stands in brackets)")
    if found["port"] is None:
        return f"{address}:{port}"
    if not 0 < int(found["port"]) < 65_536:
        raise AddressError(f"port {found['port']} does not exist, wanted 1 to 65535")
    return address
