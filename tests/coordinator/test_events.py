"""The events' bytes. If these fail, ledgers of this release can no longer be read, or one fact has two encodings."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import events
from coordinator.events import CONTROL_TYPES, EventError, Link, decode_payload, pack_event
from ledger.codec import Value, pack, unpack
from ledger.errors import LedgerError

HASH = st.binary(min_size=32, max_size=32)
SEQ = st.integers(0, 2**63 - 1)
WORD = st.text(max_size=8)  # at most 32 bytes, the shortest limit of a text
EVIDENCE = st.tuples(
    st.sampled_from(["snp", "simulated"]), st.lists(st.tuples(st.text(max_size=8), HASH), max_size=5).map(tuple)
)
HASHES = st.lists(HASH, max_size=4).map(tuple)
PAIRS = st.lists(st.tuples(HASH, st.binary(max_size=200)), max_size=3).map(tuple)

EVENTS = st.one_of(
    st.builds(
        events.LedgerCreated,
        origin=WORD,
        verifier_keys=st.lists(WORD, max_size=2).map(tuple),
        root_ca=HASH,
        seed_shares=PAIRS,
        formats=st.just((1, 1, 1)),
    ),
    st.builds(
        events.EpochOpened,
        epoch_key=HASH,
        tls_certificate=HASH,
        hpke_key=HASH,
        anchor_seq=SEQ,
        subject=HASH,
        evidence=EVIDENCE,
        policy=HASH,
        rules=SEQ,
        verdict=HASH,
    ),
    st.builds(
        events.ManifestSet,
        generation=SEQ,
        manifest=HASH,
        previous=HASH,
        transition=HASH,
        signatures=PAIRS,
        intermediate=HASH,
        mesh_ca=HASH,
        closed_epochs=HASHES,
    ),
    st.builds(
        events.LedgerRecovered,
        epoch_key=HASH,
        share_owner=HASH,
        statement=HASH,
        size=SEQ,
        root=HASH,
        signature=st.binary(max_size=512),
        closed_epochs=HASHES,
    ),
    st.builds(
        events.ForkAccepted,
        share_owner=HASH,
        heads=st.lists(st.tuples(SEQ, HASH), max_size=3).map(tuple),
        signature=st.binary(max_size=512),
    ),
    st.builds(
        events.AttestationAccepted,
        purpose=st.just("workload"),
        evidence=EVIDENCE,
        nonce=HASH,
        subject=st.binary(max_size=200),
        rules=SEQ,
        outcomes=st.binary(max_size=27),
        verdict=HASH,
        policy=HASH,
        manifest_seq=SEQ,
    ),
    st.builds(
        events.AttestationRefused,
        refusal=WORD,
        count=SEQ,
        first_ms=SEQ,
        last_ms=SEQ,
        seen=st.text(max_size=20),
        wanted=st.text(max_size=20),
    ),
    st.builds(
        events.CertificateIssued,
        certificate=HASH,
        attestation_seq=SEQ,
        sans=st.lists(WORD, max_size=4).map(tuple),
        not_before=SEQ,
        not_after=SEQ,
    ),
    st.builds(events.SecretReleased, secret_id=WORD, policy=HASH, attestation_seq=SEQ, certificate=HASH, check=HASH),
)


@given(EVENTS, st.builds(Link, SEQ, HASH))
def test_an_event_that_does_not_come_back_as_it_was_written(event: events.Event, link: Link) -> None:
    kind, payload = pack_event(event, link)
    back, seen = decode_payload(kind, payload)
    assert back == event
    assert seen == (link if kind in CONTROL_TYPES else None)
    assert pack_event(back, link) == (kind, payload)


@given(EVENTS, st.data())
def test_a_payload_with_one_field_changed_in_kind_is_refused_or_is_another_event(
    event: events.Event, data: st.DataObject
) -> None:
    kind, payload = pack_event(event)
    values = _fields(payload)
    at = data.draw(st.integers(0, len(values) - 1))
    values[at] = data.draw(st.sampled_from([True, None, 0, "", b"", (), ((),), 2**63 - 1, b"x" * 2000]))
    changed = pack(values)
    try:
        back, link = decode_payload(kind, changed)
    except (EventError, LedgerError):
        return
    assert pack_event(back, link or events.NO_LINK) == (kind, changed)


@given(st.sampled_from(sorted({"ledger.created", "certificate.issued", "manifest.set", "x"})), st.binary(max_size=64))
def test_hostile_bytes_raise_only_what_is_declared(kind: str, payload: bytes) -> None:
    with pytest.raises((EventError, LedgerError)):
        decode_payload(kind, payload)


def test_a_later_payload_version_is_refused_and_not_guessed() -> None:
    kind, payload = pack_event(
        events.CertificateIssued(certificate=bytes(32), attestation_seq=1, sans=(), not_before=1, not_after=2)
    )
    values = _fields(payload)
    values[0] = 2
    with pytest.raises(EventError, match="version 1 was wanted"):
        decode_payload(kind, pack(values))


def test_every_event_has_a_shape_for_every_field() -> None:
    for kind, (cls, shapes) in events._SHAPES.items():
        assert cls.type == kind  # type: ignore[attr-defined]
        assert [field.name for field in fields(cls)] == [name for name, _ in shapes]


def test_seen_and_wanted_of_a_refusal_stay_within_their_bound_together() -> None:
    refused = events.AttestationRefused(refusal="c", count=1, first_ms=1, last_ms=1, seen="x" * 400, wanted="y" * 200)
    with pytest.raises(EventError, match="512 bytes together"):
        decode_payload(*pack_event(refused))


def _fields(payload: bytes) -> list[Value]:
    value = unpack(payload)
    assert isinstance(value, tuple)
    return list(value)
