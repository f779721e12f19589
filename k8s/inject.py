"""What a confidential pod gets from us: Initializer, volume for its certificates, policy. Edits only, no text.

The policy describes the pod as it is after injection, so the order is: ``injected_pod``, the policy of that, then
``injection_edits`` with it. Both are pure, and both find nothing to do where everything stands already.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from k8s.edits import Edit, InsertItem, SetValue, apply_to_data
from k8s.nodes import Data
from k8s.problems import Path, Problem, ResourceError
from k8s.resources import INITDATA, POLICY, ResourceSet, Workload

INITIALIZER: Final = "contrast-initializer"
VOLUME: Final = "contrast-secrets"
MOUNT_PATH: Final = "/contrast"
HOST_VARIABLE: Final = "COORDINATOR_HOST"
SERVICE: Final = "coordinator-ready"
MEMORY: Final = "128Mi"  # Of the Initializer: its process has 53 MB with everything loaded, and keeps one small answer.
_COUNTED: Final = frozenset({"cpu", "memory", "ephemeral-storage"})  # Others (devices) are for who uses them.


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionSettings:
    """What the injected parts say.

    Attributes:
        initializer_image: Reference of the Initializer's image, pinned by digest.
        coordinator_host: Where the Initializer asks for a certificate, ``host`` or ``host:port``.
        runs_as: User and group of the containers that read its key, which nobody but its writer can; None leaves the
            Initializer with the pod's, or its image's.
    """

    initializer_image: str
    coordinator_host: str = SERVICE
    runs_as: tuple[int, int] | None = None


def coordinator_host(resources: ResourceSet) -> str:
    """Give the name under which pods reach the Coordinator of these files.

    The namespace is part of it only where the Coordinator's YAML names one; else all are applied to one namespace,
    which nobody has told us.
    """
    namespace = next((found.namespace for found in resources.coordinators if found.namespace), None)
    return f"{SERVICE}.{namespace}" if namespace else SERVICE


def injected_pod(workload: Workload, settings: InjectionSettings) -> dict[str, Data]:
    """Give the pod spec of *workload* as it is after injection; plain data, fresh.

    Raises:
        ResourceError: Something of the author's stands where ours must go; every such place.
    """
    pod = apply_to_data(workload.pod_spec, _pod_edits(workload, settings, ()))
    if not isinstance(pod, dict):
        raise TypeError("a pod spec is a mapping")
    return pod


def injection_edits(
    workload: Workload, settings: InjectionSettings, policy: str, *, annotation: str = POLICY
) -> tuple[Edit, ...]:
    """Give the edits of the workload's file that inject everything; none where nothing is missing or different.

    Args:
        workload: A confidential workload.
        settings: As for ``injected_pod``.
        policy: The runtime policy as the annotation holds it, in base64.
        annotation: Which annotation: ``POLICY`` or ``INITDATA``.

    Raises:
        ResourceError: Something of the author's stands where ours must go; every such place.
    """
    pod = _pod_edits(workload, settings, (*workload.path, *workload.pod_path))
    other = INITDATA if annotation == POLICY else POLICY
    if other in workload.mapping(*workload.template, "metadata", "annotations"):
        path = (*workload.template, "metadata", "annotations", other)
        message = (
            f"the policy of this pod goes into {annotation}, and a guest takes one of them: remove this annotation"
        )
        raise ResourceError([workload.problem(path, message)])
    return (*_policy_edit(workload, annotation, policy), *pod)


def _policy_edit(workload: Workload, annotation: str, policy: str) -> Iterator[Edit]:
    template = (*workload.path, *workload.template)
    present = workload.get(*workload.template, "metadata")
    metadata = present if isinstance(present, dict) else {}
    annotations = metadata.get("annotations")
    if not metadata:
        yield SetValue(
            document=workload.document, path=(*template, "metadata"), value={"annotations": {annotation: policy}}
        )
    elif not annotations or not isinstance(annotations, dict):
        path = (*template, "metadata", "annotations")
        yield SetValue(document=workload.document, path=path, value={annotation: policy})
    elif annotations.get(annotation) != policy:
        path = (*template, "metadata", "annotations", annotation)
        yield SetValue(document=workload.document, path=path, value=policy)


def _pod_edits(workload: Workload, settings: InjectionSettings, base: Path) -> tuple[Edit, ...]:
    if workload.is_coordinator or workload.skips_initializer:
        return ()
    injector = _Injector(workload, settings, base)
    edits = tuple(injector.edits())
    if injector.problems:
        raise ResourceError(injector.problems)
    return edits


class _Injector:
    def __init__(self, workload: Workload, settings: InjectionSettings, base: Path) -> None:
        self.workload = workload
        self.settings = settings
        self.base = base
        self.pod = workload.pod_spec
        self.problems: list[Problem] = []

    def edits(self) -> Iterator[Edit]:
        yield from self.initializer()
        yield from self.volume()
        for name in ("initContainers", "containers"):
            for index, container in enumerate(_mappings(self.pod.get(name))):
                if container.get("name") != INITIALIZER:
                    yield from self.mount((name, index), container)

    def set(self, path: Path, value: Data) -> Edit:
        return SetValue(document=self.workload.document, path=(*self.base, *path), value=value)

    def insert(self, path: Path, index: int, value: Data) -> Edit:
        return InsertItem(document=self.workload.document, path=(*self.base, *path), index=index, value=value)

    def refuse(self, path: Path, message: str) -> None:
        self.problems.append(self.workload.pod_problem(path, message))

    def append(self, path: Path, present: Data, value: Data) -> Edit:
        """Add to a list that may be missing, null or empty."""
        if isinstance(present, list) and present:
            return self.insert(path, len(present), value)
        return self.set(path, [value])

    # The container

    def initializer(self) -> Iterator[Edit]:
        wanted = self.wanted()
        present = self.pod.get("initContainers")
        names = [container.get("name") for container in _mappings(present)]
        misplaced = [index for index, name in enumerate(names) if name == INITIALIZER and index > 0]
        for index in misplaced:
            self.refuse(
                ("initContainers", index),
                f"{INITIALIZER} must be the first init container, so that the others find their certificates: "
                "remove it here, it is put first again",
            )
        for index, container in enumerate(_mappings(self.pod.get("containers"))):
            if container.get("name") == INITIALIZER:
                self.refuse(
                    ("containers", index, "name"), f"the name {INITIALIZER} is ours: name this container differently"
                )
        if misplaced:
            return
        if not names:
            yield self.set(("initContainers",), [wanted])
        elif names[0] != INITIALIZER:
            yield self.insert(("initContainers",), 0, wanted)
        else:
            yield from self.refresh(wanted, _mappings(present)[0])

    def wanted(self) -> dict[str, Data]:
        restrictions: dict[str, Data] = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        if self.settings.runs_as is not None:
            context = self.pod.get("securityContext")
            pod_wide = context if isinstance(context, dict) else {}
            user, group = self.settings.runs_as
            whom: dict[str, Data] = {"runAsUser": user, "runAsGroup": group}
            restrictions |= {name: number for name, number in whom.items() if pod_wide.get(name) != number}
        resources = self.resources()
        return {
            "name": INITIALIZER,
            "image": self.settings.initializer_image,
            "env": [{"name": HOST_VARIABLE, "value": self.settings.coordinator_host}],
            **({"resources": resources} if resources else {}),
            "volumeMounts": [_mount()],
            "securityContext": restrictions,
        }

    def resources(self) -> dict[str, Data]:
        """Requests and limits of the kinds that all containers have: quotas and the QoS class look at all of them.

        No more than that: a pod's size is the largest of its init containers and the sum of the others, so what the
        first of these has changes nothing. More processors would be another measurement of the guest.
        """
        containers = _mappings(self.pod.get("containers"))
        found: dict[str, Data] = {}
        limited: set[str] = set()
        for kind in ("limits", "requests"):
            listed = [_mapping(_mapping(container.get("resources")).get(kind)) for container in containers]
            shared: dict[str, Data] = {
                name: MEMORY if name == "memory" else value
                for name, value in (listed[0] if listed else {}).items()
                if name in _COUNTED
                and value is not None
                and (name in limited or all(one.get(name) is not None for one in listed))
            }
            limited = set(shared)
            if shared:
                found[kind] = shared
        return dict(sorted(found.items(), reverse=True))  # Requests first, as people write them.

    def refresh(self, wanted: dict[str, Data], present: dict[str, Data]) -> Iterator[Edit]:
        """Renew what is ours in the container that stands there; limits and the like stay as the author set them."""
        path: Path = ("initContainers", 0)
        for name in ("command", "args"):
            if name in present:
                self.refuse((*path, name), f"{INITIALIZER} runs what its image says: remove this field")
        if present.get("image") != wanted["image"]:
            yield self.set((*path, "image"), wanted["image"])
        for name in ("resources", "securityContext"):
            if name in wanted and name not in present:
                yield self.set((*path, name), wanted[name])
        environment = _mappings(present.get("env"))
        index = next((at for at, item in enumerate(environment) if item.get("name") == HOST_VARIABLE), None)
        variable: Data = {"name": HOST_VARIABLE, "value": self.settings.coordinator_host}
        if index is None:
            yield self.append((*path, "env"), present.get("env"), variable)
        elif environment[index] != variable:
            yield self.set((*path, "env", index), variable)
        yield from self.mount(path, present)

    # The volume and its mounts

    def volume(self) -> Iterator[Edit]:
        wanted: Data = {"name": VOLUME, "emptyDir": {"medium": "Memory"}}
        for index, volume in enumerate(_mappings(self.pod.get("volumes"))):
            if volume.get("name") == VOLUME:
                empty_dir = volume.get("emptyDir")
                if not isinstance(empty_dir, dict) or empty_dir.get("medium") != "Memory":
                    self.refuse(
                        ("volumes", index),
                        f"the volume {VOLUME} holds the pod's private key and must be an emptyDir with medium: Memory: "
                        "remove this one, it is written anew, or name it differently",
                    )
                return
        yield self.append(("volumes",), self.pod.get("volumes"), wanted)

    def mount(self, path: Path, container: dict[str, Data]) -> Iterator[Edit]:
        present = container.get("volumeMounts")
        for index, mount in enumerate(_mappings(present)):
            destination = mount.get("mountPath")
            if isinstance(destination, str) and destination.rstrip("/") == MOUNT_PATH:
                if mount.get("name") != VOLUME:
                    self.refuse(
                        (*path, "volumeMounts", index, "mountPath"),
                        f"{MOUNT_PATH} is where the certificates go: mount this volume elsewhere",
                    )
                return
        yield self.append((*path, "volumeMounts"), present, _mount())


def _mapping(value: Data) -> dict[str, Data]:
    return value if isinstance(value, dict) else {}


def _mount() -> dict[str, Data]:
    return {"name": VOLUME, "mountPath": MOUNT_PATH}


def _mappings(value: Data) -> list[dict[str, Data]]:
    """Give the mappings of a list whose shape was checked when it was read."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
