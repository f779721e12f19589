"""What reports of like guests have in common, and what was found of it once; never what belongs to one exchange.

Reports of the pods of one image on one chip differ in REPORT_DATA, REPORT_ID and the signature, and in nothing else.
All the rest, with the chain and an entry of reference values, settles every check but those that :func:`still_stands`
makes, and settles them the same way each time, word for word. So a report that shares all of it with one that was
accepted needs only those: the signature above all. No refusal is remembered, and what does not stand is judged from the
beginning, so that it is refused in the words of the check that refuses it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from attestation.reference import SnpReferenceValues
from attestation.snp.case import Expected
from attestation.snp.chain import Chain
from attestation.snp.report import SIGNED_SIZE, is_in_range, signature_numbers
from attestation.verdict import Claims, Text


@dataclass(frozen=True, slots=True)
class Standing:
    """An accepted report's verdict, as far as it is one about all reports that are like it.

    Attributes:
        values: the very entry that it was judged by.
        is_listed: whether a fresh revocation list came along.
        outcomes, texts: as in the verdict; of the texts, only those of check 25 are about one exchange.
        claims: of the report, all of them in what is common.
    """

    values: SnpReferenceValues
    is_listed: bool
    outcomes: bytes
    texts: tuple[tuple[Text, Text], ...]
    claims: Claims

    def texts_for(self, report_data: bytes) -> tuple[tuple[Text, Text], ...]:
        """The texts of a like report that is bound to *report_data*, as it should be."""
        return *self.texts[:24], (report_data.hex, report_data.hex), *self.texts[25:]


def likeness(raw: bytes) -> bytes:
    """Every byte of a report but REPORT_DATA (050), REPORT_ID (140), R (2A0) and S (2E8)."""
    return raw[:0x50] + raw[0x90:0x140] + raw[0x160:0x2A0] + raw[0x2D0:0x2E8] + raw[0x318:]


def still_stands(
    standing: Standing, chain: Chain, raw: bytes, expected: Expected, holds: Callable[[int, int, bytes], bool]
) -> bool:
    """Whether a report that is like an accepted one is accepted, too. It never says so of one that is not.

    Args:
        standing: what is remembered of reports of this :func:`likeness`, under this chain.
        chain: its certificates, whose signatures held when the like report was accepted.
        raw: the report.
        expected: what it must be bound to, and the time.
        holds: whether the chain's leaf signed; asked last, since it costs the most.
    """
    r, s = signature_numbers(raw)
    now = expected.now
    return (
        raw[0x50:0x90] == expected.report_data  # (25)
        and raw[0xC0:0xE0] in expected.host_data  # (24)
        and is_in_range(r, s)  # (4) Its other bytes are in the likeness.
        and chain.is_valid(now)  # (7)
        and chain.is_listed(now) == standing.is_listed  # (10) A list cannot have come to name anybody: same bytes.
        and holds(r, s, raw[:SIGNED_SIZE])  # (11)
    )
