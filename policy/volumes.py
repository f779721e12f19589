"""What a container finds mounted: system mounts, volumes, devices; only kinds whose place in the guest is known."""

import posixpath
from collections.abc import Mapping
from enum import Enum

from images.config import ImageConfig
from k8s.problems import Path
from policy.fields import EMPTY_DIR, HOST_PATH, NODE_FILES, VOLUME, VOLUME_DEVICE, VOLUME_MOUNT, check_fields
from policy.model import EPHEMERAL, Memory, Mount, base_mounts, shared_file
from policy.reader import Reader, Table
from policy.text import Text

_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  a path
_REPLACEABLE = {"/dev/shm", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}  # noqa: S108  paths in the guest
_KERNEL = ("/proc", "/sys")
_GUESTS = ("/dev", "/proc", "/sys", "/run", "/var/run")  # Of these a guest has its own.


class Volume(Enum):
    """How a volume comes into the guest."""

    MEMORY = "emptyDir in memory"
    DISK = "emptyDir on an encrypted disk"
    FILES = "files copied by the node, read-only"
    CLAIM = "files that the node mounts and hands on"


class VolumeReader:
    """Reads the volumes of one pod, then the mounts of each container."""

    def __init__(self, reader: Reader, fs_group: int | None) -> None:
        self._reader = reader
        self._fs_group = fs_group
        self._volumes = dict(self._templates())
        self._claims = set(self._volumes)
        self._readonly: set[str] = set()  # volumes that are read-only wherever they are mounted
        for path, volume in reader.items(reader.pod, "volumes", ()):
            check_fields(reader, volume, VOLUME, path)
            name = reader.text(volume, "name", path)
            kind = self._kind(volume, path)
            if name is not None and kind is not None:
                self._volumes[name] = kind

    def token_mounted(self) -> bool:
        """Whether the API server adds the ServiceAccount's token: the pod decides, then the account, else it does."""
        pod = self._reader.pod
        own = self._reader.flag(pod, "automountServiceAccountToken", ())
        if own is not None:
            return own
        name = pod.get("serviceAccountName") or pod.get("serviceAccount") or "default"
        accounts = () if self._reader.resources is None else self._reader.resources.service_accounts
        for account in accounts:
            if account.name == name and account.namespace == self._reader.workload.namespace:
                return account.get("automountServiceAccountToken") is not False
        return True

    def mounts(
        self, container: Table, path: Path, base: str, image: ImageConfig
    ) -> tuple[dict[str, Mount], tuple[Memory, ...]]:
        """The mounts beside the *base* ones, by destination, and the storages in memory that they need."""
        termination = self._reader.text(container, "terminationMessagePath", path) or "/dev/termination-log"
        mounts = {termination: _bind(shared_file(posixpath.basename(termination)), "rw")}
        if not self._clean(termination):
            self._reader.refuse((*path, "terminationMessagePath"), "this is no clean absolute path", "write one")
        own: dict[str, Mount] = {}
        memory: dict[str, Memory] = {}
        for place, item in self._reader.items(container, "volumeMounts", path):
            check_fields(self._reader, item, VOLUME_MOUNT, place)
            target = self._reader.text(item, "mountPath", place) or ""
            name = self._reader.text(item, "name", place) or ""
            placed, part = self._target_ok(target, place, base, own), self._part_ok(item, name, place)
            if not placed:
                continue
            readonly = self._reader.flag(item, "readOnly", place) or name in self._readonly
            mount = self._mount(name, target, place, writable=not readonly)
            if mount is None or not part:
                continue
            if mount.disk is not None and mount.disk in {other.disk for other in own.values()}:
                self._reader.refuse(place, f"emptyDir {name!r} is mounted twice in one container", "mount it once")
            own[target] = mount
            if self._volumes[name] is Volume.MEMORY:
                options = (f"fsgid={self._fs_group}",) if self._fs_group else ()
                memory[name] = Memory(mount_point=EPHEMERAL + name, options=options)
        if self.token_mounted() and _TOKEN not in own:
            own[_TOKEN] = _bind(shared_file("serviceaccount"), "ro")
        self._image_volumes(image, own, path)
        return {**mounts, **own}, tuple(memory.values())

    def devices(self, container: Table, path: Path) -> tuple[str, ...]:
        """The paths of block devices."""
        devices: list[str] = []
        for place, item in self._reader.items(container, "volumeDevices", path):
            check_fields(self._reader, item, VOLUME_DEVICE, place)
            target = self._reader.text(item, "devicePath", place) or ""
            name = self._reader.text(item, "name", place) or ""
            if not self._clean(target) or target in devices:
                self._reader.refuse(
                    (*place, "devicePath"), f"{target!r} is no clean absolute path of its own", "write one"
                )
            elif name not in self._claims:
                self._reader.refuse((*place, "name"), f"{name!r} is no claim of this pod", "name a volume with a claim")
            else:
                devices.append(target)
        return tuple(sorted(devices))

    def _templates(self) -> Mapping[str, Volume]:
        listed = self._reader.workload.items("spec", "volumeClaimTemplates")
        named = [template.get("metadata") for template in listed]
        return {str(metadata.get("name")): Volume.CLAIM for metadata in named if isinstance(metadata, dict)}

    def _kind(self, volume: Table, path: Path) -> Volume | None:
        sources = [name for name in volume if name != "name" and volume[name] is not None]
        match sources:
            case ["emptyDir"]:
                source = self._reader.table(volume, "emptyDir", path)
                check_fields(self._reader, source, EMPTY_DIR, (*path, "emptyDir"))
                medium = source.get("medium") or ""
                if medium not in {"", "Memory"}:
                    self._reader.refuse(
                        (*path, "emptyDir", "medium"), f"{medium!r} is not described yet", "write Memory"
                    )
                return Volume.MEMORY if medium == "Memory" else Volume.DISK
            case ["configMap" | "secret" | "projected" | "downwardAPI"]:
                return Volume.FILES
            case [kind] if kind in NODE_FILES:
                self._from_node(kind, volume, path)
                return Volume.CLAIM
            case []:
                return Volume.DISK  # Kubernetes' default.
            case [name] if name in VOLUME.special:
                return None  # Refused with its reason already.
        if not all(name in VOLUME.special for name in sources):
            self._reader.refuse(path, f"the volume comes from {' and '.join(sources)}", "give it one known source")
        return None

    def _from_node(self, kind: str, volume: Table, path: Path) -> None:
        """What else a volume of the node says."""
        source, name = self._reader.table(volume, kind, path), str(volume.get("name"))
        if kind in {"persistentVolumeClaim", "ephemeral"}:
            self._claims.add(name)
        if kind == "hostPath":
            check_fields(self._reader, source, HOST_PATH, (*path, kind))
            where = posixpath.normpath(self._reader.text(source, "path", (*path, kind)) or "/")
            if where == "/" or _below(where, _GUESTS):
                self._reader.refuse(
                    (*path, kind, "path"), "of these files the guest has its own, not the node's", "remove the volume"
                )
        if kind != "ephemeral" and self._reader.flag(source, "readOnly", (*path, kind)):
            self._readonly.add(name)

    def _part_ok(self, item: Table, name: str, path: Path) -> bool:
        """Whether a ``subPath`` can be: the node resolves it, so only in what comes from the node anyway."""
        part = next((field for field in ("subPath", "subPathExpr") if item.get(field)), None)
        if part is None or self._volumes.get(name) in {Volume.FILES, Volume.CLAIM, None}:
            return True
        self._reader.refuse(
            (*path, part),
            "the node would bring a folder of its own instead of a part of this emptyDir, which lies in the guest",
            "mount the whole volume, or an emptyDir of its own",
        )
        return False

    def _mount(self, name: str, target: str, path: Path, *, writable: bool) -> Mount | None:
        access = "rw" if writable else "ro"
        kind = self._volumes.get(name)
        if kind is None:
            names = [volume.get("name") for _, volume in self._reader.items(self._reader.pod, "volumes", ())]
            if name not in names:
                self._reader.refuse((*path, "name"), f"the pod has no volume {name!r}", "define it under volumes")
            return None
        if kind is Volume.MEMORY:
            return _bind(Text.of(EPHEMERAL + name), access)
        if kind is Volume.DISK:
            return Mount(type="bind", options=("rbind", "rprivate", access), disk=name)
        return _bind(shared_file(posixpath.basename(target)), "ro" if kind is Volume.FILES else access)

    def _target_ok(self, target: str, path: Path, base: str, own: Mapping[str, Mount]) -> bool:
        if not self._clean(target):
            shown = posixpath.normpath("/" + target.lstrip("/"))
            self._reader.refuse((*path, "mountPath"), f"{target!r} is no clean absolute path", f"write {shown}")
        elif target in own:
            self._reader.refuse((*path, "mountPath"), f"two volumes are mounted at {target}", "mount one")
        elif (target in base_mounts(base) and target not in _REPLACEABLE) or _below(target, _KERNEL):
            self._reader.refuse((*path, "mountPath"), f"{target} belongs to the kernel", "mount it elsewhere")
        else:
            return True
        return False

    def _image_volumes(self, image: ImageConfig, own: Mapping[str, Mount], path: Path) -> None:
        for volume in image.volumes:
            if posixpath.normpath("/" + volume.lstrip("/")) not in own:
                self._reader.refuse(
                    (*path, "volumeMounts"),
                    f"the image declares the volume {volume}, for which the node would bring a folder of its own",
                    f"mount an emptyDir at {volume}",
                )

    @staticmethod
    def _clean(path: str) -> bool:
        return path.startswith("/") and path != "/" and posixpath.normpath(path) == path and not path.startswith("//")


def _bind(source: Text, access: str) -> Mount:
    return Mount(type="bind", options=("rbind", "rprivate", access), source=source)


def _below(path: str, parents: tuple[str, ...]) -> bool:
    return any(path == parent or path.startswith(parent + "/") for parent in parents)
