"""What every command shares: workspace, output, the common options; no command's logic."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from cli.output import Output
from cli.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """One run of the program."""

    workspace: Workspace
    output: Output


def _set_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, Session):
        ctx.obj.output.json_mode = True


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_json,
        help="Print one JSON document on stdout.",
    )(function)


def example(text: str) -> str:
    """Return *text* as the epilog of a command, lines kept."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())
