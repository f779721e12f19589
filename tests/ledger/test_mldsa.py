"""ML-DSA as this platform has it, on the published messages that stand for every number of rejections."""

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey, MLDSA87PrivateKey


@pytest.mark.parametrize("kind", [MLDSA44PrivateKey, MLDSA65PrivateKey, MLDSA87PrivateKey], ids=["44", "65", "87"])
def test_every_published_message_is_signed_and_verified(
    vectors: Path, kind: type[MLDSA44PrivateKey | MLDSA65PrivateKey | MLDSA87PrivateKey]
) -> None:
    """Some lines of the ledger's ML-DSA key would verify nowhere."""
    number = kind.__name__[5:7]
    key = kind.from_seed_bytes(bytes(32))
    public = key.public_key()
    folder = vectors / "tlog" / "cctv-mldsa"
    messages = [
        message
        for name in (f"ML-DSA-{number}.json", f"ML-DSA-{number}.alt.json")
        for message in json.loads((folder / name).read_text())
    ]
    assert len(messages) > 200
    for message in messages:
        public.verify(key.sign(message.encode()), message.encode())
    with pytest.raises(InvalidSignature):
        public.verify(key.sign(messages[0].encode()), messages[1].encode())
