"""Receipts as a person checks them, offline: every mix of certificate, receipt and keys but the right one fails."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from audit.receipt import ReceiptError, check_receipt, keyring_of
from coordinator.opening import open_ledger
from ledger.checkpoint import Checkpoint, epoch_name
from ledger.keyring import EpochKey, Keyring, parse_keyring
from ledger.lmdb_store import LmdbStore
from ledger.note import NoteSigner, sign_note, split_note
from ledger.proof import TlogProof, parse_proof
from tests.cli.test_against_coordinator import SIMULATED, set_manifest
from tests.coordinator.test_evidence import until
from tests.support.cli_world import LiveCoordinator, World, live_coordinator
from tests.support.deployment import VAULT_POLICY, Pod
from wire.bundle import parse_bundle


class Issued:
    """A verified deployment with two pods' certificates."""

    def __init__(self, world: World, live: LiveCoordinator) -> None:
        self.world = world
        set_manifest(world, live)
        self.bundles = [parse_bundle(live.issue(pod).bundle) for pod in (Pod(), Pod(VAULT_POLICY))]
        for number, bundle in enumerate(self.bundles):
            chain = b"".join(
                x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
                for der in (bundle.leaf, bundle.intermediate)
            )
            (world.root / f"chain.{number}.pem").write_bytes(chain)
            (world.root / f"receipt.{number}").write_bytes(bundle.receipt)
        live.call(_cosigned(live))
        world.ok("verify", "--full", "-c", live.address, "-m", "manifest.json", SIMULATED)
        self.keys = parse_keyring((world.root / "verify" / "ledger.vkeys").read_bytes())


async def _cosigned(live: LiveCoordinator) -> None:
    """The newest checkpoint has all lines."""
    await until(lambda: len(split_note((live.running.service.ledger.finished or "").encode())[1]) == 5)


@pytest.fixture
def issued(tmp_path: Path) -> Issued:
    (tmp_path / "work").mkdir()
    store = LmdbStore(tmp_path / "store")
    with live_coordinator(store) as live:
        there = Issued(World(tmp_path / "work"), live)
    store.close()
    return there


def test_a_certificates_receipt_is_checked_without_a_network(issued: Issued) -> None:
    world = issued.world
    said = world.ok("ledger", "check-receipt", "chain.0.pem", "receipt.0").output
    assert "is recorded" in said
    document = json.loads(world.ok("ledger", "check-receipt", "chain.1.pem", "receipt.1", "--json").stdout)
    assert document["ok"]
    assert document["seq"] == 6
    (world.root / "leaf.der").write_bytes(issued.bundles[0].leaf)
    shutil.copy(world.root / "verify" / "ledger.vkeys", world.root / "keys")
    world.ok("ledger", "check-receipt", "leaf.der", "receipt.0", "--vkeys", "keys")


def test_another_pods_receipt_is_refused(issued: Issued) -> None:
    """Any receipt would vouch for any certificate."""
    world = issued.world
    world.refused("ledger", "check-receipt", "chain.0.pem", "receipt.1", because="check 5")
    (world.root / "middle.der").write_bytes(issued.bundles[0].intermediate)
    world.refused("ledger", "check-receipt", "middle.der", "receipt.0", because="check 5")
    said = world.refused("ledger", "check-receipt", "manifest.json", "receipt.0", because="PEM or DER").output
    assert "ParseError" not in said


def refused(issued: Issued, receipt: TlogProof | bytes, keys: Keyring, check: int) -> None:
    raw = receipt if isinstance(receipt, bytes) else receipt.text().encode()
    with pytest.raises(ReceiptError) as caught:
        check_receipt(issued.bundles[0].leaf, raw, keys)
    assert caught.value.check == check, caught.value


def test_what_the_keys_do_not_name_proves_nothing(issued: Issued) -> None:
    """Keys of nobody, an epoch outside of its sizes, or a stolen seed alone would do."""
    receipt, keys = issued.bundles[0].receipt, issued.keys
    (epoch,) = keys.epochs
    refused(issued, receipt, Keyring(keys.ledger, (), ()), 2)
    refused(issued, receipt, Keyring(keys.ledger, (), (EpochKey(epoch.key, 2, 3),)), 2)
    refused(issued, receipt, Keyring(keys.ledger, (), (EpochKey(epoch.key, 50, None),)), 2)
    stranger = NoteSigner(keys.ledger.name, Ed25519PrivateKey.generate())
    refused(issued, receipt, Keyring(stranger.key, (), keys.epochs), 3)
    # Entry and epoch are genuine, the tree is signed by the ledger key only, or by an epoch that was closed.
    proof = parse_proof(receipt)
    head, _, lines = proof.checkpoint_raw.partition("\n\n")
    first = lines.split("\n", 1)[0] + "\n"
    refused(issued, TlogProof(proof.index, proof.hashes, f"{head}\n\n{first}", proof.extra), keys, 3)
    with pytest.raises(ReceiptError, match=r"check 3.*not open then"):
        check_receipt(issued.bundles[1].leaf, issued.bundles[1].receipt, Keyring(
            keys.ledger, (), (EpochKey(epoch.key, 2, 7),)
        ))  # fmt: skip
    thief = NoteSigner(epoch_name(keys.ledger.name), Ed25519PrivateKey.generate())
    text = Checkpoint(keys.ledger.name, proof.index + 1, bytes(32)).text()
    forged = f"{head}\n\n{first}" + sign_note(text, [thief]).partition("\n\n")[2]
    refused(issued, TlogProof(proof.index, proof.hashes, forged, proof.extra), keys, 3)


def test_a_changed_receipt_is_refused(issued: Issued) -> None:
    proof = parse_proof(issued.bundles[0].receipt)
    keys = issued.keys
    refused(issued, b"nonsense", keys, 1)
    refused(issued, TlogProof(proof.index, proof.hashes, proof.checkpoint_raw), keys, 1)
    refused(issued, TlogProof(proof.index + 1, proof.hashes, proof.checkpoint_raw, proof.extra), keys, 1)
    refused(issued, TlogProof(proof.index, proof.hashes[:-1], proof.checkpoint_raw, proof.extra), keys, 4)
    refused(issued, TlogProof(proof.index, (bytes(32), *proof.hashes[1:]), proof.checkpoint_raw, proof.extra), keys, 4)
    entry = bytearray(proof.extra)
    entry[-1] ^= 1
    refused(issued, TlogProof(proof.index, proof.hashes, proof.checkpoint_raw, bytes(entry)), keys, 2)
    size = str(parse_proof(issued.bundles[0].receipt).checkpoint_raw.split("\n")[1])
    grown = proof.checkpoint_raw.replace(f"\n{size}\n", f"\n{int(size) + 1}\n", 1)
    refused(issued, TlogProof(proof.index, proof.hashes, grown, proof.extra), keys, 3)


def test_an_entry_of_another_kind_is_no_issuance(issued: Issued) -> None:
    """The attestation stands right before the certificate, under the same request."""
    world = issued.world
    world.ok("ledger", "receipt", "verify/ledger", "--seq", "3", "-o", "attestation")
    world.refused("ledger", "check-receipt", "chain.0.pem", "attestation", because="certificate.issued was wanted")


@pytest.mark.parametrize("source", ["verify/ledger", "../store"])
def test_a_receipt_can_be_made_later_from_any_copy(issued: Issued, source: str) -> None:
    world = issued.world
    printed = world.ok("ledger", "receipt", source, "--seq", "4").stdout
    (world.root / "later").write_text(printed)
    world.ok("ledger", "check-receipt", "chain.0.pem", "later")
    world.ok("ledger", "receipt", source, "--seq", "4", "--cose", "-o", "later.cose")
    world.ok("ledger", "check-receipt", "chain.0.pem", "later.cose", "--entry", "later.cose.entry")
    world.refused(
        "ledger", "check-receipt", "chain.1.pem", "later.cose", "--entry", "later.cose.entry", because="check 5"
    )
    entry = world.root / "later.cose.entry"
    raw = entry.read_bytes()
    entry.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))  # Not a fixed byte: one signature in sixteen ends with it.
    world.refused("ledger", "check-receipt", "chain.0.pem", "later.cose", "--entry", str(entry), because="check 2")


def test_questions_that_have_no_answer_say_so(issued: Issued) -> None:
    world = issued.world
    world.refused("ledger", "receipt", "verify/ledger", "--seq", "999", because="there is no entry 999", status=2)
    world.refused("ledger", "receipt", "verify/ledger", "--seq", "4", "--cose", because="--output", status=2)
    world.refused("ledger", "check-receipt", "receipt.0", "receipt.0", because="no certificate")
    world.refused(
        "ledger", "check-receipt", "chain.0.pem", "receipt.0", "--vkeys", "nowhere", because="nowhere", status=4
    )
    (world.root / "bad").write_text("ledger\n")
    world.refused("ledger", "check-receipt", "chain.0.pem", "receipt.0", "--vkeys", "bad", because="line 1")


def test_the_keys_are_those_of_the_replay(issued: Issued, tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store", readonly=True)
    assert keyring_of(open_ledger(store).state) == issued.keys
    store.close()
