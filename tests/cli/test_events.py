"""Every event is told in one line and as JSON, whatever stands in it."""

import json
from datetime import UTC, datetime

import pytest

from cli.events import describe, entry_json, plain, row, state_json, time_text
from coordinator.events import (
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    EpochOpened,
    Event,
    ForkAccepted,
    LedgerCreated,
    LedgerRecovered,
    ManifestSet,
    SecretReleased,
    pack_event,
)
from coordinator.state import EMPTY
from ledger.entry import Body, Entry

H = bytes(range(32))
EVIDENCE = ("snp", (("report", H), ("vek", H)))
EVENTS: list[Event] = [
    LedgerCreated(origin="contrast.invalid/x", verifier_keys=("k",), root_ca=H, seed_shares=((H, b"s"),)),
    EpochOpened(
        epoch_key=H,
        tls_certificate=H,
        hpke_key=H,
        anchor_seq=0,
        subject=H,
        evidence=EVIDENCE,
        policy=H,
        rules=1,
        verdict=H,
    ),
    ManifestSet(
        generation=2,
        manifest=H,
        previous=H,
        transition=H,
        signatures=((b"k", b"s"),),
        intermediate=H,
        mesh_ca=H,
        closed_epochs=(H,),
    ),
    LedgerRecovered(
        epoch_key=H, share_owner=H, statement=H, size=3, root=H, signature=b"s" * 512, closed_epochs=(H, H)
    ),
    ForkAccepted(share_owner=H, heads=((9, H),), signature=b"s" * 512),
    AttestationAccepted(
        purpose="workload",
        evidence=EVIDENCE,
        nonce=H,
        subject=b"s",
        rules=1,
        outcomes=bytes(27),
        verdict=H,
        policy=H,
        manifest_seq=2,
    ),
    AttestationRefused(refusal="measurement", count=3, first_ms=1, last_ms=2, seen="\x1b[2J", wanted="b"),
    CertificateIssued(certificate=H, attestation_seq=3, sans=("web", "127.0.0.1"), not_before=0, not_after=86_400),
    SecretReleased(secret_id="vault", policy=H, attestation_seq=3, certificate=H, check=H),
]


def entry(event: Event) -> Entry:
    kind, payload = pack_event(event)
    return Entry.seal(Body(H, 5, 1_700_000_000_123, H, kind, payload), bytes(64))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_every_event_has_words_and_a_document(event: Event) -> None:
    assert "\n" not in describe(event)
    cells = row(entry(event))
    assert cells[:3] == ("5", "2023-11-14 22:13:20.123", event.type)
    document = json.loads(json.dumps(entry_json(entry(event))))
    assert document["type"] == event.type
    assert document["signer"] == H.hex()


def test_every_type_of_event_is_tested_here() -> None:
    assert {type(event) for event in EVENTS} == set(Event.__args__)


def test_the_empty_state_is_a_document() -> None:
    assert json.loads(json.dumps(state_json(EMPTY)))["generation"] == 0


def test_long_bytes_are_base64_and_short_ones_hex() -> None:
    assert plain(H) == H.hex()
    assert plain(b"x" * 100) != (b"x" * 100).hex()
    with pytest.raises(TypeError):
        plain(datetime(2026, 1, 1, tzinfo=UTC))


def test_times_are_utc() -> None:
    assert time_text(0) == "1970-01-01 00:00:00.000"
