"""Strict JSON for messages: one text has one meaning, and nothing is accepted that we would not write."""

import base64
import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from wire.json import MAX_DEPTH, MessageError, MessageTooLargeError, decode, encode
from wire.messages import (
    AttestRequest,
    CertificateRequest,
    EvidenceMessage,
    EvidencePart,
    Head,
    Message,
    SetManifestRequest,
)

REQUEST = CertificateRequest(
    nonce=bytes(32),
    csr=b"csr",
    hpke_public_key=bytes(range(32)),
    evidence=EvidenceMessage(kind="simulated", parts=(EvidencePart(role="report", data=b"r" * 1184),)),
    known_head=Head(size=7, root="ab" * 32),
)
NONCE = base64.b64encode(bytes(32)).decode()


class Loose(Message, frozen=True, kw_only=True):
    """A message in which every kind of value occurs."""

    number: Annotated[int, Meta(ge=0)]
    data: bytes
    text: str = ""
    inner: "Loose | None" = None


def check_refused(raw: bytes | str, *, because: str, kind: type[Any] = AttestRequest, path: str | None = None) -> None:
    with pytest.raises(MessageError, match=because) as caught:
        decode(raw if isinstance(raw, bytes) else raw.encode(), kind, limit=100_000)
    if path is not None:
        assert caught.value.path == path


def test_a_message_reads_back() -> None:
    assert decode(encode(REQUEST), CertificateRequest, limit=10_000) == REQUEST


def test_layout_order_and_explicit_nulls_are_free() -> None:
    """Other programs write JSON too; only a second meaning is refused."""
    loose = json.loads(encode(REQUEST))
    loose["known_head"] = None
    raw = json.dumps(dict(reversed(loose.items())), indent=3).encode()
    again = decode(raw, CertificateRequest, limit=10_000)
    assert again.known_head is None
    assert again.evidence == REQUEST.evidence


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("null", "Expected `object`"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `nonce`"),
        (f'{{"nonce": "{NONCE}", "extra": 1}}', "unknown field `extra`"),
        (f'{{"nonce": "{NONCE}", "nonce": "{NONCE}"}}', "'nonce' stands twice"),
        (f'{{"nonce": "{NONCE}", "\\u006eonce": "{NONCE}"}}', "'nonce' stands twice"),
        (f'{{"nonce": "{NONCE}"}} {{}}', "not JSON"),
        ('{"nonce": 7}', "Expected `bytes`"),
        ('{"nonce": null}', "Expected `bytes`"),
        ('{"nonce": NaN}', "NaN is not JSON"),
        ('{"nonce": -Infinity}', "-Infinity is not JSON"),
        ('{"nonce": "AAAA"}', "length >= 32"),
        ('{"nonce": "' + "A" * 1000 + '"}', "length <= 32"),
        ('{"nonce": "' + "%" * 43 + '="}', "base64"),
        (b'{"nonce": "\xff"}', "byte 11 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ("[" * (MAX_DEPTH + 1), "nested deeper"),
        ("[" * 90_000, "nested deeper"),
        ('{"a":' * 15_000, "nested deeper"),
        ("1" * 50_000, "not JSON|Expected `object`"),
    ],
)
def test_what_is_not_exactly_one_message_is_refused(raw: bytes | str, because: str) -> None:
    check_refused(raw, because=because)


@pytest.mark.parametrize(
    "text",
    [
        NONCE[:-1] + "B",  # pad is missing
        NONCE[:-2] + "B=",  # stray bits before the pad
        NONCE.rstrip("="),
        NONCE + "=",
        NONCE + "\n",
        " " + NONCE,
        NONCE[:10] + "\n" + NONCE[10:],
        NONCE.replace("A", "-", 1),
        NONCE.replace("A", "_", 1),
    ],
)
def test_bytes_have_one_base64(text: str) -> None:
    """Several texts of one value would let two messages differ and say the same."""
    check_refused(json.dumps({"nonce": text}), because="base64|length")


def test_stray_bits_are_named_with_their_path() -> None:
    parts = json.loads(encode(REQUEST))
    parts["evidence"]["parts"][0]["data"] = "cnJ="  # Two bytes are "cnI=".
    check_refused(json.dumps(parts), because="base64", kind=CertificateRequest, path="evidence.parts[0].data")


def test_brackets_in_strings_are_no_nesting() -> None:
    raw = json.dumps({"number": 1, "data": "", "text": '[[{"\\' * 50}).encode()
    assert decode(raw, Loose, limit=10_000).text.startswith("[[{")


def test_a_message_that_is_too_long_is_not_read() -> None:
    raw = encode(REQUEST)
    with pytest.raises(MessageTooLargeError, match=f"has {len(raw)} bytes, at most {len(raw) - 1}"):
        decode(raw, CertificateRequest, limit=len(raw) - 1)


def test_faults_say_where_they_are() -> None:
    broken = json.loads(encode(REQUEST))
    broken["known_head"]["root"] = "AB" * 32
    check_refused(json.dumps(broken), because="regex", kind=CertificateRequest, path="known_head.root")
    broken["known_head"]["root"] = "ab" * 32 + "\n"
    check_refused(json.dumps(broken), because="length <= 64", kind=CertificateRequest)


def test_lists_are_bounded() -> None:
    many = {"manifest": "AA==", "policies": ["AA=="] * 4097, "previous": "00" * 32, "signatures": []}
    check_refused(json.dumps(many), because="length <= 4096", kind=SetManifestRequest, path="policies")


@given(
    st.recursive(
        st.builds(Loose, number=st.integers(0, 2**62), data=st.binary(max_size=9), text=st.text(max_size=9)),
        lambda inner: st.builds(Loose, number=st.just(0), data=st.just(b""), inner=inner),
        max_leaves=6,
    ),
    st.sampled_from([None, 1]),
)
def test_every_message_is_read_as_it_was_written(message: Loose, indent: int | None) -> None:
    assert decode(encode(message), Loose, limit=100_000) == message
    rewritten = json.dumps(json.loads(encode(message)), indent=indent).encode()
    assert decode(rewritten, Loose, limit=100_000) == message


@given(st.data())
def test_a_changed_byte_is_another_message_or_refused(data: st.DataObject) -> None:
    raw = bytearray(encode(REQUEST))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode(bytes(raw), CertificateRequest, limit=10_000)
    except MessageError:
        return
    assert changed != REQUEST


@given(st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_a_message_or_a_refusal(raw: bytes) -> None:
    for kind in (AttestRequest, Loose, CertificateRequest):
        try:
            message = decode(raw, kind, limit=1000)
        except MessageError:
            continue
        assert isinstance(message, msgspec.Struct)
