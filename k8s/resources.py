"""Kubernetes objects as this system sees them: workloads and what they refer to, each field with its line.

Reads files and judges shapes; what a pod may do is the policy's business, and nothing is changed here. Kinds that are
not named here pass through untouched and unread.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from k8s.nodes import Data
from k8s.problems import Path, Problem, ResourceError
from k8s.yamlfile import YamlFile

ANNOTATION_PREFIX: Final = "contrast.edgeless.systems/"
POD_ROLE: Final = ANNOTATION_PREFIX + "pod-role"
SKIP_INITIALIZER: Final = ANNOTATION_PREFIX + "skip-initializer"
WORKLOAD_SECRET_ID: Final = ANNOTATION_PREFIX + "workload-secret-id"
POLICY: Final = "io.katacontainers.config.agent.policy"
RUNTIME_CLASS: Final = "contrast-cc"

_TEMPLATE: Final[Mapping[str, Path]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
WORKLOAD_KINDS: Final = frozenset(_TEMPLATE)
_INPUT_KINDS: Final = frozenset({"ConfigMap", "Secret", "Service", "ServiceAccount"})
_REPLICATED: Final = frozenset({"Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One object of a file.

    Attributes:
        file: Where it stands.
        document: Index of its document.
        path: Path of the object in the document: empty, or into a List's items.
        data: The whole object as plain data, aliases and merge keys written out; not to be changed.
    """

    file: YamlFile
    document: int
    path: Path
    kind: str
    api_version: str
    name: str
    namespace: str | None
    data: dict[str, Data]

    def line(self, *path: str | int) -> int:
        """Give the line of a field of this object, or of the nearest existing thing above it."""
        return self.file.documents[self.document].line((*self.path, *path))

    def problem(self, path: Path, message: str) -> Problem:
        """Say what is wrong at *path* of this object."""
        return self.file.problem(self.document, (*self.path, *path), message)

    def get(self, *path: str | int) -> Data:
        """Give the value at *path* of this object, None where there is none."""
        return _get(self.data, path)

    def mapping(self, *path: str | int) -> dict[str, Data]:
        """Give the mapping at *path* of this object, an empty one where there is none."""
        value = self.get(*path)
        return value if isinstance(value, dict) else {}

    def items(self, *path: str | int) -> list[dict[str, Data]]:
        """Give the mappings listed at *path* of this object, an empty list where there are none."""
        value = self.get(*path)
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload(Resource):
    """An object that makes pods.

    Attributes:
        template: Path of the pod template within the object: it holds ``metadata`` and ``spec``.
        generate_name: ``metadata.generateName`` where the object has no name of its own; *name* is that text then.
        replicas: How many pods it asks for; 1 where the kind has no such number.
        annotations: Those of the pods, and of the object itself those of ours (``ANNOTATION_PREFIX``), which may stand
            at either.
    """

    template: Path
    generate_name: str | None
    replicas: int
    annotations: dict[str, str]

    @property
    def pod_path(self) -> Path:
        """Path of the pod spec within the object."""
        return (*self.template, "spec")

    @property
    def pod_spec(self) -> dict[str, Data]:
        """The pod spec as plain data."""
        return self.mapping(*self.pod_path)

    @property
    def pod_metadata(self) -> dict[str, Data]:
        """The pod's metadata (of a Pod: the object's) as plain data."""
        return self.mapping(*self.template, "metadata")

    @property
    def runtime_class(self) -> str | None:
        """``runtimeClassName`` of the pods."""
        value = self.pod_spec.get("runtimeClassName")
        return value if isinstance(value, str) else None

    @property
    def confidential(self) -> bool:
        """True where the pods run in confidential guests of ours."""
        return (self.runtime_class or "").startswith(RUNTIME_CLASS)

    @property
    def is_coordinator(self) -> bool:
        """True for the Coordinator, which gets no Initializer."""
        return self.annotations.get(POD_ROLE) == "coordinator"

    @property
    def skips_initializer(self) -> bool:
        """True where the author asks for no Initializer."""
        return self.annotations.get(SKIP_INITIALIZER) == "true"

    @property
    def workload_secret_id(self) -> str | None:
        """The secret id that the author asks for; a default is the caller's choice."""
        return self.annotations.get(WORKLOAD_SECRET_ID)

    @property
    def policy_annotation(self) -> str | None:
        """The policy as it stands in the pod's annotations, in base64."""
        return self.annotations.get(POLICY)

    def pod_line(self, *path: str | int) -> int:
        """Give the line of a field of the pod spec."""
        return self.line(*self.pod_path, *path)

    def pod_problem(self, path: Path, message: str) -> Problem:
        """Say what is wrong at *path* of the pod spec."""
        return self.problem((*self.pod_path, *path), message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSet:
    """Everything that the files of one run say, in the order of files and documents."""

    files: tuple[YamlFile, ...]
    workloads: tuple[Workload, ...]
    config_maps: tuple[Resource, ...]
    secrets: tuple[Resource, ...]
    services: tuple[Resource, ...]
    service_accounts: tuple[Resource, ...]

    @property
    def confidential(self) -> tuple[Workload, ...]:
        """The workloads whose pods run in confidential guests."""
        return tuple(workload for workload in self.workloads if workload.confidential)

    @property
    def coordinators(self) -> tuple[Workload, ...]:
        """The confidential workloads marked as Coordinator."""
        return tuple(workload for workload in self.confidential if workload.is_coordinator)


def load_folder(paths: Iterable[FilePath | str]) -> tuple[YamlFile, ...]:
    """Read every ``.yml`` and ``.yaml`` file named by or lying under *paths*, in a stable order, each once.

    Hidden folders (``.git``, ``.contrast-dev``) are not entered; a file named outright is read whatever its name.

    Raises:
        ResourceError: A path that does not exist or cannot be read, or YAML with faults: all of them.
    """
    files: dict[str, YamlFile] = {}
    problems: list[Problem] = []
    for path in paths:
        for name in _names(FilePath(path), problems):
            if os.path.realpath(name) in files:
                continue
            try:
                files[os.path.realpath(name)] = YamlFile.parse(str(name), name.read_bytes())
            except ResourceError as error:
                problems.extend(error.problems)
            except OSError as error:
                problems.append(Problem(file=str(name), line=0, path="", message=f"cannot be read: {error.strerror}"))
    if problems:
        raise ResourceError(problems)
    return tuple(files.values())


def read_resources(files: Iterable[YamlFile]) -> ResourceSet:
    """Find the objects of *files* and check their shape as far as this system relies on it.

    Raises:
        ResourceError: Every object with a shape that Kubernetes would refuse, and every object defined twice.
    """
    reader = _Reader()
    kept = tuple(files)
    for file in kept:
        for document in file.documents:
            reader.object(file, document.index, (), document.data, None)
    if reader.problems:
        raise ResourceError(reader.problems)
    of_kind = {kind: tuple(found for found in reader.inputs if found.kind == kind) for kind in _INPUT_KINDS}
    return ResourceSet(
        files=kept, workloads=tuple(reader.workloads), config_maps=of_kind["ConfigMap"], secrets=of_kind["Secret"],
        services=of_kind["Service"], service_accounts=of_kind["ServiceAccount"],
    )  # fmt: skip


def config_map_data(config_map: Resource) -> dict[str, str]:
    """Give the texts of a ConfigMap (``data``; ``binaryData`` has no text).

    Raises:
        ResourceError: A value that is no text.
    """
    return _texts(config_map, "data")


def secret_data(secret: Resource) -> dict[str, bytes]:
    """Give the values of a Secret: ``data`` decoded, overridden by ``stringData``. Never log them.

    Raises:
        ResourceError: A value that is not base64, or no text; the message does not show it.
    """
    values: dict[str, bytes] = {}
    problems = []
    for key, text in _texts(secret, "data").items():
        try:
            values[key] = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            problems.append(secret.problem(("data", key), "not base64: encode the value, or write it under stringData"))
    if problems:
        raise ResourceError(problems)
    values.update({key: text.encode() for key, text in _texts(secret, "stringData").items()})
    return values


def _texts(resource: Resource, name: str) -> dict[str, str]:
    values = resource.mapping(name)
    problems = [
        resource.problem((name, key), f"{_say(value)} where a text is wanted: put it in quotes")
        for key, value in values.items()
        if not isinstance(value, str)
    ]
    if problems:
        raise ResourceError(problems)
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _names(path: FilePath, problems: list[Problem]) -> Iterator[FilePath]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        problems.append(Problem(file=str(path), line=0, path="", message="no such file or folder"))
        return

    def unreadable(error: OSError) -> None:
        message = f"cannot be read: {error.strerror}"
        problems.append(Problem(file=str(error.filename), line=0, path="", message=message))

    for folder, folders, names in os.walk(path, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith((".yml", ".yaml")):
                yield FilePath(folder, name)


def _get(data: Data, path: Iterable[str | int]) -> Data:
    for part in path:
        if isinstance(data, dict) and isinstance(part, str):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and 0 <= part < len(data):
            data = data[part]
        else:
            return None
    return data


def _say(value: Data) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {'true' if value else 'false'}"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "a mapping"


@dataclass(slots=True)
class _Reader:
    workloads: list[Workload] = field(default_factory=list)
    inputs: list[Resource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen: dict[tuple[str, str | None, str], Resource] = field(default_factory=dict)

    def object(self, file: YamlFile, document: int, path: Path, data: Data, default_kind: str | None) -> None:
        if not isinstance(data, dict):
            return  # Not a Kubernetes object: someone else's YAML.
        kind = data.get("kind", default_kind)
        if not isinstance(kind, str):
            return
        items = data.get("items")
        if kind.endswith("List") and isinstance(items, list):
            for index, item in enumerate(items):
                self.object(file, document, (*path, "items", index), item, kind.removesuffix("List") or None)
            return
        if kind not in WORKLOAD_KINDS and kind not in _INPUT_KINDS:
            return
        metadata = data.get("metadata")
        named = metadata if isinstance(metadata, dict) else {}
        resource = Resource(
            file=file, document=document, path=path, kind=kind, api_version=str(data.get("apiVersion") or ""),
            name=str(named.get("name") or named.get("generateName") or ""),
            namespace=str(named["namespace"]) if named.get("namespace") is not None else None, data=data,
        )  # fmt: skip
        before = len(self.problems)
        self.check_metadata(resource)
        workload = self.workload(resource) if kind in WORKLOAD_KINDS else None
        if len(self.problems) > before:
            return
        self.check_unique(resource, generated=named.get("name") is None)
        if workload is not None:
            self.workloads.append(workload)
        else:
            self.inputs.append(resource)

    def wrong(self, resource: Resource, path: Path, wanted: str) -> None:
        value = resource.get(*path)
        hint = ": put it in quotes" if wanted == "a text" and isinstance(value, int | float) else ""
        self.problems.append(resource.problem(path, f"{_say(value)} where {wanted} is wanted{hint}"))

    def check_metadata(self, resource: Resource) -> None:
        if not isinstance(resource.get("metadata"), dict):
            self.wrong(resource, ("metadata",), "a mapping")
            return
        for name in ("name", "namespace", "generateName"):
            value = resource.get("metadata", name)
            if value is not None and not isinstance(value, str):
                self.wrong(resource, ("metadata", name), "a text")
        if not resource.name:
            self.problems.append(resource.problem(("metadata", "name"), f"this {resource.kind} has no name"))

    def check_unique(self, resource: Resource, *, generated: bool) -> None:
        key = (resource.kind, resource.namespace, resource.name)
        first = self.seen.setdefault(key, resource)
        if first is not resource and not generated:
            where = f"{first.file.path}:{first.line()}"
            self.problems.append(
                resource.problem(("metadata", "name"), f"{resource} is defined a second time, first in {where}")
            )

    def workload(self, resource: Resource) -> Workload | None:
        template = _TEMPLATE[resource.kind]
        spec_path = (*template, "spec")
        if not isinstance(resource.get(*spec_path), dict):
            self.wrong(resource, spec_path, "a pod spec")
            return None
        self.check_pod(resource, spec_path)
        pods = self.annotations(resource, (*template, "metadata", "annotations"))
        objects = self.annotations(resource, ("metadata", "annotations")) if template else pods
        own = {key: value for key, value in objects.items() if key.startswith(ANNOTATION_PREFIX)}
        for key in own.keys() & pods.keys():
            if own[key] != pods[key]:
                self.problems.append(
                    resource.problem(
                        (*template, "metadata", "annotations", key),
                        f"{pods[key]!r} here and {own[key]!r} in line {resource.line('metadata', 'annotations', key)}: "
                        "write the annotation once",
                    )
                )
        named = resource.mapping("metadata")
        generate_name = named.get("generateName") if named.get("name") is None else None
        return Workload(
            file=resource.file, document=resource.document, path=resource.path, kind=resource.kind,
            api_version=resource.api_version, name=resource.name, namespace=resource.namespace, data=resource.data,
            template=template, generate_name=generate_name if isinstance(generate_name, str) else None,
            replicas=self.replicas(resource), annotations={**own, **pods},
        )  # fmt: skip

    def replicas(self, resource: Resource) -> int:
        path: Path = ("spec", "replicas") if resource.kind in _REPLICATED else ("spec", "parallelism")
        if resource.kind not in _REPLICATED and resource.kind != "Job":
            return 1
        value = resource.get(*path)
        if value is None:
            return 1
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.wrong(resource, path, "a number from 0 up")
            return 1
        return value

    def annotations(self, resource: Resource, path: Path) -> dict[str, str]:
        value = resource.get(*path)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(resource, path, "a mapping")
            return {}
        for key, text in value.items():
            if not isinstance(text, str):
                self.wrong(resource, (*path, key), "a text")
        return {key: text for key, text in value.items() if isinstance(text, str)}

    def check_pod(self, resource: Resource, path: Path) -> None:
        metadata = resource.get(*path[:-1], "metadata")
        if metadata is not None and not isinstance(metadata, dict):
            self.wrong(resource, (*path[:-1], "metadata"), "a mapping")
        runtime_class = resource.get(*path, "runtimeClassName")
        if runtime_class is not None and not isinstance(runtime_class, str):
            self.wrong(resource, (*path, "runtimeClassName"), "a text")
        if not resource.items(*path, "containers"):
            self.problems.append(resource.problem((*path, "containers"), "a pod has at least one container"))
        for name in ("containers", "initContainers", "volumes"):
            self.check_named(resource, (*path, name))
        for name in ("containers", "initContainers"):
            for index, _ in enumerate(resource.items(*path, name)):
                self.check_list(resource, (*path, name, index, "volumeMounts"))
                self.check_list(resource, (*path, name, index, "env"))

    def check_list(self, resource: Resource, path: Path) -> bool:
        value = resource.get(*path)
        if value is None:
            return False
        if not isinstance(value, list):
            self.wrong(resource, path, "a list")
            return False
        bad = [index for index, item in enumerate(value) if not isinstance(item, dict)]
        for index in bad:
            self.wrong(resource, (*path, index), "a mapping")
        return not bad

    def check_named(self, resource: Resource, path: Path) -> None:
        if not self.check_list(resource, path):
            return
        seen: dict[str, int] = {}
        for index, item in enumerate(resource.items(*path)):
            name = item.get("name")
            if not isinstance(name, str) or not name:
                self.wrong(resource, (*path, index, "name"), "a name")
            elif seen.setdefault(name, index) != index:
                message = f"the name {name!r} stands in line {resource.line(*path, seen[name])} already"
                self.problems.append(resource.problem((*path, index, "name"), message))
