"""The program `contrast`: finds the command, turns what went wrong into message and exit code; no command's logic."""

import importlib
from pathlib import Path
from typing import Any, Final

import click

from cli.failures import failure_of
from cli.output import LOST_READER, Output, forget_stdout
from cli.release import release
from cli.session import Session
from cli.workspace import Workspace

_INTERRUPTED: Final = 130  # As shells count it: 128 + SIGINT.

# Loaded when used: `contrast --help` needs neither a Rego engine nor an HTTP client.
_COMMANDS: Final = {
    "generate": "cli.generate:generate",
    "set": "cli.set:set_manifest",
    "verify": "cli.verify:verify",
    "recover": "cli.recover:recover",
    "audit": "cli.audit:audit",
    "ledger": "cli.ledger:ledger",
    "witness": "cli.witness:witness",
    "policy": "cli.policy:policy",
    "attestation": "cli.attestation:attestation",
    "measure": "cli.measure:measure",
    "dev": "cli.dev:dev",
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
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{name} is no command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises on purpose becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # Click tells them.
        except BrokenPipeError:  # A reader that has seen enough: no refusal, and no success either.
            forget_stdout()
            ctx.exit(LOST_READER)
        except KeyboardInterrupt:
            _output(ctx).error("interrupted", code="interrupted")
            ctx.exit(_INTERRUPTED)
        except Exception as error:  # What is not known here is a defect of ours and goes on as a traceback.
            failure = failure_of(error)
            if failure is None:
                raise
            _output(ctx).error(failure.message, failure.details, code=failure.code)
            ctx.exit(failure.exit_status)


def _output(ctx: click.Context) -> Output:
    return ctx.obj.output if isinstance(ctx.obj, Session) else Output()


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    for line in release().lines():
        click.echo(line)
    ctx.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Exit codes:
  0  done
  1  refused: a verification failed, something differs, the other side said no
  2  usage: the command line asks for something that cannot be
  3  unreachable: nobody answered in time
  4  local files: unreadable, unwritable, full
  130, 141  interrupted; nobody read the output to its end

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


def main() -> None:
    """Run the program."""
    cli(prog_name="contrast")


if __name__ == "__main__":
    main()
