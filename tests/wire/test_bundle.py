"""The bundle's bytes: every truncation and every other length is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.bundle import Bundle, BundleError, bundle_digest, parse_bundle

BUNDLE = Bundle(leaf=b"L", intermediate=b"II", mesh_ca=b"MMM", root_ca=b"RRRR", receipt=b"receipt")
PART = st.binary(min_size=1, max_size=40)


def test_the_bytes_are_those_of_the_format() -> None:
    """docs/formats.md section 9."""
    expected = "0000000101" + "000000014c" + "000000024949" + "000000034d4d4d" + "0000000452525252"
    assert BUNDLE.pack() == bytes.fromhex(expected + "00000007") + b"receipt"


@given(st.builds(Bundle, leaf=PART, intermediate=PART, mesh_ca=PART, root_ca=PART, receipt=PART))
def test_packing_and_parsing_are_inverse(bundle: Bundle) -> None:
    assert parse_bundle(bundle.pack()) == bundle


def test_every_truncation_and_every_tail_is_refused() -> None:
    raw = BUNDLE.pack()
    for end in range(len(raw)):
        with pytest.raises(BundleError):
            parse_bundle(raw[:end])
    with pytest.raises(BundleError, match="1 bytes follow"):
        parse_bundle(raw + b"\0")


def test_another_version_is_refused_with_advice() -> None:
    with pytest.raises(BundleError, match="version 2"):
        parse_bundle(BUNDLE.pack().replace(b"\0\0\0\1\1", b"\0\0\0\1\2", 1))


@pytest.mark.parametrize("part", ["leaf", "receipt"])
def test_empty_and_oversized_parts_are_refused(part: str) -> None:
    for content in (b"", b"x" * 70_000):
        fields = {name: getattr(BUNDLE, name) for name in ("leaf", "intermediate", "mesh_ca", "root_ca", "receipt")}
        with pytest.raises(BundleError, match="bytes, 1 to"):
            parse_bundle(Bundle(**{**fields, part: content}).pack())


@given(st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_a_bundle_or_a_refusal(raw: bytes) -> None:
    try:
        bundle = parse_bundle(raw)
    except BundleError:
        return
    assert bundle.pack() == raw
    assert len(bundle_digest(raw)) == 32
