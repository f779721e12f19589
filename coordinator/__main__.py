"""The program ``contrast-coordinator``: reads flags, clock and environment, serves until a signal."""

import asyncio
import dataclasses
import fcntl
import gc
import os
import secrets
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from attestation.collateral.endorse import Endorser, Sources
from attestation.collateral.shelf import Shelf
from attestation.collateral.supply import Supply
from attestation.errors import IssueError
from attestation.fetch import Fetcher
from attestation.issuer import find_issuer
from coordinator import logs
from coordinator.clock import MAX_AHEAD_MS, ClockBehindError
from coordinator.epoch import open_epoch, tls_context
from coordinator.listening import room_for_connections
from coordinator.metrics import Metrics
from coordinator.opening import Opened, open_ledger
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.server import Server
from coordinator.service import Service, World
from coordinator.settings import Settings, SettingsError, read_settings
from coordinator.times import moment, shown
from coordinator.witness_policy import read_witness_policy
from coordinator.witnessing import Witnessing
from ledger.errors import LedgerError, StoreError
from ledger.isolated import IsolatedStore
from ledger.lmdb_store import LmdbStore
from ledger.policyfile import Policy
from ledger.store import Store
from wire.memory import keep_memory_private, swapping
from wire.routes import Port
from wire.witnesses import WitnessClient

EXIT_REFUSED, EXIT_USAGE, EXIT_IO = 1, 2, 4
log = structlog.get_logger("coordinator")


def main() -> None:
    """Entry point of the console script."""
    try:
        settings = read_settings(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.stderr.write(f"contrast-coordinator: {error}\n")
        sys.exit(EXIT_USAGE)
    logs.configure(settings.log_level)
    keep_memory_private()
    sys.exit(run(settings))


def run(settings: Settings) -> int:
    """Run until a signal; the exit code says why it ended."""
    try:
        policy = read_witness_policy(settings)
    except SettingsError as error:
        sys.stderr.write(f"contrast-coordinator: {error}\n")
        return EXIT_USAGE
    settings = _fitted(settings)
    if swapping():
        log.warning(
            "swap_is_on", action="turn it off in the guest: pages with keys would be written to the host's disk"
        )
    os.umask(0o077)  # What this process writes is the ledger, and it is nobody else's to change.
    try:
        fetcher, endorser = _collateral(Sources.of(os.environ))
        issuer = find_issuer(os.environ, endorser=endorser)
        make = IsolatedStore if settings.isolated_store else LmdbStore
        claim = _claim(settings.ledger)
        store = make(settings.ledger, map_size=settings.map_size)
        opened = _replayed(store)
    except BlockingIOError:
        action = "end the other Coordinator first"
        log.error("ledger_in_use", ledger=str(settings.ledger), action=action)  # noqa: TRY400 - as below.
        return EXIT_IO
    except IssueError as error:
        log.error("no_evidence", code=error.code, detail=str(error))  # noqa: TRY400 - said for people, no trace wanted.
        return EXIT_REFUSED
    except (LedgerError, RuleBrokenError, UnprovenError) as error:
        log.error("ledger_refused", code=error.code, detail=str(error))  # noqa: TRY400 - as above.
        return EXIT_REFUSED
    gc.collect()
    gc.freeze()  # What is loaded stays; the collector need not look at it again for every certificate.
    metrics = Metrics()
    epoch = open_epoch(moment(_clock_ms()))
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(max_workers=cores + 1, thread_name_prefix="prepare") as threads:
        world = World(
            issuer=issuer,
            threads=threads,
            clock_ms=_clock_ms,
            monotonic_ms=_monotonic_ms,
            workers=cores,
            endorser=endorser,
        )
        service = Service(opened, epoch, settings, world, metrics, witnessing=_witnessing(policy, settings))
        server = Server(service, settings, metrics, tls_context(epoch))
        try:
            asyncio.run(serve(service, server, fetcher))
        except OSError as error:
            action = "end who listens there, or choose --user-port, --mesh-port, --probe-port or CONTRAST_BIND"
            log.error("cannot_listen", detail=str(error), action=action)  # noqa: TRY400 - as above.
            return EXIT_IO
        finally:
            store.close()
            os.close(claim)
    log.info("stopped")
    return 0


async def serve(service: Service, server: Server, fetcher: Fetcher) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in work."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    refused: OSError | None = None
    async with fetcher, asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        await service.ready.wait()
        try:
            await server.start()
            await stop.wait()
        except OSError as error:  # Kept until the group has ended: what leaves a group is wrapped in another group.
            refused = error
        finally:
            await server.stop()
            service.stop()
    if refused is not None:
        raise refused


def _replayed(store: Store) -> Opened:
    """The ledger in *store*, believed. Raises as :func:`coordinator.opening.open_ledger`."""
    began = time.monotonic()
    opened = open_ledger(store, workers=len(os.sched_getaffinity(0)))
    took_ms = round((time.monotonic() - began) * 1000)
    log.info("opened", size=opened.log.size, generation=opened.state.generation, ms=took_ms)
    newest_ms, now_ms = opened.state.time_ms, _clock_ms()
    if newest_ms > now_ms + MAX_AHEAD_MS:
        log.warning("ledger_ahead", newest_entry=shown(newest_ms), clock=shown(now_ms), action=ClockBehindError.action)
    return opened


def _witnessing(policy: Policy | None, settings: Settings) -> Witnessing:
    return Witnessing(
        policy=policy,
        client=WitnessClient(timeout_s=min(5.0, settings.witness_timeout_s)),
        strict=settings.strict,
        patience_s=settings.witness_timeout_s,
    )


def _collateral(sources: Sources) -> tuple[Fetcher, Endorser]:
    """What asks vendors for collateral, and where it is kept; it asks nobody before it is needed."""
    fetcher = Fetcher(chance=secrets.SystemRandom().random, proxy=sources.proxy)
    supply = Supply(fetcher, Shelf(sources.directory), clock_ms=_clock_ms, monotonic_s=time.monotonic)
    return fetcher, Endorser(supply, sources)


def _fitted(settings: Settings) -> Settings:
    """*settings* with no more connections than this process may have descriptors for."""
    wanted = settings.limits.connections
    most = room_for_connections(wanted, len(Port))
    if most < wanted:
        log.warning("few_descriptors", connections=most, wanted=wanted, action="raise the limit of open files")
    limits = dataclasses.replace(settings.limits, connections=most)
    return dataclasses.replace(settings, limits=limits)


def _claim(ledger: Path) -> int:
    """The directory of the ledger, locked for this process: two that both find it empty would both make a seed.

    Locked before anything is read or made there, and by its inode: a link to it is no second directory.

    Raises:
        BlockingIOError: Another Coordinator has it.
        StoreError: It cannot be made or opened.
    """
    try:
        ledger.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(ledger, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(
            f"the ledger's directory {ledger} cannot be used ({error.strerror}): name one that this user may write"
        ) from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        raise
    return directory


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _monotonic_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000  # Goes on while the machine sleeps.


if __name__ == "__main__":
    main()
