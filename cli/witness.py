"""`contrast witness`: a small witness for ledgers, run by a data owner; what it decides stands in `ledger.witness`."""

import asyncio
import ipaddress
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.cosigned import moment
from cli.errors import LocalFileError, UsageFaultError
from cli.options import PATHS
from cli.receipts import read_keyring
from cli.session import Session, example, json_option
from cli.workspace import read_file
from ledger.errors import NoteError
from ledger.note import VerifierKey
from ledger.witness import AcceptedFork, accept_fork
from witness.run import log_fork, logs_of, open_state, run_witness

F = TypeVar("F", bound=Callable[..., object])


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


class HeadType(click.ParamType[tuple[int, bytes]]):
    """`SIZE:ROOT`, the root in hex."""

    name = "size:root"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, bytes]:
        """Return size and root in *value*."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", str(value))
        if found is None:
            self.fail(f"{value!r}: wanted a head as `contrast witness show` prints it, SIZE:ROOT in hex", param, ctx)
        return int(found[1]), bytes.fromhex(found[2])


def _logs_options(function: F) -> F:
    """Add `--log` and `--vkeys`."""
    function = click.option(
        "--vkeys", "key_paths", type=PATHS, multiple=True, help="The same, out of a ledger.vkeys file."
    )(function)
    return click.option(
        "--log", "logs", type=VerifierKeyType(), multiple=True, help="Ed25519 key of a ledger to cosign."
    )(function)


@witness.command(short_help="Show what a witness remembers.", epilog=example("contrast witness show --state ~/witness"))
@click.option("--state", type=PATHS, required=True, help="Directory of its keys and its memory.")
@json_option
@click.pass_obj
def show(session: Session, *, state: Path) -> None:
    """Show what a witness remembers of each ledger, and every history that it was made to give up."""
    store, keys = open_state(state, None)
    try:
        logs = [(known, known.note.partition(b"\n")[0].decode()) for known in store.all_known()]
        found = [(known, origin, store.forks(origin)) for known, origin in logs]
    finally:
        store.close()
    session.output.document(
        {
            "vkeys": [str(key) for key in keys.public],
            "logs": [
                {
                    "origin": origin,
                    "size": known.size,
                    "root": known.root.hex(),
                    "time_s": known.time_s,
                    "accepted_forks": [_fork_json(fork) for fork in forks],
                }
                for known, origin, forks in found
            ],
        }
    )
    for known, origin, forks in found:
        session.output.say(f"{origin}\n  {known.size}:{known.root.hex()}, cosigned {moment(known.time_s)}")
        for fork in forks:
            session.output.say(f"  {_fork_text(fork)}", style="bold red")


@witness.command(
    name="accept-fork",
    short_help="Go on with another history of a ledger: its operator's decision.",
    epilog=example(
        "contrast witness accept-fork --state ~/witness --vkeys verify/ledger.vkeys --old 7:5f1c… --new checkpoint"
    ),
)
@click.option("--state", type=PATHS, required=True, help="Directory of its keys and its memory.")
@click.option("--old", type=HeadType(), required=True, help="The head to give up, as `contrast witness show` says it.")
@click.option("--new", "new_path", type=PATHS, required=True, help="Finished checkpoint of the ledger to go on with.")
@_logs_options
@json_option
@click.pass_obj
def accept_fork_command(
    session: Session,
    *,
    state: Path,
    old: tuple[int, bytes],
    new_path: Path,
    logs: tuple[VerifierKey, ...],
    key_paths: tuple[Path, ...],
) -> None:
    """Make this witness give up the history of a ledger that it knows, and cosign another one from now on.

    For the day after `contrast recover --accept-fork-UNSAFE`: the storage is lost for ever, everybody concerned knows
    it, and the new ledger says it (`ledger.fork_accepted`). Until then do nothing: a witness that refuses is right.
    It is recorded in the witness's state for good, logged now and at every start, and no request can ask for it.
    """
    chosen = _chosen(session, logs, key_paths)
    note = read_file(new_path, what="checkpoint")
    origin = note.partition(b"\n")[0].decode("utf-8", "replace")
    store, keys = open_state(state, None)
    now_s = int(datetime.now(UTC).timestamp())  # noqa: TID251 a command is where the clock is read
    try:
        fork = store.accept_fork(
            origin, lambda known: accept_fork(note, chosen, known, keys.cosigners, old=old, now_s=now_s)
        )
    finally:
        store.close()
    log_fork(origin, fork)
    session.output.document({"ok": True, "origin": origin, **_fork_json(fork)})
    session.output.banner(
        f"THIS WITNESS VOUCHES FOR ANOTHER HISTORY NOW of {origin}: {_fork_text(fork)}. Tell whoever relied on it."
    )


def _fork_json(fork: AcceptedFork) -> dict[str, object]:
    return {
        "time_s": fork.time_s,
        "old": f"{fork.old_size}:{fork.old_root.hex()}",
        "new": f"{fork.new_size}:{fork.new_root.hex()}",
    }


def _fork_text(fork: AcceptedFork) -> str:
    return (
        f"gave up {fork.old_size}:{fork.old_root.hex()} for {fork.new_size}:{fork.new_root.hex()}, "
        f"{moment(fork.time_s)}"
    )


def _chosen(session: Session, logs: Sequence[VerifierKey], key_paths: Sequence[Path]) -> dict[str, list[VerifierKey]]:
    chosen = logs_of([*logs, *(read_keyring(session, each).ledger for each in key_paths)])
    if not chosen:
        raise UsageFaultError("no ledger to cosign: name one with --log KEY or --vkeys FILE")
    return chosen


@witness.command(
    epilog=example("contrast witness run --listen 127.0.0.1:2024 --state ~/witness --vkeys verify/ledger.vkeys")
)
@click.option("--listen", type=ListenType(), required=True, help="Where to listen; port 0 takes any free one.")
@click.option("--state", type=PATHS, required=True, help="Directory of its keys and its memory. Never restore a copy.")
@_logs_options
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
    chosen = _chosen(session, logs, key_paths)
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
