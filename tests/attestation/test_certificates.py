"""Strict DER and AMD's extensions: what is missing, doubled or loosely spelled is refused, even when well signed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import der
from attestation.der import Reader
from attestation.errors import CertificateError, CertificateTableError
from attestation.judge import judge
from attestation.simulated import mint
from attestation.snp import certificates
from attestation.snp import endorsement as amd
from attestation.snp.certificates import parse_authority, parse_crl
from attestation.snp.endorsement import parse_endorsement
from attestation.snp.products import Tcb
from attestation.snp.table import parse_certificate_table
from attestation.verdict import Outcome, Verdict
from tests.support.certificate_table import GUID_ASK, GUID_CRL, GUID_VCEK, GUID_VLEK, table
from tests.support.vendor import HOST_DATA, NOW, START, make_evidence, reference_values, vendor_chain

REPORT_DATA = b"\x52" * 64
Edit = Callable[[list[bytes]], list[bytes]]


def leaf(edit: Edit, *, subject: str = "SEV-VCEK") -> bytes:
    """A leaf genuinely signed by the vendor's intermediate, with edited extensions."""
    vendor = vendor_chain()
    chip, tcb = vendor.chip, vendor.chip.tcb
    parts = {1: tcb.bootloader, 2: tcb.tee, 4: 0, 5: 0, 6: 0, 7: 0, 3: tcb.snp, 8: tcb.microcode}
    extensions = [
        mint.extension(amd.OID_STRUCT_VERSION, der.integer(1)),
        mint.extension(amd.OID_PRODUCT_NAME, der.element(der.IA5_STRING, b"Milan-B0")),
        *(mint.extension(amd.OID_TCB + bytes((part,)), der.integer(value)) for part, value in parts.items()),
        mint.extension(amd.OID_HWID, chip.chip_id),
    ]
    return mint.certificate(
        vendor.intermediate_key,
        serial=0,
        issuer=parse_authority(vendor.intermediate).certificate.subject,
        subject=mint.name(subject),
        validity=(START, START + timedelta(days=365)),
        spki=mint.spki(chip.key),
        extensions=edit(extensions),
    )


def extension(suffix: int, value: bytes, *, critical: bool = False) -> bytes:
    return mint.extension(amd.OID_TCB[:-1] + bytes((suffix,)), value, critical=critical)


def tcb_part(part: int, value: bytes) -> bytes:
    return mint.extension(amd.OID_TCB + bytes((part,)), value)


def test_the_edited_leaf_is_fine_without_edits() -> None:
    endorsement = parse_endorsement(leaf(lambda extensions: extensions))
    assert endorsement.tcb == Tcb(bootloader=4, tee=0, snp=24, microcode=219)


def slowly(raw: bytes) -> dict[bytes, bytes] | None:
    """Extensions read element by element, as X.690 has them; None where they cannot be read."""
    try:
        outer = Reader(raw)
        whole, found = outer.enter(der.SEQUENCE), {}
        outer.finish()
        while not whole.at_end:
            one = whole.enter(der.SEQUENCE)
            oid = one.read(der.OBJECT_ID)
            is_critical = one.peek() == der.BOOLEAN and one.boolean()
            value = one.read(der.OCTET_STRING)
            one.finish()
            if oid in found or (is_critical and oid not in certificates._CA_EXTENSIONS):
                return None
            found[oid] = value
    except CertificateError:
        return None
    return found


def quickly(raw: bytes) -> dict[bytes, bytes] | None:
    reader = Reader(raw)
    try:
        found = certificates._extensions(reader, critical=certificates._CA_EXTENSIONS)
        reader.finish()
    except CertificateError:
        return None
    return found


@pytest.mark.parametrize("name", ["leaf", "authority"])
def test_the_written_out_reader_of_extensions_reads_what_the_plain_one_does(name: str) -> None:
    """Each byte of them with each value that steers a reader: a difference would be a certificate with two meanings."""
    whole: list[bytes] = []

    def keep(extensions: list[bytes]) -> list[bytes]:
        whole.extend(extensions)
        return extensions

    leaf(keep)
    parts = whole if name == "leaf" else mint.authority(None, 0x06)
    content = b"".join(parts)
    block = der.element(der.SEQUENCE, content)
    assert quickly(block) == slowly(block)
    assert len(quickly(block) or ()) == len(parts)
    for position in range(len(block)):
        values = {0, 1, 2, 4, 5, 6, 0x30, 0x7F, 0x80, 0x81, 0xFF, block[position] ^ 1, block[position] + 1 & 0xFF}
        for value in values | {block[position] - 1 & 0xFF}:
            changed = block[:position] + bytes((value,)) + block[position + 1 :]
            assert quickly(changed) == slowly(changed), (position, value)
    for length in range(len(block)):
        assert quickly(block[:length]) == slowly(block[:length])
        shorter = der.element(der.SEQUENCE, content[:length])
        assert quickly(shorter) == slowly(shorter), length


def without(index: int) -> Edit:
    return lambda extensions: extensions[:index] + extensions[index + 1 :]


EDITS: dict[str, Edit] = {
    **{f"without extension {index}": without(index) for index in range(10)},
    "doubled TCB part": lambda e: [*e, e[2]],
    "doubled hwID": lambda e: [*e, e[-1]],
    "padded integer": lambda e: [*e[:2], tcb_part(1, bytes.fromhex("02020004")), *e[3:]],
    "negative integer": lambda e: [*e[:9], tcb_part(8, bytes.fromhex("0201db")), e[-1]],
    "long-form length": lambda e: [*e[:2], tcb_part(1, bytes.fromhex("02810104")), *e[3:]],
    "trailing byte": lambda e: [*e[:2], tcb_part(1, bytes.fromhex("02010400")), *e[3:]],
    "no integer": lambda e: [*e[:2], tcb_part(1, bytes.fromhex("040104")), *e[3:]],
    "part above 255": lambda e: [*e[:2], tcb_part(1, bytes.fromhex("02020100")), *e[3:]],
    "reserved part set": lambda e: [*e[:4], tcb_part(4, bytes.fromhex("020101")), *e[5:]],
    "part 10": lambda e: [*e, tcb_part(10, bytes.fromhex("020101"))],
    "unknown extension of AMD's": lambda e: [*e, extension(6, b"\x05\x00")],
    "unknown critical extension": lambda e: [*e, mint.extension(b"\x2a\x03\x04", b"\x05\x00", critical=True)],
    "unknown extension, doubled": lambda e: [*e, *(mint.extension(b"\x2a\x03\x04", part) for part in (b"1", b"2"))],
    "key that may not sign": lambda e: [*e, mint.extension(certificates.OID_KEY_USAGE, bytes.fromhex("03020308"))],
    "leaf that is a CA": lambda e: [
        *e,
        mint.extension(certificates.OID_BASIC_CONSTRAINTS, bytes.fromhex("30030101ff")),
    ],
    "critical extension": lambda e: [*e[:-1], extension(4, vendor_chain().chip.chip_id, critical=True)],
    "hwID of 63 bytes": lambda e: [*e[:-1], extension(4, bytes(63))],
    "empty product": lambda e: [e[0], extension(2, b"\x16\x00"), *e[2:]],
    "product in another string": lambda e: [e[0], extension(2, b"\x0c\x05Milan"), *e[2:]],
    "unprintable product": lambda e: [e[0], extension(2, b"\x16\x05Mil\nn"), *e[2:]],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_leaf_with_odd_extensions_is_refused(edit: Edit) -> None:
    """Signed by the right key all the same: a verifier that skips what it does not find fails open."""
    vendor = vendor_chain()
    vek = leaf(edit)
    with pytest.raises(CertificateError):
        parse_endorsement(vek)
    evidence = make_evidence(vendor, REPORT_DATA)
    parts = {**dict(evidence.parts), "vek": vek}
    verdict = judge(
        type(evidence).make(evidence.kind, parts),
        [reference_values(vendor)],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert [check.number for check in verdict.failures] == [9, 27]


@pytest.mark.parametrize(
    "edit",
    [
        lambda e: e[::-1],
        lambda e: [mint.extension(b"\x2a\x03\x04", b"\x05\x00"), *e],
        lambda e: [*e, mint.extension(certificates.OID_AUTHORITY_KEY_ID, bytes.fromhex("3016801400") + bytes(19))],
        lambda e: [*e, mint.extension(certificates.OID_KEY_USAGE, bytes.fromhex("03020780"), critical=True)],
        lambda e: [*e, mint.extension(certificates.OID_BASIC_CONSTRAINTS, b"\x30\x00", critical=True)],
        lambda e: [*e[:-1], extension(4, b"\x04\x40" + vendor_chain().chip.chip_id)],
    ],
    ids=["reversed", "ignorable", "key identifier", "key usage", "no CA", "wrapped hwID"],
)
def test_a_leaf_written_in_another_way_is_accepted(edit: Edit) -> None:
    """A vendor that adds what X.509 lets it add would lock every guest out."""
    vendor = vendor_chain()
    verdict = judge_with(vek=leaf(edit))
    assert verdict.accepted, verdict.failures
    assert parse_endorsement(leaf(edit)).hwid == vendor.chip.chip_id


def judge_with(**parts: bytes) -> Verdict:
    """The verdict on a sound report with other endorsements."""
    vendor = vendor_chain()
    evidence = make_evidence(vendor, REPORT_DATA)
    return judge(
        type(evidence).make(evidence.kind, {**dict(evidence.parts), **parts}),
        [reference_values(vendor)],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
        thorough=True,
    )


def revocation_list(
    *,
    entries: bytes = b"",
    extensions: list[bytes] | None = None,
    next_update: datetime | None = NOW + timedelta(days=9),
    algorithm: bytes = certificates.PSS_ALGORITHM,
) -> bytes:
    """A list genuinely signed by the vendor's root, of any shape."""
    vendor = vendor_chain()
    body = der.element(
        der.SEQUENCE,
        der.integer(1),
        algorithm,
        parse_authority(vendor.root).certificate.subject,
        der.time(START),
        b"" if next_update is None else der.time(next_update),
        entries,
        b"" if extensions is None else der.element(0xA0, der.element(der.SEQUENCE, *extensions)),
    )
    signature = vendor.root_key.sign(body, certificates.PSS_PADDING, SHA384())
    return der.element(der.SEQUENCE, body, algorithm, der.element(der.BIT_STRING, b"\0", signature))


def entry(serial: bytes, *extensions: bytes) -> bytes:
    tail = der.element(der.SEQUENCE, *extensions) if extensions else b""
    return der.element(der.SEQUENCE, der.element(der.INTEGER, serial), der.time(START), tail)


REASON = mint.extension(bytes.fromhex("551d15"), b"\x0a\x01\x01")
_BARE = bytes.fromhex("300b0609608648016503040202")  # SHA-384 without the NULL.
BARE_HASHES = der.element(
    der.SEQUENCE,
    bytes.fromhex("06092a864886f70d01010a"),
    der.element(
        der.SEQUENCE,
        der.element(0xA0, _BARE),
        der.element(0xA1, der.element(der.SEQUENCE, bytes.fromhex("06092a864886f70d010108"), _BARE)),
        bytes.fromhex("a203020130"),
    ),
)

LISTS = {
    "no extensions": revocation_list,
    "unknown extension": lambda: revocation_list(extensions=[mint.extension(b"\x2a\x03\x04", b"\x05\x00")]),
    "empty sequence of entries": lambda: revocation_list(entries=der.element(der.SEQUENCE), extensions=[]),
    "a reason": lambda: revocation_list(entries=der.element(der.SEQUENCE, entry(b"\x07", REASON))),
    "serial zero": lambda: revocation_list(entries=der.element(der.SEQUENCE, entry(b"\0"))),
    "negative serial": lambda: revocation_list(entries=der.element(der.SEQUENCE, entry(b"\x80\x01"))),
    "hashes without parameters": lambda: revocation_list(algorithm=BARE_HASHES),
}


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS.keys())
def test_a_revocation_list_of_any_sound_shape_is_read(make: Callable[[], bytes]) -> None:
    """A list that is fresh and by the root would refuse every guest for how it is written."""
    verdict = judge_with(crl=make())
    assert verdict.accepted, verdict.failures
    assert verdict.outcomes[9] == Outcome.PASSED


ODD_LISTS: dict[str, tuple[Callable[[], bytes], int]] = {
    "names the intermediate": (
        lambda: revocation_list(entries=der.element(der.SEQUENCE, entry(b"\x01\x00\x01", REASON))),
        10,
    ),
    "from the future": (
        lambda: vendor_chain().make_crl(this_update=NOW + timedelta(days=1), next_update=NOW + timedelta(days=2)),
        10,
    ),
    "ends now": (lambda: revocation_list(next_update=NOW), 10),
    "has no end": (lambda: revocation_list(next_update=None), 9),
    "covers a part only": (
        lambda: revocation_list(extensions=[mint.extension(bytes.fromhex("551d1c"), b"\x30\x00", critical=True)]),
        9,
    ),
    "critical entry": (
        lambda: revocation_list(
            entries=der.element(der.SEQUENCE, entry(b"\x07", mint.extension(b"\x2a\x03\x04", b"", critical=True)))
        ),
        9,
    ),
    "padded serial": (lambda: revocation_list(entries=der.element(der.SEQUENCE, entry(b"\0\x07"))), 9),
    "padded negative serial": (lambda: revocation_list(entries=der.element(der.SEQUENCE, entry(b"\xff\x80"))), 9),
    "empty serial": (lambda: revocation_list(entries=der.element(der.SEQUENCE, entry(b""))), 9),
}


@pytest.mark.parametrize(("make", "check"), ODD_LISTS.values(), ids=ODD_LISTS.keys())
def test_a_revocation_list_that_says_less_or_more_is_refused(make: Callable[[], bytes], check: int) -> None:
    """A list of another time, or of some certificates only, would pass for one that clears the intermediate."""
    assert check in [failure.number for failure in judge_with(crl=make()).failures]


def test_a_negative_serial_number_is_a_number() -> None:
    """RFC 5280 asks readers to be prepared for them, as for AMD's zero."""
    vendor = vendor_chain()
    body = der.Reader(leaf(lambda extensions: extensions)).enter(der.SEQUENCE).read_raw(der.SEQUENCE)
    body = body.replace(der.integer(0), b"\x02\x01\xff", 1)
    signature = vendor.intermediate_key.sign(body, certificates.PSS_PADDING, SHA384())
    vek = der.element(der.SEQUENCE, body, certificates.PSS_ALGORITHM, der.element(der.BIT_STRING, b"\0", signature))
    assert parse_endorsement(vek).certificate.serial == -1
    assert judge_with(vek=vek).accepted


@pytest.mark.parametrize(
    ("edit", "numbers"),
    [
        (lambda e: e[:-1], [8, 13]),
        (lambda e: [*e, extension(5, b"\x16\x04CN=x")], [8]),
        (lambda e: [*e[:-1], extension(4, bytes(63) + b"\1")], [13]),
        (lambda e: [*e[:-1], extension(4, vendor_chain().chip.chip_id[:8])], [13]),
        (lambda e: [e[0], extension(2, b"\x16\x05Genoa"), *e[2:]], [5]),
        (lambda e: [*e, tcb_part(9, b"\2\1\0")], [12]),
        (lambda e: [*e[:2], tcb_part(1, b"\2\1\5"), *e[3:]], [12]),
    ],
    ids=["no hwID", "hwID and CSP_ID", "other hwID", "short hwID", "other product", "FMC on Milan", "other TCB"],
)
def test_a_well_formed_leaf_for_something_else_is_refused(edit: Edit, numbers: list[int]) -> None:
    vendor = vendor_chain()
    evidence = make_evidence(vendor, REPORT_DATA)
    verdict = judge(
        type(evidence).make(evidence.kind, {**dict(evidence.parts), "vek": leaf(edit)}),
        [reference_values(vendor)],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert [check.number for check in verdict.failures] == [*numbers, 27]


def test_a_leaf_of_another_name_is_none() -> None:
    with pytest.raises(CertificateError, match="wanted SEV-VCEK or SEV-VLEK"):
        parse_endorsement(leaf(lambda extensions: extensions, subject="SEV-X"))


def test_a_point_off_the_curve_is_no_key() -> None:
    good = leaf(lambda extensions: extensions)
    at = good.index(amd.P384_SPKI_PREFIX) + len(amd.P384_SPKI_PREFIX) + 50
    with pytest.raises(CertificateError, match="not on the curve"):
        parse_endorsement(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])


def test_a_key_on_another_curve_is_no_key() -> None:
    vendor = vendor_chain()
    other = mint.certificate(
        vendor.intermediate_key,
        serial=0,
        issuer=parse_authority(vendor.intermediate).certificate.subject,
        subject=mint.name("SEV-VCEK"),
        validity=(START, NOW),
        spki=mint.spki(ec.generate_private_key(ec.SECP256R1())),
        extensions=[
            mint.extension(amd.OID_STRUCT_VERSION, der.integer(1)),
            mint.extension(amd.OID_PRODUCT_NAME, der.element(der.IA5_STRING, b"Milan-B0")),
            *(tcb_part(part, der.integer(0)) for part in range(1, 9)),
            mint.extension(amd.OID_HWID, bytes(64)),
        ],
    )
    with pytest.raises(CertificateError, match="P-384"):
        parse_endorsement(other)


@pytest.mark.parametrize("suffix", ["05000500", "a303020102"])
def test_other_signature_parameters_are_refused(suffix: str) -> None:
    """PKCS#1 v1.5 or another salt would be a downgrade."""
    good = leaf(lambda extensions: extensions)
    odd = der.element(der.SEQUENCE, certificates.PSS_ALGORITHM[2:], bytes.fromhex(suffix))
    body = der.Reader(good).enter(der.SEQUENCE).read_raw(der.SEQUENCE)
    with pytest.raises(CertificateError, match="RSASSA-PSS"):
        certificates.parse_certificate(der.element(der.SEQUENCE, body, odd, der.element(der.BIT_STRING, bytes(513))))


def test_a_leaf_is_no_authority() -> None:
    with pytest.raises(CertificateError):
        parse_authority(vendor_chain().chip.certificate)


def authority(constraints: bytes | None, usage: bytes | None) -> bytes:
    vendor = vendor_chain()
    extensions = []
    if constraints is not None:
        extensions.append(mint.extension(certificates.OID_BASIC_CONSTRAINTS, constraints, critical=True))
    if usage is not None:
        extensions.append(mint.extension(certificates.OID_KEY_USAGE, usage, critical=True))
    return mint.certificate(
        vendor.root_key,
        serial=1,
        issuer=mint.name("ARK-Milan"),
        subject=mint.name("SEV-Milan"),
        validity=(START, NOW),
        spki=mint.spki(vendor.intermediate_key),
        extensions=extensions,
    )


@pytest.mark.parametrize(
    ("constraints", "usage"),
    [
        (None, "03020204"),
        ("30060101ff020100", None),
        ("3000", "03020204"),
        ("3003010100", "03020204"),
        ("3003010101", "03020204"),
        ("30060101ff0201ff", "03020204"),
        ("30080101ff0201000500", "03020204"),
        ("30060101ff020100", "03020780"),
        ("30060101ff020100", "03020304"),
        ("30060101ff020100", "0301"),
    ],
)
def test_a_certificate_that_may_not_sign_is_no_authority(constraints: str | None, usage: str | None) -> None:
    good = parse_authority(authority(bytes.fromhex("30060101ff020100"), bytes.fromhex("03020204")))
    assert good.path_length == 0
    raw = authority(*(None if text is None else bytes.fromhex(text) for text in (constraints, usage)))
    with pytest.raises(CertificateError):
        parse_authority(raw)


def test_a_list_reads_as_written() -> None:
    vendor = vendor_chain()
    crl = parse_crl(vendor.make_crl(this_update=START, next_update=NOW, revoked=(1, 0x20001, 2**64)))
    assert crl.revoked == {1, 0x20001, 2**64}
    assert (crl.this_update, crl.next_update) == (START, NOW)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_parsers_raise_anything_else(data: bytes) -> None:
    for parse in (parse_endorsement, parse_authority, parse_crl):
        with pytest.raises(CertificateError):
            parse(data)


@settings(deadline=None)
@given(st.integers(0, 2**200))
def test_integers_have_one_spelling(value: int) -> None:
    reader = der.Reader(der.integer(value))
    assert reader.integer() == value
    reader.finish()


@settings(deadline=None)
@given(st.datetimes(datetime(1950, 1, 1), datetime(2149, 12, 31)))
def test_times_come_back_in_whole_seconds(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC, microsecond=0)
    assert der.Reader(der.time(aware)).time() == aware


@pytest.mark.parametrize(
    "text",
    [b"231310123456Z", b"2301101234560", b"2301010000Z", b"23010110000aZ"],
    ids=["month 13", "no Z", "short", "hex"],
)
def test_odd_times_are_refused(text: bytes) -> None:
    for tag in (der.UTC_TIME, der.GENERALIZED_TIME):
        with pytest.raises(CertificateError):
            der.Reader(der.element(tag, text)).time()


@pytest.mark.parametrize(
    "raw",
    ["30", "3080", "308100", "30820001" + "00", "3002" + "00", "30840000000100", "31" + "00"],
    ids=lambda raw: raw,
)
def test_loose_lengths_are_refused(raw: str) -> None:
    with pytest.raises(CertificateError):
        der.Reader(bytes.fromhex(raw)).enter(der.SEQUENCE)


def test_identifiers_are_told_as_people_write_them() -> None:
    assert der.dotted(amd.OID_TCB + b"\x08") == "1.3.6.1.4.1.3704.1.3.8"
    assert der.dotted(certificates.OID_KEY_USAGE) == "2.5.29.15"


def test_a_table_gives_its_certificates() -> None:
    raw = table((GUID_ASK, b"ask"), (b"\x11" * 16, b"other"), (GUID_VCEK, b"vcek"), (GUID_CRL, b"crl"))
    assert parse_certificate_table(raw) == {"intermediate": b"ask", "vek": b"vcek", "crl": b"crl"}


@pytest.mark.parametrize("order", [1, -1])
def test_the_leaf_is_the_one_that_signed(order: int) -> None:
    raw = table(*((GUID_VCEK, b"vcek"), (GUID_VLEK, b"vlek"))[::order])
    assert parse_certificate_table(raw) == {"vek": b"vcek"}
    assert parse_certificate_table(raw, prefer_vlek=True) == {"vek": b"vlek"}


def test_a_pem_payload_is_read_and_an_empty_one_left_out() -> None:
    raw = table((GUID_ASK, b"-----BEGIN CERTIFICATE-----\r\nYXNr\r\n-----END CERTIFICATE-----\r\n"), (GUID_VCEK, b""))
    assert parse_certificate_table(raw) == {"intermediate": b"ask"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(23),
        table((GUID_VCEK, b"v"), end=False)[:24],
        table((GUID_VCEK, b"v"))[:-1],
        table((GUID_VCEK, b"v"), (GUID_VCEK, b"v")),
        table((GUID_VCEK, b"v"), (GUID_VLEK, b"v"), (GUID_VCEK, b"v")),
        table(*((bytes((index % 255 + 1,)) * 16, b"") for index in range(256))),
        table((GUID_ASK, b"-----BEGIN CERTIFICATE-----\nYXNr\n")),
        table((GUID_ASK, b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----")),
        table((GUID_ASK, b"-----BEGIN A-----\nYXNr\n-----END A-----\n-----BEGIN A-----\nYXNr\n-----END A-----")),
        bytes(131_073),
    ],
    ids=[
        "empty",
        "short",
        "no end",
        "outside",
        "twice",
        "twice apart",
        "too many",
        "cut PEM",
        "odd PEM",
        "two PEM",
        "too large",
    ],
)
def test_a_broken_table_is_refused(raw: bytes) -> None:
    with pytest.raises(CertificateTableError):
        parse_certificate_table(raw)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_table_raise_anything_else(raw: bytes) -> None:
    try:
        found = parse_certificate_table(raw)
    except CertificateTableError:
        return
    assert set(found) <= {"vek", "intermediate", "root", "crl"}
