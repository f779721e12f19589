"""Images as real tools make them, of every form and compression, from a real registry: one answer for all of them."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.cache import BlobCache
from images.config import User
from images.credentials import DockerConfig
from images.errors import RegistryError, UnsupportedImageError
from images.lock import EMPTY_LOCK
from images.registry import RegistryClient
from images.source import ImageSource
from images.transport import RegistrySettings
from tests.support.real_registry import RealRegistry, need_programs, run
from tests.support.registry import PASSWORD, USER

LONG = "/".join(["a-directory-with-a-name-of-more-than-a-hundred-characters-" + "x" * 50] * 3)
BOB = User(name="bob", uid=3, gid=4)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one tag, and the cache in which it lies."""

    source: ImageSource
    cache: BlobCache
    name: str

    @property
    def users(self) -> tuple[User, ...]:
        accounts = self.source.config(self.name).accounts
        assert accounts is not None
        return accounts.users

    @property
    def roots(self) -> tuple[str, ...]:
        layers = self.source.config(self.name).layers
        assert layers is not None
        return tuple(layer.root_hash for layer in layers)

    def unpacked(self, folder: Path) -> Path:
        _layout, image = self.source.find(self.name)
        return self.cache.layout.unpack(image, folder / "root").root


class Images:
    """A registry, and layouts in which umoci builds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = RealRegistry(folder)
        self.layout = folder / "layout"
        run("umoci", "init", "--layout", str(self.layout))

    def build(self, tag: str, base: str | None = None) -> "Bundle":
        if base is None:
            run("umoci", "new", "--image", f"{self.layout}:{tag}")
        else:
            run("umoci", "tag", "--image", f"{self.layout}:{base}", tag)
        return Bundle(f"{self.layout}:{tag}", self.folder / f"bundle-{tag}")

    def insert(self, tag: str, *arguments: str) -> None:
        run("umoci", "insert", "--rootless", "--image", f"{self.layout}:{tag}", *arguments)

    def push(self, tag: str, target: str, *options: str) -> None:
        run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}",
            *options, f"oci:{self.layout}:{tag}", f"docker://{self.registry.host}/{target}")  # fmt: skip

    def fetch(self, target: str, folder: Path) -> Fetched:
        environ = self.registry.docker_config(folder / "docker")
        name = f"{self.registry.host}/{target}"
        source, cache = ImageSource([], lock=EMPTY_LOCK, verity=True), BlobCache(folder / "cache")
        settings = RegistrySettings(ca_file=self.registry.ca, tries=1)
        source.fetch(
            source.missing([name]),
            cache=cache,
            client=lambda: RegistryClient(settings, DockerConfig(environ), environ),
        )
        return Fetched(source, cache, name)


class Bundle:
    """An image, unpacked by umoci to be changed."""

    def __init__(self, image: str, path: Path) -> None:
        self.image, self.path = image, path

    def __enter__(self) -> Path:
        run("umoci", "unpack", "--rootless", "--image", self.image, str(self.path))
        return self.path / "rootfs"

    def __exit__(self, *_: object) -> None:
        run("umoci", "repack", "--image", self.image, str(self.path))
        shutil.rmtree(self.path)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    need_programs()
    found = Images(tmp_path_factory.mktemp("images"))
    with found.registry.running():
        yield found


@pytest.fixture(scope="module")
def rich(images: Images) -> Images:
    """One image with everything that a file system knows, in five layers, pushed in every form."""
    with images.build("rich") as root:
        for name in ("etc", "opt/old", LONG):
            (root / name).mkdir(parents=True)
        (root / "etc/passwd").write_text("alice:x:1:2::/:\n")
        (root / "etc/secret").write_text("of the build")
        (root / "opt/old/file").write_text("old")
        (root / LONG / ("ü" * 80)).write_text("far away")
        with (root / "sparse").open("wb") as sparse:
            sparse.seek(20 << 20)
            sparse.write(b"end")
        (root / "attributes").write_text("x")
        os.setxattr(root / "attributes", "user.note", b"\0binary\n")
        (root / "setuid").write_text("x")
        (root / "setuid").chmod(0o4755)
        os.mkfifo(root / "pipe")
        os.link(root / "attributes", root / "same")
    with images.build("rich2", "rich") as root:
        (root / "etc/passwd").unlink()
        (root / "etc/accounts").write_text("bob:x:3:4::/:\n")
        os.link(root / "etc/accounts", root / "etc/passwd")
    fresh = images.folder / "fresh"
    fresh.mkdir()
    (fresh / "new").write_text("new")
    images.insert("rich2", "--whiteout", "/etc/secret")
    images.insert("rich2", "--opaque", str(fresh), "/opt")
    images.push("rich2", "demo/rich:zstd", "--dest-compress-format", "zstd")  # First, or what is there would be taken.
    images.push("rich2", "demo/rich:gzip")
    images.push("rich2", "demo/rich:docker", "--format", "v2s2")
    return images


@pytest.mark.parametrize("form", ["gzip", "zstd", "docker"])
def test_an_image_of_many_layers_is_what_it_was(rich: Images, tmp_path: Path, form: str) -> None:
    found = rich.fetch(f"demo/rich:{form}", tmp_path)
    assert found.users == (BOB,), "a hard link to a file that the same layer brings"
    _layout, image = found.source.find(found.name)
    assert len(image.layers) == 4
    assert all(form in layer.media_type for layer in image.layers)
    root = found.unpacked(tmp_path)
    assert not (root / "etc/secret").exists()
    assert sorted(path.name for path in (root / "opt").iterdir()) == ["new"]
    assert (root / LONG / ("ü" * 80)).read_text() == "far away"
    assert hashlib.sha256((root / "sparse").read_bytes()).digest() == hashlib.sha256(bytes(20 << 20) + b"end").digest()
    assert (root / "attributes").samefile(root / "same")


def test_compression_changes_no_root_hash(rich: Images, tmp_path: Path) -> None:
    """The node's snapshotter sees layers unpacked, whatever the registry stores."""
    found = set()
    for form in ("gzip", "zstd", "docker"):
        (tmp_path / form).mkdir()
        found.add(rich.fetch(f"demo/rich:{form}", tmp_path / form).roots)
    assert len(found) == 1
    assert len(set(next(iter(found)))) == 4


LINKS = {
    "absolute": ("/usr/lib/passwd", (BOB,)),
    "relative": ("../usr/lib/passwd", (BOB,)),
    "climbing": ("../../../../../usr/lib/passwd", (BOB,)),
    "out of the image": ("/proc/1/environ", ()),
    "nowhere": ("/nowhere", ()),
}


@pytest.mark.parametrize(("target", "expected"), LINKS.values(), ids=LINKS)
def test_linked_accounts(images: Images, tmp_path: Path, target: str, expected: tuple[User, ...]) -> None:
    tag = f"link{list(LINKS.values()).index((target, expected))}"
    with images.build(tag) as root:
        (root / "usr/lib").mkdir(parents=True)
        (root / "etc").mkdir()
        (root / "usr/lib/passwd").write_text("bob:x:3:4::/:\n")
        (root / "etc/passwd").symlink_to(target)
    images.push(tag, f"demo/links:{tag}")
    assert images.fetch(f"demo/links:{tag}", tmp_path).users == expected


def test_device_nodes_are_read_over(images: Images, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("device nodes are made by root alone")
    device = tmp_path / "device"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine makes no device nodes, not even for root")
    run("umoci", "new", "--image", f"{images.layout}:device")
    run("umoci", "insert", "--image", f"{images.layout}:device", str(device), "/dev/null")
    images.push("device", "demo/device:v1")
    found = images.fetch("demo/device:v1", tmp_path)
    assert len(found.roots) == 1
    assert not (found.unpacked(tmp_path) / "dev/null").exists()


def index_of(images: Images, tag: str, platforms: dict[str, str]) -> None:
    """Write an index over tags of the layout into it, as buildx would."""
    path = images.layout / "index.json"
    index = json.loads(path.read_bytes())
    by_tag = {item["annotations"]["org.opencontainers.image.ref.name"]: item for item in index["manifests"]}
    entries = [
        {**{key: by_tag[name][key] for key in ("mediaType", "digest", "size")},
         "platform": {"os": "linux", "architecture": machine}}
        for machine, name in platforms.items()
    ]  # fmt: skip
    kind = "application/vnd.oci.image.index.v1+json"
    raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (images.layout / "blobs/sha256" / digest).write_bytes(raw)
    named: dict[str, Any] = {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(raw),
                             "annotations": {"org.opencontainers.image.ref.name": tag}}  # fmt: skip
    path.write_text(json.dumps({**index, "manifests": [*index["manifests"], named]}))


@pytest.fixture(scope="module")
def machines(images: Images) -> Images:
    for machine in ("arm64", "amd64"):
        with images.build(machine) as root:
            (root / "etc").mkdir()
            (root / "etc/passwd").write_text(f"{machine}:x:1:1::/:\n")
        run("umoci", "config", "--image", f"{images.layout}:{machine}", "--architecture", machine)
    index_of(images, "multi", {"arm64": "arm64", "amd64": "amd64"})
    index_of(images, "foreign", {"arm64": "arm64"})
    return images


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_our_machine_is_taken_from_an_index_that_skopeo_pushed(machines: Images, tmp_path: Path, form: str) -> None:
    machines.push("multi", f"demo/multi:{form}", "--all", "--format", form)
    found = machines.fetch(f"demo/multi:{form}", tmp_path)
    assert [user.name for user in found.users] == ["amd64"]
    (locked,) = found.source.locked
    assert locked.reference.digest != locked.manifest, "the index is what gets pinned"


def test_an_index_without_our_machine_is_refused(machines: Images, tmp_path: Path) -> None:
    machines.push("foreign", "demo/foreign:v1", "--all")
    found = machines.fetch("demo/foreign:v1", tmp_path)
    with pytest.raises(UnsupportedImageError, match="linux/arm64; wanted linux/amd64"):
        found.source.config(found.name)


def test_an_image_in_schema_1_is_refused(tmp_path: Path) -> None:
    """Old registries still hand such images out, asked for or not."""
    need_programs()
    images = Images(tmp_path)
    config = json.loads(images.registry._config.read_text())
    images.registry._config.write_text(json.dumps({**config, "compatibility": {"schema1": {"enabled": True}}}))
    with images.registry.running():
        with images.build("old") as root:
            (root / "file").write_text("x")
        try:
            images.push("old", "demo/old:v1", "--format", "v2s1")
        except AssertionError as error:
            pytest.skip(f"this registry or this skopeo knows schema 1 no more: {error}")
        found = images.fetch("demo/old:v1", tmp_path)
        with pytest.raises(RegistryError, match="schema 1"):
            found.source.config(found.name)
