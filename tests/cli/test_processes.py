"""The program as a process: exit codes, streams, no traceback, and what a pipe sees."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli_world import World

ROOT = Path(__file__).parents[2]


def contrast(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=where,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--version",), 0, ""),
        (("generate", "deployment"), 1, "nothing was written"),
        (("set", "-c", "127.0.0.1:1", "deployment"), 1, "--allow-simulated"),
        (("verify",), 2, "--coordinator"),
        (("verify", "-c", "https://x"), 2, "without https://"),
        (("verify", "-c", "127.0.0.1:1"), 2, "--reference-values"),
        (("set", "-c", "127.0.0.1:1", "--allow-simulated", "--timeout", "0", "deployment"), 3, "127.0.0.1:1"),
        (("recover", "-c", "127.0.0.1:1", "--allow-simulated"), 4, "seed-shares.json: no such file"),
        (("ledger", "show", "nowhere"), 4, "holds no ledger"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_end_has_its_code_and_its_words(
    tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    """Scripts branch on the code, people read the words; a traceback serves neither."""
    World(tmp_path)
    done = contrast(tmp_path, *arguments)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def test_json_mode_tells_a_refusal_on_stdout_and_words_on_stderr(tmp_path: Path) -> None:
    World(tmp_path)
    done = contrast(tmp_path, "generate", "--json", "deployment")
    document = json.loads(done.stdout)
    assert (document["ok"], document["code"]) == (False, "refused")
    assert document["details"]
    assert "nothing was written" in done.stderr


def test_the_workspace_can_be_elsewhere(tmp_path: Path) -> None:
    workspace = tmp_path / "there"
    workspace.mkdir()
    World(workspace)
    done = contrast(
        tmp_path, "--workspace-dir", "there", "set", "-c", "127.0.0.1:1", "--allow-simulated", "--timeout", "0",
        "there/deployment",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr


@pytest.mark.parametrize("writes", ["say('x')", "table('', ['a'], [['b']])", "document({})"])
def test_a_reader_that_went_away_is_neither_a_refusal_nor_a_success(writes: str) -> None:
    """`contrast … | head` with pipefail: 1 would say that a verification failed."""
    program = f"""
import click
from cli.program import Program
from cli.output import Output

@click.command()
def command():
    Output(json_mode={writes.startswith("document")}).{writes}

program = Program("contrast")
program.get_command = lambda ctx, name: command
program(["command"])
"""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_interrupted_command_says_so_and_is_no_refusal(tmp_path: Path) -> None:
    """Ctrl-C while a Coordinator does not answer: 1 would say that it refused."""
    World(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        program = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "set", "-c", f"127.0.0.1:{silent.getsockname()[1]}", "--allow-simulated",
             "deployment"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        peer, _ = silent.accept()
        with peer:
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=60)
    assert program.returncode == 130, said
    assert said.endswith(b"error: interrupted\n")
    assert b"Traceback" not in said
