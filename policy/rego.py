"""Writes the policy: fixed rules, then what this pod is expected to be; the same text for the same pod."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources as package_files
from typing import cast

from images.config import ImageConfig
from k8s.resources import ResourceSet, Workload
from policy.errors import PolicyTextError
from policy.layers import layered
from policy.model import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    DEFAULT_SYSCTLS,
    MASKED,
    READONLY,
    SHARED,
    Container,
    Pod,
    base_mounts,
    hidden_pairs,
)
from policy.podspec import expected_pod
from policy.reader import Table
from policy.settings import DEFAULT_SETTINGS, Settings
from policy.text import Hole, escape

_MARK = "\npolicy_data := "
_MAX_LINE = 60_000  # The agent's parser stops at 65 536 bytes a line.
_NAMED_CAPABILITIES = {DEFAULT_CAPABILITIES: "default", ALL_CAPABILITIES: "all", (): "none"}
# Annotations that either are compared elsewhere or say nothing to the guest.
_FREE_ANNOTATIONS = (
    "^io[.]katacontainers[.]pkg[.]oci[.](bundle_path|container_type)$"
    "|^io[.]kubernetes[.]cri[.](container-type|podsandbox[.]image-name|sandbox-(cpu-period|cpu-quota|cpu-shares|id"
    "|image-name|memory|name|namespace|uid))$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy; ``sha256`` of its UTF-8 text is the pod's HOSTDATA."""

    text: str
    sha256: bytes


def policy_text(
    workload: Workload,
    image_configs: Mapping[str, ImageConfig],
    *,
    pod: Table | None = None,
    resources: ResourceSet | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> Policy:
    """The policy of the pods of *workload*; arguments and errors as `policy.podspec.expected_pod`.

    Raises:
        UnsupportedError: everything in the pod that no policy of ours describes.
        PolicyTextError: a value too long for the agent's parser.
    """
    return render(expected_pod(workload, image_configs, pod=pod, resources=resources, settings=settings))


def render(pod: Pod) -> Policy:
    """The policy of *pod*.

    Raises:
        PolicyTextError: a value too long for the agent's parser.
    """
    rules = package_files.files("policy").joinpath("rules.rego").read_text("utf-8")
    if pod.layered:
        rules = layered(rules)
    data = json.dumps(_pod_data(pod), ensure_ascii=False, indent=1, sort_keys=True)
    text = f"{rules}{_MARK}{data}\n"
    for number, line in enumerate(text.split("\n"), 1):
        if len(line.encode()) > _MAX_LINE:
            raise PolicyTextError(
                f"line {number} of the policy would have {len(line.encode())} bytes, the agent reads {_MAX_LINE}: "
                f"shorten the argument or variable that begins with {line.strip()[:60]!r}"
            )
    return Policy(text=text, sha256=hashlib.sha256(text.encode()).digest())


def policy_data(text: str) -> dict[str, object]:
    """What a policy of ours expects.

    Raises:
        PolicyTextError: *text* is no policy of this program.
    """
    _, data = split_policy(text)
    try:
        found = json.loads(data.removeprefix(_MARK)) if data else None
    except (ValueError, RecursionError) as error:
        raise PolicyTextError(f"the expectations in the policy are no JSON: {error}") from error
    if not isinstance(found, dict) or not {"pod", "containers", "shared"} <= set(found):
        raise PolicyTextError(
            "this is no policy of this program: it holds no policy_data with pod, containers and shared"
        )
    return cast("dict[str, object]", found)


def split_policy(text: str) -> tuple[str, str]:
    """The rules, and the expectations with the name that the rules know them by."""
    rules, mark, data = text.partition(_MARK)
    return rules, mark + data


def _pod_data(pod: Pod) -> dict[str, object]:
    layers = {
        _image(container): [{"id": layer.name, "hash": layer.root_hash} for layer in container.layers]
        for container in pod.containers
    }
    return {
        "pod": {
            "name": {"pattern": pod.name},
            "namespace": _namespace(pod),
            "hostname": pod.hostname,
            "numbered": pod.numbered,
            "stem": pod.stem,
            "fs_group": pod.fs_group,
            "logs": pod.logs,
            "copies": _copies(pod.containers),
        },
        "containers": {container.key: _container_data(container) for container in pod.containers},
        "shared": {
            "annotations": dict(pod.annotations),
            "free_annotations": _FREE_ANNOTATIONS,
            "capabilities": {_capabilities_name(c.capabilities): list(c.capabilities) for c in pod.containers},
            "masked": {"yes": list(MASKED), "no": []},
            "readonly": {"yes": list(READONLY), "no": []},
            "sysctls": DEFAULT_SYSCTLS,
            "mounts": {
                base: {place: mount.data() for place, mount in base_mounts(base).items()}
                for base in {container.base for container in pod.containers}
            },
            **({"layers": layers} if pod.layered else {}),
        },
    }


def _namespace(pod: Pod) -> str | dict[str, str]:
    literal = pod.namespace.literal
    # Where the YAML names none, any namespace will do, but the same one for all containers: the state pins it.
    return {"pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"} if literal is None else literal


def _container_data(container: Container) -> dict[str, object]:
    variables = {name: (value.literal, value) for name, value in container.env.items()}
    free = {name: value for name, (literal, value) in variables.items() if literal is None}
    return {
        "kind": container.kind.value,
        "after": {"flag": container.after.flag, "key": container.after.key, "passed": container.after.passed},
        "image": _image(container),
        "args": [arg.data() for arg in container.args],
        "env": sorted(f"{name}={literal}" for name, (literal, _) in variables.items() if literal is not None),
        "env_patterns": {
            name: f"^{escape(name)}={value.pattern.removeprefix('^')}" for name, value in sorted(free.items())
        },
        **({"env_overridden": list(container.overridden)} if container.overridden else {}),
        **({"env_links": _links(container)} if container.links else {}),
        "cwd": container.cwd,
        "uid": container.uid,
        "gids": list(container.gids),
        "groups": [list(groups) for groups in container.groups],
        "capabilities": _capabilities_name(container.capabilities),
        "base": container.base,
        "mounts": {place: mount.data() for place, mount in container.mounts.items()},
        "below": [list(pair) for pair in hidden_pairs(sorted({*base_mounts(container.base), *container.mounts}))],
        "memory": [{"mount_point": m.mount_point, "options": list(m.options)} for m in container.memory],
        "disks": container.disks,
        "devices": list(container.devices),
        **({"gpus": container.gpus} if container.gpus else {}),
        "no_new_privileges": container.no_new_privileges,
        "readonly": container.readonly,
        "paths": "no" if container.privileged else "yes",
        "tty": container.tty,
        "oom": list(container.oom),
        "apparmor": list(container.apparmor),
        "sysctls": dict(container.sysctls),
        "exec": [list(command) for command in container.exec],
        "pidns": container.pidns,
    }


def _links(container: Container) -> dict[str, dict[str, str]]:
    """Variables of Services, as patterns, by the Service's name."""
    return {
        service: {
            name: f"^{escape(name)}={value.pattern.removeprefix('^')}" for name, value in sorted(variables.items())
        }
        for service, variables in sorted(container.links.items())
    }


def _image(container: Container) -> str:
    return "pause" if container.image is None else container.image.required_digest


def _capabilities_name(capabilities: tuple[str, ...]) -> str:
    return _NAMED_CAPABILITIES.get(capabilities) or ",".join(capabilities)


def _copies(containers: Iterable[Container]) -> str:
    """A pattern for the files that the node copies: prefix, and the last part of some mount's destination."""
    names: set[str] = set()
    for container in containers:
        for mount in (*base_mounts(container.base).values(), *container.mounts.values()):
            if mount.source is not None and Hole.RANDOM in mount.source.parts:
                names.add(str(mount.source.parts[-1]).removeprefix("-"))
    listed = "|".join(escape(name) for name in sorted(names))
    return f"^{escape(SHARED)}[a-z0-9][a-z0-9.-]{{0,127}}-[0-9a-f]{{16}}-({listed})(/[^/]+)*$"
