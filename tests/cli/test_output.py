"""Text of strangers cannot steer the terminal, and JSON mode prints one document."""

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.output import Output, clean


def test_escapes_of_strangers_are_shown() -> None:
    r"""A SAN of `\x1b[2J` would clear what stood above it."""
    assert clean("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\x0ac\\u202ed"
    assert clean("grüße :doughnut: 🍩") == "grüße :doughnut: 🍩"


@given(st.text())
def test_cleaned_text_has_no_control_characters(text: str) -> None:
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in clean(text))


def test_markup_in_data_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.say("[red]x[/red]")
    out.table("t", ["a"], [["[bold]y"]])
    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed
    assert "[bold]y" in printed


def test_json_mode_prints_exactly_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json_mode=True)
    out.say("for people")
    out.table("t", ["a"], [["b"]])
    out.warn("careful")
    out.document({"a": 1})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"a": 1}
    assert "careful" in printed.err


def test_an_error_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json_mode=True).error("no", ["because"], code="differs")
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "code": "differs",
        "message": "no",
        "details": ["because"],
    }


ROWS = [["3", "2026-11-24 07:49:26.622", "attestation.accepted", "9daeb32c1586", "workload on simulated, " * 12]]
COLUMNS = ["entry", "time (UTC)", "event", "signer", "what it says"]


def test_in_a_pipe_every_row_is_one_line_without_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that is folded is lost to grep."""
    Output().table("", COLUMNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines == [line.rstrip() for line in lines]
    assert lines[0].index("what it says") == lines[1].index("workload")


def test_on_a_narrow_terminal_the_last_column_stands_below_its_row() -> None:
    """Words in a column of a dozen letters are read by nobody."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, no_color=True)
    Output(_out=terminal).table("", COLUMNS, ROWS)
    assert isinstance(terminal.file, io.StringIO)
    lines = terminal.file.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 90 for line in lines)
    assert lines[1].rstrip().endswith("9daeb32c1586")
    assert lines[2].startswith("    workload on simulated, workload on simulated")


def test_in_a_pipe_a_banner_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output().banner("SIMULATED PLATFORM: no hardware")
    assert capsys.readouterr().err == "warning: SIMULATED PLATFORM: no hardware\n"


@pytest.mark.parametrize(
    ("width", "rows"),
    [
        (80, ["entry  time                     signer", "7      2026-11-24 09:01:42.052  9384696e2641", "    x x x"]),
        (34, ["entry  time", "    signer  what it says", "7      2026-11-24 09:01:42.052", "    9384696e2641  x x x"]),
    ],
    ids=["the last", "the last two"],
)
def test_no_word_of_a_table_is_broken_on_a_narrow_terminal(width: int, rows: list[str]) -> None:
    """`ledger.crea` above `ted` is nothing that one can read or search."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, no_color=True)
    output = Output(_out=terminal)
    output.table(
        "", ["entry", "time", "signer", "what it says"], [("7", "2026-11-24 09:01:42.052", "9384696e2641", "x " * 60)]
    )
    assert isinstance(terminal.file, io.StringIO)
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in terminal.file.getvalue().splitlines()]
    assert shown[: len(rows) - 1] == rows[:-1]
    assert shown[len(rows) - 1].startswith(rows[-1][: width - 8])
