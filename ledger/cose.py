"""COSE receipts (RFC 9942): an entry's place in a signed tree, for programs that speak SCITT. Judges no epoch.

A receipt is a COSE_Sign1 whose payload, the root, is left out and recomputed from the inclusion proof. Ours is signed
by the ledger key; the very same receipt by the epoch key rides inside it (header 394). A program that knows RFC 9942
alone checks the outer one, and learns that the holder of the ledger's seed vouches for the entry; only both say that an
attested Coordinator recorded it, so verify_receipt() demands both.

The signed bytes depend on the tree alone, so one pair of signatures serves every entry of it. They ride as two further
lines under a finished checkpoint, and anyone who has the log can put a receipt together: docs/formats.md section 13.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger import cbor
from ledger.checkpoint import Checkpoint, epoch_name, read_checkpoint
from ledger.errors import ProofError
from ledger.merkle import root_of_inclusion
from ledger.note import KeyType, VerifierKey, ed25519_key, split_note

MAX_RECEIPT_BYTES: Final = 16 * 1024
_SIGN1: Final = 18
_ALG, _KID, _CLAIMS, _RECEIPTS, _VDS, _VDP = 1, 4, 15, 394, 395, 396
_EDDSA: Final = -8
_RFC9162_SHA256: Final = 1
_INCLUSION: Final = -1
_ISSUER, _SUBJECT = 1, 2
_LINE_TYPE: Final = b"\xffcontrast.invalid/cose-receipt/v1\n"
_MAX_HASHES: Final = 63


@dataclass(frozen=True, slots=True)
class CoseReceipt:
    """What a receipt says, not verified: *inner* is the epoch's, None where it was left out."""

    protected: bytes
    origin: str
    size: int
    index: int
    hashes: tuple[bytes, ...]
    signature: bytes
    inner: "CoseReceipt | None"


def cose_line(private: Ed25519PrivateKey, name: str, checkpoint: Checkpoint) -> str:
    """The signature line under a note from which receipts are made; *name* is the key's own, as in verifier keys."""
    key = ed25519_key(name, private.public_key().public_bytes_raw())
    signature = private.sign(_to_be_signed(_protected(key, checkpoint), checkpoint.root))
    encoded = base64.b64encode(_line_id(key) + signature).decode()
    return f"\N{EM DASH} {_line_name(name)} {encoded}\n"


def build_receipt(
    note: bytes, index: int, hashes: Sequence[bytes], *, ledger_key: VerifierKey, epoch_keys: Sequence[VerifierKey]
) -> bytes:
    """The receipt of entry *index*, from the COSE lines under *note* and the inclusion proof at its size.

    Nothing is verified: verify_receipt() does that. Raises ProofError if the note carries no such lines (yet).
    """
    checkpoint = read_checkpoint(note)
    lines = {(line.name, line.key_id): line.signature for line in split_note(note)[1]}

    def receipt(key: VerifierKey, inner: bytes | None) -> bytes | None:
        signature = lines.get((_line_name(key.name), _line_id(key)))
        if signature is None:
            return None
        path = cbor.encode((checkpoint.size, index, tuple(hashes)))
        unprotected: dict[int, cbor.Encodable] = {_VDP: {_INCLUSION: (path,)}}
        if inner is not None:
            unprotected[_RECEIPTS] = (inner,)
        parts = (_protected(key, checkpoint), unprotected, None, signature)
        return cbor.encode(cbor.Tagged((_SIGN1, parts)))  # type: ignore[arg-type]  # encode() takes mappings as they are

    if not hashes:
        raise ProofError("a tree of one entry has no COSE receipt (RFC 9942, section 5.2): wait for the next entry")
    inner = next(filter(None, (receipt(key, None) for key in epoch_keys)), None)
    outer = None if inner is None else receipt(ledger_key, inner)
    if outer is None:
        raise ProofError(
            "the checkpoint carries no COSE signatures of ledger and epoch: the Coordinator adds them within seconds "
            "of the last entry; take a newer checkpoint, or the tlog-proof"
        )
    return outer


def parse_receipt(raw: bytes) -> CoseReceipt:
    """Read a receipt; nothing is verified. Raises ProofError."""
    if len(raw) > MAX_RECEIPT_BYTES:
        raise ProofError(f"the receipt has {len(raw)} bytes, at most {MAX_RECEIPT_BYTES} are read")
    return _parse(raw, nested=True)


def verify_receipt(
    receipt: CoseReceipt, leaf_hash: bytes, *, ledger_key: VerifierKey, epoch_keys: Sequence[VerifierKey]
) -> tuple[Checkpoint, VerifierKey]:
    """Demand both signatures over a tree that holds the entry; gives the tree and the epoch key that signed.

    Whether that epoch was open at this size is for the caller, who judged it. Raises ProofError.
    """
    inner = receipt.inner
    if inner is None:
        raise ProofError("the receipt lacks the epoch's: it shows only that the holder of the ledger's seed vouches")
    if (inner.size, inner.index, inner.hashes) != (receipt.size, receipt.index, receipt.hashes):
        raise ProofError("the two receipts are of different trees or entries")
    checkpoint = _verify(receipt, leaf_hash, ledger_key, ledger_key.name)
    for key in epoch_keys:
        if inner.protected == _protected(key, checkpoint) and key.name == epoch_name(ledger_key.name):
            _verify(inner, leaf_hash, key, ledger_key.name)
            return checkpoint, key
    raise ProofError("no epoch that was judged has signed the receipt: the ledger key alone does not count")


def _verify(receipt: CoseReceipt, leaf_hash: bytes, key: VerifierKey, origin: str) -> Checkpoint:
    root = root_of_inclusion(leaf_hash, receipt.index, receipt.size, receipt.hashes)
    checkpoint = Checkpoint(origin, receipt.size, root)
    # The protected header is built again: algorithm, key, ledger and size are what was signed, and nothing else is.
    if key.type is not KeyType.ED25519 or receipt.protected != _protected(key, checkpoint):
        raise ProofError(f"the receipt is not by {key.name} for size {receipt.size} of {origin}")
    try:
        public = Ed25519PublicKey.from_public_bytes(key.public)
        public.verify(receipt.signature, _to_be_signed(receipt.protected, root))
    except InvalidSignature:
        raise ProofError(f"the signature of {key.name} does not verify: entry, proof or tree are others") from None
    return checkpoint


def _parse(raw: bytes, *, nested: bool) -> CoseReceipt:
    match cbor.decode(raw):
        case cbor.Tagged((18, (bytes(protected), dict(unprotected), None, bytes(signature)))):
            pass
        case _:
            raise ProofError("this is no COSE_Sign1 with its payload left out")
    match cbor.decode(protected):
        case {1: -8, 4: bytes(), 15: {1: str(origin), 2: str(_), **others}, 395: 1, **rest} if not rest and not others:
            pass
        case _:
            raise ProofError("the protected header is not that of a receipt of this system")
    match unprotected:
        case {396: {-1: (bytes(path),), **others}, **headers} if not others:
            pass
        case _:
            raise ProofError("the receipt holds no single inclusion proof")
    match cbor.decode(path):
        case (int(size), int(index), tuple(hashes)) if 0 < len(hashes) <= _MAX_HASHES:
            pass
        case _:
            raise ProofError("an inclusion proof is size, index and hashes")
    if not 0 <= index < size < 2**63 or any(not isinstance(each, bytes) or len(each) != 32 for each in hashes):
        raise ProofError("the inclusion proof has a hash, size or index that cannot be")
    inner = None
    match headers:
        case {394: (bytes(nested_raw),), **more} if nested and not more:
            inner = _parse(nested_raw, nested=False)
        case _ if headers:
            raise ProofError("the receipt has headers that are not known here")
        case _:
            pass
    path_hashes = tuple(each for each in hashes if isinstance(each, bytes))
    return CoseReceipt(protected, origin, size, index, path_hashes, signature, inner)


def _protected(key: VerifierKey, checkpoint: Checkpoint) -> bytes:
    claims: cbor.Encodable = {_ISSUER: checkpoint.origin, _SUBJECT: str(checkpoint.size)}
    return cbor.encode({_ALG: _EDDSA, _KID: key.key_id, _CLAIMS: claims, _VDS: _RFC9162_SHA256})


def _to_be_signed(protected: bytes, root: bytes) -> bytes:
    return cbor.encode(("Signature1", protected, b"", root))


def _line_name(name: str) -> str:
    return name + "/cose"


def _line_id(key: VerifierKey) -> bytes:
    return hashlib.sha256(_line_name(key.name).encode() + b"\n" + _LINE_TYPE + key.public).digest()[:4]
