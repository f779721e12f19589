"""What strangers may cost over time: the secure processor, signatures, reading. The honest are served meanwhile."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from attestation.evidence import Evidence
from coordinator.admission import PolicyRates
from coordinator.budgets import Budget, Rate
from coordinator.errors import RateLimitedError
from coordinator.peers import peer_of
from coordinator.settings import Limits
from tests.coordinator.test_story import certificate, set_manifest
from tests.support.coordinator import Clock, Running, coordinator, problem
from tests.support.deployment import Deployment, GuestIssuer, Pod, launch, random_nonce
from wire.json import encode
from wire.messages import AttestRequest
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


async def test_manifests_of_strangers_have_an_end() -> None:
    """Each is megabytes to parse and up to sixteen signatures; before the first set, the Coordinator's evidence too."""
    issuer = CountingIssuer()
    async with coordinator(issuer=issuer, limits=Limits(owner_per_peer=Rate(2, 0.1))) as running:
        _, statement = await running.statement()
        mine = Deployment().request(statement.origin or "", signers=())
        async with running.client() as client:
            for code in ("not_an_owner", "not_an_owner", "rate_limited"):
                with pytest.raises(RemoteRefusedError) as caught:
                    await client.set_manifest(mine)
                assert caught.value.code == code
                assert code != "rate_limited" or (caught.value.retry_after_s or 0) > 5


async def test_who_sends_bad_evidence_for_long_is_not_judged_any_more() -> None:
    """Finding out costs signatures each time. Who sends good evidence from elsewhere is served."""
    clock = Clock()
    async with coordinator(clock=clock, limits=Limits(refused_per_peer=Rate(2, 0.1))) as running:
        await set_manifest(running)
        pod = Pod(b"# unknown")
        for code in ("unknown_policy", "unknown_policy", "rate_limited"):
            with pytest.raises(RemoteRefusedError) as caught:
                await certificate(running, pod)
            assert caught.value.code == code
        with pytest.raises(RemoteRefusedError, match="rate_limited"):
            await certificate(running, Pod())
        clock.offset_ms += 60_000
        await certificate(running, Pod())
        assert running.service.state.certificates == 1
        await asyncio.sleep(0)


def test_good_requests_cost_nothing_of_a_peers_share_of_bad_ones() -> None:
    """Thousands of pods stand behind one address."""
    budget = Budget("x", peer=Rate(2, 1), everybody=None, key=bytes(32))
    for _ in range(100):
        budget.demand("a", now_ms=0)
    for _ in range(5):
        budget.spend("a", now_ms=0)
    with pytest.raises(RateLimitedError) as caught:
        budget.demand("a", now_ms=0)
    assert caught.value.retry_after_s == 1
    budget.demand("a", now_ms=1000)


def test_any_number_of_peers_fits_in_the_same_memory() -> None:
    """A table of peers would be filled by whoever owns a /48."""
    budget = Budget("x", peer=Rate(8, 1), everybody=None, key=b"k" * 32)
    tracemalloc.start()
    try:
        for number in range(20_000):
            budget.spend(f"10.{number}", now_ms=0)
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
