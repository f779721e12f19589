"""Small deployments for the local node's tests: YAML with policies, images with one Python program."""

import base64
import textwrap
from collections.abc import Mapping
from pathlib import Path

from images.build import DEFAULT_PATH, File, ImageSpec, write_layout
from images.layout import ImageStore
from k8s.resources import POLICY, load_folder, read_resources
from policy.rego import policy_text

IMAGE = "contrast.invalid/test/app:v1"


def build(folder: Path, program: str, *, name: str = IMAGE, files: Mapping[str, str] | None = None) -> str:
    """Write an image that runs *program* (Python source) as /app/main.py; returns its pinned reference."""
    content = {"app/main.py": program, **(files or {})}
    spec = ImageSpec(
        files={path: File(data=textwrap.dedent(text).encode()) for path, text in content.items()},
        entrypoint=("python3", "/app/main.py"),
        env=(DEFAULT_PATH, "PYTHONDONTWRITEBYTECODE=1"),
    )
    return f"{name}@{write_layout(folder, {name: spec})[name]}"


def deployment(
    name: str, containers: str, *, replicas: int = 1, policy: str = "package agent_policy", more: str = ""
) -> str:
    """YAML of a Deployment; *containers* (and init containers) are lines of its pod spec."""
    encoded = base64.b64encode(policy.encode()).decode()
    return (
        textwrap.dedent(f"""\
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: {name}
        spec:
          replicas: {replicas}
          selector: {{matchLabels: {{app: {name}}}}}
          template:
            metadata:
              labels: {{app: {name}}}
              annotations:
                {POLICY}: {encoded}
            spec:
              runtimeClassName: contrast-cc
              terminationGracePeriodSeconds: 5
        """)
        + textwrap.indent(textwrap.dedent(containers), " " * 6)
        + textwrap.dedent(more)
    )


def coordinator(policy: str = "package agent_policy # the Coordinator's") -> str:
    """YAML of a Coordinator with a policy."""
    encoded = base64.b64encode(policy.encode()).decode()
    return textwrap.dedent(f"""\
        apiVersion: apps/v1
        kind: StatefulSet
        metadata:
          name: coordinator
          annotations:
            contrast.edgeless.systems/pod-role: coordinator
        spec:
          serviceName: coordinator
          selector: {{matchLabels: {{app: coordinator}}}}
          template:
            metadata:
              labels: {{app: coordinator}}
              annotations:
                {POLICY}: {encoded}
            spec:
              runtimeClassName: contrast-cc
              containers:
                - name: coordinator
                  image: contrast.invalid/contrast/coordinator:v0.1.0
        """)


def with_policies(folder: Path, images: Path) -> None:
    """Write into every confidential workload of *folder* the policy that `contrast generate` would give it."""
    resources = read_resources(load_folder([folder]))
    store = ImageStore([images])
    for workload in resources.confidential:
        pod = workload.pod_spec
        containers = [
            item
            for kind in ("initContainers", "containers")
            if isinstance(listed := pod.get(kind), list)
            for item in listed
            if isinstance(item, dict)
        ]
        references = {str(item["image"]) for item in containers}
        configs = {reference: store.config(reference) for reference in references}
        text = policy_text(workload, configs, resources=resources).text
        path = Path(workload.file.path)
        old = workload.policy_annotation or ""
        path.write_text(path.read_text().replace(old, base64.b64encode(text.encode()).decode()))
