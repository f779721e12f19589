"""A program made from `docs/formats.md` alone reads what we export: an independent check of the formats."""

import ast
import io
import json
import runpy
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.program import cli
from ledger.tiles import Tile
from tests.conftest import PROJECT

PROGRAM = PROJECT / "examples" / "read_ledger.py"
GOLDEN = PROJECT / "tests" / "golden" / "ledger-v1"
OTHERS = {"base64", "cryptography", "hashlib", "msgpack", "sys", "tarfile", "typing"}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "ledger.tar"
    result = CliRunner().invoke(cli, ["ledger", "export", str(GOLDEN), str(path)])
    assert result.exit_code == 0, result.output
    return path


def read(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", PROGRAM, path], capture_output=True, text=True, check=False)


def changed(export: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Write the tar anew, every file as *change* gives it."""
    with tarfile.open(export) as old, tarfile.open(target, "w") as new:
        for member in old:
            file = old.extractfile(member)
            if file is None:
                continue
            content = change(member.name, file.read())
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return target


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_it_uses_nothing_of_ours() -> None:
    tree = ast.parse(PROGRAM.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} == OTHERS


def test_it_comes_to_the_same_root_and_head(export: Path) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_bytes())
    done = read(export)
    assert done.returncode == 0, done.stderr
    origin, size, root, head = (expected[name] for name in ("origin", "size", "root", "head"))
    assert done.stdout == f"{origin}: {size} entries, root {root}, head {head}\n"


@pytest.mark.parametrize("kind", ["checkpoint", "tile/entries/", "blob/"])
@pytest.mark.parametrize("place", [10, 100, -10])
def test_it_refuses_a_single_bit(export: Path, tmp_path: Path, kind: str, place: int) -> None:
    bad = changed(
        export,
        tmp_path / "bad.tar",
        lambda name, raw: flipped(raw, place) if name.startswith(kind) and len(raw) > 100 else raw,
    )
    assert read(bad).returncode == 1


@pytest.mark.parametrize("number", [0, 1, 255, 999, 1000, 123_456, 999_999, 1_234_067])
@pytest.mark.parametrize("width", [1, 255, 256])
def test_it_finds_the_entries_of_large_ledgers(number: int, width: int) -> None:
    first = number * 256
    bundle = runpy.run_path(str(PROGRAM))["bundle"]
    assert bundle(first, first + width) == (Tile("entries", number, width).path(), width)
