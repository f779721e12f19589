"""Keys that follow from the seed. If these change, a recovered Coordinator is another one."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from coordinator.keys import Seed, deterministic_key, public_bytes

LEDGER = "37db33b20c8a9398f27f57397be551d4d7d4ef4cc9a400a11d2b2d46001f9ed4"
SECRET = "7ce544be893b63b4977f43122468efbf"
MESH = "7b584a7eeff335272c90040d4272c282"
SEED = Seed(bytes(range(64)), bytes(range(32)))


def test_det_keygen_agrees_with_the_published_vectors(vectors: Path) -> None:
    seen = 0
    for case in json.loads((vectors / "tlog/c2sp-det-keygen/ecdsa.json").read_text()):
        curve = {"secp256r1": "P-256", "secp384r1": "P-384"}.get(case["curve"])
        if curve is None:
            continue
        wanted = load_der_private_key(base64.b64decode(case["private_key_pkcs8"]), None)
        key = deterministic_key(curve, base64.b64decode(case["seed"]))
        assert key.private_numbers() == wanted.private_numbers()  # type: ignore[union-attr]
        seen += 1
    assert seen >= 10


def test_keys_stay_what_they_were_in_the_first_release() -> None:
    assert public_bytes(SEED.ledger_key()).hex() == LEDGER
    assert SEED.workload_secret("db").hex()[:32] == SECRET
    assert f"{SEED.mesh_ca_key(bytes(32)).private_numbers().private_value:x}"[:32] == MESH


def test_each_use_and_context_gives_another_key() -> None:
    values = {
        public_bytes(SEED.ledger_key()),
        SEED.workload_secret("a"),
        SEED.workload_secret("b"),
        SEED.mesh_ca_key(bytes(32)).private_numbers().private_value,
        SEED.mesh_ca_key(b"\x01" * 32).private_numbers().private_value,
        SEED.root_ca_key().private_numbers().private_value,
    }
    assert len(values) == 6


def test_a_seed_is_never_printed() -> None:
    assert SEED.seed.hex()[:8] not in repr(SEED)
    assert "\\x00\\x01" not in repr(SEED)


@pytest.mark.parametrize("size", [0, 95, 97])
def test_a_share_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="96 bytes"):
        Seed.unpack(bytes(size))


def test_a_share_comes_back_as_it_was_packed() -> None:
    assert Seed.unpack(SEED.pack()) == SEED
