"""Intel's collateral for a quote: TCB information, quoting enclave identity, revocation lists. Reading only.

Its signatures are the library's to verify. In evidence it is one JSON object with the fields of Intel's own libraries
(QuoteCollateralV3). A ``pck_certificate_chain`` in it would replace the quote's own: it is dropped before anything is
verified.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import dcap_qvl

from attestation.errors import CollateralError
from attestation.jsonobject import load_once

FIELDS: Final = (
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
)
_IGNORED: Final = frozenset({"pck_certificate_chain"})
MAX_COLLATERAL: Final = 262_144


@dataclass(frozen=True, slots=True)
class Collateral:
    """Collateral, read and handed to the library; nothing in it is verified.

    Attributes:
        library: the library's own object.
        fmspc: what platforms the TCB information is for, 6 bytes.
        evaluation_number: of the TCB information and of the quoting enclave identity, the lower one.
        issued, expires: the later start and the earlier end of both documents.
        level_dates: of the TCB levels that Intel knows.
    """

    library: Any
    fmspc: bytes
    evaluation_number: int
    issued: datetime
    expires: datetime
    level_dates: tuple[datetime, ...]


def parse_collateral(raw: bytes) -> Collateral:
    """Read collateral as it stands in evidence.

    Raises:
        CollateralError: no JSON, other fields, or documents inside that are not Intel's for TDX.
    """
    fields = _object(raw)
    unknown = fields.keys() - set(FIELDS) - _IGNORED
    missing = set(FIELDS) - fields.keys()
    if unknown or missing:
        raise CollateralError(f"unknown fields {sorted(unknown)}, missing fields {sorted(missing)}"[:400])
    if not all(isinstance(fields[name], str) for name in FIELDS):
        raise CollateralError("a field is no text")
    tcb_info, identity = _object(fields["tcb_info"].encode()), _object(fields["qe_identity"].encode())
    if tcb_info.get("id") != "TDX" or identity.get("id") != "TD_QE":
        raise CollateralError(
            f"documents {tcb_info.get('id')!r} and {identity.get('id')!r}, wanted TDX and TD_QE"[:200]
        )
    try:
        library = dcap_qvl.QuoteCollateralV3.from_json(json.dumps({name: fields[name] for name in FIELDS}))
    except ValueError as error:
        raise CollateralError(f"dcap-qvl does not read it: {error}"[:400]) from None
    return Collateral(
        library,
        _fmspc(tcb_info),
        min(_number(tcb_info), _number(identity)),
        max(_time(tcb_info, "issueDate"), _time(identity, "issueDate")),
        min(_time(tcb_info, "nextUpdate"), _time(identity, "nextUpdate")),
        _level_dates(tcb_info),
    )


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_COLLATERAL:
        raise CollateralError(f"{len(raw)} bytes, wanted at most {MAX_COLLATERAL}")
    if max(raw.count(b"["), raw.count(b"{")) > 4096:
        raise CollateralError("more than 4096 arrays or objects")
    try:
        value = load_once(raw)
    except (ValueError, RecursionError) as error:
        raise CollateralError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise CollateralError("not a JSON object")
    return value


def _fmspc(document: dict[str, Any]) -> bytes:
    try:
        fmspc = bytes.fromhex(str(document.get("fmspc")))
    except ValueError:
        fmspc = b""
    if len(fmspc) != 6:
        raise CollateralError("the TCB information has no FMSPC of 6 bytes")
    return fmspc


def _number(document: dict[str, Any]) -> int:
    value = document.get("tcbEvaluationDataNumber")
    if type(value) is not int or not 0 <= value < 2**32:
        raise CollateralError("a document has no tcbEvaluationDataNumber")
    return value


def _level_dates(tcb_info: dict[str, Any]) -> tuple[datetime, ...]:
    levels = tcb_info.get("tcbLevels")
    if not isinstance(levels, list) or not all(isinstance(level, dict) for level in levels):
        raise CollateralError("the TCB information has no levels")
    return tuple(_time(level, "tcbDate") for level in levels)


def _time(document: dict[str, Any], name: str) -> datetime:
    try:
        return parse_date(str(document.get(name)))
    except ValueError:
        raise CollateralError(f"a document has no {name} in UTC") from None


def parse_date(text: str) -> datetime:
    """A moment as Intel writes it, in whole seconds of UTC.

    Raises:
        ValueError: it is written in another way.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
