"""TPM 2.0, as much as attesting through one needs: three commands, their answers, and a quote. Talks to nobody itself.

TPM 2.0 Library, part 2 (structures) and part 3 (commands). Big-endian, as everything a TPM says.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct, pack, unpack_from
from typing import Final

from attestation.errors import TpmError

ALG_SHA256: Final = 0x000B
ALG_RSASSA: Final = 0x0014
MAX_QUOTE: Final = 1024
PCR_COUNT: Final = 24
POLICY_PCR: Final = 8
"""Extended once, with the digest of the guest's policy, when the guest is launched."""
DIGEST: Final = 32

_ATTEST_MAGIC: Final = 0xFF544347
_ATTEST_QUOTE: Final = 0x8018
_CLOCK_AND_FIRMWARE: Final = 17 + 8
_HEADER: Final = Struct(">HII")
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_NV_READ, _NV_READ_PUBLIC, _PCR_READ, _QUOTE = 0x14E, 0x169, 0x17E, 0x158
_PASSWORD: Final = pack(">IIHBH", 9, 0x40000009, 0, 0, 0)  # Empty password: size, handle, nonce, attributes, HMAC.
_CHUNK: Final = 512  # No TPM gives less in one NV_Read.
_PCRS_AT_ONCE: Final = 8
_RETRY: Final = 0x922  # TPM_RC_RETRY: nothing happened, ask again.
_ATTEMPTS: Final = 16

Transport = Callable[[bytes], bytes]
"""One command in, one answer out."""


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """What a TPM signed.

    Attributes:
        extra: the caller's bytes.
        selected: indices of the PCRs, ascending.
        digest: SHA-256 over their values.
    """

    extra: bytes
    selected: tuple[int, ...]
    digest: bytes


def parse_quote(raw: bytes) -> TpmQuote:
    """Read a TPMS_ATTEST of a quote over one SHA-256 bank.

    Raises:
        TpmError: another structure, bank or length.
    """
    reader = _Reader(raw)
    if reader.number(4) != _ATTEST_MAGIC or reader.number(2) != _ATTEST_QUOTE:
        raise TpmError("the quote is not one that a TPM made")
    reader.sized()  # The signer's name: the key is known from elsewhere.
    extra = reader.sized()
    reader.take(_CLOCK_AND_FIRMWARE)
    if reader.number(4) != 1 or reader.number(2) != ALG_SHA256:
        raise TpmError("the quote is not over one bank of SHA-256")
    select = reader.take(reader.number(1))
    digest = reader.sized()
    reader.finish()
    if len(select) != PCR_COUNT // 8 or len(digest) != DIGEST:
        raise TpmError(f"the quote selects with {len(select)} bytes and has a digest of {len(digest)}")
    bits = int.from_bytes(select, "little")
    return TpmQuote(extra, tuple(index for index in range(PCR_COUNT) if bits >> index & 1), digest)


def parse_signature(raw: bytes) -> bytes:
    """The RSASSA signature with SHA-256 in a TPMT_SIGNATURE.

    Raises:
        TpmError: another scheme, or bytes left over.
    """
    reader = _Reader(raw)
    if reader.number(2) != ALG_RSASSA or reader.number(2) != ALG_SHA256:
        raise TpmError("the signature is not RSASSA with SHA-256")
    signature = reader.sized()
    reader.finish()
    return signature


def pcr_digest(values: Mapping[int, bytes]) -> bytes:
    """What a quote says of these PCR values."""
    return hashlib.sha256(b"".join(values[index] for index in sorted(values))).digest()


def quote_extra(report_data: bytes) -> bytes:
    """What a quote must carry for an exchange bound to *report_data*: its SHA-256, as a TPM takes no 64 bytes."""
    return hashlib.sha256(report_data).digest()


def extended(digest: bytes) -> bytes:
    """A PCR after its first and only extension with *digest*."""
    return hashlib.sha256(bytes(DIGEST) + digest).digest()


# --- Commands


def nv_read(send: Transport, index: int, *, limit: int) -> bytes:
    """The content of an NV index that anybody may read.

    Raises:
        TpmError: there is none, it is larger than *limit*, or the TPM refuses.
    """
    public = _Reader(_run(send, _NO_SESSIONS, _NV_READ_PUBLIC, pack(">I", index))).sized()
    area = _Reader(public)
    area.take(4 + 2 + 4)  # Index, hash, attributes.
    area.sized()  # Policy.
    size = area.number(2)
    if not 0 < size <= limit:
        raise TpmError(f"NV index {index:#x} has {size} bytes, wanted 1 to {limit}")
    content = b""
    while len(content) < size:
        count = min(_CHUNK, size - len(content))
        body = pack(">II", index, index) + _PASSWORD + pack(">HH", count, len(content))
        chunk = _Reader(_parameters(_run(send, _SESSIONS, _NV_READ, body))).sized()
        if len(chunk) != count:
            raise TpmError(f"NV index {index:#x} ends early")
        content += chunk
    return content


def pcr_read(send: Transport, indices: tuple[int, ...]) -> dict[int, bytes]:
    """Values of PCRs in the SHA-256 bank. Raises TpmError."""
    values: dict[int, bytes] = {}
    for start in range(0, len(indices), _PCRS_AT_ONCE):
        wanted = indices[start : start + _PCRS_AT_ONCE]
        reader = _Reader(_run(send, _NO_SESSIONS, _PCR_READ, _selection(wanted)))
        reader.take(4)  # Update counter.
        if reader.take(10) != _selection(wanted):
            raise TpmError("the TPM read other PCRs than it was asked for")
        if reader.number(4) != len(wanted):
            raise TpmError("the TPM gave another number of PCRs than it was asked for")
        values |= {index: reader.sized() for index in sorted(wanted)}
        reader.finish()
    return values


def quote(send: Transport, key: int, extra: bytes, indices: tuple[int, ...]) -> tuple[bytes, bytes]:
    """A quote (TPMS_ATTEST) by the persistent key *key*, and its signature (TPMT_SIGNATURE). Raises TpmError."""
    scheme = pack(">HH", ALG_RSASSA, ALG_SHA256)
    body = pack(">I", key) + _PASSWORD + pack(">H", len(extra)) + extra + scheme + _selection(indices)
    reader = _Reader(_parameters(_run(send, _SESSIONS, _QUOTE, body)))
    attest = reader.sized()
    return attest, reader.rest()


def _selection(indices: tuple[int, ...]) -> bytes:
    bits = sum(1 << index for index in indices)
    return pack(">IHB", 1, ALG_SHA256, PCR_COUNT // 8) + bits.to_bytes(PCR_COUNT // 8, "little")


def _run(send: Transport, tag: int, code: int, body: bytes) -> bytes:
    result, answer = _once(send, tag, code, body)
    for _ in range(_ATTEMPTS):
        if result != _RETRY:
            break
        result, answer = _once(send, tag, code, body)
    if result:
        raise TpmError(f"the TPM refused command {code:#x} with {result:#x}")
    return answer


def _once(send: Transport, tag: int, code: int, body: bytes) -> tuple[int, bytes]:
    answer = send(_HEADER.pack(tag, _HEADER.size + len(body), code) + body)
    if len(answer) < _HEADER.size:
        raise TpmError(f"the TPM answered {len(answer)} bytes")
    _, size, result = _HEADER.unpack_from(answer)
    if size != len(answer):
        raise TpmError(f"the TPM answered {len(answer)} bytes and announced {size}")
    return result, answer[_HEADER.size :]


def _parameters(answer: bytes) -> bytes:
    """The parameters of an answer with sessions, whose size stands before them."""
    (size,) = unpack_from(">I", answer) if len(answer) >= 4 else (0,)
    if size + 4 > len(answer):
        raise TpmError("the TPM's answer is cut short")
    return answer[4 : 4 + size]


class _Reader:
    """Walks a structure, forward only."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise TpmError(f"ends at byte {len(self._data)}, where {self._at + size} are announced")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        return self.take(self.number(2))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def finish(self) -> None:
        if self._at != len(self._data):
            raise TpmError(f"{len(self._data) - self._at} bytes too many")
