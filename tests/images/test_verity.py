"""Root hashes are those that veritysetup gives, and the index behind a layer says what the layer holds."""

import hashlib
import io
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images import tarfs
from images.errors import ImageError, ImageTooLargeError, LayoutError
from images.tar import TarWalker
from images.tarfs import TarfsIndex
from images.verity import VerityHasher, tardev_layers

VERITYSETUP = shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin:/bin")
needs_veritysetup = pytest.mark.skipif(
    VERITYSETUP is None, reason="veritysetup is not installed: apt-get install cryptsetup-bin"
)


def root_of(data: bytes, step: int = 1 << 20) -> bytes:
    hasher = VerityHasher()
    for start in range(0, len(data), step):
        hasher.update(data[start : start + step])
    return hasher.root()


def veritysetup(data: bytes, folder: Path) -> bytes:
    (folder / "data").write_bytes(data)
    said = subprocess.run(
        [
            str(VERITYSETUP), "format", "--no-superblock", "--hash=sha256", "--data-block-size=4096",
            "--hash-block-size=4096", f"--salt={'0' * 64}", str(folder / "data"), str(folder / "hash"),
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return bytes.fromhex(next(line.split()[-1] for line in said.splitlines() if line.startswith("Root hash")))


def by_the_book(data: bytes) -> bytes:
    """The tree level by level, as the kernel's documentation describes it."""
    salt = bytes(32)
    level = [hashlib.sha256(salt + data[at : at + 4096]).digest() for at in range(0, len(data), 4096)]
    while len(level) > 1:
        rows = [b"".join(level[at : at + 128]).ljust(4096, b"\0") for at in range(0, len(level), 128)]
        level = [hashlib.sha256(salt + row).digest() for row in rows]
    return level[0]


@needs_veritysetup
@pytest.mark.parametrize("blocks", [1, 2, 127, 128, 129, 255, 256, 257, 16384, 16385, 16512, 16513])
def test_the_root_is_veritysetups(blocks: int, tmp_path: Path) -> None:
    data = hashlib.shake_128(str(blocks).encode()).digest(4096) * blocks
    assert root_of(data, 70_001) == veritysetup(data, tmp_path)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(500, 20_000), st.binary(min_size=1, max_size=64))
def test_the_root_does_not_depend_on_how_the_stream_is_cut(blocks: int, step: int, seed: bytes) -> None:
    data = hashlib.shake_128(seed).digest(4096 * blocks)
    assert root_of(data, step) == by_the_book(data)


def test_the_tree_has_as_many_levels_as_it_needs() -> None:
    """Three levels begin at 16 385 blocks; a stream of zeros is quick to make."""
    for blocks in (16_385, 16_513):
        assert root_of(bytes(4096 * blocks)) == by_the_book(bytes(4096 * blocks))


@pytest.mark.parametrize("size", [0, 1, 4095, 4097])
def test_a_device_has_whole_blocks(size: int) -> None:
    with pytest.raises(ValueError, match="whole blocks"):
        root_of(bytes(size))


def test_layers_are_named_by_the_chain_below_them() -> None:
    diff_ids = ["sha256:" + "a" * 64, "sha256:" + "b" * 64]
    chain = "sha256:" + hashlib.sha256(" ".join(diff_ids).encode()).hexdigest()
    names = [layer.name for layer in tardev_layers(diff_ids, [bytes(32), bytes(32)])]
    assert names == [hashlib.sha256(text.encode()).hexdigest() for text in (diff_ids[0], chain)]


# The index, read back by a reader that shares nothing with the writer but the format.


class Mounted:
    """What a kernel would find in *device*."""

    def __init__(self, device: bytes) -> None:
        self.device = device
        assert len(device) % 4096 == 0
        self.table, self.count = struct.unpack_from("<QQ", device, len(device) - 512)

    def inode(self, number: int) -> tuple[int, int, int, int, int, int, int]:
        assert 1 <= number <= self.count
        mode, flags, high, uid, gid, low, size, offset = struct.unpack_from(
            "<HBBIIIQQ", self.device, self.table + 32 * (number - 1)
        )
        return mode, flags, uid, gid, high << 32 | low, size, offset

    def children(self, number: int) -> dict[bytes, tuple[int, int]]:
        *_, size, offset = self.inode(number)
        found = {}
        for at in range(offset, offset + size, 32):
            child, name_at, length, kind = struct.unpack_from("<QQQB", self.device, at)
            found[self.device[name_at : name_at + length]] = (child, kind)
        assert list(found) == sorted(found)
        return found

    def find(self, path: bytes) -> int:
        number = 1
        for part in path.split(b"/"):
            number = self.children(number)[part][0]
        return number

    def content(self, path: bytes) -> bytes:
        *_, size, offset = self.inode(self.find(path))
        return self.device[offset : offset + size]


Entry = tuple[str, bytes, bytes, dict[str, int]]  # name, type, content or target, fields


def layer(*entries: Entry) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, content, fields in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o644
            for field, value in fields.items():
                setattr(info, field, value)
            if kind == tarfile.REGTYPE:
                info.size = len(content)
            else:
                info.linkname = content.decode()
            tar.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return stream.getvalue()


def indexed(raw: bytes) -> bytes:
    index = TarfsIndex()

    def visit(member: object) -> bool:
        index.add(member)  # type: ignore[arg-type]
        return False

    walker = TarWalker(visit)
    walker.feed(raw)
    walker.finish()
    return raw + index.pack(len(raw))


NONE: dict[str, int] = {}
FILE, DIRECTORY, SYMLINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_files_and_links_are_found_where_the_index_says() -> None:
    device = Mounted(
        indexed(
            layer(
                ("b", DIRECTORY, b"", {"mode": 0o1777, "uid": 5, "gid": 6, "mtime": (3 << 32) + 7}),
                ("./b/file", FILE, b"hello", {"mode": 0o4755}),
                ("a", SYMLINK, b"b/file", {}),
                ("long", SYMLINK, b"x" * 150, {}),
                ("longer", SYMLINK, b"y" * 250, {}),
                ("hard", HARD, b"b/file", {}),
                ("pipe", tarfile.FIFOTYPE, b"", {}),
                ("null", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 3}),
            )
        )
    )
    assert device.inode(1)[0] == 0o040555
    assert list(device.children(1)) == [b"a", b"b", b"hard", b"long", b"longer", b"null", b"pipe"]
    assert [kind for _, kind in device.children(1).values()] == [10, 4, 8, 10, 10, 2, 1]
    assert device.inode(device.find(b"b"))[:5] == (0o040777, 0, 5, 6, (3 << 32) + 7)
    assert device.inode(device.find(b"b/file"))[0] == 0o100755, "set-id bits are lost"
    assert device.content(b"b/file") == b"hello"
    assert device.find(b"hard") == device.find(b"b/file")
    assert device.content(b"a") == b"b/file"
    assert device.content(b"long") == b"x" * 150
    assert device.content(b"longer") == b"y" * 250
    assert device.inode(device.find(b"null"))[-1] == 3 | 1 << 32
    assert device.count == 8


def test_whiteouts_are_what_overlayfs_wants() -> None:
    device = Mounted(
        indexed(
            layer(
                ("d", DIRECTORY, b"", {"mode": 0o755}),
                ("d/.wh..wh..opq", FILE, b"", {}),
                (".wh.gone", FILE, b"", {}),
                ("twice", FILE, b"1", {}),
                ("twice", FILE, b"22", {}),
            )
        )
    )
    assert device.inode(device.find(b"d"))[:2] == (0o040755, 1)
    mode, *_, offset = device.inode(device.find(b"gone"))
    assert (mode & 0o170000, offset) == (0o020000, 0)
    assert device.content(b"twice") == b"22"


def test_names_that_climb_out_are_passed_over() -> None:
    device = Mounted(
        indexed(layer(("../out", FILE, b"x", {}), ("a/../in", FILE, b"y", {}), ("h", HARD, b"../out", {})))
    )
    assert list(device.children(1)) == [b"in"]


def test_an_entry_that_readers_of_tar_disagree_about_is_refused() -> None:
    raw = bytearray(layer(("h", HARD, b"x", {})))
    raw[124:136] = b"00000001000\0"
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with pytest.raises(LayoutError, match="readers of tar"):
        indexed(bytes(raw))


def test_links_cannot_make_a_circle() -> None:
    """The tree is walked to its end."""
    a, b = ("a", FILE, b"", NONE), ("b", FILE, b"", NONE)
    for entries in (
        (a, ("a/x", FILE, b"", NONE)),
        (a, ("a/self", HARD, b"a", NONE)),
        (a, b, ("a/l", HARD, b"b", NONE), ("b/l", HARD, b"a", NONE)),
    ):
        with pytest.raises(LayoutError, match="below a file"):
            indexed(layer(*entries))
    device = Mounted(indexed(layer(("a", FILE, b"x", {}), ("a", HARD, b"a", {}))))
    assert device.content(b"a") == b"x"


def test_a_layer_of_endless_paths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageTooLargeError, match="4096"):
        indexed(layer(("a/" * 3000, DIRECTORY, b"", {})))
    monkeypatch.setattr(tarfs, "_MAX_ENTRIES", 1000)
    many = [("/".join(f"{number}x{depth}" for depth in range(100)), FILE, b"", NONE) for number in range(11)]
    with pytest.raises(ImageTooLargeError, match="paths"):
        indexed(layer(*many))


@needs_veritysetup
def test_a_layer_with_its_index_has_veritysetups_root(tmp_path: Path) -> None:
    device = indexed(layer(*((f"usr/lib/module{number}", FILE, b"x" * number, {}) for number in range(300))))
    assert root_of(device) == veritysetup(device, tmp_path)


PATHS = ["a", "b", "a/b", ".", "a/.wh.b", ".wh..wh..opq", "../a", "/", "b/c/d"]
ENTRIES = st.tuples(
    st.sampled_from(PATHS),
    st.sampled_from([FILE, DIRECTORY, SYMLINK, HARD]),
    st.sampled_from([b"a", b"b", b"a/b", b".."]),
)


@settings(deadline=None)
@given(st.lists(ENTRIES, max_size=8))
def test_any_order_of_entries_gives_a_device_that_can_be_read(items: list[tuple[str, bytes, bytes]]) -> None:
    try:
        device = Mounted(indexed(layer(*((name, kind, content, {}) for name, kind, content in items))))
    except ImageError:
        return
    seen: set[int] = set()
    waiting = [1]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            if device.inode(number)[0] & 0o170000 == 0o040000:
                waiting += [child for child, _ in device.children(number).values()]
    assert max(seen) <= device.count
