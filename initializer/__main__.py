"""The program `contrast-initializer`: reads clock, environment and chance; turns every ending into an exit status."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from attestation.collateral.endorse import PodEndorser, Sources
from attestation.collateral.shelf import Shelf
from attestation.collateral.supply import Supply
from attestation.errors import AttestationError
from attestation.fetch import Fetcher
from attestation.issuer import find_issuer
from initializer.errors import InitializerError, LocalFaultError
from initializer.run import Initializer, World
from initializer.settings import Settings, parse_settings
from wire.client import CoordinatorClient
from wire.memory import keep_memory_private

# A pod that starts does not wait long for its machine's own service: the Coordinator can ask others.
ENDORSEMENT_ATTEMPTS = 2
ENDORSEMENT_TIMEOUT_S = 3.0
STOPPED = 128 + signal.SIGTERM

log = structlog.get_logger("initializer")


def main() -> None:
    """Run the program."""
    keep_memory_private()
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run with these arguments and this environment; returns the exit status that `--help` explains."""
    _log_json()
    try:
        settings = parse_settings(arguments, environ)
        return asyncio.run(start(settings, environ))
    except InitializerError as error:
        log.error("failed", code=error.code, reason=str(error), exit_status=error.exit_status)  # noqa: TRY400 -- No trace.
        return error.exit_status


async def start(settings: Settings, environ: Mapping[str, str]) -> int:
    """Find this guest's processor and run to the end; returns the exit status."""
    sources = Sources.of_pod(environ)
    fetcher = Fetcher(
        chance=secrets.SystemRandom().random,
        proxy=None if sources is None else sources.proxy,
        attempts=ENDORSEMENT_ATTEMPTS,
        timeout_s=ENDORSEMENT_TIMEOUT_S,
    )
    try:
        source = find_issuer(environ, endorser=None if sources is None else _endorser(sources, fetcher))
    except AttestationError as error:
        raise LocalFaultError(str(error)) from error
    world = World(
        connect=lambda: CoordinatorClient(settings.coordinator),
        source=source,
        clock=lambda: datetime.now(UTC),  # noqa: TID251 -- This module is where the clock is read.
        sleep=asyncio.sleep,
        chance=lambda: secrets.randbelow(1 << 20) / (1 << 20),
    )
    log.info("started", coordinator=settings.coordinator, directory=str(settings.directory), evidence=source.kind.value)
    initializer = Initializer(world, settings.directory, settings.attempts)
    async with fetcher:
        return await until_stopped(initializer, renew=settings.renew)


def _endorser(sources: Sources, fetcher: Fetcher) -> PodEndorser:
    """What asks for this guest's own certificates; it asks nobody before there is a report."""
    shelf = Shelf(sources.directory)
    clock_ms = lambda: time.time_ns() // 1_000_000  # noqa: E731 -- As below: the clock is read here.
    return PodEndorser(Supply(fetcher, shelf, clock_ms=clock_ms, monotonic_s=time.monotonic), sources)


async def until_stopped(initializer: Initializer, *, renew: bool) -> int:
    """Run to the end or to the first SIGTERM or SIGINT; returns the exit status."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
    try:
        if renew:
            await initializer.forever()
        else:
            await initializer.once()
    except asyncio.CancelledError:
        log.info("stopped", placed=initializer.placed)
        return 0 if initializer.placed else STOPPED
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError):
                loop.remove_signal_handler(number)
    return 0


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


if __name__ == "__main__":
    main()
