"""Cosigned checkpoints: what is served, what strict withholds, and witnesses that are down, slow, lying or ahead."""

import asyncio
import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from coordinator.opening import open_ledger
from coordinator.settings import Settings, SettingsError
from coordinator.witness_policy import read_witness_policy
from coordinator.witnessing import Witnessing
from ledger.checkpoint import epoch_name, read_checkpoint
from ledger.cose import build_receipt, parse_receipt, verify_receipt
from ledger.entry import parse_entry
from ledger.memory import MemoryStore
from ledger.note import VerifierKey, ed25519_key, open_note, split_note
from ledger.policyfile import parse_policy
from ledger.proof import parse_proof, verify
from ledger.witness import Known
from tests.coordinator.test_evidence import until
from tests.ledger.test_witness import COSIGNERS
from tests.support.acts import (
    certificate,
    check_bundle,
    ledger_key,
    open_secret,
    recover,
    set_manifest,
    types,
)
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import VAULT_POLICY, Pod
from tests.support.witnesses import RunningWitness, running_witness
from wire.bundle import parse_bundle
from wire.messages import CertificateResponse
from wire.problem import RemoteRefusedError
from wire.routes import Port
from wire.witnesses import WitnessClient

_NOTHING = Known(0, bytes(32), 0, b"")
TWO_OF_THREE = "group enough 2 w1 w2 w3\nquorum enough\n"


@asynccontextmanager
async def three(*, lattice: bool = False) -> AsyncIterator[tuple[list[RunningWitness], str]]:
    """Three witnesses and a policy that wants two of them."""
    async with AsyncExitStack() as stack:
        witnesses = [await stack.enter_async_context(running_witness(f"w{number}")) for number in (1, 2, 3)]
        yield witnesses, "".join(each.line(lattice=lattice) for each in witnesses) + TWO_OF_THREE


def asking(policy: str, *, strict: bool = False, patience_s: float = 20.0) -> Witnessing:
    return Witnessing(
        policy=parse_policy(policy.encode()),
        client=WitnessClient(timeout_s=5.0),
        strict=strict,
        patience_s=patience_s,
    )


async def know(running: Running, witnesses: list[RunningWitness]) -> None:
    """Tell the witnesses of this ledger, as a data owner would with --log."""
    _, statement = await running.statement()
    named = statement.unverified or statement
    assert named.origin is not None
    assert named.ledger_key is not None
    for each in witnesses:
        each.logs[named.origin] = [ed25519_key(named.origin, bytes.fromhex(named.ledger_key))]


def cosigners(note: str, witnesses: list[RunningWitness]) -> list[str]:
    keys = [VerifierKey.parse(each.vkey) for each in witnesses]
    present = {(line.name, line.key_id) for line in split_note(note.encode())[1]}
    if not any((key.name, key.key_id) in present for key in keys):
        return []
    return [key.name for key in open_note(note.encode(), keys)[1]]


def witnessed_size(running: Running) -> int:
    witnessed = running.service.witnesses.witnessed
    return 0 if witnessed is None else witnessed.size


def receipt_note(answer: CertificateResponse) -> str:
    return parse_proof(parse_bundle(answer.bundle).receipt).checkpoint_raw


async def at_last(running: Running) -> CertificateResponse:
    """A certificate, however busy this machine is: the patience of these tests is short."""
    for _ in range(30):
        with contextlib.suppress(RemoteRefusedError):
            return await certificate(running, Pod())
    raise AssertionError("no certificate")


async def down(_: web.Request, _next: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    return web.Response(status=503, text="no")


# --- The ledger's own further lines.


async def test_a_served_checkpoint_carries_the_lattice_line_and_still_opens() -> None:
    """Whoever fears quantum computers, or speaks SCITT, would have nothing to check."""
    store = MemoryStore()
    async with coordinator(store) as running:
        await set_manifest(running)
        lattice = VerifierKey.parse(running.service.state.verifier_keys[1])
        epoch = ed25519_key(epoch_name(running.service.state.origin), running.epoch.public)
        keys = [ledger_key(running), epoch, lattice]
        await until(lambda: len(split_note((running.service.ledger.finished or "").encode())[1]) == 5)
        async with running.client() as client:
            raw = await client.checkpoint()
        assert open_note(raw, keys)[1] == keys
        ledger = running.service.ledger
        receipt = build_receipt(raw, 1, ledger.proof(1), ledger_key=keys[0], epoch_keys=[epoch])
        checkpoint, signer = verify_receipt(
            parse_receipt(receipt), ledger.entry(1).leaf_hash, ledger_key=keys[0], epoch_keys=[epoch]
        )
        assert (checkpoint.root, signer) == (ledger.root, epoch)
        await until(lambda: store.finished() == raw)  # Stored as it is served, without another event.
        assert types(running) == ["ledger.created", "epoch.opened", "manifest.set"]
    assert open_ledger(store).log.finished == raw.decode()


async def test_the_lattice_line_is_not_made_for_every_commit() -> None:
    """At two thousand commits a second it would be the slowest part of the ledger."""
    async with coordinator() as running:
        await set_manifest(running)
        seen = set()
        for _ in range(6):
            await certificate(running, Pod())
            lines = split_note((running.service.ledger.finished or "").encode())[1]
            seen.add(len(lines))
        assert 2 in seen  # Answers do not wait for it.
        await until(lambda: len(split_note((running.service.ledger.finished or "").encode())[1]) == 5)


# --- In the background.


async def test_witnesses_are_asked_in_the_background() -> None:
    async with three() as (witnesses, policy), coordinator(witnessing=asking(policy)) as running:
        await know(running, witnesses)
        await set_manifest(running)
        pod = Pod()
        check_bundle(await certificate(running, pod), pod, running)  # Nobody waits for them.
        await until(lambda: len(cosigners(running.service.ledger.finished or "", witnesses)) == 3)
        assert {each.store.known(running.service.state.origin).size for each in witnesses} == {5}  # type: ignore[union-attr]


async def test_mldsa_witnesses_count_too() -> None:
    async with three(lattice=True) as (witnesses, policy), coordinator(witnessing=asking(policy)) as running:
        await know(running, witnesses)
        await set_manifest(running)
        await until(lambda: len(split_note((running.service.ledger.finished or "").encode())[1]) == 2 + 3 + 3)
        note = running.service.ledger.finished or ""
        assert len(note.encode()) <= 16 * 1024
        keys = [each.keys.mldsa44.key for each in witnesses]
        assert len(open_note(note.encode(), keys)[1]) == 3
        _, statement = await running.statement()  # Such a note still fits a statement.
        assert statement.checkpoint == note


# --- Strict.


async def test_strict_lets_nothing_leave_that_no_quorum_has_seen() -> None:
    """A forked Coordinator could hand out certificates and secrets that no witness knows."""
    async with three() as (witnesses, policy), coordinator(witnessing=asking(policy, strict=True)) as running:
        await know(running, witnesses)
        await set_manifest(running)
        pod = Pod(VAULT_POLICY)
        answer = await certificate(running, pod)
        check_bundle(answer, pod, running)
        assert open_secret(answer, pod, running.service.state.origin)
        note = receipt_note(answer)
        assert len(cosigners(note, witnesses)) >= 2
        assert read_checkpoint(note.encode()).size == 6  # The secret's event is covered, too.


async def test_strict_withholds_without_a_quorum_and_gives_it_later() -> None:
    """The retry would make a second certificate, or none."""
    async with (
        three() as (witnesses, policy),
        coordinator(witnessing=asking(policy, strict=True, patience_s=0.4)) as running,
    ):
        await know(running, witnesses)
        await set_manifest(running)
        await until(lambda: witnessed_size(running) == 3)
        for each in witnesses[:2]:
            each.manner = down
        pod = Pod(VAULT_POLICY)
        async with running.client(Port.MESH) as client:
            request = pod.request((await client.challenge()).nonce)
            with pytest.raises(RemoteRefusedError) as caught:
                await client.certificate(request)
            assert caught.value.code == "witnesses_unavailable"
            assert caught.value.may_pass
            assert caught.value.retry_after_s == 1
            assert running.service.state.certificates == 1  # Recorded, and withheld.
            with pytest.raises(RemoteRefusedError):
                await client.certificate(request)
            for each in witnesses:
                each.manner = None
            await until(lambda: witnessed_size(running) == 6)
            answer = await client.certificate(request)
        check_bundle(answer, pod, running)
        assert running.service.state.certificates == 1
        assert len(cosigners(receipt_note(answer), witnesses)) >= 2


async def test_nothing_piles_up_while_the_quorum_is_away() -> None:
    """Every try of every pod would add a certificate that nobody gets."""
    async with (
        three() as (witnesses, policy),
        coordinator(witnessing=asking(policy, strict=True, patience_s=0.3)) as running,
    ):
        await know(running, witnesses)
        await set_manifest(running)
        for each in witnesses:
            each.manner = down
        for _ in range(4):
            with pytest.raises(RemoteRefusedError) as caught:
                await certificate(running, Pod())
            assert caught.value.code == "witnesses_unavailable"
        assert running.service.state.certificates <= 1


async def test_witnesses_that_refuse_are_not_hammered() -> None:
    """A Coordinator without quorum would ask thousands of times a second, for ever."""
    async with (
        three() as (witnesses, policy),
        coordinator(witnessing=asking(policy, strict=True, patience_s=1.0)) as running,
    ):
        await know(running, witnesses)
        for each in witnesses:
            each.manner = down
        await set_manifest(running)
        for _ in range(2):
            with pytest.raises(RemoteRefusedError):
                await certificate(running, Pod())
        assert witnesses[0].asked < 20


async def test_one_slow_witness_delays_nobody() -> None:
    release = asyncio.Event()

    async def slow(_: web.Request, go_on: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        await release.wait()
        return await go_on()

    async with three() as (witnesses, policy), coordinator(witnessing=asking(policy, strict=True)) as running:
        await know(running, witnesses)
        witnesses[2].manner = slow
        await set_manifest(running)
        for _ in range(3):
            answer = await certificate(running, Pod())
            assert set(cosigners(receipt_note(answer), witnesses)) == {"w1.example", "w2.example"}
        release.set()
        witnesses[2].manner = None
        witnesses[0].manner = down
        assert "w3.example" in cosigners(receipt_note(await certificate(running, Pod())), witnesses)


async def test_many_waiting_pods_share_few_rounds() -> None:
    """Strict mode would cost a round trip for each certificate, one after the other."""
    async with three() as (witnesses, policy), coordinator(witnessing=asking(policy, strict=True)) as running:
        await know(running, witnesses)
        await set_manifest(running)
        await certificate(running, Pod())
        before = witnesses[0].asked
        answers = await asyncio.gather(*(certificate(running, Pod()) for _ in range(24)))
        assert all(len(cosigners(receipt_note(answer), witnesses)) >= 2 for answer in answers)
        assert witnesses[0].asked - before < 24


@pytest.mark.parametrize(
    "lie",
    [
        b"\xe2\x80\x94 w1.example AAAAAAAAAAAAAAAAAAAAAAAA\n",
        b"nonsense",
        b"",
        b"\xe2\x80\x94 stranger.example AAAAAAAAAAAAAAAAAAAAAAAA\n",
        b"x" * 100_000,
    ],
    ids=["short", "nonsense", "empty", "stranger", "long"],
)
async def test_a_lying_witness_does_not_count(lie: bytes) -> None:
    """Whoever stands before the witnesses could make up a quorum."""

    async def lying(_: web.Request, _next: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        return web.Response(body=lie, content_type="text/plain")

    async with (
        three() as (witnesses, policy),
        coordinator(witnessing=asking(policy, strict=True, patience_s=0.3)) as running,
    ):
        await know(running, witnesses)
        witnesses[0].manner = witnesses[1].manner = lying
        await set_manifest(running)
        with pytest.raises(RemoteRefusedError, match="witnesses"):
            await certificate(running, Pod())
        witnesses[1].manner = None
        await until(lambda: running.service.witnesses.witnessed is not None)
        assert "w1.example" not in cosigners(receipt_note(await at_last(running)), witnesses)


async def test_another_witnesses_line_does_not_count_twice() -> None:
    """One witness would be the whole quorum."""
    kept: list[bytes] = []

    async with (
        three() as (witnesses, policy),
        coordinator(witnessing=asking(policy, strict=True, patience_s=0.3)) as running,
    ):
        await know(running, witnesses)

        async def copying(
            request: web.Request, go_on: Callable[[], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            answer = await go_on()
            assert isinstance(answer, web.Response)
            kept.append(bytes(answer.body or b""))  # type: ignore[arg-type]
            return answer

        async def pasting(_: web.Request, _next: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
            await until(lambda: bool(kept))
            return web.Response(body=kept[-1], content_type="text/plain")

        witnesses[0].manner = copying
        witnesses[1].manner = witnesses[2].manner = pasting
        await set_manifest(running)
        with pytest.raises(RemoteRefusedError, match="witnesses"):
            await certificate(running, Pod())
        assert running.service.witnesses.witnessed is None


async def test_a_coordinator_on_an_older_copy_gets_no_quorum() -> None:
    """The rollback that strict witnesses prevent: the host restores yesterday's ledger and recovers it."""
    store = MemoryStore()
    async with three() as (witnesses, policy):
        async with coordinator(store, witnessing=asking(policy, strict=True)) as running:
            await know(running, witnesses)
            shares = await set_manifest(running)
            await certificate(running, Pod())
            yesterday = copy.deepcopy(store)
            await certificate(running, Pod())
            await certificate(running, Pod())
            origin = running.service.state.origin
            # Those who were not needed for the quorum catch up when nobody waits.
            await until(lambda: all((each.store.known(origin) or _NOTHING).size == 9 for each in witnesses))
        before = {each.name: each.store.known(running.service.state.origin) for each in witnesses}
        async with coordinator(yesterday, witnessing=asking(policy, strict=True, patience_s=0.3)) as running:
            await recover(running, shares)
            with pytest.raises(RemoteRefusedError, match="witnesses"):
                await certificate(running, Pod(VAULT_POLICY))
            assert b"contrast_coordinator_witness_contradictions_total 0.0" not in running.metrics.text()
            assert {each.name: each.store.known(running.service.state.origin) for each in witnesses} == before


async def test_a_recovered_coordinator_goes_on_where_its_witnesses_are() -> None:
    store = MemoryStore()
    async with three() as (witnesses, policy):
        async with coordinator(store, witnessing=asking(policy, strict=True)) as running:
            await know(running, witnesses)
            shares = await set_manifest(running)
            await certificate(running, Pod())
        async with coordinator(store, witnessing=asking(policy, strict=True)) as running:
            await recover(running, shares)
            answer = await certificate(running, Pod())
            assert len(cosigners(receipt_note(answer), witnesses)) >= 2


# --- Time.


async def test_a_quorums_clock_moves_the_ledgers_and_a_minoritys_does_not() -> None:
    """A host that sets its clock back could issue certificates of last year; one witness could stop the ledger."""
    async with three() as (witnesses, policy), coordinator(witnessing=asking(policy, strict=True)) as running:
        now_s = running.clock.unix_ms() // 1000
        for each, time_s in zip(witnesses, (now_s + 3600, now_s + 1800, now_s + 10**9), strict=True):
            each.now_s = time_s
        witnesses[2].manner = down
        await know(running, witnesses)
        await set_manifest(running)
        await certificate(running, Pod())
        await certificate(running, Pod())
        ledger = running.service.ledger
        assert (now_s + 1800) * 1000 <= ledger.entry(ledger.size - 1).body.time_ms < (now_s + 3600) * 1000
        witnesses[2].manner, witnesses[0].manner = None, down
        await certificate(running, Pod())
        await certificate(running, Pod())
        assert ledger.entry(ledger.size - 1).body.time_ms < (now_s + 3600) * 1000


# --- Settings.


def test_strict_without_somebody_to_ask_does_not_start(tmp_path: Path) -> None:
    """It would look strict and be nothing, or issue nothing for ever."""
    path = tmp_path / "policy"
    settings = Settings(ledger=tmp_path, witness_policy=path, strict=True)
    assert read_witness_policy(dataclasses.replace(settings, witness_policy=None)) is None
    with pytest.raises(SettingsError, match="cannot be read"):
        read_witness_policy(settings)
    for text, because in (
        ("quorum none\n", "quorum none"),
        ("quorum x\n", "line 1"),
        (f"witness w {COSIGNERS[0].key}\nquorum w\n", "no quorum"),
    ):
        path.write_text(text)
        with pytest.raises(SettingsError, match=because):
            read_witness_policy(settings)
    path.write_text(f"witness w {COSIGNERS[0].key} http://127.0.0.1:1/\nquorum w\n")
    policy = read_witness_policy(settings)
    assert policy is not None
    assert policy.satisfied_by(["w"])


async def test_the_receipt_of_a_strict_coordinator_is_one_for_everybody() -> None:
    """Cosigned receipts would be refused by those who know no witness."""
    async with three() as (witnesses, policy), coordinator(witnessing=asking(policy, strict=True)) as running:
        await know(running, witnesses)
        await set_manifest(running)
        answer = await certificate(running, Pod())
        bundle = parse_bundle(answer.bundle)
        proof = parse_proof(bundle.receipt)
        entry = parse_entry(proof.extra, proof.index)
        epoch = ed25519_key(epoch_name(running.service.state.origin), running.epoch.public)
        verify(proof, entry.leaf_hash, ledger_key=ledger_key(running), epoch_keys=[epoch])
        assert hashlib.sha256(bundle.leaf).digest() in entry.body.payload
