"""The quick way to move counters keeps every other field of the state, also those that a later version adds."""

from dataclasses import fields, replace
from typing import Any

from coordinator.events import AttestationAccepted, CertificateIssued, Link, SecretReleased
from coordinator.state import EMPTY, LastAttestation, State, evolve
from ledger.entry import Body, Entry

HASH = bytes(32)
ACCEPTED = AttestationAccepted(
    purpose="workload", evidence=("simulated", ()), nonce=HASH, subject=b"", rules=1, outcomes=b"", verdict=HASH,
    policy=HASH, manifest_seq=2,
)  # fmt: skip
ISSUED = CertificateIssued(certificate=b"c" * 32, attestation_seq=8, sans=(), not_before=1, not_after=2)
RELEASED = SecretReleased(secret_id="s", policy=HASH, attestation_seq=8, certificate=HASH, check=HASH)


def full() -> State:
    """A state that has nothing of the empty one."""
    filled: dict[str, Any] = {"control_head": Link(7, b"h" * 32), "refusals": {"code": 5}}
    for each in fields(State):
        empty = getattr(EMPTY, each.name)
        if isinstance(empty, int):
            filled[each.name] = 9
        elif isinstance(empty, str):
            filled[each.name] = "text"
        elif isinstance(empty, bytes):
            filled[each.name] = b"bytes"
    filled["epochs"] = filled["history"] = filled["verifier_keys"] = filled["seed_shares"] = (object(),)
    filled["recovery"], filled["forks"] = object(), (object(),)
    filled["last"] = LastAttestation(seq=8, request_id=HASH, event=ACCEPTED)
    assert set(filled) == {each.name for each in fields(State)}, "tell this test what a full new field is"
    return State(**filled)


def test_counting_events_moves_their_own_fields_and_no_other() -> None:
    """A field would be forgotten after the next certificate."""
    state = full()
    entry = Entry(b"", Body(HASH, 9, 50, HASH, "t", b"", HASH), b"", HASH, b"", b"")
    moved = replace(state, size=10, time_ms=50)
    last = LastAttestation(seq=9, request_id=HASH, event=ACCEPTED)
    assert evolve(state, entry, ACCEPTED) == replace(moved, last=last, attestations=10)
    held = LastAttestation(seq=8, request_id=HASH, event=ACCEPTED, certificate=b"c" * 32)
    assert evolve(state, entry, ISSUED) == replace(moved, last=held, certificates=10)
    assert evolve(state, entry, RELEASED) == replace(moved, secrets=10)
