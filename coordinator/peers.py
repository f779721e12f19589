"""Who a peer is for limits: one IPv4 address, or one /64 of IPv6, which anybody has to himself. It counts nothing."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def peer_of(address: str) -> str:
    """The peer behind *address*, as the socket names it; an IPv4 address is the same one written in IPv6."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
