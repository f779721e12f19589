"""Who may set a manifest. Every test is a way in which somebody else might."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from manifest.authorise import (
    BadOwnerSignatureError,
    NotAnOwnerError,
    SeedShareOwnersChangedError,
    Signature,
    UpdatesDisabledError,
    check_successor,
    genesis_previous,
    key_digest,
    sign_transition,
    signing_input,
    transition,
    verify_owner,
)
from manifest.model import Manifest
from tests.support.manifests import manifest, pkcs1, share_owner

ORIGIN = "contrast.invalid/" + "01" * 32
OWNER, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
STEP = transition(bytes(32), genesis_previous(ORIGIN))
DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo


def owned(*keys: ec.EllipticCurvePrivateKey) -> Manifest:
    return manifest(WorkloadOwnerKeyDigests=[key_digest(key.public_key()).hex() for key in keys])


def judge(*signatures: Signature, **changes: Any) -> tuple[bytes, ...]:
    fields = {"manifest_in_force": owned(OWNER), "offered": owned(OTHER), "origin": ORIGIN, "transition_hash": STEP}
    return verify_owner(signatures, **{**fields, **changes})


def test_the_bytes_are_those_of_the_format() -> None:
    """docs/formats.md section 8; other programs sign these bytes."""
    previous = hashlib.sha256(b"contrast/genesis/v1\0" + ORIGIN.encode()).digest()
    assert genesis_previous(ORIGIN) == previous
    assert transition(b"m" * 32, previous) == hashlib.sha256(b"m" * 32 + previous).digest()
    assert signing_input(ORIGIN, STEP) == b"contrast/manifest-set/v1\0" + ORIGIN.encode() + b"\0" + STEP
    spki = OWNER.public_key().public_bytes(DER, SPKI)
    assert key_digest(OWNER.public_key()) == hashlib.sha256(spki).digest()


def test_the_owner_of_the_manifest_in_force_may_update() -> None:
    assert judge(sign_transition(OWNER, ORIGIN, STEP)) == (key_digest(OWNER.public_key()),)


def test_the_offered_manifest_cannot_name_its_own_owner() -> None:
    """Whoever could, would own every deployment."""
    with pytest.raises(NotAnOwnerError):
        judge(sign_transition(OTHER, ORIGIN, STEP))


def test_the_first_manifest_is_signed_by_one_of_its_own_owners() -> None:
    assert judge(sign_transition(OTHER, ORIGIN, STEP), manifest_in_force=None)
    with pytest.raises(NotAnOwnerError):
        judge(sign_transition(OWNER, ORIGIN, STEP), manifest_in_force=None)
    with pytest.raises(NotAnOwnerError):
        judge(manifest_in_force=None)


def test_a_first_manifest_without_owners_needs_no_signature_and_allows_no_update() -> None:
    assert judge(manifest_in_force=None, offered=owned()) == ()
    with pytest.raises(NotAnOwnerError):
        judge(sign_transition(OWNER, ORIGIN, STEP), manifest_in_force=None, offered=owned())
    with pytest.raises(UpdatesDisabledError):
        judge(sign_transition(OWNER, ORIGIN, STEP), manifest_in_force=owned())


def test_a_signature_is_good_for_one_transition_of_one_ledger() -> None:
    good = sign_transition(OWNER, ORIGIN, STEP)
    with pytest.raises(BadOwnerSignatureError):
        judge(good, transition_hash=transition(bytes(32), STEP))
    with pytest.raises(BadOwnerSignatureError):
        judge(good, origin="contrast.invalid/" + "02" * 32)


def test_an_unsigned_command_is_refused() -> None:
    with pytest.raises(NotAnOwnerError, match="not signed"):
        judge()


def test_a_good_signature_carries_no_bad_one() -> None:
    good = sign_transition(OWNER, ORIGIN, STEP)
    with pytest.raises(NotAnOwnerError):
        judge(good, sign_transition(OTHER, ORIGIN, STEP))
    with pytest.raises(BadOwnerSignatureError, match="twice"):
        judge(good, sign_transition(OWNER, ORIGIN, STEP))
    with pytest.raises(BadOwnerSignatureError):
        judge(good, Signature(OTHER.public_key().public_bytes(DER, SPKI), b"x"), manifest_in_force=owned(OWNER, OTHER))


def test_several_owners_may_sign() -> None:
    both = (sign_transition(OWNER, ORIGIN, STEP), sign_transition(OTHER, ORIGIN, STEP))
    assert len(judge(*both, manifest_in_force=owned(OWNER, OTHER))) == 2


def named(spki: bytes) -> Manifest:
    return manifest(WorkloadOwnerKeyDigests=[hashlib.sha256(spki).hexdigest()])


@pytest.mark.parametrize(
    "spki",
    [
        b"no key",
        share_owner().public_key().public_bytes(DER, SPKI),
        ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(DER, SPKI),
        OWNER.public_key().public_bytes(DER, SPKI) + b"\0",
        # The same key with a compressed point: a second name for one owner.
        bytes.fromhex("3046301006072a8648ce3d020106052b81040022033200")
        + OWNER.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint),
    ],
    ids=["garbage", "rsa", "p256", "trailing", "compressed"],
)
def test_a_key_in_another_form_is_no_owner_even_if_its_digest_is_named(spki: bytes) -> None:
    signature = sign_transition(OWNER, ORIGIN, STEP).signature
    with pytest.raises(BadOwnerSignatureError):
        judge(Signature(spki, signature), manifest_in_force=named(spki))


def test_another_curve_or_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="P-384"):
        sign_transition(ec.generate_private_key(ec.SECP256R1()), ORIGIN, STEP)
    weak = OWNER.sign(signing_input(ORIGIN, STEP), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(BadOwnerSignatureError):
        judge(Signature(OWNER.public_key().public_bytes(DER, SPKI), weak))


def test_too_many_signatures_are_not_verified() -> None:
    with pytest.raises(BadOwnerSignatureError, match="at most 16"):
        judge(*[sign_transition(OWNER, ORIGIN, STEP)] * 17)


def test_seed_share_owners_never_change() -> None:
    second = pkcs1(share_owner(3072, 1)).hex()
    check_successor(owned(OWNER), owned(OTHER))
    for keys in ([], [second], [pkcs1(share_owner()).hex(), second]):
        with pytest.raises(SeedShareOwnersChangedError):
            check_successor(owned(OWNER), manifest(SeedshareOwnerPubKeys=keys))
