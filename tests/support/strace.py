"""strace as a saboteur and as a witness: what a victim's system calls on its ledger are, and one of them gone wrong."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SYSCALLS = (
    "write", "writev", "pwrite64", "pwritev", "fdatasync", "fsync", "msync", "ftruncate", "truncate", "rename",
    "openat", "close",
)  # fmt: skip
STRACE = shutil.which("strace")


def need_strace() -> str:
    """The program, or the reason why the test is skipped."""
    if STRACE is None:
        pytest.skip("strace is not installed: faults cannot be injected (apt-get install strace)")
    probe = subprocess.run([STRACE, "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("strace may not trace here (no ptrace permission): faults cannot be injected")
    return STRACE


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the *number*-th call of *syscall* on the ledger's files."""

    syscall: str
    number: int
    action: str  # as strace's inject= takes it

    def __str__(self) -> str:
        return f"{self.syscall} {self.number} {self.action}"


@dataclass(frozen=True, slots=True)
class Acked:
    """What the victim was told to be durable."""

    seq: int
    leaf_hash: bytes
    blob: bytes


def run_victim(mode: str, path: Path, options: Sequence[str] = ()) -> list[str]:
    """Run the victim, under strace if *options* are given; the lines that it managed to say."""
    argv = [sys.executable, "-m", "tests.support.victim", mode, str(path)]
    if options:
        argv = [need_strace(), "-f", "-qq", *options, *argv]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, check=False, timeout=120, env=environ)
    lines = done.stdout.decode().split("\n")
    return lines[:-1]


def acknowledged(lines: Sequence[str]) -> list[Acked]:
    """The acknowledgements among *lines*."""
    words = [line.split() for line in lines if line.startswith("acked ")]
    return [Acked(int(seq), bytes.fromhex(leaf), bytes.fromhex(blob)) for _, seq, leaf, blob in words]


def on_ledger(path: Path) -> list[str]:
    """Options that confine strace to the files of the ledger at *path*."""
    names = (path, path / "data.mdb", path / "lock.mdb", path / "new", path / "new" / "data.mdb", path.parent)
    return [option for name in names for option in ("-P", str(name))]


def count_calls(mode: str, path: Path, log: Path) -> Counter[str]:
    """How often the victim makes each call on its ledger."""
    trace = f"trace={','.join(SYSCALLS)}"
    lines = run_victim(mode, path, ["-o", str(log), *on_ledger(path), "-e", trace])
    assert len(acknowledged(lines)) == 3, lines
    return Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


def run_with_fault(mode: str, path: Path, fault: Fault) -> list[str]:
    """Run the victim with *fault*."""
    inject = f"inject={fault.syscall}:{fault.action}:when={fault.number}"
    options = ["-o", os.devnull, *on_ledger(path), "-e", f"trace={fault.syscall}", "-e", inject]
    return run_victim(mode, path, options)
