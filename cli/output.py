"""How commands speak: results on stdout, everything else on stderr; what is true is decided elsewhere.

Text that came from outside (a ledger, a peer, a YAML file) passes `clean` first: a terminal obeys control characters.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 200  # Of what is not a table; tables in a pipe are as wide as their cells.
_NARROW: Final = 40  # With less room than this, the last column of a table stands below its row.
LOST_READER: Final = 141  # Exit code of a program whose reader went away, as shells count it: 128 + SIGPIPE.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def clean(text: str) -> str:
    r"""Return *text* with every character that could steer a terminal shown as an escape, line ends included."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char) if unicodedata.category(char) in _UNPRINTABLE else char for char in text)


def _shown(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


class _Bytes(DownloadColumn):
    """Bytes so far and in all; nothing for work that is not counted in bytes."""

    def render(self, task: Task) -> Text:
        """How it stands with *task*."""
        return super().render(task) if task.total is not None or task.completed else Text()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave as programs do that SIGPIPE ends: rich's 1 would say that something was refused."""
        forget_stdout()
        raise SystemExit(LOST_READER)


def forget_stdout() -> None:
    """Send what is still to be written to nobody, so that the interpreter's last flush does not complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def settle_stdout() -> None:
    """Write what is still to be written, or to nobody if that fails: a failure is about to be told, once."""
    try:
        sys.stdout.flush()
    except OSError:
        forget_stdout()


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return _Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=False)).rstrip()


@dataclass(slots=True)
class Output:
    """The two streams of one command.

    In JSON mode stdout carries exactly one document, given to `document`; `say` then writes nothing.
    """

    json_mode: bool = False
    _out: Console = field(default_factory=lambda: _console(stderr=False))
    _err: Console = field(default_factory=lambda: _console(stderr=True))

    def say(self, line: str = "", *, style: str = "") -> None:
        """Print one line of the result for people."""
        if not self.json_mode:
            self._out.print(Text(line, style=style), soft_wrap=True)

    def note(self, line: str) -> None:
        """Print one line of explanation on stderr."""
        self._err.print(Text(line), soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print one warning on stderr."""
        self._err.print(Text.assemble(("warning: ", "bold yellow"), line), soft_wrap=True)

    def banner(self, line: str) -> None:
        """Print a line that must not be overlooked on stderr."""
        if not self._err.is_terminal:  # A frame is for eyes; a log is searched by line.
            self.warn(line)
            return
        self._err.print(Panel(Text(line, style="bold"), border_style="red", expand=False))

    def error(self, message: str, details: Sequence[str] = (), *, code: str = "refused") -> None:
        """Print why a command ends without success: on stderr, and as a document in JSON mode."""
        self._err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
        for line in details:
            self._err.print(Text(f"  {line}"), soft_wrap=True)
        if self.json_mode:
            self.document({"ok": False, "code": code, "message": message, "details": list(details)})

    def document(self, value: object) -> None:
        """Print the one JSON document of this command (JSON mode only)."""
        if self.json_mode:
            self._out.file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
            self._out.file.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table for people: folded to a terminal, one line per row where it goes elsewhere.

        Where a terminal leaves the last column too little room to be read, its cells stand below their rows.
        """
        if self.json_mode:
            return
        cells = [[clean(cell) for cell in row] for row in rows]
        widths = [max(map(cell_len, column), default=0) for column in zip(columns, *cells, strict=True)]
        if not self._out.is_terminal:
            for line in ([title] if title else []) + [_aligned(row, widths) for row in (columns, *cells)]:
                self._out.file.write(line + "\n")
            self._out.file.flush()  # A reader that went away is met here, not in the interpreter's last flush.
            return
        if title:
            self._out.print(Text(title, style="bold"))
        room = self._out.width - sum(width + 2 for width in widths[:-1])
        if room < _NARROW < widths[-1]:
            self._stacked(columns, cells, widths)
            return
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold", header_style="bold")
        for row in cells:
            table.add_row(*map(Text, row))
        self._out.print(table)

    def _stacked(self, columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
        """Print as many columns as fit in a row, and what is left of it below."""
        count = len(columns) - 1
        while count > 1 and sum(width + 2 for width in widths[:count]) - 2 > self._out.width:
            count -= 1
        for style, row in (("bold", columns), *(("", row) for row in rows)):
            self._out.print(Text(_aligned(row[:count], widths), style=style, overflow="fold"))
            if style and count == len(columns) - 1:
                continue  # What stands below needs no name of its own where it is one column.
            below = Text("  ".join(row[count:]), style=style, overflow="fold")
            self._out.print(Padding(below, (0, 0, 0, 4), expand=False))

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show a spinner with *what* while the block runs, only where a person watches."""
        if self.json_mode or not self._err.is_terminal:
            yield
            return
        with self._err.status(Text(what)):
            yield

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[str, int, int], None]]:
        """Show *what* while the block runs, and a bar for every name that is reported, only where a person watches.

        Yields:
            what to call with a name, the bytes that are there, and the bytes there will be (0 while nobody knows).
        """
        if self.json_mode or not self._err.is_terminal:
            yield lambda _name, _done, _total: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), _Bytes())
        with Progress(*columns, console=self._err, transient=True) as bars:
            whole = bars.add_task(what, total=None)
            tasks: dict[str, TaskID] = {}

            def report(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(clean(name), total=None)
                # What is there leaves the screen to what is missing: a terminal has fewer lines than a run has images.
                bars.update(tasks[name], completed=done, total=total or None, visible=not 0 < total <= done)
                ready = sum(not bars.tasks[task].visible for task in tasks.values())
                bars.update(whole, description=f"{what}, {ready} of {len(tasks)} images are here")

            yield report
