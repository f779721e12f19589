"""Evidence of forks: what proves one, and everything that only looks like it."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.contradiction import EvidenceError, ForkEvidence, make_evidence, parse_evidence, verify_evidence
from ledger.keyring import EpochKey, Keyring
from ledger.note import NoteSigner, sign_note
from tests.ledger.test_cose import EPOCH, EPOCH_SIGNER, LEDGER_SIGNER, ORIGIN
from tests.ledger.test_witness import LEAVES, OTHERS, proof, root

KEYS = [Keyring(LEDGER_SIGNER.key, (), (EpochKey(EPOCH_SIGNER.key, 1, 15),))]
DRAFTER = NoteSigner(ORIGIN, EPOCH)


def note(size: int, leaves: Sequence[bytes] = LEAVES, *signers: NoteSigner) -> tuple[bytes, Checkpoint]:
    checkpoint = Checkpoint(ORIGIN, size, root(size, leaves))
    return sign_note(checkpoint.text(), signers or (LEDGER_SIGNER, EPOCH_SIGNER)).encode(), checkpoint


def history(leaves: Sequence[bytes]) -> object:
    return lambda longer, size: (root(size, leaves), proof(size, longer.size, leaves))


def evidence(one: int, other: int) -> ForkEvidence:
    """A fork after five entries: one side at size *one*, the other at *other*."""
    longer = LEAVES if one > other else OTHERS
    made = make_evidence(note(one), note(other, OTHERS), history=history(longer))  # type: ignore[arg-type]
    assert made is not None
    return made


@pytest.mark.parametrize(("one", "other"), [(7, 7), (6, 9), (9, 6), (8, 13), (13, 8), (7, 15), (6, 7)])
def test_two_histories_are_proven_from_any_two_sizes(one: int, other: int) -> None:
    made = evidence(one, other)
    assert parse_evidence(made.text()) == made
    fork = verify_evidence(made, KEYS)
    assert {fork.first.size, fork.second.size} == {one, other}
    assert fork.first_epoch == fork.second_epoch == KEYS[0].epochs[0]


@pytest.mark.parametrize(("one", "other"), [(5, 5), (3, 9), (9, 5), (7, 7)])
def test_one_history_is_no_fork(one: int, other: int) -> None:
    """Honest growth would be denounced."""
    leaves = OTHERS if max(one, other) != 7 else LEAVES
    assert make_evidence(note(one, leaves), note(other, leaves), history=history(leaves)) is None  # type: ignore[arg-type]


def test_evidence_of_nothing_proves_nothing() -> None:
    """Anybody could accuse an honest ledger."""
    (small, _), (large, _) = note(6), note(9)
    honest = ForkEvidence(
        first=small.decode(), second=large.decode(), prefix_root=root(6), consistency=tuple(proof(6, 9))
    )
    with pytest.raises(EvidenceError, match="they agree"):
        verify_evidence(honest, KEYS)
    made_up = ForkEvidence(
        first=small.decode(), second=large.decode(), prefix_root=root(6, OTHERS), consistency=tuple(proof(6, 9, OTHERS))
    )
    with pytest.raises(EvidenceError, match="does not show"):
        verify_evidence(made_up, KEYS)
    with pytest.raises(EvidenceError, match="does not show"):
        verify_evidence(ForkEvidence(first=small.decode(), second=large.decode()), KEYS)
    with pytest.raises(EvidenceError, match="they agree"):
        verify_evidence(ForkEvidence(first=small.decode(), second=small.decode()), KEYS)
    with pytest.raises(EvidenceError, match="smaller size"):
        verify_evidence(ForkEvidence(first=large.decode(), second=small.decode()), KEYS)
    with pytest.raises(EvidenceError, match="need no proof"):
        verify_evidence(ForkEvidence(first=small.decode(), second=small.decode(), prefix_root=bytes(32)), KEYS)


@pytest.mark.parametrize("signers", [(EPOCH_SIGNER,), (LEDGER_SIGNER,), (DRAFTER, EPOCH_SIGNER)], ids=str)
def test_a_draft_never_counts(signers: tuple[NoteSigner, ...]) -> None:
    """A crash leaves contradictory drafts, honestly."""
    draft, _ = note(7, OTHERS, *signers)
    made = ForkEvidence(first=note(7)[0].decode(), second=draft.decode())
    with pytest.raises(EvidenceError, match="does not count"):
        verify_evidence(made, KEYS)


def test_an_epoch_counts_within_its_sizes_and_for_those_who_judged_it() -> None:
    made = evidence(17, 17)
    with pytest.raises(EvidenceError, match="not open then"):
        verify_evidence(made, KEYS)
    other = Keyring(LEDGER_SIGNER.key, (), (EpochKey(EPOCH_SIGNER.key, 16, None),))
    assert verify_evidence(made, [*KEYS, other]).second_epoch == other.epochs[0]
    with pytest.raises(EvidenceError, match="no keys"):
        verify_evidence(made, [])
    stranger = Keyring(NoteSigner("x", EPOCH).key, (), ())
    with pytest.raises(EvidenceError, match="several ledgers"):
        verify_evidence(made, [*KEYS, stranger])


def test_two_ledgers_cannot_contradict() -> None:
    other = Checkpoint("contrast.invalid/other", 7, bytes(32))
    with pytest.raises(EvidenceError, match="two ledgers"):
        make_evidence(note(7), (b"", other), history=history(LEAVES))  # type: ignore[arg-type]


def test_changed_evidence_is_refused() -> None:
    raw = evidence(6, 9).text()
    for bad in (
        raw.replace(b'"first"', b'"First"'),
        raw.replace(b"  ", b" "),
        raw.replace(b"{", b'{"more": 1,', 1),
        raw[:-1],
        json.dumps(json.loads(raw)).encode(),
        b"[]",
        b"[" * 100_000,
        b"x" * 300_000,
    ):
        with pytest.raises(EvidenceError):
            parse_evidence(bad)


@given(st.integers(0, 3000), st.integers(1, 255))
def test_any_changed_byte_proves_nothing_or_the_same(at: int, change: int) -> None:
    raw = bytearray(evidence(6, 9).text())
    raw[at % len(raw)] ^= change
    with pytest.raises(EvidenceError):
        verify_evidence(parse_evidence(bytes(raw)), KEYS)


@given(st.binary(max_size=100))
def test_any_bytes_are_evidence_or_an_error(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_evidence(raw)
