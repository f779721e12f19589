"""Which Ed25519 signatures count, held against the published edge cases: the statement of ledger/entry.py."""

import json
from collections import Counter
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.entry import _PREFIX, public_key, signature_holds


def accepted(case: dict[str, str]) -> bool:
    try:
        public_key(bytes.fromhex(case["key"])).verify(bytes.fromhex(case["sig"]), case["msg"].encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def test_the_accepted_set_is_the_documented_one(vectors: Path) -> None:
    """An update of the library would change, unnoticed, which signatures count."""
    cases = json.loads((vectors / "tlog" / "cctv-ed25519" / "ed25519vectors.json").read_text())
    passed: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for case in cases:
        flags = case["flags"] or ["ordinary"]
        seen.update(flags)
        passed.update(flags if accepted(case) else [])
    assert len(cases) > 900
    # Without cofactor: no signature that holds only up to a point of low order.
    assert seen["low_order_residue"] > 500
    assert passed["low_order_residue"] == 0
    # R is compared as bytes: another encoding of the same point never passes.
    assert seen["non_canonical_R"] > 300
    assert passed["non_canonical_R"] == 0
    # The key's bytes are hashed as they are; keys of low order and other encodings are not refused by the verifier.
    assert 0 < passed["non_canonical_A"] < seen["non_canonical_A"]
    assert passed["low_order_A"] > 0
    assert passed["ordinary"] == seen["ordinary"] == 1


def test_s_is_below_the_group_order() -> None:
    """A second signature for the same entry could be made by anyone: two leaf hashes for one body."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signer, body_hash = key.public_key().public_bytes_raw(), bytes(32)
    signature = key.sign(_PREFIX + body_hash)
    assert signature_holds(signer, signature, body_hash)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    assert not signature_holds(signer, signature[:32] + s.to_bytes(32, "little"), body_hash)


def test_a_key_of_wrong_length_holds_nothing() -> None:
    """A malformed signer would raise where a verdict is wanted."""
    assert not signature_holds(b"short", bytes(64), bytes(32))
