"""The part of an explanation about what a container finds: image, mounts, volumes, devices; nothing of its process."""

import base64
import json
import re
from collections.abc import Sequence

from policy.explain_layers import LayerChecks, demands_layers, layers_of
from policy.model import GPU_RESOURCE, SANDBOX_KEY
from policy.reasons import CRI, MISSING, NODE, Data, Findings, found, get, items, same, show, table, texts

CGROUP_V2 = ("nsdelegate", "memory_recursiveprot")  # How a node divides its groups, which newer containerd passes on.
OCI = "io.katacontainers.pkg.oci."
_GPU = "vfio-pci-gk"
_CDI = "cdi.k8s.io/"
_ADDRESSES = "^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]=[0-9a-f]{2}/[0-9a-f]{2}$"
_DEVICE = r"^[0-9a-f]{2}(/[0-9a-f]{2})*$|^[0-9]{1,3}:[0-9]{1,3}$"


def part_of(data: Data, name: object, which: int) -> str | None:
    """What a pod's name consists of, where pods are numbered: 1 is all before the random end, 2 the number."""
    numbered = get(data, "pod", "numbered")
    match = re.match(numbered, name) if numbered and isinstance(numbered, str) and isinstance(name, str) else None
    return None if match is None else match.group(which)


class VolumeChecks:
    """One request for one container, with what is expected of it; this half judges storages, mounts and devices."""

    def __init__(self, findings: Findings, data: Data, state: Data, request: Data, key: str) -> None:
        self.findings, self.data, self.state, self.request, self.key = findings, data, state, request, key
        self.want = table(get(data, "containers", key))
        self.sandbox = key == SANDBOX_KEY
        self.name = "the sandbox" if self.sandbox else f"container {key}"
        self.oci = table(get(request, "OCI"))
        self.cid = get(request, "container_id")
        self.pod = self.pod_facts()
        self.layered = demands_layers(data)

    def pod_facts(self) -> dict[str, object]:
        """What the pod is pinned to: for the sandbox by this request, else by the state."""
        annotations = table(self.oci.get("Annotations"))
        if self.sandbox:
            names = {"name": "sandbox-name", "namespace": "sandbox-namespace", "uid": "sandbox-uid"}
            found_ = {short: annotations.get(CRI + long, MISSING) for short, long in names.items()}
            return {**found_, "id": self.cid, "container": self.cid}
        pinned = {short: self.state.get(f"pod:{short}", MISSING) for short in ("name", "namespace", "uid")}
        return {**pinned, "id": self.state.get("pod:sandbox", MISSING), "container": self.cid}

    @property
    def types(self) -> tuple[str, str]:
        """How Kata and the runtime call this kind of container."""
        return ("pod_sandbox", "sandbox") if self.sandbox else ("pod_container", "container")

    def image_ok(self, source: object) -> bool:
        """Whether *source* names the expected image: by its digest alone."""
        image = self.want.get("image")
        if image == "pause" and source == "pause":
            return True
        parts = source.split("@") if isinstance(source, str) else []
        return len(parts) == 2 and parts[0] != "" and parts[1] == image

    def text(self, where: str, seen: object, wanted: object, source: str) -> None:
        """*seen* must be the expected text, or fit its pattern."""
        pattern = get(wanted, "pattern")
        if isinstance(pattern, str):
            self.findings.matches(where, seen, self.filled(pattern), f"a text like {self.filled(pattern)}", source)
        else:
            self.findings.equal(where, seen, wanted, source)

    def filled(self, pattern: str) -> str:
        """A pattern with the names that this pod is pinned to."""
        names = {
            "$(pod-name)": "name", "$(namespace)": "namespace", "$(pod-uid)": "uid", "$(sandbox-id)": "id",
            "$(container-id)": "container",
        }  # fmt: skip
        for name, short in names.items():
            value = self.pod[short]
            pattern = pattern.replace(name, value.replace(".", "[.]") if isinstance(value, str) else "-")
        for number, name in enumerate(("$(pod-stem)", "$(pod-number)"), 1):
            part = part_of(self.data, self.pod["name"], number)
            pattern = pattern.replace(name, part.replace(".", "[.]") if part else "-")
        return pattern

    def mounts(self) -> None:
        """One to one, and none over another that it hides."""
        base = table(get(self.data, "shared", "mounts", str(self.want.get("base"))))
        wanted = {**base, **table(self.want.get("mounts"))}
        places: list[str] = []
        for index, mount in enumerate(items(self.oci.get("Mounts"))):
            where, place = f"OCI.Mounts[{index}]", get(mount, "destination")
            if not isinstance(place, str) or place not in wanted or place in places:
                self.findings.add(f"{where}.destination", place, "each expected destination once", "volumeMounts")
                continue
            places.append(place)
            self.mount(where, mount, table(wanted[place]))
        for place in sorted(set(wanted) - set(places)):
            self.findings.add("OCI.Mounts", MISSING, f"a mount at {place}", "volumeMounts")
        for pair in items(self.want.get("below")):
            above, below = texts(pair)
            if above in places and below in places and places.index(above) > places.index(below):
                self.findings.add(
                    "OCI.Mounts", [below, above], f"{above} before {below}, or it hides it", "order of mounts"
                )

    def mount(self, where: str, mount: object, want: Data) -> None:
        """One mount at a place where one belongs."""
        self.findings.equal(f"{where}.type_", get(mount, "type_"), want.get("type"), "volumes")
        options = get(mount, "options")
        if want.get("type") == "cgroup" and isinstance(options, list):
            options = [option for option in options if option not in CGROUP_V2]
        self.findings.equal(f"{where}.options", options, want.get("options"), "volumeMounts.readOnly")
        source = get(mount, "source")
        if "source" in want:
            self.text(f"{where}.source", source, want["source"], "volumes")
            return
        volume = want.get("disk")
        disks = [storage for storage in items(get(self.request, "storages")) if get(storage, "mount_point") == source]
        if not any(self.disk_ok(storage) for storage in disks):
            self.findings.add(f"{where}.source", source, "an encrypted disk made for this pod", f"emptyDir {volume}")
        pinned = self.state.get(f"volume:{volume}", source)
        if pinned != source:
            self.findings.add(
                f"{where}.source", source, show(pinned), f"emptyDir {volume} is one disk for all containers"
            )
        for key, other in self.state.items():
            if key.startswith("volume:") and key != f"volume:{volume}" and other == source:
                self.findings.add(
                    f"{where}.source", source, f"not the disk of {key.removeprefix('volume:')}", f"emptyDir {volume}"
                )

    def disk_ok(self, storage: object) -> bool:
        """Whether a storage is an encrypted disk as the rules want it."""
        source, group = get(storage, "source"), get(storage, "fs_group")
        return (
            get(storage, "driver") in ("blk", "scsi")
            and isinstance(source, str)
            and found(_DEVICE, source)
            and get(storage, "mount_point")
            == "/run/kata-containers/sandbox/storage/" + base64.urlsafe_b64encode(source.encode()).decode()
            and get(storage, "fstype") == "ext4"
            and get(storage, "options") == []
            and get(storage, "driver_options") == ["encryption_key=ephemeral", "create_filesystem"]
            and get(storage, "shared") is True
            and (group is None or same(get(group, "group_id"), get(self.data, "pod", "fs_group")))
        )

    def storages(self) -> None:
        """One image, and what the volumes need."""
        storages = items(get(self.request, "storages"))
        images = self.layers(storages) if self.layered else self.pulls(storages)
        memory, disks = items(self.want.get("memory")), table(self.want.get("disks"))
        if len(storages) != images + len(memory) + len(disks):
            self.findings.add(
                "storages", len(storages), f"{images + len(memory) + len(disks)} storages", "image and emptyDirs"
            )
        for wanted in memory:
            full = {
                **table(wanted), "driver": "ephemeral", "source": "tmpfs", "fstype": "tmpfs", "driver_options": [],
                "fs_group": None,
            }  # fmt: skip
            if not any(
                all(same(get(storage, name), value) for name, value in full.items())
                and get(storage, "shared") in (False, MISSING)
                for storage in storages
                if isinstance(get(storage, "shared"), bool | type(MISSING))
            ):
                self.findings.add("storages", MISSING, show(full), "emptyDir in memory")
        sources = {
            str(get(mount, "source"))
            for mount in items(self.oci.get("Mounts"))
            if get(mount, "destination") in tuple(disks)
        }
        if len(sources) != len(disks):
            self.findings.add("OCI.Mounts", sorted(sources), "a disk of its own for each emptyDir", "emptyDir")

    def layers(self, storages: Sequence[object]) -> int:
        """The storages of an image that the node hands over as layers; how many there should be."""
        image = self.want.get("image")
        source = "setting --pause-image" if self.sandbox else f"image of {self.name}"
        root = get(self.oci, "Root", "Path")
        layers = layers_of(self.data, image)
        return LayerChecks(findings=self.findings, layers=layers, root=root, source=source).check(storages)

    def pulls(self, storages: Sequence[object]) -> int:
        """The one storage of an image that the guest pulls."""
        pulls = [storage for storage in storages if get(storage, "driver") == "image_guest_pull"]
        if len(pulls) != 1:
            self.findings.add("storages", len(pulls), "exactly one image, pulled in the guest", "image")
        for storage in pulls:
            self.pull(storage)
        return 1

    def pull(self, storage: object) -> None:
        """The storage that the image is pulled into."""
        where = "storages (image_guest_pull)"
        if not self.image_ok(get(storage, "source")):
            wanted = self.want.get("image")
            text = "pause" if wanted == "pause" else f"<any registry>/<any name>@{wanted}"
            self.findings.add(f"{where}.source", get(storage, "source"), text, f"image of {self.name}")
        self.findings.equal(f"{where}.fstype", get(storage, "fstype"), "overlay", NODE)
        self.findings.empty(f"{where}.options", get(storage, "options"), NODE)
        root = get(self.oci, "Root", "Path")
        self.findings.equal(f"{where}.mount_point", get(storage, "mount_point"), root, "the container's root")
        self.findings.equal(f"{where}.fs_group", get(storage, "fs_group"), None, NODE)
        if get(storage, "shared") is not False and get(storage, "shared") is not MISSING:
            self.findings.add(f"{where}.shared", get(storage, "shared"), "false", NODE)
        options = items(get(storage, "driver_options"))
        metadata: object = MISSING
        if len(options) == 1 and isinstance(options[0], str) and options[0].startswith("image_guest_pull="):
            try:
                metadata = get(json.loads(options[0].removeprefix("image_guest_pull=")), "metadata")
            except (ValueError, RecursionError):
                metadata = MISSING
        crio = get(metadata, "io.kubernetes.cri-o.ContainerType")
        if crio is not MISSING and crio is not False:
            text = "no type of another runtime: the agent would believe it, and take the pause image"
            self.findings.add(f"{where}.driver_options", crio, text, NODE)
        oci_type, cri_type = self.types
        if get(metadata, OCI + "container_type") != oci_type or get(metadata, CRI + "container-type") != cri_type:
            text = f"one option image_guest_pull=… whose metadata says {oci_type} and {cri_type}"
            self.findings.add(f"{where}.driver_options", list(options), text, NODE)

    def devices(self) -> None:
        """Block devices, by their paths; GPUs, by their numbers."""
        wanted = texts(self.want.get("devices"))
        listed, nodes = items(get(self.request, "devices")), items(get(self.oci, "Linux", "Devices"))
        gpus = [device for device in listed if get(device, "type_") == _GPU]
        seen = [device for device in listed if get(device, "type_") != _GPU]
        self.gpus(gpus)
        good = [
            get(device, "container_path")
            for device in seen
            if get(device, "type_") in ("blk", "scsi") and get(device, "options") == []
        ]
        if len(seen) != len(wanted) or any(path not in good for path in wanted):
            paths = [get(device, "container_path") for device in seen]
            self.findings.add("devices", [path for path in paths if path is not MISSING], show(wanted), "volumeDevices")
        blocks = [get(node, "Path") for node in nodes if get(node, "Type") == "b"]
        if len(nodes) != len(wanted) or any(path not in blocks for path in wanted):
            self.findings.add("OCI.Linux.Devices", list(nodes), f"block devices {show(wanted)}", "volumeDevices")

    def gpus(self, seen: Sequence[object]) -> None:
        """An annotation for each GPU, and for each one that the node attaches now."""
        wanted = self.want.get("gpus")
        count = wanted if isinstance(wanted, int) else 0
        where, source = "devices (GPUs)", f"resources.limits: {GPU_RESOURCE}"
        named = {k: v for k, v in table(self.oci.get("Annotations")).items() if k.startswith(_CDI)}
        if count and (len(named) != count or len(set(map(str, named.values()))) != count):
            self.findings.add(
                f"OCI.Annotations.{_CDI}vfio<number>", dict(named), f"{count} of them, each for another GPU", source
            )
        ids = [get(device, "id") for device in seen]
        if len(seen) not in {0, count} or len(set(map(str, ids))) != len(ids):
            text = f"{count} GPUs, or none where they were attached before" if count else "no GPU"
            self.findings.add(where, ids, text, source)
        for device in seen if count else ():
            name, options = get(device, "id"), get(device, "options")
            good = found("^vfio[0-9]{1,9}$", name) and f"{_CDI}{name}" in named
            same_place = get(device, "container_path") == f"/dev/vfio/devices/{name}" and get(device, "vm_path") == ""
            pairs = isinstance(options, list) and options and all(found(_ADDRESSES, option) for option in options)
            if not (good and same_place and pairs):
                text = (
                    f"/dev/vfio/devices/vfio<number> with {_CDI}vfio<number> among the annotations, and its addresses"
                )
                self.findings.add(where, device, text, source)
