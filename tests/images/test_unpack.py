"""Nothing that a layer holds writes, links or leads out of the directory it is unpacked into."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.errors import ImageError, LayoutError, UnsafeLayerError
from images.unpack import Budget, check_links, unpack_layer

Member = tuple[str, str, str]  # name, kind, content or target
KINDS = {
    "file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE,
}  # fmt: skip


def layer(*members: Member) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = KINDS[kind], 0o4755
            if kind == "file":
                info.size = len(content)
            else:
                info.linkname = content
            tar.addfile(info, io.BytesIO(content.encode()) if kind == "file" else None)
    stream.seek(0)
    return stream


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def unpack(root: Path, *layers: tuple[Member, ...]) -> Budget:
    budget = Budget()
    for members in layers:
        unpack_layer(layer(*members), root, budget)
    check_links(root)
    return budget


def test_whiteouts_hide_lower_layers_and_nothing_of_their_own(root: Path) -> None:
    lower: tuple[Member, ...] = (("a/x", "file", "1"), ("a/y", "file", "1"), ("b/x", "file", "1"), ("c", "file", "1"))
    upper: tuple[Member, ...] = (
        ("a/new", "file", "2"),
        ("a/.wh..wh..opq", "file", ""),
        ("b/.wh.x", "file", ""),
        (".wh.c", "file", ""),
    )
    unpack(root, lower, upper)
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*")) == ["a", "a/new", "b"]


def test_upper_layers_replace_whatever_stood_there(root: Path) -> None:
    unpack(root, (("a/b", "file", "1"), ("l", "link", "a")), (("a", "file", "2"), ("l/new", "file", "3")))
    assert (root / "a").is_dir()  # The link l leads to a, which a later entry needs as a directory.
    assert (root / "a" / "new").read_text() == "3"
    assert not (root / "a" / "b").exists()


def test_links_inside_are_kept_or_made_relative(root: Path) -> None:
    members: tuple[Member, ...] = (
        ("usr/lib/x", "file", "1"), ("lib", "link", "usr/lib"), ("lib/y", "file", "2"), ("bin/z", "link", "/usr/lib/x"),
        ("up", "link", "../../../usr/lib/y"), ("gone", "link", "/no/such/file"), ("h", "hard", "lib/x"),
    )  # fmt: skip
    unpack(root, members)
    assert (root / "usr/lib/y").read_text() == "2"
    assert (root / "bin/z").read_text() == "1"
    assert (root / "up").read_text() == "2"
    assert (root / "gone").readlink() == Path("no/such/file")
    assert (root / "h").stat().st_ino == (root / "usr/lib/x").stat().st_ino
    assert (root / "usr/lib/x").stat().st_mode & 0o7777 == 0o755


HOSTILE: dict[str, tuple[Member, ...]] = {
    "a name that climbs": (("../outside/new", "file", "x"),),
    "a name that climbs later": (("a/../../outside/new", "file", "x"),),
    "a hard link that climbs": (("h", "hard", "../outside/secret"),),
    "a hard link to nothing": (("h", "hard", "nothing"),),
    "a hard link to the root": (("h", "hard", "/"),),
    "a hard link to a directory": (("d", "dir", ""), ("h", "hard", "d")),
    "a hard link below a file": (("f", "file", "x"), ("h", "hard", "f/x")),
    "a whiteout of nothing": (("d/.wh.", "file", ""),),
    "a whiteout of the parent": (("d/.wh...", "file", ""),),
    "links without end": (("a", "link", "b"), ("b", "link", "a"), ("a/x", "file", "x")),
    "a link through a link": (
        ("d", "dir", ""),
        ("p/q/r/s/x", "link", "/d"),
        ("p/q/r/s/y", "link", "x/../../outside/secret"),
    ),
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_layer_is_refused_and_touches_nothing_outside(root: Path, members: tuple[Member, ...]) -> None:
    with pytest.raises(UnsafeLayerError):
        unpack(root, members)
    assert [p.name for p in (root.parent / "outside").iterdir()] == ["secret"]
    assert (root.parent / "outside" / "secret").read_text() == "secret"


@pytest.mark.parametrize("target", ["/", "/outside", "../outside", "../../../../../../etc", "/root/../../outside"])
def test_a_file_behind_a_link_lands_inside(root: Path, target: str) -> None:
    """The oldest trick: first a link that leads out, then a file behind it."""
    unpack(root, (("l", "link", target),), (("l/new", "file", "x"),))
    assert [p.name for p in (root.parent / "outside").iterdir()] == ["secret"]
    found = [p for p in root.rglob("new") if not p.is_symlink()]
    assert found
    assert all(p.resolve().is_relative_to(root) for p in found)


def test_a_link_in_the_place_of_a_file_is_not_written_through(root: Path) -> None:
    unpack(root, (("f", "link", "/outside/secret"),), (("f", "file", "new"),))
    assert not (root / "f").is_symlink()
    assert (root / "f").read_text() == "new"


def test_devices_are_reported_and_not_made(root: Path) -> None:
    assert unpack(root, (("dev/null", "device", ""), ("dev/p", "pipe", ""))).left_out == ["/dev/null", "/dev/p"]
    assert list((root / "dev").iterdir()) == []


@pytest.mark.parametrize("cut", [1, 511, 513, 700])
def test_a_cut_tar_is_an_error(root: Path, cut: int) -> None:
    data = layer(("a", "file", "x" * 2000)).getvalue()[:cut]
    with pytest.raises((LayoutError, UnsafeLayerError)):
        unpack_layer(io.BytesIO(data), root, Budget())


NAMES = st.sampled_from(
    ["a", "b", "a/b", "a/b/c", "../x", "/a", "/", "a/../b", ".wh.a", "a/.wh..wh..opq", "b/.wh.c", "./a//c"]
)
TARGETS = st.one_of(
    NAMES, st.sampled_from(["..", "../..", "/etc/passwd", "b/../../..", "../outside/secret", "", "a/../../outside"])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.lists(st.tuples(NAMES, st.sampled_from(sorted(KINDS)), TARGETS), max_size=8))
def test_no_layer_at_all_reaches_outside(tmp_path_factory: pytest.TempPathFactory, members: list[Member]) -> None:
    base = tmp_path_factory.mktemp("hostile")
    (base / "outside").mkdir()
    (base / "outside" / "secret").write_text("secret")
    (base / "root").mkdir()
    try:
        unpack(base / "root", tuple(members))
    except ImageError:
        safe = False
    else:
        safe = True
    assert sorted(p.name for p in base.iterdir()) == ["outside", "root"]
    assert [p.name for p in (base / "outside").iterdir()] == ["secret"]
    assert (base / "outside" / "secret").read_text() == "secret"
    assert (base / "outside" / "secret").stat().st_nlink == 1
    if safe:
        for path in (base / "root").rglob("*"):
            assert os.path.realpath(path).startswith(str(base / "root"))
