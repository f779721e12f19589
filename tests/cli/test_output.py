"""Text of strangers cannot steer the terminal, and JSON mode prints one document."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
