"""Checks an exported ledger with nothing of this project: sections 1 to 4 of `docs/formats.md` are all it is made from.

    contrast ledger export https://coordinator.example.com:1313 ledger.tar
    python examples/read_ledger.py ledger.tar

Encoding, chain, signatures, tree, checkpoint, blobs. Whether every decision was right, `contrast audit` tells.
"""

import hashlib
import sys
import tarfile
from base64 import b64decode, b64encode
from typing import Any

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def unpack(raw: bytes) -> list[Any]:
    value: list[Any] = msgpack.unpackb(raw)
    demand(msgpack.packb(value) == raw, "MessagePack that is not canonical")
    return value


def bundle(first: int, size: int) -> tuple[str, int]:
    """Name the file that holds the entries from *first* on, and say how many of *size* are in it."""
    width = min(256, size - first)
    *high, low = [f"{int(group):03}" for group in f"{first // 256:,}".split(",")]
    path = "/".join(["tile/entries", *(f"x{group}" for group in high), low])
    return path if width == 256 else f"{path}.p/{width}", width


def entries(files: dict[str, bytes], size: int) -> list[bytes]:
    """Take the entries out of their files: each has its length before it."""
    found = []
    for first in range(0, size, 256):
        name, width = bundle(first, size)
        rest = files[name]
        for _ in range(width):
            end = 2 + int.from_bytes(rest[:2], "big")
            found.append(rest[2:end])
            rest = rest[end:]
        demand(not rest, f"{name} has more than {width} entries")
    return found


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", root(leaves[:left]), root(leaves[left:]))


def check_signature(note: bytes, name: str, key: bytes) -> None:
    """Demand that *key* has signed the text of *note* under *name*."""
    text, _, lines = note.partition(b"\n\n")
    start = sha256(name.encode(), b"\n\1", key)[:4]
    found = [b64decode(line.split(" ")[2]) for line in lines.decode().splitlines() if line.startswith(f"— {name} ")]
    (signature,) = [raw[4:] for raw in found if raw[:4] == start]
    Ed25519PublicKey.from_public_bytes(key).verify(signature, text + b"\n")


def check(path: str) -> str:
    """Check the whole ledger; ValueError, KeyError or InvalidSignature if anything is wrong."""
    with tarfile.open(path) as tar:
        files = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
    origin, size, wanted, *_ = files["checkpoint"].decode().split("\n")
    epochs, signers, prev, then = set(), [], bytes(32), 0
    raws = entries(files, int(size))
    for at, raw in enumerate(raws):
        body, signature = unpack(raw)
        version, signer, seq, time_ms, before, kind, payload, _request_id = unpack(body)
        demand((version, seq, before) == (1, at, prev) and time_ms >= then, f"entry {at} does not continue the chain")
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, b"contrast/event/v1\0" + sha256(body))
        if kind == "epoch.opened":
            epochs.add(unpack(payload)[2])
        signers.append(signer)
        prev, then = sha256(body), time_ms
    demand(epochs >= set(signers), "an entry is signed by a key that no epoch announced")
    keys = [b64decode(vkey.split("+", 2)[2]) for vkey in unpack(unpack(unpack(raws[0])[0])[6])[3]]
    ledger_key = next(key[1:] for key in keys if key[0] == 1)
    demand(origin == f"contrast.invalid/{sha256(ledger_key).hex()}", "the origin is not the ledger key's")
    check_signature(files["checkpoint"], origin, ledger_key)
    check_signature(files["checkpoint"], f"{origin}/epoch", signers[-1])
    tree = root([sha256(b"\0", raw) for raw in raws])
    demand(b64encode(tree).decode() == wanted, "the checkpoint has another root")
    for name, content in files.items():
        demand(not name.startswith("blob/") or name[5:] == sha256(content).hex(), f"{name} holds something else")
    return f"{origin}: {size} entries, root {tree.hex()}, head {prev.hex()}"


if __name__ == "__main__":
    print(check(sys.argv[1]))
