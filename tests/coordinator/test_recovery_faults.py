"""Recoveries on a bad day: the store fails, lies or hangs while the seed is already here, and strangers keep asking."""

import asyncio
import copy
import threading

import pytest

from coordinator.opening import open_ledger
from ledger.errors import StoreError
from ledger.memory import MemoryStore
from ledger.store import Batch
from ledger.writer import IDLE_S
from tests.coordinator.test_recovery import request_of
from tests.support.acts import certificate, recover, set_manifest
from tests.support.coordinator import coordinator
from tests.support.deployment import Pod, random_nonce
from wire.messages import RecoveryRequest
from wire.problem import RemoteRefusedError
from wire.routes import Port


class TroubledStore(MemoryStore):
    """Lets a test hold up an append, fail it before or after it took effect, and fail the look that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_appends = 0
        self.persists = False
        self.fail_reloads = 0
        self.instead: dict[str, object] | None = None
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def append(self, batch: Batch) -> None:
        if not batch.entries:
            super().append(batch)
            return
        self.entered.set()
        assert self.go_on.wait(30)
        if self.fail_appends:
            self.fail_appends -= 1
            if self.instead is not None:
                self.__dict__.update(copy.deepcopy(self.instead))
            if self.persists:
                super().append(batch)
            raise StoreError("the disk is gone")
        super().append(batch)

    def reload(self) -> None:
        if self.fail_reloads:
            self.fail_reloads -= 1
            raise StoreError("the disk is still gone")
        super().reload()

    def picture(self) -> dict[str, object]:
        content = ("_head", "_entries", "_nodes", "_blobs", "_requests", "_draft", "_finished")
        return {name: copy.deepcopy(self.__dict__[name]) for name in content}


async def test_a_recovery_in_doubt_is_not_recorded_twice() -> None:
    """An epoch that is opened twice breaks a rule: no Coordinator would ever open this ledger again."""
    store = TroubledStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    async with coordinator(store) as running:
        store.fail_appends, store.persists, store.fail_reloads = 1, True, 1
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares)
        assert caught.value.code == "store_failed"
        await recover(running, shares)
        await certificate(running, Pod())
        assert running.service.state.recoveries == 1
    assert open_ledger(store).state.recoveries == 1


@pytest.mark.parametrize("fails", [False, True], ids=["recorded", "lost"])
async def test_nothing_is_said_or_written_before_the_recovery_is_recorded(*, fails: bool) -> None:
    """A certificate signed by an epoch that was never opened would make the ledger one that nobody can open."""
    store = TroubledStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    async with coordinator(store) as running:
        request = await request_of(running, shares)
        store.entered.clear()
        store.go_on.clear()
        store.fail_appends = int(fails)
        async with running.client() as user, running.client(Port.MESH) as mesh:
            recovering = asyncio.create_task(user.recover(request))
            await asyncio.to_thread(store.entered.wait, 30)
            try:
                _, statement = await running.statement()
                asked = await asyncio.gather(
                    mesh.challenge(), mesh.certificate(Pod().request(random_nonce())), return_exceptions=True
                )
            finally:
                store.go_on.set()
            answer = (await asyncio.gather(recovering, return_exceptions=True))[0]
        assert statement.state == "recovery"
        assert [getattr(each, "code", each) for each in asked] == ["needs_recovery"] * 2
        assert isinstance(answer, RemoteRefusedError) is fails
        assert running.service.phase == ("recovery" if fails else "active")
    assert open_ledger(store).state.recoveries == int(not fails)


async def test_a_fork_found_while_recovering_stops_the_process_for_good() -> None:
    """The host could offer one history after another until one of them is taken."""
    store = TroubledStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        older = store.picture()
        await certificate(running, Pod())
    newer = store.picture()
    async with coordinator(store) as running, running.raw() as session:
        request = await request_of(running, shares)
        store.fail_appends, store.instead = 1, older
        async with running.client() as client:
            with pytest.raises(RemoteRefusedError) as caught:
                await client.recover(request)
            assert caught.value.code == "ledger_forked"
            store.__dict__.update(newer)
            with pytest.raises(RemoteRefusedError) as caught:
                await client.recover(request)
            assert caught.value.code == "ledger_forked"
        async with session.get(running.url(Port.PROBE, "/probe/liveness")) as response:
            assert response.status == 503
    assert open_ledger(store).state.recoveries == 0


async def test_a_coordinator_that_another_one_replaced_signs_nothing_any_more() -> None:
    """Two processes on one ledger, on a bad day. A note of the closed epoch would keep the ledger from being opened."""
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        await certificate(running, Pod())
        async with coordinator(store) as other:
            await recover(other, shares)
            await certificate(other, Pod())
            with pytest.raises(RemoteRefusedError) as caught:
                await certificate(running, Pod())
            assert caught.value.code == "needs_recovery"
            assert running.service.phase == "recovery"
            async with running.client() as client:
                with pytest.raises(RemoteRefusedError, match="replaced") as caught:
                    await client.fetch_statement(random_nonce())
                assert caught.value.code == "needs_recovery"
                with pytest.raises(RemoteRefusedError, match="closed") as caught:
                    await client.recover(
                        RecoveryRequest(
                            sealed=bytes(144),
                            statement="0" * 64,
                            size=3,
                            root="0" * 64,
                            share_owner="0" * 64,
                            signature=b"s",
                        )
                    )
                assert caught.value.code == "not_in_recovery"
            async with (
                running.raw() as session,
                session.get(running.url(Port.PROBE, "/probe/liveness")) as response,
            ):
                assert response.status == 503
            await asyncio.sleep(3 * IDLE_S)  # That is when it would store what it has signed.
            open_ledger(store)
            await certificate(other, Pod())
    opened = open_ledger(store)
    assert (opened.state.recoveries, opened.state.certificates) == (1, 3)
