"""What the YAML of a deployment says about confidential pods, for `generate` and `set`; nothing is changed here."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.entries import Subject
from cli.errors import LocalFileError
from k8s.problems import Problem, ResourceError
from k8s.resources import INITDATA, POLICY, Resource, ResourceSet, Workload, load_folder, read_resources
from policy.carrier import measured_bytes
from policy.errors import PolicyTextError


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlPolicy:
    """A policy as it stands in an annotation."""

    digest: bytes
    text: bytes
    workload: str
    where: str


def read_deployment(paths: Sequence[Path]) -> ResourceSet:
    """Read all YAML under *paths*.

    Raises:
        ResourceError: with every fault.
        LocalFileError: a path does not exist.
    """
    demand_paths(paths)
    return read_resources(load_folder(paths))


def demand_paths(paths: Sequence[Path]) -> None:
    """Demand that there is something under every path that was given.

    Raises:
        LocalFileError: there is not; all such paths.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise LocalFileError(f"{', '.join(missing)}: no such file or folder")


def read_policies(paths: Sequence[Path]) -> tuple[YamlPolicy, ...]:
    """Return the policies in the annotations of all confidential pods under *paths*.

    Raises:
        ResourceError: the YAML is faulty, or a confidential pod has no policy.
    """
    found: list[YamlPolicy] = []
    problems: list[Problem] = []
    for workload in read_deployment(paths).confidential:
        try:
            text = annotated_policy(workload)
        except ResourceError as error:
            problems += error.problems
            continue
        if text is None:
            problems.append(_at_annotation(workload, f"{workload} has no policy: run `contrast generate` on this file"))
            continue
        found.append(
            YamlPolicy(digest=hashlib.sha256(text).digest(), text=text, workload=str(workload), where=where(workload))
        )
    if problems:
        raise ResourceError(problems)
    return tuple(found)


def annotated_policy(workload: Workload) -> bytes | None:
    """Return what HOSTDATA measures of the workload's policy (the policy, or initdata), None where it has none.

    Raises:
        ResourceError: the annotation cannot be unpacked.
    """
    try:
        return measured_bytes(workload.annotations)
    except PolicyTextError as error:
        raise ResourceError([_at_annotation(workload, str(error))]) from None


def subject(workload: Workload, resources: ResourceSet, *, policy: bytes, before: bytes | None) -> Subject:
    """Return what the manifest's entry for *workload* depends on.

    Args:
        workload: a confidential workload.
        resources: everything beside it.
        policy: SHA-256 of its policy.
        before: SHA-256 of the policy that its file carried.
    """
    group = workload.api_version if "/" in workload.api_version else f"core/{workload.api_version}"
    return Subject(
        name=workload.name,
        namespace=workload.namespace or "default",
        kind=f"{group}/{workload.kind}",
        services=services_of(workload, resources),
        digest=policy,
        before=before,
        coordinator=workload.is_coordinator,
        secret_id=workload.workload_secret_id,
        where=where(workload),
    )


def services_of(workload: Workload, resources: ResourceSet) -> tuple[str, ...]:
    """Return the names of the Services whose selector the pods of *workload* satisfy."""
    labels = workload.pod_metadata.get("labels")
    if not isinstance(labels, dict):
        return ()
    return tuple(
        service.name
        for service in resources.services
        if service.namespace == workload.namespace and _selects(service, labels)
    )


def where(resource: Resource) -> str:
    """Return file and line of *resource*."""
    return f"{resource.file.path}:{resource.line()}"


def _selects(service: Resource, labels: Mapping[str, object]) -> bool:
    selector = service.mapping("spec", "selector")
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _at_annotation(workload: Workload, message: str) -> Problem:
    name = INITDATA if INITDATA in workload.annotations else POLICY
    return workload.problem((*workload.template, "metadata", "annotations", name), message)
