"""Every body that a TDX quote may have, made by ourselves: what Intel adds is read, signed, and judged if need be."""

from typing import Any

import pytest

from attestation.errors import QuoteError
from attestation.explain import explain
from attestation.tdx.quote import parse_quote
from attestation.tdx.signatures import signature_fault
from attestation.verdict import Outcome, Verdict
from tests.support.tdx_quotes import Body, judged, quote

KINDS = {"v4": "TD 1.0", "td10": "TD 1.0", "td15": "TD 1.5", "extended": "TD 1.5 extended"}
ALWAYS = [6, 12, 27]
"""What refuses every quote made here: the root, no collateral, and so the sum."""


def failed(verdict: Verdict) -> list[int]:
    assert not verdict.accepted
    return [check.number for check in verdict.failures]


@pytest.mark.parametrize(("kind", "body"), KINDS.items())
def test_every_kind_of_body_is_read_and_its_signatures_hold(kind: str, body: str) -> None:
    """A genuine quote would be refused because its platform is newer than we are."""
    raw = quote(kind=kind)
    parsed = parse_quote(raw)
    assert parsed.body == body
    assert parsed.mr_td == b"\xb2" * 48
    assert parsed.report_data == b"\xe5" * 64
    assert signature_fault(parsed) is None
    assert failed(judged(raw)) == ALWAYS


def test_the_extension_is_read_field_by_field() -> None:
    """A hash of a service TD would be read where a date is, and judged as one."""
    body = Body(
        vm_index=2,
        first_service_td=b"\x01" * 48,
        current_service_td=b"\x02" * 48,
        current_service_attributes=b"\x03" * 8,
    )
    extended = parse_quote(quote(body)).extended
    assert extended is not None
    assert (extended.vm_index, extended.td_id) == (2, b"\x77" * 32)
    assert (extended.first_service_td, extended.first_service_attributes) == (b"\x01" * 48, bytes(8))
    assert (extended.service_td, extended.service_attributes) == (b"\x02" * 48, b"\x03" * 8)
    assert not any(extended.device_info + extended.first_cpu_svn + extended.first_platform)
    rows = {name: value for each in explain(quote(body)) for name, value in each.rows}
    assert rows["VM"] == "2"
    assert rows["service TDs now"].startswith("02" * 48)


@pytest.mark.parametrize("at", [648, 649, 700, 884])
def test_the_extension_is_under_the_signature(at: int) -> None:
    """A host could add or hide a service TD."""
    raw = bytearray(quote())
    raw[54 + at] ^= 1
    assert signature_fault(parse_quote(bytes(raw))) is not None


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"vm_index": 1}, 20),
        ({"service_td": b"\1" * 48}, 22),
        ({"first_service_td": b"\1" * 48}, 22),
        ({"current_service_td": b"\1" * 48}, 22),
        ({"current_service_attributes": b"\1" * 8}, 22),
    ],
)
def test_what_the_extension_says_can_refuse(changes: dict[str, Any], check: int) -> None:
    """A TD that a service TD was bound to later, or a VM inside another TD, would pass for the measured one."""
    assert failed(judged(quote(Body(**changes)))) == sorted([*ALWAYS, check])


def test_a_body_without_levels_is_not_asked_for_one() -> None:
    """Recorded verdicts on older quotes would read otherwise than when they were recorded."""
    assert judged(quote(kind="td15")).checks[19].outcome is Outcome.NOT_APPLICABLE
    assert judged(quote()).checks[19].outcome is Outcome.PASSED


@pytest.mark.parametrize("framing", [(4, 884), (4, 648), (3, 885), (5, 885), (1, 384)])
def test_a_body_of_another_size_or_type_is_refused(framing: tuple[int, int]) -> None:
    """Fields would be read from the wrong place."""
    with pytest.raises(QuoteError) as caught:
        parse_quote(quote(framing=framing))
    assert caught.value.check == 2


@pytest.mark.parametrize("bit", [16, 27, 30, 31], ids=["ICSSD", "LASS", "PKS", "KEY_LOCKER"])
def test_features_of_the_guests_own_refuse_nothing(bit: int) -> None:
    """Defences against single-stepping and against stray pointers would be a reason to refuse a guest."""
    assert failed(judged(quote(Body(attributes=1 << 28 | 1 << bit)))) == ALWAYS


@pytest.mark.parametrize("bit", [0, 1, 4, 5, 6, 7, 17, 18, 22, 23, 26, 29, 32, 61, 62, 63])
def test_attributes_that_open_a_guest_or_mean_nothing_known_are_refused(bit: int) -> None:
    """The host could debug, profile, move or measure the guest, or do what a later module lets it."""
    assert failed(judged(quote(Body(attributes=1 << 28 | 1 << bit)))) == sorted([*ALWAYS, 18])
