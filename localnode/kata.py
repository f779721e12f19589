"""The requests of a Kata shim for one pod, each judged by the pod's own policy; does none of them.

The policy comes from the pod's annotation, the requests from the rest of its YAML and from its images. So a pod whose
YAML was changed after its policy was made is denied here, as the guest agent would deny it.
"""

import hashlib
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from images.config import ImageConfig, VerityLayer
from images.layout import ImageStore
from images.verity import tardev_layers
from k8s.resources import ResourceSet
from localnode.deployment import PodPlan
from localnode.errors import DeniedError
from localnode.pod import Judged
from policy.errors import PolicyError
from policy.evaluate import PolicyEngine
from policy.explain_layers import demands_layers, layers_of
from policy.model import SANDBOX_KEY
from policy.places import place_of
from policy.podspec import expected_pod
from policy.reasons import Reason
from policy.rego import policy_data
from policy.requests import PodFacts, Shim, Step
from policy.settings import Settings

_MAX_REASONS = 5


class KataShim:
    """One pod's shim and its guest's agent in one; see `localnode.pod.Shim`. Any thread may call its methods."""

    def __init__(self, plan: PodPlan, resources: ResourceSet, images: ImageStore, *, address: str) -> None:
        """Nothing is read or judged yet. *address* is the pod's, as its environment may name it."""
        self._plan = plan
        self._resources = resources
        self._images = images
        self._address = address
        self._lock = threading.Lock()
        self._begun: dict[str, Iterator[Step]] = {}
        self._made: tuple[Shim, PolicyEngine] | None = None

    def sandbox(self) -> None:
        """Network, sandbox and pause container.

        Raises:
            DeniedError: the policy does not allow it, or no request can be made from the YAML.
            ImageError: an image is absent or damaged.
        """
        with self._lock:
            shim, _ = self._shim()
            self._judge(
                [
                    ("UpdateInterfaceRequest", shim.update_interface()),
                    ("UpdateRoutesRequest", shim.update_routes()),
                    ("CreateSandboxRequest", shim.create_sandbox()),
                    ("GuestDetailsRequest", {"mem_block_size": True, "mem_hotplug_probe": True}),
                ]
            )
            self._judge(shim.begin(SANDBOX_KEY))

    def create(self, container: str) -> Judged:
        """Everything up to the container's creation; answers what the request asked to run.

        Raises:
            DeniedError: the policy does not allow it.
        """
        with self._lock:
            shim, _ = self._shim()
            steps = shim.begin(container)
            self._begun[container] = steps
            for step in steps:
                self._judge([step], container)
                if step[0] == "CreateContainerRequest":
                    return _judged(step[1])
        raise DeniedError(f"container {container} of pod {self._plan.name} is never created")

    def start(self, container: str) -> None:
        """The container's start.

        Raises:
            DeniedError: the policy does not allow it.
        """
        with self._lock:
            self._judge(self._begun.pop(container, iter(())), container)

    def stop(self, container: str) -> None:
        """The container's end.

        Raises:
            DeniedError: the policy does not allow it.
        """
        with self._lock:
            shim, _ = self._shim()
            self._judge(shim.end(container), container)

    def destroy(self) -> None:
        """The sandbox's end.

        Raises:
            DeniedError: the policy does not allow it.
        """
        with self._lock:
            shim, _ = self._shim()
            self._judge([*shim.end(SANDBOX_KEY), ("DestroySandboxRequest", {})])

    def _judge(self, steps: Iterable[Step], container: str | None = None) -> None:
        _, engine = self._shim()
        for endpoint, request in steps:
            try:
                decision = engine.allow(endpoint, request)
            except PolicyError as error:
                raise DeniedError(f"the policy of pod {self._plan.name} cannot be used: {error}") from error
            if decision.allowed:
                continue
            whose = "" if container is None else f" for container {container}"
            reasons = [self._told(reason, container, request) for reason in decision.reasons[:_MAX_REASONS]]
            if len(decision.reasons) > _MAX_REASONS:
                reasons.append(f"and {len(decision.reasons) - _MAX_REASONS} more")
            why = "; ".join(reasons) or "it gives no reason"
            raise DeniedError(
                f"{endpoint}{whose} is denied by the pod's policy: {why}. If {self._plan.workload.file.path} is as it "
                "should be, run `contrast generate` and set the new manifest"
            )

    def _told(self, reason: Reason, container: str | None, request: Mapping[str, object]) -> str:
        """A reason, with the line of the YAML that the expectation comes from."""
        place = place_of(reason, self._plan.workload, SANDBOX_KEY if container is None else container, request)
        return str(reason) if place is None else f"{reason} [{place}]"

    def _shim(self) -> tuple[Shim, PolicyEngine]:
        if self._made is None:
            workload = self._plan.workload
            references = {
                str(container.get("image"))
                for kind in ("initContainers", "containers")
                for container in self._plan.containers(kind)
            }
            try:
                pause = _pause_layers(self._plan.policy)
                configs = {reference: self._config(reference, layers=pause is not None) for reference in references}
                settings = Settings(pause_layers=pause)
                pod = expected_pod(workload, configs, resources=self._resources, settings=settings)
                engine = PolicyEngine(self._plan.policy)
            except PolicyError as error:
                raise DeniedError(f"pod {self._plan.name} cannot be run: {error}") from error
            self._made = (Shim(pod, self._facts()), engine)
        return self._made

    def _config(self, reference: str, *, layers: bool) -> ImageConfig:
        """How to run an image; its layers under dm-verity are computed anew, as a node's snapshotter does."""
        config = self._images.config(reference, accounts=True)
        if not layers:
            return config
        layout, image = self._images.find(reference)
        return replace(config, layers=tardev_layers(image.diff_ids, layout.scan(image, verity=True).roots or ()))

    def _facts(self) -> PodFacts:
        """Ids as a cluster would make them, the same for the same pod at the same address."""
        seed = hashlib.sha256(f"{self._plan.namespace}/{self._plan.name}/{self._address}".encode()).digest()
        return PodFacts(
            name=self._plan.name,
            namespace=self._plan.namespace,
            uid=str(uuid.UUID(bytes=seed[:16], version=4)),
            sandbox_id=hashlib.sha256(seed).hexdigest(),
            ip=self._address,
            host_ip="127.0.0.1",
            node="local",
        )


def _pause_layers(policy: str) -> tuple[VerityLayer, ...] | None:
    """The pause image's layers if the policy demands layers, as it says: no such image runs here."""
    data = policy_data(policy)
    return layers_of(data, "pause")[::-1] if demands_layers(data) else None


def _judged(request: Mapping[str, object]) -> Judged:
    process = cast("Mapping[str, Mapping[str, object]]", request["OCI"])["Process"]
    return Judged(
        arguments=tuple(cast("Sequence[str]", process["Args"])),
        environment=tuple(cast("Sequence[str]", process["Env"])),
        directory=str(process["Cwd"]),
    )
