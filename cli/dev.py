"""`contrast dev`: a simulated platform, to try everything on one machine; all of it lives in `localnode`."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from cli.attesting import patiently
from cli.errors import RefusedError
from cli.options import PATHS
from cli.output import Output, clean
from cli.session import Session, example, json_option
from images.cache import cache_directory
from localnode.detach import start_detached, status, stop
from localnode.errors import LocalNodeError
from localnode.guest import MESH_PORT, find_coordinator, run_in_guest
from localnode.node import NodeSettings, run_node
from localnode.rundir import DevFolder
from localnode.setup import dev_init
from localnode.status import Status
from wire.client import CoordinatorClient

_PATIENCE_S: Final = 20.0  # For a Coordinator that was started just before, and replays its ledger.


class CommandAfterDashes(click.Command):
    """A command whose arguments after the first `--` are another program and its arguments, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set apart what follows `--`, which click would mix with the paths."""
        if "--" in args:
            at = args.index("--")
            ctx.meta["cli.dev.command"] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show what belongs after the dashes."""
        return [*super().collect_usage_pieces(ctx), "--", "PROGRAM", "[ARGUMENTS]..."]


def _reporter(session: Session) -> Callable[[Status], None]:
    """Return what prints one status: a line for people, or one JSON line for programs as it happens."""

    def report(item: Status) -> None:
        click.echo(item.json() if session.output.json_mode else clean(item.line()))

    return report


@click.group(
    epilog=example(
        """contrast dev init
contrast generate deployment/
contrast dev guest --pod coordinator deployment/ -- contrast-coordinator --ledger ledger &
contrast set -c 127.0.0.1:1313 -m manifest.json --allow-simulated deployment/
contrast dev run --detach deployment/"""
    )
)
def dev() -> None:
    """Try everything on one machine, on a simulated platform.

    A software stand-in for the secure processor signs the same reports with a vendor chain of its own. It protects
    nothing, so every command that trusts it needs --allow-simulated and a file that names its anchor.
    """


@dev.command(
    short_help="Make a simulated vendor, reference values and images.",
    epilog=example("contrast dev init\ncontrast dev init --product Turin --vlek"),
)
@click.option(
    "--product",
    type=click.Choice(["Milan", "Genoa", "Turin"]),
    default=None,
    help="Processor to imitate [default: Milan].",
)
@click.option("--vlek", is_flag=True, help="Sign with a key of a cloud provider (VLEK), as on AWS, not of the chip.")
@json_option
@click.pass_obj
def init(session: Session, product: str | None, *, vlek: bool) -> None:
    """Make a simulated vendor chain, its reference values and development images for this workspace."""
    now = datetime.now(UTC)  # noqa: TID251 a command is where the clock is read
    with session.output.working("making a simulated vendor chain and development images"):
        prepared = dev_init(session.workspace.root, now=now, product=product, vlek=vlek)
    out = session.output
    out.document(
        {
            "created": prepared.created,
            "product": prepared.product,
            "provider": prepared.provider,
            "fingerprint": prepared.fingerprint,
            "measurement": prepared.measurement,
            "reference_values": str(prepared.reference_values),
            "images": dict(prepared.images),
        }
    )
    made = "made" if prepared.created else "kept, it was there already"
    out.say(f"simulated vendor chain {made}: {session.workspace.shown(session.workspace.dev)}/")
    signs = "a VCEK of its own" if prepared.provider is None else f"a VLEK of {prepared.provider}"
    out.say(f"its chip is a {prepared.product} and signs with {signs}")
    out.say(f"fingerprint of its root: {prepared.fingerprint}")
    out.say(f"reference values: {session.workspace.shown(prepared.reference_values)}")
    for name, reference in sorted(prepared.images.items()):
        out.say(f"image {name}: {reference}")


@dev.command(
    short_help="Run a program in the simulated guest of one pod.",
    cls=CommandAfterDashes,
    epilog=example("contrast dev guest --pod coordinator deployment/ -- contrast-coordinator --ledger ledger &"),
)
@click.option(
    "--pod", required=True, metavar="NAME", help="The workload in the YAML whose policy the guest is launched with."
)
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address that the program listens on.")
@click.argument("paths", nargs=-1, required=True, type=PATHS)
@click.pass_context
def guest(ctx: click.Context, pod: str, bind: str, paths: tuple[Path, ...]) -> None:
    """Run a program in the simulated guest of one pod: everything after `--`."""
    session: Session = ctx.obj
    command: tuple[str, ...] = ctx.meta.get("cli.dev.command", ())
    if not command:
        raise click.UsageError("name the program to run in the guest after `--`", ctx)
    code = asyncio.run(
        run_in_guest(session.workspace.root, paths, pod=pod, command=command, environ=dict(os.environ), bind=bind)
    )
    ctx.exit(code)


@dev.command(
    short_help="Run the pods of the YAML, each in a simulated guest.",
    epilog=example("contrast dev run --detach deployment/\ncontrast dev stop"),
)
@click.option(
    "--detach",
    is_flag=True,
    help="Return when every pod is ready, and leave them running. Needs a Coordinator with a manifest.",
)
@click.option(
    "--network",
    default=None,
    metavar="127.X.Y.0/24",
    help="Addresses for the pods [default: from the workspace's path].",
)
@click.option(
    "--load-balancer", default="127.0.0.1", show_default=True, help="Address of Services of type LoadBalancer."
)
@click.option("--coordinator", default=None, metavar="HOST:PORT", help="Mesh API of a Coordinator that runs elsewhere.")
@click.option("--images", multiple=True, type=PATHS, help="More folders with OCI layouts.")
@click.argument("paths", nargs=-1, required=True, type=PATHS)
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    *,
    detach: bool,
    network: str | None,
    load_balancer: str,
    coordinator: str | None,
    images: tuple[Path, ...],
    paths: tuple[Path, ...],
) -> None:
    """Run the pods of the YAML, each in a simulated guest, as node, Kata and kubelet would."""
    session: Session = ctx.obj
    settings = NodeSettings(
        root=session.workspace.root,
        paths=paths,
        network=network,
        load_balancer=load_balancer,
        coordinator=coordinator,
        images=(*images, cache_directory(os.environ)),  # What `generate` pulled is found by its digest.
    )
    report = _reporter(session)
    if detach:
        asyncio.run(demand_manifest(settings.root, coordinator, session.output))
        try:
            ctx.exit(start_detached(settings, environ=dict(os.environ), report=report))
        except KeyboardInterrupt:
            with contextlib.suppress(LocalNodeError):
                if any(item.subject != "coordinator" for item in status(settings.root)):
                    session.output.note("the pods go on in the background: `contrast dev status`, `contrast dev stop`")
            raise
    ctx.exit(asyncio.run(run_node(settings, environ=dict(os.environ), report=report)))


@dev.command(
    short_help="Stop what `contrast dev run --detach` started.", name="stop", epilog=example("contrast dev stop")
)
@json_option
@click.pass_context
def stop_command(ctx: click.Context) -> None:
    """Stop what `contrast dev run --detach` started in this workspace, and nothing else."""
    stopped: list[Status] = []
    report = _reporter(ctx.obj)

    def tell(item: Status) -> None:
        stopped.append(item)
        report(item)

    code = stop(ctx.obj.workspace.root, report=tell)
    if not stopped:
        ctx.obj.output.note("nothing that `contrast dev run` started runs here")
    with contextlib.suppress(LocalNodeError):
        for item in status(ctx.obj.workspace.root):
            ctx.obj.output.note(f"the Coordinator goes on: {item.detail}; `kill` ends it")
    ctx.exit(code)


@dev.command(name="status", epilog=example("contrast dev status"))
@json_option
@click.pass_obj
def status_command(session: Session) -> None:
    """Show the pods of this workspace."""
    report = _reporter(session)
    found = status(session.workspace.root)
    for item in found:
        report(item)
    if [item.subject for item in found] == ["coordinator"]:
        session.output.note("no pods run: start them with `contrast dev run deployment/`")


async def demand_manifest(root: Path, given: str | None, output: Output) -> None:
    """Refuse to wait for pods that no Coordinator can give certificates to.

    Args:
        root: the workspace.
        given: `HOST:PORT` of a Coordinator that runs elsewhere.
        output: told while a Coordinator does not answer yet.

    Raises:
        RefusedError: no Coordinator runs in this workspace, or it is not active; with the command that comes first.
        NoAnswerError: it does not answer.
    """
    found = find_coordinator(DevFolder.of(root))
    if given is None and found is None:
        raise RefusedError(
            "no Coordinator runs in this workspace, and every pod needs a certificate of it: start one with `contrast "
            "dev guest --pod coordinator deployment/ -- contrast-coordinator --ledger ledger &`, then `contrast set`"
        )
    address = given if found is None or given is not None else f"{found.address}:{found.user_port}"
    async with CoordinatorClient(address or "", port=MESH_PORT) as client:

        async def ask() -> str:
            # What it says is not judged: this decides only whether waiting makes sense.
            return (await client.fetch_statement(secrets.token_bytes(32))).statement.state

        state = await patiently(ask, timeout_s=_PATIENCE_S, output=output, what=f"asking {client.address}")
    match state:
        case "empty":
            raise RefusedError(
                f"the Coordinator at {client.address} has no manifest yet, so no pod would get a certificate: run "
                "`contrast set` first"
            )
        case "recovery":
            raise RefusedError(
                f"the Coordinator at {client.address} was restarted and has no seed, so no pod would get a "
                "certificate: run `contrast recover` first"
            )
        case _:
            return
