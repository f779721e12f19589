"""What quotes of like guests have in common, and what was found of it once; as ``snp.standing``, which says more.

dcap-qvl is asked about every quote all the same: signatures, chain, lists and TCB level are its word, each time.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from attestation.evidence import TDX_BODY, TDX_BODY_V5, TDX_REPORT_DATA
from attestation.reference import TdxReferenceValues
from attestation.verdict import TdxClaims, Text

_SIZE_SIZE: Final = 4
_SIGNATURE_SIZE: Final = 64
_TD10_SIZE: Final = 584


@dataclass(frozen=True, slots=True)
class Standing:
    """An accepted quote's verdict, as far as it is one about all quotes that are like it.

    Attributes:
        values: the very entry that it was judged by.
        word: status and advisories, as dcap-qvl gave them.
        issued, expires: of the collateral.
        outcomes, texts: as in the verdict; of the texts, only those of check 25 are about one exchange.
        claims: of the quote, all of them in what is common.
    """

    values: TdxReferenceValues
    word: tuple[str, tuple[str, ...]]
    issued: datetime
    expires: datetime
    outcomes: bytes
    texts: tuple[tuple[Text, Text], ...]
    claims: TdxClaims

    def texts_for(self, report_data: bytes) -> tuple[tuple[Text, Text], ...]:
        """The texts of a like quote that is bound to *report_data*, as it should be."""
        return *self.texts[:24], (report_data.hex, report_data.hex), *self.texts[25:]


def likeness(raw: bytes) -> bytes:
    """Every byte of a quote but REPORT_DATA and the signature that covers it."""
    body = TDX_BODY_V5 if raw[:2] == b"\5\0" else TDX_BODY
    bound = body + TDX_REPORT_DATA
    size = int.from_bytes(raw[50:54], "little") if body == TDX_BODY_V5 else _TD10_SIZE
    signature = body + size + _SIZE_SIZE
    return raw[:bound] + raw[bound + 64 : signature] + raw[signature + _SIGNATURE_SIZE :]
