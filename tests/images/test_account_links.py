"""`/etc/passwd` and `/etc/group` are found as a process in the image finds them: through links, whatever the layers."""

import io
import posixpath
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from images import scan as scanning
from images.build import digest_of
from images.errors import LayoutError, UnsafeLayerError
from images.layers import open_layer
from images.layout import OciLayout
from images.model import Image
from tests.support.registry import FakeRegistry

ALICE, BOB = "alice:x:1:2::/:\n", "bob:x:3:4::/:\n"
FILE, HARD, SYM, DIR, DEV = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE
Entry = tuple[str, bytes, str]  # name, type, and content or target


def layer(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, kind, text in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == FILE:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                tar.addfile(info)
    return stream.getvalue()


def stored(folder: Path, *layers: bytes) -> tuple[OciLayout, Image]:
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    pushed = FakeRegistry().push(*layers, packed="")
    for blob in (pushed.manifest, pushed.config, *pushed.layers):
        (folder / "blobs" / "sha256" / digest_of(blob).removeprefix("sha256:")).write_bytes(blob)
    layout = OciLayout(folder)
    return layout, layout.image(pushed.digest)


def users(folder: Path, *layers: bytes) -> list[str]:
    layout, image = stored(folder, *layers)
    return [user.name for user in layout.accounts(image).users]


BASE = layer(("etc", DIR, ""), ("etc/passwd", FILE, ALICE))
ELSEWHERE = layer(("usr/lib/passwd", FILE, BOB), ("passwd", FILE, BOB), ("etc/passwd-", FILE, BOB))
NIX = "nix/store/0c1-accounts/etc/passwd"

FOLLOWED: dict[str, tuple[tuple[bytes, ...], list[str]]] = {
    "absolute": ((ELSEWHERE, layer(("etc/passwd", SYM, "/usr/lib/passwd"))), ["bob"]),
    "relative": ((ELSEWHERE, layer(("etc/passwd", SYM, "../usr/lib/passwd"))), ["bob"]),
    "beside it": ((ELSEWHERE, layer(("etc/passwd", SYM, "passwd-"))), ["bob"]),
    "climbing ends at the root": ((ELSEWHERE, layer(("etc/passwd", SYM, "../../../../usr/lib/./passwd"))), ["bob"]),
    "the link lies below its target": ((layer(("etc/passwd", SYM, "/" + NIX)), layer((NIX, FILE, BOB))), ["bob"]),
    "a link to a link": ((ELSEWHERE, layer(("run/p", SYM, "/usr/lib/passwd"), ("etc/passwd", SYM, "/run/p"))), ["bob"]),
    "the directory is a link": ((BASE, layer(("etc", SYM, "usr/lib")), layer(("usr/lib/passwd", FILE, BOB))), ["bob"]),
    "the target's directory is a link": (
        (ELSEWHERE, layer(("lib", SYM, "usr/lib"), ("etc/passwd", SYM, "/lib/passwd"))), ["bob"]),
    "hard link": ((layer(("etc/passwd-", FILE, BOB), ("etc/passwd", HARD, "etc/passwd-")),), ["bob"]),
    "hard link to a far file": ((layer(("./sysroot/ostree/f", FILE, BOB), ("etc/passwd", HARD, "sysroot/ostree/f")),),
                                ["bob"]),
    "hard link to a link": ((ELSEWHERE, layer(("p", SYM, "/usr/lib/passwd"), ("etc/passwd", HARD, "p"))), ["bob"]),
    "hard link keeps what its target was": (
        (layer(("etc/p", FILE, BOB), ("etc/passwd", HARD, "/etc/p"), ("etc/p", FILE, ALICE)),), ["bob"]),
    "hard link to what is not in the layer": ((ELSEWHERE, layer(("etc/passwd", HARD, "usr/lib/passwd"))), []),
    "target hidden": ((ELSEWHERE, layer(("etc/passwd", SYM, "/usr/lib/passwd")), layer(("usr/.wh.lib", FILE, ""))), []),
    "target hidden by an opaque directory": (
        (ELSEWHERE, layer(("etc/passwd", SYM, "/usr/lib/passwd"), ("usr/.wh..wh..opq", FILE, ""))), []),
    "target replaced": (
        (ELSEWHERE, layer(("etc/passwd", SYM, "/usr/lib/passwd")), layer(("usr/lib/passwd", FILE, ALICE))), ["alice"]),
    "target below a file": ((ELSEWHERE, layer(("usr", FILE, "x"), ("etc/passwd", SYM, "/usr/lib/passwd"))), []),
    "a link that leads nowhere": ((BASE, layer(("etc/passwd", SYM, "/proc/self/environ"))), []),
    "a link to the root": ((BASE, layer(("etc/passwd", SYM, "/"))), []),
    "a link to itself": ((BASE, layer(("etc/passwd", SYM, "passwd"))), []),
    "links in a circle": ((BASE, layer(("etc/passwd", SYM, "/a/b"), ("a", SYM, "/etc/passwd"))), []),
    "a directory": ((BASE, layer(("etc/passwd", DIR, ""))), []),
    "a device": ((BASE, layer(("etc/passwd", DEV, ""))), []),
    "an upper directory in place of a link": (
        (layer(("etc", SYM, "usr/lib")), ELSEWHERE, layer(("etc/passwd", FILE, ALICE))), ["alice"]),
    "an entry beside it makes the directory": (
        (ELSEWHERE, layer(("etc", SYM, "usr/lib")), layer(("etc/hostname", FILE, "x"))), []),
    "a long GNU name": (
        (layer(("d" * 90 + "/" + "e" * 90, FILE, BOB), ("etc/passwd", SYM, "/" + "d" * 90 + "/" + "e" * 90),
               form=tarfile.GNU_FORMAT),), ["bob"]),
    "a long PAX name": (
        (layer(("d" * 90 + "/" + "ü" * 90, FILE, BOB), ("etc/passwd", SYM, f"/{'d' * 90}/{'ü' * 90}")),), ["bob"]),
}  # fmt: skip


@pytest.mark.parametrize(("layers", "expected"), FOLLOWED.values(), ids=FOLLOWED)
def test_accounts_are_found_through_links(layers: tuple[bytes, ...], expected: list[str], tmp_path: Path) -> None:
    assert users(tmp_path, *layers) == expected


def test_the_helper_follows_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, image = stored(tmp_path, ELSEWHERE, layer(("etc/passwd", SYM, "/usr/lib/passwd")), layer())
    monkeypatch.setattr(scanning, "_WORTH_A_PROCESS", 0)
    found = layout.scan(image, verity=True)
    assert [user.name for user in found.accounts.users] == ["bob"]
    assert len(found.roots or ()) == 3


def test_an_image_without_links_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counting(path: Path, *more: object) -> object:
        opened.append(path)
        return open_layer(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("images.layerscan.open_layer", counting)
    assert users(tmp_path, BASE, ELSEWHERE) == ["alice"]
    assert len(opened) == 2


REFUSED = {
    "endless links": ([("etc/passwd", SYM, "/d0/f"), *((f"d{n}/f", SYM, f"/d{n + 1}/f") for n in range(30))], "deep"),
    "behind its own link": ([("etc", SYM, "tmp"), ("etc/passwd", FILE, ALICE)], "its own link etc"),
    "again and again": ([("etc/passwd", SYM, str(n)) for n in range(10_001)], "again and again"),
    "content again and again": ([("etc/passwd", FILE, "#" * (1 << 20))] * 17, "again and again"),
}


@pytest.mark.parametrize(("entries", "says"), REFUSED.values(), ids=REFUSED)
def test_what_no_honest_layer_has_is_refused(entries: list[Entry], says: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=says):
        users(tmp_path, layer(*entries))


def test_a_hard_link_that_climbs_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeLayerError):
        users(tmp_path, layer(("etc/passwd", HARD, "../../etc/passwd")))


NAMES = ["etc/passwd", "etc/passwd-", "lib/passwd", "usr/lib/passwd", "passwd", "etc/hostname"]
SYMLINKS = [("etc/passwd", "passwd-"), ("etc/passwd", "/usr/lib/passwd"), ("lib", "usr/lib"),
            ("etc/passwd", "../lib/passwd"), ("usr/lib/passwd", "../../passwd")]  # fmt: skip
ENTRIES = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.just(FILE), st.sampled_from([ALICE, BOB])),
    st.sampled_from([(name, SYM, target) for name, target in SYMLINKS]),
    st.sampled_from([(f"{posixpath.dirname(n)}/.wh.{posixpath.basename(n)}".lstrip("/"), FILE, "") for n in NAMES]),
    st.sampled_from([(".wh.lib", FILE, ""), ("etc/.wh..wh..opq", FILE, ""), ("usr/.wh..wh..opq", FILE, "")]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry[0]), min_size=1, max_size=4))
@example([[("usr/lib/passwd", FILE, BOB)], [("lib", SYM, "usr/lib"), ("etc/passwd", SYM, "../lib/passwd")]])
def test_the_unpacked_image_has_the_same_accounts(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Entry]]
) -> None:
    """Two readers that share no code: the one for policies reads no tree, the one that unpacks has nothing but one."""
    for entries in layers:
        names = {entry[0] for entry in entries}
        if any(f"{posixpath.dirname(name)}/.wh.{posixpath.basename(name)}".lstrip("/") in names for name in names):
            return  # Hidden and written by one layer: the order of its entries decides, differently for each reader.
    linked = {entry[0] for entries in layers for entry in entries if entry[1] == SYM}
    if any(entry[0].startswith("lib/") for entries in layers for entry in entries) and "lib" in linked:
        return  # Written through a link: the one that unpacks follows it, overlayfs makes a directory of it.
    folder = tmp_path_factory.mktemp("image")
    layout, image = stored(folder, *(layer(*entries) for entries in layers))
    root = layout.unpack(image, folder / "root").root
    path = (root / "etc" / "passwd").resolve()
    text = path.read_text() if path.is_file() and path.is_relative_to(root.resolve()) else ""
    expected = [line.partition(":")[0] for line in text.splitlines()]
    assert [user.name for user in layout.accounts(image).users] == expected
