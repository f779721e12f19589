"""From a reference to a configuration: pulled once, cached, locked, repeatable offline; hostile layers are refused."""

import io
import json
import stat
import tarfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images import layers
from images.build import File, ImageSpec, descriptor, write_layout
from images.cache import BlobCache, cache_directory
from images.config import Accounts
from images.errors import (
    CacheError,
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    LayoutError,
    LockError,
    UnsafeLayerError,
    UnsupportedImageError,
)
from images.lock import EMPTY_LOCK, Lock, parse_lock
from images.pull import Progress, Puller
from images.registry import RegistryClient
from images.source import ImageSource
from images.transport import RegistrySettings
from tests.support.registry import (
    FakeRegistry,
    Known,
    Pushed,
    blob_answer,
    client_of,
    running,
    sha256,
    status_answer,
    tar_of,
)

PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/:\n"
GROUP = b"app:x:2345:\nwheel:x:10:app\n"
BASE = tar_of({"etc/passwd": PASSWD, "etc/group": GROUP})
UPPER = tar_of({"srv/data": b"x" * 300_000})


class World:
    """A registry, a cache and a source that uses both."""

    def __init__(self, registry: FakeRegistry, folder: Path) -> None:
        self.registry = registry
        self.cache = BlobCache(folder / "cache")
        self.progress: list[Progress] = []

    async def get(self, *references: str, lock: Lock = EMPTY_LOCK, **more: Any) -> ImageSource:
        """What `ImageSource.fetch` does, in this loop."""
        source = ImageSource([], lock=lock, **more)
        async with client_of(self.registry) as client:
            puller = Puller(client, self.cache, self.progress.append)
            source._cache = self.cache
            for reference in source.missing(references):
                await source._remember(puller, self.cache, reference)
        return source

    @property
    def name(self) -> str:
        return f"{self.registry.host}/team/app:v1"


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with running(FakeRegistry()) as registry:
        yield World(registry, folder)


@pytest.mark.parametrize("packed", ["", "+gzip", "+zstd"])
async def test_users_and_groups_by_name_come_from_layers_of_every_compression(tmp_path: Path, packed: str) -> None:
    async with world(tmp_path) as there:
        there.registry.push(BASE, UPPER, packed=packed, config={"User": "app"})
        config = (await there.get(there.name)).config(there.name)
        assert config.user == "app"
        assert config.accounts is not None
        user = config.accounts.user("app")
        assert user is not None
        assert (user.uid, user.gid, [group.members for group in config.accounts.groups]) == (1234, 2345, [(), ("app",)])
        assert there.progress[-1].done == there.progress[-1].total > 0


async def test_our_platform_is_chosen_from_an_index_and_the_index_is_what_gets_pinned(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        images = {machine: there.registry.push(BASE, architecture=machine) for machine in ("arm64", "amd64")}
        index = there.registry.push_index(images)
        source = await there.get(there.name)
        (locked,) = source.locked
        assert (locked.digest, locked.manifest) == (index, images["amd64"].digest)
        assert source.find(there.name)[1].digest == index
        assert source.config(f"{there.name}@{index}").accounts is not None
        there.registry.push_index({"arm64": images["arm64"]}, tag="v2")
        with pytest.raises(UnsupportedImageError, match="wanted linux/amd64"):
            (await there.get(f"{there.registry.host}/team/app:v2")).config(f"{there.registry.host}/team/app:v2")


async def test_a_second_run_needs_no_registry(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        image = there.registry.push(BASE, UPPER)
        first = await there.get(there.name, verity=True)
        lock = parse_lock(EMPTY_LOCK.with_images(first.locked).render())
        there.registry.push(UPPER, BASE)  # The tag means something else now.
        there.registry.seen.clear()
        for reference in (there.name, f"{there.name}@{image.digest}", f"{there.registry.host}/team/app@{image.digest}"):
            again = await there.get(reference, lock=lock, verity=True)
            assert again.config(reference) == first.config(there.name)
        assert not there.registry.seen
        for blob in image.layers:
            there.cache.forget(sha256(blob))
        assert (await there.get(there.name, lock=lock)).config(there.name).layers is None
        assert not there.registry.seen, "what the layers say is in lock and cache"
        assert (await there.get(there.name, lock=lock, update=True)).locked[0].digest != image.digest


async def test_a_new_machine_gets_what_the_lock_says(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        image = there.registry.push(BASE, UPPER)
        lock = EMPTY_LOCK.with_images((await there.get(there.name, verity=True)).locked)
        there.registry.push(UPPER)
        there.cache = BlobCache(tmp_path / "another")
        found = await there.get(there.name, lock=lock)
        assert found.locked[0].digest == image.digest
        assert found.locked == tuple(lock.images.values()), "root hashes of the earlier run stay"


async def test_layers_that_images_share_are_fetched_once(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        image = there.registry.push(BASE, UPPER)
        there.registry.push(BASE, UPPER, BASE, tag="v2", config={"User": "1"})
        await there.get(there.name, f"{there.registry.host}/team/app:v2")
        for layer in image.layers:
            assert [path for path in there.registry.paths() if path.endswith(sha256(layer))] != []
            assert len([path for path in there.registry.paths() if path.endswith(sha256(layer))]) == 1


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
async def test_a_blob_that_was_damaged_in_the_cache_is_fetched_again(tmp_path: Path, which: str) -> None:
    async with world(tmp_path) as there:
        image = there.registry.push(BASE, UPPER)
        first = (await there.get(there.name)).config(there.name)
        damaged = {"manifest": image.digest, "config": sha256(image.config), "layer": sha256(image.layers[0])}[which]
        path = there.cache.path / "blobs" / "sha256" / damaged.removeprefix("sha256:")
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        pinned = f"{there.name}@{image.digest}"
        assert (await there.get(pinned)).config(pinned) == first


async def test_what_cannot_be_had_is_told_where_it_is_asked_for_and_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        image = there.registry.push(BASE)
        there.registry.wrong[sha256(image.layers[0])] = blob_answer(BASE)
        good = f"{there.registry.host}/team/app:good"
        there.registry.push(UPPER, tag="good")
        source = await there.get(there.name, good)
        with pytest.raises(DigestMismatchError):
            source.config(there.name)
        assert source.config(good).accounts == Accounts()
        kept = [path.name for path in (there.cache.path / "blobs" / "sha256").iterdir()]
        assert not [name for name in kept if name.startswith(".partial")]
        assert sha256(image.layers[0]).removeprefix("sha256:") not in kept


LOCK_CHANGES: dict[str, Callable[[Any], Any]] = {
    "manifest": lambda entry: {**entry, "manifest": "sha256:" + "0" * 64},
    "config": lambda entry: {**entry, "config": "sha256:" + "0" * 64},
    "accounts": lambda entry: {**entry, "accounts": "sha256:" + "0" * 64},
    "layers": lambda entry: {**entry, "layers": entry["layers"][::-1]},
    "diff ids": lambda entry: {**entry, "layers": [{**entry["layers"][0], "diff_id": "sha256:" + "0" * 64}]},
}


@pytest.mark.parametrize("change", LOCK_CHANGES.values(), ids=LOCK_CHANGES)
async def test_a_lock_that_somebody_edited_is_refused(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    """Whoever edits accounts there could make root of a container's user."""
    async with world(tmp_path) as there:
        there.registry.push(BASE, UPPER)
        lock = EMPTY_LOCK.with_images((await there.get(there.name)).locked)
        document = json.loads(lock.render())
        document["images"] = {name: change(entry) for name, entry in document["images"].items()}
        source = await there.get(there.name, lock=parse_lock(json.dumps(document).encode()))
        with pytest.raises(LockError, match="--update-lock"):
            source.config(there.name)


GOOD_LOCK: dict[str, Any] = {
    "version": 1, "platform": "linux/amd64", "images": {f"r.example/a:v1@sha256:{'1' * 64}": {
        "manifest": f"sha256:{'1' * 64}", "config": f"sha256:{'2' * 64}", "accounts": f"sha256:{'3' * 64}",
        "layers": [{"digest": f"sha256:{'4' * 64}", "diff_id": f"sha256:{'5' * 64}", "verity": "6" * 64}],
    }},
}  # fmt: skip
(GOOD_ENTRY,) = GOOD_LOCK["images"].values()
BAD_LOCKS: dict[str, Any] = {
    "no object": [],
    "another version": {**GOOD_LOCK, "version": 2},
    "another platform": {**GOOD_LOCK, "platform": "linux/arm64"},
    "a field more": {**GOOD_LOCK, "more": 1},
    "images no object": {**GOOD_LOCK, "images": []},
    "no digest": {**GOOD_LOCK, "images": {"r.example/a:v1": GOOD_ENTRY}},
    "a short name": {**GOOD_LOCK, "images": {f"busybox@sha256:{'1' * 64}": GOOD_ENTRY}},
    "no reference": {**GOOD_LOCK, "images": {"!!": GOOD_ENTRY}},
    "entry no object": {**GOOD_LOCK, "images": {f"r.example/a@sha256:{'1' * 64}": 5}},
    **{
        f"{field} wrong": {**GOOD_LOCK, "images": {f"r.example/a@sha256:{'1' * 64}": {**GOOD_ENTRY, field: "x"}}}
        for field in GOOD_ENTRY
    },
    "verity wrong": {**GOOD_LOCK, "images": {f"r.example/a@sha256:{'1' * 64}": {
        **GOOD_ENTRY, "layers": [{**GOOD_ENTRY["layers"][0], "verity": "zz"}]}}},
    "layer without diff id": {**GOOD_LOCK, "images": {f"r.example/a@sha256:{'1' * 64}": {
        **GOOD_ENTRY, "layers": [{"digest": "sha256:" + "4" * 64}]}}},
}  # fmt: skip


def test_a_lock_is_read_and_written_alike() -> None:
    lock = parse_lock(json.dumps(GOOD_LOCK).encode())
    assert json.loads(lock.render()) == GOOD_LOCK
    assert parse_lock(lock.render()) == lock


@pytest.mark.parametrize("document", BAD_LOCKS.values(), ids=BAD_LOCKS)
def test_a_lock_that_is_none_is_refused_with_the_place(document: Any) -> None:
    with pytest.raises(LockError, match=r"images\.lock\.json"):
        parse_lock(json.dumps(document).encode())


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_lock_reader_raise_anything_else(raw: bytes) -> None:
    with pytest.raises(LockError):
        parse_lock(raw)


async def test_a_tag_that_meant_two_images_is_asked_for_again(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        there.registry.push(BASE)
        one = (await there.get(there.name)).locked
        newest = there.registry.push(UPPER)
        two = (await there.get(there.name)).locked
        source = await there.get(there.name, lock=EMPTY_LOCK.with_images((*one, *two)))
        assert source.locked[0].digest == newest.digest


# Layers of a stranger.


def hostile(*members: tuple[str, bytes, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
    return stream.getvalue()


async def refused(there: World, image: Pushed, error: type[ImageError], says: str) -> None:
    pinned = f"{there.name}@{image.digest}"
    source = await there.get(pinned, verity=True)
    with pytest.raises(error, match=says):
        source.config(pinned)


@pytest.mark.parametrize("name", ["../../etc/passwd", "etc/../../passwd", "a/.."])
async def test_names_that_climb_out_are_refused(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as there:
        await refused(there, there.registry.push(hostile((name, tarfile.REGTYPE, ""))), UnsafeLayerError, "climbs out")


async def test_a_link_in_place_of_the_accounts_is_not_followed(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        there.registry.push(BASE, hostile(("etc/passwd", tarfile.SYMTYPE, "/proc/self/environ")))
        there.registry.push(BASE, hostile(("etc", tarfile.SYMTYPE, "tmp")), tag="v2")
        other = f"{there.registry.host}/team/app:v2"
        source = await there.get(there.name, other)
        assert (source.config(there.name).accounts or Accounts()).users == ()
        assert source.config(other).accounts == Accounts()


async def test_a_bomb_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_PLAIN", 8 << 20)
    async with world(tmp_path) as there:
        for packed in ("+gzip", "+zstd"):
            image = there.registry.push(tar_of({"zeros": bytes(16 << 20)}), packed=packed)
            assert len(image.layers[0]) < 100_000
            await refused(there, image, ImageTooLargeError, "uncompressed")


@pytest.mark.parametrize("packed", ["+gzip", "+zstd"])
@pytest.mark.parametrize("fault", ["cut off", "garbage", "garbage behind", "another diff id"])
async def test_a_damaged_compressed_layer_is_refused(tmp_path: Path, packed: str, fault: str) -> None:
    """Manifest and blob agree here: the image itself was built wrongly."""
    async with world(tmp_path) as there:
        image = there.registry.push(BASE, packed=packed)
        stored = image.layers[0]
        bad = {
            "cut off": stored[: len(stored) // 2],
            "garbage": b"garbage" * 50,
            "garbage behind": stored + b"garbage",
            "another diff id": there.registry.push(UPPER, packed=packed).layers[0],
        }[fault]
        manifest = json.loads(image.manifest)
        manifest["layers"] = [descriptor(manifest["layers"][0]["mediaType"], bad)]
        raw = json.dumps(manifest).encode()
        there.registry.blobs[sha256(bad)] = bad
        there.registry.name(raw, manifest["mediaType"], "v1")
        await refused(there, Pushed(sha256(raw), raw, image.config, (bad,)), ImageError, "layer|tar stream|blob")


async def test_accounts_beyond_reason_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        layer = tar_of({"etc/passwd": zlib.compress(b"") + bytes(2 << 20)})
        await refused(there, there.registry.push(layer), LayoutError, "etc/passwd")


# The cache, and layouts before it.


def test_the_cache_is_private_and_refused_when_it_is_not(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "deep" / "cache")
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o700
    digest = cache.put(b"data")
    assert cache.document(digest) == b"data"
    assert stat.S_IMODE((cache.path / "blobs/sha256" / digest.removeprefix("sha256:")).stat().st_mode) == 0o600
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(CacheError, match="CONTRAST_CACHE_DIR"):
        BlobCache(open_to_all)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError):
        BlobCache(tmp_path / "file")


def test_the_cache_lies_where_the_environment_says() -> None:
    home = {"HOME": "/home/me"}
    assert cache_directory(home) == Path("/home/me/.cache/contrast")
    assert cache_directory({**home, "XDG_CACHE_HOME": "/c"}) == Path("/c/contrast")
    assert cache_directory({**home, "XDG_CACHE_HOME": "/c", "CONTRAST_CACHE_DIR": "/d"}) == Path("/d")


def test_layouts_come_first_and_reserved_names_are_asked_of_nobody(tmp_path: Path) -> None:
    spec = ImageSpec(files={"etc/passwd": File(data=PASSWD)})
    digest = write_layout(tmp_path / "images", {"r.example/a:v1": spec})["r.example/a:v1"]
    source = ImageSource([tmp_path / "images"], lock=EMPTY_LOCK, verity=True)
    asked = ["r.example/a:v1", f"r.example/a@{digest}", "contrast.invalid/a:v1", "a.invalid:5000/b", "not a reference"]
    assert source.missing(asked) == ()
    assert [str(reference) for reference in source.missing(["r.example/b:v1"])] == ["r.example/b:v1"]
    config = source.config("r.example/a:v1", accounts=True)
    assert config.accounts is not None
    assert config.accounts.user("app") is not None
    assert config.layers is not None
    assert len(config.layers) == 1
    with pytest.raises(ImageNotFoundError):
        source.config("contrast.invalid/a:v1")


def test_fetch_runs_a_loop_of_its_own(tmp_path: Path) -> None:
    """The command is no coroutine; a registry that nobody answers for is told per image."""
    source = ImageSource([], lock=EMPTY_LOCK)
    asked = source.missing(["127.0.0.1:9/a:v1"])

    def client() -> RegistryClient:
        return RegistryClient(RegistrySettings(insecure=frozenset({"127.0.0.1:9"}), tries=1), Known())

    source.fetch(asked, cache=BlobCache(tmp_path / "cache"), client=client)
    with pytest.raises(ImageError, match=r"127\.0\.0\.1"):
        source.config("127.0.0.1:9/a:v1")
    assert source.locked == ()


async def test_a_registry_that_ends_half_way_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        image = there.registry.push(BASE, UPPER)
        there.registry.wrong[sha256(image.layers[1])] = status_answer(503)
        with pytest.raises(ImageError, match="503"):
            (await there.get(there.name)).config(there.name)
