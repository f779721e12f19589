"""Kubernetes YAML of every kind that others published: a policy, or a refusal that a person agrees with.

Two things are done first, because `generate` does one and demands the other: images get a digest, and a pod that says
nothing about ``enableServiceLinks`` gets ``false``.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from images.config import Accounts, ImageConfig
from k8s.resources import ResourceSet, Workload, read_resources
from k8s.yamlfile import YamlFile
from policy.errors import Unsupported, UnsupportedError
from policy.model import Pod
from policy.podspec import expected_pod
from policy.rego import render
from policy.settings import Settings

DIGEST = "sha256:" + "7" * 64
IMAGE = ImageConfig(entrypoint=("/entry",), env=("PATH=/bin",), accounts=Accounts())
SERVICE_LINKS = ("enableServiceLinks", "the node would add variables for every Service")
# What is refused: field, and words of the reason or of what to write. A pod without an entry has a policy.
REFUSED: dict[str, list[tuple[str, str]]] = {
    "job/test-job": [
        ("env[0].valueFrom.fieldRef.fieldPath", "the cluster would choose the value"),
    ],
    # A storage driver for nodes: it wants the node's devices.
    "kubernetes/conformance/csi-hostpath-plugin": [
        ("volumes[5].hostPath.path", "of these files the guest has its own"),
        ("volumeMounts[4].mountPath", "/dev belongs to the kernel"),
    ],
    "webhook/webhook-pod1": [SERVICE_LINKS],
    "webhook/webhook-pod3": [SERVICE_LINKS],
    "webhook/webhook-pod5": [SERVICE_LINKS, ("env[0].valueFrom.secretKeyRef", "--publish-secret-values")],
    "webhook2/webhook-pod12": [SERVICE_LINKS],
    "webhook2/webhook-pod13": [SERVICE_LINKS],
}  # fmt: skip
NO_PODS = {"kubernetes/fixtures/limits"}  # A LimitRange makes none; it passes through untouched.


def read(folder: Path) -> ResourceSet:
    return read_resources([YamlFile.parse("input.yaml", (folder / "input.yaml").read_bytes())])


def described(workload: Workload, found: ResourceSet) -> Pod:
    pod: Any = json.loads(json.dumps(workload.pod_spec))
    pod.setdefault("enableServiceLinks", False)
    configs = {}
    for container in (*(pod.get("initContainers") or ()), *pod["containers"]):
        container["image"] += "" if "@" in container["image"] else f"@{DIGEST}"
        configs[container["image"]] = IMAGE
    return expected_pod(workload, configs, pod=pod, resources=found, settings=Settings())


def test_every_published_yaml_has_a_policy_or_an_agreed_refusal(vectors: Path) -> None:
    """An unknown field that passes silently, or a refusal without a reason, would show here."""
    root = vectors / "genpolicy" / "_golden-msft-azl5"
    folders = sorted(path.parent for path in root.rglob("input.yaml"))
    assert len(folders) >= 20
    made = 0
    for folder in folders:
        name = str(folder.relative_to(root))
        found = read(folder)
        assert bool(found.workloads) != (name in NO_PODS), name
        problems: list[Unsupported] = []
        for workload in found.workloads:
            try:
                pod = described(workload, found)
            except UnsupportedError as error:
                problems += error.problems
            else:
                made += 1
                assert render(pod).text
                same_arguments(pod, workload, folder)
        expected = REFUSED.get(name, [])
        assert len(problems) == len(expected), (name, problems)
        for field, words in expected:
            assert any(one.path.endswith(field) and words in f"{one.reason}; {one.instead}" for one in problems), (
                name, field, problems,
            )  # fmt: skip
        assert all(problem.line > 0 for problem in problems)
    assert made == len(folders) - len(REFUSED) - len(NO_PODS)


def same_arguments(pod: Pod, workload: Workload, folder: Path) -> None:
    """Containers, and where the YAML gives the command, arguments and user: as the published policy has them."""
    golden = folder / "policy_data.json"
    if not golden.exists():
        return
    theirs = json.loads(golden.read_text())["containers"]
    assert len(theirs) == len(pod.containers)
    written = [*workload.items(*workload.pod_path, "initContainers"), *workload.items(*workload.pod_path, "containers")]
    named = {one["OCI"]["Annotations"].get("io.kubernetes.cri.container-name"): one for one in theirs}
    for ours, yaml in zip(pod.containers[1:], written, strict=True):
        their = named[ours.key]
        if "command" in yaml:
            plain = [arg for arg in their["OCI"]["Process"]["Args"] if "$(" not in arg]
            assert plain == [arg.literal for arg in ours.args if arg.literal and "$(" not in arg.literal]
        if "securityContext" in yaml and "runAsUser" in str(yaml["securityContext"]):
            assert ours.uid == their["OCI"]["Process"]["User"]["UID"]
        assert ours.no_new_privileges == their["OCI"]["Process"]["NoNewPrivileges"]


ONE_LINE = sorted(name for name, places in REFUSED.items() if set(places) <= {SERVICE_LINKS})


@pytest.mark.parametrize("name", ONE_LINE)
def test_what_the_refusals_ask_for_is_possible(name: str, vectors: Path) -> None:
    """Advice that leads to the next refusal would be none: where a line is asked for, it is enough."""
    folder = vectors / "genpolicy" / "_golden-msft-azl5" / name
    text = (folder / "input.yaml").read_text().replace("enableServiceLinks: true", "enableServiceLinks: false")
    found = read_resources([YamlFile.parse("input.yaml", text.encode())])
    (workload,) = found.workloads
    assert render(described(workload, found)).text
