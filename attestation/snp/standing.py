"""What reports of like guests have in common, and what was found of it once; never what belongs to one exchange.

Reports of the pods of one image on one chip differ in four fields: REPORT_DATA, REPORT_ID, and the signature's two
numbers. The rest of a report, with its chain and an entry of reference values, settles every check but those named
here, and settles them the same way each time. So a report that shares all of it with one that was accepted needs only
those: the signature above all. A refusal is never remembered, and what falls short of being accepted here is judged
again from the beginning, so that it is refused in the same words.
"""

from dataclasses import dataclass
from typing import Final

from attestation.reference import SnpReferenceValues
from attestation.verdict import Claims, Text

OF_THE_EXCHANGE: Final = (4, 7, 10, 11, 24, 25, 27)
"""Checks that read what is not in :func:`likeness`: the signature's numbers, the clock, what the caller expects."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found of everything in an accepted report that is not of one exchange.

    Attributes:
        values: the very entry that it was judged by.
        outcomes, texts: as in a verdict; nothing under the numbers of :data:`OF_THE_EXCHANGE`.
        claims: of the report, all of them in what is common.
    """

    values: SnpReferenceValues
    outcomes: bytes
    texts: tuple[tuple[Text, Text], ...]
    claims: Claims


def likeness(raw: bytes) -> bytes:
    """Every byte of a report but REPORT_DATA (050), REPORT_ID (140) and the signature (2A0)."""
    return raw[:0x50] + raw[0x90:0x140] + raw[0x160:0x2A0]
