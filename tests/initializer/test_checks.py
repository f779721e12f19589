"""Each of the ten checks by itself: one thing is wrong, and the check of that number finds it."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestation.evidence import Evidence
from initializer.checks import Checked, Expected, check_answer
from initializer.errors import WrongAnswerError
from ledger.checkpoint import Checkpoint
from tests.support.fakemesh import NOW, SECRET_ID, Answer, FakeMesh, ReportIssuer, certificate, new_key
from wire.evidence import to_message
from wire.extensions import (
    LeafCheckpoint,
    checkpoint_extension,
    claims_extension,
    companions_extension,
    simulated_extension,
)
from wire.messages import CertificateRequest, Head, SealedSecret
from wire.sealing import hpke_seal, secret_check, secret_info

POLICY = b"p" * 32
DER = serialization.Encoding.DER


class Pod:
    """A pod's side of one request to *mesh*."""

    def __init__(self, mesh: FakeMesh, known: Checkpoint | None = None) -> None:
        self.mesh = mesh
        self.key = new_key()
        self.hpke = X25519PrivateKey.generate()
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(self.key, hashes.SHA384())
        report = bytearray(1184)
        report[0xC0:0xE0] = POLICY
        evidence = Evidence.make(ReportIssuer.kind, {"report": bytes(report)})
        self.known = known
        self.request = CertificateRequest(
            nonce=bytes(32),
            csr=csr.public_bytes(DER),
            hpke_public_key=self.hpke.public_key().public_bytes_raw(),
            evidence=to_message(evidence),
            known_head=None if known is None else Head(size=known.size, root=known.root.hex()),
        )

    def check(self, answer: Answer, **changes: Any) -> Checked:
        fields: dict[str, Any] = {
            "public_key_der": self.key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo),
            "hpke_private": self.hpke,
            "policy": POLICY,
            "simulated": True,
            "known_head": self.known,
        }
        now = changes.pop("now", NOW)
        return check_answer(
            answer.bundle(), answer.sealed, answer.consistency, Expected(**{**fields, **changes}), now=now
        )

    def answer(self, **changes: Any) -> Answer:
        return self.mesh.answer(self.request, **changes)


def check_refused(number: int, answer: Answer, pod: Pod, *, because: str = "fails check", **changes: Any) -> None:
    with pytest.raises(WrongAnswerError, match=because) as caught:
        pod.check(answer, **changes)
    assert caught.value.check == number
    assert "Nothing was written" in str(caught.value)


@pytest.fixture
def pod() -> Pod:
    return Pod(FakeMesh())


def test_a_genuine_answer_passes(pod: Pod) -> None:
    answer = pod.answer()
    checked = pod.check(answer)
    assert checked.secrets == {SECRET_ID: pod.mesh.secret}
    assert checked.head == pod.mesh.checkpoint()
    assert checked.seq == len(pod.mesh.entries) - 1
    assert pod.mesh.secret is not None
    assert repr(pod.mesh.secret) not in repr(checked), "a secret shows when the answer is printed"


def test_a_later_receipt_of_the_same_entry_passes(pod: Pod) -> None:
    """The same request again gets the same certificate, when the ledger has grown and another epoch signs."""
    pod.mesh.secret = None
    answer = pod.answer()
    seq = len(pod.mesh.entries) - 1
    pod.mesh.append("secret.released", [1])
    pod.mesh.epoch_key = FakeMesh().epoch_key
    assert pod.check(answer.swapped(receipt=pod.mesh.receipt(seq))).head.size == seq + 2


@pytest.mark.parametrize("part", ["leaf", "intermediate", "mesh_ca", "root_ca", "receipt"])
def test_1_parts_that_cannot_be_read(pod: Pod, part: str) -> None:
    answer = pod.answer()
    good = getattr(answer, part)
    for broken in (b"x", good[:-1], good + b"\0"):
        check_refused(1, answer.swapped(**{part: broken}), pod)


def test_1_a_receipt_without_entry(pod: Pod) -> None:
    answer = pod.answer()
    check_refused(1, answer.swapped(receipt=pod.mesh.receipt(3, extra=b"")), pod)
    check_refused(1, answer.swapped(receipt=pod.mesh.receipt(3, extra=b"\x92\xc4\x00\xc4\x00")), pod)


def test_1_a_leaf_without_checkpoint(pod: Pod) -> None:
    check_refused(1, pod.answer(checkpoint=None), pod, because="no checkpoint")


def test_2_the_leaf_is_for_another_key(pod: Pod) -> None:
    check_refused(2, Pod(pod.mesh).answer(), pod)


def test_3_the_leaf_is_a_ca(pod: Pod) -> None:
    check_refused(3, pod.answer(path_length=0), pod, because="is a CA")


def test_3_the_leaf_is_not_for_both_ends(pod: Pod) -> None:
    check_refused(3, pod.answer(usage=(ExtendedKeyUsageOID.SERVER_AUTH,)), pod, because="both ends")


def test_3_the_leaf_is_not_valid_now(pod: Pod) -> None:
    answer = pod.answer()
    check_refused(3, answer, pod, now=NOW + timedelta(days=366), because="clocks")
    check_refused(3, answer, pod, now=NOW - timedelta(days=1), because="clocks")


def test_4_another_key_or_name_of_the_intermediate(pod: Pod) -> None:
    mesh, answer = pod.mesh, pod.answer()
    other = certificate("mesh", "root", new_key().public_key(), mesh.root_key, path_length=0)
    check_refused(4, answer.swapped(intermediate=other), pod)
    renamed = certificate("other", "root", mesh.mesh_key.public_key(), mesh.root_key, path_length=0)
    check_refused(4, answer.swapped(intermediate=renamed), pod)


def test_4_a_mesh_ca_that_others_signed(pod: Pod) -> None:
    """A certificate of the mesh key under somebody's own root, offered as the thing to trust."""
    mesh, answer = pod.mesh, pod.answer()
    other = certificate("mesh", "mesh", mesh.mesh_key.public_key(), new_key(), path_length=0)
    check_refused(4, answer.swapped(mesh_ca=other), pod, because="not signed by itself")
    no_ca = certificate("mesh", "mesh", mesh.mesh_key.public_key(), mesh.mesh_key, path_length=None)
    check_refused(4, answer.swapped(mesh_ca=no_ca), pod, because="is no CA")


def test_5_an_intermediate_or_root_that_others_signed(pod: Pod) -> None:
    mesh, answer = pod.mesh, pod.answer()
    other = certificate("mesh", "root", mesh.mesh_key.public_key(), new_key(), path_length=0)
    check_refused(5, answer.swapped(intermediate=other), pod, because="not signed by the root CA")
    root = certificate("root", "root", mesh.root_key.public_key(), new_key(), path_length=1)
    check_refused(5, answer.swapped(root_ca=root), pod, because="not signed by itself")


def test_6_a_root_of_the_same_key_that_the_leaf_does_not_name(pod: Pod) -> None:
    mesh, answer = pod.mesh, pod.answer()
    again = certificate("root", "root", mesh.root_key.public_key(), mesh.root_key, path_length=1)
    check_refused(6, answer.swapped(root_ca=again), pod)


def test_6_a_root_and_an_intermediate_that_a_host_made_for_the_genuine_mesh_key(pod: Pod) -> None:
    """Both verify; only the leaf, signed by the mesh key, says which root it belongs to."""
    attacker = new_key()
    check_refused(
        6,
        pod.answer().swapped(
            root_ca=certificate("root", "root", attacker.public_key(), attacker, path_length=1),
            intermediate=certificate("mesh", "root", pod.mesh.mesh_key.public_key(), attacker, path_length=0),
        ),
        pod,
    )


def test_6_a_leaf_that_names_nothing(pod: Pod) -> None:
    check_refused(6, pod.answer(companions=None), pod)
    check_refused(6, pod.answer(claims=None), pod)


def test_7_claims_of_another_policy(pod: Pod) -> None:
    claims = claims_extension(b'{"host_data":"' + b"00" * 32 + b'"}')
    check_refused(7, pod.answer(claims=claims), pod, because=f"this pod's, {POLICY.hex()}")
    check_refused(7, pod.answer(claims=claims_extension(b"{}")), pod)


def test_7_simulation_is_neither_hidden_nor_claimed(pod: Pod) -> None:
    check_refused(7, pod.answer(simulated=None), pod)
    check_refused(7, pod.answer(), pod, simulated=False)
    pod.check(pod.answer(simulated=None), simulated=False)
    pod.check(pod.answer(simulated=simulated_extension()))


def test_8_a_secret_that_is_missing_or_that_nobody_named(pod: Pod) -> None:
    answer = pod.answer()
    check_refused(8, answer.swapped(sealed=()), pod)
    check_refused(8, answer.swapped(sealed=answer.sealed * 2), pod)
    check_refused(8, answer.swapped(sealed=(SealedSecret(id="other", data=answer.sealed[0].data),)), pod)
    unnamed = companions_extension(hashlib.sha256(pod.mesh.root_ca).digest(), {})
    check_refused(8, pod.answer(companions=unnamed), pod)


def test_8_a_secret_for_another_bundle_ledger_or_receiver(pod: Pod) -> None:
    answer = pod.answer()
    secret = pod.mesh.secret or b""
    bound = hashlib.sha256(answer.bundle()).digest()
    public = pod.request.hpke_public_key
    stranger = X25519PrivateKey.generate().public_key().public_bytes_raw()
    for info, to in (
        (secret_info(pod.mesh.origin, bytes(32)), public),
        (secret_info("contrast.invalid/" + "00" * 32, bound), public),
        (secret_info(pod.mesh.origin, bound), stranger),
    ):
        sealed = (SealedSecret(id=SECRET_ID, data=hpke_seal(secret, to, info)),)
        check_refused(8, answer.swapped(sealed=sealed), pod, because="does not open")


@pytest.mark.parametrize("secret", [b"h" * 64, b"short", b""], ids=["of the host", "short", "empty"])
def test_8_a_secret_that_the_leaf_does_not_name(pod: Pod, secret: bytes) -> None:
    answer = pod.answer()
    info = secret_info(pod.mesh.origin, hashlib.sha256(answer.bundle()).digest())
    sealed = (SealedSecret(id=SECRET_ID, data=hpke_seal(secret, pod.request.hpke_public_key, info)),)
    check_refused(8, answer.swapped(sealed=sealed), pod)


@pytest.fixture
def bare() -> Pod:
    """A pod without a secret, so that the receipt is bound by nothing but its own check."""
    return Pod(FakeMesh(secret=None))


@pytest.mark.parametrize(
    "receipt",
    [
        lambda mesh, _: mesh.receipt(0),
        lambda mesh, seq: mesh.receipt(seq, signers="ledger"),
        lambda mesh, seq: mesh.receipt(seq, signers="epoch"),
        lambda mesh, seq: mesh.receipt(seq, signers="ledger stranger"),
        lambda mesh, seq: mesh.receipt(0, extra=mesh.entries[seq].raw),
        lambda mesh, seq: mesh.receipt(seq, extra=mesh.entries[0].raw),
        lambda mesh, _: FakeMesh(mesh_key=mesh.mesh_key, secret=None).receipt(0),
    ],
    ids=["other entry", "no epoch", "no ledger", "stranger", "not included", "other extra", "other ledger"],
)
def test_9_a_receipt_that_proves_something_else(bare: Pod, receipt: Callable[[FakeMesh, int], bytes]) -> None:
    answer = bare.answer()
    seq = len(bare.mesh.entries) - 1
    bare.check(answer)
    check_refused(9, answer.swapped(receipt=receipt(bare.mesh, seq)), bare)


def test_9_an_entry_of_another_type_that_names_the_leaf(bare: Pod) -> None:
    answer = bare.answer()
    seq = bare.mesh.append("attestation.accepted", [1, hashlib.sha256(answer.leaf).digest()]).body.seq
    check_refused(9, answer.swapped(receipt=bare.mesh.receipt(seq)), bare, because=r"attestation\.accepted")


def test_9_an_entry_with_a_bad_signature(bare: Pod) -> None:
    answer = bare.answer()
    entry = bare.mesh.entries[-1]
    bare.mesh.entries[-1] = type(entry).seal(entry.body, bytes(64))
    check_refused(9, answer.swapped(receipt=bare.mesh.receipt(entry.body.seq)), bare, because="receipt proves nothing")


def test_9_a_checkpoint_that_the_entrys_own_epoch_did_not_sign(bare: Pod) -> None:
    """The line says that this epoch signed; the signature does not verify."""
    answer = bare.answer()
    text = answer.receipt.decode()
    head, _, last = text.rstrip("\n").rpartition(" ")
    flipped = last[:20] + ("A" if last[20] != "A" else "B") + last[21:]
    check_refused(9, answer.swapped(receipt=f"{head} {flipped}\n".encode()), bare, because="not signed as it says")


def test_9_a_checkpoint_in_the_leaf_that_is_of_another_ledger_or_too_new(bare: Pod) -> None:
    head = bare.mesh.checkpoint()
    foreign = LeafCheckpoint("contrast.invalid/" + "00" * 32, head.size, head.root)
    check_refused(9, bare.answer(checkpoint=checkpoint_extension(foreign.text())), bare)
    newer = LeafCheckpoint(head.origin, 99, head.root)
    check_refused(9, bare.answer(checkpoint=checkpoint_extension(newer.text())), bare)


def test_10_a_ledger_that_grew_is_accepted() -> None:
    mesh = FakeMesh()
    known = mesh.checkpoint()
    pod = Pod(mesh, known)
    assert pod.check(pod.answer()).head.size == known.size + 1


def test_10_a_ledger_that_was_rolled_back_or_replaced_is_refused() -> None:
    mesh = FakeMesh()
    newer = Checkpoint(mesh.origin, 9, b"r" * 32)
    pod = Pod(mesh, mesh.checkpoint())
    answer = pod.answer()
    check_refused(10, answer.swapped(consistency=None), pod, because="does not prove")
    check_refused(10, answer, pod, known_head=newer, because="does not extend the one of size 9")
    forked = Checkpoint(mesh.origin, 3, b"f" * 32)
    check_refused(10, answer, pod, known_head=forked, because="does not extend")
    replaced = Checkpoint("contrast.invalid/" + "00" * 32, 3, mesh.checkpoint(3).root)
    check_refused(10, answer, pod, known_head=replaced, because="this pod knows contrast.invalid/0000")


@pytest.mark.parametrize("part", ["leaf", "intermediate", "mesh_ca", "root_ca", "receipt"])
def test_a_changed_byte_ends_in_a_refusal_and_never_in_a_crash(bare: Pod, part: str) -> None:
    """Every third byte, so that it stays quick; the receipt's ledger signature is verified by peers, not here."""
    answer = bare.answer()
    raw = getattr(answer, part)
    last = raw.rindex(b"\n\n") if part == "receipt" else len(raw)
    for position in range(0, last, 3):
        for flip in (0x01, 0x80, 0xFF):
            changed = raw[:position] + bytes([raw[position] ^ flip]) + raw[position + 1 :]
            with pytest.raises(WrongAnswerError):
                bare.check(answer.swapped(**{part: changed}))


def test_1_a_certificate_that_could_be_written_otherwise(bare: Pod) -> None:
    """A bit string that announces unused bits: parsers differ on whether that is a certificate."""
    answer = bare.answer()
    signature = x509.load_der_x509_certificate(answer.intermediate).signature
    for bits in (1, 2):
        changed = answer.intermediate.replace(b"\0" + signature, bytes([bits]) + signature)
        check_refused(1, answer.swapped(intermediate=changed), bare)


def test_keys_of_other_kinds_do_not_crash_the_checks(pod: Pod) -> None:
    """A CA may hold any key that X.509 knows; each ends in a refusal."""
    p256 = ec.generate_private_key(ec.SECP256R1())
    answer = pod.answer()
    for part, issuer in (("mesh_ca", "mesh"), ("root_ca", "root")):
        other = certificate(issuer, issuer, p256.public_key(), p256, path_length=1)
        with pytest.raises(WrongAnswerError):
            pod.check(answer.swapped(**{part: other}))


def test_the_check_of_a_secret_is_that_of_the_format() -> None:
    assert secret_check(b"s" * 64) == hashlib.sha256(b"contrast/secret-check/v1\0" + b"s" * 64).digest()
