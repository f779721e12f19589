"""The bar of an audit: there where a person watches, and nothing of it in files and pipes."""

import pytest

from cli.counting import counting


def test_a_terminal_shows_how_many_of_how_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with counting("entries", quiet=False) as count:
        count(40, 100)
    shown = capsys.readouterr()
    assert "entries" in shown.err
    assert "40/100" in shown.err
    assert not shown.out


@pytest.mark.parametrize(("terminal", "quiet"), [("1", True), ("0", False)])
def test_a_pipe_and_json_show_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: str, quiet: bool
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    with counting("entries", quiet=quiet) as count:
        count(40, 100)
    shown = capsys.readouterr()
    assert not shown.err + shown.out
