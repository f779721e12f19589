"""Reads OCI image layouts, every byte against the digest that names it; never asks a registry."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from images.build import REF_NAME
from images.config import Accounts, ImageConfig
from images.errors import DigestMismatchError, ImageNotFoundError, ImageTooLargeError, LayoutError
from images.layers import open_layer
from images.model import (
    MAX_JSON,
    Descriptor,
    Image,
    check_digest,
    config_of,
    descriptor,
    hex_of,
    image_of,
    is_index,
    json_object,
    objects,
    select,
)
from images.reference import ImageReference, parse_reference
from images.scan import Scan, scan
from images.unpack import Budget, check_links, unpack_layer


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
        marker = json_object(_bounded(path / "oci-layout", MAX_JSON), str(path / "oci-layout"))
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
        document, manifest = self._document(digest), digest
        if is_index(document):
            manifest = select(document, digest).digest
            document = self._document(manifest)
            if is_index(document):
                raise LayoutError(f"image {digest}: its index names another index, wanted a manifest")
        config = self.read(config_of(document, digest))
        return image_of(document, config, digest=digest, manifest_digest=manifest)

    def config(self, reference: str | ImageReference, *, accounts: bool = False) -> ImageConfig:
        """How to run the image; with *accounts*, its layers are read for ``/etc/passwd`` and ``/etc/group`` too.

        Raises:
            ImageError: as `find`.
        """
        image = self.find(reference)
        return replace(image.config, accounts=self.accounts(image)) if accounts else image.config

    def read(self, descriptor: Descriptor, limit: int = MAX_JSON) -> bytes:
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
        return self.scan(image).accounts

    def scan(self, image: Image, *, verity: bool = False) -> Scan:
        """Read all layers of *image* once: accounts, and with *verity* the root hash of each in tardev form.

        Raises:
            ImageError: a layer is damaged or tampered with.
        """
        return scan(image, self._blob, verity=verity)

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
                with open_layer(self._blob(layer.digest), layer, diff_id) as stream:
                    unpack_layer(stream, partial, limits)
            check_links(partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return Unpacked(root=target, left_out=tuple(limits.left_out))

    def _by_name(self, wanted: ImageReference) -> str:
        index = json_object(_bounded(self.path / "index.json", MAX_JSON), str(self.path / "index.json"))
        names = {str(wanted), f"{wanted.name}:{wanted.tag or 'latest'}", wanted.tag or "latest"}
        found: set[str] = set()
        for entry in objects(index, "manifests", str(self.path)):
            annotations = entry.get("annotations")
            name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
            if isinstance(name, str) and name in names:
                found.add(descriptor(entry, str(self.path)).digest)
        if len(found) == 1:
            return found.pop()
        reason = "holds no image" if not found else f"holds {len(found)} different images"
        raise ImageNotFoundError(f"{self.path} {reason} {wanted}; a reference with digest says which is meant")

    def _document(self, digest: str) -> dict[str, object]:
        data = _bounded(self._blob(digest), MAX_JSON)
        if (seen := f"sha256:{hashlib.sha256(data).hexdigest()}") != digest:
            raise DigestMismatchError(f"{self.path}: the blob named {digest} has digest {seen}: fetch the image again")
        return json_object(data, f"image {digest}")

    def _blob(self, digest: str) -> Path:
        return self.path / "blobs" / "sha256" / hex_of(digest)


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
        raise ImageNotFoundError(
            f"image {reference} is in none of the places looked at ({places}): put its OCI layout into one of them, "
            "or name the folder with --images"
        )

    def config(self, reference: str | ImageReference, *, accounts: bool = False) -> ImageConfig:
        """As `OciLayout.config`, from the first layout that holds the image."""
        layout, image = self.find(reference)
        return replace(image.config, accounts=layout.accounts(image)) if accounts else image.config


def _bounded(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise ImageNotFoundError(f"{path} does not exist") from None
    if len(data) > limit:
        raise ImageTooLargeError(f"{path} has more than {limit} bytes")
    return data
