"""What an honest Kata shim asks of the guest agent in a pod's life, every protobuf field present; decides nothing."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from policy.layers import layer_options, mount_point, overlay_options, root_path
from policy.model import MASKED, READONLY, SANDBOX_KEY, Container, Kind, Mount, Pod, base_mounts
from policy.text import Hole

Request = dict[str, object]
Step = tuple[str, Request]
_STORAGE = "/run/kata-containers/sandbox/storage/"
_SHM = "/run/kata-containers/sandbox/shm"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What only the running pod knows. Ids are as containerd makes them: 64 hexadecimal digits; *uid* is a UUID."""

    name: str
    namespace: str = "default"
    uid: str = "9c64c5bf-298f-46c4-ad63-e2270a2ff44c"
    sandbox_id: str = "a" * 64
    ip: str = "10.244.0.17"
    host_ip: str = "10.0.1.4"
    node: str = "node-1"
    api_host: str = "10.0.0.1"
    api_port: str = "443"
    resource: str = "1"
    service_ip: str = "10.0.0.77"
    cold_plug: bool = False  # GPUs are attached before the pod's start.


class Shim:
    """Makes the requests for one pod. ``attempt`` counts how often a container was made anew after it had ended."""

    def __init__(self, pod: Pod, facts: PodFacts) -> None:
        self.pod, self.facts = pod, facts

    def container_id(self, key: str, attempt: int = 0) -> str:
        """The id of a container: the sandbox's own, or one derived from it."""
        if key == SANDBOX_KEY:
            return self.facts.sandbox_id
        return hashlib.sha256(f"{self.facts.sandbox_id}/{key}/{attempt}".encode()).hexdigest()

    def life(self) -> Iterator[Step]:
        """A whole life: network, sandbox, init containers to their end, the others, one of them made anew, the end."""
        yield "UpdateInterfaceRequest", self.update_interface()
        yield "UpdateRoutesRequest", self.update_routes()
        yield "CreateSandboxRequest", self.create_sandbox()
        yield "GuestDetailsRequest", {"mem_block_size": True, "mem_hotplug_probe": True}
        for container in self.pod.containers:
            yield from self.begin(container.key)
            if container.kind is Kind.INIT:
                yield from self.end(container.key)
        yield "GetOOMEventRequest", {}
        last = self.pod.containers[-1]
        for command in last.exec:
            yield "ExecProcessRequest", self.exec_process(last.key, command)
        if last.kind is Kind.APP:
            yield from self.end(last.key)
            yield from self.begin(last.key, attempt=1)
            yield from self.end(last.key, attempt=1)
        for container in reversed(self.pod.containers[:-1]):
            if container.kind is not Kind.INIT:
                yield from self.end(container.key)
        yield "DestroySandboxRequest", {}

    def begin(self, key: str, attempt: int = 0) -> Iterator[Step]:
        """Files, creation, start, and what the shim asks while the container runs."""
        name = {"container_id": self.container_id(key, attempt)}
        for request in self.copies(key, attempt):
            yield "CopyFileRequest", request
        yield "CreateContainerRequest", self.create_container(key, attempt)
        yield "OnlineCPUMemRequest", {"wait": False, "nb_cpus": 0, "cpu_only": False}
        yield "UpdateEphemeralMountsRequest", {"storages": []}
        yield "StartContainerRequest", dict(name)
        yield "StatsContainerRequest", dict(name)

    def end(self, key: str, attempt: int = 0) -> Iterator[Step]:
        """Signal, wait and removal."""
        name = {"container_id": self.container_id(key, attempt)}
        yield "SignalProcessRequest", {**name, "exec_id": name["container_id"], "signal": 15}
        yield "WaitProcessRequest", {**name, "exec_id": name["container_id"]}
        yield "RemoveContainerRequest", {**name, "timeout": 0}

    def create_sandbox(self) -> Request:
        """``CreateSandboxRequest``."""
        return {
            "hostname": self._hostname,
            "dns": ["search default.svc.cluster.local svc.cluster.local cluster.local", "nameserver 10.0.0.10"],
            "storages": [
                {
                    **_storage("ephemeral", "shm", "tmpfs", _SHM),
                    "options": ["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"],
                }
            ],
            "sandbox_pidns": False,
            "sandbox_id": self.facts.sandbox_id,
            "guest_hook_path": "",
            "kernel_modules": [],
        }

    def create_container(self, key: str, attempt: int = 0) -> Request:
        """``CreateContainerRequest`` for the container *key*."""
        container = self.pod.container(key)
        cid = self.container_id(key, attempt)
        annotations = self._annotations(container, cid)
        root = root_path(cid) if container.layers else f"/run/kata-containers/{cid}/rootfs"
        mounts = {**base_mounts(container.base), **container.mounts}
        # containerd's order: its own first, then what was asked for, parents before children.
        order = sorted(mounts, key=lambda place: (place in container.mounts, place.count("/")))
        return {
            "container_id": cid,
            "exec_id": cid,
            "string_user": None,
            "devices": [
                {"id": f"{3 + n:02x}/00", "type_": "blk", "vm_path": "", "container_path": path, "options": []}
                for n, path in enumerate(container.devices)
            ]
            + ([] if self.facts.cold_plug else [_gpu(number) for number in range(container.gpus)]),
            "storages": self._storages(container, annotations, root),
            "OCI": {
                "Version": "1.1.0",
                "Process": self._process(container, cid),
                "Root": {"Path": root, "Readonly": container.readonly},
                "Hostname": self._hostname if container.kind is Kind.SANDBOX else "",
                "Mounts": [self._mount(place, mounts[place], cid) for place in order],
                "Hooks": None,
                "Annotations": annotations,
                "Linux": self._linux(container, cid),
                "Solaris": None,
                "Windows": None,
            },
            "sandbox_pidns": container.pidns,
            "shared_mounts": [],
            "stdin_port": 0,
            "stdout_port": 0,
            "stderr_port": 0,
        }

    def exec_process(self, key: str, command: tuple[str, ...], attempt: int = 0) -> Request:
        """``ExecProcessRequest`` as for a probe or a hook."""
        container = self.pod.container(key)
        cid = self.container_id(key, attempt)
        process = {
            **self._process(container, cid),
            "Args": list(command), "Terminal": False, "Capabilities": None, "ApparmorProfile": "", "OOMScoreAdj": 0,
        }  # fmt: skip
        return {
            "container_id": cid, "exec_id": "9de547dd-0cad-42b6-a830-e00c297226bf", "string_user": None,
            "process": process, "stdin_port": 0, "stdout_port": 0, "stderr_port": 0,
        }  # fmt: skip

    def copies(self, key: str, attempt: int = 0) -> Iterator[Request]:
        """``CopyFileRequest`` for each file or folder that the container finds mounted, with the kubelet's links."""
        container = self.pod.container(key)
        cid = self.container_id(key, attempt)
        for place, mount in {**base_mounts(container.base), **container.mounts}.items():
            if mount.source is None or Hole.RANDOM not in mount.source.parts:
                continue
            path = mount.source.filled(self._fillings(cid, place))
            if place not in container.mounts or place.endswith("-log"):
                yield _copy(path, "Regular", 0o100644)
                continue
            yield _copy(path, "Directory", 0o40755)
            yield _copy(f"{path}/..2026_01_02_03_04_05.1", "Directory", 0o40755)
            yield _copy(f"{path}/..2026_01_02_03_04_05.1/file", "Regular", 0o100644)
            yield {**_copy(f"{path}/..data", "Symlink", 0o120777), "symlink_target": "..2026_01_02_03_04_05.1"}
            yield {**_copy(f"{path}/file", "Symlink", 0o120777), "symlink_target": "..data/file"}

    def update_interface(self) -> Request:
        """``UpdateInterfaceRequest`` for the pod's one interface.

        A pod of the local run has its address on the loopback interface, so this one gets none.
        """
        own = [] if ip_address(self.facts.ip).is_loopback else [self.facts.ip]
        return {
            "interface": {
                "device": "eth0", "name": "eth0",
                "IPAddresses": [{"family": 0, "address": address, "mask": "24"} for address in own],
                "mtu": 1500, "hwAddr": "46:7c:91:8d:d4:20", "devicePath": "", "type_": "", "raw_flags": 0,
            }
        }  # fmt: skip

    def update_routes(self) -> Request:
        """``UpdateRoutesRequest`` with a default route."""
        route = {
            "dest": "", "gateway": "10.244.0.1", "device": "eth0", "source": "", "scope": 0, "family": 0, "flags": 0,
            "mtu": 0,
        }  # fmt: skip
        return {"routes": {"Routes": [route]}}

    @property
    def _hostname(self) -> str:
        return self._part(1) if self.pod.stem else self.pod.hostname or self.facts.name

    def _part(self, which: int) -> str:
        """What the pod's name consists of, where pods are numbered."""
        found = re.match(self.pod.numbered, self.facts.name) if self.pod.numbered else None
        return "" if found is None else found.group(which)

    def _fillings(self, cid: str, salt: str = "") -> Mapping[Hole, str]:
        facts = self.facts
        return {
            Hole.POD_NAME: facts.name,
            Hole.NAMESPACE: facts.namespace,
            Hole.POD_STEM: self._part(1),
            Hole.POD_NUMBER: self._part(2),
            Hole.POD_UID: facts.uid,
            Hole.SANDBOX_ID: facts.sandbox_id,
            Hole.CONTAINER_ID: cid,
            Hole.POD_IP: facts.ip,
            Hole.POD_IPS: facts.ip,
            Hole.HOST_IP: facts.host_ip,
            Hole.HOST_IPS: facts.host_ip,
            Hole.NODE_NAME: facts.node,
            Hole.RESOURCE: facts.resource,
            Hole.API_HOST: facts.api_host,
            Hole.API_PORT: facts.api_port,
            Hole.API_URL_HOST: f"[{facts.api_host}]" if ":" in facts.api_host else facts.api_host,
            Hole.SERVICE_IP: facts.service_ip,
            Hole.SERVICE_HOST: f"[{facts.service_ip}]" if ":" in facts.service_ip else facts.service_ip,
            Hole.PCI_ADDRESSES: "0000:65:00.0,0000:66:00.0",
            Hole.RANDOM: hashlib.sha256(f"{cid}{salt}".encode()).hexdigest()[:16],
        }

    def _annotations(self, container: Container, cid: str) -> dict[str, str]:
        facts = self.facts
        sandbox = container.kind is Kind.SANDBOX
        found = {
            "io.katacontainers.pkg.oci.bundle_path": f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{cid}",
            "io.katacontainers.pkg.oci.container_type": "pod_sandbox" if sandbox else "pod_container",
            "io.kubernetes.cri.container-type": "sandbox" if sandbox else "container",
            "io.kubernetes.cri.sandbox-id": facts.sandbox_id,
            "io.kubernetes.cri.sandbox-name": facts.name,
            "io.kubernetes.cri.sandbox-namespace": facts.namespace,
            "io.kubernetes.cri.sandbox-uid": facts.uid,
        }
        if container.image is not None:
            found["io.kubernetes.cri.container-name"] = container.key
            found["io.kubernetes.cri.image-name"] = container.image.pinned
            found |= {f"cdi.k8s.io/vfio{number}": f"nvidia.com/gpu={number}" for number in range(container.gpus)}
            return found
        directory = f"/var/log/pods/{facts.namespace}_{facts.name}_{facts.uid}"
        return {
            **found,
            **self.pod.annotations,
            "io.kubernetes.cri.podsandbox.image-name": "pause:3.10",
            "io.kubernetes.cri.sandbox-cpu-period": "100000",
            "io.kubernetes.cri.sandbox-cpu-quota": "0",
            "io.kubernetes.cri.sandbox-cpu-shares": "2",
            "io.kubernetes.cri.sandbox-memory": "0",
            "io.kubernetes.cri.sandbox-log-directory": directory,
            "nerdctl/network-namespace": f"/var/run/netns/cni-{facts.uid}",
        }

    def _process(self, container: Container, cid: str) -> Request:
        fillings = self._fillings(cid)
        capabilities = [f"CAP_{name}" for name in container.capabilities]
        return {
            "Terminal": container.tty,
            "ConsoleSize": None,
            "User": {
                "UID": container.uid, "GID": container.gid, "AdditionalGids": list(container.groups[-1]),
                "Username": "",
            },
            "Args": [arg.filled(fillings) for arg in container.args],
            "Env": [
                *container.overridden,
                *(f"{name}={value.filled(fillings)}" for name, value in container.env.items()),
                *(
                    f"{name}={value.filled(fillings)}"
                    for variables in container.links.values()
                    for name, value in variables.items()
                ),
            ],
            "Cwd": container.cwd,
            "Capabilities": {
                "Bounding": capabilities, "Effective": capabilities, "Inheritable": [], "Permitted": capabilities,
                "Ambient": [],
            },
            "Rlimits": [],
            "NoNewPrivileges": container.no_new_privileges,
            "ApparmorProfile": container.apparmor[-1],
            "OOMScoreAdj": container.oom[1],
            "SelinuxLabel": "",
        }  # fmt: skip

    def _mount(self, place: str, mount: Mount, cid: str) -> Request:
        source = self._disk(mount.disk) if mount.source is None else mount.source.filled(self._fillings(cid, place))
        return {"destination": place, "source": source, "type_": mount.type, "options": list(mount.options)}

    def _storages(self, container: Container, annotations: Mapping[str, str], root: str) -> list[Request]:
        found = self._layers(container, root) if container.layers else [_pull(container, annotations, root)]
        found += [
            {**_storage("ephemeral", "tmpfs", "tmpfs", memory.mount_point), "options": list(memory.options)}
            for memory in container.memory
        ]
        found += [
            {
                **_storage("blk", self._device(volume), "ext4", self._disk(volume)),
                "driver_options": ["encryption_key=ephemeral", "create_filesystem"],
                "shared": True,
            }
            for volume in container.disks.values()
        ]
        return found

    def _layers(self, container: Container, root: str) -> list[Request]:
        """The storages of an image that the node hands over as layers: top first, then the overlay of them all."""
        names = sorted({layer.name for each in self.pod.containers for layer in each.layers})
        return [
            *(
                {
                    **_storage("blk", f"0001:00:{names.index(layer.name) % 256:02x}.0", "tar", mount_point(layer)),
                    "options": layer_options(layer),
                }
                for layer in container.layers
            ),
            {
                **_storage("overlayfs", "none", "fuse3.kata-overlay", root),
                "options": overlay_options(container.layers),
            },
        ]

    def _device(self, volume: str | None) -> str:
        volumes = sorted({name for container in self.pod.containers for name in container.disks.values()})
        return f"{volumes.index(volume or '') + 16:02x}/00"

    def _disk(self, volume: str | None) -> str:
        return _STORAGE + base64.urlsafe_b64encode(self._device(volume).encode()).decode()

    def _linux(self, container: Container, cid: str) -> Request:
        sandbox = container.kind is Kind.SANDBOX
        processor = {
            "Shares": 2, "Quota": 0, "Period": 0 if sandbox else 100_000, "RealtimeRuntime": 0, "RealtimePeriod": 0,
            "Cpus": "", "Mems": "",
        }  # fmt: skip
        memory = {
            "Limit": 0, "Reservation": 0, "Swap": 0, "Kernel": 0, "KernelTCP": 0, "Swappiness": 0,
            "DisableOOMKiller": False,
        }  # fmt: skip
        resources: Request = {
            "Devices": [], "Memory": None if sandbox else memory, "CPU": processor, "Pids": None, "BlockIO": None,
            "HugepageLimits": [], "Network": None,
        }  # fmt: skip
        return {
            "UIDMappings": [],
            "GIDMappings": [],
            "Sysctl": dict(container.sysctls),
            "Resources": resources,
            "CgroupsPath": f"/kubepods/burstable/pod{self.facts.uid}/{cid}",
            "Namespaces": [{"Type": kind, "Path": ""} for kind in ("ipc", "uts", "mount")],
            "Devices": [
                {"Path": path, "Type": "b", "Major": 254, "Minor": 16 * n, "FileMode": 432, "UID": 0, "GID": 0}
                for n, path in enumerate(container.devices)
            ],
            "Seccomp": None,
            "RootfsPropagation": "",
            "MaskedPaths": [] if container.privileged else list(MASKED),
            "ReadonlyPaths": [] if container.privileged else list(READONLY),
            "MountLabel": "",
            "IntelRdt": None,
        }


def _pull(container: Container, annotations: Mapping[str, str], root: str) -> Request:
    """The storage of an image that the guest pulls."""
    source = "pause" if container.image is None else container.image.pinned
    option = "image_guest_pull=" + json.dumps({"metadata": dict(annotations)}, separators=(",", ":"))
    return {**_storage("image_guest_pull", source, "overlay", root), "driver_options": [option]}


def _storage(driver: str, source: str, fstype: str, mount_point: str) -> Request:
    return {
        "driver": driver, "driver_options": [], "source": source, "fstype": fstype, "options": [],
        "mount_point": mount_point,
        "fs_group": None, "shared": False,
    }  # fmt: skip


def _gpu(number: int) -> Request:
    """A GPU that the node attaches for the guest's driver."""
    return {
        "id": f"vfio{number}", "type_": "vfio-pci-gk", "vm_path": "",
        "container_path": f"/dev/vfio/devices/vfio{number}",
        "options": [f"0000:{0x65 + number:02x}:00.0={6 + number:02x}/00"],
    }  # fmt: skip


def _copy(path: str, file_type: str, mode: int) -> Request:
    return {
        "path": path, "file_type": file_type, "symlink_target": None, "file_size": 0, "file_mode": mode,
        "dir_mode": 0o40750, "uid": 0, "gid": 0, "offset": 0,
    }  # fmt: skip
