"""One record: its bytes, shape and signature (docs/formats.md, section 2); not its neighbours, not its payload.

The signature is Ed25519 as OpenSSL (through cryptography) accepts it: without cofactor, S below the group order, R
compared as bytes (so a non-canonical R never passes), the key's bytes hashed as they are. Keys of low order and
non-canonical encodings of a key are not refused here: a signer counts only when its epoch was attested, and the
evidence binds the key's bytes. tests/ledger/test_ed25519_accepted_set.py holds this against the published edge cases.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.codec import MAX_INT, pack_trusted, unpack_trusting
from ledger.errors import CodecError, LedgerContentError

VERSION: Final = 1
MAX_ENTRY_BYTES: Final = 16_384
ZERO_HASH: Final = bytes(32)
SIGNATURE_BYTES: Final = 64
_PREFIX: Final = b"contrast/event/v1\x00"
_TYPE = re.compile(r"[a-z._]{1,64}\Z")
_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True)
class Body:
    """What the writer signs. ``time_ms`` is Unix time in milliseconds; ``request_id`` is empty or 32 bytes."""

    signer: bytes
    seq: int
    time_ms: int
    prev: bytes
    type: str
    payload: bytes
    request_id: bytes = b""

    def pack(self) -> bytes:
        """The bytes that are hashed and stored. Raises LedgerContentError for a field that no reader would accept."""
        fields = (VERSION, self.signer, self.seq, self.time_ms, self.prev, self.type, self.payload, self.request_id)
        _check_fields(fields, self.seq if type(self.seq) is int else None)
        return pack_trusted(fields)


@dataclass(frozen=True, slots=True)
class Entry:
    """A sealed record: the stored bytes and everything read from them once."""

    raw: bytes
    body: Body
    body_raw: bytes
    body_hash: bytes
    leaf_hash: bytes
    signature: bytes

    @classmethod
    def seal(cls, body: Body, signature: bytes) -> "Entry":
        """The record of *body* under *signature*, which is not verified here. Raises LedgerContentError if too long."""
        body_raw = body.pack()
        raw = seal_raw(body.seq, body_raw, signature)
        return cls(raw, body, body_raw, _sha256(body_raw).digest(), _sha256(b"\x00" + raw).digest(), signature)

    @classmethod
    def unsigned(cls, body: Body) -> "Entry":
        """The record before its signature exists: ``raw``, ``leaf_hash`` and ``signature`` are empty."""
        body_raw = body.pack()
        if len(body_raw) + _ENVELOPE > MAX_ENTRY_BYTES:
            raise _too_long(body.seq, len(body_raw) + _ENVELOPE)
        return cls(b"", body, body_raw, _sha256(body_raw).digest(), b"", b"")

    def signed(self, signature: bytes) -> "Entry":
        """This record, sealed by *signature*."""
        raw = seal_raw(self.body.seq, self.body_raw, signature)
        leaf_hash = _sha256(b"\x00" + raw).digest()
        return Entry(raw, self.body, self.body_raw, self.body_hash, leaf_hash, signature)


_ENVELOPE: Final = 1 + 3 + 2 + SIGNATURE_BYTES  # array header, bin headers, signature


def seal_raw(seq: int, body_raw: bytes, signature: bytes) -> bytes:
    """The bytes of an entry. Raises LedgerContentError if they would be longer than any reader takes."""
    if len(signature) != SIGNATURE_BYTES:
        raise LedgerContentError(seq, f"the signature has {len(signature)} bytes, {SIGNATURE_BYTES} are wanted")
    raw = pack_trusted((body_raw, signature))
    if len(raw) > MAX_ENTRY_BYTES:
        raise _too_long(seq, len(raw))
    return raw


def signing_input(body_hash: bytes) -> bytes:
    """What the signer signs: domain and SHA-256 of the body."""
    return _PREFIX + body_hash


def sign(body_hash: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature of the body with this hash."""
    return key.sign(_PREFIX + body_hash)


def parse_entry(raw: bytes, seq: int | None = None) -> Entry:
    """Read *raw*, demanding everything of the format but the signature and the neighbours.

    *seq* is where the record was found; it must say the same. Raises LedgerContentError.
    """
    fields, body_raw, signature = parse_raw(raw, seq)
    _, signer, number, time_ms, prev, type_, payload, request_id = fields
    body = Body(signer, number, time_ms, prev, type_, payload, request_id)
    return Entry(raw, body, body_raw, _sha256(body_raw).digest(), _sha256(b"\x00" + raw).digest(), signature)


Fields = tuple[int, bytes, int, int, bytes, str, bytes, bytes]


def parse_raw(raw: bytes, seq: int | None) -> tuple[Fields, bytes, bytes]:
    """As parse_entry(), as (fields of the body, body, signature) without an object: the inner loop of every replay."""
    if len(raw) > MAX_ENTRY_BYTES:
        raise _too_long(seq, len(raw))
    try:
        envelope = unpack_trusting(raw)
        if type(envelope) is not tuple or len(envelope) != 2:
            raise LedgerContentError(seq, "an entry is an array of body and signature; this is something else")
        body_raw, signature = envelope
        if type(body_raw) is not bytes or type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
            raise LedgerContentError(seq, "body and signature must be byte strings, the signature of 64 bytes")
        fields = unpack_trusting(body_raw)
        checked = _check_fields(fields, seq)
        if pack_trusted(checked) != body_raw or pack_trusted(envelope) != raw:
            raise LedgerContentError(seq, "the bytes are not the shortest encoding of their value")
    except CodecError as error:
        raise LedgerContentError(seq, error.reason) from error
    if seq is not None and checked[2] != seq:
        raise LedgerContentError(seq, f"the record found here is entry {checked[2]}: it was moved, or one is missing")
    return checked, body_raw, signature


def _check_fields(fields: object, seq: int | None) -> Fields:
    if type(fields) is not tuple or len(fields) != 8:
        raise LedgerContentError(seq, "a body is an array of eight fields; this is something else")
    version, signer, number, time_ms, prev, type_, payload, request_id = fields
    # bool is an int to isinstance, not to type(): each field has exactly one type.
    if type(version) is not int or version != VERSION:
        raise LedgerContentError(seq, f"entry version {version!r} is unknown, {VERSION} is wanted: use a newer release")
    if type(signer) is not bytes or len(signer) != 32:
        raise LedgerContentError(seq, "the signer must be 32 bytes (an Ed25519 public key)")
    if type(number) is not int or not 0 <= number <= MAX_INT:
        raise LedgerContentError(seq, "seq must be an integer from 0 to 2^63-1")
    if type(time_ms) is not int or not 0 <= time_ms <= MAX_INT:
        raise LedgerContentError(seq, "the time must be milliseconds from 0 to 2^63-1")
    if type(prev) is not bytes or len(prev) != 32:
        raise LedgerContentError(seq, "prev must be 32 bytes")
    if type(type_) is not str or not _known_type_syntax(type_):
        raise LedgerContentError(seq, "the type must be 1 to 64 characters of a-z . _")
    if type(payload) is not bytes:
        raise LedgerContentError(seq, "the payload must be a byte string")
    if type(request_id) is not bytes or len(request_id) not in {0, 32}:
        raise LedgerContentError(seq, "the request id must be empty or 32 bytes")
    return fields


@lru_cache(maxsize=256)
def _known_type_syntax(type_: str) -> bool:
    return _TYPE.match(type_) is not None


def _too_long(seq: int | None, length: int) -> LedgerContentError:
    return LedgerContentError(seq, f"the entry has {length} bytes, at most {MAX_ENTRY_BYTES} are permitted")


def verify_signature(entry: Entry) -> None:
    """Demand that the entry's own signer signed it; whether that signer may sign is the caller's question.

    Raises LedgerContentError.
    """
    if not signature_holds(entry.body.signer, entry.signature, entry.body_hash):
        raise bad_signature(entry.body.seq, entry.body.signer)


def signature_holds(signer: bytes, signature: bytes, body_hash: bytes) -> bool:
    """True if *signer* signed the body with this hash. Holds no lock while it computes, so threads run side by side."""
    try:
        public_key(signer).verify(signature, _PREFIX + body_hash)
    except (InvalidSignature, ValueError):
        return False
    return True


def bad_signature(seq: int, signer: bytes) -> LedgerContentError:
    """The error for a record whose signature does not verify."""
    return LedgerContentError(seq, f"its signature does not verify under {signer.hex()}: the record was changed")


@lru_cache(maxsize=1024)
def public_key(raw: bytes) -> Ed25519PublicKey:
    """The key object of 32 bytes; cached, for a ledger has few signers."""
    return Ed25519PublicKey.from_public_bytes(raw)
