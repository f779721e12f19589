"""Strict DER, as much as AMD's certificates need: a reader that refuses every second spelling, and a writer.

No X.509 here. A library's parser would do today, but it warns about AMD's serial number 0 and means to refuse it
one day.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from attestation.errors import CertificateError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
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

    @property
    def data(self) -> bytes:
        """What the reader was made of, all of it."""
        return self._data

    @property
    def position(self) -> int:
        """Where the next element begins, in the data that the reader was made of."""
        return self._position

    def span(self, tag: int) -> tuple[int, int]:
        """Where the content of the next element begins and ends; it counts as read."""
        start, self._position = span(self._data, self._position, self._end, tag)
        return start, self._position

    def read(self, tag: int) -> bytes:
        """The content of the next element, which must have *tag*."""
        start, self._position = span(self._data, self._position, self._end, tag)
        return self._data[start : self._position]

    def read_raw(self, tag: int) -> bytes:
        """The next element, header included."""
        begin = self._position
        _, self._position = span(self._data, begin, self._end, tag)
        return self._data[begin : self._position]

    def skip(self, element: bytes) -> bool:
        """Whether the next element is this very one, header included; then it counts as read."""
        stop = self._position + len(element)
        if stop > self._end or not self._data.startswith(element, self._position):
            return False
        self._position = stop
        return True

    def enter(self, tag: int) -> "Reader":
        """A reader of the next element's content."""
        start, self._position = span(self._data, self._position, self._end, tag)
        return Reader(self._data, start, self._position)

    def integer(self) -> int:
        """An INTEGER that is not negative."""
        content = self.read(INTEGER)
        if not content or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and not content[1] & 0x80):
            raise CertificateError("an integer is empty, negative or padded")
        return int.from_bytes(content, "big")

    def serial(self) -> int:
        """A serial number. AMD writes zero; negative ones are read as well (RFC 5280, section 4.1.2.2)."""
        content = self.read(INTEGER)
        if not content or (len(content) > 1 and content[0] in (0, 0xFF) and (content[0] ^ content[1]) < 0x80):
            raise CertificateError("a serial number is empty or padded")
        return int.from_bytes(content, "big", signed=True)

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
        return _moment(self.read(UTC_TIME if tag == UTC_TIME else GENERALIZED_TIME), 12 if tag == UTC_TIME else 14)

    def finish(self) -> None:
        """Demand that nothing is left."""
        if self._position != self._end:
            raise CertificateError(f"{self._end - self._position} bytes too many at byte {self._position}")


def span(data: bytes, position: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at *position* begins and ends; it must have *tag* and lie before *end*.

    A function of its own for the loops in which most of a certificate's elements are read: no reader is made for them.

    Raises:
        CertificateError: another tag, or a length that is indefinite, padded or too long.
    """
    start = position + 2
    if start > end:
        raise CertificateError(f"ends at byte {position}, where an element with tag {tag:#04x} is wanted")
    if data[position] != tag:
        raise CertificateError(f"byte {position} is tag {data[position]:#04x}, wanted {tag:#04x}")
    length = data[position + 1]
    if length >= 0x80:
        count = length & 0x7F
        if not 0 < count <= _MAX_LENGTH_BYTES or start + count > end:
            raise CertificateError(f"byte {position + 1}: indefinite or oversized length")
        length = int.from_bytes(data[start : start + count], "big")
        if length < 0x80 or length >> (8 * (count - 1)) == 0:
            raise CertificateError(f"byte {position + 1}: the length is not in its shortest form")
        start += count
    stop = start + length
    if stop > end:
        raise CertificateError(f"byte {position}: the element ends at {stop}, after its container's {end}")
    return start, stop


@lru_cache(maxsize=1024)  # Authorities and lists come again with every report.
def _moment(content: bytes, digits: int) -> datetime:
    text = content[:-1]
    if len(text) != digits or content[-1:] != b"Z" or not text.isdigit():
        raise CertificateError("a time is not written as digits and Z")
    if digits == 12:
        text = (b"19" if text[:2] >= b"50" else b"20") + text
    try:
        return datetime(
            int(text[:4]),
            int(text[4:6]),
            int(text[6:8]),
            int(text[8:10]),
            int(text[10:12]),
            int(text[12:]),
            tzinfo=UTC,
        )
    except ValueError:
        raise CertificateError(f"a time {text.decode('ascii')} is in no calendar") from None


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
