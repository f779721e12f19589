"""A TDX quote, versions 4 and 5, as Intel's quoting enclave lays it out. Reading only, no judging.

Every byte of a quote is accounted for here, down to the line ends of its certificates: a quote has one spelling, so
what is stored in a ledger is what was judged.
"""

import base64
import binascii
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final

from attestation.errors import QuoteError

HEADER_SIZE: Final = 48
TD10_SIZE: Final = 584
TD15_SIZE: Final = 648
EXTENDED_SIZE: Final = 885
MAX_QUOTE: Final = 32_768
VERSIONS: Final = (4, 5)
ALGORITHM_P256: Final = 2
TEE_TDX: Final = 0x81
INTEL_QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

_BODY_TD10: Final = 2
_BODY_TD15: Final = 3
_BODY_EXTENDED: Final = 4
_CERTIFICATION_QE: Final = 6
_CERTIFICATION_PCK_CHAIN: Final = 5
_QE_REPORT_SIZE: Final = 384
_SIGNATURE_SIZE: Final = 64
_MAX_CERTIFICATES: Final = 3
_MAX_PADDING: Final = 8  # Zero bytes behind the text: the end of a C string, and what aligns the next thing.
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"

# Intel TDX DCAP quote generation, section A.3. Little-endian.
_HEADER: Final = Struct("<HHI4s16s20s")
_BODY: Final = Struct("<16s48s48s8sQ8s48s48s48s48s48s48s48s48s64s")
_EXTENSION: Final = Struct("<16s48s")
_EXTENDED: Final = Struct("<B32s48s48s8s16s16s12s48s8s")  # sgx_report2_body_v1_5_ex_t in Intel's sgx_quote_5.h.


@dataclass(frozen=True, slots=True)
class ExtendedBody:
    """What an extended TD 1.5 body says beyond the others; all but the first three is zero without SERVTD_EXT.

    Attributes:
        vm_index: 0 for the TD itself, 1 to 3 for a VM inside a partitioned one.
        td_id: of this launch of the TD; a guest's, no machine's.
        device_info: hash over the devices that TDX Connect has bound to the TD, zero without any.
        first_service_td, service_td: hash of the service TDs bound at creation, and of those bound now.
        first_service_attributes, service_attributes: attributes of both.
        first_cpu_svn, first_tee_tcb_svn, first_platform: of the platform that the TD was created on.
    """

    vm_index: int
    td_id: bytes
    device_info: bytes
    first_service_td: bytes
    first_service_attributes: bytes
    first_cpu_svn: bytes
    first_tee_tcb_svn: bytes
    first_platform: bytes
    service_td: bytes
    service_attributes: bytes

    @property
    def names_service_td(self) -> bool:
        """Whether a service TD is or was bound."""
        return any(self.first_service_td + self.first_service_attributes + self.service_td + self.service_attributes)


@dataclass(frozen=True, slots=True)
class Quote:
    """One quote, field by field; ``raw`` is what is given to the verifying library.

    Attributes:
        header_reserved: four bytes that version 4 and 5 leave zero (once QE and PCE SVN).
        td_attributes: bit field, ``attestation.tdx.attributes`` names the bits.
        mr_service_td: of TD 1.5 bodies; zero bytes where the body has none.
        extended: of extended TD 1.5 bodies, None for the others.
        tee_tcb_svn: of the TDX module in memory.
        signed: header and body, what the attestation key signed.
        certificates: PCK certificate, intermediate, root, in DER.
        chain_pem: the same as they stand in the quote.
    """

    raw: bytes
    version: int
    body: str
    algorithm: int
    tee_type: int
    header_reserved: bytes
    qe_vendor: bytes
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: int
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    mr_service_td: bytes
    extended: ExtendedBody | None
    signed: bytes
    certificates: tuple[bytes, ...]
    chain_pem: bytes

    @property
    def host_data(self) -> bytes:
        """What stands for HOSTDATA: the first 32 bytes of MRCONFIGID."""
        return self.mr_config_id[:32]


def quote_size(raw: bytes) -> int:
    """How many bytes the quote at the start of *raw* says that it has.

    Raises:
        QuoteError: there is no whole header and body.
    """
    version = int.from_bytes(raw[:2], "little")
    if version not in VERSIONS:
        raise QuoteError(f"version {version}", check=2)
    end = HEADER_SIZE + (TD10_SIZE if version == 4 else _version_5_body(raw)[1])
    if len(raw) < end + 4:
        raise QuoteError(f"{len(raw)} bytes, too few for header and body", check=1)
    return end + 4 + int.from_bytes(raw[end : end + 4], "little")


def parse_quote(raw: bytes) -> Quote:
    """Read a quote; not one byte may be left over.

    Raises:
        QuoteError: another length (check 1), version (2) or certification data (3), or loosely written certificates
            (9).
    """
    if not HEADER_SIZE <= len(raw) <= MAX_QUOTE:
        raise QuoteError(f"{len(raw)} bytes", check=1)
    size = quote_size(raw)
    if size != len(raw):
        raise QuoteError(f"{len(raw)} bytes, of which the quote takes {size}", check=1)
    version, algorithm, tee_type, reserved, vendor, _user_data = _HEADER.unpack_from(raw)
    body, offset = "TD 1.0", HEADER_SIZE
    if version == 5:
        body, length = _version_5_body(raw)
        offset += 6
        end = HEADER_SIZE + length
    else:
        end = offset + TD10_SIZE
    (
        tee_tcb_svn,
        mr_seam,
        mr_signer_seam,
        seam_attributes,
        td_attributes,
        xfam,
        mr_td,
        mr_config_id,
        mr_owner,
        mr_owner_config,
        rtmr0,
        rtmr1,
        rtmr2,
        rtmr3,
        report_data,
    ) = _BODY.unpack_from(raw, offset)
    mr_service_td = bytes(48) if body == "TD 1.0" else _EXTENSION.unpack_from(raw, offset + TD10_SIZE)[1]
    extended = ExtendedBody(*_EXTENDED.unpack_from(raw, offset + TD15_SIZE)) if body == "TD 1.5 extended" else None
    chain_pem = _chain(raw, end + 4)
    return Quote(
        raw,
        version,
        body,
        algorithm,
        tee_type,
        reserved,
        vendor,
        tee_tcb_svn,
        mr_seam,
        mr_signer_seam,
        seam_attributes,
        td_attributes,
        xfam,
        mr_td,
        mr_config_id,
        mr_owner,
        mr_owner_config,
        (rtmr0, rtmr1, rtmr2, rtmr3),
        report_data,
        mr_service_td,
        extended,
        raw[:end],
        parse_pem_chain(chain_pem),
        chain_pem,
    )


@lru_cache(maxsize=256)  # One chain for each platform, and every quote of it carries the same.
def parse_pem_chain(pem: bytes) -> tuple[bytes, ...]:
    r"""The three certificates of a PCK chain, in DER, from PEM that is written in one way throughout.

    Intel's own library writes lines of 64 characters, ``\n``, and mostly one zero byte behind it all. Lines that end in
    ``\r\n`` or have another length, all of them alike, say the same. Base64 is canonical, the last line end may be
    missing, and a few zero bytes may follow: what follows from the certificates is all that the text may hold.

    Raises:
        QuoteError: anything else, check 9.
    """
    text = pem.rstrip(b"\0")
    eol = b"\r\n" if b"\r" in text else b"\n"
    text = text.removesuffix(eol)
    blocks = text.split(_END)
    if len(blocks) != _MAX_CERTIFICATES + 1 or blocks[-1] != b"" or len(pem) - len(text) > len(eol) + _MAX_PADDING:
        raise QuoteError(f"{len(blocks) - 1} certificates, or something behind them", check=9)
    width = len(blocks[0].removeprefix(_BEGIN + eol).partition(eol)[0])
    found = []
    for number, block in enumerate(blocks[:-1]):
        start = (eol if number else b"") + _BEGIN + eol
        try:
            data = base64.b64decode(block.removeprefix(start).replace(eol, b""), validate=True)
        except binascii.Error:
            raise QuoteError(f"certificate {number} is not base64", check=9) from None
        if not data or start + _lines(data, width, eol) != block:
            raise QuoteError(f"certificate {number} is not written as PEM in lines like the first", check=9)
        found.append(data)
    return tuple(found)


def _lines(data: bytes, width: int, eol: bytes) -> bytes:
    text = base64.b64encode(data)
    width = max(width, 1)
    return b"".join(text[at : at + width] + eol for at in range(0, len(text), width))


def _version_5_body(raw: bytes) -> tuple[str, int]:
    """Name of a version 5 body, and its size with type and length before it."""
    kind, size = int.from_bytes(raw[48:50], "little"), int.from_bytes(raw[50:54], "little")
    if (kind, size) == (_BODY_TD10, TD10_SIZE):
        return "TD 1.0", TD10_SIZE + 6
    if (kind, size) == (_BODY_TD15, TD15_SIZE):
        return "TD 1.5", TD15_SIZE + 6
    if (kind, size) == (_BODY_EXTENDED, EXTENDED_SIZE):
        return "TD 1.5 extended", EXTENDED_SIZE + 6
    raise QuoteError(f"version 5 with a body of type {kind} and {size} bytes", check=2)


def _chain(raw: bytes, start: int) -> bytes:
    """The PEM text inside the signature data; every length on the way must fit exactly."""
    outer = start + 2 * _SIGNATURE_SIZE
    _certification(raw, outer, _CERTIFICATION_QE)
    authentication = outer + 6 + _QE_REPORT_SIZE + _SIGNATURE_SIZE
    inner = authentication + 2 + int.from_bytes(raw[authentication : authentication + 2], "little")
    _certification(raw, inner, _CERTIFICATION_PCK_CHAIN)
    return raw[inner + 6 :]


def _certification(raw: bytes, offset: int, wanted: int) -> None:
    if offset + 6 > len(raw):
        raise QuoteError("the signature data ends early", check=1)
    kind, size = (
        int.from_bytes(raw[offset : offset + 2], "little"),
        int.from_bytes(raw[offset + 2 : offset + 6], "little"),
    )
    if kind != wanted:
        raise QuoteError(f"certification data of type {kind}", check=3)
    if offset + 6 + size != len(raw):
        raise QuoteError(
            f"certification data of type {kind} with {size} bytes, {len(raw) - offset - 6} are there", check=1
        )
