"""What an operator can choose: flags and environment read once into one frozen value. It starts nothing."""

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.budgets import Rate

USER_PORT, MESH_PORT, PROBE_PORT = 1313, 7777, 9102
_ATTEST, _ATTEST_PER_PEER = Rate(128, 32), Rate(64, 4)
_OWNER, _OWNER_PER_PEER = Rate(128, 8), Rate(64, 1)
_REFUSED_PER_PEER = Rate(256, 8)


class SettingsError(Exception):
    """A setting cannot be used; the message names it, its value and what is wanted."""

    code = "bad_setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what strangers can make the Coordinator do. Sizes in bytes, times in seconds."""

    requests_per_peer: int = 64
    requests_per_route: int = 512
    connections: int = 4096
    """Per port; an idle one is closed after 75 s."""
    connections_per_peer: int = 1024
    """Per port, so that one peer cannot hold all of them. Many pods may share an address."""
    attest: Rate = _ATTEST
    """Of the Coordinator's own evidence, for all together: the secure processor serves the whole host."""
    attest_per_peer: Rate = _ATTEST_PER_PEER
    owner: Rate = _OWNER
    owner_per_peer: Rate = _OWNER_PER_PEER
    """Of manifests and recoveries: megabytes to read, before anybody is known. Beyond, one is served at a time."""
    refused_per_peer: Rate = _REFUSED_PER_PEER
    """Of refused requests for certificates: up to three signatures each. Beyond, a few are served at a time."""
    policy_burst: int = 10_000
    policy_refill_per_s: float = 50.0
    body_timeout_s: float = 20.0
    answer_timeout_s: float = 60.0
    """How long a large answer may take to be read; its place is held for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a Coordinator process is told from outside."""

    ledger: Path
    bind: str | None = None
    """The address to listen on; None means all interfaces."""
    user_port: int = USER_PORT
    mesh_port: int = MESH_PORT
    probe_port: int = PROBE_PORT
    leaf_days: int = 365
    map_size: int = 64 * 1024**3
    """Bytes of address space reserved for the ledger's store; the file grows only as it fills."""
    isolated_store: bool = True
    """The store runs in a process of its own, since its file is the host's: a Coordinator always runs in a guest."""
    stop_timeout_s: float = 20.0
    witness_policy: Path | None = None
    """A policy file (C2SP tlog-policy) that names the witnesses to ask; None asks nobody."""
    strict: bool = False
    """Whether certificates and secrets wait for the policy's quorum."""
    witness_timeout_s: float = 10.0
    access_log: bool = False
    log_level: str = "info"
    limits: Limits = Limits()


def parser() -> argparse.ArgumentParser:
    """The command line. Every flag has an environment variable, which the flag overrides."""
    parse = argparse.ArgumentParser(
        prog="contrast-coordinator",
        description="Verifies pods against the manifest, issues certificates, records every decision in a ledger.",
        allow_abbrev=False,
    )
    parse.add_argument("--ledger", metavar="DIR", help="directory of the ledger (CONTRAST_LEDGER)")
    parse.add_argument(
        "--bind", metavar="ADDRESS", help="address to listen on (CONTRAST_BIND; default: all interfaces)"
    )
    for name, port, who in (
        ("user", USER_PORT, "operators, data owners and auditors"),
        ("mesh", MESH_PORT, "workloads"),
        ("probe", PROBE_PORT, "probes and metrics"),
    ):
        parse.add_argument(
            f"--{name}-port",
            metavar="PORT",
            help=f"port for {who} (CONTRAST_{name.upper()}_PORT; default {port}, 0 = any free one)",
        )
    parse.add_argument("--leaf-days", metavar="DAYS", help="life of a workload's certificate (CONTRAST_LEAF_DAYS; 365)")
    parse.add_argument(
        "--witness-policy", metavar="FILE", help="witnesses to ask for cosignatures (CONTRAST_WITNESS_POLICY)"
    )
    parse.add_argument(
        "--strict",
        action="store_true",
        help="let no certificate and no secret leave before a quorum of witnesses has cosigned (CONTRAST_STRICT=1)",
    )
    parse.add_argument(
        "--isolated-store",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the ledger's file in a process without keys and network (CONTRAST_ISOLATED_STORE=0|1; default 1)",
    )
    parse.add_argument("--access-log", action="store_true", help="log every request (CONTRAST_ACCESS_LOG=1)")
    parse.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error (CONTRAST_LOG_LEVEL)")
    return parse


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Settings of the flags, else of the environment, else the defaults.

    Raises:
        SettingsError: A value is missing or out of its range.
        SystemExit: argparse was asked for help or met an unknown flag.
    """
    flags = parser().parse_args(argv)

    def text(flag: str, variable: str, default: str = "") -> str:
        value = getattr(flags, flag)
        return value if isinstance(value, str) else environ.get(variable, default)

    def number(variable: str, default: int, low: int, high: int, *, flag: str = "") -> int:
        given = text(flag, variable, str(default)) if flag else environ.get(variable, str(default))
        return _number(variable, given, low, high)

    ledger = text("ledger", "CONTRAST_LEDGER")
    if not ledger:
        raise SettingsError("no ledger directory: give --ledger DIR or set CONTRAST_LEDGER")
    bind = text("bind", "CONTRAST_BIND") or None
    if bind is not None:
        try:
            ipaddress.ip_address(bind)
        except ValueError:
            raise SettingsError(f"CONTRAST_BIND is {bind!r}, wanted an IP address such as 127.0.0.1") from None
    limits = Limits(
        requests_per_peer=number("CONTRAST_PEER_REQUESTS", 64, 1, 65_536),
        attest=Rate(
            number("CONTRAST_ATTEST_BURST", 128, 1, 1_000_000), number("CONTRAST_ATTEST_REFILL", 32, 1, 1_000_000)
        ),
        requests_per_route=number("CONTRAST_ROUTE_REQUESTS", 512, 1, 65_536),
        policy_burst=number("CONTRAST_POLICY_BURST", 10_000, 1, 10_000_000),
        policy_refill_per_s=number("CONTRAST_POLICY_REFILL", 50, 1, 1_000_000),
    )
    level = text("log_level", "CONTRAST_LOG_LEVEL", "info").lower()
    if level not in {"debug", "info", "warning", "error"}:
        raise SettingsError(f"CONTRAST_LOG_LEVEL is {level!r}, wanted debug, info, warning or error")
    policy = Path(named) if (named := text("witness_policy", "CONTRAST_WITNESS_POLICY")) else None
    strict = flags.strict or environ.get("CONTRAST_STRICT", "") == "1"
    if strict and policy is None:
        raise SettingsError("--strict waits for witnesses: name them with --witness-policy FILE")
    isolated = flags.isolated_store
    if isolated is None:
        isolated = environ.get("CONTRAST_ISOLATED_STORE", "1") != "0"
    return Settings(
        ledger=Path(ledger),
        isolated_store=isolated,
        bind=bind,
        user_port=number("CONTRAST_USER_PORT", USER_PORT, 0, 65_535, flag="user_port"),
        mesh_port=number("CONTRAST_MESH_PORT", MESH_PORT, 0, 65_535, flag="mesh_port"),
        probe_port=number("CONTRAST_PROBE_PORT", PROBE_PORT, 0, 65_535, flag="probe_port"),
        leaf_days=number("CONTRAST_LEAF_DAYS", 365, 1, 3650, flag="leaf_days"),
        map_size=number("CONTRAST_MAP_MIB", 65_536, 1, 16_777_216) * 1024**2,
        witness_policy=policy,
        strict=strict,
        witness_timeout_s=number("CONTRAST_WITNESS_TIMEOUT", 10, 1, 300),
        access_log=flags.access_log or environ.get("CONTRAST_ACCESS_LOG", "") == "1",
        log_level=level,
        limits=limits,
    )


def _number(name: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise SettingsError(f"{name} is {text!r}, wanted a whole number from {low} to {high}")
    return int(text)
