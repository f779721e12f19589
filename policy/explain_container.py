"""The part of an explanation about containers: each expectation of the rules, and what produces it in the YAML."""

import base64
import json
from collections.abc import Mapping

from policy.model import DEFAULT_SYSCTLS, MASKED, READONLY, SANDBOX_KEY
from policy.reasons import MISSING, Findings, difference, found, get, items, same, show, table, texts
from policy.text import escape

Data = Mapping[str, object]
_NODE = "what an honest node asks"
_FREE_MASKED = (
    r"^/proc/interrupts$|^/sys/devices/virtual/powercap$|^/sys/devices/system/cpu/cpu[0-9]+/thermal_throttle$"
)
_DEVICE = r"^[0-9a-f]{2}(/[0-9a-f]{2})*$|^[0-9]{1,3}:[0-9]{1,3}$"
_LISTS = ("Devices", "Namespaces", "MaskedPaths", "ReadonlyPaths")
_UID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_CRI = "io.kubernetes.cri."
_OCI = "io.katacontainers.pkg.oci."


def check_create(findings: Findings, data: Data, state: Data, request: Data) -> None:
    """``CreateContainerRequest``."""
    annotations = table(get(request, "OCI", "Annotations"))
    kind = annotations.get(_CRI + "container-type")
    name = annotations.get(_CRI + "container-name")
    key = SANDBOX_KEY if kind == "sandbox" else name
    if kind not in {"sandbox", "container"} or (kind == "container" and name == SANDBOX_KEY):
        findings.add(f"OCI.Annotations.{_CRI}container-type", kind, "sandbox or container", _NODE)
        return
    expected = get(data, "containers", key) if isinstance(key, str) else MISSING
    if not isinstance(key, str) or not isinstance(expected, dict):
        known = ", ".join(sorted(set(table(get(data, "containers"))) - {SANDBOX_KEY}))
        findings.add(f"OCI.Annotations.{_CRI}container-name", name, f"one of {known}", "the containers' names")
        return
    _Create(findings, data, state, request, key).check()


def check_exec(findings: Findings, data: Data, state: Data, request: Data) -> None:
    """``ExecProcessRequest``."""
    cid = get(request, "container_id")
    key = state.get(f"id:{cid}")
    if not isinstance(key, str):
        findings.add("container_id", cid, "a container made before", _NODE)
        return
    _Create(findings, data, state, request, key).check_exec()


class _Create:
    def __init__(self, findings: Findings, data: Data, state: Data, request: Data, key: str) -> None:
        self.findings, self.data, self.state, self.request, self.key = findings, data, state, request, key
        self.want = table(get(data, "containers", key))
        self.sandbox = key == SANDBOX_KEY
        self.name = "the sandbox" if self.sandbox else f"container {key}"
        self.oci = table(get(request, "OCI"))
        self.cid = get(request, "container_id")
        self.pod = self.pod_facts()

    def pod_facts(self) -> dict[str, object]:
        annotations = table(self.oci.get("Annotations"))
        if self.sandbox:
            names = {"name": "sandbox-name", "namespace": "sandbox-namespace", "uid": "sandbox-uid"}
            found_ = {short: annotations.get(_CRI + long, MISSING) for short, long in names.items()}
            return {**found_, "id": self.cid, "container": self.cid}
        pinned = {short: self.state.get(f"pod:{short}", MISSING) for short in ("name", "namespace", "uid")}
        return {**pinned, "id": self.state.get("pod:sandbox", MISSING), "container": self.cid}

    def check(self) -> None:
        self.turn()
        if self.sandbox:
            self.sandbox_facts()
        self.whole()
        self.annotations()
        self.process(table(self.oci.get("Process")), "OCI.Process")
        self.mounts()
        self.storages()
        self.devices()
        self.linux()
        self.network()

    def turn(self) -> None:
        """Order, and one at a time."""
        where, state = "container_id", self.state
        if state.get(f"live:{self.key}"):
            self.findings.add(where, self.cid, f"no second {self.name} beside the one that runs", _NODE)
        if state.get(f"passed:{self.key}"):
            self.findings.add(
                where, self.cid, f"no {self.name} any more: later containers were made", "order of initContainers"
            )
        if f"id:{self.cid}" in state:
            self.findings.add(where, self.cid, "an id not used before", _NODE)
        flag, before = get(self.want, "after", "flag"), get(self.want, "after", "key")
        if not state.get(f"{flag}{before}"):
            what = {"ended:": "has ended", "begun:": "was started"}.get(str(flag), "was asked for")
            first = "the sandbox" if before in {SANDBOX_KEY, "sandbox"} else f"init container {before}"
            self.findings.add(where, self.cid, f"{self.name} only after {first} {what}", "order of initContainers")

    def sandbox_facts(self) -> None:
        pod, source = self.pod, "metadata.name and namespace"
        self.text("OCI.Annotations.sandbox-name", pod["name"], get(self.data, "pod", "name"), source)
        self.text("OCI.Annotations.sandbox-namespace", pod["namespace"], get(self.data, "pod", "namespace"), source)
        self.findings.matches("OCI.Annotations.sandbox-uid", pod["uid"], _UID, "a UUID", _NODE)
        self.findings.equal("container_id", self.cid, self.state.get("pod:sandbox", MISSING), _NODE)
        hostname = self.state.get("pod:hostname", MISSING)
        if hostname not in (pod["name"], get(self.data, "pod", "hostname")):
            self.findings.add("OCI.Annotations.sandbox-name", pod["name"], show(hostname), "the sandbox's hostname")

    def whole(self) -> None:
        equal, request = self.findings.equal, self.request
        self.findings.matches("container_id", self.cid, "^[a-z0-9][a-z0-9.-]{0,127}$", "an id", _NODE)
        equal("exec_id", get(request, "exec_id"), self.cid, _NODE)
        equal("string_user", get(request, "string_user"), None, _NODE)
        self.findings.empty("shared_mounts", get(request, "shared_mounts"), _NODE)
        for name in ("stdin_port", "stdout_port", "stderr_port"):
            equal(name, get(request, name), 0, _NODE)
        equal("sandbox_pidns", get(request, "sandbox_pidns"), self.want.get("pidns"), "shareProcessNamespace")
        self.findings.matches(
            "OCI.Version", self.oci.get("Version"), r"^1[.][0-9]+[.][0-9]+(-[a-z0-9.]+)?$", "1.x.y", _NODE
        )
        lists = {"devices": request, "storages": request, "OCI.Mounts": self.oci}
        lists |= {f"OCI.Linux.{name}": table(self.oci.get("Linux")) for name in _LISTS}
        for name, holder in lists.items():
            self.findings.listed(name, get(holder, name.rpartition(".")[2]), _NODE)
        for name in ("Hooks", "Solaris", "Windows"):
            equal(f"OCI.{name}", get(self.oci, name), None, _NODE)
        hostname = self.state.get("pod:hostname", MISSING) if self.sandbox else ""
        equal("OCI.Hostname", get(self.oci, "Hostname"), hostname, "spec.hostname, else metadata.name")
        root = f"/run/kata-containers/{self.cid}/rootfs"
        equal("OCI.Root.Path", get(self.oci, "Root", "Path"), root, _NODE)
        readonly = get(self.oci, "Root", "Readonly")
        equal("OCI.Root.Readonly", readonly, self.want.get("readonly"), "securityContext.readOnlyRootFilesystem")

    def annotations(self) -> None:
        seen = table(self.oci.get("Annotations"))
        where = "OCI.Annotations."
        for short, name in {"name": "name", "namespace": "namespace", "uid": "uid", "id": "id"}.items():
            full = f"{_CRI}sandbox-{name}"
            self.findings.equal(where + full, seen.get(full, MISSING), self.pod[short], "one pod in one guest")
        oci_type, _ = self.types
        self.findings.equal(where + "container_type", seen.get(_OCI + "container_type", MISSING), oci_type, _NODE)
        self.findings.matches(
            where + "bundle_path", seen.get(_OCI + "bundle_path"), f"/{escape(str(self.cid))}$", f"…/{self.cid}", _NODE
        )
        for key, value in seen.items():
            if not self.annotation_ok(key, value):
                self.findings.add(
                    where + key, value, "no such annotation, or another value", "annotations of the pod, else the node"
                )

    def annotation_ok(self, key: str, value: object) -> bool:
        free, own = get(self.data, "shared", "free_annotations"), table(get(self.data, "shared", "annotations"))
        if found(str(free), key) or (key in own and same(own[key], value)):
            return True
        if self.sandbox:
            logs = f"/var/log/pods/{self.pod['namespace']}_{self.pod['name']}_{self.pod['uid']}"
            return (
                (key == "nerdctl/network-namespace" and found("^/var/run/netns/[A-Za-z0-9-]+$", value))
                or (key == _CRI + "sandbox-log-directory" and value == logs)
                or (key == _CRI + "image-name" and self.image_ok(value))
            )
        return key == _CRI + "container-name" or (key == _CRI + "image-name" and self.image_ok(value))

    @property
    def types(self) -> tuple[str, str]:
        return ("pod_sandbox", "sandbox") if self.sandbox else ("pod_container", "container")

    def image_ok(self, source: object) -> bool:
        image = self.want.get("image")
        if image == "pause" and source == "pause":
            return True
        return isinstance(source, str) and source.count("@") == 1 and source.partition("@")[2] == image

    def process(self, seen: Data, where: str, *, created: bool = True) -> None:
        equal, want = self.findings.equal, self.want
        equal(f"{where}.Terminal", get(seen, "Terminal"), want.get("tty") if created else False, "tty")
        equal(f"{where}.ConsoleSize", get(seen, "ConsoleSize"), None, _NODE)
        user = table(seen.get("User"))
        equal(
            f"{where}.User.UID", get(user, "UID"), want.get("uid"), "securityContext.runAsUser, else the image's USER"
        )
        equal(f"{where}.User.GID", get(user, "GID"), want.get("gid"), "securityContext.runAsGroup, else the image's")
        equal(f"{where}.User.Username", get(user, "Username"), "", _NODE)
        groups = items(user.get("AdditionalGids"))
        ordered = sorted(group for group in groups if isinstance(group, int))
        if len(ordered) != len(groups) or not any(same(ordered, wanted) for wanted in items(want.get("groups"))):
            source = "runAsGroup, fsGroup, supplementalGroups"
            self.findings.add(
                f"{where}.User.AdditionalGids", get(user, "AdditionalGids"), show(want.get("groups")), source
            )
        self.env(get(seen, "Env"), f"{where}.Env")
        equal(f"{where}.Cwd", get(seen, "Cwd"), want.get("cwd"), "workingDir, else the image's")
        self.findings.empty(f"{where}.Rlimits", get(seen, "Rlimits"), _NODE)
        escalation = get(seen, "NoNewPrivileges")
        equal(f"{where}.NoNewPrivileges", escalation, want.get("no_new_privileges"), "allowPrivilegeEscalation")
        equal(f"{where}.SelinuxLabel", get(seen, "SelinuxLabel"), "", _NODE)
        profile = get(seen, "ApparmorProfile")
        profiles = items(want.get("apparmor")) if created else [""]
        if profile not in profiles:
            self.findings.add(f"{where}.ApparmorProfile", profile, f"one of {show(profiles)}", "appArmorProfile")
        if not created:
            return
        self.args(get(seen, "Args"), f"{where}.Args")
        self.capabilities(get(seen, "Capabilities"), f"{where}.Capabilities")
        score, (low, high) = get(seen, "OOMScoreAdj"), items(want.get("oom"))
        if not isinstance(score, int) or isinstance(score, bool) or not int(str(low)) <= score <= int(str(high)):
            self.findings.add(f"{where}.OOMScoreAdj", score, f"{low} to {high}", "resources (quality of service)")

    def args(self, seen: object, where: str) -> None:
        wanted = items(self.want.get("args"))
        if not isinstance(seen, list) or len(seen) != len(wanted):
            self.findings.add(where, seen, show(list(wanted)), "command and args, else the image's")
            return
        for index, (one, other) in enumerate(zip(seen, wanted, strict=True)):
            self.text(f"{where}[{index}]", one, other, "command and args, else the image's")

    def text(self, where: str, seen: object, wanted: object, source: str) -> None:
        pattern = get(wanted, "pattern")
        if isinstance(pattern, str):
            self.findings.matches(where, seen, self.filled(pattern), f"a text like {self.filled(pattern)}", source)
        else:
            self.findings.equal(where, seen, wanted, source)

    def filled(self, pattern: str) -> str:
        names = {
            "$(pod-name)": "name", "$(namespace)": "namespace", "$(pod-uid)": "uid", "$(sandbox-id)": "id",
            "$(container-id)": "container",
        }  # fmt: skip
        for name, short in names.items():
            value = self.pod[short]
            pattern = pattern.replace(name, value.replace(".", "[.]") if isinstance(value, str) else "-")
        return pattern

    def env(self, seen: object, where: str) -> None:
        patterns = [self.filled(pattern) for pattern in texts(self.want.get("env_patterns"))]
        if not isinstance(seen, list) or len(texts(seen)) != len(seen):
            self.findings.add(where, seen, "a list of NAME=value", "env")
            return
        more, missing = difference(seen, texts(self.want.get("env")))
        for pattern in patterns:
            match = next((entry for entry in more if found(pattern, entry)), None)
            if match is None:
                missing.append(pattern)
            else:
                more.remove(match)
        for entry in more:
            name = entry.partition("=")[0]
            wanted = next((w for w in missing if w.lstrip("^").partition("=")[0].replace("\\", "") == name), None)
            self.findings.add(
                where, entry, show(wanted) if wanted else f"no variable {name} like this", "env, else the image's"
            )
            missing = [w for w in missing if w is not wanted]
        for entry in missing:
            self.findings.add(where, MISSING, show(entry), "env, else the image's")

    def capabilities(self, seen: object, where: str) -> None:
        wanted = texts(get(self.data, "shared", "capabilities", str(self.want.get("capabilities"))))
        for name in ("Bounding", "Effective", "Permitted"):
            listed = get(seen, name)
            plain = sorted(cap.removeprefix("CAP_") for cap in texts(listed))
            if len(plain) != len(items(listed)) or not isinstance(listed, list) or plain != wanted:
                more, missing = difference(plain, wanted)
                text = f"without {show(more)} and with {show(missing)}"
                self.findings.add(f"{where}.{name}", listed, text, "securityContext.capabilities, privileged")
        for name in ("Inheritable", "Ambient"):
            self.findings.empty(f"{where}.{name}", get(seen, name), _NODE)

    def mounts(self) -> None:
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
        self.findings.equal(f"{where}.type_", get(mount, "type_"), want.get("type"), "volumes")
        self.findings.equal(f"{where}.options", get(mount, "options"), want.get("options"), "volumeMounts.readOnly")
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
        source, group = get(storage, "source"), get(storage, "fs_group")
        return (
            get(storage, "driver") in {"blk", "scsi"}
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
        storages = items(get(self.request, "storages"))
        pulls = [storage for storage in storages if get(storage, "driver") == "image_guest_pull"]
        if len(pulls) != 1:
            self.findings.add("storages", len(pulls), "exactly one image, pulled in the guest", "image")
        for storage in pulls:
            self.pull(storage)
        memory, disks = items(self.want.get("memory")), table(self.want.get("disks"))
        if len(storages) != 1 + len(memory) + len(disks):
            self.findings.add(
                "storages", len(storages), f"{1 + len(memory) + len(disks)} storages", "image and emptyDirs"
            )
        for wanted in memory:
            full = {
                **table(wanted), "driver": "ephemeral", "source": "tmpfs", "fstype": "tmpfs", "driver_options": [],
                "fs_group": None,
            }  # fmt: skip
            if not any(
                all(same(get(storage, name), value) for name, value in full.items())
                and get(storage, "shared") in {False, MISSING}
                for storage in storages
                if isinstance(get(storage, "shared"), bool | type(MISSING))
            ):
                self.findings.add("storages", MISSING, show(full), "emptyDir in memory")
        sources = {
            str(get(mount, "source")) for mount in items(self.oci.get("Mounts")) if get(mount, "destination") in disks
        }
        if len(sources) != len(disks):
            self.findings.add("OCI.Mounts", sorted(sources), "a disk of its own for each emptyDir", "emptyDir")

    def pull(self, storage: object) -> None:
        where = "storages (image_guest_pull)"
        if not self.image_ok(get(storage, "source")):
            wanted = self.want.get("image")
            text = "pause" if wanted == "pause" else f"<any registry>/<any name>@{wanted}"
            self.findings.add(f"{where}.source", get(storage, "source"), text, f"image of {self.name}")
        self.findings.equal(f"{where}.fstype", get(storage, "fstype"), "overlay", _NODE)
        self.findings.empty(f"{where}.options", get(storage, "options"), _NODE)
        root = get(self.oci, "Root", "Path")
        self.findings.equal(f"{where}.mount_point", get(storage, "mount_point"), root, "the container's root")
        self.findings.equal(f"{where}.fs_group", get(storage, "fs_group"), None, _NODE)
        if get(storage, "shared") is not False and get(storage, "shared") is not MISSING:
            self.findings.add(f"{where}.shared", get(storage, "shared"), "false", _NODE)
        options = items(get(storage, "driver_options"))
        metadata: object = MISSING
        if len(options) == 1 and isinstance(options[0], str) and options[0].startswith("image_guest_pull="):
            try:
                metadata = get(json.loads(options[0].removeprefix("image_guest_pull=")), "metadata")
            except (ValueError, RecursionError):
                metadata = MISSING
        oci_type, cri_type = self.types
        if get(metadata, _OCI + "container_type") != oci_type or get(metadata, _CRI + "container-type") != cri_type:
            text = f"one option image_guest_pull=… whose metadata says {oci_type} and {cri_type}"
            self.findings.add(f"{where}.driver_options", list(options), text, _NODE)

    def devices(self) -> None:
        wanted = texts(self.want.get("devices"))
        seen, nodes = items(get(self.request, "devices")), items(get(self.oci, "Linux", "Devices"))
        good = [
            get(device, "container_path")
            for device in seen
            if get(device, "type_") in {"blk", "scsi"} and get(device, "options") == []
        ]
        if len(seen) != len(wanted) or any(path not in good for path in wanted):
            paths = [get(device, "container_path") for device in seen]
            self.findings.add("devices", [path for path in paths if path is not MISSING], show(wanted), "volumeDevices")
        blocks = [get(node, "Path") for node in nodes if get(node, "Type") == "b"]
        if len(nodes) != len(wanted) or any(path not in blocks for path in wanted):
            self.findings.add("OCI.Linux.Devices", list(nodes), f"block devices {show(wanted)}", "volumeDevices")

    def linux(self) -> None:
        linux = table(self.oci.get("Linux"))
        where = "OCI.Linux"
        for name in ("UIDMappings", "GIDMappings"):
            self.findings.empty(f"{where}.{name}", get(linux, name), _NODE)
        for name, wanted in {"Seccomp": None, "IntelRdt": None, "RootfsPropagation": "", "MountLabel": ""}.items():
            self.findings.equal(f"{where}.{name}", get(linux, name), wanted, _NODE)
        self.findings.matches(
            f"{where}.CgroupsPath", get(linux, "CgroupsPath"), "^[A-Za-z0-9_/:.-]*$", "a cgroup's path", _NODE
        )
        resources = get(linux, "Resources")
        for name in ("Devices", "HugepageLimits"):
            self.findings.empty(f"{where}.Resources.{name}", get(resources, name), _NODE)
        for name in ("Pids", "BlockIO", "Network"):
            self.findings.equal(f"{where}.Resources.{name}", get(resources, name), None, _NODE)
        self.sysctls(get(linux, "Sysctl"), f"{where}.Sysctl")
        self.paths(linux, where)

    def sysctls(self, seen: object, where: str) -> None:
        wanted = table(self.want.get("sysctls"))
        if not isinstance(seen, dict):
            self.findings.add(where, seen, "a mapping", _NODE)
        for name, value in table(seen).items():
            if not (same(value, wanted.get(name, MISSING)) or same(value, DEFAULT_SYSCTLS.get(name, MISSING))):
                self.findings.add(
                    f"{where}.{name}", value, show(wanted.get(name, "nothing")), "securityContext.sysctls"
                )
        for name in sorted(set(wanted) - set(table(seen))):
            self.findings.add(f"{where}.{name}", MISSING, show(wanted[name]), "securityContext.sysctls")

    def paths(self, linux: Data, where: str) -> None:
        covered = self.want.get("paths") == "yes"
        masked, readonly = items(linux.get("MaskedPaths")), items(linux.get("ReadonlyPaths"))
        for wanted in MASKED if covered else ():
            if wanted not in masked:
                source = "the kernel's files stay hidden unless privileged"
                self.findings.add(f"{where}.MaskedPaths", MISSING, wanted, source)
        for wanted in READONLY if covered else ():
            if wanted not in readonly and wanted not in masked:
                source = "the kernel's files stay read-only unless privileged"
                self.findings.add(f"{where}.ReadonlyPaths", MISSING, wanted, source)
        for path in masked:
            if path not in MASKED and path not in READONLY and not found(_FREE_MASKED, path):
                self.findings.add(
                    f"{where}.MaskedPaths", path, "only the kernel's files", "masking would change an application"
                )
        for path in readonly:
            if path not in READONLY:
                self.findings.add(f"{where}.ReadonlyPaths", path, "only the kernel's files", _NODE)

    def network(self) -> None:
        namespaces = items(get(self.oci, "Linux", "Namespaces"))
        where = "OCI.Linux.Namespaces"
        paths = [get(n, "Path") for n in namespaces if get(n, "Type") == "network"]
        others = sorted(
            str(get(n, "Type")).replace("mnt", "mount")
            for n in namespaces
            if get(n, "Type") != "network" and get(n, "Path") == ""
        )
        if paths not in ([], ["/run/netns/podns"]):
            self.findings.add(where, [p for p in paths if p is not MISSING], "the pod's own network namespace", _NODE)
        if others != ["ipc", "mount", "uts"] or len(namespaces) != 3 + len(paths):
            self.findings.add(where, list(namespaces), "ipc, uts and mount, made new for this container", _NODE)
        if not self.sandbox and not same(self.state.get("pod:network", MISSING), paths):
            self.findings.add(where, [p for p in paths if p is not MISSING], "the same network as the sandbox", _NODE)

    def check_exec(self) -> None:
        if not self.state.get(f"live:{self.key}"):
            self.findings.add("container_id", self.cid, "a container that runs", _NODE)
        if self.sandbox:
            self.findings.add("container_id", self.cid, "no process in the sandbox", _NODE)
            return
        self.findings.equal("string_user", get(self.request, "string_user"), None, _NODE)
        for name in ("stdin_port", "stdout_port", "stderr_port"):
            self.findings.equal(name, get(self.request, name), 0, _NODE)
        process = table(get(self.request, "process"))
        commands = items(self.want.get("exec"))
        if not any(same(get(process, "Args"), command) for command in commands):
            wanted = f"one of {show(list(commands))}" if commands else "no process at all"
            self.findings.add("process.Args", get(process, "Args"), wanted, f"exec of probes and hooks of {self.name}")
        capabilities = get(process, "Capabilities")
        if capabilities is not None:
            for name in ("Bounding", "Effective", "Permitted", "Inheritable", "Ambient"):
                self.findings.empty(f"process.Capabilities.{name}", get(capabilities, name), _NODE)
        self.process(process, "process", created=False)
