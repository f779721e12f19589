"""Pods for the policy's tests: YAML in, expectation, policy, an honest shim and an engine out."""

import atexit
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from images.config import ImageConfig, VerityLayer
from k8s.resources import ResourceSet, Workload, read_resources
from k8s.yamlfile import YamlFile
from policy.evaluate import Decision, PolicyEngine
from policy.explain import reasons
from policy.model import SANDBOX_KEY, Pod
from policy.names import pod_names
from policy.podspec import expected_pod
from policy.reasons import get
from policy.rego import Policy, policy_data, render
from policy.requests import PodFacts, Request, Shim
from policy.settings import DEFAULT_SETTINGS, Settings
from tests.support.regorus import regorus_answers

DIGEST = "sha256:" + "1" * 64
IMAGE = f"registry.invalid/app:v1@{DIGEST}"
CONFIG = ImageConfig(entrypoint=("/app",), cmd=("--serve",), env=("PATH=/bin", "LEVEL=info"), user="1000:1000")
Mutation = Callable[[Request], None]
# The same image, and a pause image, as layers that the node hands over: lowest first.
LAYERED_CONFIG = replace(
    CONFIG, layers=tuple(VerityLayer(name=n * 64, root_hash=h * 64) for n, h in (("a", "1"), ("b", "2"), ("c", "3")))
)
LAYERED = Settings(pause_layers=(VerityLayer(name="d" * 64, root_hash="4" * 64),))

# Every kind of thing that a policy expresses, in one pod.
RICH = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  template:
    metadata:
      labels: {{app: web}}
      annotations: {{note: 'a "quoted" value'}}
    spec:
      runtimeClassName: contrast-cc
      enableServiceLinks: false
      automountServiceAccountToken: false
      shareProcessNamespace: true
      securityContext:
        runAsUser: 1000
        runAsGroup: 1000
        fsGroup: 2000
        sysctls: [{{name: net.core.somaxconn, value: "1024"}}]
      initContainers:
        - name: first
          image: {IMAGE}
          volumeMounts: [{{name: secrets, mountPath: /contrast}}]
        - name: second
          image: {IMAGE}
          args: ["--prepare"]
        - name: helper
          image: {IMAGE}
          restartPolicy: Always
      containers:
        - name: web
          image: {IMAGE}
          command: ["/bin/web", "--name=$(POD)", "--literal=$$(POD)", "--missing=$(NOPE)"]
          args: ["--text=a.b*c[\\"x\\"]\\n\\u00e9"]
          env:
            - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
            - {{name: NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}
            - {{name: ADDRESS, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
            - {{name: URL, value: "http://$(ADDRESS):80/$(POD)"}}
            - {{name: NOTE, valueFrom: {{fieldRef: {{fieldPath: "metadata.annotations['note']"}}}}}}
            - {{name: CPUS, valueFrom: {{resourceFieldRef: {{resource: limits.cpu}}}}}}
            - {{name: LEVEL, value: debug}}
          readinessProbe: {{exec: {{command: ["/bin/ready"]}}}}
          lifecycle: {{preStop: {{exec: {{command: ["/bin/stop", "now"]}}}}}}
          resources: {{limits: {{cpu: 500m, memory: 64Mi}}}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL], add: [NET_BIND_SERVICE]}}
          volumeMounts:
            - {{name: secrets, mountPath: /contrast}}
            - {{name: cache, mountPath: /var/cache}}
            - {{name: spool, mountPath: /var/cache/spool}}
            - {{name: config, mountPath: /etc/web}}
            - {{name: data, mountPath: /data}}
          volumeDevices: [{{name: raw, devicePath: /dev/raw}}]
        - name: other
          image: {IMAGE}
          volumeMounts: [{{name: cache, mountPath: /cache, readOnly: true}}]
      volumes:
        - {{name: secrets, emptyDir: {{medium: Memory}}}}
        - {{name: cache, emptyDir: {{}}}}
        - {{name: spool, emptyDir: {{}}}}
        - {{name: config, configMap: {{name: web}}}}
        - {{name: data, persistentVolumeClaim: {{claimName: data}}}}
        - {{name: raw, persistentVolumeClaim: {{claimName: raw}}}}
"""


def resources(*texts: str) -> ResourceSet:
    """What *texts*, as files ``pod0.yml`` and so on, define."""
    return read_resources([YamlFile.parse(f"pod{n}.yml", text.encode()) for n, text in enumerate(texts)])


def simple_pod(spec: str = "", container: str = "", *, name: str = "web", kind: str = "Pod") -> str:
    """A pod with one container; *spec* and *container* are further lines in flow style (``a: 1, b: 2``)."""
    more = f", {container}" if container else ""
    pod = f"{{enableServiceLinks: false, runtimeClassName: contrast-cc, {spec + ',' if spec else ''} containers: "
    pod += f"[{{name: app, image: '{IMAGE}', securityContext: {{runAsUser: 1000, runAsGroup: 1000}}{more}}}]}}"
    body = f"spec: {pod}" if kind == "Pod" else f"spec: {{template: {{spec: {pod}}}}}"
    return f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\n{body}\n"


def pod_of(
    *texts: str,
    image: ImageConfig = CONFIG,
    settings: Settings = DEFAULT_SETTINGS,
    images: Mapping[str, ImageConfig] | None = None,
) -> tuple[Workload, Pod]:
    """The first workload of *texts* and its expectation."""
    found = resources(*texts)
    workload = found.workloads[0]
    configs = {IMAGE: image} if images is None else images
    return workload, expected_pod(workload, configs, resources=found, settings=settings)


@dataclass
class Case:
    """One pod that lives: its policy, an honest shim, an engine whose state grows."""

    workload: Workload
    pod: Pod
    policy: Policy = field(init=False)
    shim: Shim = field(init=False)
    engine: PolicyEngine = field(init=False)

    def __post_init__(self) -> None:
        self.policy = render(self.pod)
        name = pod_names(self.workload).example
        self.shim = Shim(self.pod, PodFacts(name=name, namespace=self.pod.namespace.literal or "default"))
        self.engine = PolicyEngine(self.policy.text)

    def ask(self, endpoint: str, request: Request) -> Decision:
        """Ask, and hold the explanation to the answer: it finds something exactly where the Rego denies.

        Where the agent's own interpreter is on this machine, its answer is the same.
        """
        state = self.engine.state
        decision = self.engine.allow(endpoint, request)
        for allowed, operations in regorus_answers(self.policy.text, state, endpoint, request):
            assert allowed == decision.allowed, (endpoint, allowed, decision)
            changed = {str(get(op, "path")).removeprefix("/pstate/"): get(op, "value") for op in operations}
            assert not allowed or {**state, **changed} == self.engine.state, (endpoint, operations)
        found = reasons(policy_data(self.policy.text), state, endpoint, request)
        assert decision.allowed == (not found), (decision, found)
        return decision

    def allowed(self, endpoint: str, request: Request) -> None:
        decision = self.ask(endpoint, request)
        assert decision.allowed, f"{endpoint} denied: {decision}"

    def denied(self, endpoint: str, request: Request, *because: str) -> None:
        """Denied, and each of *because* stands in the explanation."""
        decision = self.ask(endpoint, request)
        assert not decision.allowed, f"{endpoint} was allowed"
        for text in because:
            assert text in str(decision), f"{text!r} is not in the explanation: {decision}"

    def run_until(self, key: str) -> None:
        """Live honestly up to the moment before the container *key* is made."""
        self.allowed("CreateSandboxRequest", self.shim.create_sandbox())
        for container in self.pod.containers:
            if container.key == key:
                return
            for endpoint, request in self.shim.begin(container.key):
                if endpoint in {"CreateContainerRequest", "StartContainerRequest"}:
                    self.allowed(endpoint, request)
            if container.kind == "init":
                cid = self.shim.container_id(container.key)
                self.allowed("RemoveContainerRequest", {"container_id": cid, "timeout": 0})

    def create_denied(self, key: str, mutate: Mutation, *because: str) -> None:
        """The honest request for *key*, changed by *mutate*, is denied because of *because*."""
        request = self.shim.create_container(key)
        before = copy.deepcopy(request)
        mutate(request)
        assert request != before, "the mutation changed nothing"
        self.denied("CreateContainerRequest", request, *because)


def case(*texts: str, image: ImageConfig = CONFIG, settings: Settings = DEFAULT_SETTINGS) -> Case:
    """A pod ready to live."""
    workload, pod = pod_of(*texts, image=image, settings=settings)
    return Case(workload=workload, pod=pod)


def layered_case(*texts: str) -> Case:
    """A pod whose images the node hands over as layers."""
    return case(*texts, image=LAYERED_CONFIG, settings=LAYERED)


@lru_cache
def rich_case(key: str, *, layered: bool = False) -> Case:
    """The rich pod right before *key* is made. Shared: only for requests that are denied."""
    ready = layered_case(RICH) if layered else case(RICH)
    ready.run_until(key)
    return ready


@lru_cache
def sandboxless_case() -> Case:
    """A simple pod before anything was asked. Shared: only for requests that are denied."""
    return case(simple_pod())


@lru_cache
def living_case() -> Case:
    """The rich pod with all its containers running. Shared: only for requests that change no state."""
    ready = case(RICH)
    ready.run_until("")
    return ready


# The interpreters must go before the library that they belong to.
atexit.register(rich_case.cache_clear)
atexit.register(living_case.cache_clear)
atexit.register(sandboxless_case.cache_clear)


def nodes(value: object, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every place in a request: path, container, key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        below = f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}" if path else str(key)
        yield below, value, key
        yield from nodes(child, below)


def plain(value: object) -> Request:
    """A deep copy of a JSON object."""
    copied = json.loads(json.dumps(value))
    assert isinstance(copied, dict)
    return copied


__all__ = [
    "CONFIG",
    "DIGEST",
    "IMAGE",
    "LAYERED",
    "LAYERED_CONFIG",
    "RICH",
    "SANDBOX_KEY",
    "Case",
    "case",
    "layered_case",
    "plain",
    "pod_of",
    "resources",
    "rich_case",
    "simple_pod",
]
