"""Options that several commands share, and addresses as users write them; no command's logic."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

USER_PORT: Final = 1313
PATHS: Final = click.Path(path_type=Path)
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Coordinator listens for operators and data owners."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL of its API."""
        return f"https://{self}"


class AddressType(click.ParamType[Address]):
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT`; the port is 1313 where none is given."""

    name = "host[:port]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Return the address in *value*."""
        if isinstance(value, Address):
            return value
        text = str(value).lower()
        host, port = text, ""
        if "/" in text:
            self.fail(f"{value!r}: wanted HOST[:PORT], without https:// and without a path", param, ctx)
        if text.startswith("["):
            host, closed, rest = text[1:].partition("]")
            if not closed or (rest and not rest.startswith(":")):
                self.fail(f"{value!r}: an IPv6 address is written [ADDRESS]:PORT", param, ctx)
            port = rest.removeprefix(":")
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            self.fail(f"{value!r}: {port!r} is no port", param, ctx)
        if not (_is_ip(host) or _HOST.fullmatch(host)):
            self.fail(f"{value!r} is no host name or address; wanted HOST[:PORT]", param, ctx)
        return Address(host, int(port or USER_PORT))


class DigestType(click.ParamType[bytes]):
    """A SHA-256 in hex."""

    name = "sha256"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the 32 bytes of *value*."""
        if isinstance(value, bytes):
            return value
        if not re.fullmatch(r"[0-9a-f]{64}", str(value)):
            self.fail(f"{value!r} is no SHA-256: wanted 64 characters of lower-case hex", param, ctx)
        return bytes.fromhex(value)


def coordinator_option(function: F) -> F:
    """Add `-c`."""
    return click.option(
        "-c", "--coordinator", required=True, type=AddressType(), help="Address of the Coordinator [port: 1313]."
    )(function)


def manifest_option(help_text: str) -> Callable[[F], F]:
    """Add `-m`."""
    return click.option("-m", "--manifest", "manifest_path", type=PATHS, default=None, help=help_text)


def judging_options(function: F) -> F:
    """Add what a Coordinator is judged by beside a manifest."""
    function = click.option(
        "--allow-simulated",
        is_flag=True,
        help="Accept a simulated platform, named by the file of -m or --reference-values. It protects nothing.",
    )(function)
    return click.option(
        "--coordinator-policy-hash",
        "policy_hashes",
        multiple=True,
        type=DigestType(),
        help="SHA-256 of a Coordinator policy that you reviewed (may be repeated).",
    )(function)


def timeout_option(default: float) -> Callable[[F], F]:
    """Add `--timeout`."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(0, 86_400),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help="How long to try again while nobody answers.",
    )


def new_ledger_option(function: F) -> F:
    """Add `--new-ledger`."""
    return click.option(
        "--new-ledger",
        is_flag=True,
        help="Accept another ledger than the one seen before at this address, and forget the old one.",
    )(function)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
