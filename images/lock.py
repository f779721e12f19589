"""The lock file ``images.lock.json``: which bytes each reference meant, so that a run can be repeated, offline too.

It names digests only: of index, manifest, configuration, layers and of the accounts found in them; what they name comes
from the cache or a registry, and is verified. With root hashes in it, layers need not be read again.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from images.errors import ImageError, LockError
from images.model import PLATFORM, Image, json_object, objects
from images.reference import ImageReference, parse_reference

FILE_NAME: Final = "images.lock.json"
_VERSION: Final = 1
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ROOT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedLayer:
    """One layer: as stored, uncompressed, and its root hash in tardev form where that was computed."""

    digest: str
    diff_id: str
    verity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImage:
    """What one reference meant. ``digest`` is that of the reference, ``manifest`` the one for our platform."""

    reference: ImageReference
    manifest: str
    config: str
    accounts: str
    layers: tuple[LockedLayer, ...]

    @property
    def digest(self) -> str:
        """What the reference is pinned to."""
        return self.reference.required_digest

    @property
    def roots(self) -> tuple[bytes, ...] | None:
        """The root hashes of all layers, or None if one is missing."""
        found = [bytes.fromhex(layer.verity) for layer in self.layers if layer.verity is not None]
        return tuple(found) if len(found) == len(self.layers) else None

    def check(self, image: Image) -> None:
        """Demand that *image* is the one that was locked.

        Raises:
            LockError: it is not; the message says what differs.
        """
        for what, seen, wanted in (
            ("manifest", image.manifest, self.manifest),
            ("configuration", image.config_digest, self.config),
            ("layers", [layer.digest for layer in image.layers], [layer.digest for layer in self.layers]),
            ("diff ids", list(image.diff_ids), [layer.diff_id for layer in self.layers]),
        ):
            if seen != wanted:
                raise LockError(
                    f"{FILE_NAME}: {self.reference} has {what} {seen}, the lock says {wanted}: "
                    "somebody edited the lock; take it from version control, or make it anew with --update-lock"
                )


@dataclass(frozen=True, slots=True)
class Lock:
    """All locked images by pinned reference."""

    images: Mapping[str, LockedImage]

    def find(self, reference: ImageReference) -> LockedImage | None:
        """What *reference* meant; a tag must have meant one image only."""
        if reference.digest is not None:
            return self.images.get(str(reference)) or next(
                (i for i in self.images.values() if i.digest == reference.digest and _same_name(i, reference)), None
            )
        tag = reference.tag or "latest"
        found = [i for i in self.images.values() if _same_name(i, reference) and i.reference.tag == tag]
        return found[0] if len(found) == 1 else None

    def with_images(self, images: Iterable[LockedImage]) -> "Lock":
        """This lock with *images* added or replaced."""
        return Lock({**self.images, **{str(image.reference): image for image in images}})

    def render(self) -> bytes:
        """The file's bytes; the same images give the same bytes."""
        table = {
            name: {
                "manifest": image.manifest,
                "config": image.config,
                "accounts": image.accounts,
                "layers": [
                    {"digest": layer.digest, "diff_id": layer.diff_id}
                    | ({"verity": layer.verity} if layer.verity is not None else {})
                    for layer in image.layers
                ],
            }
            for name, image in sorted(self.images.items())
        }
        document = {"version": _VERSION, "platform": PLATFORM, "images": table}
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


EMPTY_LOCK: Final = Lock({})


def parse_lock(raw: bytes, *, name: str = FILE_NAME) -> Lock:
    """Read a lock file.

    Raises:
        LockError: it is none of this version; the message says where.
    """
    try:
        return _lock(json_object(raw, name), name)
    except LockError:
        raise
    except ImageError as error:
        raise LockError(f"{name}: {error}") from error


def _lock(document: Mapping[str, object], name: str) -> Lock:
    if set(document) != {"version", "platform", "images"}:
        raise LockError(f"{name}: has the fields {sorted(document)}, wanted version, platform, images")
    if document["version"] != _VERSION or document["platform"] != PLATFORM:
        raise LockError(
            f"{name}: is of version {document['version']!r} for {document['platform']!r}; wanted {_VERSION} for "
            f"{PLATFORM}: make it anew with --update-lock"
        )
    images = document["images"]
    if not isinstance(images, dict):
        raise LockError(f"{name}: images is no object")
    return Lock({key: _image(key, entry, name) for key, entry in images.items()})


def _image(key: str, entry: object, name: str) -> LockedImage:
    where = f"{name}: images.{key}"
    reference = parse_reference(key)
    if str(reference) != key or reference.digest is None:
        raise LockError(f"{where}: wanted a full reference with its digest")
    if not isinstance(entry, dict) or set(entry) != {"manifest", "config", "accounts", "layers"}:
        raise LockError(f"{where}: wanted an object with manifest, config, accounts, layers")
    return LockedImage(
        reference=reference,
        manifest=_text(entry, "manifest", _DIGEST, where),
        config=_text(entry, "config", _DIGEST, where),
        accounts=_text(entry, "accounts", _DIGEST, where),
        layers=tuple(_layer(layer, f"{where}.layers") for layer in objects(entry, "layers", where)),
    )


def _layer(entry: Mapping[str, object], where: str) -> LockedLayer:
    if not {"digest", "diff_id"} <= set(entry) <= {"digest", "diff_id", "verity"}:
        raise LockError(f"{where}: a layer has the fields {sorted(entry)}; wanted digest, diff_id and perhaps verity")
    return LockedLayer(
        digest=_text(entry, "digest", _DIGEST, where),
        diff_id=_text(entry, "diff_id", _DIGEST, where),
        verity=_text(entry, "verity", _ROOT, where) if "verity" in entry else None,
    )


def _text(entry: Mapping[str, object], field: str, form: re.Pattern[str], where: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise LockError(f"{where}.{field}: {value!r}, wanted 64 hexadecimal digits in the form {form.pattern}")
    return value


def _same_name(image: LockedImage, reference: ImageReference) -> bool:
    return image.reference.name == reference.name
