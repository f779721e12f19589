"""The part of an explanation about containers: each expectation of the rules, and what produces it in the YAML."""

from collections.abc import Sequence

from policy.explain_volumes import OCI, VolumeChecks, part_of
from policy.layers import CONTAINER_ID, root_path
from policy.messages import FIELDS
from policy.model import DEFAULT_SYSCTLS, MASKED, READONLY, SANDBOX_KEY
from policy.reasons import CRI, MISSING, NODE, Data, Findings, difference, found, get, items, same, show, table, texts
from policy.text import escape

_FREE_MASKED = (
    r"^/proc/interrupts$|^/sys/devices/virtual/powercap$|^/sys/devices/system/cpu/cpu[0-9]+/thermal_throttle$"
)
_LISTS = ("Devices", "Namespaces", "MaskedPaths", "ReadonlyPaths")
_UID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def check_create(findings: Findings, data: Data, state: Data, request: Data) -> None:
    """``CreateContainerRequest``."""
    annotations = table(get(request, "OCI", "Annotations"))
    kind = annotations.get(CRI + "container-type")
    name = annotations.get(CRI + "container-name")
    key = SANDBOX_KEY if kind == "sandbox" else name
    if kind not in ("sandbox", "container") or (kind == "container" and name == SANDBOX_KEY):
        findings.add(f"OCI.Annotations.{CRI}container-type", kind, "sandbox or container", NODE)
        return
    expected = get(data, "containers", key) if isinstance(key, str) else MISSING
    if not isinstance(key, str) or not isinstance(expected, dict):
        known = ", ".join(sorted(set(table(get(data, "containers"))) - {SANDBOX_KEY}))
        findings.add(f"OCI.Annotations.{CRI}container-name", name, f"one of {known}", "the containers' names")
        return
    _ContainerChecks(findings, data, state, request, key).check()


def check_exec(findings: Findings, data: Data, state: Data, request: Data) -> None:
    """``ExecProcessRequest``."""
    cid = get(request, "container_id")
    key = state.get(f"id:{cid}")
    if not isinstance(key, str):
        findings.add("container_id", cid, "a container made before", NODE)
        return
    _ContainerChecks(findings, data, state, request, key).check_exec()


class _ContainerChecks(VolumeChecks):
    """One request for one container, judged whole: first its place among the others, then each part of it."""

    def check(self) -> None:
        self.turn()
        self.fields()
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
            self.findings.add(where, self.cid, f"no second {self.name} beside the one that runs", NODE)
        if state.get(f"passed:{self.key}"):
            self.findings.add(
                where, self.cid, f"no {self.name} any more: later containers were made", "order of initContainers"
            )
        if f"id:{self.cid}" in state:
            self.findings.add(where, self.cid, "an id not used before", NODE)
        flag, before = get(self.want, "after", "flag"), get(self.want, "after", "key")
        if not state.get(f"{flag}{before}"):
            what = {"ended:": "has ended", "begun:": "was started"}.get(str(flag), "was asked for")
            first = "the sandbox" if before in (SANDBOX_KEY, "sandbox") else f"init container {before}"
            self.findings.add(where, self.cid, f"{self.name} only after {first} {what}", "order of initContainers")

    def fields(self) -> None:
        """Nothing that this version does not know."""
        known, linux = self.findings.known, get(self.oci, "Linux")
        known("OCI", self.oci, FIELDS["OCI"])
        known("OCI.Root", get(self.oci, "Root"), FIELDS["Root"])
        known("OCI.Linux", linux, FIELDS["Linux"])
        known("OCI.Linux.Resources", get(linux, "Resources"), FIELDS["Resources"])
        for name in ("CPU", "Memory"):
            where, value = f"OCI.Linux.Resources.{name}", get(linux, "Resources", name)
            known(where, value, FIELDS[name])
            if not isinstance(value, dict | None):
                self.findings.add(where, value, "limits, or none", NODE)
        lists = (("OCI.Mounts", self.oci), ("OCI.Linux.Namespaces", linux), ("OCI.Linux.Devices", linux),
            ("devices", self.request), ("storages", self.request))  # fmt: skip
        for where, holder in lists:
            name = where.rpartition(".")[2]
            for index, item in enumerate(items(get(holder, name))):
                known(f"{where}[{index}]", item, FIELDS[name])

    def sandbox_facts(self) -> None:
        pod, source = self.pod, "metadata.name and namespace"
        self.text("OCI.Annotations.sandbox-name", pod["name"], get(self.data, "pod", "name"), source)
        self.text("OCI.Annotations.sandbox-namespace", pod["namespace"], get(self.data, "pod", "namespace"), source)
        self.findings.matches("OCI.Annotations.sandbox-uid", pod["uid"], _UID, "a UUID", NODE)
        self.findings.equal("container_id", self.cid, self.state.get("pod:sandbox", MISSING), NODE)
        hostname = self.state.get("pod:hostname", MISSING)
        stem = get(self.data, "pod", "stem") is True
        own = part_of(self.data, pod["name"], 1) if stem else pod["name"]
        if hostname not in (own, get(self.data, "pod", "hostname")):
            self.findings.add("OCI.Annotations.sandbox-name", pod["name"], show(hostname), "the sandbox's hostname")

    def whole(self) -> None:
        equal, request = self.findings.equal, self.request
        form = CONTAINER_ID if self.layered else "^[a-z0-9][a-z0-9.-]{0,127}$"
        self.findings.matches("container_id", self.cid, form, "an id", NODE)
        equal("exec_id", get(request, "exec_id"), self.cid, NODE)
        equal("string_user", get(request, "string_user"), None, NODE)
        self.findings.empty("shared_mounts", get(request, "shared_mounts"), NODE)
        for name in ("stdin_port", "stdout_port", "stderr_port"):
            equal(name, get(request, name), 0, NODE)
        equal("sandbox_pidns", get(request, "sandbox_pidns"), self.want.get("pidns"), "shareProcessNamespace")
        self.findings.matches(
            "OCI.Version", self.oci.get("Version"), r"^1[.][0-9]+[.][0-9]+(-[a-z0-9.]+)?$", "1.x.y", NODE
        )
        lists = {"devices": request, "storages": request, "OCI.Mounts": self.oci}
        lists |= {f"OCI.Linux.{name}": table(self.oci.get("Linux")) for name in _LISTS}
        for name, holder in lists.items():
            self.findings.listed(name, get(holder, name.rpartition(".")[2]), NODE)
        for name in ("Hooks", "Solaris", "Windows"):
            equal(f"OCI.{name}", get(self.oci, name), None, NODE)
        hostname = self.state.get("pod:hostname", MISSING) if self.sandbox else ""
        equal("OCI.Hostname", get(self.oci, "Hostname"), hostname, "spec.hostname, else metadata.name")
        root = root_path(str(self.cid)) if self.layered else f"/run/kata-containers/{self.cid}/rootfs"
        equal("OCI.Root.Path", get(self.oci, "Root", "Path"), root, NODE)
        readonly = get(self.oci, "Root", "Readonly")
        equal("OCI.Root.Readonly", readonly, self.want.get("readonly"), "securityContext.readOnlyRootFilesystem")

    def annotations(self) -> None:
        seen = table(self.oci.get("Annotations"))
        where = "OCI.Annotations."
        for short, name in {"name": "name", "namespace": "namespace", "uid": "uid", "id": "id"}.items():
            full = f"{CRI}sandbox-{name}"
            self.findings.equal(where + full, seen.get(full, MISSING), self.pod[short], "one pod in one guest")
        oci_type, _ = self.types
        self.findings.equal(where + "container_type", seen.get(OCI + "container_type", MISSING), oci_type, NODE)
        self.findings.matches(
            where + "bundle_path", seen.get(OCI + "bundle_path"), f"/{escape(str(self.cid))}$", f"…/{self.cid}", NODE
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
        if self.want.get("gpus") and found("^cdi[.]k8s[.]io/vfio[0-9]{1,9}$", key):
            return found("^nvidia[.]com/gpu=[0-9]{1,3}$", value)
        if self.sandbox:
            logs = f"/var/log/pods/{self.pod['namespace']}_{self.pod['name']}_{self.pod['uid']}"
            return (
                (key == "nerdctl/network-namespace" and found("^/var/run/netns/[A-Za-z0-9-]+$", value))
                or (key == CRI + "sandbox-log-directory" and value == logs)
                or (key == CRI + "image-name" and self.image_ok(value))
            )
        return key == CRI + "container-name" or (key == CRI + "image-name" and self.image_ok(value))

    def process(self, seen: Data, where: str, *, created: bool = True) -> None:
        equal, want = self.findings.equal, self.want
        self.findings.known(where, seen, FIELDS["Process"])
        self.findings.known(f"{where}.User", seen.get("User"), FIELDS["User"])
        equal(f"{where}.Terminal", get(seen, "Terminal"), want.get("tty") if created else False, "tty")
        equal(f"{where}.ConsoleSize", get(seen, "ConsoleSize"), None, NODE)
        user = table(seen.get("User"))
        equal(
            f"{where}.User.UID", get(user, "UID"), want.get("uid"), "securityContext.runAsUser, else the image's USER"
        )
        gids = items(want.get("gids"))
        if not any(same(get(user, "GID"), gid) for gid in gids):
            source = "securityContext.runAsGroup, else the image's"
            self.findings.add(
                f"{where}.User.GID",
                get(user, "GID"),
                show(gids[0]) if len(gids) == 1 else f"one of {show(gids)}",
                source,
            )
        equal(f"{where}.User.Username", get(user, "Username"), "", NODE)
        groups = items(user.get("AdditionalGids"))
        ordered = sorted(group for group in groups if isinstance(group, int))
        if len(ordered) != len(groups) or not any(same(ordered, wanted) for wanted in items(want.get("groups"))):
            source = "runAsGroup, fsGroup, supplementalGroups"
            self.findings.add(
                f"{where}.User.AdditionalGids", get(user, "AdditionalGids"), show(want.get("groups")), source
            )
        self.env(get(seen, "Env"), f"{where}.Env")
        equal(f"{where}.Cwd", get(seen, "Cwd"), want.get("cwd"), "workingDir, else the image's")
        self.findings.empty(f"{where}.Rlimits", get(seen, "Rlimits"), NODE)
        escalation = get(seen, "NoNewPrivileges")
        equal(f"{where}.NoNewPrivileges", escalation, want.get("no_new_privileges"), "allowPrivilegeEscalation")
        equal(f"{where}.SelinuxLabel", get(seen, "SelinuxLabel"), "", NODE)
        profile = get(seen, "ApparmorProfile")
        profiles = items(want.get("apparmor")) if created else [""]
        if profile not in profiles:
            self.findings.add(f"{where}.ApparmorProfile", profile, f"one of {show(profiles)}", "appArmorProfile")
        score, (low, high) = get(seen, "OOMScoreAdj"), items(want.get("oom"))
        number = isinstance(score, int) and not isinstance(score, bool)
        if not (number and int(str(low)) <= int(str(score)) <= int(str(high))) and (created or not same(score, 0)):
            self.findings.add(f"{where}.OOMScoreAdj", score, f"{low} to {high}", "resources (quality of service)")
        if not created:
            return
        self.args(get(seen, "Args"), f"{where}.Args")
        self.capabilities(get(seen, "Capabilities"), f"{where}.Capabilities")

    def args(self, seen: object, where: str) -> None:
        wanted = items(self.want.get("args"))
        if not isinstance(seen, list) or len(seen) != len(wanted):
            self.findings.add(where, seen, show(list(wanted)), "command and args, else the image's")
            return
        for index, (one, other) in enumerate(zip(seen, wanted, strict=True)):
            self.text(f"{where}[{index}]", one, other, "command and args, else the image's")

    def last(self, seen: Sequence[str]) -> list[str]:
        """Without the image's value where the pod's follows: runtimes send both, and the last one counts."""
        overridden = texts(self.want.get("env_overridden"))
        names = [entry.partition("=")[0] for entry in seen]
        return [
            entry
            for index, entry in enumerate(seen)
            if entry not in overridden or names[index] not in names[index + 1 :]
        ]

    def env(self, seen: object, where: str) -> None:
        patterns = [self.filled(pattern) for pattern in texts(list(table(self.want.get("env_patterns")).values()))]
        if not isinstance(seen, list) or len(texts(seen)) != len(seen):
            self.findings.add(where, seen, "a list of NAME=value", "env")
            return
        more, missing = difference(self.links(self.last(seen), where), texts(self.want.get("env")))
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

    def links(self, seen: list[str], where: str) -> list[str]:
        """*seen* without the variables of Services that the pod asks for: all of a Service, or none."""
        for service, patterns in table(self.want.get("env_links")).items():
            listed = table(patterns)
            good = [next((one for one in seen if found(str(pattern), one)), None) for pattern in listed.values()]
            seen = [one for one in seen if one not in good] + [one for one in good if one and seen.count(one) > 1]
            lacking = [name for name, one in zip(listed, good, strict=True) if one is None]
            if lacking and len(lacking) < len(listed):
                text = f"all variables of Service {service}, or none: {', '.join(lacking)} too"
                self.findings.add(where, MISSING, text, "annotation service-links")
        return seen

    def capabilities(self, seen: object, where: str) -> None:
        self.findings.known(where, seen, FIELDS["Capabilities"])
        wanted = texts(get(self.data, "shared", "capabilities", str(self.want.get("capabilities"))))
        for name in ("Bounding", "Effective", "Permitted"):
            listed = get(seen, name)
            plain = sorted(cap.removeprefix("CAP_") for cap in texts(listed))
            if len(plain) != len(items(listed)) or not isinstance(listed, list) or plain != wanted:
                more, missing = difference(plain, wanted)
                text = f"without {show(more)} and with {show(missing)}"
                self.findings.add(f"{where}.{name}", listed, text, "securityContext.capabilities, privileged")
        for name in ("Inheritable", "Ambient"):
            self.findings.empty(f"{where}.{name}", get(seen, name), NODE)

    def linux(self) -> None:
        linux = table(self.oci.get("Linux"))
        where = "OCI.Linux"
        for name in ("UIDMappings", "GIDMappings"):
            self.findings.empty(f"{where}.{name}", get(linux, name), NODE)
        for name, wanted in {"Seccomp": None, "IntelRdt": None, "RootfsPropagation": "", "MountLabel": ""}.items():
            self.findings.equal(f"{where}.{name}", get(linux, name), wanted, NODE)
        self.findings.matches(
            f"{where}.CgroupsPath", get(linux, "CgroupsPath"), "^[A-Za-z0-9_/:.-]*$", "a cgroup's path", NODE
        )
        if found(r"(^|[/:])[.][.]([/:]|$)", get(linux, "CgroupsPath")):
            self.findings.add(f"{where}.CgroupsPath", get(linux, "CgroupsPath"), "no '..' in it", NODE)
        resources = get(linux, "Resources")
        for name in ("Devices", "HugepageLimits"):
            self.findings.empty(f"{where}.Resources.{name}", get(resources, name), NODE)
        for name in ("Pids", "BlockIO", "Network"):
            self.findings.equal(f"{where}.Resources.{name}", get(resources, name), None, NODE)
        self.sysctls(get(linux, "Sysctl"), f"{where}.Sysctl")
        self.paths(linux, where)

    def sysctls(self, seen: object, where: str) -> None:
        wanted = table(self.want.get("sysctls"))
        if not isinstance(seen, dict):
            self.findings.add(where, seen, "a mapping", NODE)
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
                self.findings.add(f"{where}.ReadonlyPaths", path, "only the kernel's files", NODE)

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
            self.findings.add(where, [p for p in paths if p is not MISSING], "the pod's own network namespace", NODE)
        if others != ["ipc", "mount", "uts"] or len(namespaces) != 3 + len(paths):
            self.findings.add(where, list(namespaces), "ipc, uts and mount, made new for this container", NODE)
        if not self.sandbox and not same(self.state.get("pod:network", MISSING), paths):
            self.findings.add(where, [p for p in paths if p is not MISSING], "the same network as the sandbox", NODE)

    def check_exec(self) -> None:
        if not self.state.get(f"live:{self.key}"):
            self.findings.add("container_id", self.cid, "a container that runs", NODE)
        if self.sandbox:
            self.findings.add("container_id", self.cid, "no process in the sandbox", NODE)
            return
        self.findings.equal("string_user", get(self.request, "string_user"), None, NODE)
        for name in ("stdin_port", "stdout_port", "stderr_port"):
            self.findings.equal(name, get(self.request, name), 0, NODE)
        process = table(get(self.request, "process"))
        commands = items(self.want.get("exec"))
        if not any(same(get(process, "Args"), command) for command in commands):
            wanted = f"one of {show(list(commands))}" if commands else "no process at all"
            self.findings.add("process.Args", get(process, "Args"), wanted, f"exec of probes and hooks of {self.name}")
        capabilities = get(process, "Capabilities")
        if capabilities is not None:
            self.findings.known("process.Capabilities", capabilities, FIELDS["Capabilities"])
            for name in ("Bounding", "Effective", "Permitted", "Inheritable", "Ambient"):
                self.findings.empty(f"process.Capabilities.{name}", get(capabilities, name), NODE)
        self.process(process, "process", created=False)
