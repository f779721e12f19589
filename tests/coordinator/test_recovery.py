"""Who may bring a Coordinator back, and with what; what a Coordinator without seed does until then."""

import dataclasses
import hashlib

import pytest

from coordinator.opening import open_ledger
from ledger.memory import MemoryStore
from manifest.model import Policy
from tests.support.acts import certificate, recover, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import (
    WEB_POLICY,
    Deployment,
    GuestIssuer,
    Pod,
    launch,
    owner_key,
    random_nonce,
    recovery_request,
    share_key,
)
from wire.messages import RecoveryRequest, SetManifestResponse
from wire.problem import RemoteRefusedError
from wire.routes import Port


async def stopped_ledger() -> tuple[MemoryStore, SetManifestResponse]:
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        await certificate(running, Pod())
    return store, shares


async def request_of(running: Running, shares: SetManifestResponse, **changes: object) -> RecoveryRequest:
    raw, statement = await running.statement()
    there = statement.unverified
    assert there is not None
    fields: dict[str, object] = {
        "origin": there.origin,
        "hpke_public": bytes.fromhex(statement.hpke_public_key),
        "statement": raw,
        "size": there.size,
        "root": bytes.fromhex(there.root),
        **changes,
    }
    return recovery_request(shares.seed_shares[0].sealed, **fields)  # type: ignore[arg-type]


async def refused(running: Running, request: RecoveryRequest) -> str:
    size = running.service.ledger.size
    async with running.client() as client:
        with pytest.raises(RemoteRefusedError) as caught:
            await client.recover(request)
    assert running.service.ledger.size == size
    assert caught.value.problem.action
    return caught.value.code


async def test_only_the_ledgers_own_seed_from_a_share_owner_is_taken() -> None:
    """Anybody could take a deployment over, or feed a Coordinator a seed that he knows."""
    store, shares = await stopped_ledger()
    async with coordinator(store) as running:
        good = await request_of(running, shares)
        stranger = share_key("stranger")
        for request, code in (
            (await request_of(running, shares, seed=bytes(96)), "seed_mismatch"),
            (await request_of(running, shares, seed=bytes(95)), "seed_mismatch"),
            (await request_of(running, shares, hpke_public=Pod().hpke_public), "seed_mismatch"),
            (await request_of(running, shares, owner=stranger), "not_a_share_owner"),
            (await request_of(running, shares, statement=b"{}"), "stale_statement"),
            (dataclasses_replace(good, signature=good.signature[::-1]), "not_a_share_owner"),
            (dataclasses_replace(good, sealed=good.sealed[:-1] + b"\0"), "not_a_share_owner"),
            (dataclasses_replace(good, size=good.size - 1), "not_a_share_owner"),
            (dataclasses_replace(good, root="0" * 64), "not_a_share_owner"),
            (await request_of(running, shares, size=0), "head_mismatch"),
        ):
            assert await refused(running, request) == code
        assert running.service.phase == "recovery"
        async with running.client() as client:
            await client.recover(good)
            assert (await client.recover(good)).generation == 1  # A lost answer comes again.
        assert open_ledger(store).state.recoveries == 1


def dataclasses_replace(request: RecoveryRequest, **changes: object) -> RecoveryRequest:
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    return RecoveryRequest(**{**fields, **changes})


async def test_a_seed_sealed_for_an_earlier_start_does_not_open() -> None:
    """A recorded recovery could be replayed against the next start otherwise."""
    store, shares = await stopped_ledger()
    async with coordinator(store) as running:
        recorded = await request_of(running, shares)
    async with coordinator(store) as running:
        assert await refused(running, recorded) == "stale_statement"


async def test_a_coordinator_that_the_manifest_does_not_accept_is_not_recovered() -> None:
    """A host could start another image and have the seed brought to it."""
    store, shares = await stopped_ledger()
    for guest in (launch(WEB_POLICY), launch(measurement=b"\x03" * 48)):
        async with coordinator(store, issuer=GuestIssuer(guest)) as running:
            assert await refused(running, await request_of(running, shares)) == "coordinator_excluded"
            assert running.service.phase == "recovery"


async def test_recovery_is_for_recovery() -> None:
    store, shares = await stopped_ledger()
    async with coordinator(store) as running:
        request = await request_of(running, shares)
    async with coordinator() as empty:
        assert await refused(empty, request) == "needs_manifest"
        await set_manifest(empty)
        assert await refused(empty, request) == "not_in_recovery"


async def test_without_seed_readers_are_answered_and_writers_refused() -> None:
    store, shares = await stopped_ledger()
    async with coordinator(store) as running:
        size = running.service.ledger.size
        async with running.client() as client:
            first = (await client.fetch_statement(random_nonce())).statement_raw
            assert (await client.fetch_statement(random_nonce())).statement_raw == first
            assert len((await client.checkpoint()).decode().splitlines()) == 6
            assert await client.entry(size - 1) == running.service.ledger.entry(size - 1).raw
            with pytest.raises(RemoteRefusedError) as caught:
                await client.set_manifest(Deployment().request("contrast.invalid/" + "0" * 64))
            assert caught.value.code == "needs_recovery"
        async with running.client(Port.MESH) as mesh:
            for ask in (mesh.challenge(), mesh.certificate(Pod().request(random_nonce()))):
                with pytest.raises(RemoteRefusedError) as caught:
                    await ask
                assert (caught.value.code, caught.value.problem.status) == ("needs_recovery", 503)
        assert running.service.ledger.size == size
        await recover(running, shares)
        state = running.service.state
        assert [epoch.key for epoch in state.open_epochs] == [running.epoch.public]
        assert len(state.epochs) == 2


async def test_before_the_first_manifest_nothing_is_issued() -> None:
    async with coordinator() as running, running.client(Port.MESH) as mesh, running.client() as client:
        for ask in (mesh.challenge(), mesh.certificate(Pod().request(random_nonce()))):
            with pytest.raises(RemoteRefusedError) as caught:
                await ask
            assert (caught.value.code, caught.value.problem.status) == ("needs_manifest", 503)
        with pytest.raises(RemoteRefusedError) as caught:
            await client.checkpoint()
        assert caught.value.code == "not_found"
        assert (await client.manifests()).manifests == ()


async def test_an_empty_coordinator_that_restarts_is_another_ledger() -> None:
    """Nothing was recorded, so nothing is continued: the seed of the first start is gone."""
    store = MemoryStore()
    origins = set()
    for _ in range(2):
        async with coordinator(store) as running:
            origins.add((await running.statement())[1].origin)
    assert len(origins) == 2


async def test_updates_can_be_disabled_for_good() -> None:
    closed = dataclasses.replace(Deployment(), owners=())
    async with coordinator() as running:
        await set_manifest(running)
        assert (await set_manifest(running, closed, signers=(owner_key(),))).generation == 2
        with pytest.raises(RemoteRefusedError) as caught:
            await set_manifest(running)
        assert caught.value.code == "updates_disabled"


async def test_share_owners_cannot_change() -> None:
    other = dataclasses.replace(Deployment(), share_owners=(share_key("stranger"),))
    async with coordinator() as running:
        await set_manifest(running)
        with pytest.raises(RemoteRefusedError) as caught:
            await set_manifest(running, other)
        assert caught.value.code == "seedshare_owners_changed"
        assert running.service.ledger.size == 3


async def test_a_stale_set_is_refused_and_names_both_transitions() -> None:
    """Two owners who do not know of each other would overwrite each other's manifest."""
    one = Deployment().with_policy(b"# one", Policy(sans=("one",)))
    two = Deployment().with_policy(b"# two", Policy(sans=("two",)))
    async with coordinator() as running, running.client() as client:
        first = await set_manifest(running)
        origin, previous = running.service.state.origin, bytes.fromhex(first.transition)
        await client.set_manifest(one.request(origin, previous))
        with pytest.raises(RemoteRefusedError) as caught:
            await client.set_manifest(two.request(origin, previous))
        assert caught.value.code == "stale_transition"
        assert first.transition in (caught.value.problem.seen or "")
        assert running.service.state.transition.hex() == caught.value.problem.wanted


async def test_the_owner_in_force_decides_about_the_next() -> None:
    """A new owner named by the new manifest alone could take a deployment over."""
    new = dataclasses.replace(Deployment(), owners=(owner_key("new"),))
    async with coordinator() as running:
        await set_manifest(running)
        with pytest.raises(RemoteRefusedError) as caught:
            await set_manifest(running, new)
        assert caught.value.code == "not_an_owner"
        assert (await set_manifest(running, new, signers=(owner_key(),))).generation == 2
        final = new.with_policy(b"# new", Policy(sans=("new",)))
        assert (await set_manifest(running, final)).generation == 3
        assert hashlib.sha256(final.manifest).digest() == running.service.state.history[-1].manifest
