"""What a dishonest node could ask, one thing at a time: denied, and the explanation names it."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from policy.model import SHARED
from policy.reasons import get
from policy.requests import Request, Shim
from tests.support.policies import DIGEST, RICH, case, plain, rich_case, sandboxless_case

Json = dict[str, Any]
OTHER = "registry.invalid/app@sha256:" + "6" * 64


def oci(request: Request) -> Json:
    return cast("Json", request["OCI"])


def process(request: Request) -> Json:
    return cast("Json", oci(request)["Process"])


def mounts(request: Request) -> list[Json]:
    return cast("list[Json]", oci(request)["Mounts"])


def storages(request: Request) -> list[Json]:
    return cast("list[Json]", request["storages"])


def pull(request: Request) -> Json:
    return next(s for s in storages(request) if s["driver"] == "image_guest_pull")


def mount_at(request: Request, place: str) -> Json:
    return next(m for m in mounts(request) if m["destination"] == place)


def move_first(request: Request, place: str) -> None:
    found = mount_at(request, place)
    mounts(request).remove(found)
    mounts(request).insert(0, found)


def move_last(request: Request, place: str) -> None:
    found = mount_at(request, place)
    mounts(request).remove(found)
    mounts(request).append(found)


def set_env(request: Request, name: str, value: str) -> None:
    env = process(request)["Env"]
    index = max(i for i, entry in enumerate(env) if entry.startswith(name + "="))  # The last one counts.
    env[index] = f"{name}={value}"


def change_metadata(request: Request, key: str, value: str) -> None:
    (option,) = pull(request)["driver_options"]
    metadata = json.loads(option.removeprefix("image_guest_pull="))
    metadata["metadata"][key] = value
    pull(request)["driver_options"] = ["image_guest_pull=" + json.dumps(metadata)]


CAPS = ("Bounding", "Effective", "Permitted")
WEB: list[tuple[str, Any, str]] = [
    ("another image", lambda r: pull(r).update(source=OTHER), f"<any registry>/<any name>@{DIGEST}"),
    ("a tag", lambda r: pull(r).update(source="registry.invalid/app:v1"), "image_guest_pull).source"),
    ("two digests", lambda r: pull(r).update(source=f"{OTHER}@{DIGEST}"), "image_guest_pull).source"),
    ("the pause image", lambda r: pull(r).update(source="pause"), "image_guest_pull).source"),
    ("no image", lambda r: storages(r).remove(pull(r)), "exactly one image"),
    ("two images", lambda r: storages(r).append(plain(pull(r))), "exactly one image"),
    ("an image elsewhere", lambda r: pull(r).update(mount_point="/run/kata-containers/x/rootfs"), "mount_point"),
    ("an image with mount options", lambda r: pull(r).update(options=["lowerdir=/"]), "options"),
    ("an image of another kind", lambda r: pull(r).update(fstype="ext4"), "fstype"),
    ("an image taken for the sandbox's",
     lambda r: change_metadata(r, "io.katacontainers.pkg.oci.container_type", "pod_sandbox"), "metadata says"),
    ("an image that another runtime's metadata take for the sandbox's",
     lambda r: change_metadata(r, "io.kubernetes.cri-o.ContainerType", "sandbox"), "the agent would believe it"),
    ("no metadata", lambda r: pull(r).update(driver_options=[]), "driver_options"),
    ("another image in the annotations",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.image-name": OTHER}), "image-name"),
    ("an annotation of the sandbox without a value",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.sandbox-log-directory": None}), "log-directory"),
    ("an annotation of nobody without a value",
     lambda r: oci(r)["Annotations"].update({"io.katacontainers.config.hypervisor.x": None}), "hypervisor.x"),
    ("a root of its own",
     lambda r: oci(r)["Root"].update(Path="/run/kata-containers/shared/containers/x"),
     "OCI.Root.Path"),
    ("a writable root", lambda r: oci(r)["Root"].update(Readonly=False), "readOnlyRootFilesystem"),
    ("another program", lambda r: process(r)["Args"].__setitem__(0, "/bin/sh"), "OCI.Process.Args[0]"),
    ("one argument more", lambda r: process(r)["Args"].append("--debug"), "OCI.Process.Args"),
    ("one argument less", lambda r: process(r)["Args"].pop(), "OCI.Process.Args"),
    ("the name of another pod in an argument",
     lambda r: process(r)["Args"].__setitem__(1, "--name=web-2-bcdfg"),
     "Args[1]"),
    ("no environment", lambda r: process(r).update(Env=[]), "LEVEL=debug"),
    ("one variable less", lambda r: process(r)["Env"].remove("LEVEL=debug"), "LEVEL=debug"),
    ("one variable more", lambda r: process(r)["Env"].append("LD_PRELOAD=/data/x.so"), "no variable LD_PRELOAD"),
    ("the image's value beside ours", lambda r: process(r)["Env"].append("LEVEL=info"), "LEVEL=info"),
    ("a variable twice", lambda r: process(r)["Env"].append("LEVEL=debug"), "LEVEL"),
    ("another value", lambda r: set_env(r, "LEVEL", "trace"), "LEVEL=debug"),
    ("the variable of a Service",
     lambda r: process(r)["Env"].append("VAULT_SERVICE_HOST=10.6.6.6"),
     "no variable VAULT_SERVICE_HOST"),
    ("the port of a Service", lambda r: process(r)["Env"].append("DB_PORT=tcp://6.6.6.6:1"), "no variable DB_PORT"),
    ("a second host name", lambda r: process(r)["Env"].append("HOSTNAME=web"), "no variable HOSTNAME"),
    ("another host name", lambda r: set_env(r, "HOSTNAME", "other"), "HOSTNAME"),
    ("another pod's name", lambda r: set_env(r, "POD", "web-2-bcdfg"), "POD="),
    ("another namespace", lambda r: set_env(r, "NAMESPACE", "default"), "NAMESPACE=shop"),
    ("no address", lambda r: set_env(r, "ADDRESS", "evil.invalid"), "ADDRESS="),
    ("an address and more", lambda r: set_env(r, "ADDRESS", "10.0.0.1\nX=y"), "ADDRESS="),
    ("another URL", lambda r: set_env(r, "URL", "http://10.0.0.1:80@evil.invalid/"), "URL="),
    ("an API server with a path", lambda r: set_env(r, "KUBERNETES_PORT", "tcp://10.0.0.1:443/x"), "KUBERNETES_PORT="),
    ("another directory", lambda r: process(r).update(Cwd="/data"), "workingDir"),
    ("root", lambda r: process(r)["User"].update(UID=0), "runAsUser"),
    ("the group root", lambda r: process(r)["User"].update(GID=0), "runAsGroup"),
    ("one group more", lambda r: process(r)["User"]["AdditionalGids"].append(0), "AdditionalGids"),
    ("one group less", lambda r: process(r)["User"]["AdditionalGids"].pop(), "AdditionalGids"),
    ("a user by name", lambda r: process(r)["User"].update(Username="root"), "Username"),
    ("a user by text", lambda r: r.update(string_user={"uid": "0", "gid": "0", "additionalGids": []}), "string_user"),
    ("a capability", lambda r: process(r)["Capabilities"]["Bounding"].append("CAP_SYS_ADMIN"), "SYS_ADMIN"),
    ("an ambient capability", lambda r: process(r)["Capabilities"]["Ambient"].append("CAP_CHOWN"), "Ambient"),
    ("new privileges", lambda r: process(r).update(NoNewPrivileges=False), "allowPrivilegeEscalation"),
    ("no AppArmor", lambda r: process(r).update(ApparmorProfile="unconfined"), "appArmorProfile"),
    ("an OOM score", lambda r: process(r).update(OOMScoreAdj=-999), "quality of service"),
    ("limits", lambda r: process(r)["Rlimits"].append({"Type": "RLIMIT_NOFILE", "Hard": 1, "Soft": 1}), "Rlimits"),
    ("a terminal", lambda r: process(r).update(Terminal=True), "tty"),
    ("no mounts", lambda r: oci(r).update(Mounts=[]), "a mount at /contrast"),
    ("one mount less", lambda r: mounts(r).remove(mount_at(r, "/contrast")), "a mount at /contrast"),
    ("one mount more",
     lambda r: mounts(r).append({**mount_at(r, "/data"), "destination": "/bin"}), "each expected destination once"),
    ("a mount twice", lambda r: mounts(r).append(plain(mount_at(r, "/data"))), "each expected destination once"),
    ("a mount in the place of another",
     lambda r: mount_at(r, "/data").update(destination="/etc/web"), "each expected destination once"),
    ("a parent mounted over its child", lambda r: move_last(r, "/var/cache"), "/var/cache before /var/cache/spool"),
    ("a system mount over its child", lambda r: move_last(r, "/dev"), "/dev before /dev/pts"),
    ("a child mounted first", lambda r: move_first(r, "/sys/fs/cgroup"), "/sys before /sys/fs/cgroup"),
    ("certificates from a shared folder",
     lambda r: mount_at(r, "/contrast").update(source=mount_at(r, "/data")["source"]), "volumes"),
    ("certificates from another volume",
     lambda r: mount_at(r, "/contrast").update(source="/run/kata-containers/sandbox/ephemeral/cache"), "volumes"),
    ("a folder of another container",
     lambda r: mount_at(r, "/data").update(source=f"{SHARED}{'b' * 64}-0123456789abcdef-data"),
     "volumes"),
    ("a source that climbs",
     lambda r: mount_at(r, "/data").update(source=mount_at(r, "/data")["source"] + "/../../x"), "volumes"),
    ("a source of nothing", lambda r: mount_at(r, "/var/cache").update(source=""), "an encrypted disk"),
    ("writable configuration",
     lambda r: mount_at(r, "/etc/web").update(options=["rbind", "rprivate", "rw"]),
     "readOnly"),
    ("another mount type", lambda r: mount_at(r, "/data").update(type_="overlay"), "type_"),
    ("an unencrypted disk",
     lambda r: next(s for s in storages(r) if s["driver"] == "blk").update(driver_options=[]), "an encrypted disk"),
    ("a disk that holds something",
     lambda r: next(s for s in storages(r) if s["driver"] == "blk").update(driver_options=["encryption_key=ephemeral"]),
     "an encrypted disk"),
    ("one disk for two volumes",
     lambda r: mount_at(r, "/var/cache/spool").update(source=mount_at(r, "/var/cache")["source"]), "a disk of its own"),
    ("a storage more",
     lambda r: storages(r).append({**storages(r)[-1], "mount_point": "/run/kata-containers/sandbox/storage/x"}),
     "storages"),
    ("a storage over the root of another container",
     lambda r: storages(r)[1].update(mount_point="/run/kata-containers/x/rootfs"), "emptyDir in memory"),
    ("a writable group for the certificates",
     lambda r: storages(r)[1].update(options=["fsgid=0"]),
     "emptyDir in memory"),
    ("a shared mount", lambda r: cast("list[Json]", r["shared_mounts"]).append({"name": "x"}), "shared_mounts"),
    ("another device",
     lambda r: cast("list[Json]", r["devices"])[0].update(container_path="/dev/other"), "volumeDevices"),
    ("a device more", lambda r: cast("list[Json]", r["devices"]).append(
        {"id": "9/0", "type_": "blk", "vm_path": "", "container_path": "/dev/x", "options": []}), "volumeDevices"),
    ("a character device", lambda r: oci(r)["Linux"]["Devices"][0].update(Type="c"), "OCI.Linux.Devices"),
    ("hooks", lambda r: oci(r).update(Hooks={"Prestart": [{"Path": "/x"}]}), "OCI.Hooks"),
    ("masked application files",
     lambda r: oci(r)["Linux"]["MaskedPaths"].append("/app/config"),
     "masking would change"),
    ("read-only application files", lambda r: oci(r)["Linux"]["ReadonlyPaths"].append("/data"), "ReadonlyPaths"),
    ("a kernel file less", lambda r: oci(r)["Linux"]["MaskedPaths"].remove("/proc/kcore"), "/proc/kcore"),
    ("kernel settings writable", lambda r: oci(r)["Linux"]["ReadonlyPaths"].remove("/proc/sys"), "/proc/sys"),
    ("a system control", lambda r: oci(r)["Linux"]["Sysctl"].update({"kernel.core_pattern": "|/x"}), "sysctls"),
    ("a foreign network",
     lambda r: oci(r)["Linux"]["Namespaces"].append({"Type": "network", "Path": "/proc/1/ns/net"}),
     "network"),
    ("a foreign namespace", lambda r: oci(r)["Linux"]["Namespaces"][0].update(Path="/proc/1/ns/ipc"), "Namespaces"),
    ("a namespace less", lambda r: oci(r)["Linux"]["Namespaces"].pop(), "Namespaces"),
    ("no shared processes", lambda r: r.update(sandbox_pidns=False), "shareProcessNamespace"),
    ("a user mapping", lambda r: oci(r)["Linux"]["UIDMappings"].append({"HostID": 0}), "UIDMappings"),
    ("a seccomp profile", lambda r: oci(r)["Linux"].update(Seccomp={"DefaultAction": "SCMP_ACT_ALLOW"}), "Seccomp"),
    ("device rules", lambda r: oci(r)["Linux"]["Resources"]["Devices"].append({"Allow": True}), "Resources.Devices"),
    ("a cgroup with an odd name", lambda r: oci(r)["Linux"].update(CgroupsPath="/a b"), "CgroupsPath"),
    ("a cgroup that climbs", lambda r: oci(r)["Linux"].update(CgroupsPath="/kubepods/../../../etc"), "no '..' in it"),
    ("a field of a newer agent", lambda r: r.update(rootfs_override={"path": "/x"}), "rootfs_override"),
    ("a field of a newer runtime specification", lambda r: process(r).update(IOPriority={"Class": 1}), "IOPriority"),
    ("a mount with more to say", lambda r: mount_at(r, "/data").update(idmap=True), "does not know"),
    ("a storage with more to say", lambda r: storages(r)[-1].update(overlay="/x"), "does not know"),
    ("another pod's name in the annotations",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.sandbox-name": "web-2-bcdfg"}), "sandbox-name"),
    ("another sandbox",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.sandbox-id": "c" * 64}),
     "sandbox-id"),
    ("an unknown annotation", lambda r: oci(r)["Annotations"].update({"io.katacontainers.config.x": "y"}), "config.x"),
    ("an unknown container",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.container-name": "shell"}),
     "first, helper, other, second, web"),
    ("a container in the place of the sandbox",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.container-name": "-"}), "container-type"),
    ("the policy of another container",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.container-name": "other"}), "command and args"),
    ("an id that is a path", lambda r: r.update(container_id="../x", exec_id="../x"), "container_id"),
    ("passed file descriptors", lambda r: r.update(stdin_port=1024), "stdin_port"),
]  # fmt: skip


@pytest.mark.parametrize(("mutate", "because"), [row[1:] for row in WEB], ids=[row[0] for row in WEB])
def test_a_changed_container_is_denied_and_explained(mutate: Any, because: str) -> None:
    """Each is a way in that some policy somewhere left open."""
    rich_case("web").create_denied("web", mutate, because)


SANDBOX: list[tuple[str, Any, str]] = [
    ("another pod",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.sandbox-name": "vault-1-bcdfg"}),
     "sandbox-name"),
    ("a dot that matches anything",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.sandbox-name": "webx"}),
     "sandbox-name"),
    ("another namespace",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.sandbox-namespace": "x"}),
     "namespace"),
    ("another program", lambda r: process(r).update(Args=["/bin/sh"]), "Args"),
    ("a variable", lambda r: process(r)["Env"].append("A=b"), "no variable A"),
    ("an image", lambda r: pull(r).update(source=OTHER), "pause"),
    ("another network",
     lambda r: oci(r)["Linux"]["Namespaces"].append({"Type": "network", "Path": "/proc/1/ns/net"}),
     "network"),
    ("system control less", lambda r: oci(r)["Linux"]["Sysctl"].pop("net.core.somaxconn"), "somaxconn"),
    ("system control changed", lambda r: oci(r)["Linux"]["Sysctl"].update({"net.core.somaxconn": "1"}), "somaxconn"),
    ("a log folder elsewhere",
     lambda r: oci(r)["Annotations"].update({"io.kubernetes.cri.sandbox-log-directory": "/etc"}), "log-directory"),
    ("another id", lambda r: r.update(container_id="d" * 64, exec_id="d" * 64), "container_id"),
]  # fmt: skip


@pytest.mark.parametrize(("mutate", "because"), [row[1:] for row in SANDBOX], ids=[row[0] for row in SANDBOX])
def test_a_changed_sandbox_is_denied_and_explained(mutate: Any, because: str) -> None:
    rich_case("-").create_denied("-", mutate, because)


def test_containers_come_in_order_and_init_containers_are_not_skipped() -> None:
    """Certificates come from an init container: starting without it must be impossible."""
    pod = case(RICH)
    pod.denied("CreateContainerRequest", pod.shim.create_container("-"), "asked for")
    pod.allowed("CreateSandboxRequest", pod.shim.create_sandbox())
    pod.denied("CreateContainerRequest", pod.shim.create_container("first"), "the sandbox was started")
    pod.allowed("CreateContainerRequest", pod.shim.create_container("-"))
    pod.denied("CreateContainerRequest", pod.shim.create_container("first"), "the sandbox was started")
    sandbox = {"container_id": pod.shim.container_id("-")}
    pod.allowed("StartContainerRequest", dict(sandbox))
    pod.denied("StartContainerRequest", dict(sandbox), "not started yet")
    for key in ("web", "other", "helper", "second"):
        pod.denied("CreateContainerRequest", pod.shim.create_container(key), "order of initContainers")
    pod.allowed("CreateContainerRequest", pod.shim.create_container("first"))
    pod.denied("CreateContainerRequest", pod.shim.create_container("first", 1), "no second container first")
    first = {"container_id": pod.shim.container_id("first")}
    pod.allowed("RemoveContainerRequest", {**first, "timeout": 0})
    pod.denied("CreateContainerRequest", pod.shim.create_container("second"), "init container first has ended")
    for step in [*pod.shim.begin("first", 1), *pod.shim.end("first", 1)]:
        pod.allowed(*step)
    pod.allowed("CreateContainerRequest", pod.shim.create_container("second"))


def test_one_volume_is_one_disk_in_every_container() -> None:
    """Two containers that think they share files must share them, and two volumes must not."""
    pod = case(RICH)
    pod.run_until("other")
    request = plain(pod.shim.create_container("other"))
    spool = mount_at(plain(pod.shim.create_container("web")), "/var/cache/spool")["source"]
    disk = storages(request)[-1]
    mount_at(request, "/cache")["source"] = spool
    disk["mount_point"] = spool
    disk["source"] = "11/00"
    pod.denied("CreateContainerRequest", request, "one disk for all containers", "not the disk of spool")
    pod.allowed("CreateContainerRequest", pod.shim.create_container("other"))


@pytest.mark.parametrize("endpoint", ["StartContainerRequest", "RemoveContainerRequest", "SignalProcessRequest",
    "WaitProcessRequest", "StatsContainerRequest", "TtyWinResizeRequest"])  # fmt: skip
@pytest.mark.parametrize("cid", ["e" * 64, "", "pod:name", "name", "live:web", "sandbox"])
def test_lifecycle_calls_need_a_known_container(endpoint: str, cid: str) -> None:
    """Else the names under which the state keeps its own pins could be removed like containers."""
    rich_case("web").denied(endpoint, {"container_id": cid, "exec_id": cid, "signal": 9, "timeout": 0}, "container_id")


@pytest.mark.parametrize("endpoint", [
    "SetPolicyRequest", "UpdateContainerRequest", "PauseContainerRequest", "ResumeContainerRequest",
    "WriteStreamRequest",
    "ReadStreamRequest", "CloseStdinRequest", "GetDiagnosticDataRequest", "ListInterfacesRequest", "ListRoutesRequest",
    "GetIPTablesRequest", "SetIPTablesRequest", "GetMetricsRequest", "ReseedRandomDevRequest",
    "MemHotplugByProbeRequest",
    "SetGuestDateTimeRequest", "AddSwapRequest", "AddSwapPathRequest", "ResizeVolumeRequest", "VolumeStatsRequest",
    "MemAgentMemcgConfig", "MemAgentCompactConfig", "AllowRequestsFailingPolicy", "NoSuchRequest", "policy_data",
])  # fmt: skip
def test_everything_else_is_denied(endpoint: str) -> None:
    rich_case("web").denied(endpoint, {"policy": "package agent_policy", "container_id": "a" * 64})


def test_only_the_commands_of_probes_and_hooks_run_in_a_container() -> None:
    pod = case(RICH)
    pod.run_until("other")
    for command in (("/bin/ready",), ("/bin/stop", "now")):
        pod.allowed("ExecProcessRequest", pod.shim.exec_process("web", command))
    changes: list[tuple[str, Any, str]] = [
        ("a shell", lambda p: p.update(Args=["/bin/sh"]), "probes and hooks"),
        ("joined", lambda p: p.update(Args=["/bin/stop now"]), "probes and hooks"),
        ("longer", lambda p: p.update(Args=["/bin/stop", "now", "x"]), "probes and hooks"),
        ("root", lambda p: p["User"].update(UID=0), "runAsUser"),
        ("environment", lambda p: p["Env"].append("LD_PRELOAD=x"), "LD_PRELOAD"),
        ("directory", lambda p: p.update(Cwd="/tmp"), "workingDir"),
        ("capabilities", lambda p: p.update(Capabilities={"Bounding": ["CAP_CHOWN"], "Effective": [], "Permitted": [],
         "Inheritable": [], "Ambient": []}), "Capabilities.Bounding"),
        ("privileges", lambda p: p.update(NoNewPrivileges=False), "allowPrivilegeEscalation"),
        ("terminal", lambda p: p.update(Terminal=True), "tty"),
        ("profile", lambda p: p.update(ApparmorProfile="x"), "appArmorProfile"),
    ]  # fmt: skip
    for _, change, because in changes:
        request = plain(pod.shim.exec_process("web", ("/bin/stop", "now")))
        change(request["process"])
        pod.denied("ExecProcessRequest", request, because)
    other = plain(pod.shim.exec_process("web", ("/bin/ready",)))
    pod.denied("ExecProcessRequest", {**other, "container_id": pod.shim.container_id("helper")}, "no process at all")
    pod.denied("ExecProcessRequest", {**other, "container_id": pod.shim.container_id("-")}, "sandbox")
    pod.denied("ExecProcessRequest", {**other, "container_id": "f" * 64}, "container_id")
    pod.denied("ExecProcessRequest", {**other, "container_id": pod.shim.container_id("first")}, "a container that runs")


def test_what_the_node_may_vary_is_allowed_and_no_more() -> None:
    """The written list of differences that nodes have honestly; each is as narrow as it can be."""
    variations: list[Any] = [
        lambda r: process(r).update(ApparmorProfile=""),  # A node without AppArmor.
        lambda r: process(r).update(OOMScoreAdj=500),  # By the node's memory.
        lambda r: oci(r).update(Version="1.2.0"),
        lambda r: oci(r)["Linux"]["MaskedPaths"].append("/proc/interrupts"),  # Newer containerd.
        lambda r: oci(r)["Linux"]["MaskedPaths"].append("/sys/devices/virtual/powercap"),
        lambda r: oci(r)["Linux"]["MaskedPaths"].append("/sys/devices/system/cpu/cpu12/thermal_throttle"),
        lambda r: oci(r)["Linux"]["Sysctl"].update({"net.ipv4.ip_unprivileged_port_start": "0"}),
        lambda r: oci(r)["Linux"]["Resources"]["CPU"].update(Shares=512),  # Limits only deny service.
        lambda r: oci(r)["Linux"]["Resources"]["Memory"].update(Limit=1 << 26),
        lambda r: oci(r)["Linux"].update(CgroupsPath="kubepods-pod1.slice:cri-containerd:x"),
        lambda r: oci(r)["Linux"]["Namespaces"][2].update(Type="mnt"),  # Kata's Rust runtime.
        lambda r: process(r)["Capabilities"].update({k: ["NET_BIND_SERVICE"] for k in CAPS}),
        lambda r: process(r)["Env"].sort(reverse=True),  # The image's LEVEL=info stays before ours.
        lambda r: process(r)["User"]["AdditionalGids"].reverse(),
        lambda r: set_env(r, "KUBERNETES_SERVICE_HOST", "fd00::1"),
        lambda r: set_env(r, "CPUS", "4"),
        lambda r: pull(r).update(source=f"mirror.invalid/other/name@{DIGEST}"),  # The digest says it all.
        lambda r: mounts(r).append(mounts(r).pop(-2)),  # An order in which nothing hides anything.
        lambda r: oci(r)["Annotations"].pop("io.kubernetes.cri.image-name"),
    ]  # fmt: skip
    pod = rich_case("web")
    for vary in variations:
        request = plain(pod.shim.create_container("web"))
        vary(request)
        before = pod.engine.state
        pod.allowed("CreateContainerRequest", request)
        pod.engine.restore(before)


def test_a_field_that_is_empty_may_be_newer_than_these_rules() -> None:
    """An agent of tomorrow shows its new fields in every request; only one that says something could do something."""
    pod = rich_case("web")
    request = plain(pod.shim.create_container("web"))
    request.update(new_text="", new_list=[], new_flag=False, new_message=None)
    process(request)["NewNumber"] = 0
    before = pod.engine.state
    pod.allowed("CreateContainerRequest", request)
    pod.engine.restore(before)


NETWORK: list[tuple[str, str, Any, str]] = [
    ("the loopback interface by its address", "UpdateInterfaceRequest",
     lambda r: r["interface"].update(hwAddr="0:0:0:0:0:0"), "not all zero"),
    ("and by signs that a parser skips", "UpdateInterfaceRequest",
     lambda r: r["interface"].update(hwAddr="+0:+0:+0:+0:+0:+0"), "not all zero"),
    ("the loopback interface by its name", "UpdateInterfaceRequest",
     lambda r: r["interface"].update(name="lo"), "not lo"),
    ("an address of the loopback network for another interface", "UpdateInterfaceRequest",
     lambda r: r["interface"]["IPAddresses"][0].update(address="127.0.0.1"), "no loopback"),
    ("the same of the newer family", "UpdateInterfaceRequest",
     lambda r: r["interface"]["IPAddresses"].append({"family": 1, "address": "::1", "mask": "128"}), "no loopback"),
    ("an address that is none", "UpdateInterfaceRequest",
     lambda r: r["interface"]["IPAddresses"].append(None), "an address"),
    ("a route to the loopback network", "UpdateRoutesRequest",
     lambda r: r["routes"]["Routes"][0].update(dest="127.0.0.0/8"), "no loopback"),
    ("no interface", "UpdateInterfaceRequest", lambda r: r.update(interface=None), "interface.name"),
    ("a route for what is said to the loopback", "UpdateRoutesRequest",
     lambda r: r["routes"]["Routes"][0].update(source="::1/128"), "no loopback"),
    ("the same, one address inside the other", "UpdateRoutesRequest",
     lambda r: r["routes"]["Routes"][0].update(source="::FFFF:7f00:1"), "no loopback"),
    ("a route that is none", "UpdateRoutesRequest", lambda r: r["routes"]["Routes"].append({}), "Routes[1].source"),
    ("a neighbour without an address", "AddARPNeighborsRequest",
     lambda r: r["neighbors"]["ARPNeighbors"][0].update(toIPAddress=None), "an address"),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "change", "because"), [r[1:] for r in NETWORK], ids=[r[0] for r in NETWORK])
def test_the_loopback_network_is_the_guests(endpoint: str, change: Any, because: str) -> None:
    """The containers of a pod talk to each other there, the Initializer's helpers among them."""
    pod = sandboxless_case()
    neighbor = {"toIPAddress": {"family": 0, "address": "10.0.0.1", "mask": ""}, "device": "eth0",
        "lladdr": "00:00:5e:00:53:01", "state": 128, "flags": 0}  # fmt: skip
    honest = {
        "UpdateInterfaceRequest": pod.shim.update_interface(),
        "UpdateRoutesRequest": pod.shim.update_routes(),
        "AddARPNeighborsRequest": {"neighbors": {"ARPNeighbors": [neighbor]}},
    }[endpoint]
    pod.allowed(endpoint, plain(honest))
    changed = plain(honest)
    change(changed)
    pod.denied(endpoint, changed, because)


def test_a_pod_of_the_local_run_gives_its_loopback_address_to_no_interface() -> None:
    """The rules make no exception for it: such an address is on the loopback interface already."""
    pod = sandboxless_case()
    local = Shim(pod.pod, replace(pod.shim.facts, ip="127.65.0.10")).update_interface()
    assert get(local, "interface", "IPAddresses") == []
    pod.allowed("UpdateInterfaceRequest", local)


def test_a_sandbox_has_its_pods_host_name() -> None:
    pod = sandboxless_case()
    pod.denied("CreateSandboxRequest", {**pod.shim.create_sandbox(), "hostname": ""}, "hostname")


PLACE = f"{SHARED}{'a' * 64}-0123456789abcdef-web"
COPIES: list[tuple[str, Json, str]] = [
    ("outside of its place", {"path": "/etc/shadow"}, "end of a mount's path"),
    ("beside its place", {"path": "/run/kata-containers/shared/x-0123456789abcdef-web"}, "end of a mount's path"),
    ("under a name that no mount has", {"path": PLACE.replace("-web", "-rootfs")}, "end of a mount's path"),
    ("into the root of a container", {"path": f"{SHARED}{'a' * 64}/rootfs/bin/sh"}, "end of a mount's path"),
    ("that climbs", {"path": f"{PLACE}/../../../x"}, "no '..' in it"),
    ("that ends by climbing", {"path": f"{PLACE}/.."}, "no '..' in it"),
    ("a link in its very place", {"path": PLACE, "file_type": "Symlink", "symlink_target": "x"}, "not at its place"),
    (
        "a link to elsewhere",
        {"path": f"{PLACE}/x", "file_type": "Symlink", "symlink_target": "/etc"},
        "relative target",
    ),
    (
        "a link that climbs",
        {"path": f"{PLACE}/x", "file_type": "Symlink", "symlink_target": "../../y"},
        "relative target",
    ),
    ("a link to nowhere", {"path": f"{PLACE}/x", "file_type": "Symlink", "symlink_target": None}, "relative target"),
    ("something else", {"path": f"{PLACE}/x", "file_type": "Unknown"}, "Regular, Directory or Symlink"),
]


@pytest.mark.parametrize(("change", "because"), [row[1:] for row in COPIES], ids=[row[0] for row in COPIES])
def test_a_copy_elsewhere_is_denied(change: Json, because: str) -> None:
    """A copied link once led anywhere in the guest (CVE-2026-41326)."""
    honest = next(iter(rich_case("web").shim.copies("web")))
    rich_case("web").allowed("CopyFileRequest", {**honest, "path": f"{PLACE}/file", "file_type": "Regular"})
    rich_case("web").denied("CopyFileRequest", {**honest, "file_type": "Regular", **change}, because)


@pytest.mark.parametrize("name", ["sandbox", "pod:sandbox", "pod:name", "name", "-", "web", "id:web", "", "namespace"])
def test_no_container_id_reaches_what_the_pod_is_pinned_to(name: str) -> None:
    """Elsewhere state keys and container ids share one name space: removing a "container" un-pins the pod."""
    rich_case("web").denied("RemoveContainerRequest", {"container_id": name, "timeout": 0}, "container_id")
    create = rich_case("web").shim.create_container("web")
    rich_case("web").create_denied("web", lambda r: r.update(container_id=f"{name}:x", exec_id=f"{name}:x"), "an id")
    assert create["container_id"] not in rich_case("web").engine.state
