"""Which fields of a pod spec the policy expresses, which reach no guest, and which are refused; only the table.

A field that stands in no table is refused: what nobody has thought about is never passed silently.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from k8s.problems import Path
from policy.reader import Reader, Table


@dataclass(frozen=True, slots=True)
class Only:
    """A field that may only have these values: any other needs what the guest cannot hold the host to."""

    values: tuple[object, ...]
    reason: str
    instead: str


@dataclass(frozen=True, slots=True)
class Never:
    """A field that is refused."""

    reason: str
    instead: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields of one object. ``free`` ones are for the cluster alone and reach no guest."""

    handled: Collection[str]
    free: Collection[str] = ()
    special: Mapping[str, Only | Never] = ()  # type: ignore[assignment]


_HOST = "shares a namespace of the node, which a guest does not have"
_REMOVE = "remove the field"
# Charts often write an empty mapping or list, which asks for nothing.
_SELINUX = Only(({},), "SELinux labels are the host's; the guest must get none", _REMOVE)
_WINDOWS = Only(({},), "confidential guests run Linux", _REMOVE)
_CLAIMS = Only(([],), "devices from claims are not described yet", "use no claims in confidential pods")

POD = Fields(
    handled={
        "containers", "initContainers", "volumes", "securityContext", "hostname", "shareProcessNamespace",
        "enableServiceLinks", "automountServiceAccountToken", "serviceAccountName", "serviceAccount",
    },
    free={
        "activeDeadlineSeconds", "affinity", "dnsConfig", "dnsPolicy", "hostAliases", "imagePullSecrets", "nodeName",
        "nodeSelector", "overhead", "preemptionPolicy", "priority", "readinessGates", "restartPolicy",
        "runtimeClassName", "schedulerName", "schedulingGates", "subdomain", "terminationGracePeriodSeconds",
        "tolerations", "topologySpreadConstraints", "priorityClassName",
    },
    special={
        "hostNetwork": Only((False,), _HOST, _REMOVE),
        "hostPID": Only((False,), _HOST, _REMOVE),
        "hostIPC": Only((False,), _HOST, _REMOVE),
        "hostUsers": Only((True,), "user namespaces would change every user id that the policy names", _REMOVE),
        "setHostnameAsFQDN": Only((False,), "the domain is the cluster's and not known here", _REMOVE),
        "os": Only(({"name": "linux"},), "confidential guests run Linux", _REMOVE),
        "ephemeralContainers": Only(([],), "a container added for debugging could read everything in the pod", _REMOVE),
        "resourceClaims": _CLAIMS,
        "resources": Only(({},), "how they change OOM scores is not described yet", "write them per container"),
        "hostnameOverride": Never("it overrides what the policy compares", "write hostname"),
    },
)  # fmt: skip

POD_SECURITY = Fields(
    handled={"fsGroup", "runAsUser", "runAsGroup", "runAsNonRoot", "supplementalGroups", "sysctls", "appArmorProfile"},
    free={"fsGroupChangePolicy", "supplementalGroupsPolicy", "seLinuxChangePolicy", "seccompProfile"},
    special={"seLinuxOptions": _SELINUX, "windowsOptions": _WINDOWS},
)

CONTAINER = Fields(
    handled={
        "name", "image", "command", "args", "workingDir", "env", "envFrom", "resources", "volumeMounts",
        "volumeDevices", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "securityContext", "tty",
        "restartPolicy", "terminationMessagePath",
    },
    free={"imagePullPolicy", "ports", "stdin", "stdinOnce", "terminationMessagePolicy", "resizePolicy"},
)  # fmt: skip

CONTAINER_SECURITY = Fields(
    handled={
        "allowPrivilegeEscalation", "capabilities", "privileged", "readOnlyRootFilesystem", "runAsUser", "runAsGroup",
        "runAsNonRoot", "appArmorProfile",
    },
    free={"seccompProfile"},
    special={
        "procMount": Only(("Default",), "an unmasked /proc is not described yet", _REMOVE),
        "seLinuxOptions": _SELINUX,
        "windowsOptions": _WINDOWS,
    },
)  # fmt: skip

PROBE = Fields(
    handled={"exec"},
    free={
        "httpGet", "tcpSocket", "grpc", "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold",
        "failureThreshold", "terminationGracePeriodSeconds",
    },
)  # fmt: skip
LIFECYCLE = Fields(handled={"postStart", "preStop"}, free={"stopSignal"})
HANDLER = Fields(handled={"exec"}, free={"httpGet", "tcpSocket", "sleep"})
EXEC = Fields(handled={"command"})
CAPABILITIES = Fields(handled={"add", "drop"})
APPARMOR = Fields(handled={"type", "localhostProfile"})
SYSCTL = Fields(handled={"name", "value"})
ENV = Fields(handled={"name", "value", "valueFrom"})
ENV_FROM = Fields(handled={"configMapRef", "secretRef", "prefix"})
VALUE_FROM = Fields(
    handled={"fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"},
    special={
        "fileKeyRef": Never("the file is written while the pod runs, so its content is not known", "use a ConfigMap")
    },
)
_KEY = Fields(handled={"name", "key", "optional"})
REFERENCES: Mapping[str, Fields] = {
    "fieldRef": Fields(handled={"fieldPath"}, free={"apiVersion"}),
    "resourceFieldRef": Fields(handled={"containerName", "resource", "divisor"}),
    "configMapKeyRef": _KEY,
    "secretKeyRef": _KEY,
    "configMapRef": Fields(handled={"name", "optional"}),
    "secretRef": Fields(handled={"name", "optional"}),
}
RESOURCES = Fields(
    handled={"limits", "requests"},
    special={"claims": _CLAIMS},
)
_PROPAGATION = "mounts made later by the host or other containers would appear there"
VOLUME_MOUNT = Fields(
    handled={"name", "mountPath", "readOnly", "subPath", "subPathExpr"},
    special={
        "mountPropagation": Only(("None",), _PROPAGATION, _REMOVE),
        "recursiveReadOnly": Only(("Disabled",), "it is not described yet", _REMOVE),
    },
)
VOLUME_DEVICE = Fields(handled={"name", "devicePath"})
_DISK = "the node would bring it as a disk, which is not described yet"
_CLAIM = "use a persistentVolumeClaim, an emptyDir or a configMap"
_DISKS = (
    "awsElasticBlockStore", "azureDisk", "cephfs", "cinder", "fc", "flexVolume", "flocker", "gcePersistentDisk",
    "glusterfs", "iscsi", "photonPersistentDisk", "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos",
    "vsphereVolume",
)  # fmt: skip
# What the node mounts for itself and hands on file by file. Its content is the node's, as that of a claim is.
NODE_FILES = {"persistentVolumeClaim", "ephemeral", "hostPath", "nfs", "csi", "azureFile"}
VOLUME = Fields(
    handled={
        "name",
        "emptyDir",
        "configMap",
        "secret",
        "projected",
        "downwardAPI",
        *NODE_FILES,
    },
    special={
        **dict.fromkeys(_DISKS, Never(_DISK, _CLAIM)),
        "image": Never("image volumes are not described yet", "put the files into the container's image"),
        "gitRepo": Never("the node would fetch it", "put the files into the container's image"),
    },
)
HOST_PATH = Fields(
    handled={"path"},
    special={
        "type": Only(
            ("", "Directory", "DirectoryOrCreate", "File", "FileOrCreate"),
            "devices and sockets of the node do not exist in the guest",
            "use volumeDevices with a claim, or a network connection",
        )
    },
)
EMPTY_DIR = Fields(handled={"medium", "sizeLimit"})


def check_fields(reader: Reader, table: Table, fields: Fields, path: Path) -> None:
    """Refuse every field of *table* that *fields* does not allow; a field without value counts as absent."""
    special = dict(fields.special)
    for name, value in table.items():
        if value is None or name in fields.handled or name in fields.free:
            continue
        rule = special.get(name)
        if rule is None:
            reader.refuse(
                (*path, name), "this field is not known here, so nobody can say what it does in the guest", _REMOVE
            )
        elif isinstance(rule, Never) or value not in rule.values:
            reader.refuse((*path, name), rule.reason, rule.instead)
