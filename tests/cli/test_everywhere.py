"""Every command of the auditor says the same of a ledger, in whichever of four ways it comes: nothing is imported."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.program import cli
from tests.audit.test_insider import FORMS, Placed
from tests.support.dishonest import Ledger, honest_ledger

COMMANDS: dict[str, list[str]] = {
    "audit": ["audit", "LEDGER", "--json", "--at", "2026-11-25"],
    "show": ["ledger", "show", "LEDGER", "--json"],
    "replay": ["ledger", "replay", "LEDGER", "--at", "8", "--json"],
    "verify": ["ledger", "verify", "LEDGER", "--json"],
    "check-structure": ["ledger", "check-structure", "LEDGER", "--json"],
    "receipt": ["ledger", "receipt", "LEDGER", "--seq", "4"],
    "compare": ["ledger", "compare", "LEDGER", "LEDGER", "--json"],
    "export": ["ledger", "export", "LEDGER", "EXPORT"],
}


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def run(honest: Ledger, command: str, form: str, folder: Path) -> str:
    """What *command* answers; of an export, its digest."""
    folder.mkdir()
    out = folder / "out.tar"
    with Placed(honest.source(), form, folder) as where:
        words = [{"LEDGER": where, "EXPORT": str(out)}.get(word, word) for word in COMMANDS[command]]
        result = CliRunner().invoke(cli, words, prog_name="contrast")
    assert result.exit_code == 0, result.output + str(result.exception or "")
    return hashlib.sha256(out.read_bytes()).hexdigest() if command == "export" else result.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_answer_is_the_same_wherever_the_ledger_lies(honest: Ledger, command: str, tmp_path: Path) -> None:
    answers = {form: run(honest, command, form, tmp_path / form) for form in FORMS}
    assert len(set(answers.values())) == 1, answers
    assert answers["folder"]
