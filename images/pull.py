"""Brings images from registries into the cache, several at once; what a registry says is verified before it is kept."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from images.cache import BlobCache
from images.errors import LayoutError
from images.model import Descriptor, Image, config_of, image_of, is_index, json_object, select
from images.reference import ImageReference
from images.registry import RegistryClient

_AT_ONCE = 4  # Layers on their way at the same time, over all images.
_SCANS = 2  # Images whose layers are read at the same time.


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one image is; ``total`` is 0 until its manifest is known."""

    reference: str
    done: int
    total: int


class Puller:
    """Pulls into *cache*; *report* is told about every piece that arrives."""

    def __init__(
        self, client: RegistryClient, cache: BlobCache, report: Callable[[Progress], None] = lambda _progress: None
    ) -> None:
        self._client = client
        self._cache = cache
        self._report = report
        self.scanning = asyncio.Semaphore(_SCANS)  # For who reads the layers that came.
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._coming: dict[str, asyncio.Lock] = {}

    async def resolve(self, reference: ImageReference) -> ImageReference:
        """The reference with the digest that the registry has under its tag now.

        Raises:
            ImageError: as `RegistryClient.manifest`.
        """
        self._say(reference, 0, 0)
        document = await self._client.manifest(reference)
        self._cache.put(document.raw)
        return replace(reference, digest=document.digest)

    async def pull(self, reference: ImageReference, *, layers: bool) -> Image:
        """Bring manifest and configuration of a pinned reference, and its layers if wanted; what is there is kept.

        Raises:
            ImageError: the image is malformed, tampered with, for another platform, or cannot be had.
        """
        self._say(reference, 0, 0)
        digest = reference.required_digest
        document, manifest = await self._document(reference, digest), digest
        if is_index(document):
            manifest = select(document, digest).digest
            document = await self._document(reference, manifest)
            if is_index(document):
                raise LayoutError(f"image {digest}: its index names another index, wanted a manifest")
        config = await self._small(reference, config_of(document, digest))
        image = image_of(document, config, digest=digest, manifest_digest=manifest)
        if layers:
            await self._layers(reference, image)
        return image

    async def _document(self, reference: ImageReference, digest: str) -> dict[str, object]:
        raw = self._cache.document(digest)
        if raw is None:
            raw = (await self._client.manifest(reference, digest)).raw
            self._cache.put(raw)
        return json_object(raw, f"image {digest}")

    async def _small(self, reference: ImageReference, wanted: Descriptor) -> bytes:
        async with self._alone(wanted):
            found = self._cache.document(wanted.digest)
            if found is None:
                await self._blob(reference, wanted, lambda _size: None)
                found = self._cache.document(wanted.digest)
        if found is None or len(found) != wanted.size:
            raise LayoutError(
                f"image {reference}: its configuration is not the one of {wanted.size} bytes that it names"
            )
        return found

    async def _layers(self, reference: ImageReference, image: Image) -> None:
        total = sum(layer.size for layer in image.layers)
        done: dict[str, int] = {}

        async def one(layer: Descriptor) -> None:
            def progress(size: int) -> None:
                done[layer.digest] = size
                self._say(reference, sum(done.values()), total)

            async with self._alone(layer):  # Images share layers: each comes once.
                if not self._cache.has(layer.digest, layer.size):
                    async with self._slots:
                        await self._blob(reference, layer, progress)
            progress(layer.size)

        try:
            async with asyncio.TaskGroup() as group:
                for layer in dict.fromkeys(image.layers):
                    group.create_task(one(layer))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # The others ended because of it, or say the same.

    async def _blob(self, reference: ImageReference, wanted: Descriptor, progress: Callable[[int], None]) -> None:
        with self._cache.writing(wanted.digest) as file:
            await self._client.blob(reference, wanted, file, progress=progress)

    def _alone(self, wanted: Descriptor) -> asyncio.Lock:
        return self._coming.setdefault(wanted.digest, asyncio.Lock())

    def _say(self, reference: ImageReference, done: int, total: int) -> None:
        self._report(Progress(reference=str(reference), done=done, total=total))
