"""`contrast help`: the help of any command, and what belongs to all of them: exit codes, files, completion."""

from typing import Final

import click

from cli.errors import UsageFaultError
from cli.session import example

EXIT_CODES: Final = """\
Exit codes:
  0  done
  1  refused: a verification failed, something differs, the other side said no
  2  usage: the command line asks for something that cannot be
  3  unreachable: nobody answered in time
  4  local files: unreadable, unwritable, full
  130, 141  interrupted; nobody read the output to its end"""

_SUBJECTS: Final = {
    "exit-codes": EXIT_CODES
    + """

`contrast dev guest` ends with the exit code of the program in the guest. With --json a command that fails prints
{"ok": false, "code": …, "message": …, "details": […]} on stdout; `code` is stable, and `usage` for a command line that
cannot be read. The words go to stderr in any case.
""".rstrip(),
    "files": """\
Files of a workspace (the working directory, or --workspace-dir):
  manifest.json              generate   what the owner accepts; edit it, generate keeps what you wrote
  workload-owner.pem         generate   SECRET: signs the next manifest
  seedshare-owner.pem        generate   SECRET: opens a share of the seed; recover needs it
  coordinator-policy.sha256  generate   the policy that a verifier expects of the Coordinator
  images.lock.json           generate   what each image reference meant; commit it beside the YAML
  seed-shares.json           set        the sealed seed; recover needs it, so keep a copy
  coordinator-root.pem       set        root CA of all manifests of this ledger
  mesh-root.pem              set        CA of the manifest in force
  heads.json                 set        how far each ledger was seen: what must never be gone back behind
  verify/                    verify     what was verified: CA certificates, manifests, policies, the ledger
  images/                    yours      OCI layouts that generate looks into before any registry
  .contrast-dev/             dev init   the simulated vendor (SECRET), its reference values, what dev run runs""",
    "completion": """\
Completion of commands and options in your shell:
  bash   eval "$(_CONTRAST_COMPLETE=bash_source contrast)"         # in ~/.bashrc
  zsh    eval "$(_CONTRAST_COMPLETE=zsh_source contrast)"          # in ~/.zshrc
  fish   _CONTRAST_COMPLETE=fish_source contrast | source          # in ~/.config/fish/config.fish""",
}


@click.command(
    name="help",
    short_help="Show the help of a command, or of a subject.",
    epilog=example("contrast help exit-codes\ncontrast help ledger show"),
)
@click.argument("words", nargs=-1, metavar="[COMMAND | exit-codes | files | completion]")
@click.pass_context
def help_command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, or of a subject: exit-codes, files (of a workspace), completion (of the shell)."""
    if len(words) == 1 and words[0] in _SUBJECTS:
        click.echo(_SUBJECTS[words[0]])
        return
    shown = ctx.find_root()
    for word in words:
        group = shown.command
        command = group.get_command(shown, word) if isinstance(group, click.Group) else None
        if command is None:
            raise UsageFaultError(
                f"there is no command `contrast {' '.join(words)}`; `contrast help` lists them, and there are the "
                f"subjects {', '.join(_SUBJECTS)}"
            )
        shown = click.Context(command, info_name=word, parent=shown, **command.context_settings)
    click.echo(shown.get_help())
