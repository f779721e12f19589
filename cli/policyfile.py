"""Finding the policy that a person means: a file of Rego, or YAML that carries one; nothing is judged here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.deployment import annotated_policy, read_deployment, where
from cli.errors import RefusedError, UsageFaultError
from cli.workspace import read_file
from k8s.resources import Workload
from policy.carrier import policy_in
from policy.names import pod_names
from policy.reasons import get
from policy.rego import policy_data

_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A policy, what it expects, and the workload that it was made for, where that is known."""

    name: str
    text: str
    data: dict[str, object]
    workload: Workload | None


def load_policy(path: Path, *, pod: str | None, yaml: Sequence[Path] = ()) -> Loaded:
    """Read the policy at *path*.

    Args:
        path: Rego text, an initdata document, or a YAML file or folder with annotated pods.
        pod: Which workload is meant, where there are several.
        yaml: Where to look for the workload of a policy given as Rego.

    Raises:
        UsageFaultError: several workloads are there and none is named.
        RefusedError: the YAML holds no such workload, or no policy.
        PolicyTextError: this is no policy of this program.
    """
    if path.is_dir() or path.suffix in {".yml", ".yaml"}:
        workload = _chosen(_confidential([path]), pod, path)
        measured = annotated_policy(workload)
        if measured is None:
            raise RefusedError(f"{where(workload)}: {workload} has no policy: run `contrast generate` on this file")
        return _loaded(f"{path} ({workload})", measured, workload)
    measured = read_file(path, what="policy", limit=_LIMIT)
    found = _loaded(str(path), measured, None)
    if not yaml:
        return found
    workloads = [workload for workload in _confidential(yaml) if pod in {None, workload.name}]
    same = [workload for workload in workloads if annotated_policy(workload) == measured]
    named = [workload for workload in workloads if _names(workload, found.data)]
    workload_ = next(iter(same or named), None)
    if workload_ is None:
        shown = ", ".join(map(str, yaml))
        raise RefusedError(f"{shown}: no confidential workload here is one that {path} was made for")
    return Loaded(name=found.name, text=found.text, data=found.data, workload=workload_)


def _loaded(name: str, measured: bytes, workload: Workload | None) -> Loaded:
    text = policy_in(measured)
    return Loaded(name=name, text=text, data=policy_data(text), workload=workload)


def _confidential(paths: Sequence[Path]) -> tuple[Workload, ...]:
    return read_deployment(paths).confidential


def _chosen(workloads: Sequence[Workload], pod: str | None, path: Path) -> Workload:
    found = [workload for workload in workloads if pod in {None, workload.name}]
    known = ", ".join(sorted(workload.name for workload in workloads)) or "none at all"
    if not found:
        raise RefusedError(f"{path}: no confidential workload{f' named {pod}' if pod else ''}; there is {known}")
    if len(found) > 1:
        raise UsageFaultError(f"{path} holds several confidential workloads: name one with --pod ({known})")
    return found[0]


def _names(workload: Workload, data: dict[str, object]) -> bool:
    pattern = pod_names(workload).pattern
    namespace = get(data, "pod", "namespace")
    return re.fullmatch(re.escape(pattern), str(get(data, "pod", "name", "pattern"))) is not None and (
        not isinstance(namespace, str) or namespace == workload.namespace
    )
