"""Images of a run of `generate`: options of registries, the lock file, what is fetched; policies are made elsewhere."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cli.errors import UsageFaultError
from cli.options import PATHS
from cli.release import release
from cli.workspace import FileChange, change, read_optional
from images.cache import BlobCache, cache_directory
from images.credentials import DockerConfig
from images.errors import ImageError
from images.lock import EMPTY_LOCK, Lock, parse_lock
from images.pull import Progress
from images.reference import is_host, parse_reference
from images.registry import RegistryClient
from images.source import ImageSource
from images.transport import Mirror, RegistrySettings
from k8s.resources import ResourceSet

F = TypeVar("F", bound=Callable[..., Any])

VERITY: Final = "verity"
GUEST_PULL: Final = "guest-pull"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChoices:
    """What the user asked for about images.

    Attributes:
        folders: with OCI layouts, looked at before any registry.
        registries: how registries are reached.
        pin: write the digest behind references that have none.
        verity: compute root hashes of layers, and demand them in policies.
        pause: the pause image of the nodes, pinned, where policies demand layers.
        update: ask the registries again, whatever the lock says.
    """

    folders: tuple[Path, ...]
    registries: RegistrySettings
    pin: bool
    verity: bool
    pause: str | None
    update: bool


class MirrorType(click.ParamType[Mirror]):
    """`REGISTRY=HOST[:PORT][/PREFIX]`."""

    name = "registry=host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Mirror:
        """Return the mirror in *value*."""
        if isinstance(value, Mirror):
            return value
        registry, equals, rest = str(value).partition("=")
        host, _, prefix = rest.partition("/")
        if not equals or not is_host(registry) or not is_host(host):
            self.fail(
                f"{value!r}: wanted REGISTRY=HOST[:PORT][/PREFIX], as docker.io=mirror.example.com:5000", param, ctx
            )
        return Mirror(registry=registry, host=host, prefix=prefix.strip("/"))


class HostType(click.ParamType[str]):
    """`HOST[:PORT]` of a registry."""

    name = "host[:port]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the host in *value*."""
        if not is_host(str(value)):
            self.fail(f"{value!r} is no registry: wanted HOST[:PORT], without http://", param, ctx)
        return str(value)


def image_options(function: F) -> F:
    """Add the options of registries, layers and pins."""
    for option in reversed(
        (
            click.option(
                "--mirror",
                "mirrors",
                multiple=True,
                type=MirrorType(),
                metavar="REGISTRY=HOST",
                help="Ask HOST before that registry, may be repeated.",
            ),
            click.option(
                "--registry-ca",
                type=PATHS,
                default=None,
                help="PEM file of CAs that registries may be certified by, too.",
            ),
            click.option(
                "--insecure-registry",
                "insecure",
                multiple=True,
                type=HostType(),
                metavar="HOST",
                help="Speak plain HTTP with this registry, may be repeated. Digests are checked all the same.",
            ),
            click.option(
                "--layers",
                type=click.Choice([GUEST_PULL, VERITY]),
                default=GUEST_PULL,
                show_default=True,
                help="verity: policies demand the layers of images under their dm-verity root hashes, as AKS' nodes "
                "hand them over; give it each time. guest-pull: the guest pulls images by their digests.",
            ),
            click.option(
                "--pause-image",
                "pause_image_given",
                default=None,
                metavar="REFERENCE",
                help="With --layers verity: the nodes' pause image, pinned [default: the released one].",
            ),
            click.option(
                "--no-pin", is_flag=True, help="Refuse images without digest instead of writing the digest behind them."
            ),
            click.option(
                "--update-lock", is_flag=True, help="Ask the registries again and write images.lock.json anew."
            ),
        )
    ):
        function = option(function)
    return function


def pause_image(given: str | None, *, verity: bool) -> str | None:
    """Return the nodes' pause image where policies demand layers: as *given*, else the released one.

    Raises:
        UsageFaultError: there is none, or it has no digest, or nobody asks for layers.
    """
    if not verity:
        if given is not None:
            raise UsageFaultError("--pause-image is only for --layers verity: else guests have their own")
        return None
    found = given or release().images.get("pause")
    if found is None:
        raise UsageFaultError(
            "--layers verity needs the nodes' pause image, which no YAML names: give --pause-image REFERENCE@sha256:… "
            "(the `sandbox_image` in the nodes' containerd configuration)"
        )
    try:
        _ = parse_reference(found).required_digest
    except ImageError as error:
        raise UsageFaultError(f"--pause-image: {error}") from error
    return found


def read_lock(path: Path) -> Lock:
    """Return what the lock file says; nothing where there is none.

    Raises:
        LockError: it is no lock file.
    """
    raw = read_optional(path, what="image lock")
    return EMPTY_LOCK if raw is None else parse_lock(raw, name=path.name)


def fetch_images(
    choices: ImageChoices, resources: ResourceSet, more: Iterable[str], lock: Lock, report: Callable[[Progress], None]
) -> ImageSource:
    """Return the images of all confidential pods and *more*, fetched where no layout holds them.

    An image that cannot be had is told when it is asked for.

    Raises:
        ImageError: the cache or the CA file cannot be used.
    """
    source = ImageSource(choices.folders, lock=lock, verity=choices.verity, update=choices.update)
    missing = source.missing((*_references(resources, pin=choices.pin), *more))
    if missing:
        source.fetch(
            missing,
            cache=BlobCache(cache_directory(os.environ)),
            client=lambda: RegistryClient(choices.registries, DockerConfig(os.environ), os.environ),
            report=report,
        )
    return source


def lock_change(path: Path, before: Lock, source: ImageSource) -> tuple[FileChange, ...]:
    """Return the change of the lock file: what was fetched is added to *before*."""
    if not source.locked:
        return ()
    return change(path, before.with_images(source.locked).render(), what="image lock")


def short_name(reference: str) -> str:
    """*reference* as a bar is named: by its tag, which stays when the digest becomes known, else by a short digest."""
    name, _, digest = reference.partition("@sha256:")
    return name if ":" in name.rpartition("/")[2] or not digest else f"{name}@{digest[:12]}"


def _references(resources: ResourceSet, *, pin: bool) -> Iterator[str]:
    for workload in resources.confidential:
        for kind in ("initContainers", "containers"):
            for container in workload.items(*workload.pod_path, kind):
                image = container.get("image")
                if isinstance(image, str) and (pin or "@" in image):
                    yield image
