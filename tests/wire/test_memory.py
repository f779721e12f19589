"""What holds keys leaves no copy of its memory behind. A core dump on the host's storage would be the seed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from wire.memory import swapping

CHECK = """
import ctypes, resource
from wire.memory import keep_memory_private
keep_memory_private()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_private_process_cannot_be_dumped() -> None:
    """3 is PR_GET_DUMPABLE of prctl(2)."""
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.split() == ["0", "0", "0"]


@pytest.mark.parametrize("program", ["coordinator", "initializer"])
def test_programs_with_keys_are_private_before_they_make_one(program: str) -> None:
    tree = ast.parse((Path(PROJECT) / program / "__main__.py").read_text())
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    calls = [node.func.id for node in ast.walk(main) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "keep_memory_private" in calls


def test_swap_is_noticed(tmp_path: Path) -> None:
    """A page with the seed would lie on the host's disk for good."""
    table = tmp_path / "swaps"
    assert not swapping(table)
    table.write_text("Filename\tType\tSize\tUsed\tPriority\n")
    assert not swapping(table)
    table.write_text("Filename\tType\tSize\tUsed\tPriority\n/swap.img file 1 0 -2\n")
    assert swapping(table)
