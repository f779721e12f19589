"""Writes OCI layouts from files, the same bytes for the same input on every machine; reads nothing but its arguments.

For the examples, tests and ``contrast dev init``, which must name an image's digest before anybody builds it elsewhere.
No clock, no owner, no compression library (whose versions differ in bytes) enters: layers are plain tar.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from images.errors import LayoutError

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
TAR_TYPE = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A regular file of a layer."""

    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link of a layer."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """One image: its files by path (without leading ``/``; parent directories are made), and how it runs."""

    files: Mapping[str, File | Link] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = (DEFAULT_PATH,)
    user: str = "65532:65532"
    working_dir: str = "/"
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """The blobs of one image; ``digest`` is the manifest's, as references name it (``sha256:…``)."""

    digest: str
    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]


def build_image(spec: ImageSpec) -> BuiltImage:
    """Make the blobs of *spec*: one uncompressed layer, linux/amd64.

    Raises:
        LayoutError: a path is absolute, empty, has ``..`` in it, or lies below a file.
    """
    layer = _layer(spec.files)
    # An uncompressed layer's diff id and digest are the same.
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(spec.entrypoint),
                "Cmd": list(spec.cmd),
                "Env": list(spec.env),
                "User": spec.user,
                "WorkingDir": spec.working_dir,
                "Volumes": {path: {} for path in spec.volumes},
            },
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, config),
            "layers": [descriptor(TAR_TYPE, layer)],
        }
    )
    return BuiltImage(digest=digest_of(manifest), manifest=manifest, config=config, layers=(layer,))


def write_layout(directory: Path, images: Mapping[str, ImageSpec]) -> dict[str, str]:
    """Write *images* (by full reference name with tag, without digest) as one OCI layout; returns each one's digest.

    What is there already with the same bytes is kept; the index is replaced last, so a reader never sees half an image.

    Raises:
        OSError: the directory cannot be written.
        LayoutError: as `build_image`.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    digests: dict[str, str] = {}
    for name in sorted(images):
        built = build_image(images[name])
        for blob in (built.manifest, built.config, *built.layers):
            _write(blobs / hashlib.sha256(blob).hexdigest(), blob)
        entry = descriptor(MANIFEST_TYPE, built.manifest)
        entries.append({**entry, "platform": {"architecture": "amd64", "os": "linux"}, "annotations": {REF_NAME: name}})
        digests[name] = built.digest
    _write(directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    _write(directory / "index.json", _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}))
    return digests


def digest_of(blob: bytes) -> str:
    """``sha256:`` and the hexadecimal SHA-256 of *blob*."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    """The OCI content descriptor of *blob*."""
    return {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)}


def _layer(files: Mapping[str, File | Link]) -> bytes:
    directories: set[str] = set()
    for path in files:
        parts = path.split("/")
        if not path or any(part in {"", ".", ".."} for part in parts):
            raise LayoutError(f"layer path {path!r}: write it relative to the root, without empty parts, '.' and '..'")
        directories.update("/".join(parts[:end]) for end in range(1, len(parts)))
    if below := sorted(directories & set(files)):
        raise LayoutError(f"layer path {below[0]!r} is a file and the parent of another file")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(directories | set(files)):
            info = tarfile.TarInfo(path)  # Owner root, time zero: nothing of the building machine.
            entry = files.get(path)
            if entry is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            elif isinstance(entry, Link):
                info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry.target
                tar.addfile(info)
            else:
                info.mode, info.size = entry.mode & 0o777, len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data))
    return stream.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
