"""How fast policies are made and judged, and how large they are, beside what YAML alone costs and what others emit.

``policy.generate.200``: 200 Deployments of 5 containers over 40 images, from bytes to changed bytes; the limit
is reading and writing the same YAML with ruamel.yaml in the same run (limit / value counts: at least 0.4).
``policy.eval``: one CreateContainer of a pod with 5 containers x 200 variables, and loading that policy.
``policy.size``: what our policies of the published YAML expect, in bytes per container, beside the published data of
the common generator; its rules are not published with them, so rules count on neither side.
"""

import io
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ruamel.yaml import YAML

from cli.planning import Faults, plan_yaml
from images.config import Accounts, ImageConfig
from images.layout import ImageStore
from k8s.nodes import Data
from k8s.resources import Workload, read_resources
from k8s.yamlfile import YamlFile
from policy.errors import UnsupportedError
from policy.evaluate import PolicyEngine
from policy.podspec import expected_pod
from policy.rego import policy_text, render, split_policy
from policy.requests import PodFacts, Shim

DEPLOYMENTS, CONTAINERS, IMAGES = 200, 5, 40
ROUNDS = 3
VECTORS = Path(os.environ.get("CONTRAST_VECTORS") or Path(__file__).parents[2] / "shared" / "vectors")
CONFIG = ImageConfig(entrypoint=("/app",), env=("PATH=/bin", "LANG=C"), user="1000", accounts=Accounts())
INITIALIZER = f"registry.invalid/initializer@sha256:{'f' * 64}"


def image(number: int) -> str:
    """One of the images."""
    return f"registry.invalid/team/app-{number}:v1@sha256:{number:064x}"


def deployment(number: int) -> str:
    """A Deployment as people write them, with comments."""
    containers = "".join(
        f"""\
        - name: part-{index}
          image: {image((number * CONTAINERS + index) % IMAGES)}
          command: ["/app", "--name=$(POD)", "--port={8000 + index}"]
          env:
            - name: POD
              valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}
            - name: LEVEL  # how much is logged
              value: info
            - name: PEER
              value: "http://part-{index}.shop-{number}:8080/"
          ports:
            - containerPort: {8000 + index}
          readinessProbe:
            exec: {{command: ["/app", "ready"]}}
          resources:
            requests: {{cpu: 100m, memory: 64Mi}}
          volumeMounts:
            - name: cache
              mountPath: /var/cache/part-{index}
            - name: config
              mountPath: /etc/part
              readOnly: true
"""
        for index in range(CONTAINERS)
    )
    return f"""\
# Part {number} of the shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop-{number}
  namespace: shop
spec:
  replicas: 2
  selector:
    matchLabels: {{app: shop-{number}}}
  template:
    metadata:
      labels: {{app: shop-{number}}}
    spec:
      runtimeClassName: contrast-cc
      enableServiceLinks: false
      automountServiceAccountToken: false
      securityContext: {{runAsUser: 1000, runAsGroup: 1000}}
      containers:
{containers}      volumes:
        - name: cache
          emptyDir: {{medium: Memory}}
        - name: config
          configMap: {{name: shop}}
"""


def generate(texts: list[bytes]) -> int:
    """From bytes to changed bytes, with a policy in each; returns how many bytes changed files have."""
    resources = read_resources([YamlFile.parse(f"{n}.yml", text) for n, text in enumerate(texts)])
    configs = {**{image(number): CONFIG for number in range(IMAGES)}, INITIALIZER: CONFIG}

    def make(workload: Workload, pod: Mapping[str, Data]) -> bytes:
        return policy_text(workload, configs, pod=pod, resources=resources).text.encode()

    faults = Faults()
    plan = plan_yaml(resources, ImageStore([]), INITIALIZER, make, faults)
    faults.raise_if_any()
    if len(plan.changes) != len(texts) or len(plan.policies) != len(texts):
        raise RuntimeError("not every deployment got its policy")
    return sum(len(change.after) for change in plan.changes)


def yaml_alone(texts: list[bytes]) -> None:
    """Read and write the same files, changing nothing."""
    for text in texts:
        yaml = YAML()
        yaml.dump_all(list(yaml.load_all(text)), io.StringIO())


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """How long *work* takes, each time."""
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return found


def measure_generate() -> dict[str, float | str]:
    """The row ``policy.generate.200``."""
    texts = [deployment(number).encode() for number in range(DEPLOYMENTS)]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs += seconds(lambda: yaml_alone(texts), 1)
        ours += seconds(lambda: generate(texts), 1)
    value, limit = statistics.median(ours), statistics.median(theirs)
    return {
        "value": round(value, 2), "limit": round(limit, 2), "ratio": round(limit / value, 3), "unit": "s",
        "limit_is": "ruamel.yaml reads and writes the same files", "wanted": "ratio >= 0.4",
    }  # fmt: skip


def large_pod() -> str:
    """A pod with 5 containers of 200 variables each."""
    containers = []
    for index in range(CONTAINERS):
        env = ", ".join(f"{{name: VARIABLE_{n}, value: 'value {n} of container {index}'}}" for n in range(200))
        containers.append(f"{{name: part-{index}, image: '{image(index)}', env: [{env}]}}")
    security = "securityContext: {runAsUser: 1000, runAsGroup: 1000}"
    spec = (
        f"enableServiceLinks: false, runtimeClassName: contrast-cc, {security}, containers: [{', '.join(containers)}]"
    )
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: large}}\nspec: {{{spec}}}\n"


def measure_eval() -> dict[str, dict[str, float | str]]:
    """The rows ``policy.eval`` and ``policy.eval.load``."""
    (workload,) = read_resources([YamlFile.parse("large.yml", large_pod().encode())]).workloads
    pod = expected_pod(workload, {image(index): CONFIG for index in range(CONTAINERS)})
    text, shim = render(pod).text, Shim(pod, PodFacts(name="large"))
    rules, data = split_policy(text)
    # Another comment makes other rules of it, so nothing compiled before is found again.
    fresh = [f"{rules}\n# {number}\n{data}" for number in range(ROUNDS)]
    loads = [1000 * value for one in fresh for value in seconds(lambda one=one: PolicyEngine(one), 1)]  # type: ignore[misc]
    engine = PolicyEngine(text)
    engine.allow("CreateSandboxRequest", shim.create_sandbox())
    for container in pod.containers[:-1]:
        for endpoint, request in shim.begin(container.key):
            if not engine.allow(endpoint, request).allowed:
                raise RuntimeError(f"{endpoint} was denied")
    state, request = engine.state, shim.create_container(pod.containers[-1].key)
    times = []
    for _ in range(10):
        engine.restore(state)
        times += seconds(lambda: engine.allow("CreateContainerRequest", request), 1)
    if engine.state == state:
        raise RuntimeError("the request was denied")
    unit = {"unit": "ms", "bytes": str(len(text.encode()))}
    create, load = 1000 * statistics.median(times), statistics.median(loads)
    return {
        "policy.eval": {"value": round(create, 1), "limit": 50.0, "ratio": round(50 / create, 2), **unit},
        "policy.eval.load": {"value": round(load, 1), "limit": 100.0, "ratio": round(100 / load, 2), **unit},
    }


def measure_size() -> dict[str, float | str] | None:
    """The row ``policy.size``; None without the published YAML."""
    ours = theirs = containers = 0
    for folder in sorted(
        path.parent for path in (VECTORS / "genpolicy" / "_golden-msft-azl5").rglob("policy_data.json")
    ):
        resources = read_resources([YamlFile.parse("input.yaml", (folder / "input.yaml").read_bytes())])
        for workload in resources.workloads:
            pod = json.loads(json.dumps(workload.pod_spec))
            pod["enableServiceLinks"] = False
            listed = [*(pod.get("initContainers") or ()), *pod["containers"]]
            for container in listed:
                container["image"] += "" if "@" in container["image"] else f"@sha256:{0:064x}"
            images = {container["image"]: ImageConfig(entrypoint=("/x",), accounts=Accounts()) for container in listed}
            try:
                text = render(expected_pod(workload, images, pod=pod, resources=resources)).text
            except UnsupportedError:
                continue  # Refused, so there is nothing to compare; tests hold the table of these.
            ours += len(split_policy(text)[1].encode())
            theirs += (folder / "policy_data.json").stat().st_size
            containers += len(listed) + 1
    if not containers:
        return None
    return {
        "value": round(ours / containers), "limit": round(theirs / containers), "ratio": round(ours / theirs, 3),
        "unit": "bytes per container", "limit_is": "the common generator's policy data", "wanted": "ratio <= 0.6",
        "containers": containers,
    }  # fmt: skip


def rows() -> dict[str, dict[str, float | str]]:
    """The rows of build/bench.json."""
    found = {"policy.generate.200": measure_generate(), **measure_eval()}
    size = measure_size()
    return found if size is None else {**found, "policy.size": size}


if __name__ == "__main__":
    print(json.dumps(rows(), indent=2))
