"""Reads OCI image layouts, every byte against the digest that names it; never asks a registry."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from images.build import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, REF_NAME, TAR_TYPE
from images.config import Accounts, ImageConfig, parse_config, parse_group, parse_passwd
from images.errors import (
    DigestMismatchError,
    ImageNotFoundError,
    ImageTooLargeError,
    LayoutError,
    UnsupportedImageError,
)
from images.layers import Descriptor, LayerStream, check_digest
from images.reference import ImageReference, parse_reference
from images.unpack import Budget, check_links, clean, entries, unpack_layer

PLATFORM = "linux/amd64"  # SEV-SNP and TDX guests are x86-64 machines.
_DOCKER = "application/vnd.docker."
_INDEX_TYPES = {INDEX_TYPE, _DOCKER + "distribution.manifest.list.v2+json"}
_MANIFEST_TYPES = {MANIFEST_TYPE, _DOCKER + "distribution.manifest.v2+json"}
_CONFIG_TYPES = {CONFIG_TYPE, _DOCKER + "container.image.v1+json"}
_PLAIN_TYPES = {TAR_TYPE, _DOCKER + "image.rootfs.diff.tar"}
_GZIP_TYPES = {TAR_TYPE + "+gzip", _DOCKER + "image.rootfs.diff.tar.gzip"}
_MAX_JSON = 4 << 20
_MAX_LAYERS = 256
_MAX_LAYER = 8 << 30
_MAX_PASSWD = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image for our platform. ``digest`` is the manifest's, ``diff_ids`` name the uncompressed layers."""

    digest: str
    config: ImageConfig
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What `OciLayout.unpack` did; ``left_out`` lists device nodes and pipes, which are not made."""

    root: Path
    left_out: tuple[str, ...]


class OciLayout:
    """An OCI image layout directory (image-spec v1.1, image-layout.md)."""

    def __init__(self, path: Path) -> None:
        """Open *path*.

        Raises:
            LayoutError: it is no OCI layout of version 1.
        """
        self.path = path
        marker = _json(_bounded(path / "oci-layout", _MAX_JSON), str(path / "oci-layout"))
        version = marker.get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            raise LayoutError(f"{path}: imageLayoutVersion is {version!r}, wanted 1.x")

    def find(self, reference: str | ImageReference) -> Image:
        """The image of that reference, by digest if it has one, else by the layout's ``ref.name``.

        Raises:
            ImageNotFoundError: the layout does not hold it.
            ImageError: what it holds is malformed, tampered with, or for another platform.
        """
        wanted = parse_reference(reference) if isinstance(reference, str) else reference
        digest = wanted.digest or self._by_name(wanted)
        if not self._blob(digest).is_file():
            raise ImageNotFoundError(f"{self.path} holds no image {wanted}")
        return self.image(digest)

    def image(self, digest: str) -> Image:
        """The image whose manifest (or index of several platforms) has *digest*.

        Raises:
            ImageError: as `find`.
        """
        document = self._document(digest)
        if _is_index(document):
            document = self._document(self._select(document, digest).digest)
            if _is_index(document):
                raise LayoutError(f"image {digest}: its index names another index, wanted a manifest")
        return self._image(document, digest)

    def config(self, reference: str | ImageReference, *, accounts: bool = False) -> ImageConfig:
        """How to run the image; with *accounts*, its layers are read for ``/etc/passwd`` and ``/etc/group`` too.

        Raises:
            ImageError: as `find`.
        """
        image = self.find(reference)
        return replace(image.config, accounts=self.accounts(image)) if accounts else image.config

    def read(self, descriptor: Descriptor, limit: int = _MAX_JSON) -> bytes:
        """The bytes of a small blob, verified.

        Raises:
            DigestMismatchError, ImageTooLargeError, ImageNotFoundError: it is not what the descriptor says.
        """
        if descriptor.size > limit:
            raise ImageTooLargeError(
                f"blob {descriptor.digest} has {descriptor.size} bytes, at most {limit} are read here"
            )
        data = _bounded(self._blob(descriptor.digest), limit)
        check_digest(descriptor, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        return data

    def accounts(self, image: Image) -> Accounts:
        """The users and groups of the image's ``/etc/passwd`` and ``/etc/group``, whiteouts respected.

        Raises:
            ImageError: a layer is damaged or tampered with.
        """
        found: dict[str, bytes] = {}
        budget = Budget()
        for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
            here: dict[str, bytes] = {}
            hidden: set[str] = set()
            with self._open(layer, diff_id) as stream, entries(stream, budget) as tar:
                for member in tar:
                    budget.take(max(member.size, 0), f"layer entry {member.name!r}")
                    path = "/".join(clean(member.name))
                    tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every header otherwise.
                    hidden |= _hides(path)
                    if path not in {"etc/passwd", "etc/group"}:
                        continue
                    here.pop(path, None)
                    hidden.add(path)
                    if (
                        member.isreg()
                        and member.size <= _MAX_PASSWD
                        and (source := tar.extractfile(member)) is not None
                    ):
                        here[path] = source.read()
            found = {path: raw for path, raw in found.items() if path not in hidden} | here
        return Accounts(
            users=parse_passwd(found.get("etc/passwd", b"")), groups=parse_group(found.get("etc/group", b""))
        )

    def unpack(self, image: Image, target: Path, *, budget: Budget | None = None) -> Unpacked:
        """Make *target* (which must not exist) the image's root file system, or leave nothing.

        Raises:
            ImageError: a layer is damaged, tampered with, too large, or reaches out of the root.
            FileExistsError: *target* exists.
        """
        if target.exists():
            raise FileExistsError(f"{target} exists; an image is unpacked into a new directory")
        limits = budget or Budget()
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        try:
            for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
                with self._open(layer, diff_id) as stream:
                    unpack_layer(stream, partial, limits)
            check_links(partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return Unpacked(root=target, left_out=tuple(limits.left_out))

    def _by_name(self, wanted: ImageReference) -> str:
        index = _json(_bounded(self.path / "index.json", _MAX_JSON), str(self.path / "index.json"))
        names = {str(wanted), f"{wanted.name}:{wanted.tag or 'latest'}", wanted.tag or "latest"}
        found: set[str] = set()
        for entry in _list(index, "manifests", str(self.path)):
            annotations = entry.get("annotations")
            name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
            if isinstance(name, str) and name in names:
                found.add(_descriptor(entry, str(self.path)).digest)
        if len(found) == 1:
            return found.pop()
        reason = "holds no image" if not found else f"holds {len(found)} different images"
        raise ImageNotFoundError(f"{self.path} {reason} {wanted}; a reference with digest says which is meant")

    def _select(self, index: dict[str, object], digest: str) -> Descriptor:
        seen: list[str] = []
        for entry in _list(index, "manifests", digest):
            platform = entry.get("platform")
            if isinstance(platform, dict):
                seen.append(f"{platform.get('os')}/{platform.get('architecture')}")
                if seen[-1] == PLATFORM and entry.get("mediaType") in _MANIFEST_TYPES:
                    return _descriptor(entry, digest)
        raise UnsupportedImageError(f"image {digest} is for {', '.join(seen) or 'no platform'}; wanted {PLATFORM}")

    def _image(self, manifest: dict[str, object], digest: str) -> Image:
        where = f"image {digest}"
        entry = manifest.get("config")
        if not isinstance(entry, dict):
            raise LayoutError(f"{where}: the manifest has no config")
        descriptor = _descriptor(entry, where)
        if descriptor.media_type not in _CONFIG_TYPES:
            raise UnsupportedImageError(
                f"{where}: its configuration is of type {descriptor.media_type!r}: no container image"
            )
        config, platform, diff_ids = parse_config(_json(self.read(descriptor), f"{where}: config"), f"{where}: config")
        if platform != PLATFORM:
            raise UnsupportedImageError(f"{where} is for {platform}; wanted {PLATFORM}")
        layers = tuple(_descriptor(layer, where) for layer in _list(manifest, "layers", where))
        if len(layers) != len(diff_ids) or len(layers) > _MAX_LAYERS:
            raise LayoutError(
                f"{where} has {len(layers)} layers, {len(diff_ids)} diff ids; wanted equal, at most {_MAX_LAYERS}"
            )
        for layer in layers:
            if layer.media_type not in _PLAIN_TYPES | _GZIP_TYPES:
                raise UnsupportedImageError(
                    f"{where}: a layer is of type {layer.media_type!r}; plain and gzip tar are read"
                )
            if layer.size > _MAX_LAYER:
                raise ImageTooLargeError(f"{where}: a layer has {layer.size} bytes, at most {_MAX_LAYER} are read")
        return Image(digest=digest, config=config, layers=layers, diff_ids=diff_ids)

    def _document(self, digest: str) -> dict[str, object]:
        data = _bounded(self._blob(digest), _MAX_JSON)
        if (seen := f"sha256:{hashlib.sha256(data).hexdigest()}") != digest:
            raise DigestMismatchError(f"{self.path}: the blob named {digest} has digest {seen}: fetch the image again")
        return _json(data, f"image {digest}")

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise UnsupportedImageError(f"digest {digest!r}: wanted sha256: and 64 lower-case hexadecimal digits")
        return self.path / "blobs" / algorithm / value

    @contextlib.contextmanager
    def _open(self, layer: Descriptor, diff_id: str) -> Iterator[LayerStream]:
        """The layer's uncompressed bytes; leaving the block without an error means that both digests held."""
        path = self._blob(layer.digest)
        if not path.is_file():
            raise ImageNotFoundError(f"{self.path} lacks the layer {layer.digest}: fetch the image again")
        with path.open("rb") as file:
            stream = LayerStream(file, layer, diff_id, compressed=layer.media_type in _GZIP_TYPES)
            yield stream
            stream.finish()


class ImageStore:
    """Several layouts, asked in order: each path is a layout, or a folder of layouts. Absent paths hold nothing."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Open every layout below *paths*.

        Raises:
            LayoutError: a directory has the marker of a layout but is none.
        """
        folders = [folder for path in paths if path.is_dir() for folder in [path, *sorted(path.iterdir())]]
        self.layouts: Sequence[OciLayout] = tuple(OciLayout(f) for f in folders if (f / "oci-layout").is_file())

    def find(self, reference: str | ImageReference) -> tuple[OciLayout, Image]:
        """The image and the layout that holds it.

        Raises:
            ImageNotFoundError: none does.
            ImageError: one does, and it is unusable.
        """
        for layout in self.layouts:
            with contextlib.suppress(ImageNotFoundError):
                return layout, layout.find(reference)
        places = ", ".join(str(layout.path) for layout in self.layouts) or "no OCI layout at all"
        raise ImageNotFoundError(f"image {reference} is in none of the places looked at ({places})")

    def config(self, reference: str | ImageReference, *, accounts: bool = False) -> ImageConfig:
        """As `OciLayout.config`, from the first layout that holds the image."""
        layout, image = self.find(reference)
        return replace(image.config, accounts=layout.accounts(image)) if accounts else image.config


def _hides(path: str) -> set[str]:
    """Which account files of lower layers an entry at *path* hides."""
    if path in {".wh.etc", ".wh..wh..opq", "etc/.wh..wh..opq"}:
        return {"etc/passwd", "etc/group"}
    return {path.replace(".wh.", "", 1)} if path in {"etc/.wh.passwd", "etc/.wh.group"} else set()


def _is_index(document: dict[str, object]) -> bool:
    return document.get("mediaType", INDEX_TYPE if "manifests" in document else MANIFEST_TYPE) in _INDEX_TYPES


def _bounded(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise ImageNotFoundError(f"{path} does not exist") from None
    if len(data) > limit:
        raise ImageTooLargeError(f"{path} has more than {limit} bytes")
    return data


def _json(data: bytes, where: str) -> dict[str, object]:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise LayoutError(f"{where}: a JSON object names a key twice")
        return table

    try:
        document = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{where}: no JSON: {error}") from error
    if not isinstance(document, dict):
        raise LayoutError(f"{where}: holds {type(document).__name__}, wanted a JSON object")
    return cast("dict[str, object]", document)


def _list(document: dict[str, object], name: str, where: str) -> list[dict[str, object]]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise LayoutError(f"{where}: {name} is not a list of objects")
    return cast("list[dict[str, object]]", value)


def _descriptor(entry: dict[str, object], where: str) -> Descriptor:
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise LayoutError(f"{where}: a descriptor lacks mediaType or digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise LayoutError(f"{where}: a descriptor's size is {size!r}, wanted a number of bytes")
    return Descriptor(media_type=media_type, digest=digest, size=size)
