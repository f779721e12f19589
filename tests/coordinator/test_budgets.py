"""What strangers may cost over time: the secure processor, signatures, reading. The honest are served meanwhile."""

import asyncio
import base64
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from attestation.evidence import Evidence
from coordinator.admission import PolicyRates
from coordinator.budgets import Credit, Rate
from coordinator.errors import RateLimitedError
from coordinator.lane import Lane
from coordinator.peers import peer_of
from coordinator.settings import Limits
from tests.coordinator.test_evidence import until
from tests.coordinator.test_strangers import in_work
from tests.support.acts import certificate, set_manifest
from tests.support.coordinator import Clock, Running, coordinator, problem
from tests.support.deployment import Deployment, GuestIssuer, Pod, launch, random_nonce
from wire.json import encode
from wire.messages import AttestRequest, CertificateRequest, CertificateResponse
from wire.problem import RemoteRefusedError
from wire.routes import Port


class CountingIssuer(GuestIssuer):
    """A secure processor that knows how often it was asked."""

    def __init__(self) -> None:
        super().__init__(launch())
        self.asked = 0

    async def issue(self, report_data: bytes) -> Evidence:
        self.asked += 1
        return await super().issue(report_data)


@asynccontextmanager
async def session_from(address: str, running: Running) -> AsyncIterator[aiohttp.ClientSession]:
    pin = aiohttp.Fingerprint(running.epoch.tls_sha256)
    connector = aiohttp.TCPConnector(ssl=pin, local_addr=(address, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def attest_body() -> dict[str, object]:
    return {"data": encode(AttestRequest(nonce=random_nonce())), "headers": {"Content-Type": "application/json"}}


async def test_a_stranger_cannot_keep_the_secure_processor_busy_for_ever() -> None:
    """On real hardware every report goes through one firmware queue, which the whole host shares."""
    issuer, clock = CountingIssuer(), Clock()
    limits = Limits(attest_per_peer=Rate(3, 0.1), attest=Rate(5, 1))
    async with coordinator(issuer=issuer, clock=clock, limits=limits) as running:
        url = running.url(Port.USER, "/v1/attest")
        async with session_from("127.0.0.2", running) as stranger:
            for _ in range(3):
                async with stranger.post(url, **attest_body()) as answer:  # type: ignore[arg-type]
                    assert answer.status == 200
            async with stranger.post(url, **attest_body()) as answer:  # type: ignore[arg-type]
                refused = await problem(answer)
                assert (refused["code"], answer.status) == ("rate_limited", 429)
                assert 8 <= int(answer.headers["Retry-After"]) <= 10
                assert answer.headers["Retry-After"] in refused["action"]
            # The other port is no second budget.
            mesh = running.url(Port.MESH, "/v1/attest")
            async with stranger.post(mesh, **attest_body()) as answer:  # type: ignore[arg-type]
                assert answer.status == 429
        assert issuer.asked == 3
        await running.statement()
        clock.offset_ms += 11_000
        async with (
            session_from("127.0.0.2", running) as stranger,
            stranger.post(url, **attest_body()) as answer,  # type: ignore[arg-type]
        ):
            assert answer.status == 200


async def test_many_strangers_cannot_either() -> None:
    """One more address for every few requests costs nothing."""
    issuer = CountingIssuer()
    limits = Limits(attest_per_peer=Rate(3, 0.1), attest=Rate(5, 0.1))
    async with coordinator(issuer=issuer, limits=limits) as running:
        statuses = []
        for last in range(2, 10):
            async with (
                session_from(f"127.0.0.{last}", running) as stranger,
                stranger.post(running.url(Port.USER, "/v1/attest"), **attest_body()) as answer,  # type: ignore[arg-type]
            ):
                statuses.append(answer.status)
        assert statuses == [200] * 5 + [429] * 3
        assert issuer.asked == 5


async def test_a_stranger_does_not_lock_out_who_shares_his_address() -> None:
    """A load balancer gives all of them one address: who attests a little could not, while one of them asked a lot."""
    limits = Limits(attest_per_peer=Rate(2, 0.001), attest=Rate(8, 0.001))
    async with coordinator(limits=limits) as running:
        for _ in range(4):
            await running.statement()
        with pytest.raises(RemoteRefusedError, match="of this peer"):
            await running.statement()
        async with (  # The other half is for newcomers.
            session_from("127.0.0.9", running) as newcomer,
            newcomer.post(running.url(Port.USER, "/v1/attest"), **attest_body()) as answer,  # type: ignore[arg-type]
        ):
            assert answer.status == 200


@pytest.mark.parametrize("limits", [Limits(owner_per_peer=Rate(1, 0.001)), Limits(owner=Rate(1, 0.001))])
async def test_no_number_of_wrong_attempts_locks_an_owner_out(limits: Limits) -> None:
    """Strangers can always offer manifests and seeds: refusing for it would let them prevent every set and recovery."""
    async with coordinator(limits=limits) as running:
        _, statement = await running.statement()
        wrong = Deployment().request(statement.origin or "", signers=())
        async with running.client() as client:
            for _ in range(3):
                with pytest.raises(RemoteRefusedError) as caught:
                    await client.set_manifest(wrong)
                assert caught.value.code == "not_an_owner"
        await set_manifest(running)
        assert running.service.phase == "active"


async def test_strangers_offers_are_read_one_at_a_time_with_rests() -> None:
    """Each is megabytes to parse and up to sixteen signatures: side by side they would take every core."""
    lane, inside, most = Lane(1, rest=3.0), 0, 0
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def offer() -> None:
        nonlocal inside, most
        async with lane.turn():
            inside, most = inside + 1, max(most, inside + 1)
            await asyncio.sleep(0.02)
            inside -= 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(offer())
    assert most == 1
    assert loop.time() - began >= 0.02 + 2 * 4 * 0.02 - 0.01


async def test_a_place_in_the_lane_comes_back_whatever_happened() -> None:
    """A request that fails, or whose client goes away, would close the lane for good."""
    lane = Lane(1)
    with pytest.raises(ValueError, match="x"):
        async with lane.turn():
            raise ValueError("x")
    async with lane.turn():
        waiting = asyncio.ensure_future(lane.turn().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(30), lane.turn():
        pass


async def test_bad_evidence_for_long_locks_nobody_out_who_shares_the_address() -> None:
    """A whole cluster may come from one address, and one stranger in it sent enough to have all its pods refused."""
    async with coordinator(limits=Limits(refused_per_peer=Rate(2, 0.001))) as running:
        await set_manifest(running)
        for _ in range(4):
            with pytest.raises(RemoteRefusedError, match="unknown_policy"):
                await certificate(running, Pod(b"# unknown"))
        await asyncio.gather(*(certificate(running, Pod()) for _ in range(8)))
        assert running.service.state.certificates == 8


async def test_who_sent_bad_evidence_for_long_waits_behind_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding out costs signatures each time; others must not wait for them."""
    async with coordinator(limits=Limits(refused_per_peer=Rate(1, 0.001))) as running:
        await set_manifest(running)
        workloads = running.service.workloads
        judged, release, inside = workloads.certificate, asyncio.Event(), 0

        async def slow(message: CertificateRequest) -> CertificateResponse:
            nonlocal inside
            if message.nonce == bytes(32):
                inside += 1
                await release.wait()
            return await judged(message)

        with pytest.raises(RemoteRefusedError, match="unknown_policy"):
            await certificate(running, Pod(b"# unknown"))
        monkeypatch.setattr(workloads, "certificate", slow)

        async def bad() -> None:
            async with running.client(Port.MESH) as client:
                with pytest.raises(RemoteRefusedError, match="challenge_unknown"):
                    await client.certificate(Pod().request(bytes(32)))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(bad())
            await until(lambda: in_work(running) == 10)
            async with session_from("127.0.0.2", running) as elsewhere:
                body, headers = {}, {"Content-Type": "application/json"}
                async with elsewhere.post(running.url(Port.MESH, "/v1/challenges")) as answer:
                    body = await answer.json()
                request = encode(Pod().request(base64.b64decode(body["nonce"])))
                url = running.url(Port.MESH, "/v1/certificates")
                async with elsewhere.post(url, data=request, headers=headers) as answer:
                    assert answer.status == 200
            assert inside == 4
            release.set()


def test_good_requests_cost_nothing_of_a_peers_share_of_bad_ones() -> None:
    """Thousands of pods stand behind one address."""
    credit = Credit(Rate(2, 1), key=bytes(32))
    assert all(credit.has("a", now_ms=0) for _ in range(100))
    for _ in range(5):
        credit.spend("a", now_ms=0)
    assert not credit.has("a", now_ms=999)
    assert credit.has("a", now_ms=1000)


def test_any_number_of_peers_fits_in_the_same_memory() -> None:
    """A table of peers would be filled by whoever owns a /48."""
    credit = Credit(Rate(8, 1), key=b"k" * 32)
    tracemalloc.start()
    try:
        for number in range(20_000):
            credit.spend(f"10.{number}", now_ms=0)
        assert tracemalloc.get_traced_memory()[0] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_one_machine_is_one_peer(address: str, peer: str) -> None:
    """Whoever has one IPv6 address has 2^64 of them, and IPv4 has two spellings."""
    assert peer_of(address) == peer


def test_a_policys_rate_says_when() -> None:
    """Retry-After was always a second, whatever the bucket needed."""
    rates = PolicyRates(burst=1, refill_per_s=0.05)
    rates.take(b"p", now_ms=0)
    with pytest.raises(RateLimitedError) as caught:
        rates.take(b"p", now_ms=0)
    assert caught.value.retry_after_s == 20
