"""How the program ends when somebody else ends it: a reader that goes away, Ctrl-C, a full disk, closed streams."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import click
import pytest
from click.testing import CliRunner

from cli import errors
from cli.help import EXIT_CODES
from cli.program import cli
from tests.support.commands import commands

ROOT = Path(__file__).parents[2]
NUMBERS = {"0", "1", "2", "3", "4", "130", "141"}

# Runs `contrast` in a child of its own for each line of stdin, with nobody reading stdout; prints the exit codes.
UNREAD = """
import os, sys
from cli.program import cli, run
lines = sys.stdin.read().splitlines()
read, write = os.pipe()
os.close(read)
for line in lines:
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        sys.argv = ["contrast", *line.split()]
        try:
            run()
        finally:
            sys.stdout.flush()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), line, flush=True)
"""
# Raises KeyboardInterrupt where the module named first is loaded.
INTERRUPTED = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == WANTED:
            raise KeyboardInterrupt
WANTED = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
from cli.main import main
main()
"""


def run(program: str, *arguments: str, stdin: str = "", where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=where,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_help_text_ends_with_a_refusal_when_nobody_reads_it() -> None:
    """`contrast --help | head` under pipefail: 1 would say that a verification failed."""
    lines = ["--help", "--version", "help", "help exit-codes"]
    lines += [f"{' '.join(path)} --help" for path, _ in commands(cli)]
    done = run(UNREAD, stdin="\n".join(lines))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"141 {line}" for line in lines]


@pytest.mark.parametrize("module", ["cli.program", "click", "cli.generate", "cli.help"])
def test_an_interrupt_ends_alike_whatever_is_being_loaded(module: str) -> None:
    """The first third of a second of a command is loading: a traceback or `Aborted!` there is no answer."""
    done = run(INTERRUPTED, module, "help" if module == "cli.help" else "generate", "nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_an_interrupt_while_the_command_line_is_read_ends_alike(
    argument: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Context, "get_help", interrupted)
    monkeypatch.setattr("cli.release.Release.lines", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli([argument], prog_name="contrast")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("help", "files"), ("dev", "status", "--help")], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_exit_4(arguments: tuple[str, ...], unbuffered: str) -> None:
    """Buffered, as in a shell of people, the last bytes meet the disk only when the interpreter ends."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            text=True,
        )
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert done.stderr.splitlines()[0].endswith(os.strerror(errno.ENOSPC))
    assert done.stderr.count(os.strerror(errno.ENOSPC)) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("closed", "status"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), (">&- 2>&- <&-", 0)])
def test_streams_that_somebody_closed_are_no_traceback(closed: str, status: int) -> None:
    """A supervisor may start us without them, and file number 1 must not become a key file's."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m cli.main --version {closed}', sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)


@pytest.mark.parametrize(
    "arguments", ["verify --json", "verify --nope --json", "nope --json", "ledger show --json", "ledger nope --json"]
)
def test_who_asked_for_a_document_gets_one_of_a_wrong_command_line_too(arguments: str) -> None:
    result = CliRunner().invoke(cli, arguments.split(), prog_name="contrast")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"], document["code"]) == (2, False, "usage")
    assert document["message"] in result.stderr
    assert CliRunner().invoke(cli, arguments.split()[:-1]).stdout == ""


def test_the_exit_codes_that_are_told_are_those_that_errors_have() -> None:
    """README and `contrast help exit-codes` are what scripts are written by."""
    told = {word for line in EXIT_CODES.splitlines()[1:] for word in line.split("  ")[1].split(", ")}
    assert told == NUMBERS
    readme = re.search(r"^Exit codes: (.*)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert readme is not None
    assert set(re.findall(r"\b\d+\b", readme.group(1))) == NUMBERS
    used = {str(kind.exit_status) for kind in vars(errors).values() if _is_error(kind)}
    assert used <= told


def _is_error(value: object) -> TypeGuard[type[errors.CliError]]:
    return isinstance(value, type) and issubclass(value, errors.CliError)
