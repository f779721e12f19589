"""Whether pods are still what their policies were made from, as far as this machine alone can tell; changes nothing.

A pod that was edited after `generate` gets no certificate, or is denied what it does, minutes after a `set` that looked
fine. The policy is computed again from the YAML as it stands, with images that are here; nothing is asked of a network.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.deployment import annotated_policy, read_deployment, where
from cli.policies import policy_maker
from cli.workspace import Workspace
from images.cache import cache_directory
from images.config import ImageConfig
from images.errors import ImageError, ImageNotFoundError
from images.layout import ImageStore
from images.reference import ImageReference
from k8s.inject import INITIALIZER, InjectionSettings, coordinator_host, injected_pod
from k8s.nodes import Data
from k8s.problems import ResourceError
from k8s.resources import ResourceSet, Workload
from policy.carrier import policy_in
from policy.errors import PolicyTextError, UnsupportedError

_MAX_LAYERS: Final = 512 << 20  # Bytes of layers that are read for one image; a registry's largest take minutes.
_LAYERED: Final = "layer-src-prefix"  # Stands in policies that demand layers, and in no other.


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What was found.

    Attributes:
        stale: file, line and name of each pod whose policy `generate` would now write differently.
        unknown: the names of those that cannot be told without their registry.
    """

    stale: tuple[str, ...]
    unknown: tuple[str, ...]


def freshness(paths: Sequence[Path], workspace: Workspace) -> Freshness:
    """Compare each confidential pod under *paths* with the policy that it carries.

    Raises:
        ResourceError: the YAML is faulty.
    """
    resources = read_deployment(paths)
    images = _Here((workspace.images, workspace.dev_images, cache_directory(os.environ)))
    stale: list[str] = []
    unknown: list[str] = []
    for workload in resources.confidential:
        try:
            if not _fresh(workload, resources, images):
                stale.append(f"{where(workload)}: {workload}")
        except _NotHereError:
            unknown.append(str(workload))
    return Freshness(stale=tuple(stale), unknown=tuple(unknown))


def _fresh(workload: Workload, resources: ResourceSet, images: "_Here") -> bool:
    measured = annotated_policy(workload)
    if measured is None:
        return False
    text = policy_in(measured)
    if _LAYERED in text:
        raise _NotHereError
    settings = InjectionSettings(initializer_image=_initializer(workload), coordinator_host=coordinator_host(resources))
    make = policy_maker(
        resources,
        images,
        publish_secret_values=True,  # The question whether they may be published was answered when it was made.
    )
    images.absent = False
    try:
        pod = injected_pod(workload, settings)
        # A policy names its images by digest: one that it does not name needs no looking into.
        return all(image.rpartition("@")[2] in text for image in _images(pod)) and make(workload, pod) == measured
    except (ResourceError, UnsupportedError, PolicyTextError):
        if images.absent:
            raise _NotHereError from None
        return False  # What `generate` would refuse is not what it wrote.


def _initializer(workload: Workload) -> str:
    """Return the Initializer's image as the file has it; nothing of ours where somebody removed it."""
    for container in workload.items(*workload.pod_path, "initContainers"):
        if container.get("name") == INITIALIZER and isinstance(image := container.get("image"), str):
            return image
    return "removed.invalid/initializer"


def _images(pod: Mapping[str, Data]) -> Iterator[str]:
    for kind in ("initContainers", "containers"):
        containers = pod.get(kind)
        for container in containers if isinstance(containers, list) else []:
            if isinstance(container, dict) and isinstance(image := container.get("image"), str):
                yield image


class _NotHereError(Exception):
    """This machine alone cannot tell."""


class _Here(ImageStore):
    """The images of this machine, as far as looking into one takes a moment; remembers whether one was out of reach."""

    absent = False

    def config(self, reference: str | ImageReference, *, accounts: bool = False) -> ImageConfig:
        """As `ImageStore.config`; an image of many bytes is out of reach too."""
        try:
            _, image = self.find(reference)
            if sum(layer.size for layer in image.layers) > _MAX_LAYERS:
                raise ImageNotFoundError(f"image {reference} is too large to be read now")
            return super().config(reference, accounts=accounts)
        except ImageError:
            self.absent = True
            raise
