"""Running a witness: its state directory, its server, until a signal. What it answers stands elsewhere."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from ledger.errors import LedgerError
from ledger.note import KeyType, VerifierKey
from ledger.witness import AcceptedFork
from ledger.witness_store import WitnessStore
from witness.keys import WitnessKeys, make_keys, read_keys
from witness.server import WitnessService, make_app

_LOG_TYPES: Final = frozenset({KeyType.ED25519, KeyType.ECDSA})
_HEADER_BYTES: Final = 8190


class WitnessSetupError(LedgerError):
    """A witness cannot be started so; the message says why and what to do."""

    code = "bad_witness_setup"


def open_state(folder: Path, name: str | None) -> tuple[WitnessStore, WitnessKeys]:
    """Open the state in *folder*; with *name* make it where there is none.

    Raises:
        WitnessSetupError: there is none and no name is given, it has another name, or a half of it is missing.
        LedgerError: it is damaged.
    """
    keys = read_keys(folder)
    if keys is None:
        if name is None:
            raise WitnessSetupError(f"there is no witness in {folder} yet: name it with --name, once")
        if (folder / "data.mdb").exists():
            raise WitnessSetupError(f"{folder} holds a witness's memory without its keys: restore witness.key")
        # The memory first: a crash in between leaves no keys that ever signed.
        store = WitnessStore(folder, create=True)
        return store, make_keys(folder, name)
    seen = keys.ed25519.key.name
    if name not in {None, seen}:
        raise WitnessSetupError(f"the witness in {folder} is called {seen}, not {name}")
    return WitnessStore(folder), keys


def logs_of(keys: Sequence[VerifierKey]) -> dict[str, list[VerifierKey]]:
    """The logs to cosign, by origin. Raises WitnessSetupError for a key that signs no checkpoints."""
    logs: dict[str, list[VerifierKey]] = {}
    for key in keys:
        if key.type not in _LOG_TYPES:
            raise WitnessSetupError(f"the key of {key.name} signs no checkpoints by itself: give the log's Ed25519 key")
        logs.setdefault(key.name, []).append(key)
    return logs


async def run_witness(
    store: WitnessStore,
    keys: WitnessKeys,
    logs: dict[str, list[VerifierKey]],
    *,
    host: str,
    port: int,
    listening: Callable[[int], None],
) -> None:
    """Serve until SIGTERM or SIGINT; *listening* is told the port. Raises OSError if it cannot listen."""
    _log_json()
    for origin in logs:
        for fork in store.forks(origin):
            log_fork(origin, fork)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = make_app(WitnessService(store, keys.cosigners, logs, _clock_s))
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, keepalive_timeout=75.0, shutdown_timeout=5.0,
        max_line_size=_HEADER_BYTES, max_field_size=_HEADER_BYTES, auto_decompress=False,
    )  # fmt: skip
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        listening(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()


def log_fork(origin: str, fork: AcceptedFork) -> None:
    """Say that this witness was made to give up a history: when it happens, and at every start from then on."""
    _log_json()
    structlog.get_logger("witness").warning(
        "fork_accepted",
        origin=origin,
        at_s=fork.time_s,
        old=f"{fork.old_size}:{fork.old_root.hex()}",
        new=f"{fork.new_size}:{fork.new_root.hex()}",
    )


def _clock_s() -> int:
    return int(time.time())  # noqa: TID251 - a program's shell is where the clock is read


def _log_json() -> None:
    """One JSON object a line on stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),  # Whatever was configured in this process before.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
