"""The peer's environment under ``build/``, made when it is first needed from hashed requirements; never ours."""

import base64
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "build" / "peers"
REQUIREMENTS = PROJECT / "requirements" / "peers.txt"
NPM_FOLDER = PROJECT / "build" / "peers-npm"
NPM_REQUIREMENTS = PROJECT / "requirements" / "peers-npm"
"""``package.json`` and its lock, with the hash of every package in it."""


class NoPeerError(RuntimeError):
    """The peer cannot be installed here; the message says why."""


def python() -> Path:
    """The peer's Python, with tinfoil in it.

    Raises:
        NoPeerError: it cannot be installed, for want of a network for example.
    """
    program, ready = FOLDER / "bin" / "python", FOLDER / ".ready"
    if not ready.exists():
        venv.create(FOLDER, with_pip=True, clear=True)
        argv = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        done = subprocess.run([*argv, "-r", str(REQUIREMENTS)], check=False, capture_output=True, text=True)
        if done.returncode:
            raise NoPeerError(f"pip cannot install {REQUIREMENTS.name}: {done.stderr.strip()[-300:]}")
        ready.touch()
    return program


def tinfoil(reports: Sequence[tuple[str, bytes, bytes]], *, rounds: int) -> list[dict[str, Any]]:
    """What tinfoil says of (name, report, VCEK) each, and how long *rounds* verdicts took.

    Raises:
        NoPeerError: see :func:`python`.
    """
    task = {
        "rounds": rounds,
        "reports": [
            {"name": name, "report": base64.b64encode(report).decode(), "vek": base64.b64encode(vek).decode()}
            for name, report, vek in reports
        ],
    }
    argv = [str(python()), str(PROJECT / "benchmarks" / "peers" / "tinfoil_report.py")]
    done = subprocess.run(argv, input=json.dumps(task), check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoPeerError(f"tinfoil does not run: {done.stderr.strip()[-300:]}")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def package() -> Path:
    """The folder of npm's @tinfoilsh/verifier.

    Raises:
        NoPeerError: there is no Node, or the package cannot be installed.
    """
    found, ready = NPM_FOLDER / "node_modules" / "@tinfoilsh" / "verifier", NPM_FOLDER / ".ready"
    if not ready.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise NoPeerError("there is no npm here")
        NPM_FOLDER.mkdir(parents=True, exist_ok=True)
        for path in NPM_REQUIREMENTS.iterdir():
            shutil.copy(path, NPM_FOLDER)
        argv = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=NPM_FOLDER)
        if done.returncode:
            raise NoPeerError(f"npm cannot install {NPM_REQUIREMENTS.name}: {done.stderr.strip()[-300:]}")
        ready.touch()
    return found


def verifier(reports: Sequence[tuple[str, bytes, bytes]]) -> list[dict[str, Any]]:
    """What npm's @tinfoilsh/verifier says of (name, report, VCEK) each.

    Raises:
        NoPeerError: see :func:`package`.
    """
    task = {
        "package": str(package()),
        "reports": [
            {"name": name, "report": base64.b64encode(report).decode(), "vek": base64.b64encode(vek).decode()}
            for name, report, vek in reports
        ],
    }
    argv = ["node", str(PROJECT / "benchmarks" / "peers" / "verifier_report.mjs")]
    done = subprocess.run(argv, input=json.dumps(task), check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoPeerError(f"@tinfoilsh/verifier does not run: {done.stderr.strip()[-300:]}")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


if __name__ == "__main__":
    sys.stdout.write(f"{python()}\n")
