"""Strict DER, as much as AMD's certificates need: a reader that refuses every second spelling, and a writer.

No X.509 here. A library's parser would do today, but it warns about AMD's serial number 0 and means to refuse it
one day.
"""

from datetime import UTC, datetime
from typing import Final

from attestation.errors import CertificateError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_ID: Final = 0x06
UTF8_STRING: Final = 0x0C
PRINTABLE_STRING: Final = 0x13
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
_MAX_LENGTH_BYTES = 3  # 16 MiB; every part that reaches us is bounded far below.


class Reader:
    """Walks the elements of one DER value, forward only.

    Every method raises :class:`CertificateError` at the first byte that is not strict DER.
    """

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._position = start
        self._end = len(data) if end is None else end

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._position == self._end

    def peek(self) -> int | None:
        """The next element's tag, None at the end."""
        return None if self._position >= self._end else self._data[self._position]

    def _header(self, tag: int) -> tuple[int, int]:
        data, position = self._data, self._position
        if position + 2 > self._end:
            raise CertificateError(f"ends at byte {position}, where an element with tag {tag:#04x} is wanted")
        if data[position] != tag:
            raise CertificateError(f"byte {position} is tag {data[position]:#04x}, wanted {tag:#04x}")
        length = data[position + 1]
        start = position + 2
        if length >= 0x80:
            count = length & 0x7F
            if not 0 < count <= _MAX_LENGTH_BYTES or start + count > self._end:
                raise CertificateError(f"byte {position + 1}: indefinite or oversized length")
            length = int.from_bytes(data[start : start + count], "big")
            if length < 0x80 or length >> (8 * (count - 1)) == 0:
                raise CertificateError(f"byte {position + 1}: the length is not in its shortest form")
            start += count
        stop = start + length
        if stop > self._end:
            raise CertificateError(f"byte {position}: the element ends at {stop}, after its container's {self._end}")
        self._position = stop
        return start, stop

    def read(self, tag: int) -> bytes:
        """The content of the next element, which must have *tag*."""
        start, stop = self._header(tag)
        return self._data[start:stop]

    def read_raw(self, tag: int) -> bytes:
        """The next element, header included."""
        begin = self._position
        _, stop = self._header(tag)
        return self._data[begin:stop]

    def enter(self, tag: int) -> "Reader":
        """A reader of the next element's content."""
        start, stop = self._header(tag)
        return Reader(self._data, start, stop)

    def integer(self) -> int:
        """An INTEGER that is not negative."""
        content = self.read(INTEGER)
        if not content or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and not content[1] & 0x80):
            raise CertificateError("an integer is empty, negative or padded")
        return int.from_bytes(content, "big")

    def boolean(self) -> bool:
        """A BOOLEAN; DER knows two bytes for it."""
        content = self.read(BOOLEAN)
        if content not in (b"\x00", b"\xff"):
            raise CertificateError("a boolean is neither 00 nor ff")
        return content == b"\xff"

    def bit_string(self) -> bytes:
        """A BIT STRING of whole bytes."""
        content = self.read(BIT_STRING)
        if not content or content[0] != 0:
            raise CertificateError("a bit string does not fill its bytes")
        return content[1:]

    def time(self) -> datetime:
        """A UTCTime or GeneralizedTime with seconds and Z (RFC 5280, section 4.1.2.5)."""
        tag = self.peek()
        content = self.read(UTC_TIME if tag == UTC_TIME else GENERALIZED_TIME)
        digits = 12 if tag == UTC_TIME else 14
        if len(content) != digits + 1 or content[-1:] != b"Z" or not content[:-1].isdigit():
            raise CertificateError("a time is not written as digits and Z")
        text = content[:-1].decode("ascii")
        if digits == 12:
            text = ("19" if text[:2] >= "50" else "20") + text
        year, (month, day, hour, minute, second) = int(text[:4]), (int(text[at : at + 2]) for at in (4, 6, 8, 10, 12))
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            raise CertificateError(f"a time {text} is in no calendar") from None

    def finish(self) -> None:
        """Demand that nothing is left."""
        if self._position != self._end:
            raise CertificateError(f"{self._end - self._position} bytes too many at byte {self._position}")


def dotted(oid: bytes) -> str:
    """An object identifier's content as people write it; for messages only."""
    if not oid:
        return "(empty)"
    parts = [min(oid[0] // 40, 2)]
    parts.append(oid[0] - 40 * parts[0])
    value = 0
    for byte in oid[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            parts.append(value)
            value = 0
    return ".".join(map(str, parts))


def element(tag: int, *contents: bytes) -> bytes:
    """Write one element around the concatenation of *contents*."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value: int) -> bytes:
    """Write an INTEGER that is not negative."""
    return element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def time(moment: datetime) -> bytes:
    """Write a time in whole seconds: UTCTime to 2049, GeneralizedTime from 2050 (RFC 5280, section 4.1.2.5)."""
    moment = moment.astimezone(UTC)
    if moment.year < 2050:
        return element(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return element(GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode("ascii"))
