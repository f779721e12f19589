"""One encoding for each value, and bounds on what a stranger sends."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.codec import MAX_ARRAY, MAX_DEPTH, Packable, Value, pack, unpack
from ledger.errors import CodecError, LedgerContentError

SCALARS = st.none() | st.booleans() | st.integers(0, 2**63 - 1) | st.text(max_size=20) | st.binary(max_size=40)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=20)


@given(VALUES)
def test_what_is_packed_is_read_back(value: Value) -> None:
    """A stored payload would mean something else when read."""
    assert unpack(pack(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    """Two byte strings would be one value, and their hashes two records."""
    try:
        value = unpack(data)
    except CodecError:
        return
    assert pack(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\xcc\x05",  # 5 in two bytes
        b"\xcd\x00\x05",
        b"\xd9\x01a",  # str8 where fixstr fits
        b"\xc5\x00\x01a",  # bin16 where bin8 fits
        b"\xdc\x00\x01\x05",  # array16 where fixarray fits
        b"\xff",  # -1
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",  # 2^64-1
        b"\xca\x00\x00\x00\x00",  # float
        b"\x81\x01\x02",  # map
        b"\x80",  # empty map
        b"\xd4\x01\x00",  # extension
        b"\xd6\xff\x00\x00\x00\x00",  # timestamp
        b"\xa1\xff",  # str that is not UTF-8
        b"\x05\x05",  # bytes after the value
        b"",
        b"\xc1",
        b"\xc6\xff\xff\xff\xffa",  # bin longer than the input
        b"\xdd\xff\xff\xff\xff",  # array longer than the input
        b"\x91" * 2000 + b"\x05",
        (b"\xdd\x00\x00\x10\x00") * 500,  # nested headers that each claim 4096 elements
    ],
)
def test_what_we_would_not_write_is_refused(data: bytes) -> None:
    """Another writer's bytes would be believed though ours would hash differently."""
    with pytest.raises(CodecError):
        unpack(data)


def test_depth_is_bounded() -> None:
    """A nested value would end the reader by recursion."""
    deep: Packable = 5
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert pack(unpack(pack(deep))) == pack(deep)
    with pytest.raises(CodecError, match="deeper"):
        pack([deep])
    with pytest.raises(CodecError, match="deeper"):
        unpack(msgpack.packb([deep]))
    with pytest.raises(CodecError):
        unpack(pack([[5]]), max_depth=1)


@pytest.mark.parametrize(
    "value", [-1, 2**63, 1.5, {}, {"a": 1}, [{}], bytearray(b"a"), "\ud800", [0] * (MAX_ARRAY + 1), object()]
)
def test_what_has_no_encoding_is_not_written(value: object) -> None:
    """We would write what no reader takes."""
    with pytest.raises(CodecError):
        pack(value)  # type: ignore[arg-type]


def test_a_codec_error_is_a_content_error() -> None:
    """Readers that catch the one would let the other through."""
    assert issubclass(CodecError, LedgerContentError)
    assert CodecError("x").code == "ledger_damaged"
