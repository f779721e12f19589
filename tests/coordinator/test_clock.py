"""The host's clock jumps between preparing and recording. What is recorded must still be what the rules lead to."""

import time
from collections.abc import Callable

import msgspec
import pytest

from attestation.snp.chain import parse_chain
from audit.replay import replay
from coordinator.clock import ClockJumpedError, SteadyClock
from coordinator.commands import Command, IssueCertificate, RecoverLedger, SetManifest
from coordinator.opening import open_ledger
from coordinator.times import shown
from ledger.checked import CheckedSource
from ledger.memory import MemoryStore
from ledger.source import StoreSource
from ledger.writer import Writer
from manifest.model import Policy
from tests.support.acts import certificate, recover, set_manifest
from tests.support.coordinator import Clock, Running, coordinator
from tests.support.deployment import Deployment, Pod
from wire.bundle import parse_bundle
from wire.problem import RemoteRefusedError
from wire.routes import Port

HOUR_MS = 3_600_000
YEARS_MS = 5 * 365 * 24 * HOUR_MS
UPDATE = Deployment().with_policy(b"# new", Policy(sans=("new",)))


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
        assert running.service.state.time_ms < WallClock().unix_ms() + 6 * HOUR_MS
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


# --- A clock that jumps for a moment dates nothing.


async def test_a_clock_far_ahead_for_a_moment_does_not_date_the_ledger_for_good() -> None:
    """No later entry may be earlier: one certificate dated 2099, and every peer would refuse every later one."""
    store, clock = MemoryStore(), WallClock()
    async with coordinator(store, clock=clock) as running:
        await set_manifest(running)
        clock.offset_ms = YEARS_MS
        for ask in (lambda: certificate(running, Pod()), lambda: set_manifest(running, UPDATE)):
            with pytest.raises(RemoteRefusedError) as caught:
                await ask()
            assert caught.value.code == "clock_jumped"
            assert "elapsed" in (caught.value.problem.wanted or "")
            assert caught.value.retry_after_s == 60
        assert (await probe(running))[0] == 503
        assert "clock_jumped" in (await probe(running))[1]
        clock.offset_ms = 0
        await certificate(running, Pod())
        assert (await probe(running))[0] == 200
        assert running.service.state.time_ms <= clock.unix_ms()
    sound(store)


async def test_a_jump_between_preparing_and_recording_dates_nothing(jump: Callable[[Clock, type, int], None]) -> None:
    """The writer reads the clock once more; by then the host may have moved it."""
    store, clock = MemoryStore(), WallClock()
    async with coordinator(store, clock=clock) as running:
        await set_manifest(running)
        jump(clock, IssueCertificate, YEARS_MS)
        await certificate(running, Pod())
        assert running.service.state.time_ms < clock.unix_ms() - YEARS_MS // 2
    sound(store)


async def test_a_repeated_request_is_answered_whatever_the_clock_says() -> None:
    """It writes nothing, and a pod that lost its answer needs it."""
    clock = WallClock()
    async with coordinator(clock=clock) as running:
        await set_manifest(running)
        pod = Pod()
        async with running.client(Port.MESH) as client:
            request = pod.request((await client.challenge()).nonce)
            first = await client.certificate(request)
            clock.offset_ms = YEARS_MS
            again = await client.certificate(request)
        assert parse_bundle(again.bundle).leaf == parse_bundle(first.bundle).leaf


async def test_a_month_without_power_is_no_jump() -> None:
    """A bound on the distance between two entries would make a machine that was off a dead one."""
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    clock = WallClock()
    clock.offset_ms = 31 * 24 * HOUR_MS
    async with coordinator(store, clock=clock) as running:
        await recover(running, shares)
        await certificate(running, Pod())
    sound(store)


async def test_a_clock_set_right_before_the_recovery_is_believed() -> None:
    """Machines begin with the date of a dead battery, and learn the right one a minute later."""
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    clock = WallClock()
    clock.offset_ms = -YEARS_MS
    async with coordinator(store, clock=clock) as running:
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares)
        assert caught.value.code == "clock_behind"
        clock.offset_ms = 0
        await recover(running, shares)
        await certificate(running, Pod())
    sound(store)


async def test_a_ledger_of_the_future_says_its_time_this_clock_and_what_to_do() -> None:
    """Certificates would not be valid yet, and nobody would know why."""
    store, ahead = MemoryStore(), Clock()
    ahead.offset_ms = YEARS_MS
    async with coordinator(store, clock=ahead) as running:
        shares = await set_manifest(running)
        newest = running.service.state.time_ms
    async with coordinator(store) as running:
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares)
        problem = caught.value.problem
        assert (problem.code, problem.status) == ("clock_behind", 503)
        assert shown(newest) in (problem.seen or "")
        assert shown(running.clock.unix_ms())[:10] in (problem.wanted or "")
        assert "new ledger" in (problem.action or "")
        assert "clock_behind" in (await probe(running))[1]
        assert running.service.phase == "recovery"


async def test_an_owner_whose_clock_differs_begins_no_ledger_and_recovers_none() -> None:
    """A host with a wrong clock at the start would date the ledger before anything can be compared."""
    store, wrong = MemoryStore(), Clock()
    wrong.offset_ms = YEARS_MS
    async with coordinator(store, clock=wrong) as running:
        _, statement = await running.statement()
        request = Deployment().request(statement.origin or "")
        told = msgspec.structs.replace(request, owner_time_ms=Clock().unix_ms())
        async with running.client() as client:
            with pytest.raises(RemoteRefusedError) as caught:
                await client.set_manifest(told)
            assert caught.value.code == "clock_differs"
            assert running.service.ledger.size == 0
            wrong.offset_ms = 0
            await client.set_manifest(told)
        assert running.service.phase == "active"


def test_a_steady_clock_follows_small_steps_and_no_large_ones() -> None:
    """Clocks are corrected by seconds all the time; hours may pass while a machine is paused."""
    wall, elapsed = [1_000_000_000_000], [5_000]
    clock = SteadyClock(wall_ms=lambda: wall[0], monotonic_ms=lambda: elapsed[0])
    for step in (-20 * HOUR_MS, 20 * HOUR_MS):
        wall[0] = 1_000_000_000_000 + step
        assert clock.now_ms() == wall[0]
        assert clock.fault(0) is None
    for step in (-25 * HOUR_MS, 25 * HOUR_MS):
        wall[0] = 1_000_000_000_000 + step
        assert clock.now_ms() == 1_000_000_000_000
        assert isinstance(clock.fault(0), ClockJumpedError)
    elapsed[0] += 3 * HOUR_MS
    assert clock.fault(0) is None
    clock.vouch(wall[0] + 30 * 24 * HOUR_MS)  # By a quorum of witnesses.
    wall[0] += 30 * 24 * HOUR_MS + 5000
    assert clock.now_ms() == wall[0]


def test_a_quorum_with_a_wrong_clock_dates_nothing() -> None:
    """A witness that was once of 2099 says so ever after, and one entry of 2099 dates a ledger for good."""
    wall, elapsed = [1_000_000_000_000], [5_000]
    clock = SteadyClock(wall_ms=lambda: wall[0], monotonic_ms=lambda: elapsed[0])
    clock.vouch(4_070_908_800_000)
    assert clock.now_ms() == wall[0]
    fault = clock.fault(0)
    assert isinstance(fault, ClockJumpedError)
    assert "2099" in str(fault)
    assert "witnesses" in str(fault)
    wall[0] = 4_070_908_800_000
    assert clock.fault(0) is None


def test_a_quorum_that_is_a_little_ahead_is_never_dated_before() -> None:
    """Its signed time stands under the checkpoint: what follows cannot be older."""
    clock = SteadyClock(wall_ms=lambda: 1_000_000_000_000, monotonic_ms=lambda: 5_000)
    clock.vouch(1_000_000_000_000 + HOUR_MS)
    assert clock.fault(0) is None
    assert clock.now_ms() == 1_000_000_000_000 + HOUR_MS


async def probe(running: Running) -> tuple[int, str]:
    async with running.raw() as session, session.get(running.url(Port.PROBE, "/probe/readiness")) as answer:
        return answer.status, await answer.text()
