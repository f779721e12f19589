"""`contrast ledger check-structure`: what is damaged in a copy is named; what is made up is not its matter."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.program import cli
from ledger import segments
from tests.audit.test_insider import Placed
from tests.support.dishonest import Ledger, honest_ledger


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def check(where: str, *options: str) -> Result:
    return CliRunner().invoke(cli, ["ledger", "check-structure", where, *options], prog_name="contrast")


@pytest.mark.parametrize("form", ["folder", "directory"])
def test_helpers_read_folders_too(honest: Ledger, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They open the ledger by its path on their own; what they find must be what this process finds."""
    monkeypatch.setattr(segments, "_WORTH_A_HELPER", 1)
    with Placed(honest.source(), form, tmp_path) as where:
        document = json.loads(check(where, "--json").stdout)
    assert document["ok"]
    assert document["size"] == len(honest.written)
    assert document["signatures_verified"] is False


def test_a_changed_byte_is_refused_with_its_record(honest: Ledger, tmp_path: Path) -> None:
    with Placed(honest.source(), "directory", tmp_path) as where:
        (bundle,) = (Path(where) / "tile" / "entries").iterdir()
        while bundle.is_dir():
            (bundle,) = bundle.iterdir()
        raw = bytearray(bundle.read_bytes())
        raw[len(raw) // 2] ^= 1
        bundle.write_bytes(raw)
        result = check(where)
    assert result.exit_code == 1
    assert "entry " in result.stderr


def test_it_says_what_it_has_not_checked(honest: Ledger, tmp_path: Path) -> None:
    with Placed(honest.source(), "tar", tmp_path) as where:
        result = check(where)
    assert result.exit_code == 0
    assert "not checked: signatures and decisions" in result.stdout
