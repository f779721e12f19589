"""Deciding and evolving, with no store, clock or evidence. A failure: something refused is recorded, or the reverse."""

from dataclasses import replace

import pytest

from coordinator import events
from coordinator.commands import CreateLedger, IssueCertificate, RecordRefusal, RecoverLedger, SetManifest
from coordinator.decide import MAX_PREPARED_MS, MAX_REFUSAL_CODES, REFUSAL_INTERVAL_MS, CoordinatorMachine, decide
from coordinator.errors import NeedsRecoveryError, NotInRecoveryError
from coordinator.refusals import (
    CoordinatorExcludedError,
    HeadMismatchError,
    RefusalNotDueError,
    StalePreparationError,
    StaleTransitionError,
)
from coordinator.state import EMPTY, State
from ledger.entry import Body, Entry
from ledger.writer import Proposal

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32
NOW = 1_700_000_000_000

CREATED = events.LedgerCreated(origin="contrast.invalid/x", verifier_keys=("k",), root_ca=C, seed_shares=())
EPOCH = events.EpochOpened(
    epoch_key=A,
    tls_certificate=C,
    hpke_key=C,
    anchor_seq=0,
    subject=C,
    evidence=("simulated", ()),
    policy=C,
    rules=1,
    verdict=C,
)
FIRST = events.ManifestSet(
    generation=1, manifest=b"1" * 32, previous=C, transition=b"t" * 32, signatures=(), intermediate=C, mesh_ca=C
)
SECOND = replace(FIRST, generation=2, manifest=b"2" * 32, previous=FIRST.transition, transition=b"u" * 32)
REFUSED = events.AttestationRefused(refusal="debug", count=3, first_ms=NOW, last_ms=NOW, seen="", wanted="")


def machine() -> CoordinatorMachine:
    def no_judge(_state: State, entry: Entry) -> State:
        raise AssertionError(entry)

    return CoordinatorMachine(no_judge, writer=A)


def record(state: State, proposal: Proposal[events.Event], *, now_ms: int = NOW, signer: bytes = A) -> State:
    """What the writer does with a proposal, without signing."""
    domain = machine()
    for event in proposal.events:
        kind, payload = domain.pack(state, event)
        body = Body(signer, state.size, now_ms, bytes(32), kind, payload, proposal.request_id)
        state = domain.evolve(state, Entry.unsigned(body))
    return state


def started() -> State:
    command = CreateLedger(created=CREATED, epoch=EPOCH, manifest_set=FIRST, time_ms=NOW)
    return record(EMPTY, decide(EMPTY, command, NOW))


def issue(**changes: object) -> IssueCertificate:
    attestation = events.AttestationAccepted(
        purpose="workload",
        evidence=("simulated", ()),
        nonce=C,
        subject=b"",
        rules=1,
        outcomes=bytes(27),
        verdict=C,
        policy=C,
        manifest_seq=0,
    )
    certificate = events.CertificateIssued(certificate=B, attestation_seq=0, sans=(), not_before=1, not_after=2)
    secret = events.SecretReleased(secret_id="db", policy=C, attestation_seq=0, certificate=B, check=C)
    command = IssueCertificate(
        generation=1, request_id=B, prepared_ms=NOW, attestation=attestation, certificate=certificate, secrets=(secret,)
    )
    return replace(command, **changes)  # type: ignore[arg-type]


def test_the_first_commit_is_three_events_under_one_request_id_and_its_own_time() -> None:
    proposal = decide(EMPTY, CreateLedger(created=CREATED, epoch=EPOCH, manifest_set=FIRST, time_ms=NOW - 5), NOW)
    assert [event.type for event in proposal.events] == ["ledger.created", "epoch.opened", "manifest.set"]
    assert proposal.request_id == FIRST.transition
    assert proposal.time_ms == NOW - 5


def test_a_second_first_manifest_is_prepared_again_and_not_recorded_twice() -> None:
    with pytest.raises(StalePreparationError):
        decide(started(), CreateLedger(created=CREATED, epoch=EPOCH, manifest_set=FIRST, time_ms=NOW), NOW)


def test_a_manifest_that_follows_another_transition_is_refused() -> None:
    with pytest.raises(StaleTransitionError, match=FIRST.transition.hex()):
        decide(started(), SetManifest(writer=A, prepared_ms=NOW, event=replace(SECOND, previous=C)), NOW)


@pytest.mark.parametrize("event", [FIRST, replace(SECOND, manifest=FIRST.manifest)], ids=["transition", "bytes"])
def test_a_manifest_that_is_in_force_already_writes_nothing(event: events.ManifestSet) -> None:
    proposal = decide(started(), SetManifest(writer=A, prepared_ms=NOW, event=event), NOW)
    assert proposal.events == ()


def test_a_manifest_that_closes_its_own_writer_is_refused() -> None:
    with pytest.raises(CoordinatorExcludedError):
        decide(started(), SetManifest(writer=A, prepared_ms=NOW, event=replace(SECOND, closed_epochs=(A,))), NOW)


def test_a_manifest_set_by_no_open_epoch_is_refused() -> None:
    with pytest.raises(CoordinatorExcludedError):
        decide(started(), SetManifest(writer=B, prepared_ms=NOW, event=SECOND), NOW)


def test_a_manifest_that_closes_an_epoch_which_is_not_open_is_prepared_again() -> None:
    with pytest.raises(StalePreparationError):
        decide(started(), SetManifest(writer=A, prepared_ms=NOW, event=replace(SECOND, closed_epochs=(B,))), NOW)


def test_a_certificate_prepared_under_an_older_manifest_is_prepared_again() -> None:
    state = record(started(), decide(started(), SetManifest(writer=A, prepared_ms=NOW, event=SECOND), NOW))
    with pytest.raises(StalePreparationError):
        decide(state, issue(), NOW)
    assert decide(state, issue(generation=2), NOW).events


def test_seqs_in_a_certificates_events_name_the_attestation_and_the_manifest() -> None:
    state = started()
    attestation, certificate, secret = decide(state, issue(), NOW).events
    assert isinstance(attestation, events.AttestationAccepted)
    assert isinstance(certificate, events.CertificateIssued)
    assert isinstance(secret, events.SecretReleased)
    assert (attestation.manifest_seq, certificate.attestation_seq, secret.attestation_seq) == (2, 3, 3)


def test_refusals_of_one_code_are_recorded_once_in_ten_minutes() -> None:
    state = record(started(), decide(started(), RecordRefusal(event=REFUSED), NOW))
    with pytest.raises(RefusalNotDueError):
        decide(state, RecordRefusal(event=REFUSED), NOW + REFUSAL_INTERVAL_MS - 1)
    assert decide(state, RecordRefusal(event=REFUSED), NOW + REFUSAL_INTERVAL_MS).events
    assert decide(state, RecordRefusal(event=replace(REFUSED, refusal="other")), NOW).events


def test_no_more_than_sixteen_codes_of_refusals_make_the_ledger_grow() -> None:
    state = started()
    for number in range(MAX_REFUSAL_CODES):
        state = record(state, decide(state, RecordRefusal(event=replace(REFUSED, refusal=f"c{number}")), NOW))
    with pytest.raises(RefusalNotDueError):
        decide(state, RecordRefusal(event=replace(REFUSED, refusal="one more")), NOW)


def test_a_recovery_closes_every_epoch_but_its_own() -> None:
    state = started()
    recovered = events.LedgerRecovered(
        epoch_key=B, share_owner=C, statement=C, size=3, root=C, signature=b"", closed_epochs=()
    )
    command = RecoverLedger(
        generation=1, request_id=C, prepared_ms=NOW, epoch=replace(EPOCH, epoch_key=B), recovered=recovered
    )
    after = record(state, decide(state, command, NOW), signer=B)
    assert [epoch.key for epoch in after.open_epochs] == [B]
    assert after.epochs[0].closed_at == 4


def test_a_recovery_from_a_head_beyond_the_ledger_is_refused() -> None:
    recovered = events.LedgerRecovered(
        epoch_key=B, share_owner=C, statement=C, size=4, root=C, signature=b"", closed_epochs=()
    )
    command = RecoverLedger(
        generation=1, request_id=C, prepared_ms=NOW, epoch=replace(EPOCH, epoch_key=B), recovered=recovered
    )
    with pytest.raises(HeadMismatchError):
        decide(started(), command, NOW)


def test_counts_and_control_head_follow_the_events() -> None:
    state = started()
    assert (state.size, state.control_head.seq, state.generation) == (3, 2, 1)
    state = record(state, decide(state, issue(), NOW))
    assert (state.attestations, state.certificates, state.secrets) == (1, 1, 1)
    assert state.control_head.seq == 2


def test_only_an_open_epoch_writes_and_an_epoch_is_opened_once() -> None:
    """A closed epoch that signs, or one that is opened twice, makes the ledger one that no Coordinator opens again."""
    state = started()
    stranger = CoordinatorMachine(lambda state, _entry: state, writer=B)
    for command in (issue(), RecordRefusal(event=REFUSED), SetManifest(writer=A, prepared_ms=NOW, event=SECOND)):
        assert machine().decide(state, command, NOW).events
        with pytest.raises(NeedsRecoveryError):
            stranger.decide(state, command, NOW)
    recovered = recover_as(C, state)
    assert machine().decide(recovered, recovery(C), NOW).events == ()
    with pytest.raises(NeedsRecoveryError):
        machine().decide(recovered, issue(), NOW)
    with pytest.raises(NotInRecoveryError):
        machine().decide(recovered, recovery(A), NOW)


def recovery(key: bytes) -> RecoverLedger:
    recovered = events.LedgerRecovered(
        epoch_key=key, share_owner=C, statement=C, size=3, root=C, signature=b"", closed_epochs=()
    )
    epoch = replace(EPOCH, epoch_key=key)
    return RecoverLedger(generation=1, request_id=B, prepared_ms=NOW, epoch=epoch, recovered=recovered)


def recover_as(key: bytes, state: State) -> State:
    return record(state, decide(state, recovery(key), NOW), signer=key)


def test_what_was_prepared_for_another_moment_is_prepared_again() -> None:
    """Evidence and certificates hold at the moment they were judged for, which the host's clock may have left."""
    state = started()
    for late in (NOW - 1, NOW + MAX_PREPARED_MS + 1):
        for command in (issue(), SetManifest(writer=A, prepared_ms=NOW, event=SECOND)):
            with pytest.raises(StalePreparationError, match="clock"):
                decide(state, command, late)
    assert decide(state, issue(), NOW + MAX_PREPARED_MS).events
    assert decide(state, recovery(C), NOW + 2 * MAX_PREPARED_MS).time_ms == NOW
    with pytest.raises(StalePreparationError):
        decide(state, replace(recovery(C), prepared_ms=NOW - 1), NOW)
