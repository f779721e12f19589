"""One bit changed, anywhere: refused. Every bit of a report; of certificates and quotes one bit of each byte.

``CONTRAST_EXHAUSTIVE=1`` changes every bit of those, too (minutes; ``make mutation``).
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attestation.errors import QuoteError
from attestation.judge import ChainCache, judge
from attestation.tdx.quote import parse_quote
from attestation.tdx.signatures import signature_fault
from tests.support.snp_vectors import Genuine, find
from tests.support.tdx_vectors import find_quote

EXHAUSTIVE = os.environ.get("CONTRAST_EXHAUSTIVE") == "1"
SNP = ["02", "20", "45", "54", "55", "60"] if EXHAUSTIVE else ["20", "60"]
QUOTES = ["v5-td15-90c06f000000-go-tdx-guest-cf77a6e9", "v4-td10-90c06f000000-attested-tls-fefa5722"]
NOW = datetime.fromtimestamp(1772707803, UTC)


def flips(raw: bytes, *, every_bit: bool) -> Iterator[tuple[str, bytes]]:
    """*raw* with one bit changed, and where."""
    data = bytearray(raw)
    for position in range(len(raw)):
        for bit in range(8) if every_bit else (position % 8,):
            data[position] ^= 1 << bit
            yield f"byte {position} bit {bit}", bytes(data)
            data[position] ^= 1 << bit


def survivors(report: Genuine, part: str, *, every_bit: bool) -> list[str]:
    original = report.evidence().part(part)
    assert original is not None
    values, parsed, cache = report.values(), report.parsed, ChainCache()
    expected = {"report_data": parsed.report_data, "host_data": {parsed.host_data}, "now": report.clock}
    assert judge(report.evidence(), [values], cache=cache, **expected).accepted  # type: ignore[arg-type]
    return [
        where
        for where, changed in flips(original, every_bit=every_bit)
        if judge(report.evidence(**{part: changed}), [values], cache=cache, **expected).accepted  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("number", SNP)
def test_no_bit_of_a_report_can_be_changed(vectors: Path, number: str) -> None:
    """Signed part, signature, padding: 9472 bits."""
    assert survivors(find(vectors, number), "report", every_bit=True) == []


@pytest.mark.parametrize("part", ["vek", "intermediate", "root"])
@pytest.mark.parametrize("number", SNP)
def test_no_bit_of_a_certificate_can_be_changed(vectors: Path, number: str, part: str) -> None:
    """Names, dates, keys, extensions, signature, and the lengths around them."""
    assert survivors(find(vectors, number), part, every_bit=EXHAUSTIVE) == []


@pytest.mark.parametrize("name", QUOTES)
def test_no_bit_of_a_quote_can_be_changed(vectors: Path, name: str) -> None:
    """Where the library looks away (the text of the chain, the root that came along), our own reader does not."""
    quote, cache = find_quote(vectors, name), ChainCache()
    assert quote.judge("phala_outdated", NOW, thorough=False, cache=cache).accepted
    alive = [
        where
        for where, changed in flips(quote.raw, every_bit=EXHAUSTIVE)
        if quote.judge("phala_outdated", NOW, thorough=False, raw=changed, cache=cache).accepted
    ]
    assert alive == []


@pytest.mark.parametrize("name", QUOTES)
def test_the_signed_part_of_a_quote_is_covered_by_its_signature(vectors: Path, name: str) -> None:
    """Whatever an entry asks for: by our own arithmetic no bit of header and body can be changed."""
    quote = find_quote(vectors, name)
    signed = len(quote.parsed.signed)
    alive = []
    for where, changed in flips(quote.raw[:signed], every_bit=EXHAUSTIVE):
        try:
            parsed = parse_quote(changed + quote.raw[signed:])
        except QuoteError:
            continue
        if signature_fault(parsed) is None:
            alive.append(where)
    assert alive == []


@pytest.mark.parametrize("changes", [{"distrusted": True}, {"denied_chip_ids": ()}], ids=["product", "chip"])
def test_a_distrusted_product_and_a_denied_chip_are_refused_for_that_alone(
    vectors: Path, changes: dict[str, object]
) -> None:
    """Keys of some chips, and by some accounts of a whole product, have been extracted: all they sign is genuine."""
    for number in ("02", "54", "60"):
        report = find(vectors, number)
        demand = {"denied_chip_ids": (report.parsed.chip_id,)} if "denied_chip_ids" in changes else changes
        verdict = report.judge(values=report.values(**demand))
        assert [check.number for check in verdict.failures] == [16, 27]
        assert ("distrusts" in verdict.checks[15].seen) == ("distrusted" in changes)
