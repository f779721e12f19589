"""GPUs passed through to the guest: as many as the YAML says, attached in a form that names nothing else."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from policy.places import place_of
from policy.rego import policy_data
from policy.requests import PodFacts, Shim
from policy.words import describe
from tests.support.policies import Case, case, plain, simple_pod

Json = dict[str, Any]
GPUS = simple_pod(container="resources: {limits: {nvidia.com/pgpu: 2}}")
VARIABLE = "PCI_RESOURCE_NVIDIA_COM_PGPU"


def ready(text: str = GPUS, *, cold_plug: bool = False) -> Case:
    pod = case(text)
    pod.shim = Shim(pod.pod, PodFacts(name="web", cold_plug=cold_plug))
    pod.run_until("app")
    return pod


def created(pod: Case) -> Json:
    return plain(pod.shim.create_container("app"))


def devices(request: Json) -> list[Json]:
    return cast("list[Json]", request["devices"])


def annotations(request: Json) -> Json:
    return cast("Json", request["OCI"]["Annotations"])


@pytest.mark.parametrize("cold_plug", [False, True], ids=["attached now", "attached before"])
def test_a_pod_lives_with_its_gpus(cold_plug: bool) -> None:
    pod = case(GPUS)
    pod.shim = Shim(pod.pod, PodFacts(name="web", cold_plug=cold_plug))
    for step in pod.shim.life():
        pod.allowed(*step)


def test_what_nodes_vary_is_allowed() -> None:
    """Numbers and addresses are the node's; not all device plugins tell them; a device can have a second function."""
    pod = ready()
    request = created(pod)
    renumbered = {"cdi.k8s.io/vfio17": "nvidia.com/gpu=1", "cdi.k8s.io/vfio4": "nvidia.com/gpu=0"}
    request["OCI"]["Annotations"] = {
        **{k: v for k, v in annotations(request).items() if not k.startswith("cdi.")}, **renumbered,
    }  # fmt: skip
    for device, name in zip(devices(request), ("vfio4", "vfio17"), strict=True):
        device.update(id=name, container_path=f"/dev/vfio/devices/{name}")
        device["options"].append("0001:0a:1f.1=0a/01")
    request["OCI"]["Process"]["Env"] = [e for e in request["OCI"]["Process"]["Env"] if not e.startswith(VARIABLE)]
    pod.allowed("CreateContainerRequest", request)


def another_gpu(request: Json) -> None:
    devices(request).append({**devices(request)[0], "id": "vfio9", "container_path": "/dev/vfio/devices/vfio9"})
    annotations(request)["cdi.k8s.io/vfio9"] = "nvidia.com/gpu=9"


CHANGES: list[tuple[str, Callable[[Json], Any]]] = [
    ("one more", another_gpu),
    ("one more without an annotation", lambda r: devices(r).append({**devices(r)[0], "id": "vfio9"})),
    ("one less", lambda r: devices(r).pop()),
    ("one twice", lambda r: devices(r)[1].update(devices(r)[0])),
    ("one annotation less", lambda r: annotations(r).pop("cdi.k8s.io/vfio0")),
    ("one annotation more", lambda r: annotations(r).update({"cdi.k8s.io/vfio7": "nvidia.com/gpu=7"})),
    ("an annotation of another number", lambda r: annotations(r).update(
        {"cdi.k8s.io/vfio7": annotations(r).pop("cdi.k8s.io/vfio0")})),
    ("one GPU for two", lambda r: annotations(r).update({"cdi.k8s.io/vfio0": "nvidia.com/gpu=1"})),
    ("all of the guest's", lambda r: annotations(r).update({"cdi.k8s.io/vfio0": "nvidia.com/gpu=all"})),
    ("several in one", lambda r: annotations(r).update(
        {"cdi.k8s.io/vfio0": "nvidia.com/gpu=0,nvidia.com/gpu=1"})),
    ("another kind of device", lambda r: annotations(r).update({"cdi.k8s.io/vfio0": "vendor.invalid/net=0"})),
    ("an annotation without a number", lambda r: annotations(r).update(
        {"cdi.k8s.io/vfio": annotations(r).pop("cdi.k8s.io/vfio0")})),
    ("an annotation of another name", lambda r: annotations(r).update({"cdi.k8s.io/x": "nvidia.com/gpu=0"})),
    ("handed to the container, not the guest's driver", lambda r: devices(r)[0].update(type_="vfio-pci")),
    ("a disk", lambda r: devices(r)[0].update(type_="blk")),
    ("another place", lambda r: devices(r)[0].update(container_path="/dev/vfio/devices/vfio1")),
    ("a place over a file", lambda r: devices(r)[0].update(container_path="/bin/web")),
    ("a place in the guest", lambda r: devices(r)[0].update(vm_path="/dev/sda")),
    ("no address", lambda r: devices(r)[0].update(options=[])),
    ("an address that is none", lambda r: devices(r)[0].update(options=["0000:65:00.0"])),
    ("addresses as one text", lambda r: devices(r)[0].update(options="0000:65:00.0=06/00")),
    ("a node of the container", lambda r: r["OCI"]["Linux"]["Devices"].append(
        {"Path": "/dev/x", "Type": "c", "Major": 195, "Minor": 0, "FileMode": 438, "UID": 0, "GID": 0})),
    ("a variable of another form", lambda r: r["OCI"]["Process"]["Env"].append(f"{VARIABLE}=x")),
    ("a variable twice", lambda r: r["OCI"]["Process"]["Env"].append(f"{VARIABLE}=0000:65:00.0")),
    ("a variable of another plugin", lambda r: r["OCI"]["Process"]["Env"].append("PCI_RESOURCE_X=0000:65:00.0")),
]  # fmt: skip


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_no_other_device_comes_with_them(change: Callable[[Json], Any]) -> None:
    """A device of the node's choice could be a disk or a network of its own."""
    pod = ready()
    request = created(pod)
    change(request)
    pod.denied("CreateContainerRequest", request)


def test_gpus_are_there_even_where_only_annotations_show_them() -> None:
    pod = ready(cold_plug=True)
    request = created(pod)
    del annotations(request)["cdi.k8s.io/vfio1"]
    pod.denied("CreateContainerRequest", request, "2 of them, each for another GPU")


def test_a_pod_without_gpus_gets_none() -> None:
    pod, other = ready(simple_pod()), created(ready())
    for change in ({"devices": other["devices"]}, {"OCI": {**created(pod)["OCI"], "Annotations": annotations(other)}}):
        pod.denied("CreateContainerRequest", {**created(pod), **change})


def test_people_read_of_them() -> None:
    pod = ready()
    facts = {fact.name: fact.values for part in describe(policy_data(pod.policy.text)) for fact in part.facts}
    assert facts["GPUs"] == ("2, which of its own is the node's choice",)
    assert facts["env from the device plugin of nvidia.com/pgpu"][0].startswith(f"{VARIABLE}=")
    request = created(pod)
    devices(request).pop()
    (reason,) = pod.ask("CreateContainerRequest", request).reasons
    assert "2 GPUs, or none" in reason.wanted
    assert "resources" in str(place_of(reason, pod.workload, "app", request))
