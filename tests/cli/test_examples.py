"""Every command line that help texts and documents show is one that the program takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.program import cli
from tests.conftest import PROJECT
from tests.support.commands import commands

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), *PROJECT.glob("examples/*/README.md")]
COMMANDS = list(commands(cli))
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"^(?:\$ )?((?:[^`\n]*[|&;] )?contrast [a-z].*(?:\\\n.*)*)", re.MULTILINE)  # And no line of output.
INLINE = re.compile(r"`(contrast [^`]*)`")
FILLED_IN = {"5f1c…": "5f" * 32, "$(cat coordinator-policy.sha256)": "5f" * 32, "sha256:…": f"sha256:{'5f' * 32}"}
WITHOUT_JSON = {"help", "dev guest"}  # Words for people; another program's output.


def shown(text: str) -> Iterator[str]:
    """Give the calls of `contrast` in lines of a shell, without comments, pipes and what else stands around them."""
    for line in text.replace("\\\n", " ").splitlines():
        for filled, value in FILLED_IN.items():
            line = line.replace(filled, value)  # noqa: PLW2901 as a person would fill it in
        words = shlex.split(line, comments=True)
        while "contrast" in words:
            words = words[words.index("contrast") + 1 :]
            end = next((n for n, word in enumerate(words) if word in {"|", "&&", "&", ";", ">"}), len(words))
            yield shlex.join(words[:end])


def help_examples() -> Iterator[tuple[str, str]]:
    for path, command in [((), cli), *COMMANDS]:
        told = (command.epilog or "").partition("Example:")[2]
        for line in shown(told):
            yield f"contrast {' '.join(path)}", line


def documented() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for block in FENCE.findall(text):
            for call in CALL.findall(block):
                for line in shown(call):
                    yield document.name, line


EXAMPLES = [*help_examples(), *documented()]


def taken(line: str) -> click.Context:
    """Read *line* as the program does, without doing anything; a usage error is the test's failure."""
    context = cli.make_context("contrast", shlex.split(line))
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, line
        context = command.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_every_command_and_group_shows_an_example_of_itself(path: tuple[str, ...]) -> None:
    command = dict(COMMANDS)[path]
    lines = list(shown((command.epilog or "").partition("Example:")[2]))
    assert any(shlex.split(line)[: len(path)] == list(path) for line in lines), lines


@pytest.mark.parametrize(
    ("where", "line"), EXAMPLES, ids=[f"{number} {where}" for number, (where, _) in enumerate(EXAMPLES)]
)
def test_an_example_is_taken_as_it_stands(where: str, line: str) -> None:
    """The first thing that a newcomer does is to copy it."""
    assert where
    context = taken(line)
    if context.command.name == "help":
        assert context.params["words"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_commands_and_options_within_sentences_exist(document: Path) -> None:
    for text in INLINE.findall(document.read_text("utf-8")):
        words = shlex.split(text.replace("…", ""))[1:]
        command: click.Command = cli
        while words and isinstance(command, click.Group) and re.fullmatch(r"[a-z-]+", words[0]):
            if re.search(r"[|]", words[0]):
                break
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, text
            command = found
        known = {option for param in command.params for option in param.opts}
        for word in words[: words.index("--") if "--" in words else None]:
            assert not word.startswith("--") or word.partition("=")[0] in known, text


def test_programs_can_read_every_command_that_answers_something() -> None:
    silent = {
        " ".join(path)
        for path, command in COMMANDS
        if not isinstance(command, click.Group) and not any("--json" in param.opts for param in command.params)
    }
    assert silent == WITHOUT_JSON
