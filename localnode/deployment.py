"""From Kubernetes YAML to the pods that a node would be asked to run; starts nothing and judges nothing.

What a pod may do stands in its policy, and what it shall do in the requests made from its YAML; here is only what the
node itself decides: how many pods, their names, Services, volumes, probes.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from k8s.nodes import Data
from k8s.resources import Resource, ResourceSet, Workload, load_folder, read_resources
from localnode.addresses import Service, ServicePort
from localnode.errors import PodNotFoundError, PolicyMissingError
from localnode.probes import Probe
from policy.carrier import measured_bytes, policy_in
from policy.errors import PolicyTextError
from policy.names import pod_names

DEFAULT_NAMESPACE = "default"
_MAX_REPLICAS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """One pod to be."""

    name: str
    workload: Workload
    policy: str
    measured: bytes
    index: int

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return self.workload.namespace or DEFAULT_NAMESPACE

    @property
    def id(self) -> str:
        """What tells the pod from all others here: its name, with its namespace unless that is the default one."""
        return self.name if self.namespace == DEFAULT_NAMESPACE else f"{self.name}.{self.namespace}"

    @property
    def host_data(self) -> bytes:
        """SHA-256 of the policy, or of the initdata around it: what the guest is launched with."""
        return hashlib.sha256(self.measured).digest()

    @property
    def labels(self) -> dict[str, str]:
        """The pod's labels."""
        return labels_of(self.workload)

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        value = self.workload.pod_spec.get("terminationGracePeriodSeconds")
        return float(value) if isinstance(value, int) and value >= 0 else 30.0

    @property
    def named_ports(self) -> dict[str, int]:
        """Container ports by name."""
        found: dict[str, int] = {}
        for container in self.containers("containers"):
            for port in _mappings(container.get("ports")):
                name, number = port.get("name"), port.get("containerPort")
                if isinstance(name, str) and isinstance(number, int):
                    found[name] = number
        return found

    def containers(self, kind: str) -> list[dict[str, Data]]:
        """The pod's ``initContainers`` or ``containers``, in order."""
        return _mappings(self.workload.pod_spec.get(kind))


def read_deployment(paths: Iterable[Path]) -> ResourceSet:
    """The objects of all YAML files below *paths*.

    Raises:
        ResourceError: with every fault of the files.
    """
    return read_resources(load_folder(paths))


def plan_pods(resources: ResourceSet) -> tuple[PodPlan, ...]:
    """Every confidential pod but the Coordinator's, replicas honoured, in the order of the files.

    Raises:
        PolicyMissingError: a workload has no policy yet.
    """
    plans: list[PodPlan] = []
    for workload in resources.confidential:
        if workload.is_coordinator:
            continue
        measured, policy = policy_of(workload)
        plans.extend(
            PodPlan(name=_pod_name(workload, index), workload=workload, policy=policy, measured=measured, index=index)
            for index in range(min(workload.replicas, _MAX_REPLICAS))
        )
    return tuple(plans)


def find_pod(resources: ResourceSet, name: str) -> PodPlan:
    """The first pod of the confidential workload called *name*, the Coordinator included.

    Raises:
        PodNotFoundError: there is none, or several in different namespaces.
        PolicyMissingError: it has no policy yet.
    """
    found = [workload for workload in resources.confidential if workload.name == name]
    if len(found) != 1:
        known = ", ".join(sorted(workload.name for workload in resources.confidential)) or "none at all"
        seen = "no" if not found else f"{len(found)} different"
        raise PodNotFoundError(f"{seen} confidential workload named {name!r} in the given files; there is {known}")
    measured, policy = policy_of(found[0])
    return PodPlan(name=_pod_name(found[0], 0), workload=found[0], policy=policy, measured=measured, index=0)


def policy_of(workload: Workload) -> tuple[bytes, str]:
    """What is measured of the workload's policy, and the policy's text.

    Raises:
        PolicyMissingError: there is none, or it cannot be read.
    """
    where = f"{workload.file.path}:{workload.line()}: {workload}"
    try:
        measured = measured_bytes(workload.annotations)
        if measured is None:
            raise PolicyMissingError(f"{where} has no policy in its annotations: run `contrast generate` first")
        return measured, policy_in(measured)
    except PolicyTextError as error:
        raise PolicyMissingError(f"{where}: {error}; run `contrast generate` again") from None


def labels_of(workload: Workload) -> dict[str, str]:
    """The labels of the workload's pods."""
    return {key: str(value) for key, value in _mapping(workload.pod_metadata.get("labels")).items()}


def read_services(resources: ResourceSet) -> tuple[Service, ...]:
    """The Services of the files. Ports of other protocols than TCP are not carried here."""
    return tuple(_service(resource) for resource in resources.services)


def readiness(container: dict[str, Data], named_ports: dict[str, int]) -> Probe | None:
    """The container's readiness probe; None when it has none that asks from outside (then running means ready)."""
    probe = _mapping(container.get("readinessProbe"))
    http, tcp = _mapping(probe.get("httpGet")), _mapping(probe.get("tcpSocket"))
    target = (http or tcp).get("port")
    port = named_ports.get(target) if isinstance(target, str) else target
    if not isinstance(port, int):
        return None
    path = http.get("path")
    return Probe(
        port=port,
        path=(path if isinstance(path, str) else "/") if http else None,
        scheme="HTTPS" if http.get("scheme") == "HTTPS" else "HTTP",
        period=_seconds(probe.get("periodSeconds"), 10.0),
        timeout=_seconds(probe.get("timeoutSeconds"), 1.0),
    )


def mounts(container: dict[str, Data], volumes: Path) -> dict[str, Path]:
    """Where each mount of the container lies: one folder below *volumes* for each volume of the pod."""
    found: dict[str, Path] = {}
    for mount in _mappings(container.get("volumeMounts")):
        name, destination = mount.get("name"), mount.get("mountPath")
        if isinstance(name, str) and isinstance(destination, str):
            # The names of YAML become names of folders: one component, whatever it holds.
            found["/" + str(PurePosixPath(destination)).strip("/")] = volumes / name.replace("/", "_").lstrip(".")
    return found


def _pod_name(workload: Workload, index: int) -> str:
    return pod_names(workload, index).example


def _service(resource: Resource) -> Service:
    ports: list[ServicePort] = []
    for port in resource.items("spec", "ports"):
        number, target = port.get("port"), port.get("targetPort")
        if isinstance(number, int) and port.get("protocol", "TCP") == "TCP":
            ports.append(ServicePort(port=number, target=target if isinstance(target, int | str) else number))
    selector = resource.mapping("spec", "selector")
    return Service(
        name=resource.name,
        namespace=resource.namespace or DEFAULT_NAMESPACE,
        selector=tuple(sorted((key, str(value)) for key, value in selector.items())),
        ports=tuple(ports),
        external=resource.get("spec", "type") == "LoadBalancer",
    )


def _seconds(value: Data, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _mapping(value: Data) -> dict[str, Data]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Data) -> list[dict[str, Data]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
