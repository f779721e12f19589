"""The tar walker sees what Python's tarfile sees, wherever the stream is cut, and raises only what it declares."""

import contextlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.errors import ImageError, ImageTooLargeError, LayoutError
from images.tar import Member, TarWalker

TYPES = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda name: name.strip("/") == name
)


@st.composite
def infos(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(NAMES))
    info.type = draw(st.sampled_from(TYPES))
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, 1 << 31)), draw(st.integers(0, 1 << 31))
    info.mtime = draw(st.integers(0, 1 << 34))
    if info.type in {tarfile.SYMTYPE, tarfile.LNKTYPE}:
        info.linkname = draw(NAMES)
    if info.type == tarfile.CHRTYPE:
        info.devmajor, info.devminor = draw(st.integers(0, 1 << 20)), draw(st.integers(0, 1 << 20))
    data = draw(st.binary(max_size=2000)) if info.type == tarfile.REGTYPE else b""
    info.size = len(data)
    return info, data


def walk(raw: bytes, step: int = 1 << 20) -> list[tuple[Member, bytes | None]]:
    seen: list[Member] = []
    contents: dict[int, bytes] = {}

    def visit(member: Member) -> bool:
        seen.append(member)
        return True

    walker = TarWalker(visit, lambda member, data: contents.__setitem__(member.data, data))
    for start in range(0, len(raw), step):
        walker.feed(raw[start : start + step])
    walker.finish()
    return [(member, contents.get(member.data) if member.size else None) for member in seen]


@settings(deadline=None)
@given(st.lists(infos(), max_size=5), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.integers(1, 3000))
def test_it_sees_what_tarfile_sees(items: list[tuple[tarfile.TarInfo, bytes]], form: int, step: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, errors="surrogateescape") as tar:
        for info, data in items:
            tar.addfile(info, io.BytesIO(data))
    raw = stream.getvalue()
    with tarfile.open(fileobj=io.BytesIO(raw), errors="surrogateescape") as tar:
        members = tar.getmembers()
    seen = walk(raw, step)
    assert len(seen) == len(members)
    for (member, content), info, (_, data) in zip(seen, members, items, strict=True):
        assert member.name.decode("utf-8", "surrogateescape").rstrip("/") == info.name
        assert (member.type, member.mode, member.uid, member.gid) == (info.type, info.mode, info.uid, info.gid)
        assert (member.size, member.data) == (info.size, info.offset_data)
        assert member.header == info.offset_data - 512
        assert member.link.decode("utf-8", "surrogateescape") == info.linkname
        assert (member.major, member.minor) == (info.devmajor, info.devminor)
        assert (content or b"") == data


def header(**changes: bytes) -> bytes:
    """One header block; *changes* by offset."""
    info = tarfile.TarInfo("a")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    for place, value in changes.items():
        start = int(place.removeprefix("at"))
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


DAMAGED = {
    "wrong checksum": bytes(tarfile.TarInfo("a").tobuf()[:100]) + b"x" + bytes(tarfile.TarInfo("a").tobuf()[101:512]),
    "size no octal number": header(at124=b"99999999999\0"),
    "size with a sign": header(at124=b"-0000000001\0"),
    "negative size": header(at124=b"\xff" * 12),
    "size beyond 63 bits": header(at124=b"\x80" + b"\xff" * 11),
    "ends in a header": header()[:300],
    "ends in data": header(at124=b"00000001000\0") + b"x" * 100,
    "zeros between entries": bytes(512) + header(),
    "PAX record too long": header(at156=b"x", at124=b"00000000020\0") + b"99 path=aaaaaaaa\n".ljust(512, b"\0"),
    "PAX record without length": header(at156=b"x", at124=b"00000000020\0") + b"path=aaaaaaaaaa\n".ljust(512, b"\0"),
    "PAX size no number": header(at156=b"x", at124=b"00000000014\0") + b"12 size=-1 \n".ljust(512, b"\0") + header(),
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_stream_is_a_clear_error(raw: bytes) -> None:
    with pytest.raises(LayoutError, match="tar stream"):
        walk(raw)


def test_a_header_cannot_ask_for_all_memory() -> None:
    for kind in (b"L", b"K", b"x"):
        with pytest.raises(ImageTooLargeError):
            walk(header(at156=kind, at124=b"77777777777\0"))


def test_old_and_global_headers_are_understood() -> None:
    comment = header(at156=b"g", at124=b"00000000005\0") + b"abcde".ljust(512, b"\0")
    sparse = header(at156=b"S", at124=b"00000001000\0", at482=b"\1") + bytes(504) + b"\1" + bytes(519) + b"d" * 512
    seen = walk(comment + sparse + header(at156=b"\0") + bytes(1024) + b"whatever follows")
    assert [(member.type, member.size) for member, _ in seen] == [(b"S", 512), (b"0", 0)]


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("end", [b"", b"\0" * 508, b"\0" * 100])
def test_the_last_padding_may_be_missing(end: bytes, read: bool) -> None:
    """The tool umoci writes layers that end with their last file, and Go's readers take them."""
    seen: list[bytes] = []
    walker = TarWalker(lambda _member: read, lambda _member, data: seen.append(data))
    walker.feed(header(at124=b"00000000004\0") + b"data" + end)
    walker.finish()
    assert seen == ([b"data"] if read else [])


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 1000))
def test_no_bytes_make_it_raise_anything_else(raw: bytes, step: int) -> None:
    for start in (b"", header(), header(at156=b"x", at124=b"00000001000\0")):
        with contextlib.suppress(ImageError):
            walk(start + raw, step)
