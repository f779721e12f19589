"""Manifests, indexes and descriptors of OCI images, parsed from bytes that were checked; reads no file.

Docker's media types stand beside the specification's: registries still serve both.
"""

import json
from dataclasses import dataclass
from typing import Final, cast

from images.build import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, TAR_TYPE
from images.config import ImageConfig, parse_config
from images.errors import DigestMismatchError, ImageTooLargeError, LayoutError, UnsupportedImageError

PLATFORM: Final = "linux/amd64"  # SEV-SNP and TDX guests are x86-64 machines.
_ANY_VARIANT: Final = frozenset({None, "", "v1"})
_DOCKER: Final = "application/vnd.docker."
INDEX_TYPES: Final = frozenset({INDEX_TYPE, _DOCKER + "distribution.manifest.list.v2+json"})
MANIFEST_TYPES: Final = frozenset({MANIFEST_TYPE, _DOCKER + "distribution.manifest.v2+json"})
CONFIG_TYPES: Final = frozenset({CONFIG_TYPE, _DOCKER + "container.image.v1+json"})
PLAIN_TYPES: Final = frozenset({TAR_TYPE, _DOCKER + "image.rootfs.diff.tar"})
GZIP_TYPES: Final = frozenset({TAR_TYPE + "+gzip", _DOCKER + "image.rootfs.diff.tar.gzip"})
ZSTD_TYPES: Final = frozenset({TAR_TYPE + "+zstd", _DOCKER + "image.rootfs.diff.tar.zstd"})
MAX_JSON: Final = 4 << 20
MAX_LAYERS: Final = 256
MAX_LAYER: Final = 8 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Names a blob: what it is, which bytes, how many."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image for our platform.

    Attributes:
        digest: what a reference names: of the manifest, or of the index that led to it.
        manifest: the manifest's own digest.
        config_digest: the configuration's.
        config: how to run it.
        layers: as stored, lowest first.
        diff_ids: name the uncompressed layers.
    """

    digest: str
    manifest: str
    config_digest: str
    config: ImageConfig
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]


def is_index(document: dict[str, object]) -> bool:
    """Whether *document* lists images for several platforms."""
    return document.get("mediaType", INDEX_TYPE if "manifests" in document else MANIFEST_TYPE) in INDEX_TYPES


def select(index: dict[str, object], digest: str) -> Descriptor:
    """The manifest for our platform in *index*.

    Raises:
        UnsupportedImageError: there is none.
        LayoutError: the index is malformed.
    """
    seen: list[str] = []
    fitting: list[tuple[int, dict[str, object]]] = []
    for entry in objects(index, "manifests", digest):
        if entry.get("mediaType") not in MANIFEST_TYPES:
            continue
        platform = entry.get("platform")
        if platform is None:  # Then the image's configuration decides, which is read and compared next.
            fitting.append((2, entry))
        elif isinstance(platform, dict):
            seen.append(f"{platform.get('os')}/{platform.get('architecture')}")
            if seen[-1] == PLATFORM:
                # Newer processors are no demand of ours: what runs on all of them comes first, as in containerd.
                fitting.append((0 if platform.get("variant") in _ANY_VARIANT else 1, entry))
    if fitting:
        return descriptor(min(fitting, key=lambda pair: pair[0])[1], digest)
    raise UnsupportedImageError(f"image {digest} is for {', '.join(seen) or 'no platform'}; wanted {PLATFORM}")


def config_of(manifest: dict[str, object], digest: str) -> Descriptor:
    """The configuration that *manifest* names.

    Raises:
        LayoutError, UnsupportedImageError: it names none of a container image.
    """
    entry = manifest.get("config")
    if not isinstance(entry, dict):
        raise LayoutError(f"image {digest}: the manifest has no config")
    found = descriptor(entry, f"image {digest}")
    if found.media_type not in CONFIG_TYPES:
        raise UnsupportedImageError(
            f"image {digest}: its configuration is of type {found.media_type!r}: no container image"
        )
    return found


def image_of(manifest: dict[str, object], config: bytes, *, digest: str, manifest_digest: str) -> Image:
    """The image of a manifest and its configuration, both checked against their digests.

    Raises:
        ImageError: malformed, too large, or for another platform.
    """
    where = f"image {digest}"
    named = config_of(manifest, digest)
    parsed, platform, diff_ids = parse_config(json_object(config, f"{where}: config"), f"{where}: config")
    if platform != PLATFORM:
        raise UnsupportedImageError(f"{where} is for {platform}; wanted {PLATFORM}")
    layers = tuple(descriptor(layer, where) for layer in objects(manifest, "layers", where))
    if len(layers) != len(diff_ids) or len(layers) > MAX_LAYERS:
        raise LayoutError(
            f"{where} has {len(layers)} layers, {len(diff_ids)} diff ids; wanted equal, at most {MAX_LAYERS}"
        )
    for layer in layers:
        if ".foreign." in layer.media_type or ".nondistributable." in layer.media_type:
            raise UnsupportedImageError(
                f"{where}: a foreign layer ({layer.media_type}): its bytes need not be in the registry, and guests "
                "pull from nowhere else; build the image on a base without such layers"
            )
        if layer.media_type not in PLAIN_TYPES | GZIP_TYPES | ZSTD_TYPES:
            raise UnsupportedImageError(
                f"{where}: a layer is of type {layer.media_type!r}; plain, gzip and zstd tar are read"
            )
        if layer.size > MAX_LAYER:
            raise ImageTooLargeError(f"{where}: a layer has {layer.size} bytes, at most {MAX_LAYER} are read")
    return Image(
        digest=digest,
        manifest=manifest_digest,
        config_digest=named.digest,
        config=parsed,
        layers=layers,
        diff_ids=diff_ids,
    )


def check_digest(wanted: Descriptor, digest: str, size: int) -> None:
    """Demand that *digest* and *size* are those *wanted*.

    Raises:
        DigestMismatchError: they are not.
    """
    if digest != wanted.digest or size != wanted.size:
        raise DigestMismatchError(
            f"a blob has digest {digest}, {size} bytes; wanted {wanted.digest}, {wanted.size}: fetch the image again"
        )


def json_object(data: bytes, where: str) -> dict[str, object]:
    """Parse *data* as one JSON object without repeated keys.

    Raises:
        LayoutError: it is none.
    """

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


def objects(document: dict[str, object], name: str, where: str) -> list[dict[str, object]]:
    """The list of objects that *document* has under *name*.

    Raises:
        LayoutError: it has none.
    """
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise LayoutError(f"{where}: {name} is not a list of objects")
    return cast("list[dict[str, object]]", value)


def descriptor(entry: dict[str, object], where: str) -> Descriptor:
    """Parse a descriptor.

    Raises:
        LayoutError: a field is missing or of another type.
        UnsupportedImageError: the digest is no SHA-256.
    """
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise LayoutError(f"{where}: a descriptor lacks mediaType or digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise LayoutError(f"{where}: a descriptor's size is {size!r}, wanted a number of bytes")
    hex_of(digest)
    return Descriptor(media_type=media_type, digest=digest, size=size)


def hex_of(digest: str) -> str:
    """The hexadecimal part of a ``sha256:`` digest, safe as a file name.

    Raises:
        UnsupportedImageError: *digest* is of another form.
    """
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise UnsupportedImageError(f"digest {digest!r}: wanted sha256: and 64 lower-case hexadecimal digits")
    return value
