"""Cosignatures under checkpoints: which count, for how many entries, and what speaks against a ledger."""

from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.checkpoint import Checkpoint
from ledger.cosigned import Asked, Cosigned, cosigned_by
from ledger.errors import NoteError
from ledger.note import MLDSASigner, NoteSigner, TimedNoteSigner, sign_note
from ledger.policyfile import parse_policy
from tests.ledger.test_cose import LEDGER_SIGNER, ORIGIN
from tests.ledger.test_witness import LEAVES, OTHERS, root

END = Checkpoint(ORIGIN, 15, root(15))
WITNESSES: dict[str, TimedNoteSigner | MLDSASigner] = {
    "w1": TimedNoteSigner("w1.example", Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)),
    "w2": TimedNoteSigner("w2.example", Ed25519PrivateKey.from_private_bytes(b"\x12" * 32)),
    "w3": MLDSASigner("w3.example", MLDSA44PrivateKey.from_seed_bytes(b"\x13" * 32)),
}
LINES = "".join(f"witness {name} {signer.key}\n" for name, signer in WITNESSES.items())
POLICY = parse_policy(f"{LINES}group enough 2 w1 w2 w3\nquorum enough\n".encode())


def note(size: int = 15, leaves: Sequence[bytes] = LEAVES, /, *, by: NoteSigner = LEDGER_SIGNER, **times: int) -> bytes:
    """A checkpoint with a line of each named witness, at its time."""
    text = Checkpoint(ORIGIN, size, root(size, leaves)).text()
    lines = "".join(WITNESSES[name].line(text.encode(), time_s) for name, time_s in times.items())
    return (sign_note(text, [by]) + lines).encode()


def check(own: bytes, *more: bytes, policy: object = POLICY) -> Cosigned:
    """The one place where these tests touch the interface."""
    notes = tuple((f"file {at}", raw) for at, raw in enumerate(more))
    asked = Asked(policy, notes)  # type: ignore[arg-type]
    return cosigned_by(asked, own, ledger_key=LEDGER_SIGNER.key, checkpoint=END, root_at=root)


def test_a_quorum_is_named_with_its_time() -> None:
    found = check(note(w1=100, w3=90))
    assert found.quorum
    assert (found.seen, found.time_s) == (15, 90)
    assert [(each.witness, each.size, each.time_s) for each in found.sightings] == [("w1", 15, 100), ("w3", 15, 90)]
    assert found.silent == ("w2",)
    assert check(note(w1=100, w2=101, w3=90)).time_s == 100


def test_fewer_than_a_quorum_are_none() -> None:
    found = check(note(w1=100))
    assert not found.quorum
    assert (found.seen, found.time_s) == (0, None)


def test_checkpoints_of_several_sizes_count_together_for_what_all_have_seen() -> None:
    """One witness saw more than another: both vouch for what the less informed one saw, and for no more."""
    found = check(note(w1=100), note(9, w2=80), note(7, w3=300, w2=70))
    assert not found.quorum
    assert (found.seen, found.time_s) == (9, 80)
    assert {each.witness: each.size for each in found.sightings} == {"w1": 15, "w2": 9, "w3": 7}
    assert check(note(w1=100), note(15, w2=80)).quorum


def test_a_witness_that_knows_another_history_is_heard() -> None:
    forked = check(note(w1=1, w2=1), note(9, OTHERS, w3=2))
    assert "forked" in forked.contradictions[0]
    assert "w3" in forked.contradictions[0]
    longer = check(note(w1=1, w2=1), note(17, w3=2))
    assert "rolled back" in longer.contradictions[0]
    assert forked.silent == longer.silent == ("w3",)


def test_a_line_that_is_not_its_witnesses_counts_for_nothing_and_is_told() -> None:
    """Whoever serves a checkpoint can put any line under it."""
    moved = note(9, w2=80).decode().splitlines()[-1]
    found = check(note(w1=100) + moved.encode() + b"\n")
    assert found.false == ("its checkpoint: the line of witness w2 is not signed by its key",)
    assert not found.quorum
    twice = note(w1=100) + moved.encode() + b"\n" + note(w2=80).decode().splitlines()[-1].encode() + b"\n"
    assert not check(twice).quorum


def test_only_checkpoints_of_this_ledger_are_read() -> None:
    stranger = NoteSigner(ORIGIN, Ed25519PrivateKey.generate())
    other = NoteSigner("contrast.invalid/other", Ed25519PrivateKey.generate())
    for bad in (note(by=stranger, w1=1), note(by=other, w1=1), b"", b"\xff", b"x\n\ny\n"):
        with pytest.raises(NoteError, match="file 0 is no checkpoint"):
            check(note(), bad)


def test_a_policy_for_other_logs_is_refused() -> None:
    own = parse_policy(f"log {LEDGER_SIGNER.key}\n{LINES}quorum w1\n".encode())
    assert check(note(w1=3), policy=own).quorum
    stranger = NoteSigner(ORIGIN, Ed25519PrivateKey.generate())
    other = parse_policy(f"log {stranger.key}\n{LINES}quorum w1\n".encode())
    with pytest.raises(NoteError, match="none of them"):
        check(note(w1=3), policy=other)


def test_a_policy_that_asks_for_nobody_is_met_and_says_so() -> None:
    found = check(note(), policy=parse_policy(f"{LINES}quorum none\n".encode()))
    assert found.quorum
    assert not found.wanted
    assert found.time_s is None
