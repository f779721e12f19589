"""What a pod should look like to its guest agent, in Kata's terms; values only, made and judged elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from images.config import VerityLayer
from images.reference import ImageReference
from policy.text import Hole, Text

SANDBOX_KEY = "-"  # No container can have this name.
SHARED = "/run/kata-containers/shared/containers/"
GPU_RESOURCE = "nvidia.com/pgpu"  # By this name device plugins offer GPUs that are passed through.
EPHEMERAL = "/run/kata-containers/sandbox/ephemeral/"

DEFAULT_CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
ALL_CAPABILITIES = tuple(sorted((
    *DEFAULT_CAPABILITIES, "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH", "IPC_LOCK", "IPC_OWNER", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN",
    "NET_BROADCAST",
    "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
)))  # fmt: skip
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


class Kind(StrEnum):
    """What a container is in its pod."""

    SANDBOX = "sandbox"
    INIT = "init"
    SIDECAR = "sidecar"
    APP = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount. Exactly one of *source* and *disk* (the name of a volume on an encrypted disk of the pod) is set."""

    type: str
    options: tuple[str, ...]
    source: Text | None = None
    disk: str | None = None

    def data(self) -> dict[str, object]:
        """How it stands in a policy."""
        from_where: dict[str, object] = {"disk": self.disk} if self.source is None else {"source": self.source.data()}
        return {"type": self.type, "options": list(self.options), **from_where}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The storage of an emptyDir in the guest's memory."""

    mount_point: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """What must have happened before: *flag* of the container *key*; *passed* is the init container over then."""

    flag: str
    key: str
    passed: str = SANDBOX_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container.

    ``overridden`` are variables of the image that the YAML gives another value: containerd sends both, ours last.
    ``links`` are variables that may be there, all of one Service or none, by its name.
    ``gpus`` is how many GPUs the node passes through to it, for the driver of the guest.
    ``gids`` and ``groups`` are the groups that it may have: of one kind, but for the sandbox, where nodes differ.
    ``image`` is None for the sandbox, which no YAML names. ``layers``, top first, are those of the image where the node
    hands it over as layers, none where the guest pulls it.
    """

    key: str
    kind: Kind
    after: After
    image: ImageReference | None
    args: tuple[Text, ...]
    env: Mapping[str, Text]
    cwd: str
    uid: int
    gids: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    capabilities: tuple[str, ...]
    base: str
    mounts: Mapping[str, Mount]
    overridden: tuple[str, ...] = ()
    links: Mapping[str, Mapping[str, Text]] = field(default_factory=dict)
    memory: tuple[Memory, ...] = ()
    devices: tuple[str, ...] = ()
    gpus: int = 0
    no_new_privileges: bool = False
    readonly: bool = False
    privileged: bool = False
    tty: bool = False
    oom: tuple[int, int]
    apparmor: tuple[str, ...]
    sysctls: Mapping[str, str] = field(default_factory=dict)
    exec: tuple[tuple[str, ...], ...] = ()
    pidns: bool = False
    layers: tuple[VerityLayer, ...] = ()

    @property
    def gid(self) -> int:
        """The group that this program's own requests name."""
        return self.gids[-1]

    @property
    def disks(self) -> dict[str, str]:
        """The volumes on encrypted disks, by destination."""
        return {place: mount.disk for place, mount in self.mounts.items() if mount.disk is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod: names (*name* is a pattern, *hostname* empty unless the YAML gives one) and containers, sandbox first.

    *numbered*, *stem*: as `policy.names.PodNames` has them.
    """

    name: str
    numbered: str = ""
    stem: bool = False
    namespace: Text
    hostname: str
    fs_group: int | None
    logs: bool
    annotations: Mapping[str, str]
    containers: tuple[Container, ...]

    @property
    def layered(self) -> bool:
        """Whether the node hands images over as layers; else the guest pulls them."""
        return any(container.layers for container in self.containers)

    def container(self, key: str) -> Container:
        """The container called *key*."""
        return next(container for container in self.containers if container.key == key)


def shared_file(basename: str) -> Text:
    """Where Kata puts a file or folder of the node for a container: named by it, with eight random bytes."""
    return Text.of(SHARED, Hole.CONTAINER_ID, "-", Hole.RANDOM, f"-{basename}")


def base_mounts(base: str) -> dict[str, Mount]:
    """The mounts that every container has, by destination, before volumes replace or add some.

    Args:
        base: ``sandbox``, or ``container`` with any of ``-ro`` (read-only root) and ``-privileged`` after it.
    """

    def system(kind: str, source: str, *options: str) -> Mount:
        return Mount(type=kind, source=Text.of(source), options=options)

    access = "rw" if base.endswith("-privileged") else "ro"
    mounts = {
        "/proc": system("proc", "proc", "nosuid", "noexec", "nodev"),
        "/dev": system("tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        "/dev/pts": system(
            "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        "/dev/mqueue": system("mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        "/sys": system("sysfs", "sysfs", "nosuid", "noexec", "nodev", access),
    }
    if base == "sandbox":
        mounts["/dev/shm"] = system("bind", "/run/kata-containers/sandbox/shm", "rbind")  # noqa: S108  a path in the guest
        options = ("rbind", "ro", "nosuid", "nodev", "noexec")
        mounts["/etc/resolv.conf"] = Mount(type="bind", options=options, source=shared_file("resolv.conf"))
        return mounts
    root = "ro" if "-ro" in base else "rw"
    mounts["/sys/fs/cgroup"] = system("cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", access)
    mounts["/etc/hosts"] = Mount(type="bind", options=("rbind", "rprivate", "rw"), source=shared_file("hosts"))
    for name in ("hostname", "resolv.conf"):
        mounts[f"/etc/{name}"] = Mount(type="bind", options=("rbind", "rprivate", root), source=shared_file(name))
    mounts["/dev/shm"] = system("bind", "/run/kata-containers/sandbox/shm", "rbind")  # noqa: S108  a path in the guest
    return mounts


def hidden_pairs(destinations: list[str]) -> list[tuple[str, str]]:
    """Every pair of destinations of which the first lies above the second, so it must be mounted before."""
    return [(above, below) for above in destinations for below in destinations if below.startswith(above + "/")]
