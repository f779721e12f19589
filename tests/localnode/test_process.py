"""Signals reach the process that was meant, or nobody."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localnode.process import end, identify, is_alive, parse_identity, send


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_is_known_by_number_and_start(child: subprocess.Popen[bytes]) -> None:
    identity = identify(child.pid)
    assert identity is not None
    assert is_alive(identity)
    assert parse_identity(identity.json()) == identity


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another boot"}])
def test_another_process_with_the_same_number_is_left_alone(
    child: subprocess.Popen[bytes], change: dict[str, int | str]
) -> None:
    """`stop` must never end what it did not start, however old the state file is."""
    identity = identify(child.pid)
    assert identity is not None
    stranger = replace(identity, **change)  # type: ignore[arg-type]
    assert not is_alive(stranger)
    assert not send(stranger, signal.SIGKILL)
    assert end([stranger], grace=1) == ()
    assert child.poll() is None


def test_a_process_that_ended_is_nobody(child: subprocess.Popen[bytes]) -> None:
    identity = identify(child.pid)
    assert identity is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identify(child.pid) is None, "a zombie runs no more"
    child.wait()
    assert not send(identity, signal.SIGTERM)
    assert identify(2**22 + 1) is None


def test_who_does_not_go_is_killed() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    identity = identify(process.pid)
    assert identity is not None
    assert end([identity], grace=0.2, group=True) == (identity,)
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"pid": 1, "start_ticks": 5, "boot_id": "x"},
        {"pid": -5, "start_ticks": 5, "boot_id": "x"},
        {"pid": True, "start_ticks": 5, "boot_id": "x"},
        {"pid": 9, "start_ticks": "5", "boot_id": "x"},
        {"pid": 9, "start_ticks": 5},
    ],
)
def test_a_damaged_state_file_names_nobody(value: object) -> None:
    with pytest.raises(ValueError, match="no process"):
        parse_identity(value)


def test_names_with_parentheses_do_not_confuse(tmp_path: Path) -> None:
    """The command's name in /proc is text of the program's choice."""
    (tmp_path / "7").mkdir()
    fields = " ".join(str(n) for n in range(4, 30))
    (tmp_path / "7" / "stat").write_text(f"7 (a) R 1 (b) S {fields}")
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    identity = identify(7, proc=tmp_path)
    assert identity is not None
    assert identity.start_ticks == 22
