"""What `generate` changes in the YAML, decided before anything is written; it reads images and writes nothing.

Everything that can be wrong is collected, so that a person sees all faults of all files at once.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cli.deployment import annotated_policy, subject, where
from cli.entries import Subject
from cli.errors import CliError, RefusedError
from cli.running_as import runs_as
from cli.workspace import FileChange
from images.errors import ImageError
from images.layout import ImageStore
from images.reference import ImageReference, parse_reference
from k8s.edits import Edit, SetValue
from k8s.inject import INITIALIZER, InjectionSettings, coordinator_host, injected_pod, injection_edits
from k8s.nodes import Data
from k8s.problems import Problem, ResourceError
from k8s.resources import ResourceSet, Workload
from manifest.errors import ManifestError
from policy.carrier import carried
from policy.errors import PolicyTextError, UnsupportedError

OURS: Final = "contrast.invalid/contrast/"  # Images of this system are pinned by generate; all others by their author.

# The policy, or the initdata around it, of a workload whose pod spec, after injection, is given.
PolicyMaker = Callable[[Workload, Mapping[str, Data]], bytes]


@dataclass(slots=True)
class Faults:
    """Everything that was found wrong."""

    lines: list[str] = field(default_factory=list)

    @contextmanager
    def collect(self, place: str = "") -> Iterator[None]:
        """Go on after a fault in the block, remembering it; *place* is put before what names no file itself."""
        try:
            yield
        except (ResourceError, UnsupportedError, ManifestError) as error:
            self._add(str(error))
        except (ImageError, PolicyTextError) as error:
            self._add(f"{place}: {error}" if place else str(error))
        except CliError as error:
            self._add(str(error))
            self.lines += error.details

    def raise_if_any(self) -> None:
        """End the command if something is wrong.

        Raises:
            RefusedError: with every fault.
        """
        if self.lines:
            found = tuple(dict.fromkeys(self.lines))
            raise RefusedError(f"{len(found)} fault{'s' if len(found) > 1 else ''}; nothing was written", details=found)

    def _add(self, text: str) -> None:
        self.lines += text.splitlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedImage:
    """One image of the confidential pods.

    Attributes:
        reference: as it stands in the YAML afterwards.
        pods: names of those that use it, in order.
        pinned_at: where it got its digest by this run, the first place; None where it had it.
    """

    reference: str
    pods: tuple[str, ...]
    pinned_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlPlan:
    """The changes of YAML files, the confidential pods in them, and what a person should know.

    Attributes:
        changes: of YAML files.
        subjects: the pods.
        policies: the new ones by digest, as HOSTDATA measures them.
        before: those that stood in the annotations, likewise.
        images: of all pods, each once.
        notes: for people.
    """

    changes: tuple[FileChange, ...]
    subjects: tuple[Subject, ...]
    policies: Mapping[bytes, bytes]
    before: Mapping[bytes, bytes]
    images: tuple[UsedImage, ...]
    notes: tuple[str, ...]


def plan_yaml(
    resources: ResourceSet,
    images: ImageStore,
    initializer: str,
    policy_of: PolicyMaker,
    faults: Faults,
    *,
    pin: bool = True,
) -> YamlPlan:
    """Decide what changes in the files of *resources*.

    Args:
        resources: all of the deployment.
        images: where images are looked up.
        initializer: the Initializer's image, pinned.
        policy_of: computes policies.
        faults: takes what is wrong.
        pin: write the digest behind images that have none.
    """
    settings = InjectionSettings(initializer_image=initializer, coordinator_host=coordinator_host(resources))
    edits: dict[str, list[Edit]] = {}
    subjects: list[Subject] = []
    policies: dict[bytes, bytes] = {}
    olds: dict[bytes, bytes] = {}
    used: dict[str, dict[str, None]] = {}
    places: dict[str, list[str]] = {}
    notes: list[str] = []
    if elsewhere := _elsewhere(resources):
        notes.append(elsewhere)
    for workload in resources.confidential:
        with faults.collect(where(workload)):
            pinned = _pins(workload, images, places, pin=pin)
            pins = {pin.before: pin.after for pin in pinned}
            mine = replace(settings, runs_as=runs_as(workload, pins, images, notes))
            pod = _with_pins(injected_pod(workload, mine), pins)
            text = policy_of(workload, pod)
            digest = hashlib.sha256(text).digest()
            packed = carried(text)
            old = annotated_policy(workload)
            before = None if old is None else hashlib.sha256(old).digest()
            if old is not None and before is not None and before != digest:
                olds[before] = old
            for image in _images(pod):
                used.setdefault(image, {})[workload.name] = None
            policies[digest] = text
            subjects.append(subject(workload, resources, policy=digest, before=before))
            edits.setdefault(workload.file.path, []).extend(
                (
                    *injection_edits(workload, mine, packed.value, annotation=packed.annotation),
                    *(
                        SetValue(
                            document=workload.document,
                            path=(*workload.path, *workload.pod_path, *pin.path),
                            value=pin.after,
                        )
                        for pin in pinned
                    ),
                )
            )
    changes = []
    for file in resources.files:
        with faults.collect(file.path):
            after = file.apply(edits.get(file.path, []))
            if after != file.raw:
                changes.append(FileChange(path=Path(file.path), before=file.raw, after=after))
    return YamlPlan(
        changes=tuple(changes),
        subjects=tuple(subjects),
        policies=policies,
        before=olds,
        images=tuple(
            UsedImage(reference=image, pods=tuple(pods), pinned_at=next(iter(places.get(image, ())), None))
            for image, pods in used.items()
        ),
        notes=(
            *notes,
            *(
                f"{first}{f' and {len(more)} more places' if more else ''}: the image is now {image}"
                for image, (first, *more) in places.items()
            ),
        ),
    )


def _elsewhere(resources: ResourceSet) -> str:
    """Say that pods will look for the Coordinator where it might not be; nothing if all is clear."""
    named = sorted(
        {found.namespace for found in resources.confidential if found.namespace and not found.is_coordinator}
    )
    bare = next((found for found in resources.coordinators if not found.namespace), None)
    if bare is None or not named:
        return ""
    return (
        f"{bare.file.path}: {bare} names no namespace, so the pods of {', '.join(named)} ask for it in their own: "
        f"write metadata.namespace into every document of this file"
    )


def check_pods(resources: ResourceSet, names: Sequence[Path]) -> None:
    """Demand that there is something to do, and a Coordinator among it.

    Raises:
        RefusedError: there is not.
    """
    shown = ", ".join(str(name) for name in names)
    if not resources.confidential:
        raise RefusedError(
            f"{shown}: no pod has a runtimeClassName that begins with contrast-cc, so none is confidential"
        )
    if not resources.coordinators:
        raise RefusedError(
            f"{shown}: no confidential pod is annotated contrast.edgeless.systems/pod-role: coordinator; "
            "without a Coordinator nobody gets a certificate: add a copy of this project's k8s/coordinator.yml "
            "(docs/operations.md)"
        )


def pinned_image(images: ImageStore, reference: str) -> str:
    """Return *reference* with the digest of the image that the layouts hold under it.

    Raises:
        ImageError: none holds it, or it is unusable.
    """
    parsed = parse_reference(reference)
    _, image = images.find(parsed)
    named = ImageReference(registry=parsed.registry, repository=parsed.repository, tag=parsed.tag, digest=image.digest)
    return str(named)


@dataclass(frozen=True, slots=True)
class _Pin:
    """An image reference that gets a digest, or another one."""

    path: tuple[str | int, ...]
    before: str
    after: str


def _pins(workload: Workload, images: ImageStore, places: dict[str, list[str]], *, pin: bool) -> list[_Pin]:
    """Return the images without digest, and ours, which get the digest of the build that is there now.

    Lines that change are added to *places*, under the image that stands there then.
    """
    found: list[_Pin] = []
    problems: list[Problem] = []
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(workload.items(*workload.pod_path, kind)):
            image = container.get("image")
            if not isinstance(image, str) or container.get("name") == INITIALIZER:
                continue
            ours = image.startswith(OURS)
            if not ours and (not pin or "@" in image):
                continue  # Without a digest nothing is looked up: `policy` refuses it, and says what to write.
            path = (kind, index, "image")
            try:
                pinned = _our_build(images, image) if ours else f"{image}@{images.find(image)[1].digest}"
            except ImageError as error:
                problems.append(workload.pod_problem(path, str(error)))
                continue
            if pinned != image:
                found.append(_Pin(path, image, pinned))
                places.setdefault(pinned, []).append(f"{workload.file.path}:{workload.pod_line(*path)}")
    if problems:
        raise ResourceError(problems)
    return found


def _our_build(images: ImageStore, image: str) -> str:
    parsed = parse_reference(image)
    unpinned = ImageReference(registry=parsed.registry, repository=parsed.repository, tag=parsed.tag, digest=None)
    return pinned_image(images, str(unpinned))


def _with_pins(pod: dict[str, Data], pinned: Mapping[str, str]) -> dict[str, Data]:
    """Return the pod after injection with the pinned images, each found again by the image that it had."""
    for container in _containers(pod):
        if isinstance(image := container.get("image"), str):
            container["image"] = pinned.get(image, image)
    return pod


def _images(pod: dict[str, Data]) -> Iterator[str]:
    return (image for container in _containers(pod) if isinstance(image := container.get("image"), str))


def _containers(pod: dict[str, Data]) -> Iterator[dict[str, Data]]:
    for kind in ("initContainers", "containers"):
        containers = pod.get(kind)
        for container in containers if isinstance(containers, list) else []:
            if isinstance(container, dict):
                yield container
