"""The folders of a workspace that belong to the local node, and the files in them; decides nothing about processes.

Everything is for the owner alone: directories 0700, files 0600. Pods' volumes hold private keys.
"""

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localnode.errors import DevWorkspaceError
from localnode.process import Identity, parse_identity

_MAX_STATE = 1 << 20


@dataclass(frozen=True, slots=True)
class DevFolder:
    """``.contrast-dev/`` of a workspace."""

    root: Path

    @classmethod
    def of(cls, root: Path) -> "DevFolder":
        """That of *root*, as an absolute path: programs get paths of it, and working directories of their own."""
        return cls(root.resolve())

    @property
    def dev(self) -> Path:
        """Everything of the simulated platform."""
        return self.root / ".contrast-dev"

    @property
    def vendor(self) -> Path:
        """The simulated vendor's keys and certificates."""
        return self.dev / "vendor"

    @property
    def reference_values(self) -> Path:
        """What `verify` is given where no manifest is."""
        return self.dev / "reference-values.json"

    @property
    def images(self) -> Path:
        """Development images of Initializer and Coordinator."""
        return self.dev / "images"

    @property
    def run(self) -> Path:
        """What exists only while pods run, and their logs."""
        return self.dev / "run"

    @property
    def node_file(self) -> Path:
        """Who the node's process is."""
        return self.run / "node.json"

    @property
    def coordinator_file(self) -> Path:
        """Where the Coordinator of this workspace listens, and its process."""
        return self.run / "coordinator.json"

    @property
    def processes_file(self) -> Path:
        """Every process that the node started and that has not ended."""
        return self.run / "processes.json"

    @property
    def status_file(self) -> Path:
        """The last status of every pod, one JSON line each."""
        return self.run / "status.jsonl"

    @property
    def hosts_file(self) -> Path:
        """What Service names mean now, for the default namespace; other namespaces have their own beside it."""
        return self.run / "hosts"

    @property
    def node_log(self) -> Path:
        """What a detached node prints."""
        return self.run / "node.log"

    @property
    def pods(self) -> Path:
        """One folder for each pod: root file systems and volumes."""
        return self.run / "pods"

    @property
    def logs(self) -> Path:
        """One file for each container."""
        return self.run / "logs"


def private_folder(path: Path) -> Path:
    """Make *path* a folder for the owner alone.

    Raises:
        DevWorkspaceError: it is a link, or it belongs to somebody else.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise DevWorkspaceError(f"{path} is a link or belongs to somebody else: remove it and run again")
    path.chmod(0o700)
    return path


def fresh_folder(path: Path) -> Path:
    """As `private_folder`, with what was in it removed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    shutil.rmtree(path, ignore_errors=False) if path.exists() else None
    return private_folder(path)


def write_private(path: Path, data: bytes) -> None:
    """Make *path* hold *data* (0600), the old content or the new one, never half of either."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)


def open_log(path: Path) -> int:
    """A descriptor (0600) that appends to the log *path*; the caller closes it."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write_state(path: Path, value: dict[str, Any]) -> None:
    """Make *path* hold *value* as JSON."""
    write_private(path, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")


def read_state(path: Path) -> dict[str, Any] | None:
    """The JSON object that *path* holds; None where there is no such file or it holds something else."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        with path.open("rb") as file:
            value = json.loads(file.read(_MAX_STATE))
        if isinstance(value, dict):
            return value
    return None


def read_identity(path: Path) -> Identity | None:
    """The process that the state file *path* names under ``process``."""
    state = read_state(path)
    with contextlib.suppress(ValueError):
        return None if state is None else parse_identity(state.get("process"))
    return None
