"""All pods of a deployment on one machine: a stand-in for node, kubelet, Kata, DNS and load balancer.

Foreground: `run_node` returns when it is told to stop or when no pod is left. What it started ends with it.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.layout import ImageStore
from k8s.resources import ResourceSet
from localnode import child
from localnode.addresses import (
    Endpoint,
    Service,
    ServicePort,
    allocate,
    endpoint,
    hosts_document,
    parse_loopback,
    parse_network,
    pod_network,
)
from localnode.balancer import Balancer
from localnode.deployment import DEFAULT_NAMESPACE, PodPlan, labels_of, plan_pods, read_deployment, read_services
from localnode.errors import AddressError, LocalNodeError, NodeRunningError, PodNotFoundError
from localnode.guest import MESH_PORT, SIGNALS, USER_PORT, Coordinator, find_coordinator, short_folder, simulated_guest
from localnode.kata import KataShim
from localnode.pod import Pod, PodPlace
from localnode.process import Identity, identify
from localnode.rundir import DevFolder, fresh_folder, private_folder, write_private, write_state
from localnode.setup import DevPlatform, load_platform
from localnode.status import Phase, Status

_REFRESH = 0.5  # seconds between two looks at who is ready and where the Coordinator is
COORDINATOR: Final = "service/coordinator"
_COORDINATOR_SERVICES: Final = ("coordinator", "coordinator-ready")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What to run, and where.

    Attributes:
        root: the workspace.
        paths: files and folders of Kubernetes YAML, with policies in it.
        network: the pods' addresses, within 127.0.0.0/8; by default one of the workspace's own.
        load_balancer: where Services of type LoadBalancer listen.
        coordinator: ``host:port`` of a Coordinator's mesh API, when no guest of this workspace runs one.
        images: more folders with OCI layouts, looked at first.
    """

    root: Path
    paths: tuple[Path, ...]
    network: str | None = None
    load_balancer: str = "127.0.0.1"
    coordinator: str | None = None
    images: tuple[Path, ...] = ()

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """Every folder with OCI layouts, in the order they are asked."""
        return (*self.images, self.root / "images", DevFolder.of(self.root).images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A deployment that has been read and found runnable."""

    platform: DevPlatform
    resources: ResourceSet
    plans: tuple[PodPlan, ...]
    services: tuple[Service, ...]
    addresses: Mapping[str, str]
    coordinator: Coordinator | None
    images: ImageStore


def prepare(settings: NodeSettings) -> Prepared:
    """Read everything that can be wrong before a process is started.

    Raises:
        LocalNodeError, ResourceError, ImageError: something is; the message says what.
    """
    platform = load_platform(settings.root)
    resources = read_deployment(settings.paths)
    plans = plan_pods(resources)
    if not plans:
        raise PodNotFoundError("no confidential pod in the given files: runtimeClassName contrast-cc marks one")
    network = pod_network(settings.root) if settings.network is None else parse_network(settings.network)
    parse_loopback(settings.load_balancer)
    services = read_services(resources)
    return Prepared(
        platform=platform,
        resources=resources,
        plans=plans,
        services=(*services, *_coordinator_services(resources, services)),
        addresses=allocate(network, [plan.id for plan in plans]),
        coordinator=None if settings.coordinator is None else _given_coordinator(settings.coordinator),
        images=ImageStore(settings.image_folders),
    )


async def run_node(settings: NodeSettings, *, environ: Mapping[str, str], report: Callable[[Status], None]) -> int:
    """Run every pod until SIGINT or SIGTERM, or until no pod is left; 1 when a pod did not come to run, else 0.

    Raises:
        LocalNodeError, ResourceError, ImageError: before anything is started.
        NodeRunningError: the workspace's node runs already.
    """
    prepared = prepare(settings)
    folder = DevFolder.of(settings.root)
    with _only_one(folder):
        async with AsyncExitStack() as stack:
            node = Node(settings, prepared, folder, search_path=child.search_path(environ), report=report)
            stack.callback(node.forget)
            return await node.run(stack)


class Node:
    """The pods that run, and what they and others are told about each other."""

    def __init__(
        self,
        settings: NodeSettings,
        prepared: Prepared,
        folder: DevFolder,
        *,
        search_path: str,
        report: Callable[[Status], None],
    ) -> None:
        self._settings = settings
        self._prepared = prepared
        self._folder = folder
        self._search_path = search_path
        self._report = report
        self._statuses: dict[str, Status] = {}
        self._processes: dict[str, Identity] = {}
        self._pods: list[Pod] = []
        self._hosts: dict[Path, bytes] = {}
        self._lost = False

    async def run(self, stack: AsyncExitStack) -> int:
        """Everything between the first line and the last."""
        fresh_folder(self._folder.pods)
        fresh_folder(self._folder.logs)
        sockets = stack.enter_context(short_folder())
        for plan in self._prepared.plans:
            address = self._prepared.addresses[plan.id]
            self._say(Status(subject=plan.id, phase=Phase.PENDING, address=address))
        self._write_hosts()
        await self._open_balancers(stack)
        if self._coordinator() is None:
            start = "contrast dev guest --pod coordinator … -- contrast-coordinator …"
            self._say(
                Status(subject=COORDINATOR, phase=Phase.PENDING, detail=f"none runs here; start one with `{start}`")
            )
        tasks: list[asyncio.Task[None]] = []

        def stop(_: signal.Signals) -> None:
            for task in tasks:
                task.cancel()

        child.forward_signals(stop, SIGNALS)
        stack.callback(child.restore_signals, SIGNALS)
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(self._pod(plan, sockets)) for plan in self._prepared.plans]
            watching = group.create_task(self._watch())
            await asyncio.wait(tasks)
            watching.cancel()
        return 1 if self._lost else 0

    def forget(self) -> None:
        """Remove what must not outlast the pods: their volumes hold private keys. Logs stay."""
        shutil.rmtree(self._folder.pods, ignore_errors=True)
        for path in (self._folder.node_file, self._folder.processes_file, *self._hosts):
            path.unlink(missing_ok=True)

    async def _pod(self, plan: PodPlan, sockets: Path) -> None:
        address = self._prepared.addresses[plan.id]
        try:
            await self._run_pod(plan, sockets, address)
        except LocalNodeError as error:
            self._say(Status(subject=plan.id, phase=Phase.FAILED, detail=str(error), address=address))

    async def _run_pod(self, plan: PodPlan, sockets: Path, address: str) -> None:
        # The path of a socket is short, and a pod's name can be long.
        socket = sockets / self._prepared.addresses[plan.id]
        async with simulated_guest(self._prepared.platform, plan.host_data, socket) as processor:
            place = PodPlace(
                address=address,
                folder=private_folder(self._folder.pods / plan.id),
                logs=self._folder.logs,
                hosts=self._hosts_path(plan.namespace),
                processor=processor,
                path=self._search_path,
            )
            shim = KataShim(plan, self._prepared.resources, self._prepared.images, address=address)
            pod = Pod(plan, place, shim, self._prepared.images, report=self._say, processes=self._record_process)
            self._pods.append(pod)
            await pod.run()

    async def _watch(self) -> None:
        while True:
            self._write_hosts()
            found = self._coordinator()
            told = self._statuses.get(COORDINATOR)
            if found is not None and told is not None and told.phase is Phase.PENDING:
                detail = f"answers pods on port {found.mesh_port}"
                self._say(Status(subject=COORDINATOR, phase=Phase.READY, address=found.address, detail=detail))
            await asyncio.sleep(_REFRESH)

    async def _open_balancers(self, stack: AsyncExitStack) -> None:
        for service in self._prepared.services:
            for port in service.ports if service.external else ():
                subject = f"service/{service.name}"
                at = f"{self._settings.load_balancer}:{port.port}"

                def ready(service: Service = service, port: ServicePort = port) -> Sequence[tuple[str, int]]:
                    return [(e.address, dict(e.ports)[port.port]) for e in self._endpoints(service)]

                try:
                    server = await Balancer(ready).serve(self._settings.load_balancer, port.port)
                except OSError as error:
                    # The pods are of use without it, and another program's port is no fault of theirs.
                    reason = os.strerror(error.errno) if error.errno else str(error)
                    detail = f"{at} cannot be listened on ({reason}): end what uses it, or give --load-balancer"
                    self._say(Status(subject=subject, phase=Phase.FAILED, detail=detail))
                    continue
                stack.push_async_callback(_close, server)
                self._say(Status(subject=subject, phase=Phase.READY, detail=f"listens on {at}"))

    def _coordinator(self) -> Coordinator | None:
        return self._prepared.coordinator or find_coordinator(self._folder)

    def _endpoints(self, service: Service) -> list[Endpoint]:
        found: list[Endpoint] = []
        for pod in self._pods:
            plan = pod.plan
            if pod.ready and service.selects(plan.namespace, plan.labels):
                # A Service whose port name this pod does not have has no endpoint there, as in a cluster.
                with contextlib.suppress(AddressError):
                    found.append(endpoint(service, pod.place.address, plan.named_ports))
        coordinator = self._coordinator()
        if coordinator is not None and _means_coordinator(self._prepared.resources, service):
            ports = {USER_PORT: coordinator.user_port, MESH_PORT: coordinator.mesh_port}
            aimed = tuple((p.port, ports.get(t, t)) for p in service.ports if isinstance(t := p.target, int))
            found.append(Endpoint(address=coordinator.address, ports=aimed))
        return found

    def _write_hosts(self) -> None:
        known = [(service, self._endpoints(service)) for service in self._prepared.services]
        for namespace in {DEFAULT_NAMESPACE, *(plan.namespace for plan in self._prepared.plans)}:
            path, document = self._hosts_path(namespace), hosts_document(known, namespace=namespace)
            if self._hosts.get(path) != document:
                write_private(path, document)
                self._hosts[path] = document

    def _hosts_path(self, namespace: str) -> Path:
        name = self._folder.hosts_file.name
        return self._folder.hosts_file.with_name(name if namespace == DEFAULT_NAMESPACE else f"{name}.{namespace}")

    def _record_process(self, name: str, identity: Identity | None) -> None:
        if identity is None:
            self._processes.pop(name, None)
        else:
            self._processes[name] = identity
        processes = [{"name": key, "process": value.json()} for key, value in self._processes.items()]
        write_state(self._folder.processes_file, {"processes": processes})

    def _say(self, status: Status) -> None:
        self._statuses[status.subject] = status
        self._lost = self._lost or (status.phase.lost and not status.subject.startswith("service/"))
        lines = "".join(item.json() + "\n" for item in self._statuses.values())
        write_private(self._folder.status_file, lines.encode())
        if self._pods:
            self._write_hosts()
        self._report(status)


@contextlib.contextmanager
def _only_one(folder: DevFolder) -> Iterator[None]:
    """Hold the workspace's lock, and say in its state who we are.

    Raises:
        NodeRunningError: another process holds it.
    """
    private_folder(folder.dev)
    private_folder(folder.run)
    descriptor = os.open(folder.run / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeRunningError(
                f"the pods of {folder.root} run already: end them with `contrast dev stop`, or where they were started"
            ) from None
        myself = identify(os.getpid())
        write_state(folder.node_file, {"process": None if myself is None else myself.json()})
        yield
    finally:
        os.close(descriptor)


async def _close(server: asyncio.Server) -> None:
    server.close()


def _coordinator_services(resources: ResourceSet, services: Sequence[Service]) -> tuple[Service, ...]:
    """The Coordinator's Services, where the given files do not hold them: pods ask for their certificates there."""
    namespaces = {workload.namespace or DEFAULT_NAMESPACE for workload in resources.confidential}
    known = {(service.name, service.namespace) for service in services}
    ports = tuple(ServicePort(port=port, target=port) for port in (USER_PORT, MESH_PORT))
    return tuple(
        Service(name=name, namespace=namespace, selector=(), ports=ports)
        for name in _COORDINATOR_SERVICES
        for namespace in sorted(namespaces)
        if (name, namespace) not in known
    )


def _means_coordinator(resources: ResourceSet, service: Service) -> bool:
    if not service.selector:
        return service.name in _COORDINATOR_SERVICES
    return any(
        service.selects(workload.namespace or DEFAULT_NAMESPACE, labels_of(workload))
        for workload in resources.coordinators
    )


def _given_coordinator(text: str) -> Coordinator:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise AddressError(f"coordinator {text!r}; wanted host:port of its mesh API, like 127.0.0.1:{MESH_PORT}")
    return Coordinator(address=host, user_port=USER_PORT, mesh_port=int(port))
