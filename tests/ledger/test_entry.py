"""One record: its bytes as documented, and nothing else accepted."""

import hashlib
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.entry import MAX_ENTRY_BYTES, ZERO_HASH, Body, Entry, parse_entry, sign, signing_input, verify_signature
from ledger.errors import LedgerContentError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNER = KEY.public_key().public_bytes_raw()
BODY = Body(SIGNER, 3, 1_790_000_000_000, bytes(range(32)), "note.taken", b"payload", bytes(32))


def sealed(body: Body = BODY) -> Entry:
    return Entry.seal(body, sign(hashlib.sha256(body.pack()).digest(), KEY))


def test_the_bytes_are_those_of_the_format() -> None:
    """Every other implementation of docs/formats.md would refuse our ledgers."""
    entry = sealed()
    fields = [1, SIGNER, 3, 1_790_000_000_000, bytes(range(32)), "note.taken", b"payload", bytes(32)]
    assert entry.body_raw == msgpack.packb(fields)
    assert entry.raw == msgpack.packb([entry.body_raw, entry.signature])
    assert entry.body_hash == hashlib.sha256(entry.body_raw).digest()
    assert entry.leaf_hash == hashlib.sha256(b"\x00" + entry.raw).digest()
    assert signing_input(entry.body_hash) == b"contrast/event/v1\x00" + entry.body_hash
    KEY.public_key().verify(entry.signature, signing_input(entry.body_hash))
    assert parse_entry(entry.raw, 3) == entry
    verify_signature(entry)


def test_an_unsigned_record_becomes_the_same_entry() -> None:
    """The writer's entries would differ from the reader's."""
    entry = sealed()
    draft = Entry.unsigned(BODY)
    assert (draft.body_hash, draft.raw, draft.leaf_hash) == (entry.body_hash, b"", b"")
    assert draft.signed(entry.signature) == entry


def test_a_foreign_signature_is_refused() -> None:
    """A record of someone else would pass under the signer's name."""
    other = Ed25519PrivateKey.from_private_bytes(bytes([7] * 32))
    entry = Entry.seal(BODY, sign(Entry.unsigned(BODY).body_hash, other))
    with pytest.raises(LedgerContentError, match="entry 3: its signature"):
        verify_signature(entry)


def test_a_signature_for_another_purpose_does_not_count() -> None:
    """A signature over the bare hash could be lifted from another protocol."""
    entry = Entry.seal(BODY, KEY.sign(Entry.unsigned(BODY).body_hash))
    with pytest.raises(LedgerContentError):
        verify_signature(entry)


FIELDS: list[Any] = [1, SIGNER, 3, 5, ZERO_HASH, "a.b", b"p", b""]


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 2), (0, True), (0, "1"), (1, SIGNER[:31]), (1, "x" * 32), (2, -1), (2, True), (2, 2**63), (2, 3.0),
        (3, -5), (3, 2**63), (3, None), (4, b""), (4, bytes(33)), (5, ""), (5, "A"), (5, "a" * 65), (5, "a b"),
        (5, b"a.b"), (5, "a.b\n"), (6, "p"), (6, [1]), (6, None), (7, bytes(31)), (7, ""), (7, None),
    ],
)  # fmt: skip
def test_every_field_has_one_type_and_its_bounds(index: int, value: object) -> None:
    """A record would be stored that a stricter reader refuses."""
    fields = [*FIELDS]
    fields[index] = value
    raw = msgpack.packb([msgpack.packb(fields), bytes(64)])
    with pytest.raises(LedgerContentError, match="entry 3"):
        parse_entry(raw, 3)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xc0", b"\x90", msgpack.packb([b"", bytes(64)]), msgpack.packb([b"a", bytes(64), 1]),
        msgpack.packb([msgpack.packb(FIELDS), bytes(63)]), msgpack.packb([msgpack.packb(FIELDS[:7]), bytes(64)]),
        msgpack.packb([msgpack.packb([*FIELDS, 1]), bytes(64)]), msgpack.packb([FIELDS, bytes(64)]),
        msgpack.packb([msgpack.packb(FIELDS) + b"\x00", bytes(64)]), msgpack.packb({1: 2}),
    ],
)  # fmt: skip
def test_every_other_shape_is_refused(raw: bytes) -> None:
    """A malformed record would be believed, or end the reader."""
    with pytest.raises(LedgerContentError):
        parse_entry(raw, 3)


def test_long_forms_are_refused() -> None:
    """One record would have two byte strings."""
    body = msgpack.packb(FIELDS)
    longer_body = b"\xdc\x00\x08" + body[1:]
    with pytest.raises(LedgerContentError, match="shortest"):
        parse_entry(msgpack.packb([longer_body, bytes(64)]), 3)
    raw = msgpack.packb([body, bytes(64)])
    with pytest.raises(LedgerContentError, match="shortest"):
        parse_entry(b"\xdc\x00\x02" + raw[1:], 3)


def test_an_entry_is_where_it_says() -> None:
    """Two records could change places."""
    with pytest.raises(LedgerContentError, match="entry 4: the record found here is entry 3"):
        parse_entry(sealed().raw, 4)


def test_the_size_limit_is_exact() -> None:
    """A bundle of entries could not be read by clients."""
    body = replace(BODY, payload=b"")
    room = MAX_ENTRY_BYTES - len(sealed(body).raw) - 2  # a long payload has a header of three bytes, not two... of one
    longest = next(size for size in range(room + 4, room - 8, -1) if _fits(size))
    assert len(sealed(replace(BODY, payload=bytes(longest))).raw) == MAX_ENTRY_BYTES
    with pytest.raises(LedgerContentError, match="at most 16384"):
        Entry.unsigned(replace(BODY, payload=bytes(longest + 1)))
    oversized = msgpack.packb([msgpack.packb([*FIELDS[:6], bytes(MAX_ENTRY_BYTES), b""]), bytes(64)])
    with pytest.raises(LedgerContentError, match="at most 16384"):
        parse_entry(oversized, 3)


def _fits(size: int) -> bool:
    try:
        Entry.unsigned(replace(BODY, payload=bytes(size)))
    except LedgerContentError:
        return False
    return True


@pytest.mark.parametrize(
    "bad", [{"type": "A"}, {"signer": b""}, {"prev": b""}, {"time_ms": -1}, {"request_id": b"1"}, {"payload": "text"}]
)
def test_we_do_not_write_what_we_would_not_read(bad: dict[str, Any]) -> None:
    """A record would be durable that no one can open again."""
    with pytest.raises(LedgerContentError):
        replace(BODY, **bad).pack()


@given(st.integers(0, 400), st.integers(1, 255))
def test_any_changed_byte_is_found(at: int, change: int) -> None:
    """A flipped bit would change the past."""
    entry = sealed()
    raw = bytearray(entry.raw)
    raw[at % len(raw)] ^= change
    try:
        parsed = parse_entry(bytes(raw), 3)
        verify_signature(parsed)
    except LedgerContentError:
        return
    pytest.fail("a changed record was accepted")


@given(st.binary(max_size=300))
def test_any_bytes_are_an_entry_or_a_content_error(raw: bytes) -> None:
    """A stranger's bytes would end the program."""
    with pytest.raises(LedgerContentError):
        parse_entry(raw)
