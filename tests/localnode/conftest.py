"""One simulated vendor for all tests of the local node: RSA keys take their time."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localnode.setup import dev_init

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("initialised")
    dev_init(root, now=NOW)
    return root


@pytest.fixture
def workspace(initialised: Path, tmp_path: Path) -> Path:
    """A workspace of its own, after `contrast dev init`."""
    shutil.copytree(initialised / ".contrast-dev", tmp_path / ".contrast-dev")
    return tmp_path


@pytest.fixture
def write(workspace: Path) -> Callable[[str, str], Path]:
    """Write a file of YAML into the workspace's deployment."""

    def writer(name: str, text: str) -> Path:
        folder = workspace / "deployment"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        return folder

    return writer
