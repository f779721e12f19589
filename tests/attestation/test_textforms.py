"""Evidence as people hand it on: hex, base64, PEM with openssl's words around it, tables as hosts write them."""

import base64
import textwrap
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import der
from attestation.errors import AttestationError, UnknownFormatError
from attestation.evidence import Evidence
from attestation.explain import explain
from attestation.gather import gather
from attestation.snp.endorsement import EndorsementKind
from attestation.textforms import pem_blocks, unwrap
from tests.support.certificate_table import GUID_ARK, GUID_ASK, GUID_CRL, GUID_VCEK, GUID_VLEK, table
from tests.support.tdx_quotes import quote
from tests.support.vendor import make_evidence, vendor_chain

REPORT_DATA = b"\x52" * 64
QUOTE = quote()


@cache
def evidence() -> Evidence:
    """One and the same: every signature is another."""
    return make_evidence(vendor_chain(), REPORT_DATA)


def report() -> bytes:
    return evidence().part("report") or b""


def pem(data: bytes, label: str = "CERTIFICATE", *, end: str = "\n", note: str = "") -> bytes:
    lines = [f"-----BEGIN {label}-----", *textwrap.wrap(base64.b64encode(data).decode(), 64), f"-----END {label}-----"]
    return (note + end.join(lines) + end).encode()


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "hex": lambda raw: raw.hex().encode(),
    "HEX": lambda raw: raw.hex().upper().encode() + b"\r\n",
    "0x": lambda raw: b"0x" + raw.hex().encode(),
    "hex in lines": lambda raw: "\n".join(textwrap.wrap(raw.hex(), 60)).encode(),
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64url without padding": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_text_forms_are_read_like_the_bytes(form: Callable[[bytes], bytes]) -> None:
    """Somebody who copied a report out of a log would be told that it is nothing."""
    for raw in (report(), QUOTE, vendor_chain().chip.certificate):
        assert unwrap(form(raw)) == raw
        assert explain(form(raw)) == explain(raw)
    parts = gather(form(report()), [form(vendor_chain().chip.certificate)], simulated=True)
    assert parts.part("report") == report()
    assert parts.part("vek") == vendor_chain().chip.certificate


@settings(deadline=None)
@given(st.binary(min_size=64, max_size=400))
def test_bytes_are_never_taken_for_text(raw: bytes) -> None:
    assert unwrap(b"\0" + raw) == b"\0" + raw
    assert unwrap(raw.hex().encode()) == raw


def test_pem_is_read_with_anything_around_it() -> None:
    """`openssl x509 -text` and bags of keys put words before each block, editors put carriage returns."""
    vendor = vendor_chain()
    text = b"".join(
        (
            pem(vendor.root, note="Certificate:\n    Data: - - ----\n        Serial Number: 65536\n"),
            pem(vendor.crl, "X509 CRL", note="the list\n"),
            pem(vendor.intermediate, end="\r\n"),
            b"  friendlyName: leaf\n",
            pem(vendor.chip.certificate),
            b"\n\n",
        )
    )
    assert [found.kind for found in explain(text)] == ["certificate", "crl", "certificate", "certificate"]
    assert gather(report(), [text], simulated=True) == evidence()


@pytest.mark.parametrize("order", [1, -1])
def test_a_chain_may_be_in_either_order(order: int) -> None:
    vendor = vendor_chain()
    chain = b"".join((pem(vendor.intermediate), pem(vendor.root))[::order])
    parts = gather(report(), [chain], simulated=True)
    assert parts.part("root") == vendor.root
    assert parts.part("intermediate") == vendor.intermediate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pem(b"secret", "PRIVATE KEY"), "PRIVATE KEY"),
        (pem(b"one")[:-20], "1 PEM blocks begin and 0 are whole"),
        (pem(b"one") + pem(b"two")[:40], "2 PEM blocks begin and 1 are whole"),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "not base64"),
        (b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END X509 CRL-----\n", "CERTIFICATE"),
    ],
    ids=["key", "cut", "second cut", "no base64", "other end"],
)
def test_broken_pem_is_refused_and_not_repeated(text: bytes, message: str) -> None:
    with pytest.raises(UnknownFormatError, match=message) as caught:
        pem_blocks(text)
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "empty"),
        (b" \n", "nothing in these 2 bytes"),
        (b"\x06" + bytes(1183), "version 6: versions 2 to 5"),
        (b"\x01" + bytes(1183), "version 1: versions 2 to 5"),
        (b"\x05" + bytes(1185), "begins like an SEV-SNP report of version 5, which has 1184 bytes; these are 1186"),
        (b"\6" + QUOTE[1:], "quote of TDX, version 6"),
        (b"\3\0\2\0" + bytes(8) + QUOTE[12:], "quote of SGX, version 3"),
        (QUOTE + b"\0", "of which the quote takes"),
        (b"\x30\x80\0\0" + bytes(80), "begins like a certificate or a revocation list"),
        (b"0" * 70, "no report, quote"),
        (b"[1]", "these 3 bytes are no report"),
        (b'{"report": ""}', "neither collateral nor"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_what_cannot_be_read_is_named(raw: bytes, message: str) -> None:
    """A person with a newer report, or half of one, would have nothing to go on."""
    with pytest.raises(AttestationError, match=message):
        explain(raw)


def test_the_leaf_of_a_table_is_the_one_that_signed() -> None:
    """A host with both keys in its table would be refused for the one that the report is not about."""
    vendor = vendor_chain()
    both = (
        (GUID_VCEK, vendor.chip.certificate),
        (GUID_VLEK, vendor_chain("Milan", EndorsementKind.VLEK).chip.certificate),
    )
    raw = table(*both, (GUID_ASK, vendor.intermediate), (GUID_ARK, vendor.root), (GUID_CRL, vendor.crl))
    assert gather(report(), [raw], simulated=True) == evidence()
    vlek = vendor_chain("Milan", EndorsementKind.VLEK)
    other = make_evidence(vlek, REPORT_DATA)
    assert gather(other.part("report") or b"", [raw], simulated=True).part("vek") == vlek.chip.certificate


def test_a_table_may_hold_many_entries_of_the_hosts_own_anywhere() -> None:
    """A host that adds its own entries, twice or unaligned, would keep its guests from ever being endorsed."""
    vendor = vendor_chain()
    own = [(bytes((index % 7 + 1,)) * 16, b"x" * index) for index in range(60)]
    raw = table(
        *own[:30], (GUID_VCEK, vendor.chip.certificate), *own[30:], (GUID_ASK, b""), (GUID_ASK, vendor.intermediate)
    )
    assert [found.title for found in explain(raw)] == ["VCEK certificate", "certificate of an authority"]


@pytest.mark.parametrize("tail", [b"", b"\0", b"\n\0\0", b" \r\n"], ids=["none", "zero", "zeros", "line end"])
def test_pem_in_a_table_may_end_as_text_ends(tail: bytes) -> None:
    vendor = vendor_chain()
    raw = table((GUID_VCEK, pem(vendor.chip.certificate) + tail))
    assert gather(report(), [raw], simulated=True).part("vek") == vendor.chip.certificate
    assert der.Reader(vendor.chip.certificate).peek() == der.SEQUENCE
