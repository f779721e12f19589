"""The keys for offline checks: one meaning for each line, and no epoch outside of its sizes."""

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.errors import NoteError
from ledger.keyring import EpochKey, Keyring, KeyringError, parse_keyring
from ledger.note import MLDSASigner, sign_note
from tests.ledger.test_cose import EPOCH_SIGNER, LEDGER_SIGNER, ORIGIN

LATTICE = MLDSASigner(ORIGIN, MLDSA44PrivateKey.from_seed_bytes(bytes(32))).key
RING = Keyring(LEDGER_SIGNER.key, (LATTICE,), (EpochKey(EPOCH_SIGNER.key, 2, 9), EpochKey(EPOCH_SIGNER.key, 12, None)))


def finished(size: int) -> bytes:
    return sign_note(Checkpoint(ORIGIN, size, bytes(32)).text(), [LEDGER_SIGNER, EPOCH_SIGNER]).encode()


def test_what_verify_writes_is_read_again() -> None:
    assert parse_keyring(RING.text().encode()) == RING


@pytest.mark.parametrize(("size", "good"), [(1, False), (2, True), (9, True), (10, False), (11, False), (12, True)])
def test_an_epoch_signs_for_its_own_sizes_only(size: int, good: bool) -> None:
    """A Coordinator that was closed, and whose key the host may have kept running, could go on signing."""
    assert (RING.epoch(EPOCH_SIGNER.key.public, size) is not None) == good
    if good:
        assert RING.open_finished(finished(size))[0].size == size
    else:
        with pytest.raises(NoteError, match="not open then"):
            RING.open_finished(finished(size))


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "first ledger line"),
        (f"ledger {LATTICE}\n", "first ledger line"),
        (f"ledger {EPOCH_SIGNER.key}\nledger {LEDGER_SIGNER.key}\n", "same ledger"),
        (f"ledger {LEDGER_SIGNER.key}\nepoch 2 - {LEDGER_SIGNER.key}\n", "every epoch"),
        (f"ledger {LEDGER_SIGNER.key}\nepoch 02 - {EPOCH_SIGNER.key}\n", "line 2"),
        (f"ledger {LEDGER_SIGNER.key}\nepoch 2 {EPOCH_SIGNER.key}\n", "line 2"),
        (f"ledger {LEDGER_SIGNER.key}\nepoch 2  - {EPOCH_SIGNER.key}\n", "line 2"),
        (f"ledger {LEDGER_SIGNER.key}\n{EPOCH_SIGNER.key}\n", "line 2"),
        ("ledger x\n", "line 1"),
    ],
)  # fmt: skip
def test_a_line_with_two_meanings_is_refused(text: str, because: str) -> None:
    with pytest.raises(KeyringError, match=because):
        parse_keyring(text.encode())


@given(st.binary(max_size=200) | st.text("ledgrpoch 0123-+=\n#", max_size=100).map(str.encode))
def test_any_bytes_are_keys_or_a_keyring_error(raw: bytes) -> None:
    with pytest.raises(KeyringError):
        parse_keyring(raw)
