"""Addresses and digests are read once and strictly; the help tells the exit codes and shows an example."""

import click
import pytest
from click.testing import CliRunner

from cli.options import AddressType, DigestType
from cli.program import cli


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("coordinator", "coordinator:1313"),
        ("Coordinator.Example.com:99", "coordinator.example.com:99"),
        ("127.0.0.1", "127.0.0.1:1313"),
        ("[::1]:7", "[::1]:7"),
        ("::1", "[::1]:1313"),
    ],
)
def test_addresses_have_one_form(text: str, address: str) -> None:
    """The remembered head is found under it: two spellings would forget."""
    assert str(AddressType().convert(text, None, None)) == address


@pytest.mark.parametrize("text", ["", "https://host", "host:0x1", "host:70000", "a b", "host:1:2", "[::1", "-x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        AddressType().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "0x" + "a" * 62, "g" * 64])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        DigestType().convert(text, None, None)


def help_of(*path: str) -> str:
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_top_help_tells_every_exit_code() -> None:
    text = help_of()
    for line in ("0  done", "1  refused", "2  usage", "3  unreachable", "4  local files"):
        assert line in text


@pytest.mark.parametrize(
    "path",
    [
        ("generate",),
        ("set",),
        ("verify",),
        ("recover",),
        ("ledger", "show"),
        ("ledger", "verify"),
        ("ledger", "replay"),
        ("dev", "init"),
        ("dev", "guest"),
        ("dev", "run"),
        ("dev", "stop"),
        ("dev", "status"),
    ],
    ids=" ".join,
)
def test_every_command_shows_an_example(path: tuple[str, ...]) -> None:
    assert f"contrast {' '.join(path)}" in help_of(*path).partition("Example:")[2]


@pytest.mark.parametrize("path", [(), *[(group,) for group in ("ledger", "witness", "policy", "attestation", "dev")]])
def test_lists_of_commands_are_not_cut_at_80_columns(path: tuple[str, ...]) -> None:
    """Half a sentence for a command is no answer to what it does."""
    said = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).output.partition("Commands:")[2]
    assert said
    assert "..." not in said


def test_an_unknown_option_is_exit_2() -> None:
    assert CliRunner().invoke(cli, ["verify", "--nonsense"]).exit_code == 2


def test_the_version_says_honestly_that_no_platform_is_released() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert result.exit_code == 0
    assert "contrast 0.1.0" in result.output
    assert "reference values: none" in result.output
    assert "--reference-values" in result.output
