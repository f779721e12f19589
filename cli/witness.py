"""`contrast witness`: a small witness for ledgers, run by a data owner; what it decides stands in `ledger.witness`."""

import asyncio
import ipaddress
import sys
from pathlib import Path
from typing import Any

import click

from cli.errors import LocalFileError, UsageFaultError
from cli.options import PATHS
from cli.receipts import read_keyring
from cli.session import Session, example, json_option
from ledger.errors import NoteError
from ledger.note import VerifierKey
from witness.run import logs_of, open_state, run_witness


class ListenType(click.ParamType[tuple[str, int]]):
    """`ADDRESS:PORT`, an IPv6 address in brackets."""

    name = "address:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return address and port in *value*."""
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            self.fail(f"{value!r}: wanted an address of this machine and a port, as in 127.0.0.1:2024", param, ctx)
        if not (port.isascii() and port.isdigit() and int(port) < 65_536):
            self.fail(f"{value!r}: {port!r} is no port", param, ctx)
        return host, int(port)


class VerifierKeyType(click.ParamType[VerifierKey]):
    """A verifier key in one line, as in `verify/ledger.vkeys`."""

    name = "vkey"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> VerifierKey:
        """Return the key in *value*."""
        if isinstance(value, VerifierKey):
            return value
        try:
            return VerifierKey.parse(str(value).strip())
        except NoteError as error:
            self.fail(str(error), param, ctx)


@click.group(
    short_help="Cosign checkpoints, so that nobody sees a second history.",
    epilog=example(
        "contrast witness init --state ~/witness --name witness.example.com/alice\n"
        "contrast witness run --listen 127.0.0.1:2024 --state ~/witness --vkeys verify/ledger.vkeys"
    ),
)
def witness() -> None:
    """Cosign checkpoints of ledgers, so that nobody can be shown a second history.

    A witness remembers the newest checkpoint of each ledger and cosigns only what extends it. Run one on a machine that
    the Coordinator's host does not control.
    """


@witness.command(
    short_help="Make a witness's keys and its empty memory.",
    epilog=example("contrast witness init --state ~/witness --name witness.example.com/alice"),
)
@click.option("--state", type=PATHS, required=True, help="Directory for its keys and its memory.")
@click.option("--name", required=True, help="Its name in signature lines.")
@json_option
@click.pass_obj
def init(session: Session, *, state: Path, name: str) -> None:
    """Make a witness's keys and its empty memory, and print its verifier keys.

    A policy names one of the two: Ed25519 is short, ML-DSA-44 outlives quantum computers.
    """
    store, keys = open_state(state, name)
    store.close()
    session.output.document({"ok": True, "vkeys": [str(key) for key in keys.public]})
    for key in keys.public:
        session.output.say(str(key))


@witness.command(
    epilog=example("contrast witness run --listen 127.0.0.1:2024 --state ~/witness --vkeys verify/ledger.vkeys")
)
@click.option("--listen", type=ListenType(), required=True, help="Where to listen; port 0 takes any free one.")
@click.option("--state", type=PATHS, required=True, help="Directory of its keys and its memory. Never restore a copy.")
@click.option("--log", "logs", type=VerifierKeyType(), multiple=True, help="Ed25519 key of a ledger to cosign.")
@click.option("--vkeys", "key_paths", type=PATHS, multiple=True, help="The same, out of a ledger.vkeys file.")
@click.option("--name", default=None, help="Its name in signature lines; needed once, when the state is made.")
@json_option
@click.pass_obj
def run(
    session: Session,
    *,
    listen: tuple[str, int],
    state: Path,
    logs: tuple[VerifierKey, ...],
    key_paths: tuple[Path, ...],
    name: str | None,
) -> None:
    """Run a witness (C2SP tlog-witness) until it is interrupted.

    On stdout stand its two verifier keys, of which a policy names one, and then the line that it listens.
    """
    output = session.output
    chosen = logs_of([*logs, *(read_keyring(session, each).ledger for each in key_paths)])
    if not chosen:
        raise UsageFaultError("no ledger to cosign: name one with --log KEY or --vkeys FILE")
    store, keys = open_state(state, name)
    host, port = listen

    def listening(number: int) -> None:
        address = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
        output.document({"url": f"http://{address}", "vkeys": [str(key) for key in keys.public]})
        for key in keys.public:
            output.say(str(key))
        output.say(f"listening on http://{address} for {', '.join(chosen)}")
        sys.stdout.flush()  # Whoever started it as a process waits for this.

    try:
        asyncio.run(run_witness(store, keys, chosen, host=host, port=port, listening=listening))
    except OSError as error:
        raise LocalFileError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    finally:
        store.close()
