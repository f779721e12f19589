"""Runs one target under atheris for a bounded time: ``python -m tests.fuzz.NAME``. Needs ``requirements/fuzz.txt``.

``FUZZ_SECONDS`` (60) bounds the whole run, ``FUZZ_INPUT_SECONDS`` (5) one input, ``FUZZ_MEMORY_MB`` (1024) the process.
The corpus is kept in ``build/fuzz/NAME``.
"""

import os
import sys
from pathlib import Path

_CORPUS = Path("build/fuzz")
_OURS = ["attestation", "coordinator", "ledger", "manifest", "wire"]


def main(name: str) -> None:
    """Fuzz the target *name*; what may come out of it is refusals, anything else ends the run with the input saved."""
    try:
        import atheris  # noqa: PLC0415 its wheels exist for fewer Pythons than we support
    except ImportError:
        sys.exit("atheris is not installed here: `make fuzz` runs this in an environment of its own")
    with atheris.instrument_imports(include=_OURS):  # all that is loaded would take half a minute
        from tests.fuzz.every import TARGETS  # noqa: PLC0415 after atheris, which rewrites what it imports
    target = TARGETS[name]
    corpus = _CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:03}").write_bytes(seed)

    def once(data: bytes) -> None:
        try:
            target.read(data)
        except target.refusals:
            return

    limits = [
        f"-max_total_time={os.environ.get('FUZZ_SECONDS', '60')}",
        f"-timeout={os.environ.get('FUZZ_INPUT_SECONDS', '5')}",
        f"-rss_limit_mb={os.environ.get('FUZZ_MEMORY_MB', '1024')}",
        "-max_len=65536",
        f"-artifact_prefix={corpus.parent}/{name}-",
    ]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], once)
    atheris.Fuzz()
