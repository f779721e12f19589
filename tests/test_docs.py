"""The documents hold what they promise: named tests exist, named files exist, and the project speaks of itself only."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT

DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
REFERENCE = re.compile(r"`([a-z_/]+\.py)::(test_\w+)`")


def test_the_threat_model_names_tests() -> None:
    assert len(REFERENCE.findall((PROJECT / "docs/threat-model.md").read_text("utf-8"))) > 40


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_test_that_a_document_names_exists(document: Path) -> None:
    missing = []
    for file, name in REFERENCE.findall(document.read_text("utf-8")):
        path = PROJECT / "tests" / file
        if not path.is_file() or not re.search(rf"^(async )?def {name}\(", path.read_text("utf-8"), re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    named = re.findall(r"`((?:docs|tests|k8s|requirements|examples|benchmarks|ledger|coordinator)/[\w./-]+)`", text)
    assert not [name for name in named if not (PROJECT / name).exists()]


def test_the_code_map_names_files_that_are_there() -> None:
    """A reader with a quarter of an hour opens what it names."""
    rows = re.findall(r"^\| `([a-z]+)/` \|(.*)\|$", (PROJECT / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 10
    missing = [
        f"{package}/{name}"
        for package, text in rows
        for name in re.findall(r"`(\w+(?:\.\w+|/))`", text)
        if not (PROJECT / package / name).exists()
    ]
    assert not missing


def test_the_project_names_no_registry_and_no_path_of_a_machine() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True, text=True).stdout
    hosts = re.compile(r"pypi\.|pythonhosted|npmjs\.|crates\.io|proxy\.golang|deb\.debian|/work/main|/root/\.pyenv")
    found = []
    for name in filter(None, files.split("\0")):
        if name == "tests/test_docs.py":
            continue
        try:
            text = (PROJECT / name).read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{name}: {match.group()}" for match in hosts.finditer(text)]
    assert not found
