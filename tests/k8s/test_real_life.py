"""YAML as charts, operators, meshes and people write it: a policy, or a refusal that a person agrees with."""

import json
from pathlib import Path
from typing import Any

import pytest

from k8s.resources import Workload, read_resources
from k8s.yamlfile import YamlFile
from policy.errors import UnsupportedError
from policy.podspec import expected_pod
from policy.rego import render
from policy.settings import Settings
from tests.k8s.test_inject import check_injection
from tests.policy.test_golden import DIGEST, IMAGE

FILES = sorted((Path(__file__).parent / "real").glob("*.yaml"))
# What is refused: field, and words of the reason or of what to write. A pod without an entry has a policy.
REFUSED: dict[str, list[tuple[str, str]]] = {
    "pg-secret": [("env[0].valueFrom.secretKeyRef", "mount the Secret as a volume")],
    "memcached-huge": [("limits.hugepages-2Mi", "remove it")],
    "train": [("limits['nvidia.com/gpu']", "devices")],
    "prod-kustomized": [("envFrom[0].configMapRef", "'app-config' is in none of the files")],
    "from-the-cluster": [("enableServiceLinks", "write enableServiceLinks: false")],
    "node-exporter": [
        ("hostNetwork", "remove the field"), ("hostPID", "remove the field"), ("mountPropagation", "remove the field"),
        ("volumes[0].hostPath.path", "remove the volume"),
    ],
    "debugged": [("ephemeralContainers", "remove the field")],
    "part-of-a-cache": [("subPath", "mount the whole volume")],
    "model-server": [("volumes[0].image", "put the files into the container's image")],
    "docker-in-docker": [("hostPath.path", "remove the volume"), ("hostPath.type", "network connection")],
}  # fmt: skip


def problems_of(workload: Workload, path: Path) -> list[str]:
    found = read_resources([YamlFile.parse(path.name, path.read_bytes())])
    pod: Any = json.loads(json.dumps(workload.pod_spec))
    configs = {}
    for container in (*(pod.get("initContainers") or ()), *pod["containers"]):
        container["image"] += f"@{DIGEST}"
        configs[container["image"]] = IMAGE
    try:
        assert render(expected_pod(workload, configs, pod=pod, resources=found, settings=Settings())).text
    except UnsupportedError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_has_a_policy_or_an_agreed_refusal(path: Path) -> None:
    workloads = read_resources([YamlFile.parse(path.name, path.read_bytes())]).workloads
    assert workloads
    for workload in workloads:
        problems = problems_of(workload, path)
        wanted = REFUSED.get(workload.name, [])
        assert len(problems) == len(wanted), (workload.name, problems)
        for problem, (field, words) in zip(problems, wanted, strict=True):
            assert problem.startswith(f"{path.name}:"), problem
            assert field in problem, problem
            assert words in problem, problem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_injected_by_insertion_alone(path: Path) -> None:
    check_injection(path.read_bytes())


def test_there_are_pods_of_all_walks_of_life() -> None:
    names = [
        workload.name
        for path in FILES
        for workload in read_resources([YamlFile.parse(path.name, path.read_bytes())]).workloads
    ]
    assert len(names) >= 30
    assert set(REFUSED) <= set(names)
