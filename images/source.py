"""Where the images of a run come from: layouts on this machine, else the cache, else a registry; writes no lock file.

`fetch` does everything that takes time, for all images side by side, and remembers what went wrong; `find` and
`config` then answer at once or raise that error, at the place where a person can repair it.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from images.build import digest_of
from images.cache import BlobCache
from images.config import Accounts, Group, ImageConfig, User
from images.errors import ImageError, ImageNotFoundError, LayoutError, LockError
from images.layout import ImageStore, OciLayout
from images.lock import FILE_NAME, Lock, LockedImage, LockedLayer
from images.model import Image
from images.pull import Progress, Puller
from images.reference import ImageReference, parse_reference
from images.registry import RegistryClient
from images.scan import Scan
from images.verity import tardev_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    locked: LockedImage
    image: Image
    accounts: Accounts


class ImageSource(ImageStore):
    """An `ImageStore` that asks registries for what no layout holds.

    Args:
        paths: folders with layouts, looked at first.
        lock: what references meant before.
        verity: compute the root hashes of layers in tardev form.
        update: take nothing from *lock*.
    """

    def __init__(self, paths: Iterable[Path], *, lock: Lock, verity: bool = False, update: bool = False) -> None:
        super().__init__(paths)
        self._lock, self._verity, self._update = lock, verity, update
        self._fetched: dict[ImageReference, _Fetched] = {}
        self._failed: dict[ImageReference, ImageError] = {}
        self._cache: BlobCache | None = None
        self._scanned: dict[str, LockedImage] = {}

    @property
    def locked(self) -> tuple[LockedImage, ...]:
        """What was fetched, and root hashes that were computed of images in layouts, for the lock file."""
        return (*(item.locked for item in self._fetched.values()), *self._scanned.values())

    def missing(self, references: Iterable[str]) -> tuple[ImageReference, ...]:
        """Those of *references* that no layout holds and a registry might.

        What is no reference is left for `config` to refuse; names below ``.invalid`` will never be a registry's.
        """
        found: dict[ImageReference, None] = {}
        for text in references:
            with contextlib.suppress(ImageError):
                parsed = parse_reference(text)
                try:
                    super().find(parsed)
                except ImageNotFoundError:
                    if not parsed.registry.partition(":")[0].endswith(".invalid"):
                        found[parsed] = None
        return tuple(found)

    def fetch(
        self,
        references: Sequence[ImageReference],
        *,
        cache: BlobCache,
        client: Callable[[], RegistryClient],
        report: Callable[[Progress], None] = lambda _progress: None,
    ) -> None:
        """Make *references* available: from the cache as the lock says, else from their registries.

        An image that cannot be had is an error of `find` and `config`, so that all of them are seen at once.

        Raises:
            ImageError: the client cannot be made.
        """
        self._cache = cache

        async def work() -> None:
            async with client() as opened:
                puller = Puller(opened, cache, report)
                async with asyncio.TaskGroup() as group:
                    for reference in references:
                        group.create_task(self._remember(puller, cache, reference))

        asyncio.run(work())

    def find(self, reference: str | ImageReference) -> tuple[OciLayout, Image]:
        """The image, and the layout or cache that holds it.

        Raises:
            ImageError: it could not be had; the message says why.
        """
        wanted = parse_reference(reference) if isinstance(reference, str) else reference
        if (error := self._failed.get(wanted)) is not None:
            raise error
        if (found := self._of(wanted)) is not None and self._cache is not None:
            return self._cache.layout, found.image
        return super().find(wanted)

    def config(self, reference: str | ImageReference, *, accounts: bool = False) -> ImageConfig:
        """How to run the image, with root hashes if this source computes them.

        Raises:
            ImageError: as `find`.
        """
        wanted = parse_reference(reference) if isinstance(reference, str) else reference
        layout, image = self.find(wanted)
        if (found := self._of(wanted)) is not None:
            roots = found.locked.roots if self._verity else None
            return _with(image, found.accounts, roots)
        if not accounts and not self._verity:
            return image.config
        scan = layout.scan(image, verity=self._verity)
        if self._verity:
            pinned = replace(wanted, digest=image.digest)
            self._scanned[str(pinned)] = _locked(pinned, image, scan)
        return _with(image, scan.accounts, scan.roots)

    def _of(self, wanted: ImageReference) -> _Fetched | None:
        """What was fetched for *wanted*, also when it was asked for without the digest that it has by now."""
        if (found := self._fetched.get(wanted)) is not None:
            return found
        return next((item for item in self._fetched.values() if item.locked.reference == wanted), None)

    async def _remember(self, puller: Puller, cache: BlobCache, reference: ImageReference) -> None:
        try:
            self._fetched[reference] = await self._get(puller, cache, reference)
        except ImageError as error:
            self._failed[reference] = error

    async def _get(self, puller: Puller, cache: BlobCache, reference: ImageReference) -> _Fetched:
        locked = None if self._update else self._lock.find(reference)
        pinned = reference
        if reference.digest is None:
            pinned = await puller.resolve(reference) if locked is None else locked.reference
        if (
            locked is not None
            and (locked.roots is not None or not self._verity)
            and (kept := _accounts(cache.document(locked.accounts))) is not None
        ):
            # Everything that the layers would say is known; they are not even fetched.
            image = await puller.pull(pinned, layers=False)
            locked.check(image)
            return _Fetched(locked=replace(locked, reference=pinned), image=image, accounts=kept)
        image = await puller.pull(pinned, layers=True)
        async with puller.scanning:
            scan = await self._scan(puller, cache, pinned, image)
        cache.put(_dumped(scan.accounts))
        found = _locked(pinned, image, scan)
        if locked is not None:
            locked.check(image)
            if locked.accounts != found.accounts:
                raise LockError(
                    f"{FILE_NAME}: {pinned} has the accounts {found.accounts}, the lock says {locked.accounts}: "
                    "somebody edited the lock; take it from version control, or make it anew with --update-lock"
                )
            if scan.roots is None:  # Root hashes that an earlier run computed stay.
                found = replace(found, layers=locked.layers)
        return _Fetched(locked=found, image=image, accounts=scan.accounts)

    async def _scan(self, puller: Puller, cache: BlobCache, reference: ImageReference, image: Image) -> Scan:
        try:
            return await asyncio.to_thread(cache.layout.scan, image, verity=self._verity)
        except ImageError:
            # What a registry sends is verified on arrival: if a blob is another now, this disk damaged it.
            damaged = [layer for layer in image.layers if not await asyncio.to_thread(cache.intact, layer)]
            if not damaged:
                raise
            for layer in damaged:
                cache.forget(layer.digest)
            await puller.pull(reference, layers=True)
            return await asyncio.to_thread(cache.layout.scan, image, verity=self._verity)


def _locked(reference: ImageReference, image: Image, scan: Scan) -> LockedImage:
    roots = scan.roots or (None,) * len(image.layers)
    return LockedImage(
        reference=reference,
        manifest=image.manifest,
        config=image.config_digest,
        accounts=digest_of(_dumped(scan.accounts)),
        layers=tuple(
            LockedLayer(digest=layer.digest, diff_id=diff_id, verity=None if root is None else root.hex())
            for layer, diff_id, root in zip(image.layers, image.diff_ids, roots, strict=True)
        ),
    )


def _with(image: Image, accounts: Accounts, roots: tuple[bytes, ...] | None) -> ImageConfig:
    layers = None if roots is None else tardev_layers(image.diff_ids, roots)
    return replace(image.config, accounts=accounts, layers=layers)


def _dumped(accounts: Accounts) -> bytes:
    """The accounts as a document of the cache."""
    users = [[user.name, user.uid, user.gid] for user in accounts.users]
    groups = [[group.name, group.gid, list(group.members)] for group in accounts.groups]
    return json.dumps({"users": users, "groups": groups}, ensure_ascii=True, separators=(",", ":")).encode()


def _accounts(raw: bytes | None) -> Accounts | None:
    """The accounts in a document of the cache, whose digest was checked; None where there is none."""
    if raw is None:
        return None
    try:
        document = json.loads(raw)
        return Accounts(
            users=tuple(User(name=str(name), uid=int(uid), gid=int(gid)) for name, uid, gid in document["users"]),
            groups=tuple(
                Group(name=str(name), gid=int(gid), members=tuple(str(member) for member in members))
                for name, gid, members in document["groups"]
            ),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LayoutError(f"{FILE_NAME}: names accounts that are none: make it anew with --update-lock") from error
