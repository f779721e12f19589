"""How commands speak: results on stdout, everything else on stderr; what is true is decided elsewhere.

Text that came from outside (a ledger, a peer, a YAML file) passes `clean` first: a terminal obeys control characters.
"""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 200  # Lines of a pipe are for programs: wide enough that no cell is folded.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def clean(text: str) -> str:
    r"""Return *text* with every character that could steer a terminal shown as an escape, line ends included."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char) if unicodedata.category(char) in _UNPRINTABLE else char for char in text)


def _shown(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


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

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table for people."""
        if self.json_mode:
            return
        table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold", header_style="bold")
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        self._out.print(table)

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
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        with Progress(*columns, console=self._err, transient=True) as bars:
            bars.add_task(what, total=None)
            tasks: dict[str, TaskID] = {}

            def report(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(clean(name), total=None)
                bars.update(tasks[name], completed=done, total=total or None)

            yield report
