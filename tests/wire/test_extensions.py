"""The leaf's extensions: what is built reads back, and nothing else is read."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.extensions import (
    CHECKPOINT_OID,
    CLAIMS_OID,
    COMPANIONS_OID,
    SIMULATED_OID,
    Companions,
    ExtensionError,
    LeafCheckpoint,
    checkpoint_extension,
    claims_extension,
    companions_extension,
    read_checkpoint,
    read_claims,
    read_companions,
    read_simulated,
    simulated_extension,
)

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([])
START = datetime(2026, 1, 1, tzinfo=UTC)
CHECKPOINT = LeafCheckpoint("contrast.invalid/" + "01" * 32, 12, b"r" * 32)


def leaf(extensions: Iterable[x509.ExtensionType], *, critical: bool = False) -> x509.Certificate:
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, START, START + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(KEY, hashes.SHA256())


def raw(oid: x509.ObjectIdentifier, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(oid, value)


def utf8(text: bytes) -> bytes:
    assert len(text) < 128
    return bytes([0x0C, len(text)]) + text


def test_what_is_built_reads_back() -> None:
    certificate = leaf(
        [
            claims_extension(b'{"a":1,"b":[true,null]}'),
            checkpoint_extension(CHECKPOINT.text()),
            companions_extension(b"R" * 32, {"b": b"2" * 32, "a": b"1" * 32}),
            simulated_extension(),
        ]
    )
    assert read_claims(certificate) == {"a": 1, "b": [True, None]}
    assert read_checkpoint(certificate) == CHECKPOINT
    assert read_companions(certificate) == Companions(b"R" * 32, {"a": b"1" * 32, "b": b"2" * 32})
    assert read_simulated(certificate)
    assert not read_simulated(leaf([]))


def test_the_bytes_are_those_of_the_format() -> None:
    """docs/formats.md section 11: a DER UTF8String."""
    extension = companions_extension(b"\xab" * 32, {})
    text = b'{"root_ca":"' + b"ab" * 32 + b'","secrets":{}}'
    assert extension.oid.dotted_string == "2.25.39087375090174208149251464183092098787.3"
    assert extension.value == utf8(text)
    assert simulated_extension().value == utf8(b"simulated")


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(max_size=20).filter(str.isprintable), st.binary(min_size=32, max_size=32), max_size=5))
def test_companions_of_every_length_read_back(secrets: dict[str, bytes]) -> None:
    assert read_companions(leaf([companions_extension(bytes(32), secrets)])).secrets == secrets


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 8000])
def test_der_lengths_of_every_form_read_back(length: int) -> None:
    claims = ('{"a":"' + "x" * length + '"}').encode()
    assert read_claims(leaf([claims_extension(claims)])) == {"a": "x" * length}


def test_a_text_that_does_not_fit_is_not_written() -> None:
    with pytest.raises(ExtensionError, match="at most 8192"):
        claims_extension(b"x" * 9000)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x0c",
        b"\x0c\x02{",
        utf8(b"{}") + b"\0",
        b"\x0c\x81\x02{}",  # long form of a short length
        b"\x0c\x80{}\0\0",  # indefinite length
        b"\x13\x02{}",  # PrintableString
        b"{}",
        utf8(b"\xff"),
        utf8(b"[]"),
        utf8(b'{"a":1,"a":1}'),
        utf8(b'{"b":1,"a":1}'),
        utf8(b'{ "a":1}'),
        utf8(b'{"a":NaN}'),
        utf8(b"{" * 100),
        b"\x0c\x82\x20\x01" + b" " * 8193,
    ],
)
def test_claims_in_another_form_are_refused(value: bytes) -> None:
    with pytest.raises(ExtensionError):
        read_claims(leaf([raw(CLAIMS_OID, value)]))


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"root_ca":"00","secrets":{}}',
        b'{"root_ca":7,"secrets":{}}',
        b'{"root_ca":"' + b"00" * 32 + b'"}',
        b'{"root_ca":"' + b"00" * 32 + b'","secrets":[]}',
        b'{"root_ca":"' + b"AA" * 32 + b'","secrets":{}}',
        b'{"root_ca":"' + b"00" * 32 + b'","secrets":{"a":1}}',
        b'{"extra":1,"root_ca":"' + b"00" * 32 + b'","secrets":{}}',
    ],
)
def test_companions_in_another_form_are_refused(text: bytes) -> None:
    with pytest.raises(ExtensionError):
        read_companions(leaf([raw(COMPANIONS_OID, utf8(text))]))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"o\n1\n",
        b"o\n1\nAAAA\n",
        b"o\n01\n" + b"A" * 43 + b"=\n",
        b"o\n-1\n" + b"A" * 43 + b"=\n",
        b"\n1\n" + b"A" * 43 + b"=\n",
        b"o\n1\n" + b"A" * 42 + b"B=\n",
        b"o\n1\n" + b"A" * 43 + b"=\nextension\n",
        b"o\n1\n" + b"A" * 43 + b"=",
    ],
)
def test_a_checkpoint_in_another_form_is_refused(text: bytes) -> None:
    with pytest.raises(ExtensionError):
        read_checkpoint(leaf([raw(CHECKPOINT_OID, utf8(text))]))


def test_what_is_missing_or_critical_is_refused() -> None:
    with pytest.raises(ExtensionError, match="has no companions"):
        read_companions(leaf([]))
    with pytest.raises(ExtensionError, match="non-critical"):
        read_companions(leaf([companions_extension(bytes(32), {})], critical=True))
    with pytest.raises(ExtensionError):
        read_simulated(leaf([raw(SIMULATED_OID, utf8(b"real"))]))
