"""The environment of a container as kubelet and runtime put it together, from the objects of this run alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from images.config import ImageConfig
from k8s.problems import Path, ResourceError
from k8s.resources import POLICY, Resource, config_map_data, secret_data
from policy.fields import ENV, ENV_FROM, REFERENCES, VALUE_FROM, check_fields
from policy.names import pod_names
from policy.reader import Reader, Table
from policy.servicelinks import service_links
from policy.settings import Settings
from policy.text import Hole, Text, expand

_DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIELDS: Mapping[str, Hole] = {
    "metadata.name": Hole.POD_NAME,
    "metadata.uid": Hole.POD_UID,
    "status.podIP": Hole.POD_IP,
    "status.podIPs": Hole.POD_IPS,
    "status.hostIP": Hole.HOST_IP,
    "status.hostIPs": Hole.HOST_IPS,
    "spec.nodeName": Hole.NODE_NAME,
}
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")
_ENV_NAME = re.compile(r"[ -<>-~]+")  # Printable ASCII without '='.


def service_variables() -> dict[str, Text]:
    """The variables that the kubelet adds to every container, for the API server's Service."""
    address = Text.of("tcp://", Hole.API_URL_HOST, ":", Hole.API_PORT)
    port = Text.of(Hole.API_PORT)
    return {
        "KUBERNETES_SERVICE_HOST": Text.of(Hole.API_HOST),
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
        "KUBERNETES_PORT": address,
        "KUBERNETES_PORT_443_TCP": address,
        "KUBERNETES_PORT_443_TCP_PROTO": Text.of("tcp"),
        "KUBERNETES_PORT_443_TCP_PORT": port,
        "KUBERNETES_PORT_443_TCP_ADDR": Text.of(Hole.API_HOST),
    }


def image_environment(image: ImageConfig) -> dict[str, Text]:
    """The runtime's PATH and the image's own variables, of which one may be another PATH."""
    return {name: Text.of(value) for name, _, value in (entry.partition("=") for entry in (_DEFAULT_PATH, *image.env))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The variables of one container.

    Attributes:
        whole: all of them.
        usable: those that ``$(NAME)`` in arguments can name.
        overridden: ``NAME=value`` of the image where another value comes later; containerd sends both.
        links: variables that nodes may make of Services, all of one or none, by the Service's name.
    """

    whole: dict[str, Text]
    usable: dict[str, Text]
    overridden: tuple[str, ...]
    links: dict[str, dict[str, Text]]


class EnvironmentReader:
    """Reads ``env`` and ``envFrom`` of the containers of one pod."""

    def __init__(self, reader: Reader, namespace: Text, hostname: Text, settings: Settings) -> None:
        self._reader, self._settings = reader, settings
        self._namespace, self._hostname = namespace, hostname
        self._links = service_links(reader)

    def read(self, container: Table, path: Path, image: ImageConfig, *, tty: bool) -> Environment:
        """The environment of *container*."""
        linked = {name: text for variables in self._links.values() for name, text in variables.items()}
        services = {**linked, **(service_variables() if self._settings.kubernetes_service else {})}
        known: dict[str, Text] = {}
        for place, source in self._reader.items(container, "envFrom", path):
            known.update(self._from(source, place))
        for place, variable in self._reader.items(container, "env", path):
            name = self._name(variable, place)
            if name is not None and (value := self._value(variable, place, {**services, **known})) is not None:
                known[name] = value
        if pod_names(self._reader.workload).stem:
            known.setdefault("JOB_COMPLETION_INDEX", Text.of(Hole.POD_NUMBER))  # Added behind all others.
        usable = {**services, **known}  # What the author writes goes before what a Service makes.
        links = {
            service: {name: text for name, text in variables.items() if name not in known}
            for service, variables in self._links.items()
        }
        # As containerd: its own three first, which image and pod replace; what it has not is sent as often as it is
        # given, the image's value before the pod's.
        own = {"HOSTNAME": self._hostname, **({"TERM": Text.of("xterm")} if tty else {})}
        names = [entry.partition("=")[0] for entry in image.env]
        overridden = (
            entry
            for index, (name, entry) in enumerate(zip(names, image.env, strict=True))
            if name not in {"PATH", *own} and (name in usable or name in names[index + 1 :])
        )
        for name in sorted(linked.keys() & {*names, *own} - known.keys()):
            self._reader.refuse(path, f"the image's variable {name} is one of a Service too", f"write {name} under env")
        sure = {name: text for name, text in usable.items() if name in known or name not in linked}
        return Environment(
            whole={**own, **image_environment(image), **sure},
            links={service: variables for service, variables in links.items() if variables},
            usable=usable,
            overridden=tuple(dict.fromkeys(overridden)),
        )

    def _name(self, variable: Table, path: Path) -> str | None:
        check_fields(self._reader, variable, ENV, path)
        name = self._reader.text(variable, "name", path)
        if name is None or not _ENV_NAME.fullmatch(name):
            self._reader.refuse(path, f"{name!r} is no name of a variable", "write printable characters without '='")
            return None
        return name

    def _value(self, variable: Table, path: Path, known: Mapping[str, Text]) -> Text | None:
        if variable.get("valueFrom") is None:
            value = self._reader.text(variable, "value", path) or ""
            if "\0" in value:
                self._reader.refuse((*path, "value"), "a zero byte ends a variable", "remove it")
                return None
            return expand(value, known.get)
        source = self._reader.table(variable, "valueFrom", path)
        here = (*path, "valueFrom")
        check_fields(self._reader, source, VALUE_FROM, here)
        given = [name for name in source if source[name] is not None and name in VALUE_FROM.handled]
        if len(given) != 1 or variable.get("value"):
            self._reader.refuse(here, "a variable has exactly one source", "write value or one kind of valueFrom")
            return None
        reference = self._reader.table(source, given[0], here)
        check_fields(self._reader, reference, REFERENCES[given[0]], (*here, given[0]))
        return self._referenced(given[0], reference, (*here, given[0]))

    def _referenced(self, kind: str, reference: Table, path: Path) -> Text | None:
        if kind == "fieldRef":
            return self._field(self._reader.text(reference, "fieldPath", path) or "", (*path, "fieldPath"))
        if kind == "resourceFieldRef":
            return Text.of(Hole.RESOURCE)
        values = self._object(kind.removesuffix("KeyRef"), reference, path)
        key = self._reader.text(reference, "key", path) or ""
        if values is None:
            return None
        if key not in values and reference.get("optional") is True:
            return None  # As the kubelet does it: no such variable.
        if key not in values:
            self._reader.refuse((*path, "key"), f"{key!r} is no key there", "write one of its keys")
            return None
        return Text.of(values[key])

    def _from(self, source: Table, path: Path) -> dict[str, Text]:
        check_fields(self._reader, source, ENV_FROM, path)
        prefix = self._reader.text(source, "prefix", path) or ""
        values: dict[str, Text] = {}
        for kind in ("configMap", "secret"):
            if source.get(kind + "Ref") is not None:
                reference = self._reader.table(source, kind + "Ref", path)
                check_fields(self._reader, reference, REFERENCES[kind + "Ref"], (*path, kind + "Ref"))
                found = self._object(kind, reference, (*path, kind + "Ref")) or {}
                for key, value in sorted(found.items()):
                    if _ENV_NAME.fullmatch(prefix + key):
                        values[prefix + key] = Text.of(value)
                    else:
                        self._reader.refuse(path, f"key {key!r} is no name of a variable", "rename the key")
        return values

    def _object(self, kind: str, reference: Table, path: Path) -> Mapping[str, str] | None:
        """The texts of the ConfigMap or Secret that *reference* names."""
        name = self._reader.text(reference, "name", path) or ""
        if kind == "secret" and not self._settings.publish_secret_values:
            self._reader.refuse(
                path,
                f"the value of Secret {name!r} would stand in the policy, for good and in clear: the host, every pod's "
                "node, whoever reaches the Coordinator and every auditor can read it",
                "encrypt with the pod's workload secret (/contrast/tls-config/workload-secret), which only its guest "
                "gets, or mount the Secret as a volume if the host may know it, or pass --publish-secret-values",
            )
            return None
        optional = self._reader.flag(reference, "optional", path)
        resources = self._reader.resources
        listed = () if resources is None else resources.secrets if kind == "secret" else resources.config_maps
        found = self._find(listed, name)
        shown = "Secret" if kind == "secret" else "ConfigMap"
        if found is None and optional:
            self._reader.refuse(
                (*path, "optional"),
                f"{shown} {name!r} is in none of the files, so whether it exists would be the host's choice",
                "pass the file that defines it, or remove the reference",
            )
            return None
        if found is None:
            self._reader.refuse(path, f"{shown} {name!r} is in none of the files", "pass the file that defines it")
            return None
        try:
            if kind == "configMap":
                return config_map_data(found)
            return {key: value.decode() for key, value in secret_data(found).items()}
        except ResourceError as error:
            self._reader.refuse(path, f"{shown} {name!r} is malformed: {error.problems[0].message}", "correct it")
        except UnicodeDecodeError:
            self._reader.refuse(path, f"Secret {name!r} holds a value that is no text", "mount it as a volume")
        return None

    def _find(self, listed: tuple[Resource, ...], name: str) -> Resource | None:
        namespace = self._reader.workload.namespace
        return next((found for found in listed if found.name == name and found.namespace == namespace), None)

    def _made(self, kind: str, key: str) -> Text | None:
        """A label or annotation that the workload's controller writes to each pod."""
        names = pod_names(self._reader.workload)
        match kind, key:
            case (("labels" | "annotations"), "batch.kubernetes.io/job-completion-index") if names.stem:
                return Text.of(Hole.POD_NUMBER)
            case "labels", "apps.kubernetes.io/pod-index" if names.numbered and not names.stem:
                return Text.of(Hole.POD_NUMBER)
            case "labels", "statefulset.kubernetes.io/pod-name" if names.numbered and not names.stem:
                return Text.of(Hole.POD_NAME)
        return None

    def _field(self, name: str, path: Path) -> Text | None:
        if name == "metadata.namespace":
            return self._namespace
        if name == "spec.serviceAccountName":
            pod = self._reader.pod
            return Text.of(str(pod.get("serviceAccountName") or pod.get("serviceAccount") or "default"))
        if (hole := _FIELDS.get(name)) is not None:
            return Text.of(hole)
        if (keyed := _KEYED.fullmatch(name)) is not None:
            values = self._reader.workload.pod_metadata.get(keyed.group(1))
            if (made := self._made(*keyed.groups())) is not None:
                return made
            value = values.get(keyed.group(2)) if isinstance(values, dict) else None
            if isinstance(value, str) and keyed.group(2) != POLICY:
                return Text.of(value)
            self._reader.refuse(
                path,
                f"{name} stands in no template of this YAML, so the cluster would choose the value",
                f"write it under the pod template's {keyed.group(1)}, or give the value itself",
            )
            return None
        self._reader.refuse(
            path, f"{name!r} is no field that a variable can have", f"write one of {', '.join(_FIELDS)}"
        )
        return None
