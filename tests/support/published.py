"""Requests that others published, in the form of today's agents, and the pods that they were for."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from images.config import ImageConfig
from images.reference import parse_reference
from k8s.resources import load_folder, read_resources
from k8s.yamlfile import YamlFile
from policy.podspec import expected_pod
from policy.requests import PodFacts, Request, Shim
from policy.settings import Settings
from tests.support.policies import Case, plain

Json = dict[str, Any]
DIGEST = "sha256:" + "7" * 64
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "emojivoto" / "deployment"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NO_SERVICE = Settings(kubernetes_service=False)  # The published requests come from nodes that add no variables.
IMAGES = {
    "pause": ImageConfig(entrypoint=("/pause",), env=(PATH,), user="65535:65535", working_dir="/"),
    "gid": ImageConfig(entrypoint=("/entrypoint.sh",), env=(PATH,), working_dir="/"),
    "busybox": ImageConfig(cmd=("sh",), env=(PATH,)),
}
CM1 = """
apiVersion: v1
kind: Pod
metadata: {name: cm1}
spec:
  runtimeClassName: kata-cc
  securityContext: {runAsUser: 2000, runAsGroup: 0}
  containers:
  - name: busybox
    image: mcr.microsoft.com/aks/e2e/library-busybox:master.220314.1-linux-amd64
    command: [/bin/sh]
    args: [-c, "while true; do echo hello; sleep 10; done"]
    env: [{name: CONFIG_MAP_VALUE1, valueFrom: {configMapKeyRef: {name: config-map1, key: simple_value1}}}]
    securityContext: {privileged: true}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-map1}
data: {simple_value1: value1}
"""
POLICY_JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: policy-job, namespace: kata-containers-k8s-tests}
spec:
  template:
    spec:
      runtimeClassName: kata-cc
      restartPolicy: Never
      containers:
      - name: hello
        image: quay.io/prometheus/busybox:latest
        command: [/bin/sh, -c, "sleep 120"]
        env: [{name: var1, value: val1}]
        securityContext: {readOnlyRootFilesystem: true}
"""
# Recorded lives: the published YAML, or one put together again from the policy data published with it.
RECORDED: dict[str, str] = {
    "pod-lifecycle": "pod/pod-lifecycle",
    "pod-same-containers": "pod/pod-same-containers",
    "pod-cm1": CM1,
    "k8s-policy-job": POLICY_JOB,
}
NOT_OURS = {
    # Files were judged in an older form, and images came as layers from the node: put into today's form below.
    "AllowRequestsFailingPolicy",
}


def linkless(text: str) -> str:
    """*text* for our runtime class, without variables of Services."""
    pattern = r"^( *)runtimeClassName: kata-cc[a-z-]*$"
    return re.sub(
        pattern, r"\1runtimeClassName: contrast-cc\n\1enableServiceLinks: false", text, count=1, flags=re.MULTILINE
    )


def read(folder: Path, name: str = "pod.yaml") -> str:
    text = linkless((folder / name).read_text())
    text = text.replace("value: 1\n", 'value: "1"\n')  # Kubernetes itself refuses the number.
    # The OOM score of the published request tells of a memory request that this YAML does not show.
    text = text.replace("  - name: gid\n", "  - name: gid\n    resources: {requests: {memory: 16Mi}}\n")
    text = text.replace("      mountPropagation: Bidirectional\n", "")  # Refused by ours: the host would mount there.
    # One emptyDir mounted three times is refused by ours; here it is three.
    for place in ("/mnt/test2", "/mnt/test3"):
        volume = place.replace("/mnt/", "volume-")
        if f"- mountPath: {place}\n      name: test-volume\n" in text:
            text = text.replace(
                f"- mountPath: {place}\n      name: test-volume\n", f"- mountPath: {place}\n      name: {volume}\n"
            )
            text = text.rstrip("\n") + f"\n  - name: {volume}\n    emptyDir: {{}}\n"
    return text


def life(text: str, facts: dict[str, Any], settings: Settings = NO_SERVICE) -> Case:
    """The first pod of *text*; images without a digest get one."""
    found = read_resources([YamlFile.parse("pod.yaml", text.encode())])
    workload = found.workloads[0]
    pod = json.loads(json.dumps(workload.pod_spec))
    configs = {}
    for container in pod["containers"]:
        if "@" not in container["image"]:
            container["image"] += f"@{DIGEST}"
        kind = next(kind for kind in IMAGES if kind in container["image"])
        configs[container["image"]] = IMAGES[kind]
    case = Case(workload=workload, pod=expected_pod(workload, configs, pod=pod, resources=found, settings=settings))
    case.shim = Shim(case.pod, PodFacts(**{"name": case.shim.facts.name, **facts}))
    return case


def example_pods() -> Iterator[Case]:
    """The demo's pods, each before its life."""
    found = read_resources(load_folder([EXAMPLE]))
    for workload in found.confidential:
        spec = workload.pod_spec
        containers = spec["containers"]
        assert isinstance(containers, list)
        pinned = {}
        for container in containers:
            assert isinstance(container, dict)
            if "@" not in str(container["image"]):
                container["image"] = f"{container['image']}@sha256:{'2' * 64}"
            pinned[str(container["image"])] = ImageConfig(entrypoint=("/app",), env=("PATH=/bin",))
        yield Case(workload=workload, pod=expected_pod(workload, pinned, pod=spec, resources=found))


def recorded_life(name: str, vectors: Path) -> tuple[Case, list[tuple[str, Request]]]:
    """A recorded life, with the images pulled in the guest, and a guest that it could begin in."""
    source = RECORDED[name]
    golden = vectors / "genpolicy" / "_golden-msft-azl5" / source
    text = linkless(source) if "\n" in source else read(golden, "input.yaml")
    recorded = json.loads((vectors / "genpolicy" / "_regorus-kata" / name / "requests.json").read_text())
    sandbox = next(r["request"] for r in recorded if r["kind"] == "CreateContainerRequest")
    annotations = sandbox["OCI"]["Annotations"]
    facts = {
        "name": annotations["io.kubernetes.cri.sandbox-name"],
        "namespace": annotations["io.kubernetes.cri.sandbox-namespace"],
        "uid": annotations["io.kubernetes.cri.sandbox-uid"],
        "sandbox_id": annotations["io.kubernetes.cri.sandbox-id"],
    }
    case = life(text, facts, Settings())
    steps: list[tuple[str, Request]] = []
    for entry in recorded:
        if entry["kind"] in NOT_OURS:
            continue
        request = plain(entry["request"])
        if entry["kind"] == "CreateContainerRequest":
            pulled_in_guest(request, case)
        if entry["kind"] == "CreateSandboxRequest":
            unshared(request)
        if entry["kind"] == "ExecProcessRequest":
            request.update(stdin_port=0, stdout_port=0, stderr_port=0)
            cast("Json", request["process"])["User"]["AdditionalGids"] = [0]
        if entry["kind"] == "CopyFileRequest":
            kinds = {0o040000: "Directory", 0o100000: "Regular", 0o120000: "Symlink"}
            request["file_type"] = kinds[cast("int", request["file_mode"]) & 0o170000]
            request["symlink_target"] = request.pop("symlink_src") or None
        steps.append((entry["kind"], request))
    return case, steps


def pulled_in_guest(request: Request, case: Case) -> None:
    """As today: the image is pulled in the guest, so the node sees no layers and no /etc/group."""
    oci = cast("Json", request["OCI"])
    annotations = oci["Annotations"]
    oci["Root"]["Path"] = root = f"/run/kata-containers/{request['container_id']}/rootfs"
    key = annotations.get("io.kubernetes.cri.container-name", "-")
    image = case.pod.container(key).image
    request.update(stdin_port=0, stdout_port=0, stderr_port=0)
    if image is not None:
        annotations["io.kubernetes.cri.image-name"] = image.pinned
        assert parse_reference(image.pinned).digest == image.digest
        oci["Process"]["User"]["AdditionalGids"] = [0]
    option = "image_guest_pull=" + json.dumps({"metadata": annotations})
    request["storages"] = [
        {
            "driver": "image_guest_pull", "driver_options": [option],
            "source": "pause" if image is None else image.pinned, "fstype": "overlay", "options": [],
            "mount_point": root,
            "fs_group": None, "shared": False,
        }
    ]  # fmt: skip


def unshared(request: Request) -> None:
    """As today: a confidential guest shares no folder with its node, files are copied."""
    storages = cast("list[Json]", request["storages"])
    request["storages"] = [storage for storage in storages if storage["driver"] != "virtio-fs"]
