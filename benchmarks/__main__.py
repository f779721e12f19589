"""All benchmarks, each in a process of its own; what they say goes to build/bench.json. ``make bench``.

``python -m benchmarks [MODULE …]`` runs only those (``ledger_append``), and keeps the other rows of an earlier run. A
ratio compares with a limit measured in the same run, so it means something on a noisy machine; a row that misses the
ratio that is wanted is marked, and the exit code is 1 only when a benchmark failed to run.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
OUTPUT = FOLDER.parent / "build" / "bench.json"
TIMEOUT_S = 1800
NOT_RUN = {"__init__", "__main__", "support", "plots", "ledger_sizes", "ledger_files"}
"""Helpers, and the series for the plots, which ``make plots`` measures."""

WANTED: Mapping[str, float] = {
    "attestation.snp.cold": 0.6,
    "attestation.snp.warm": 0.9,
    "attestation.tdx": 0.9,
    "coordinator.issue": 0.4,
    "coordinator.start.100k": 0.7,
    "ledger.append.c1": 0.25,
    "ledger.append.c64": 0.45,
    "ledger.append.c512": 0.6,
    "ledger.audit.structure.1m": 0.7,
    "ledger.audit.structure.1m.2p": 1.6,
    "ledger.audit.signatures": 0.85,
    "ledger.audit.decisions": 0.6,
    "ledger.proof.build": 0.5,
    "ledger.proof.verify": 0.5,
    "policy.generate.200": 0.4,
    "policy.layers": 0.7,
    "policy.layers.pull": 0.7,
    "verify.1m": 0.3,
}
"""Row -> the ratio that it should reach at least."""


def modules(arguments: list[str]) -> list[str]:
    """The benchmark modules to run, by name."""
    found = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NOT_RUN)
    asked = [Path(argument).stem for argument in arguments]
    unknown = [name for name in asked if name not in found]
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(found)}")
    return asked or found


def main() -> None:
    """Run, print a table, write the file."""
    rows: dict[str, dict[str, object]] = {}
    asked = modules(sys.argv[1:])
    if sys.argv[1:] and OUTPUT.is_file():
        rows = json.loads(OUTPUT.read_text("utf-8"))
    failed = []
    for name in asked:
        began = time.monotonic()
        print(f"{name} …", flush=True, end=" ", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            cwd=FOLDER.parent,
        )
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        try:
            rows |= json.loads(done.stdout) if not done.returncode else {}
        except ValueError:
            done.returncode = 1
        if done.returncode:
            failed.append(name)
            continue
        # Written after each, so that an interrupted run keeps what it has measured.
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n", "utf-8")
    print(f"{'row':32} {'value':>12} {'limit':>12} {'ratio':>7} {'wanted':>7}  unit")
    for name, row in sorted(rows.items()):
        print(_line(name, row))
    print(f"load average {os.getloadavg()[0]:.1f}; written to {OUTPUT.relative_to(FOLDER.parent)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _line(name: str, row: Mapping[str, object]) -> str:
    ratio, wanted = row.get("ratio"), WANTED.get(name)
    mark = "" if wanted is None or not isinstance(ratio, float) or ratio >= wanted else "  below what is wanted"
    cells = [_cell(row.get("value")), _cell(row.get("limit")), _cell(ratio), _cell(wanted)]
    return f"{name:32} {cells[0]:>12} {cells[1]:>12} {cells[2]:>7} {cells[3]:>7}  {row.get('unit', '')}{mark}"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


if __name__ == "__main__":
    main()
