"""Every byte of an image is checked against the digest that names it; what does not fit is a clear error."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from images.build import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    TAR_TYPE,
    File,
    ImageSpec,
    descriptor,
    digest_of,
    write_layout,
)
from images.errors import (
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    LayoutError,
    ReferenceInvalidError,
    UnsupportedImageError,
)  # fmt: skip
from images.layout import OciLayout
from images.reference import parse_reference
from images.unpack import Budget

GZIP = TAR_TYPE + "+gzip"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


class Layout:
    """An OCI layout whose every part can be something else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs" / "sha256").mkdir(parents=True)
        (root / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        (root / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]}')

    def blob(self, data: bytes) -> str:
        digest = digest_of(data)
        (self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(data)
        return digest

    def image(self, *layers: bytes, kind: str = TAR_TYPE, config: Any = None, manifest: Any = None, **more: Any) -> str:
        """The digest of an image with these (uncompressed) layers."""
        stored = [gzip.compress(layer) if kind == GZIP else layer for layer in layers]
        for data in stored:
            self.blob(data)
        document = {
            "os": "linux", "architecture": "amd64", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}, **(config or {}),
        }  # fmt: skip
        self.blob(dumped(document))
        found = {
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": descriptor(CONFIG_TYPE, dumped(document)),
            "layers": [descriptor(kind, data) for data in stored], **(manifest or {}), **more,
        }  # fmt: skip
        return self.blob(dumped(found))

    def open(self) -> OciLayout:
        return OciLayout(self.root)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def test_gzip_layers_of_several_members_are_read(layout: Layout, tmp_path: Path) -> None:
    layer = tar_of({"a": b"1" * 3_000_000, "b": b"2"})
    digest = layout.image(layer, kind=GZIP)
    opened = layout.open()
    root = opened.unpack(opened.image(digest), tmp_path / "root").root
    assert (root / "a").stat().st_size == 3_000_000
    joined = gzip.compress(layer[:1000]) + gzip.compress(layer[1000:])
    layout.blob(joined)
    other = layout.image(layer, manifest={"layers": [descriptor(GZIP, joined)]})
    assert (opened.unpack(opened.image(other), tmp_path / "other").root / "b").read_bytes() == b"2"


def test_a_layer_of_thousands_of_tiny_gzip_members_is_read(layout: Layout) -> None:
    """Some builders write a member per file; a hostile one writes a member per byte."""
    layer = tar_of({"etc/passwd": b"app:x:7:8::/:\n" * 100})
    tiny = b"".join(gzip.compress(layer[at : at + 1], 1) for at in range(len(layer)))
    layout.blob(tiny)
    opened = layout.open()
    accounts = opened.accounts(opened.image(layout.image(layer, manifest={"layers": [descriptor(GZIP, tiny)]})))
    assert len(accounts.users) == 100


def test_an_index_of_several_platforms_gives_ours(layout: Layout) -> None:
    ours = layout.image(tar_of({"a": b""}), config={"config": {"User": "5"}})
    entries = [
        {"mediaType": MANIFEST_TYPE, "digest": ours, "size": 1, "platform": {"os": "linux", "architecture": machine}}
        for machine in ("arm64", "amd64")
    ]
    index = layout.blob(dumped({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}))
    assert layout.open().find(f"x.invalid/a@{index}").config.user == "5"
    foreign = layout.blob(dumped({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries[:1]}))
    with pytest.raises(UnsupportedImageError, match="linux/arm64; wanted linux/amd64"):
        layout.open().image(foreign)
    nested = layout.blob(dumped({"schemaVersion": 2, "manifests": [{**entries[1], "digest": index}]}))
    with pytest.raises(LayoutError, match="another index"):
        layout.open().image(nested)


LINUX = {"os": "linux", "architecture": "amd64"}


@pytest.mark.parametrize(
    ("platforms", "chosen"),
    [
        (({**LINUX, "variant": "v3"}, LINUX), 1),
        (({**LINUX, "variant": "v3"}, {**LINUX, "variant": "v1"}), 1),
        (({**LINUX, "variant": "v2"}, {"os": "linux", "architecture": "arm64"}), 0),
        ((None, LINUX), 1),
        (({"os": "linux", "architecture": "arm64"}, None), 1),
        (({"os": "unknown", "architecture": "unknown"}, LINUX), 1),
        ((LINUX, LINUX), 0),
    ],
)
def test_the_entry_that_a_node_would_take_is_taken(layout: Layout, platforms: tuple[Any, ...], chosen: int) -> None:
    """A policy made from another image of the index than the one that runs would deny it."""
    digests = [layout.image(tar_of({"a": b""}), config={"config": {"User": str(user)}}) for user in range(2)]
    entries = [
        {
            "mediaType": MANIFEST_TYPE,
            "digest": digest,
            "size": 1,
            **({} if platform is None else {"platform": platform}),
        }
        for digest, platform in zip(digests, platforms, strict=True)
    ]
    index = layout.blob(dumped({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}))
    assert layout.open().find(f"x.invalid/a@{index}").config.user == str(chosen)


def test_an_entry_without_platform_must_still_be_for_ours(layout: Layout) -> None:
    """Then the image's own configuration says what it is for."""
    arm = layout.image(tar_of({"a": b""}), config={"architecture": "arm64"})
    entries = [{"mediaType": MANIFEST_TYPE, "digest": arm, "size": 1}]
    index = layout.blob(dumped({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}))
    with pytest.raises(UnsupportedImageError, match="linux/arm64; wanted linux/amd64"):
        layout.open().image(index)


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_a_changed_byte_is_found(layout: Layout, tmp_path: Path, which: str) -> None:
    layer = tar_of({"a": b"hello"})
    digest = layout.image(layer)
    opened = layout.open()
    image = opened.image(digest)
    manifest = json.loads((layout.root / "blobs/sha256" / digest[7:]).read_bytes())
    names = {"manifest": digest, "config": manifest["config"]["digest"], "layer": image.layers[0].digest}
    path = layout.root / "blobs/sha256" / names[which].removeprefix("sha256:")
    path.write_bytes(path.read_bytes().replace(b"hello", b"hallo") if which == "layer" else path.read_bytes() + b" ")
    with pytest.raises(DigestMismatchError):
        opened.unpack(opened.image(digest), tmp_path / "root")
    assert not (tmp_path / "root").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["layout"]


@pytest.mark.parametrize("change", ["longer", "shorter", "diff_id", "gzip"])
def test_a_layer_that_is_not_what_it_says_leaves_nothing(layout: Layout, tmp_path: Path, change: str) -> None:
    layer = tar_of({"a": b"hello" * 100})
    data = gzip.compress(layer)
    stored = {"longer": data + b"\0" * 9, "shorter": data[:-9], "gzip": b"no gzip at all"}.get(change, data)
    layout.blob(data)
    entry = descriptor(GZIP, stored)
    layout.blob(stored)
    if change == "longer":
        entry = {**descriptor(GZIP, data), "digest": digest_of(stored)}
    config = {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}} if change == "diff_id" else None
    digest = layout.image(layer, config=config, manifest={"layers": [entry]})
    opened = layout.open()
    with pytest.raises(ImageError):
        opened.unpack(opened.image(digest), tmp_path / "root")
    with pytest.raises(ImageError):
        opened.accounts(opened.image(digest))
    assert not (tmp_path / "root").exists()


MALFORMED: dict[str, dict[str, Any]] = {
    "no config": {"manifest": {"config": None}},
    "config of another type": {"manifest": {"config": {"mediaType": "x/y", "digest": "sha256:" + "0" * 64, "size": 1}}},
    "layers no list": {"manifest": {"layers": {}}},
    "a layer without digest": {"manifest": {"layers": [{"mediaType": TAR_TYPE, "size": 1}]}},
    "a negative size": {"manifest": {"layers": [{"mediaType": TAR_TYPE, "size": -1, "digest": "sha256:" + "0" * 64}]}},
    "another compression": {"manifest": {"layers": [{"mediaType": TAR_TYPE + "+zstd", "size": 1, "digest": "x"}]}},
    "a huge layer": {"manifest": {"layers": [{"mediaType": TAR_TYPE, "size": 1 << 40, "digest": "x"}]}},
    "fewer layers": {"manifest": {"layers": []}},
    "another platform": {"config": {"architecture": "arm64"}},
    "env no list": {"config": {"config": {"Env": "A=b"}}},
    "env without value": {"config": {"config": {"Env": ["A"]}}},
    "a user that is a number": {"config": {"config": {"User": 5}}},
    "no rootfs": {"config": {"rootfs": {}}},
}


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_image_is_a_clear_error(layout: Layout, parts: dict[str, Any]) -> None:
    digest = layout.image(tar_of({"a": b""}), **parts)
    with pytest.raises(ImageError) as caught:
        layout.open().image(digest)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"[" * 100_000, b"\xff"])
def test_json_that_is_none_is_a_clear_error(layout: Layout, raw: bytes) -> None:
    with pytest.raises(LayoutError):
        layout.open().image(layout.blob(raw))


def test_files_beyond_the_limits_are_refused(layout: Layout, tmp_path: Path) -> None:
    opened = layout.open()
    with pytest.raises(ImageTooLargeError):
        opened.image(layout.blob(b" " * (5 << 20)))
    image = opened.image(layout.image(tar_of({"a": b"1" * 5000, "b": b""})))
    with pytest.raises(ImageTooLargeError):
        opened.unpack(image, tmp_path / "small", budget=Budget(size=4000))
    with pytest.raises(ImageTooLargeError):
        opened.unpack(image, tmp_path / "few", budget=Budget(files=1))
    assert not (tmp_path / "small").exists()


def test_a_header_cannot_ask_for_all_memory(layout: Layout, tmp_path: Path) -> None:
    """Long names are read at once by the tar reader: a gigabyte of them must not be."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    opened = layout.open()
    with pytest.raises(ImageTooLargeError):
        opened.unpack(opened.image(layout.image(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 10240)), tmp_path / "root")


def test_what_is_missing_is_named(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError):
        layout.open().find("x.invalid/a@sha256:" + "0" * 64)
    with pytest.raises(ImageNotFoundError):
        layout.open().find("x.invalid/a:v1")
    with pytest.raises(UnsupportedImageError):
        layout.open().image("sha512:" + "0" * 128)
    with pytest.raises(ImageNotFoundError):
        OciLayout(tmp_path / "nowhere")
    (layout.root / "oci-layout").write_bytes(b'{"imageLayoutVersion":"2"}')
    with pytest.raises(LayoutError):
        layout.open()


def test_a_tag_that_means_two_images_is_refused(tmp_path: Path) -> None:
    write_layout(
        tmp_path, {"a.invalid/x:v1": ImageSpec(), "b.invalid/x:v1": ImageSpec(user="1"), "v1": ImageSpec(user="2")}
    )
    with pytest.raises(ImageNotFoundError, match="2 different images"):
        OciLayout(tmp_path).find("a.invalid/x:v1")
    assert OciLayout(tmp_path).find("b.invalid/y:v1").config.user == "2"


def test_accounts_come_from_the_topmost_layer_that_has_them(layout: Layout) -> None:
    passwd = b"# users\nroot:x:0:0:root:/root:/bin/sh\nbroken\napp:x:10:20::/:\napp:x:11:21::/:\nneg:x:-1:0::/:\n"
    base = tar_of({"etc/passwd": passwd, "./etc/group": b"root:x:0:\nwheel:x:10:app,root\n"})
    opened = layout.open()
    accounts = opened.accounts(opened.image(layout.image(base)))
    user = accounts.user("app")
    assert user is not None
    assert (user.uid, user.gid, [group.members for group in accounts.groups]) == (10, 20, [(), ("app", "root")])
    assert [user.name for user in accounts.users] == ["root", "app", "app"]
    for hiding in ("etc/.wh.passwd", ".wh.etc", "etc/.wh..wh..opq", "etc/passwd"):
        above = opened.accounts(opened.image(layout.image(base, tar_of({hiding: b""}))))
        assert above.users == ()
    again = opened.accounts(
        opened.image(layout.image(base, tar_of({".wh.etc": b"", "etc/passwd": b"new:x:1:1::/:\n"})))
    )
    assert [user.name for user in again.users] == ["new"]


REFERENCES = {
    "busybox": "docker.io/library/busybox",
    "busybox:1": "docker.io/library/busybox:1",
    "me/app": "docker.io/me/app",
    "localhost/app": "localhost/app",
    "localhost:5000/a/b:v_1.2-3": "localhost:5000/a/b:v_1.2-3",
    "index.docker.io/x": "docker.io/library/x",
    "r.invalid/a__b/c-d.e@sha256:" + "a" * 64: "r.invalid/a__b/c-d.e@sha256:" + "a" * 64,
    "r.invalid/a:v1@sha256:" + "a" * 64: "r.invalid/a:v1@sha256:" + "a" * 64,
}


@pytest.mark.parametrize(("text", "shown"), REFERENCES.items(), ids=REFERENCES)
def test_references_have_one_form(text: str, shown: str) -> None:
    assert str(parse_reference(text)) == shown
    assert parse_reference(shown) == parse_reference(text)


@pytest.mark.parametrize("text", ["", "A", "r.invalid/A", "a:", "a@", "a@sha256:1", "a@md5:" + "a" * 32, "a:b:c",
    "a//b", "-a/b", "a b", "a@sha256:" + "A" * 64, "x" * 2000, "r.invalid:port/a", "a:" + "t" * 129,
    "a/../b", "https://r.invalid/a"])  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ReferenceInvalidError):
        parse_reference(text)


def test_a_reference_without_digest_says_what_to_write() -> None:
    with pytest.raises(ReferenceInvalidError, match=r"write docker\.io/library/a:v1@sha256:"):
        _ = parse_reference("a:v1").pinned
    assert parse_reference("a:v1@sha256:" + "b" * 64).pinned == "docker.io/library/a@sha256:" + "b" * 64


def test_blobs_lie_under_their_hash(tmp_path: Path) -> None:
    write_layout(tmp_path, {"a:1": ImageSpec(files={"x": File(data=b"y")})})
    for path in (tmp_path / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
