"""The program `contrast`: finds the command, turns what went wrong into message and exit code; no command's logic."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from cli.failures import failure_of
from cli.help import EXIT_CODES
from cli.output import LOST_READER, Output, forget_stdout, settle_stdout
from cli.release import release
from cli.session import Session
from cli.workspace import Workspace

_INTERRUPTED: Final = 130  # As shells count it: 128 + SIGINT.

# Loaded when used: `contrast --help` needs neither a Rego engine nor an HTTP client, so what it says stands here too.
_COMMANDS: Final = {
    "generate": ("cli.generate:generate", "Prepare YAML for confidential containers."),
    "set": ("cli.set:set_manifest", "Set the manifest that decides which pods get certificates."),
    "verify": ("cli.verify:verify", "Verify a Coordinator and the whole history of its manifests."),
    "recover": ("cli.recover:recover", "Give a restarted Coordinator its seed back."),
    "audit": ("cli.audit:audit", "Derive every decision of a ledger again, from its evidence."),
    "ledger": ("cli.ledger:ledger", "Look into a ledger, wherever it is."),
    "witness": ("cli.witness:witness", "Cosign checkpoints, so that nobody sees a second history."),
    "policy": ("cli.policy:policy", "Read, compare and question runtime policies."),
    "attestation": ("cli.attestation:attestation", "Look into evidence, and judge it offline."),
    "measure": ("cli.measure:measure", "Compute an SEV-SNP launch measurement."),
    "dev": ("cli.dev:dev", "Try everything on one machine, on a simulated platform."),
    "help": ("cli.help:help_command", "Show the help of a command, or of a subject."),
}


class Program(click.Group):
    """The top command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which one uses them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{name} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; help, version and completion end as commands do when nobody reads on."""
        with _ended_from_outside():
            try:
                return super().main(*args, **extra)
            finally:
                sys.stdout.flush()  # What cannot be written is told here, and not by the interpreter's last flush.

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line, which also prints help and version."""
        # Within click's own `main`, which would turn both ends into exit code 1.
        with _ended_from_outside():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises on purpose becomes a message and an exit code."""
        rest = tuple(ctx.args)
        with _ended_from_outside(ctx):
            try:
                return super().invoke(ctx)
            except click.UsageError as error:
                # Its options were not read to the end, and still whoever asked for a document reads one.
                output = _output(ctx)
                output.json_mode |= "--json" in rest
                output.document({"ok": False, "code": "usage", "message": error.format_message(), "details": []})
                raise
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise  # Click tells them, or nobody is there to be told.
            except Exception as error:  # What is not known here is a defect of ours and goes on as a traceback.
                failure = failure_of(error)
                if failure is None:
                    raise
                settle_stdout()
                _output(ctx).error(failure.message, failure.details, code=failure.code)
                ctx.exit(failure.exit_status)


def _output(ctx: click.Context | None) -> Output:
    """Return how this run speaks, as its options say once they are read."""
    return ctx.obj.output if ctx is not None and isinstance(ctx.obj, Session) else Output()


@contextmanager
def _ended_from_outside(ctx: click.Context | None = None) -> Iterator[None]:
    """End as programs do whose reader went away, or that a person interrupts: neither is a refusal or a success."""
    try:
        yield
    except BrokenPipeError:
        forget_stdout()
        raise SystemExit(LOST_READER) from None
    except KeyboardInterrupt:
        _output(ctx).error("interrupted", code="interrupted")
        raise SystemExit(_INTERRUPTED) from None
    except OSError as error:  # Standard output cannot be written: a full disk, a failed one.
        failure = failure_of(error)
        if failure is None:
            raise
        forget_stdout()
        _output(ctx).error(f"standard output: {failure.message}", failure.details, code=failure.code)
        raise SystemExit(failure.exit_status) from None


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    for line in release().lines():
        click.echo(line)
    ctx.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=f"""\b
{EXIT_CODES}

\b
Example:
  contrast generate deployment/
  kubectl apply -f deployment/coordinator.yml
  contrast set -c coordinator.example.com:1313 -m manifest.json deployment/
  kubectl apply -f deployment/
  contrast verify -c coordinator.example.com:1313 -m manifest.json
  curl --cacert ./verify/mesh-root.pem https://web.example.com/
""",
)
@click.option(
    "--workspace-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=None,
    help="Where manifest, keys and results stand, for every path left at its default [default: the working directory].",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and the reference values that were released with it, and exit.",
)
@click.pass_context
def cli(ctx: click.Context, workspace_dir: Path | None) -> None:
    """Confidential containers that nobody needs to trust, with every decision in a ledger.

    The workload owner prepares YAML (generate) and sets a manifest (set); the data owner verifies the Coordinator and
    the whole history of manifests (verify) and from then on needs only a CA certificate.
    """
    ctx.obj = Session(workspace=Workspace(workspace_dir or Path()), output=Output())


def run() -> None:
    """Run the program with the arguments of this process."""
    cli(prog_name="contrast")
