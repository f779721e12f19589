"""Kubernetes objects as this system sees them: workloads and what they refer to, each field with its line.

Shapes only: files are read and faults found elsewhere, what a pod may do is the policy's business, nothing is changed.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from k8s.nodes import Data
from k8s.problems import Path, Problem, ResourceError
from k8s.yamlfile import YamlFile

ANNOTATION_PREFIX: Final = "contrast.edgeless.systems/"
POD_ROLE: Final = ANNOTATION_PREFIX + "pod-role"
READ_LOGS: Final = ANNOTATION_PREFIX + "read-logs"
SKIP_INITIALIZER: Final = ANNOTATION_PREFIX + "skip-initializer"
WORKLOAD_SECRET_ID: Final = ANNOTATION_PREFIX + "workload-secret-id"
POLICY: Final = "io.katacontainers.config.agent.policy"
INITDATA: Final = "io.katacontainers.config.hypervisor.cc_init_data"
RUNTIME_CLASS: Final = "contrast-cc"


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
        resource.problem((name, key), f"{say(value)} where a text is wanted: put it in quotes")
        for key, value in values.items()
        if not isinstance(value, str)
    ]
    if problems:
        raise ResourceError(problems)
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _get(data: Data, path: Iterable[str | int]) -> Data:
    for part in path:
        if isinstance(data, dict) and isinstance(part, str):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and 0 <= part < len(data):
            data = data[part]
        else:
            return None
    return data


def say(value: Data) -> str:
    """Say what kind of value this is; a text is not shown, it may be a secret."""
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
