"""The CA from its seed to its end: what is recorded must follow from the seed, and an end must say so."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator import ca, setting
from coordinator.keys import Seed
from coordinator.opening import open_ledger
from ledger.memory import MemoryStore
from manifest.model import Policy
from tests.support.acts import certificate, recover, set_manifest
from tests.support.coordinator import Clock, coordinator
from tests.support.deployment import Deployment, Pod
from wire.bundle import parse_bundle
from wire.problem import RemoteRefusedError
from wire.routes import Port

DAY_MS = 24 * 3_600_000
UPDATE = Deployment().with_policy(b"# new", Policy(sans=("new",)))


@pytest.mark.parametrize(("derive", "what"), [("root_ca_key", "root CA"), ("mesh_ca_key", "mesh CA")])
async def test_a_ca_that_is_not_the_seeds_is_not_recovered(
    derive: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever kept that key mints certificates that clients trust; and what is issued on would verify nowhere."""
    key, store = ec.generate_private_key(ec.SECP384R1()), MemoryStore()
    monkeypatch.setattr(Seed, derive, lambda *_: key)
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    monkeypatch.undo()
    async with coordinator(store) as running:
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares)
        assert caught.value.code == "ca_mismatch"
        assert what in caught.value.problem.detail
        assert running.service.phase == "recovery"
        assert running.service.ledger.size == 3


async def test_verifier_keys_that_are_not_the_seeds_are_not_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The post-quantum line under checkpoints would be somebody else's."""
    store, honest = MemoryStore(), setting.verifier_keys
    other = Seed(b"o" * 64, b"s" * 32)
    monkeypatch.setattr(
        setting, "verifier_keys", lambda seed, origin: (honest(seed, origin)[0], honest(other, origin)[1])
    )
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    monkeypatch.undo()
    async with coordinator(store) as running:
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares)
        assert caught.value.code == "ca_mismatch"


async def test_a_mesh_ca_at_its_end_says_so_and_the_next_manifest_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves that end before they begin were issued, and every peer refused them."""
    clock, store = Clock(), MemoryStore()
    monkeypatch.setattr(setting, "mesh_certificate", short)
    async with coordinator(store, clock=clock) as running:
        await set_manifest(running)
        leaf = parse_bundle((await certificate(running, Pod())).bundle).leaf
        end = x509.load_der_x509_certificate(leaf).not_valid_after_utc
        assert end == running.service.kernel.authority().ends  # Not a year: no leaf outlives its chain.
        clock.offset_ms += 31 * DAY_MS
        with pytest.raises(RemoteRefusedError) as caught:
            await certificate(running, Pod())
        assert (caught.value.code, caught.value.problem.status) == ("ca_expired", 503)
        assert "manifest" in (caught.value.problem.action or "")
        assert running.service.state.certificates == 1
        monkeypatch.undo()
        await set_manifest(running, UPDATE)
        await certificate(running, Pod())
    open_ledger(store)


async def test_after_the_root_ca_no_manifest_is_set_and_the_answer_says_what_to_do() -> None:
    """The refusal was an internal error, with its reason in the log only."""
    clock = Clock()
    async with coordinator(clock=clock) as running:
        await set_manifest(running)
        clock.offset_ms += 3651 * DAY_MS
        with pytest.raises(RemoteRefusedError) as caught:
            await set_manifest(running, UPDATE)
        assert caught.value.code == "ca_expired"
        assert "new ledger" in (caught.value.problem.action or "")
        with pytest.raises(RemoteRefusedError, match="ca_expired"):
            await certificate(running, Pod())
        async with running.client(Port.USER) as client:
            assert await client.checkpoint()  # Readers are served for ever.
        assert running.service.ledger.size == 3


async def test_what_a_root_signs_ends_with_it() -> None:
    """A mesh CA of the ninth year would have lived nine years longer than the root that vouches for it."""
    clock = Clock()
    async with coordinator(clock=clock) as running:
        await set_manifest(running)
        clock.offset_ms += 9 * 365 * DAY_MS
        await set_manifest(running, UPDATE)
        authority = running.service.kernel.authority()
        ends = [
            x509.load_der_x509_certificate(each).not_valid_after_utc
            for each in (authority.root_ca, authority.intermediate, authority.mesh_ca)
        ]
        assert ends[0] == ends[1] == ends[2] == authority.ends
        value = running.metrics.registry.get_sample_value("contrast_coordinator_ca_end_seconds")
        assert value == authority.ends.timestamp()


def short(*args: object, **how: object) -> bytes:
    """A mesh CA that ends in thirty days."""
    return ca.mesh_certificate(*args, **{**how, "end": how["now"] + timedelta(days=30)})  # type: ignore[arg-type, operator]
