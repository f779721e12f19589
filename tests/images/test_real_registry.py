"""A registry that nobody of us wrote, with TLS and passwords, gives what umoci and skopeo put there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.build import INDEX_TYPE, MANIFEST_TYPE
from images.cache import BlobCache
from images.config import User
from images.credentials import DockerConfig
from images.errors import DigestMismatchError, RegistryDeniedError
from images.lock import EMPTY_LOCK, Lock
from images.registry import RegistryClient
from images.source import ImageSource
from images.transport import RegistrySettings
from tests.support.real_registry import RealRegistry, need_programs


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    need_programs()
    found = RealRegistry(tmp_path_factory.mktemp("registry"))
    with found.running():
        found.push(
            "demo/app",
            {"etc/passwd": "root:x:0:0::/:\napp:x:1234:2345::/:\n", "etc/group": "app:x:2345:\n", "srv/data": "hello"},
            "--config.user=app", "--config.entrypoint=/app", "--config.cmd=--serve", "--config.env=LEVEL=info",
            "--config.workingdir=/srv",
        )  # fmt: skip
        yield found


def fetched(
    registry: RealRegistry, folder: Path, *references: str, helper: bool = False, lock: Lock = EMPTY_LOCK
) -> ImageSource:
    environ = registry.docker_config(folder / "docker", helper=helper)
    source = ImageSource([], lock=lock, verity=True)
    source.fetch(
        source.missing(references),
        cache=BlobCache(folder / "cache"),
        client=lambda: RegistryClient(RegistrySettings(ca_file=registry.ca, tries=1), DockerConfig(environ), environ),
    )
    return source


@pytest.mark.parametrize("helper", [False, True], ids=["config.json", "credential helper"])
def test_an_image_is_pulled_with_its_users(registry: RealRegistry, tmp_path: Path, helper: bool) -> None:
    name = f"{registry.host}/demo/app:v1"
    source = fetched(registry, tmp_path, name, helper=helper)
    config = source.config(name)
    assert (config.entrypoint, config.cmd, config.working_dir) == (("/app",), ("--serve",), "/srv")
    assert "LEVEL=info" in config.env
    assert config.accounts is not None
    assert config.accounts.user(config.user) == User(name="app", uid=1234, gid=2345)
    assert config.layers is not None
    assert len(config.layers) == len(source.locked[0].layers) > 0


def test_an_index_is_resolved(registry: RealRegistry, tmp_path: Path) -> None:
    source = fetched(registry, tmp_path, f"{registry.host}/demo/app:v1")
    digest = source.locked[0].manifest
    size = (tmp_path / "cache/blobs/sha256" / digest.removeprefix("sha256:")).stat().st_size
    entries = [{"mediaType": MANIFEST_TYPE, "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": "amd64"}}]  # fmt: skip
    raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}).encode()
    registry.put_manifest("demo/app", "multi", INDEX_TYPE, raw)
    name = f"{registry.host}/demo/app:multi"
    again = fetched(registry, tmp_path, name)
    assert again.config(name).user == "app"
    assert again.locked[0].manifest == digest != again.locked[0].digest


def test_without_a_login_the_message_says_what_to_do(registry: RealRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/demo/app:v1"
    source = ImageSource([], lock=EMPTY_LOCK)
    source.fetch(
        source.missing([name]),
        cache=BlobCache(tmp_path / "cache"),
        client=lambda: RegistryClient(RegistrySettings(ca_file=registry.ca), DockerConfig({"HOME": str(tmp_path)})),
    )
    with pytest.raises(RegistryDeniedError, match=f"docker login {registry.host}"):
        source.config(name)


def test_a_blob_that_was_changed_on_the_registrys_disk_is_refused(registry: RealRegistry, tmp_path: Path) -> None:
    """The registry itself serves it without a word."""
    name = f"{registry.host}/demo/app:v1"
    layer = fetched(registry, tmp_path, name).locked[0].layers[-1].digest.removeprefix("sha256:")
    path = registry.data / "docker/registry/v2/blobs/sha256" / layer[:2] / layer / "data"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        source = fetched(registry, tmp_path / "docker", name)
        with pytest.raises(DigestMismatchError, match="changed it"):
            source.config(name)
    finally:
        path.write_bytes(good)
