"""Two epochs on one parent: what proves a fork from its first moment, and everything that only looks like it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint, epoch_name, origin_of
from ledger.contradiction import EvidenceError
from ledger.entry import ZERO_HASH, Body, Entry, sign
from ledger.keyring import EpochKey, Keyring
from ledger.merkle import Frontier, inclusion_path
from ledger.note import NoteSigner, sign_note
from ledger.proof import TlogProof
from ledger.twin_epochs import EpochForkEvidence, make_epoch_evidence, parse_epoch_evidence, verify_epoch_evidence

LEDGER = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))
OLD, MINE, YOURS = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (4, 5, 6))
ORIGIN = origin_of(LEDGER.public_key().public_bytes_raw())
LEDGER_SIGNER = NoteSigner(ORIGIN, LEDGER)


def key(private: Ed25519PrivateKey, first: int, last: int | None) -> EpochKey:
    return EpochKey(NoteSigner(epoch_name(ORIGIN), private).key, first, last)


KEYS = [
    Keyring(LEDGER_SIGNER.key, (), (key(OLD, 1, 4), key(MINE, 5, None))),
    Keyring(LEDGER_SIGNER.key, (), (key(OLD, 1, 4), key(YOURS, 5, None))),
]


def entry(private: Ed25519PrivateKey, seq: int, prev: bytes, payload: bytes = b"x") -> Entry:
    body = Body(private.public_key().public_bytes_raw(), seq, 1_700_000_000_000, prev, "epoch.opened", payload, b"")
    return Entry.seal(body, sign(hashlib.sha256(body.pack()).digest(), private))


def ledger(private: Ed25519PrivateKey, size: int = 7, *, common: int = 4) -> list[Entry]:
    """*common* entries by the old epoch, then one by *private* that opens it, then others of its."""
    entries: list[Entry] = []
    for seq in range(size):
        prev = entries[-1].body_hash if entries else ZERO_HASH
        entries.append(entry(OLD if seq < common else private, seq, prev))
    return entries


def receipt(
    entries: Sequence[Entry], private: Ed25519PrivateKey, seq: int = 4, *, drafted: bool = False, extra: bytes = b""
) -> TlogProof:
    frontier = Frontier()
    frontier.extend(each.leaf_hash for each in entries)

    def node(level: int, index: int) -> bytes:
        part = Frontier()
        part.extend(each.leaf_hash for each in entries[index << level : (index + 1) << level])
        return part.root()

    signers = [LEDGER_SIGNER, NoteSigner(epoch_name(ORIGIN), private)][drafted:]
    text = sign_note(Checkpoint(ORIGIN, len(entries), frontier.root()).text(), signers)
    return TlogProof(seq, tuple(inclusion_path(seq, len(entries), node)), text, extra or entries[seq].raw)


def evidence(one: TlogProof | None = None, other: TlogProof | None = None) -> EpochForkEvidence:
    made = make_epoch_evidence(
        one or receipt(ledger(MINE), MINE), other or receipt(ledger(YOURS, 6), YOURS)
    )  # fmt: skip
    assert made is not None
    return made


def test_two_epochs_on_one_parent_prove_a_fork_whatever_the_sizes() -> None:
    for sizes in ((5, 5), (7, 6), (6, 12)):
        made = evidence(receipt(ledger(MINE, sizes[0]), MINE), receipt(ledger(YOURS, sizes[1]), YOURS))
        assert parse_epoch_evidence(made.text()) == made
        fork = verify_epoch_evidence(made, KEYS)
        assert (fork.seq, fork.parent) == (4, ledger(MINE)[3].body_hash)
        assert {fork.first.checkpoint.size, fork.second.checkpoint.size} == set(sizes)
        assert fork.first.epoch != fork.second.epoch


def test_the_order_of_the_sides_makes_no_difference() -> None:
    one, other = receipt(ledger(MINE), MINE), receipt(ledger(YOURS), YOURS)
    assert evidence(one, other) == evidence(other, one)
    made = evidence(one, other)
    with pytest.raises(EvidenceError, match="smaller epoch key"):
        verify_epoch_evidence(EpochForkEvidence(made.second, made.first), KEYS)


def test_one_epoch_twice_or_one_after_the_other_is_no_fork() -> None:
    """An honest restart would be denounced."""
    mine = receipt(ledger(MINE), MINE)
    assert make_epoch_evidence(mine, mine) is None
    with pytest.raises(EvidenceError, match="one epoch"):
        verify_epoch_evidence(EpochForkEvidence(mine.text(), mine.text()), KEYS)
    longer = [*ledger(MINE, 6)]
    longer.append(entry(YOURS, 6, longer[-1].body_hash))
    after = receipt(longer, YOURS, 6)
    assert make_epoch_evidence(mine, after) is None
    keys = [*KEYS, Keyring(LEDGER_SIGNER.key, (), (key(YOURS, 7, None),))]
    sides = sorted(
        (each.public_key().public_bytes_raw(), proof.text()) for each, proof in ((MINE, mine), (YOURS, after))
    )
    made = EpochForkEvidence(sides[0][1], sides[1][1])
    with pytest.raises(EvidenceError, match="different entries"):
        verify_epoch_evidence(made, keys)


def test_two_epochs_on_different_parents_are_no_evidence() -> None:
    """They forked earlier, or never shared anything; this is not what proves it."""
    strange = ledger(YOURS)
    strange = [replace_payload(strange), *strange[1:]]
    rebuilt: list[Entry] = [strange[0]]
    for seq in range(1, 7):
        rebuilt.append(entry(OLD if seq < 4 else YOURS, seq, rebuilt[-1].body_hash))
    other = receipt(rebuilt, YOURS)
    assert make_epoch_evidence(receipt(ledger(MINE), MINE), other) is None


def replace_payload(entries: Sequence[Entry]) -> Entry:
    return entry(OLD, 0, ZERO_HASH, b"another " + entries[0].body.payload)


def test_a_draft_never_counts() -> None:
    """A Coordinator that died while it opened its epoch leaves its entry behind, honestly."""
    made = evidence(other=receipt(ledger(YOURS), YOURS, drafted=True))
    with pytest.raises(EvidenceError, match="does not count"):
        verify_epoch_evidence(made, KEYS)


def test_epochs_count_for_those_who_judged_them_and_where_they_begin() -> None:
    with pytest.raises(EvidenceError, match="never judged"):
        verify_epoch_evidence(evidence(), KEYS[:1])
    with pytest.raises(EvidenceError, match="never judged"):
        verify_epoch_evidence(evidence(), [])
    late = [KEYS[0], Keyring(LEDGER_SIGNER.key, (), (key(YOURS, 6, None),))]
    with pytest.raises(EvidenceError, match="begin there"):
        verify_epoch_evidence(evidence(), late)
    stranger = Keyring(NoteSigner("x", OLD).key, (), ())
    with pytest.raises(EvidenceError, match="several ledgers"):
        verify_epoch_evidence(evidence(), [*KEYS, stranger])
    ordinary = (receipt(ledger(MINE), MINE, 5), receipt(ledger(YOURS), YOURS, 5))
    assert make_epoch_evidence(*ordinary) is None
    common = (receipt(ledger(MINE), MINE, 3), receipt(ledger(YOURS), YOURS, 3))
    assert make_epoch_evidence(*common) is None


def test_an_entry_that_its_epoch_did_not_sign_or_that_the_tree_lacks_proves_nothing() -> None:
    there = ledger(YOURS)
    forged = Entry.seal(there[4].body, bytes(64)).raw
    with pytest.raises(EvidenceError, match="none"):
        verify_epoch_evidence(evidence(other=receipt(there, YOURS, extra=forged)), KEYS)
    other = entry(YOURS, 4, there[3].body_hash, b"never recorded").raw
    with pytest.raises(EvidenceError, match="does not count"):
        verify_epoch_evidence(evidence(other=receipt(there, YOURS, extra=other)), KEYS)
    with pytest.raises(EvidenceError, match="does not hold its entry"):
        make_epoch_evidence(receipt(there, YOURS), replace(receipt(there, YOURS), extra=b""))


def test_changed_evidence_is_refused() -> None:
    raw = evidence().text()
    for bad in (
        raw.replace(b'"first"', b'"First"'),
        raw.replace(b"  ", b" "),
        raw.replace(b"{", b'{"more": 1,', 1),
        raw.replace(b"/v1", b"/v2", 1),
        raw[:-1],
        json.dumps(json.loads(raw)).encode(),
        b"[]",
        b"[" * 100_000,
        b"x" * 300_000,
        b'{"format": "contrast/epoch-fork-evidence/v1", "first": 1, "second": null}',
    ):
        with pytest.raises(EvidenceError):
            verify_epoch_evidence(parse_epoch_evidence(bad), KEYS)


@given(st.integers(0, 3000), st.integers(1, 255))
def test_any_changed_byte_proves_nothing(at: int, change: int) -> None:
    raw = bytearray(evidence().text())
    raw[at % len(raw)] ^= change
    with pytest.raises(EvidenceError):
        verify_epoch_evidence(parse_epoch_evidence(bytes(raw)), KEYS)
