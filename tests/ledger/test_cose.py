"""COSE receipts: both signatures or nothing, one encoding, and no other tree, entry or ledger."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import cbor
from ledger.checkpoint import Checkpoint, epoch_name, origin_of
from ledger.cose import build_receipt, cose_line, parse_receipt, verify_receipt
from ledger.errors import LedgerError, ProofError
from ledger.merkle import inclusion_path
from ledger.note import NoteSigner, ed25519_key, open_note, sign_note
from tests.ledger.test_witness import LEAVES, root

LEDGER = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))
EPOCH = Ed25519PrivateKey.from_private_bytes(bytes([4] * 32))
ORIGIN = origin_of(LEDGER.public_key().public_bytes_raw())
LEDGER_SIGNER, EPOCH_SIGNER = NoteSigner(ORIGIN, LEDGER), NoteSigner(epoch_name(ORIGIN), EPOCH)
KEY, EPOCHS = LEDGER_SIGNER.key, [EPOCH_SIGNER.key]


def path(index: int, size: int) -> list[bytes]:
    return inclusion_path(index, size, lambda level, at: root(1 << level, LEAVES[at << level :]))


def note(size: int, *, signers: tuple[Ed25519PrivateKey, ...] = (LEDGER, EPOCH)) -> bytes:
    checkpoint = Checkpoint(ORIGIN, size, root(size))
    text = sign_note(checkpoint.text(), [LEDGER_SIGNER, EPOCH_SIGNER])
    names = {LEDGER: ORIGIN, EPOCH: epoch_name(ORIGIN)}
    return (text + "".join(cose_line(key, names[key], checkpoint) for key in signers)).encode()


def receipt(index: int = 3, size: int = 7) -> bytes:
    return build_receipt(note(size), index, path(index, size), ledger_key=KEY, epoch_keys=EPOCHS)


@pytest.mark.parametrize("size", [2, 3, 7, 8, 20])
def test_every_entry_has_a_receipt_that_holds_for_it_alone(size: int) -> None:
    """Somebody's certificate would pass for recorded by another's receipt."""
    for index in range(size):
        read = parse_receipt(receipt(index, size))
        assert verify_receipt(read, LEAVES[index], ledger_key=KEY, epoch_keys=EPOCHS) == (
            Checkpoint(ORIGIN, size, root(size)),
            EPOCH_SIGNER.key,
        )
        with pytest.raises(ProofError):
            verify_receipt(read, LEAVES[(index + 1) % size], ledger_key=KEY, epoch_keys=EPOCHS)


def test_the_lines_do_not_disturb_the_note() -> None:
    """Readers that know nothing of COSE would refuse the checkpoint."""
    assert open_note(note(7), [LEDGER_SIGNER.key, EPOCH_SIGNER.key])[1] == [LEDGER_SIGNER.key, EPOCH_SIGNER.key]


def opened(raw: bytes) -> tuple[Any, Any, Any, Any]:
    """The four parts of a receipt."""
    tagged = cbor.decode(raw)
    assert isinstance(tagged, cbor.Tagged)
    parts: Any = tagged[1]
    return parts[0], parts[1], parts[2], parts[3]


def test_the_ledger_key_alone_is_not_enough() -> None:
    """A stolen seed could make receipts for what no Coordinator recorded."""
    with pytest.raises(ProofError, match="no COSE signatures"):
        build_receipt(note(7, signers=(LEDGER,)), 3, path(3, 7), ledger_key=KEY, epoch_keys=EPOCHS)
    protected, unprotected, payload, signature = opened(receipt())
    del unprotected[394]
    alone = cbor.encode(cbor.Tagged((18, (protected, unprotected, payload, signature))))
    with pytest.raises(ProofError, match="lacks the epoch"):
        verify_receipt(parse_receipt(alone), LEAVES[3], ledger_key=KEY, epoch_keys=EPOCHS)
    with pytest.raises(ProofError, match="no epoch that was judged"):
        verify_receipt(parse_receipt(receipt()), LEAVES[3], ledger_key=KEY, epoch_keys=[])
    stand_in = ed25519_key(epoch_name(ORIGIN), KEY.public)
    with pytest.raises(ProofError, match="no epoch that was judged"):
        verify_receipt(parse_receipt(receipt()), LEAVES[3], ledger_key=KEY, epoch_keys=[stand_in])


def test_another_ledgers_receipt_is_refused() -> None:
    other = NoteSigner("contrast.invalid/other", Ed25519PrivateKey.generate())
    with pytest.raises(ProofError):
        verify_receipt(parse_receipt(receipt()), LEAVES[3], ledger_key=other.key, epoch_keys=[EPOCH_SIGNER.key])


def test_a_tree_of_one_entry_has_no_receipt() -> None:
    """RFC 9942 has no encoding for an empty path."""
    with pytest.raises(ProofError, match="one entry"):
        build_receipt(note(1), 0, [], ledger_key=KEY, epoch_keys=EPOCHS)


def test_a_reader_of_the_rfc_alone_verifies_the_outer_receipt() -> None:
    """Written from RFC 9052 and 9942 by hand: Sig_structure, recomputed root, EdDSA."""
    raw = receipt(3, 7)
    assert raw[0] == 0xD2  # tag 18
    protected, unprotected, payload, signature = opened(raw)
    assert payload is None
    proof: Any = cbor.decode(unprotected[396][-1][0])
    size, index, hashes = proof
    node, fn, sn = LEAVES[3], index, size - 1
    for sibling in hashes:
        right = fn & 1 or fn == sn
        node = hashlib.sha256(b"\x01" + (sibling + node if right else node + sibling)).digest()
        while right and not fn & 1 and fn:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    structure = b"\x84\x6aSignature1\x58" + bytes([len(protected)]) + protected + b"\x40\x58\x20" + node
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(signature, structure)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_any_changed_byte_spoils_a_receipt(at: int, change: int) -> None:
    raw = bytearray(receipt())
    raw[at % len(raw)] ^= change
    with pytest.raises(ProofError):
        verify_receipt(parse_receipt(bytes(raw)), LEAVES[3], ledger_key=KEY, epoch_keys=EPOCHS)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_receipt_or_a_proof_error(raw: bytes) -> None:
    """A stranger's bytes would end the program."""
    with pytest.raises(LedgerError):
        parse_receipt(raw)


@pytest.mark.parametrize(
    "raw",
    ["1800", "190001", "a2010201 03".replace(" ", ""), "a20402 0101".replace(" ", ""), "f4", "f90000", "5f41004100ff",
     "81" * 9 + "00", "9b7fffffffffffffff", "62c328", "a1616101", "0000", ""],
)  # fmt: skip
def test_a_value_has_one_encoding(raw: str) -> None:
    with pytest.raises(ProofError):
        cbor.decode(bytes.fromhex(raw))


VALUES = st.recursive(
    st.none() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.integers(-500, 500), inner, max_size=4),
    max_leaves=5,
)


@given(VALUES)
def test_what_is_written_is_read_again(value: cbor.Value) -> None:
    assert cbor.decode(cbor.encode(value)) == value
