"""Azure's THIM service, which knows the VCEK of the machine that asks: its answer, read strictly. Fetches nothing."""

import json
from dataclasses import dataclass
from typing import Any, Final

from attestation.collateral.amd import parse_chain_answer, parse_pem_certificates
from attestation.errors import CertificateError, CollateralError

SERVICE: Final = "http://169.254.169.254/metadata/THIM/amd/certification"
HEADERS: Final = {"Metadata": "true"}
VTPM_VARIABLE: Final = "CONTRAST_AZURE_VTPM_POLICY"
"""SHA-256 of this guest's policy, in hex, where an Azure virtual TPM is to prove it; PCR 8 says whether it is true."""
MAX_ANSWER: Final = 32_768
_FIELDS: Final = frozenset({"vcekCert", "certificateChain", "tcbm"})


@dataclass(frozen=True, slots=True)
class ThimAnswer:
    """What the service says of its own machine.

    Attributes:
        vek, intermediate, root: certificates in DER.
        reported_tcb: the eight bytes of REPORTED_TCB that the certificate is for, in the report's order.
        keep_s: how long the service wants the answer kept; None where it does not say.
    """

    vek: bytes
    intermediate: bytes
    root: bytes
    reported_tcb: bytes
    keep_s: int | None


def parse_thim(raw: bytes) -> ThimAnswer:
    """Read an answer of ``/metadata/THIM/amd/certification``.

    Raises:
        CollateralError: another shape; unknown fields are passed over, as the service may grow.
    """
    fields, keep_s = _fields(raw)
    try:
        (vek,) = parse_pem_certificates(fields["vcekCert"].encode())
        intermediate, root = parse_chain_answer(fields["certificateChain"].encode())
    except (CertificateError, ValueError) as error:
        raise CollateralError(f"THIM's certificates cannot be read: {error}") from None
    tcb = fields["tcbm"]
    if len(tcb) != 16 or not all(digit in "0123456789abcdefABCDEF" for digit in tcb):
        raise CollateralError("THIM's tcbm is not 16 hex digits")
    return ThimAnswer(vek, intermediate, root, bytes.fromhex(tcb)[::-1], keep_s)


def _seconds(said: object) -> int | None:
    """What ``cacheControl`` says, as text or as a number: advice, so that what makes no sense counts as not said."""
    text = str(said) if type(said) in (str, int) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def _fields(raw: bytes) -> tuple[dict[str, str], int | None]:
    if len(raw) > MAX_ANSWER:
        raise CollateralError(f"THIM answered {len(raw)} bytes, wanted at most {MAX_ANSWER}")
    try:
        document: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CollateralError(f"THIM's answer is no JSON: {type(error).__name__}") from None
    if not isinstance(document, dict) or not document.keys() >= _FIELDS:
        raise CollateralError(f"THIM's answer lacks a field, wanted {', '.join(sorted(_FIELDS))}")
    fields = {name: document[name] for name in _FIELDS}
    if not all(isinstance(value, str) for value in fields.values()):
        raise CollateralError("a field of THIM's answer is no text")
    return fields, _seconds(document.get("cacheControl"))
