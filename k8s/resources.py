"""Files to objects: finds what this system cares about and refuses what Kubernetes would refuse, all faults at once.

Kinds that are not named here, and YAML that is no Kubernetes object at all, pass through untouched and unread.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from k8s.nodes import Data
from k8s.objects import (
    ANNOTATION_PREFIX,
    INITDATA,
    POD_ROLE,
    POLICY,
    READ_LOGS,
    RUNTIME_CLASS,
    SKIP_INITIALIZER,
    WORKLOAD_SECRET_ID,
    Resource,
    ResourceSet,
    Workload,
    config_map_data,
    say,
    secret_data,
)
from k8s.problems import Path, Problem, ResourceError
from k8s.yamlfile import YamlFile

__all__ = [
    "ANNOTATION_PREFIX",
    "INITDATA",
    "POD_ROLE",
    "POLICY",
    "READ_LOGS",
    "RUNTIME_CLASS",
    "SKIP_INITIALIZER",
    "WORKLOAD_KINDS",
    "WORKLOAD_SECRET_ID",
    "Resource",
    "ResourceSet",
    "Workload",
    "config_map_data",
    "load_folder",
    "read_resources",
    "secret_data",
]

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
_GROUPS: Final = frozenset({"apps", "batch", "extensions"})  # Beside the core, which has no name.
_INPUT_KINDS: Final = frozenset({"ConfigMap", "Secret", "Service", "ServiceAccount"})
_REPLICATED: Final = frozenset({"Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"})


def load_folder(paths: Iterable[FilePath | str]) -> tuple[YamlFile, ...]:
    """Read every ``.yml`` and ``.yaml`` file named by or lying under *paths*, in a stable order, each once.

    So are ``.json`` files that hold an object of Kubernetes, as ``kubectl apply`` reads them. Hidden folders (``.git``,
    ``.contrast-dev``) are not entered; a file named outright is read whatever its name.

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
                raw = name.read_bytes()
                if (
                    name.suffix == ".json"
                    and name != FilePath(path)
                    and not (b'"kind"' in raw and b'"apiVersion"' in raw)
                ):
                    continue  # Somebody else's.
                files[os.path.realpath(name)] = YamlFile.parse(str(name), raw)
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
            if name.endswith((".yml", ".yaml", ".json")):
                yield FilePath(folder, name)


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
        group, slash, _ = str(data.get("apiVersion") or "").partition("/")
        if slash and group not in _GROUPS:
            return  # Another API's object of the same name, as a Job of Volcano or a Service of Knative.
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
        self.problems.append(resource.problem(path, f"{say(value)} where {wanted} is wanted{hint}"))

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
