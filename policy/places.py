"""Where in the YAML an expectation comes from, and what to change there; why a request is denied is told elsewhere."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from k8s.problems import Path, show_path
from k8s.resources import Workload
from policy.model import SANDBOX_KEY
from policy.reasons import CRI, MISSING, NODE, Data, Reason, get, items, table
from policy.servicelinks import SERVICE_LINKS

_AGAIN: Final = "then run `contrast generate` and set the new manifest"
# Which part of a request comes from which field of the pod spec: of the container (c) or of the pod (p), best first.
_FIELDS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (r"^OCI[.]Process[.]Args", ("c:args", "c:command")),
    (r"^process[.]Args", ("c:readinessProbe", "c:livenessProbe", "c:startupProbe", "c:lifecycle")),
    (r"[.]Env$", ("c:env", "c:envFrom")),
    (r"[.]Cwd$", ("c:workingDir",)),
    (r"[.]User[.]UID$", ("c:securityContext.runAsUser", "p:securityContext.runAsUser")),
    (r"[.]User[.]GID$", ("c:securityContext.runAsGroup", "p:securityContext.runAsGroup")),
    (r"[.]User[.]AdditionalGids$", ("p:securityContext.supplementalGroups", "p:securityContext.fsGroup")),
    (r"[.]NoNewPrivileges$", ("c:securityContext.allowPrivilegeEscalation",)),
    (r"[.]Capabilities", ("c:securityContext.capabilities", "c:securityContext.privileged")),
    (r"[.]ApparmorProfile$", ("c:securityContext.appArmorProfile", "p:securityContext.appArmorProfile")),
    (r"[.]OOMScoreAdj$", ("c:resources",)),
    (r"[.]Terminal$", ("c:tty",)),
    (r"^OCI[.]Root[.]Readonly$", ("c:securityContext.readOnlyRootFilesystem",)),
    (r"^sandbox_pidns$", ("p:shareProcessNamespace",)),
    (r"Sysctl", ("p:securityContext.sysctls",)),
    (r"^(hostname|OCI[.]Hostname)$", ("p:hostname",)),
    (r"^storages \(image_guest_pull\)[.]source$|^storages \((layers|overlay)\)|image-name$", ("c:image",)),
    (r"^devices$|^OCI[.]Linux[.]Devices$", ("c:volumeDevices",)),
    (r"^devices [(]GPUs[)]$|^OCI[.]Annotations[.]cdi[.]", ("c:resources",)),
    (r"^OCI[.]Mounts", ("c:volumeMounts",)),
    (r"^OCI[.]Linux[.](Masked|Readonly)Paths$", ("c:securityContext.privileged",)),
    (r"^storages", ("p:volumes",)),
)
_NAME: Final = re.compile(r"^\W*([^=\\ ]+)=")
_MOUNT: Final = re.compile(r"^OCI[.]Mounts\[(\d+)\]")
_SERVICE: Final = re.compile(r"^\"[A-Z0-9_]+_(SERVICE_(HOST|PORT)|PORT)\w*=")
_PLACE: Final = re.compile(r"(?:a mount at |emptyDir )(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A field of the author's YAML; *written* is false where it is not there and its default or the image decides."""

    file: str
    line: int
    path: str
    written: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path}" + ("" if self.written else " (not written there)")


def place_of(reason: Reason, workload: Workload, key: str, request: Data) -> Place | None:
    """The field of *workload* that the expectation behind *reason* comes from; None where only the node decides.

    Args:
        reason: Why a request was denied.
        workload: Whose policy denied it.
        key: The container that the request is about, SANDBOX_KEY for the pod itself.
        request: The request.
    """
    candidates = next((paths for pattern, paths in _FIELDS if re.search(pattern, reason.field)), ())
    if _of_service(reason):
        candidates = ("p:enableServiceLinks",)
    if not candidates or reason.source == NODE or reason.source.startswith("setting"):
        return None
    container = _container(workload, key)
    for candidate in candidates:
        scope, _, dotted = candidate.partition(":")
        path: Path = tuple(dotted.split("."))
        if scope == "c":
            if container is None:
                continue
            path = (*container, *path)
        path = _narrowed(workload, path, reason, request)
        if get(workload.pod_spec, *path) in (None, MISSING):
            continue
        return _place(workload, path, written=True)
    first = candidates[0].partition(":")
    nearest: Path = () if first[0] == "p" or container is None else container
    return _place(workload, (*nearest, *first[2].split(".")), written=False)


def container_of(data: Data, state: Data, request: Data) -> str:
    """The key of the container that *request* is about, SANDBOX_KEY where it is about the pod."""
    name = get(request, "OCI", "Annotations", f"{CRI}container-name")
    known = state.get(f"id:{get(request, 'container_id')}")
    for key in (name, known):
        if isinstance(key, str) and key in table(get(data, "containers")):
            return key
    return SANDBOX_KEY


def advice(reason: Reason, place: Place | None) -> str:
    """What a person can do about *reason*."""
    if _of_service(reason):
        return (
            "a variable that nodes make of a Service: apply the YAML as generated, with enableServiceLinks: false, or "
            f"name the Service in the annotation {SERVICE_LINKS} if the pod reads it; else the node added it on its own"
        )
    if "setting" in reason.source:
        return "it is the operator's choice when policies are generated"
    if place is None:
        return (
            "no field of the YAML allows this: the node or its runtime asks for something that an honest one does not "
            "ask for; compare its version with the one this release was tested with, else do not trust that node"
        )
    if not place.written:
        field = place.path.rpartition(".")[2]
        return f"if the pod is meant to have what was seen, write {field} there, {_AGAIN}; else the node changed it"
    return f"if the pod is meant to have what was seen, change that line, {_AGAIN}; else the node changed it"


def _of_service(reason: Reason) -> bool:
    """Whether a variable was seen that nodes make of Services, and none like it is expected."""
    return reason.wanted.startswith("no variable") and _SERVICE.search(reason.seen) is not None


def _container(workload: Workload, key: str) -> Path | None:
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(items(workload.pod_spec.get(kind))):
            if get(container, "name") == key:
                return (kind, index)
    return None


def _narrowed(workload: Workload, path: Path, reason: Reason, request: Data) -> Path:
    """The very item of a list, where the reason tells which."""
    found = items(get(workload.pod_spec, *path))
    for name in _names(path, reason, request):
        for index, item in enumerate(found):
            if name in (get(item, "name"), get(item, "mountPath")):
                return (*path, index)
    if path[-1] == "args" and (at := re.search(r"\[(\d+)\]$", reason.field)):
        index = int(at.group(1)) - len(items(get(workload.pod_spec, *path[:-1], "command")))
        if 0 <= index < len(found):
            return (*path, index)
    return path


def _names(path: Path, reason: Reason, request: Data) -> Iterator[str]:
    if path[-1] == "env":
        for text in (reason.seen, reason.wanted):
            if (named := _NAME.match(text)) is not None:
                yield named.group(1).lstrip('"^')
    if path[-1] in {"volumeMounts", "volumes"}:
        if (at := _MOUNT.match(reason.field)) is not None:
            yield str(get(request, "OCI", "Mounts", int(at.group(1)), "destination"))
        for text in (reason.wanted, reason.source):
            if (placed := _PLACE.search(text)) is not None:
                yield placed.group(1)


def _place(workload: Workload, path: Path, *, written: bool) -> Place:
    return Place(
        file=workload.file.path,
        line=workload.pod_line(*path),
        path=show_path((*workload.pod_path, *path)),
        written=written,
    )
