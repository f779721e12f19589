"""The host's clock jumps between preparing and recording. What is recorded must still be what the rules lead to."""

import time
from collections.abc import Callable

import pytest

from attestation.snp.chain import parse_chain
from audit.replay import replay
from coordinator.commands import Command, IssueCertificate, RecoverLedger, SetManifest
from coordinator.opening import open_ledger
from ledger.checked import CheckedSource
from ledger.memory import MemoryStore
from ledger.source import StoreSource
from ledger.writer import Writer
from manifest.model import Policy
from tests.coordinator.test_story import certificate, recover, set_manifest
from tests.support.coordinator import Clock, coordinator
from tests.support.deployment import Deployment, Pod
from wire.problem import RemoteRefusedError

HOUR_MS = 3_600_000


class WallClock(Clock):
    """Only the time of day jumps; no host can turn the monotonic clock back."""

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[Clock, type, int], None]:
    """Move the clock just before the next command of a type is recorded."""
    submit = Writer.submit

    def arrange(clock: Clock, kind: type, by_ms: int) -> None:
        async def late(self: Writer[object, Command, object], command: Command) -> object:
            if isinstance(command, kind) and by_ms not in done:
                done.append(by_ms)
                clock.offset_ms += by_ms
            return await submit(self, command)

        done: list[int] = []
        monkeypatch.setattr(Writer, "submit", late)

    return arrange


def sound(store: MemoryStore) -> None:
    """The ledger opens again, and no auditor finds fault with it."""
    report = replay(CheckedSource.of(StoreSource(open_ledger(store).log)))
    assert report.ok, report.findings


async def test_a_clock_that_goes_back_under_a_set_leaves_a_ledger_that_opens(
    jump: Callable[[Clock, type, int], None],
) -> None:
    """CA certificates that begin after the entry that names them break a rule: nobody could open the ledger again."""
    store, clock = MemoryStore(), WallClock()
    async with coordinator(store, clock=clock) as running:
        await set_manifest(running)
        clock.offset_ms += 5 * HOUR_MS
        jump(clock, SetManifest, -3 * HOUR_MS)
        await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new",))))
        assert running.service.state.generation == 2
    sound(store)


@pytest.mark.parametrize("by_hours", [-3, 24 * 500], ids=["back", "ahead"])
async def test_a_clock_that_jumps_under_a_certificate_accuses_nobody(
    jump: Callable[[Clock, type, int], None], by_hours: int
) -> None:
    """An auditor would find a certificate that was not valid when it was issued."""
    store, clock = MemoryStore(), WallClock()
    async with coordinator(store, clock=clock) as running:
        await set_manifest(running)
        clock.offset_ms += 5 * HOUR_MS
        jump(clock, IssueCertificate, by_hours * HOUR_MS)
        await certificate(running, Pod())
    sound(store)


async def test_a_clock_that_jumps_under_a_recovery_leaves_a_ledger_that_opens(
    jump: Callable[[Clock, type, int], None],
) -> None:
    """Evidence that was judged in time and recorded after its certificates ended would close the ledger for good."""
    store, clock = MemoryStore(), WallClock()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    async with coordinator(store, clock=clock) as running:
        jump(clock, RecoverLedger, 24 * 365 * 40 * HOUR_MS)
        await recover(running, shares)
    sound(store)


async def test_what_breaks_a_rule_is_refused_and_never_recorded() -> None:
    """After the root CA's ten years, or at a clock that says so, a set was recorded: the ledger opened never again."""
    store, clock = MemoryStore(), WallClock()
    async with coordinator(store, clock=clock) as running:
        await set_manifest(running)
        clock.offset_ms += 24 * 365 * 11 * HOUR_MS
        with pytest.raises(RemoteRefusedError):
            await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new",))))
        assert running.service.ledger.size == 3
        clock.offset_ms = 0
        await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new",))))
    sound(store)


async def test_evidence_that_ends_while_it_is_being_recorded_accuses_nobody(
    jump: Callable[[Clock, type, int], None],
) -> None:
    """It was good when it was judged. A replay that says otherwise would also keep the owner from ever recovering."""
    store, clock = MemoryStore(), WallClock()
    end = parse_chain(Pod().guest.evidence(bytes(64))).not_after
    clock.offset_ms = int(end.timestamp()) * 1000 - clock.unix_ms() - 60_000
    async with coordinator(store, clock=clock) as running:
        await set_manifest(running)
        jump(clock, IssueCertificate, 120_000)
        await certificate(running, Pod())
        assert running.service.state.time_ms > end.timestamp() * 1000
    sound(store)
