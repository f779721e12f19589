"""A store that fails, lies or goes back: what clients are told, and what is in the ledger afterwards."""

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import manifest.parse
from audit.replay import replay
from coordinator.opening import open_ledger
from coordinator.refusals import RuleBrokenError, UnprovenError
from ledger.errors import LedgerContentError, StoreError, StoreFullError
from ledger.lmdb_store import LmdbStore
from ledger.memory import MemoryStore
from ledger.source import StoreSource
from ledger.store import Batch
from manifest.model import Policy
from manifest.sans import parse_san
from tests.coordinator.test_evidence import until
from tests.support.acts import certificate, check_bundle, recover, set_manifest
from tests.support.coordinator import Running, coordinator, problem
from tests.support.deployment import VAULT_POLICY, Deployment, Pod
from wire.bundle import parse_bundle
from wire.problem import RemoteRefusedError
from wire.routes import PROBLEM_STATUS, Port


class FaultyStore(MemoryStore):
    """Fails the next append that writes entries, before or after it took effect; can go back to an earlier state."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self.persists = False
        self.instead: dict[str, object] | None = None
        self.forgets = False
        self.points_to: int | None = None

    def request(self, request_id: bytes) -> int | None:
        return super().request(request_id) if self.points_to is None else self.points_to

    def append(self, batch: Batch) -> None:
        if self.forgets and batch.entries:
            self.forgets = False
            return
        if self.fault is None or not batch.entries:
            super().append(batch)
            return
        fault, self.fault = self.fault, None
        if self.persists:
            super().append(batch)
        if self.instead is not None:
            self.__dict__.update(copy.deepcopy(self.instead))
        raise fault

    def picture(self) -> dict[str, object]:
        content = ("_head", "_entries", "_nodes", "_blobs", "_requests", "_draft", "_finished")
        return {name: copy.deepcopy(self.__dict__[name]) for name in content}


FAULTS = {
    "full": (StoreFullError("the ledger has reached its map"), "ledger_full", 507),
    "failed": (StoreError("the disk is gone"), "store_failed", 503),
    "os": (OSError(28, "No space left on device"), "store_failed", 503),
}


async def refusal(running: Running, pod: Pod) -> RemoteRefusedError:
    with pytest.raises(RemoteRefusedError) as caught:
        await certificate(running, pod)
    return caught.value


@pytest.mark.parametrize("name", FAULTS)
async def test_an_append_that_fails_before_it_took_effect_records_nothing(name: str) -> None:
    """A client could hold a certificate that the ledger does not know."""
    fault, code, status = FAULTS[name]
    store = FaultyStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        store.fault = fault
        error = await refusal(running, Pod(VAULT_POLICY))
        assert (error.code, error.problem.status) == (code, status)
        assert running.service.ledger.size == 3
        assert running.service.state.certificates == 0
        pod = Pod(VAULT_POLICY)
        check_bundle(await certificate(running, pod), pod, running)
    assert open_ledger(store).state.certificates == 1


@pytest.mark.parametrize("name", ["failed", "os"])
async def test_an_append_that_fails_after_it_took_effect_counts_as_committed(name: str) -> None:
    store = FaultyStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        store.fault, store.persists = FAULTS[name][0], True
        pod = Pod()
        check_bundle(await certificate(running, pod), pod, running)
        assert running.service.state.certificates == 1
    assert open_ledger(store).state.certificates == 1


@pytest.mark.parametrize("persists", [False, True], ids=["lost", "kept"])
async def test_a_first_set_that_fails_leaves_either_nothing_or_everything(persists: bool) -> None:
    store = FaultyStore()
    async with coordinator(store) as running:
        store.fault, store.persists = StoreError("the disk is gone"), persists
        if persists:
            assert (await set_manifest(running)).generation == 1
        else:
            with pytest.raises(RemoteRefusedError) as caught:
                await set_manifest(running)
            assert caught.value.code == "store_failed"
            assert running.service.phase == "empty"
            assert (await set_manifest(running)).generation == 1
    assert open_ledger(store).state.generation == 1


async def test_a_recovery_that_fails_can_be_tried_again() -> None:
    """The Coordinator would be active without a recorded epoch, or lost until the next restart."""
    store = FaultyStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    async with coordinator(store) as running:
        store.fault = StoreError("the disk is gone")
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares)
        assert caught.value.code == "store_failed"
        assert running.service.phase == "recovery"
        _, statement = await running.statement()
        assert statement.state == "recovery"
        await recover(running, shares)
        await certificate(running, Pod())
    assert open_ledger(store).state.recoveries == 1


async def test_a_full_map_is_said_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    """A full ledger must lose nothing, and say what to do."""
    store = LmdbStore(tmp_path / "ledger", map_size=256 * 1024)
    leaves: list[bytes] = []
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        error: RemoteRefusedError | None = None
        while error is None:
            try:
                leaves.append(parse_bundle((await certificate(running, Pod())).bundle).leaf)
            except RemoteRefusedError as refused:
                error = refused
        assert (error.code, error.problem.status) == ("ledger_full", 507)
        assert "map" in error.problem.detail
    store.close()
    store = LmdbStore(tmp_path / "ledger", map_size=4 * 1024 * 1024)
    async with coordinator(store) as running:
        assert running.service.state.certificates == len(leaves) > 0
        assert all(running.service.ledger.blob(hashlib.sha256(leaf).digest()) == leaf for leaf in leaves)
        await recover(running, shares)
        await certificate(running, Pod())
    store.close()


async def test_a_store_that_goes_back_stops_the_writer_for_good() -> None:
    """The host could make two histories out of one."""
    store = FaultyStore()
    async with coordinator(store) as running, running.raw() as session:
        await set_manifest(running)
        older = store.picture()
        await certificate(running, Pod())
        store.fault, store.instead = StoreError("the disk is gone"), older
        assert (await refusal(running, Pod())).code == "ledger_forked"
        assert (await refusal(running, Pod())).code == "ledger_forked"
        for probe, status in (("liveness", 503), ("readiness", 503), ("startup", 200)):
            async with session.get(running.url(Port.PROBE, f"/probe/{probe}")) as response:
                assert response.status == status
        async with running.client() as client:
            state = running.service.state
            request = Deployment().with_policy(b"# new", Policy(sans=("new",))).request(state.origin, state.transition)
            with pytest.raises(RemoteRefusedError) as caught:
                await client.set_manifest(request)
            assert caught.value.code == "ledger_forked"


async def test_a_store_that_acknowledges_and_forgets_stops_the_writer_for_good() -> None:
    """A certificate would be in use of which no ledger knows."""
    store = FaultyStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        store.forgets = True
        assert (await refusal(running, Pod())).code == "ledger_damaged"  # its receipt cannot be made
        assert not store.forgets
        assert (await refusal(running, Pod())).code == "ledger_forked"
        assert (await refusal(running, Pod())).code == "ledger_forked"


async def test_an_index_that_names_another_entry_gets_nobody_a_certificate() -> None:
    """A pod would be answered with another pod's certificate, or its refusal taken for an answer."""
    store = FaultyStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        await certificate(running, Pod())
        size = running.service.ledger.size
        for seq in range(size):
            store.points_to = seq
            assert (await refusal(running, Pod())).code == "ledger_damaged"
        assert running.service.ledger.size == size
        store.points_to = size + 7  # not there (yet): no answer, so one is made
        await certificate(running, Pod())
        assert running.service.ledger.size > size


async def test_a_ledger_that_was_rolled_back_is_not_recovered() -> None:
    """The share owner remembers a longer ledger than the storage offers now."""
    store = FaultyStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        older = store.picture()
        await certificate(running, Pod())
        longer = running.service.ledger.size, running.service.ledger.root
    store.__dict__.update(older)
    async with coordinator(store) as running:
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares, head=longer)
        assert caught.value.code == "head_mismatch"
        with pytest.raises(RemoteRefusedError) as caught:
            await recover(running, shares, head=(2, b"\x07" * 32))
        assert caught.value.code == "head_mismatch"
        assert running.service.phase == "recovery"
        assert running.service.ledger.size == older["_head"].size  # type: ignore[attr-defined]


async def story(store: MemoryStore) -> None:
    async with coordinator(store) as running:
        await set_manifest(running)
        await certificate(running, Pod(VAULT_POLICY))
        await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new",))))
        with pytest.raises(RemoteRefusedError):
            await certificate(running, Pod(b"# unknown"))
        await until(lambda: running.service.state.refused == 1)


Damage = Callable[[MemoryStore], None]


def cut_entry(store: MemoryStore) -> None:
    store._entries[4] = store._entries[4][:-1]


def flip_entry(store: MemoryStore) -> None:
    entry = bytearray(store._entries[2])
    entry[40] ^= 1
    store._entries[2] = bytes(entry)


def swap_entries(store: MemoryStore) -> None:
    store._entries[3], store._entries[4] = store._entries[4], store._entries[3]


def drop_last(store: MemoryStore) -> None:
    store._entries.pop()


def flip_node(store: MemoryStore) -> None:
    store._nodes[1] = bytes(32)


def drop_blob(store: MemoryStore) -> None:
    manifest = open_ledger(store).state.history[0].manifest
    del store._blobs[manifest]


def change_blob(store: MemoryStore) -> None:
    manifest = open_ledger(store).state.history[0].manifest
    store._blobs[manifest] += b" "


@pytest.mark.parametrize(
    "damage",
    [cut_entry, flip_entry, swap_entries, drop_last, flip_node, drop_blob, change_blob],
    ids=lambda f: f.__name__,
)
async def test_a_damaged_ledger_is_refused_with_a_reason(damage: Damage) -> None:
    store = MemoryStore()
    await story(store)
    assert open_ledger(store).state.generation == 2
    damage(store)
    with pytest.raises((LedgerContentError, RuleBrokenError, UnprovenError)) as caught:
        open_ledger(store)
    assert "entry" in str(caught.value) or "blob" in str(caught.value)


async def test_a_finished_note_by_a_stranger_is_refused() -> None:
    """The storage could offer a checkpoint that no ledger key signed."""
    store = MemoryStore()
    await story(store)
    assert store._finished is not None
    store._finished = store._finished.replace(b"/epoch ", b"/epoch A", 1)
    with pytest.raises(LedgerContentError):
        open_ledger(store)


async def test_the_writer_stores_the_finished_note_when_it_stops() -> None:
    store = MemoryStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        await certificate(running, Pod())
        finished = running.service.ledger.finished
    assert finished is not None
    assert store.finished() == finished.encode()
    assert open_ledger(store).log.finished == finished


async def test_a_record_that_changes_under_a_running_coordinator_is_not_served() -> None:
    """Readers would be shown another history than the one that was checked."""
    store = MemoryStore()
    async with coordinator(store) as running, running.raw() as session:
        await set_manifest(running)
        entry = bytearray(store._entries[1])
        entry[-1] ^= 1
        store._entries[1] = bytes(entry)
        async with session.get(running.url(Port.USER, "/v1/ledger/entry/1")) as response:
            document = await problem(response)
        assert (document["status"], document["code"]) == (500, "ledger_damaged")
        assert PROBLEM_STATUS[document["code"]] == 500


async def test_a_ledger_with_names_that_are_refused_by_now_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that became stricter would close it: nobody could open, recover or audit it any more."""
    store, text = MemoryStore(), b"# old names"
    old = Deployment().with_policy(text, Policy(sans=("web:8080", "0x7f000001", "::ffff:c000:201")))
    monkeypatch.setattr(manifest.parse, "parse_san", lambda san, **_: parse_san(san, recorded=True))
    async with coordinator(store) as running:
        shares = await set_manifest(running, old)
        _, statement = await running.statement()
        offered = old.request(statement.origin or "", bytes.fromhex(statement.transition or ""))
    monkeypatch.undo()
    async with coordinator(store) as running:
        await recover(running, shares)
        await certificate(running, Pod(text))
        replay(StoreSource(running.service.ledger))
        again = msgspec.structs.replace(offered, manifest=offered.manifest + b"\n")
        async with running.client() as client:
            with pytest.raises(RemoteRefusedError, match="invalid_manifest"):
                await client.set_manifest(again)
