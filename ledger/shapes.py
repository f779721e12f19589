"""Reading records of a form that was seen before, without decoding them anew. Judges nothing by itself.

A record's form is everything in it but the content of its fields: the headers that say what follows and how long it is.
Forms are learnt from records that ledger.entry.parse_raw() has found canonical. Another record of the same length with
the same bytes in the places of those headers differs in the content of fixed-length fields only; so it is canonical
too, as parse_raw() would find. Whatever fits no form is left to parse_raw(), which also names what is wrong.
"""

import struct
from typing import Final, TypeAlias

from ledger.codec import MAX_INT, pack_trusted
from ledger.entry import SIGNATURE_BYTES, Fields, parse_raw

Read: TypeAlias = tuple[bytes, int, bytes, str, bytes, bytes, bytes, bytes]
_MAX_FORMS: Final = 4096  # a stranger's ledger has as many as it likes
_MIN_WIDE: Final = 2**32  # from here on an integer has nine bytes
_BODY_HEAD: Final = b"\x98\x01\xc4\x20"  # eight fields, version 1, a signer of 32 bytes


class Form:
    """Where the fields of such records lie, and the headers between them."""

    __slots__ = ("body", "head", "headers", "middle", "tail", "type", "unpack")

    def __init__(self, raw: bytes, fields: Fields, body_raw: bytes, seq_bytes: int) -> None:
        """Learn from a good record."""
        _, _, _, _, _, self.type, payload, request_id = fields
        begin = len(raw) - len(body_raw) - 2 - SIGNATURE_BYTES
        self.body = slice(begin, begin + len(body_raw))
        head = begin + len(_BODY_HEAD)
        middle = len(body_raw) - len(_BODY_HEAD) - 32 - seq_bytes - 9 - 34 - len(payload) - 2 - len(request_id)
        layout = (
            f">{head}s32{{0}}{seq_bytes}sBQ2s32s{middle}s{len(payload)}{{0}}2s{len(request_id)}{{0}}2s"
            f"{SIGNATURE_BYTES}{{0}}"
        )
        self.unpack = struct.Struct(layout.format("s")).unpack
        self.headers = struct.Struct(layout.format("x")).unpack  # without the fields that nobody asked for
        found = self.headers(raw)
        self.head, self.middle, self.tail = found[0], found[6], found[7:]


class Shapes:
    """The forms seen so far in one replay, by length of the record and of its number."""

    def __init__(self) -> None:
        self._forms: dict[tuple[int, int], Form] = {}

    def read(self, raw: bytes, seq: int) -> Read:
        """(signer, time, prev, type, payload, request id, body, signature) of record *seq*.

        Raises LedgerContentError exactly where parse_raw() does.
        """
        number = pack_trusted(seq)
        form = self._forms.get((len(raw), len(number)))
        if form is not None:
            (
                head, signer, seen, wide, time_ms, prev_head, prev, middle, payload, id_head, request_id, end,
                signature,
            ) = form.unpack(raw)  # fmt: skip
            if (
                seen == number
                and head == form.head
                and middle == form.middle
                and (id_head, end) == form.tail
                and wide == 0xCF
                and _MIN_WIDE <= time_ms <= MAX_INT
                and prev_head == b"\xc4\x20"
            ):
                return signer, time_ms, prev, form.type, payload, request_id, raw[form.body], signature
        return self._strictly(raw, seq, number, form)

    def skim(self, raw: bytes, seq: int) -> tuple[int, bytes, bytes]:
        """(time, prev, body) of record *seq*; everything is checked as read() does."""
        number = pack_trusted(seq)
        form = self._forms.get((len(raw), len(number)))
        if form is not None:
            head, seen, wide, time_ms, prev_head, prev, middle, id_head, end = form.headers(raw)
            if (
                seen == number
                and head == form.head
                and middle == form.middle
                and (id_head, end) == form.tail
                and wide == 0xCF
                and _MIN_WIDE <= time_ms <= MAX_INT
                and prev_head == b"\xc4\x20"
            ):
                return time_ms, prev, raw[form.body]
        _, time_ms, prev, _, _, _, body_raw, _ = self._strictly(raw, seq, number, form)
        return time_ms, prev, body_raw

    def _strictly(self, raw: bytes, seq: int, number: bytes, form: Form | None) -> Read:
        fields, body_raw, signature = parse_raw(raw, seq)
        _, signer, _, time_ms, prev, kind, payload, request_id = fields
        if form is None and time_ms >= _MIN_WIDE and len(self._forms) < _MAX_FORMS:
            self._forms[len(raw), len(number)] = Form(raw, fields, body_raw, len(number))
        return signer, time_ms, prev, kind, payload, request_id, body_raw, signature
