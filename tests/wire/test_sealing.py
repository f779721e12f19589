"""Sealing: what is sealed opens for one key and one purpose, and the formats are those of the documentation."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.support.manifests import share_owner
from wire.sealing import (
    SealingError,
    hpke_open,
    hpke_seal,
    open_seed_share,
    recovery_input,
    same,
    seal_seed_share,
    secret_check,
    secret_info,
    seed_info,
    sign_recovery,
    verify_recovery,
)

ORIGIN = "contrast.invalid/" + "0f" * 32
KEY, OTHER = X25519PrivateKey.generate(), X25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
INFO = secret_info(ORIGIN, b"b" * 32)
SEED, SALT = b"s" * 64, b"t" * 32


def test_info_strings_are_those_of_the_format() -> None:
    """docs/formats.md sections 6 and 10."""
    assert secret_info(ORIGIN, b"b" * 32) == b"contrast/workload-secret/v1\0" + ORIGIN.encode() + b"\0" + b"b" * 32
    head = b"\0\0\0\0\0\0\1\2" + b"r" * 32
    assert seed_info(ORIGIN, b"h" * 32, 258, b"r" * 32) == (
        b"contrast/seed/v1\0" + ORIGIN.encode() + b"\0" + b"h" * 32 + head
    )
    assert recovery_input(ORIGIN, b"h" * 32, 258, b"r" * 32, b"q" * 32) == (
        b"contrast/recovery/v1\0" + ORIGIN.encode() + b"\0" + b"h" * 32 + head + b"q" * 32
    )
    assert secret_check(SEED) == hashlib.sha256(b"contrast/secret-check/v1\0" + SEED).digest()


def test_a_secret_opens_for_its_receiver_and_its_purpose_alone() -> None:
    sealed = hpke_seal(SEED, PUBLIC, INFO)
    assert len(sealed) == 32 + 64 + 16
    assert hpke_open(sealed, KEY, INFO) == SEED
    for key, info in ((OTHER, INFO), (KEY, secret_info(ORIGIN, b"c" * 32)), (KEY, seed_info(ORIGIN, SALT, 1, SALT))):
        with pytest.raises(SealingError):
            hpke_open(sealed, key, info)


def test_every_changed_bit_and_every_length_is_refused() -> None:
    sealed = hpke_seal(SEED, PUBLIC, INFO)
    for position in range(len(sealed)):
        with pytest.raises(SealingError):
            hpke_open(sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :], KEY, INFO)
        with pytest.raises(SealingError):
            hpke_open(sealed[:position], KEY, INFO)
    with pytest.raises(SealingError):
        hpke_open(sealed + b"\0", KEY, INFO)


@pytest.mark.parametrize("public", [b"", b"k" * 31, b"k" * 33, bytes(32), b"\1" + bytes(31)])
def test_a_key_to_which_anyone_could_listen_is_refused(public: bytes) -> None:
    """Points of low order give a shared secret that everybody knows."""
    with pytest.raises(SealingError):
        hpke_seal(SEED, public, INFO)


def test_a_seed_share_opens_for_its_owner_and_its_ledger_alone() -> None:
    owner = share_owner()
    sealed = seal_seed_share(SEED, SALT, owner.public_key(), ORIGIN)
    assert open_seed_share(sealed, owner, ORIGIN) == (SEED, SALT)
    for key, origin in ((share_owner(3072, 1), ORIGIN), (owner, "contrast.invalid/" + "00" * 32)):
        with pytest.raises(SealingError):
            open_seed_share(sealed, key, origin)
    label = b"contrast/seed-share/v1\0" + ORIGIN.encode()
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label)
    assert owner.decrypt(sealed, oaep) == SEED + SALT
    with pytest.raises(SealingError, match="holds 5 bytes"):
        open_seed_share(owner.public_key().encrypt(b"short", oaep), owner, ORIGIN)


def test_a_recovery_is_signed_by_the_share_owner_for_this_seed_and_head() -> None:
    message = recovery_input(ORIGIN, b"h" * 32, 7, b"r" * 32, b"q" * 32)
    signature = sign_recovery(share_owner(), message)
    public = share_owner().public_key()
    assert verify_recovery(public, signature, message)
    assert not verify_recovery(share_owner(3072, 1).public_key(), signature, message)
    assert not verify_recovery(public, signature[:-1] + bytes([signature[-1] ^ 1]), message)
    assert not verify_recovery(public, b"", message)
    assert not verify_recovery(public, signature, recovery_input(ORIGIN, b"h" * 32, 8, b"r" * 32, b"q" * 32))


def test_a_wrong_length_cannot_shift_what_is_bound() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        secret_info(ORIGIN, b"b" * 31)
    with pytest.raises(ValueError, match="64 bytes"):
        secret_check(b"short")
    with pytest.raises(OverflowError):
        seed_info(ORIGIN, SALT, -1, SALT)


def test_comparison_is_of_the_whole() -> None:
    assert same(b"abc", b"abc")
    assert not same(b"abc", b"abd")
    assert not same(b"abc", b"abcd")
