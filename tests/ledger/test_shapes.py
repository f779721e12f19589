"""The quick reader takes exactly what the strict one takes, and reads the same from it."""

from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.codec import MAX_INT
from ledger.entry import Body, Entry, parse_raw
from ledger.errors import LedgerContentError
from ledger.shapes import Shapes

BODIES = st.builds(
    Body,
    signer=st.binary(min_size=32, max_size=32),
    seq=st.sampled_from([0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, MAX_INT]),
    time_ms=st.sampled_from([0, 2**32 - 1, 2**32, 1_790_000_000_000, MAX_INT]),
    prev=st.binary(min_size=32, max_size=32),
    type=st.sampled_from(["a", "note.taken", "x" * 31, "x" * 32, "x" * 64]),
    payload=st.sampled_from([b"", b"p", bytes(255), bytes(256), bytes(300)]),
    request_id=st.sampled_from([b"", bytes(32)]),
)
MODEL = Body(b"s" * 32, 1000, 1_790_000_000_000, b"p" * 32, "note.taken", b"payload", bytes(32))


def strictly(raw: bytes, seq: int) -> object:
    try:
        fields, body_raw, signature = parse_raw(raw, seq)
    except LedgerContentError as error:
        return error.seq, error.reason
    _, signer, _, time_ms, prev, kind, payload, request_id = fields
    return signer, time_ms, prev, kind, payload, request_id, body_raw, signature


def quickly(shapes: Shapes, raw: bytes, seq: int) -> object:
    skimmed = attempt(shapes.skim, raw, seq)
    read = attempt(shapes.read, raw, seq)
    if len(read) == 8:
        assert skimmed == (read[1], read[2], read[6])
    else:
        assert skimmed == read
    return read


def attempt(reader: Callable[[bytes, int], tuple[object, ...]], raw: bytes, seq: int) -> tuple[object, ...]:
    try:
        return reader(raw, seq)
    except LedgerContentError as error:
        return error.seq, error.reason


@given(bodies=st.lists(BODIES, min_size=1, max_size=8), signature=st.binary(min_size=64, max_size=64))
def test_every_good_record_is_read_alike(bodies: list[Body], signature: bytes) -> None:
    """A replay would refuse, or worse misread, what another reader takes."""
    shapes = Shapes()
    for body in [*bodies, *bodies]:
        raw = Entry.seal(body, signature).raw
        assert quickly(shapes, raw, body.seq) == strictly(raw, body.seq)


def test_no_single_changed_byte_gets_past_a_known_form() -> None:
    """Exhaustive: each byte of a record of a known form, in each of its 255 other values."""
    raw = Entry.seal(MODEL, bytes(64)).raw
    shapes = Shapes()
    assert quickly(shapes, raw, MODEL.seq) == strictly(raw, MODEL.seq)
    for at in range(len(raw)):
        for value in range(256):
            changed = raw[:at] + bytes([value]) + raw[at + 1 :]
            assert quickly(shapes, changed, MODEL.seq) == strictly(changed, MODEL.seq)


@settings(max_examples=300)
@given(
    body=BODIES, changes=st.lists(st.tuples(st.integers(0, 800), st.binary(min_size=1, max_size=9)), max_size=4),
    seq=st.sampled_from([0, 127, 1000, MAX_INT]),
)  # fmt: skip
@example(body=MODEL, changes=[(38, b"\xd1")], seq=1000)  # the same number as a signed integer
@example(body=MODEL, changes=[(41, b"\xd3")], seq=1000)
def test_changed_records_are_judged_alike(body: Body, changes: list[tuple[int, bytes]], seq: int) -> None:
    """A record in another encoding would have a second hash that some readers accept."""
    raw = Entry.seal(body, bytes(64)).raw
    shapes = Shapes()
    quickly(shapes, raw, body.seq)
    changed = bytearray(raw)
    for at, piece in changes:
        changed[at % len(raw) : at % len(raw) + len(piece)] = piece
    for number in (body.seq, seq):
        assert quickly(shapes, bytes(changed), number) == strictly(bytes(changed), number)
