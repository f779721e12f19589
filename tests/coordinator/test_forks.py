"""A recovery that goes on although history was lost: signed by the owner, recorded for everybody, or not at all."""

import copy
import dataclasses
import hashlib
from collections.abc import Callable

import pytest

from audit.replay import replay
from coordinator import events
from coordinator.commands import RecoverLedger
from coordinator.opening import open_ledger
from coordinator.refusals import RuleBrokenError
from ledger.checked import CheckedSource
from ledger.memory import MemoryStore
from ledger.source import StoreSource
from tests.support.acts import certificate, check_bundle, recovery_for, set_manifest, types
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import Pod, share_key
from wire.messages import AcceptedFork, Head, RecoveryRequest, SetManifestResponse
from wire.problem import RemoteRefusedError
from wire.sealing import fork_input, sign_recovery

Heads = tuple[tuple[int, bytes], ...]
LOST: Heads = ((9, hashlib.sha256(b"lost").digest()),)


async def request_of(
    running: Running, shares: SetManifestResponse, heads: Heads, *, key: str = "share"
) -> RecoveryRequest:
    """A recovery by the share owner who accepts that *heads* are lost."""
    raw, _ = await running.statement()
    request = recovery_for(raw, shares)
    sealed = hashlib.sha256(request.sealed).digest()
    message = fork_input(running.service.state.origin, hashlib.sha256(raw).digest(), sealed, heads)
    fork = AcceptedFork(
        heads=tuple(Head(size=size, root=root.hex()) for size, root in heads),
        signature=sign_recovery(share_key() if key == "share" else share_key(key), message),
    )
    return RecoveryRequest(
        **{**{name: getattr(request, name) for name in request.__struct_fields__}, "accepted_fork": fork}
    )


async def restarted(act: Callable[[Running, SetManifestResponse], object]) -> MemoryStore:
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        await certificate(running, Pod())
    async with coordinator(store) as running:
        await act(running, shares)  # type: ignore[misc]
    return store


async def test_an_accepted_fork_stands_in_the_ledger_for_everyone() -> None:
    """Lost history would be forgotten by the next day."""

    async def act(running: Running, shares: SetManifestResponse) -> None:
        async with running.client() as client:
            await client.recover(await request_of(running, shares, LOST))
        assert types(running)[-3:] == ["epoch.opened", "ledger.recovered", "ledger.fork_accepted"]
        pod = Pod()
        check_bundle(await certificate(running, pod), pod, running)

    store = await restarted(act)
    opened = open_ledger(store)
    (fork,) = opened.state.forks
    assert fork.event.heads == LOST
    assert opened.state.control_head.seq == opened.log.size - 3
    report = replay(CheckedSource.of(StoreSource(opened.log)))
    assert report.ok, report.problems


@pytest.mark.parametrize("key", ["another", "share"])
async def test_only_the_owner_who_recovers_can_accept_it(key: str) -> None:
    """The host could make every loss look like the owner's wish."""

    async def act(running: Running, shares: SetManifestResponse) -> None:
        request = await request_of(running, shares, LOST, key=key)
        fork = request.accepted_fork
        assert fork is not None
        if key == "share":  # Signed for other heads than those that are sent.
            fork = AcceptedFork(heads=(Head(size=10, root="ab" * 32),), signature=fork.signature)
        fields = {name: getattr(request, name) for name in request.__struct_fields__}
        async with running.client() as client:
            with pytest.raises(RemoteRefusedError) as caught:
                await client.recover(RecoveryRequest(**{**fields, "accepted_fork": fork}))
        assert caught.value.code == "not_a_share_owner"
        assert running.service.phase == "recovery"
        assert running.service.ledger.size == 5

    await restarted(act)


async def test_what_is_no_fork_is_not_accepted_as_one() -> None:
    """An honest ledger would carry a stain for ever."""

    async def act(running: Running, shares: SetManifestResponse) -> None:
        heads = ((3, running.service.ledger.root_at(3)),)
        async with running.client() as client:
            with pytest.raises(RemoteRefusedError) as caught:
                await client.recover(await request_of(running, shares, heads))
        assert caught.value.code == "malformed_request"
        assert running.service.ledger.size == 5

    await restarted(act)


CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "no heads": ({"heads": ()}, "some, in order"),
    "heads twice": ({"heads": (*LOST, *LOST)}, "some, in order"),
    "other heads": ({"heads": ((10, LOST[0][1]),)}, "signature over the accepted fork"),
    "another owner": ({"share_owner": bytes(32)}, "by who recovered"),
    "no signature": ({"signature": b""}, "signature over the accepted fork"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_dishonest_record_of_a_fork_is_found(name: str) -> None:
    """A Coordinator could put other words into the owner's mouth."""
    change, because = CHANGES[name]

    async def act(running: Running, shares: SetManifestResponse) -> None:
        decide = running.service.kernel.start_writer

        def crooked(*arguments: object) -> object:
            writer = decide(*arguments)  # type: ignore[arg-type]
            submit = writer.submit

            async def changed(command: object) -> object:
                if isinstance(command, RecoverLedger) and command.fork is not None:
                    command = dataclasses.replace(command, fork=dataclasses.replace(command.fork, **change))  # type: ignore[arg-type]
                return await submit(command)  # type: ignore[arg-type]

            writer.submit = changed  # type: ignore[assignment, method-assign]
            return writer

        running.service.kernel.start_writer = crooked  # type: ignore[assignment, method-assign]
        running.service.kernel._rehearse = lambda *_: None  # type: ignore[method-assign]  # An honest one would refuse.
        async with running.client() as client:
            await client.recover(await request_of(running, shares, LOST))

    store = await restarted(act)
    with pytest.raises(RuleBrokenError, match=because):
        open_ledger(store)


def test_a_fork_is_accepted_by_a_recovery_and_nothing_else() -> None:
    event = events.ForkAccepted(share_owner=bytes(32), heads=LOST, signature=b"")
    assert event.type in events.CONTROL_TYPES
    kind, payload = events.pack_event(event)
    assert events.decode_payload(kind, payload) == (event, events.NO_LINK)


async def test_two_coordinators_on_copies_of_one_ledger_contradict_each_other() -> None:
    """What strict witnesses, remembered heads and compare are about."""
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
    roots = []
    for copied in (copy.deepcopy(store), copy.deepcopy(store)):
        async with coordinator(copied) as running:
            async with running.client() as client:
                await client.recover(await request_of(running, shares, LOST))
            await certificate(running, Pod())
            roots.append((running.service.ledger.size, running.service.ledger.root))
    assert roots[0][0] == roots[1][0]
    assert roots[0][1] != roots[1][1]
