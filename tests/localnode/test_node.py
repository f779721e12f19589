"""The whole node: pods with real policies, as processes that find each other, and nothing left when it ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.errors import ImageNotFoundError
from localnode.detach import start_detached, status, stop
from localnode.errors import AddressError, NodeNotRunningError, NodeRunningError, PodNotFoundError
from localnode.node import NodeSettings, prepare, run_node
from localnode.process import Identity, identify, is_alive, parse_identity
from localnode.rundir import DevFolder, read_identity, read_state
from localnode.status import Phase, Status
from tests.support.pods import build, coordinator, deployment, with_policies

ENVIRON = {"PATH": os.environ["PATH"]}

# Answers every connection with its pod's name; with an argument it asks that peer first and passes the answer on.
PROGRAM = """
import contextlib, os, signal, socket, sys

def stop(*_):
    print("stopped", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
server = socket.create_server((os.environ["POD_IP"], 8080))
print("up", flush=True)
while True:
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):  # a probe knocks before its peer is ready, and goes away
        said = os.environ["HOSTNAME"]
        if len(sys.argv) > 1:
            with socket.create_connection((sys.argv[1], 80), timeout=10) as peer:
                said += " asked " + peer.recv(100).decode()
        connection.sendall(said.encode())
"""


def container(image: str, *arguments: str) -> str:
    return textwrap.dedent(f"""\
        automountServiceAccountToken: false
        enableServiceLinks: false
        containers:
          - name: app
            image: {image}
            args: [{", ".join(["/app/main.py", *arguments])}]
            command: [python3]
            env: [{{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}]
            readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
            securityContext: {{runAsUser: 1000, runAsGroup: 1000, capabilities: {{drop: [ALL]}}}}
        """)


def service(name: str, port: int, kind: str = "ClusterIP") -> str:
    return textwrap.dedent(f"""\
        ---
        apiVersion: v1
        kind: Service
        metadata: {{name: {name}}}
        spec: {{type: {kind}, selector: {{app: {name}}}, ports: [{{port: {port}, targetPort: 8080}}]}}
        """)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def ask(port: int, address: str = "127.0.0.1") -> str:
    with socket.create_connection((address, port), timeout=10) as connection:
        return connection.recv(200).decode()


class Town:
    """`back`, and `front` that asks it and is reachable from outside."""

    def __init__(self, root: Path, write: Callable[[str, str], Path], replicas: int = 1) -> None:
        self.root = root
        self.port = free_port()
        self.said: list[Status] = []
        image = build(root / "images", PROGRAM)
        write("back.yml", deployment("back", container(image), replicas=replicas) + service("back", 80))
        front = deployment("front", container(image, "back.default.svc")) + service("front", self.port, "LoadBalancer")
        self.folder = write("front.yml", front)
        with_policies(self.folder, root / "images")

    @property
    def settings(self) -> NodeSettings:
        return NodeSettings(root=self.root, paths=(self.folder,))

    @property
    def last(self) -> dict[str, Status]:
        return {item.subject.split("-")[0]: item for item in self.said}

    def processes(self) -> list[Identity]:
        state = read_state(DevFolder(self.root).processes_file) or {"processes": []}
        return [parse_identity(entry["process"]) for entry in state["processes"]]


@pytest.fixture
def town(workspace: Path, write: Callable[[str, str], Path]) -> Iterator[Town]:
    made = Town(workspace, write)
    try:
        yield made
    finally:
        stop(workspace, report=lambda _: None)


async def test_pods_find_each_other_and_are_found_from_outside(
    workspace: Path, write: Callable[[str, str], Path]
) -> None:
    """Services by name, replicas in turn, a load balancer in front; and everything ends with the node."""
    town = Town(workspace, write, replicas=2)
    ready = asyncio.Event()

    def report(item: Status) -> None:
        town.said.append(item)
        newest = {one.subject: one.phase for one in town.said if not one.subject.startswith("service/")}
        if set(newest.values()) == {Phase.READY}:
            ready.set()

    loop = asyncio.get_running_loop()
    running = loop.create_task(run_node(town.settings, environ=ENVIRON, report=report))
    async with asyncio.timeout(60):
        await ready.wait()
    answers = {await asyncio.to_thread(ask, town.port) for _ in range(4)}
    assert all(answer.startswith("front-") for answer in answers)
    assert len({answer.split(" asked ")[1] for answer in answers}) == 2, "both replicas are asked"
    identities = town.processes()
    assert len(identities) == 3
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert not any(map(is_alive, identities))
    dev = DevFolder(town.root)
    assert not dev.pods.exists(), "volumes hold private keys"
    assert not dev.node_file.exists()
    logs = list(dev.logs.iterdir())
    assert len(logs) == 3
    assert all(log.read_text().split() == ["up", "stopped"] for log in logs)


async def test_a_pod_whose_yaml_was_changed_is_denied_and_the_others_go_on(town: Town) -> None:
    path = town.folder / "front.yml"
    path.write_text(path.read_text().replace("back.default.svc", "evil.default.svc"))
    assert start_detached(town.settings, environ=ENVIRON, report=town.said.append) == 1
    assert town.last["front"].phase is Phase.DENIED
    assert '"evil.default.svc"' in town.last["front"].detail
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "evil.default.svc" in text)
    assert f"front.yml:{line}: spec.template.spec.containers[0]" in town.last["front"].detail
    assert "contrast generate" in town.last["front"].detail
    assert town.last["back"].phase is Phase.READY
    assert len(town.processes()) == 1


def test_a_detached_node_is_asked_and_stopped(town: Town) -> None:
    assert start_detached(town.settings, environ=ENVIRON, report=town.said.append) == 0
    assert ask(town.port).startswith("front-")
    assert {item.subject: item.phase for item in status(town.root)}["service/front"] is Phase.READY
    with pytest.raises(NodeRunningError, match="contrast dev stop"):
        start_detached(town.settings, environ=ENVIRON, report=town.said.append)
    identities = town.processes()
    told: list[Status] = []
    assert stop(town.root, report=told.append) == 0
    assert {item.phase for item in told} == {Phase.STOPPED}
    assert not any(map(is_alive, identities))
    with pytest.raises(NodeNotRunningError, match="contrast dev run"):
        status(town.root)
    assert stop(town.root, report=told.append) == 0, "nothing runs: nothing to do"


def test_pods_end_with_a_node_that_was_killed(town: Town) -> None:
    """Or ports stay taken by programs that nobody remembers."""
    assert start_detached(town.settings, environ=ENVIRON, report=town.said.append) == 0
    identities = town.processes()
    node = read_identity(DevFolder(town.root).node_file)
    assert node is not None
    os.kill(node.pid, signal.SIGKILL)
    assert stop(town.root, report=lambda _: None) == 0
    assert not any(map(is_alive, identities))
    assert start_detached(town.settings, environ=ENVIRON, report=town.said.append) == 0, "a dead node is no obstacle"


def test_stop_spares_whoever_has_the_number_now(town: Town) -> None:
    """A state file is old; the process with that number may be anybody's."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        identity = identify(stranger.pid)
        assert identity is not None
        other = {**identity.json(), "start_ticks": 1}
        dev = DevFolder(town.root)
        dev.run.mkdir(mode=0o700)
        for path, value in (
            (dev.node_file, {"process": other}),
            (dev.processes_file, {"processes": [{"process": other}]}),
        ):
            path.write_text(str(value).replace("'", '"'))
        assert stop(town.root, report=lambda _: None) == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_port_that_is_taken_costs_the_balancer_and_not_the_pods(town: Town) -> None:
    with socket.create_server(("127.0.0.1", town.port)):
        assert start_detached(town.settings, environ=ENVIRON, report=town.said.append) == 1
    assert town.last["service/front"].phase is Phase.FAILED
    assert "cannot be listened on" in town.last["service/front"].detail
    assert town.last["front"].phase is town.last["back"].phase is Phase.READY


def test_what_is_wrong_is_said_before_anything_runs(town: Town, tmp_path: Path) -> None:
    def settings(**changes: object) -> NodeSettings:
        return NodeSettings(**{"root": town.root, "paths": (town.folder,), **changes})  # type: ignore[arg-type]

    with pytest.raises(AddressError, match="loopback"):
        prepare(settings(network="10.0.0.0/24"))
    with pytest.raises(AddressError, match=r"127\.0\.0\.1:7777"):
        prepare(settings(coordinator="somewhere"))
    with pytest.raises(AddressError):
        prepare(settings(load_balancer="0.0.0.0"))  # noqa: S104  that is what is refused
    (tmp_path / "c.yml").write_text(coordinator())
    with pytest.raises(PodNotFoundError, match="contrast-cc"):
        prepare(settings(paths=(tmp_path / "c.yml",)))
    assert not DevFolder(town.root).run.exists()


def test_an_image_that_is_nowhere_fails_its_pod_with_its_name(town: Town) -> None:
    for path in (town.root / "images" / "blobs" / "sha256").iterdir():
        path.unlink()
    assert start_detached(town.settings, environ=ENVIRON, report=town.said.append) == 1
    assert town.last["front"].phase is Phase.FAILED
    assert "contrast.invalid/test/app" in town.last["front"].detail
    assert ImageNotFoundError.code == "image_not_found"


def test_the_coordinator_is_found_by_its_service_names(town: Town) -> None:
    """The Initializer asks for `coordinator-ready`, wherever the guest's program listens."""
    settings = NodeSettings(root=town.root, paths=(town.folder,), coordinator="127.0.0.9:17777")
    assert start_detached(settings, environ=ENVIRON, report=town.said.append) == 0
    hosts = read_state(DevFolder(town.root).hosts_file)
    assert hosts is not None
    (found,) = hosts["services"]["coordinator-ready"]["endpoints"]
    assert found[0] == "127.0.0.9"
    assert found[1]["7777"] == 17777
