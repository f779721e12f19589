"""From a pod spec and image configurations to what the guest agent should be asked for; judges no request.

The order is containerd's and the kubelet's: image, then pod, then container. Whatever cannot be told from the YAML and
the images is refused, all of it at once, with the place and what to write instead.
"""

from collections.abc import Mapping

from images.config import ImageConfig, VerityLayer
from images.errors import ImageError
from images.reference import ImageReference, parse_reference
from k8s.problems import Path
from k8s.resources import INITDATA, POLICY, READ_LOGS, ResourceSet, Workload
from policy import identity
from policy.environment import Environment, EnvironmentReader, image_environment
from policy.errors import UnsupportedError
from policy.fields import (
    CONTAINER,
    CONTAINER_SECURITY,
    EXEC,
    HANDLER,
    LIFECYCLE,
    POD,
    POD_SECURITY,
    PROBE,
    SYSCTL,
    check_fields,
)  # fmt: skip
from policy.model import DEFAULT_CAPABILITIES, GPU_RESOURCE, SANDBOX_KEY, After, Container, Kind, Pod
from policy.names import pod_names
from policy.reader import Reader, Table
from policy.settings import DEFAULT_SETTINGS, Settings
from policy.text import Hole, Text, expand
from policy.volumes import VolumeReader

_NO_IMAGE = ImageConfig()
_SANDBOX_OOM = (-998, -998)
_KATA = "io.katacontainers."
_GPU_VARIABLE = "PCI_RESOURCE_NVIDIA_COM_PGPU"
_UNSEEN = {POLICY, INITDATA}  # The shim takes these out.


def expected_pod(
    workload: Workload,
    image_configs: Mapping[str, ImageConfig],
    *,
    pod: Table | None = None,
    resources: ResourceSet | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> Pod:
    """Describe the pods of *workload*.

    Args:
        workload: Whose pods.
        image_configs: By reference, as written in the pod spec.
        pod: The pod spec after injection; without it, as it stands in the file.
        resources: All objects of the run: ConfigMaps, Secrets and ServiceAccounts that the pod names.
        settings: What the cluster's nodes do.

    Raises:
        UnsupportedError: everything that cannot be described.
    """
    reader = Reader(workload=workload, pod=workload.pod_spec if pod is None else pod, resources=resources)
    built = _Builder(reader, image_configs, settings).pod()
    if reader.problems:
        raise UnsupportedError(reader.problems)
    return built


class _Builder:
    def __init__(self, reader: Reader, images: Mapping[str, ImageConfig], settings: Settings) -> None:
        self.reader, self.images, self.settings = reader, images, settings
        self.spec = reader.pod
        check_fields(reader, self.spec, POD, ())
        self.security = reader.table(self.spec, "securityContext", ())
        check_fields(reader, self.security, POD_SECURITY, ("securityContext",))
        self.shared_pids = bool(reader.flag(self.spec, "shareProcessNamespace", ()))
        self.hostname = reader.text(self.spec, "hostname", ()) or ""
        namespace = reader.workload.namespace
        self.namespace = Text.of(namespace) if namespace else Text.of(Hole.NAMESPACE)
        self.fs_group = reader.number(self.security, "fsGroup", ("securityContext",))
        self.sysctls = self.read_sysctls()
        self.volumes = VolumeReader(reader, self.fs_group)
        self.names = pod_names(reader.workload)
        name = Text.of(self.hostname) if self.hostname else Text.of(Hole.POD_NAME)
        if self.names.stem:
            name = Text.of(Hole.POD_STEM)  # Which the job's controller writes over the template's.
            self.hostname = ""
        self.environment = EnvironmentReader(reader, self.namespace, name, settings)
        self.oom = identity.oom_scores(
            reader, [found for kind in ("initContainers", "containers") for found in reader.items(self.spec, kind, ())]
        )

    def pod(self) -> Pod:
        self.check_names()
        if self.settings.pause_layers == ():
            self.reader.refuse((), "the pause image has no layers", "name another one with --pause-image")
        containers = [self.sandbox()]
        after = After(flag="begun:", key=SANDBOX_KEY)
        for path, item in self.reader.items(self.spec, "initContainers", ()):
            sidecar = item.get("restartPolicy") == "Always"
            built = self.container(path, item, Kind.SIDECAR if sidecar else Kind.INIT, after)
            containers.append(built)
            after = After(flag="begun:", key=built.key)
            if not sidecar:
                after = After(flag="ended:", key=built.key, passed=built.key)
        for path, item in self.reader.items(self.spec, "containers", ()):
            containers.append(self.container(path, item, Kind.APP, after))
        return Pod(
            name=self.names.pattern,
            numbered=self.names.numbered,
            stem=self.names.stem,
            namespace=self.namespace,
            hostname=self.hostname,
            fs_group=self.fs_group,
            logs=self.read_logs(),
            annotations=self.annotations(),
            containers=tuple(containers),
        )

    def check_names(self) -> None:
        workload = self.reader.workload
        limit = self.names.longest
        if len(workload.name) > limit:
            self.reader.refuse(
                (),
                f"with the name {workload.name!r} its pods' host names would be cut",
                f"use at most {limit} characters",
            )

    def read_logs(self) -> bool:
        """Whether the node may read what the containers print: only where the pod's author wrote so."""
        found = self.reader.workload.pod_metadata.get("annotations")
        asked = found.get(READ_LOGS, "false") if isinstance(found, dict) else "false"
        if asked not in {"true", "false"}:
            reason = f"annotation {READ_LOGS} is {asked!r}"
            self.reader.refuse((), reason, 'write "true", in quotes, to let the node read the logs; else remove it')
        return asked == "true"

    def annotations(self) -> dict[str, str]:
        found = self.reader.workload.pod_metadata.get("annotations")
        listed = found if isinstance(found, dict) else {}
        for name in sorted(listed):
            if str(name).startswith("cdi.k8s.io/"):
                self.reader.refuse(
                    (),
                    f"annotation {name} asks for devices of the node's choice, which no policy of ours can name",
                    f"for GPUs write a limit {GPU_RESOURCE} instead; else remove it, or let a pod that is not "
                    "confidential do this part of the work",
                )
        return {
            k: v for k, v in sorted(listed.items()) if k.startswith(_KATA) and k not in _UNSEEN and isinstance(v, str)
        }

    def read_sysctls(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path, item in self.reader.items(self.security, "sysctls", ("securityContext",)):
            check_fields(self.reader, item, SYSCTL, path)
            name, value = self.reader.text(item, "name", path), self.reader.text(item, "value", path)
            if name is not None and value is not None:
                found[_dotted(name)] = value
        return found

    def sandbox(self) -> Container:
        uid, gids, groups = identity.sandbox_identities(self.reader)
        return Container(
            key=SANDBOX_KEY, kind=Kind.SANDBOX, after=After(flag="pod:", key="sandbox"), image=None,
            args=(Text.of("/pause"),), env=image_environment(_NO_IMAGE), cwd="/", uid=uid, gids=gids, groups=groups,
            capabilities=DEFAULT_CAPABILITIES, base="sandbox", mounts={}, no_new_privileges=True, readonly=True,
            oom=_SANDBOX_OOM, apparmor=("",), sysctls=self.sysctls, layers=(self.settings.pause_layers or ())[::-1],
        )  # fmt: skip

    def container(self, path: Path, item: Table, kind: Kind, after: After) -> Container:
        reader = self.reader
        check_fields(reader, item, CONTAINER, path)
        if kind is not Kind.SIDECAR and item.get("restartPolicy") is not None:
            reader.refuse((*path, "restartPolicy"), "only init containers can have one, and only Always", "remove it")
        security = reader.table(item, "securityContext", path)
        check_fields(reader, security, CONTAINER_SECURITY, (*path, "securityContext"))
        privileged = bool(reader.flag(security, "privileged", (*path, "securityContext")))
        readonly = bool(reader.flag(security, "readOnlyRootFilesystem", (*path, "securityContext")))
        escalation = reader.flag(security, "allowPrivilegeEscalation", (*path, "securityContext"))
        tty = bool(reader.flag(item, "tty", path))
        reference, image = self.image(path, item)
        base = "container" + ("-ro" if readonly else "") + ("-privileged" if privileged else "")
        environment = self.environment.read(item, path, image, tty=tty)
        mounts, memory = self.volumes.mounts(item, path, base, image)
        gpus = identity.gpus(reader, path, item)
        resolved = self.settings.pause_layers is not None
        user = identity.container_identity(reader, security, path, image, str(reference), resolved=resolved)
        user = user or identity.Identity(uid=0, gid=0, groups=(0,))
        return Container(
            key=str(item.get("name")), kind=kind, after=after, image=reference,
            args=self.args(path, item, image, environment.usable), env=environment.whole,
            overridden=environment.overridden, links=self.links(environment, gpus), gpus=gpus,
            cwd=reader.text(item, "workingDir", path) or image.working_dir or "/",
            uid=user.uid, gids=(user.gid,), groups=(user.groups,),
            capabilities=identity.capabilities(reader, security, path), base=base,
            mounts=mounts, memory=memory, devices=self.volumes.devices(item, path),
            no_new_privileges=escalation is False, readonly=readonly, privileged=privileged, tty=tty, oom=self.oom,
            apparmor=identity.apparmor(reader, security, path, str(item.get("name"))),
            exec=self.commands(path, item), pidns=self.shared_pids,
            layers=self.layers(path, image) if reference is not None else (),
        )  # fmt: skip

    def image(self, path: Path, item: Table) -> tuple[ImageReference | None, ImageConfig]:
        text = self.reader.text(item, "image", path) or ""
        try:
            reference = parse_reference(text)
            _ = reference.required_digest
        except ImageError as error:
            self.reader.refuse((*path, "image"), str(error), "pin the image by its digest")
            return None, _NO_IMAGE
        if (config := self.images.get(text)) is None:
            self.reader.refuse((*path, "image"), f"the configuration of {text} was not found", "provide the image")
            return reference, _NO_IMAGE
        return reference, config

    @staticmethod
    def links(environment: Environment, gpus: int) -> Mapping[str, Mapping[str, Text]]:
        """Variables that may be there: of Services, and the one by which some device plugins tell their choice."""
        if not gpus or _GPU_VARIABLE in environment.whole:
            return environment.links
        return {**environment.links, GPU_RESOURCE: {_GPU_VARIABLE: Text.of(Hole.PCI_ADDRESSES)}}

    def layers(self, path: Path, image: ImageConfig) -> tuple[VerityLayer, ...]:
        """The layers of the image, top first, where the node hands them over."""
        if self.settings.pause_layers is None or image is _NO_IMAGE:
            return ()
        if not image.layers:
            self.reader.refuse(
                (*path, "image"),
                "the root hashes of the image's layers are not known" if image.layers is None else "it has no layers",
                "let `contrast generate --layers verity` compute them" if image.layers is None else "use another image",
            )
            return ()
        return image.layers[::-1]

    def args(self, path: Path, item: Table, image: ImageConfig, usable: Mapping[str, Text]) -> tuple[Text, ...]:
        command, args = self.reader.texts(item, "command", path), self.reader.texts(item, "args", path)
        own = tuple(expand(text, usable.get) for text in (*(command or ()), *(args or ())))
        if command:
            return own
        start = tuple(map(Text.of, image.entrypoint))
        found = (*start, *own) if args else (*start, *map(Text.of, image.cmd))
        if not found:
            self.reader.refuse((*path, "command"), "neither YAML nor image say what to run", "write command")
        return found

    def commands(self, path: Path, item: Table) -> tuple[tuple[str, ...], ...]:
        """The commands of probes and hooks, which alone may be executed in the container."""
        found: list[tuple[str, ...]] = []
        handlers: list[tuple[Path, Table]] = []
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            probe = self.reader.table(item, name, path)
            check_fields(self.reader, probe, PROBE, (*path, name))
            handlers.append(((*path, name), probe))
        hooks = self.reader.table(item, "lifecycle", path)
        check_fields(self.reader, hooks, LIFECYCLE, (*path, "lifecycle"))
        for name in ("postStart", "preStop"):
            hook = self.reader.table(hooks, name, (*path, "lifecycle"))
            check_fields(self.reader, hook, HANDLER, (*path, "lifecycle", name))
            handlers.append(((*path, "lifecycle", name), hook))
        for place, handler in handlers:
            action = self.reader.table(handler, "exec", place)
            check_fields(self.reader, action, EXEC, (*place, "exec"))
            if action and (command := self.reader.texts(action, "command", (*place, "exec"))):
                found.append(command)
        return tuple(dict.fromkeys(found))


def _dotted(name: str) -> str:
    """The name of a sysctl with dots, as the kubelet makes it: what was a dot within a part becomes a slash."""
    first = next((sign for sign in name if sign in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))
