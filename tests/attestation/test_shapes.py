"""The small shapes: canonical bytes, bindings, evidence, reference values. Each has one spelling."""

import hashlib
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.binding import Purpose, epoch_subject, parse_workload_subject, report_data, workload_subject
from attestation.codec import Value, pack, unpack
from attestation.errors import CodecError, EvidenceError, ReferenceValueError
from attestation.evidence import Evidence, Kind, binding_of, host_data_of, parse_kind
from attestation.reference import GuestPolicy, SnpReferenceValues, TdxReferenceValues
from attestation.snp.products import PRODUCTS, Tcb, pack_tcb, parse_tcb, product_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda children: st.lists(children, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_what_is_packed_is_read_back(value: Value) -> None:
    try:
        packed = pack(value)
    except CodecError:
        return  # Deeper than 8.
    assert unpack(packed) == value


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_have_one_reading_or_none(data: bytes) -> None:
    try:
        value = unpack(data)
    except CodecError:
        return
    assert pack(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90\x90",
        b"\xcc\x05",
        b"\xd9\x01a",
        b"\xdc\x00\x00",
        b"\xff",
        b"\xd0\x80",
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80",
        b"\x81\x01\x02",
        b"\xcb" + bytes(8),
        b"\xd6\xff" + bytes(4),
        b"\xa1\xff",
        b"\xc1",
        b"\x91" * 9 + b"\x90",
        b"\x91" * 3000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
    ids=lambda data: f"{len(data)}-{data[:6].hex()}",
)
def test_loose_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(data)


@pytest.mark.parametrize("value", [-1, 2**63, 1.5, {"a": 1}, "\ud800", [[[[[[[[[1]]]]]]]]], {1}], ids=repr)
def test_what_has_no_place_is_not_packed(value: Any) -> None:
    with pytest.raises(CodecError):
        pack(value)


def test_a_binding_covers_purpose_nonce_and_subject() -> None:
    nonce, subject = b"\1" * 32, b"subject"
    wanted = hashlib.sha512(b"contrast/attestation/v1\0workload\0" + nonce + hashlib.sha256(subject).digest()).digest()
    assert report_data(Purpose.WORKLOAD, nonce, subject) == wanted
    others = [report_data(purpose, nonce, subject) for purpose in Purpose]
    others += [report_data(Purpose.WORKLOAD, b"\2" * 32, subject), report_data(Purpose.WORKLOAD, nonce, b"other")]
    assert len(set(others)) == len(others)
    with pytest.raises(EvidenceError, match="31 bytes"):
        report_data(Purpose.EPOCH, bytes(31), subject)


def test_a_workloads_subject_splits_in_one_way() -> None:
    spki, hpke = b"s" * 120, b"h" * 32
    subject = workload_subject(spki, hpke)
    assert subject == b"\x00\x78" + spki + hpke
    assert parse_workload_subject(subject) == (spki, hpke)
    for broken in (b"", b"\0", subject[:-1], subject + b"\0", b"\0\0" + hpke, b"\x00\x77" + subject[2:]):
        with pytest.raises(EvidenceError):
            parse_workload_subject(broken)
    with pytest.raises(EvidenceError):
        workload_subject(b"", hpke)
    with pytest.raises(EvidenceError):
        workload_subject(spki, bytes(31))


def test_an_epochs_subject_is_the_array_of_the_formats_page() -> None:
    subject = epoch_subject("origin", 7, b"e" * 32, b"t" * 32, b"h" * 32)
    assert msgpack.unpackb(subject) == ["origin", 7, b"e" * 32, b"t" * 32, b"h" * 32]
    with pytest.raises(EvidenceError):
        epoch_subject("origin", 7, b"e" * 31, b"t" * 32, b"h" * 32)


def test_evidence_has_one_order() -> None:
    evidence = Evidence.make("snp", {"vek": b"v", "report": b"r", "crl": b"c"})
    assert [role for role, _ in evidence.parts] == ["crl", "report", "vek"]
    assert evidence.part("vek") == b"v"
    assert evidence.part("root") is None
    assert evidence.references() == (
        "snp",
        tuple((role, hashlib.sha256(data).digest()) for role, data in evidence.parts),
    )


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (Kind.SNP, ()),
        (Kind.SNP, (("vek", b"v"),)),
        (Kind.SNP, (("report", b""),)),
        (Kind.SNP, (("report", b"r" * 4097),)),
        (Kind.SNP, (("report", b"r"), ("report", b"r"))),
        (Kind.SNP, (("vek", b"v"), ("report", b"r"))),
        (Kind.SNP, (("quote", b"q"), ("report", b"r"))),
        (Kind.SNP, (("report", b"r"), ("x" * 1000, b"r"))),
        (Kind.TDX, (("report", b"r"),)),
    ],
)
def test_misshapen_evidence_is_refused(kind: Kind, parts: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(EvidenceError):
        Evidence(kind, parts)


def test_an_unknown_kind_is_refused_in_words() -> None:
    with pytest.raises(EvidenceError, match="wanted one of snp, tdx, azure-snp, simulated"):
        parse_kind("sev" * 100)


def test_the_binding_is_where_the_platform_carries_it(vectors: Path) -> None:
    report = bytes(0x50) + b"d" * 64 + bytes(0x30) + b"h" * 32 + bytes(0x4A0 - 0xE0)
    evidence = Evidence.make(Kind.SNP, {"report": report})
    assert binding_of(evidence) == b"d" * 64
    assert host_data_of(evidence) == b"h" * 32
    for short in (report[:-1], report + b"\0"):
        with pytest.raises(EvidenceError):
            binding_of(Evidence.make(Kind.SNP, {"report": short}))
    for version, start in ((4, 48), (5, 54)):
        quote = bytearray(700)
        quote[:2] = version.to_bytes(2, "little")
        quote[start + 520 : start + 584] = b"d" * 64
        quote[start + 184 : start + 216] = b"h" * 32
        tdx = Evidence.make(Kind.TDX, {"quote": bytes(quote)})
        assert binding_of(tdx) == b"d" * 64
        assert host_data_of(tdx) == b"h" * 32
    for quote_bytes in (b"\4", b"\4\0" + bytes(100), b"\3\0" + bytes(700)):
        with pytest.raises(EvidenceError):
            binding_of(Evidence.make(Kind.TDX, {"quote": quote_bytes}))


BASE: dict[str, Any] = {
    "platform": "p",
    "product_name": "Milan",
    "trusted_measurement": bytes(48),
    "minimum_tcb": Tcb(bootloader=0, tee=0, snp=0, microcode=0),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"product_name": "Naples"},
        {"trusted_measurement": bytes(47)},
        {"minimum_tcb": Tcb(fmc=0, bootloader=0, tee=0, snp=0, microcode=0)},
        {"minimum_tcb": Tcb(bootloader=256, tee=0, snp=0, microcode=0)},
        {"minimum_launch_tcb": Tcb(bootloader=-1, tee=0, snp=0, microcode=0)},
        {"product_name": "Turin"},
        {"vmpl": 4},
        {"minimum_mitigation_vector": -1},
        {"minimum_guest_svn": 2**32},
        {"family_id": bytes(15)},
        {"image_id": bytes(17)},
        {"trust_anchor": bytes(31)},
        {"trust_anchor_spki": bytes(33)},
        {"allowed_chip_ids": (bytes(63),)},
        {"denied_chip_ids": (bytes(8),)},
        {"id_key_digests": (bytes(32),)},
        {"author_key_digests": (bytes(32),)},
        {"require_id_block": True},
        {"crl": "maybe"},
    ],
    ids=repr,
)
def test_a_useless_reference_value_is_refused(changes: dict[str, Any]) -> None:
    assert SnpReferenceValues(**BASE).product is PRODUCTS["Milan"]
    with pytest.raises(ReferenceValueError):
        SnpReferenceValues(**{**BASE, **changes})


@pytest.mark.parametrize("changes", [{"debug": True}, {"migrate_ma": True}, {"abi_minor": 256}, {"abi_major": -1}])
def test_a_policy_that_opens_the_guest_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ReferenceValueError):
        GuestPolicy(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"mr_td": b""}, {"mr_seam": bytes(47)}, {"rtmrs": (b"",) * 4}, {"xfam": b""}, {"allowed_piids": (b"",)}],
    ids=repr,
)
def test_tdx_reference_values_have_their_sizes(changes: dict[str, Any]) -> None:
    base: dict[str, Any] = {
        "platform": "p",
        "mr_td": bytes(48),
        "mr_seam": bytes(48),
        "rtmrs": (bytes(48),) * 4,
        "xfam": bytes(8),
    }
    TdxReferenceValues(**base)
    with pytest.raises(ReferenceValueError):
        TdxReferenceValues(**{**base, **changes})


PART = st.integers(0, 255)


@settings(deadline=None)
@given(PART, PART, PART, PART, PART)
def test_tcbs_have_the_layout_of_their_product(first: int, second: int, third: int, fourth: int, fifth: int) -> None:
    for product in PRODUCTS.values():
        fmc = fifth if product.has_fmc else None
        tcb = Tcb(bootloader=first, tee=second, snp=third, microcode=fourth, fmc=fmc)
        assert parse_tcb(pack_tcb(tcb, product), product) == tcb
        assert tcb.at_least(tcb)


def test_tcbs_are_compared_part_by_part() -> None:
    """As one number, a new microcode would hide an old boot loader."""
    old = Tcb(bootloader=3, tee=0, snp=8, microcode=115)
    assert not Tcb(bootloader=2, tee=9, snp=9, microcode=255).at_least(old)
    assert not Tcb(bootloader=3, tee=0, snp=7, microcode=255).at_least(old)
    assert not Tcb(fmc=1, bootloader=3, tee=0, snp=8, microcode=115).at_least(old)


@pytest.mark.parametrize(
    ("family", "model", "name"),
    [
        (0x19, 0x00, "Milan"),
        (0x19, 0x0F, "Milan"),
        (0x19, 0x10, "Genoa"),
        (0x19, 0x1F, "Genoa"),
        (0x19, 0xA0, "Siena"),
        (0x19, 0xAF, "Siena"),
        (0x1A, 0x00, "Turin"),
        (0x1A, 0x11, "Turin"),
        (0x19, 0x20, None),
        (0x1A, 0x12, None),
        (0x17, 0x01, None),
    ],
)
def test_models_belong_to_their_product(family: int, model: int, name: str | None) -> None:
    product = product_of(family, model)
    assert (product.name if product else None) == name
