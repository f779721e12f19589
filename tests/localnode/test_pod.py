"""One pod's life, with a policy that is played by the test: judged first, then done, as plain processes."""

import asyncio
import json
import os
import stat
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from images.layout import ImageStore
from localnode.child import search_path
from localnode.deployment import PodPlan, plan_pods, read_deployment
from localnode.errors import DeniedError
from localnode.pod import Judged, Pod, PodPlace, last_words
from localnode.process import Identity, is_alive
from localnode.status import Phase, Status
from tests.support.pods import build, deployment

SLEEP = "import signal, time\nprint('up', flush=True)\ntime.sleep(60)\n"


class PlayedShim:
    """Allows everything but what is in *denied*; runs what the YAML says, and notes the order."""

    def __init__(self, plan: PodPlan, denied: frozenset[str] = frozenset()) -> None:
        self.plan = plan
        self.denied = denied
        self.asked: list[str] = []

    def _ask(self, question: str) -> None:
        self.asked.append(question)
        if question in self.denied:
            raise DeniedError(f"{question} is not allowed: seen a, wanted b")

    def sandbox(self) -> None:
        self._ask("sandbox")

    def create(self, container: str) -> Judged:
        self._ask(f"create {container}")
        (found,) = [
            item
            for kind in ("initContainers", "containers")
            for item in self.plan.containers(kind)
            if item["name"] == container
        ]
        arguments = found.get("args")
        environment = found.get("env")
        words = [str(word) for word in arguments] if isinstance(arguments, list) else []
        values = environment if isinstance(environment, list) else []
        return Judged(
            arguments=("python3", "/app/main.py", *words),
            environment=(
                "PATH=/usr/bin:/bin",
                *(f"{item['name']}={item['value']}" for item in values if isinstance(item, dict)),
            ),
            directory="/",
        )

    def start(self, container: str) -> None:
        self._ask(f"start {container}")

    def stop(self, container: str) -> None:
        self._ask(f"stop {container}")

    def destroy(self) -> None:
        self._ask("destroy")


class Stage:
    """A pod on a stage: its statuses, its processes, its shim."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[Status] = []
        self.processes: dict[str, Identity] = {}
        self.gone: list[str] = []

    def pod(self, containers: str, program: str, denied: frozenset[str] = frozenset()) -> Pod:
        image = build(self.root / "images", program)
        folder = self.root / "deployment"
        folder.mkdir()
        text = textwrap.dedent(containers).replace("IMAGE", image)
        (folder / "pod.yml").write_text(deployment("app", text))
        (plan,) = plan_pods(read_deployment([folder]))
        self.shim = PlayedShim(plan, denied)
        for name in ("pod", "logs"):
            (self.root / name).mkdir(mode=0o700)
        (self.root / "hosts").write_text('{"services": {}}')
        self.place = PodPlace(
            address="127.9.9.9",
            folder=self.root / "pod",
            logs=self.root / "logs",
            hosts=self.root / "hosts",
            processor=self.root / "processor",
            path=search_path(os.environ),
        )
        return Pod(
            plan,
            self.place,
            self.shim,
            ImageStore([self.root / "images"]),
            report=self.said.append,
            processes=self._process,
        )

    def _process(self, name: str, identity: Identity | None) -> None:
        if identity is None:
            self.gone.append(name)
        else:
            self.processes[name] = identity

    @property
    def phases(self) -> list[Phase]:
        return [status.phase for status in self.said]

    async def until(self, phase: Phase) -> None:
        async with asyncio.timeout(20):
            while phase not in self.phases:  # noqa: ASYNC110  the pod's own loop is what is tested
                await asyncio.sleep(0.01)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


ONE = """\
    containers:
      - name: app
        image: IMAGE
"""
TWO = """\
    initContainers:
      - name: first
        image: IMAGE
        args: [/data/out, first]
        volumeMounts: [{name: shared, mountPath: /data}]
    containers:
      - name: app
        image: IMAGE
        args: [--file=/data/out, app]
        env: [{name: FILE, value: /data/out}, {name: APP, value: /app/main.py}, {name: PLAIN, value: web:8443}]
        volumeMounts: [{name: shared, mountPath: /data/}]
    volumes: [{name: shared, emptyDir: {}}]
"""


async def test_init_containers_end_before_containers_begin_and_share_volumes(stage: Stage) -> None:
    """Or an app would start before its certificate is there."""
    program = """
    import json, os, sys
    path = sys.argv[1].removeprefix("--file=")
    with open(path, "a") as file:
        file.write(sys.argv[2] + "\\n")
    print(json.dumps(dict(os.environ)))
    """
    pod = stage.pod(TWO, program)
    await pod.run()
    assert (stage.place.folder / "volumes" / "shared" / "out").read_text() == "first\napp\n"
    assert stage.shim.asked == [
        "sandbox",
        *("create first", "start first", "stop first"),
        *("create app", "start app", "stop app"),
        "destroy",
    ]
    assert stage.phases[0] is Phase.INITIALIZING
    assert stage.phases[-1] is Phase.STOPPED
    environment = json.loads(pod.log_of("app").read_text())
    assert environment["FILE"] == str(stage.place.folder / "volumes/shared/out")
    assert environment["APP"] == str(stage.place.folder / "containers/app/app/main.py")
    assert environment["PLAIN"] == "web:8443"
    assert environment["CONTRAST_SIMULATED_PROCESSOR"] == str(stage.place.processor)
    assert environment["CONTRAST_TLS_DIR"] == str(stage.place.folder / "containers/app/contrast/tls-config")


async def test_nothing_of_the_nodes_own_environment_reaches_a_container(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy pins the environment; a token of the user's shell is none of the pod's business."""
    monkeypatch.setenv("SOME_TOKEN", "token of the user")
    pod = stage.pod(ONE, "import json, os\nprint(json.dumps(dict(os.environ)))\n")
    await pod.run()
    assert set(json.loads(pod.log_of("app").read_text())) - {"LC_CTYPE"} == {
        *("PATH", "PYTHONPATH", "CONTRAST_HOSTS", "CONTRAST_BIND", "CONTRAST_TLS_DIR", "CONTRAST_SIMULATED_PROCESSOR")
    }


@pytest.mark.parametrize("question", ["sandbox", "create app", "start app"])
async def test_what_the_policy_denies_is_not_done(stage: Stage, question: str) -> None:
    pod = stage.pod(ONE, "open('/nowhere', 'w')", frozenset({question}))
    await pod.run()
    assert stage.phases[-1] is Phase.DENIED
    assert "seen a, wanted b" in stage.said[-1].detail
    assert stage.processes == {}


async def test_a_denied_end_keeps_nothing_alive(stage: Stage) -> None:
    pod = stage.pod(ONE, SLEEP, frozenset({"stop app", "destroy"}))
    task = asyncio.get_running_loop().create_task(pod.run())
    await stage.until(Phase.READY)
    (identity,) = stage.processes.values()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(identity)


async def test_an_init_container_that_fails_is_reported_with_its_reason(stage: Stage) -> None:
    """`contrast dev run` must say why a pod got no certificate, in words."""
    program = """
    import json, sys
    print(json.dumps({"event": "failed", "code": "policy_unknown", "reason": "the manifest does not name this policy"}))
    print("and some other line")
    sys.exit(1)
    """
    pod = stage.pod(TWO, program)
    await pod.run()
    last = stage.said[-1]
    assert (last.phase, last.subject) == (Phase.FAILED, pod.plan.name)
    assert last.detail == "first ended with exit code 1: policy_unknown: the manifest does not name this policy"
    assert "create app" not in stage.shim.asked


async def test_a_container_that_crashes_takes_the_pod_down(stage: Stage) -> None:
    pod = stage.pod(ONE, "import sys\nprint('out of cheese')\nsys.exit(3)\n")
    await pod.run()
    assert stage.said[-1].phase is Phase.FAILED
    assert stage.said[-1].detail == "app ended with exit code 3: out of cheese"
    assert not pod.ready
    assert stage.gone == [f"{pod.plan.name}/app"]


async def test_cancelling_ends_the_processes_gracefully(stage: Stage) -> None:
    program = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
    print("up", flush=True)
    time.sleep(60)
    """
    pod = stage.pod(ONE, program)
    task = asyncio.get_running_loop().create_task(pod.run())
    await stage.until(Phase.READY)
    async with asyncio.timeout(20):
        while "up" not in pod.log_of("app").read_text():  # noqa: ASYNC110  a file is polled
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pod.log_of("app").read_text() == "up\nbye\n"
    assert stage.phases[-1] is Phase.STOPPED
    assert not any(map(is_alive, stage.processes.values()))


async def test_a_pod_is_ready_when_its_probe_says_so(stage: Stage) -> None:
    probed = ONE + "        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}\n"
    program = """
    import os, socket, time
    time.sleep(0.3)
    server = socket.create_server((os.environ["CONTRAST_BIND"], 8080))
    while True:
        server.accept()[0].close()
    """
    pod = stage.pod(probed, program)
    task = asyncio.get_running_loop().create_task(pod.run())
    await stage.until(Phase.READY)
    assert stage.phases == [Phase.RUNNING, Phase.READY]
    assert pod.ready
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not pod.ready


async def test_what_a_pod_leaves_is_for_its_owner_alone(stage: Stage) -> None:
    """Volumes hold private keys, logs whatever the app prints."""
    pod = stage.pod(TWO, "import sys\nopen(sys.argv[1].removeprefix('--file='), 'w').close()\n")
    await pod.run()
    assert stat.S_IMODE((stage.place.folder / "volumes" / "shared").stat().st_mode) == 0o700
    assert stat.S_IMODE(pod.log_of("app").stat().st_mode) == 0o600


async def test_an_image_that_was_changed_is_not_run(stage: Stage) -> None:
    pod = stage.pod(ONE, "print('original')")
    for blob in (stage.root / "images" / "blobs" / "sha256").iterdir():
        data = blob.read_bytes()
        if b"original" in data:
            blob.write_bytes(data.replace(b"original", b"attacked"))
    await pod.run()
    assert stage.phases[-1] is Phase.FAILED
    assert "digest" in stage.said[-1].detail
    assert stage.processes == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("plain\n\n", "plain"),
        ('{"code": "a", "detail": "b\\n  c"}', "a: b c"),
        ('{"event": "x", "directory": "/y"}\n', "x"),
        ('{"directory": "/y"}\n', '{"directory": "/y"}'),
        ('{"code": "a", "detail": "b"}\n{"event": "x"}\n', "a: b"),
        ("[" * 10_000, "[" * 1000),
        ("x" * 50_000, "x" * 1000),
    ],
    ids=[
        "nothing",
        "plain",
        "lines",
        "json without reason",
        "json of another kind",
        "json with reason",
        "deep",
        "long",
    ],
)
def test_the_last_words_are_short_and_safe(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log").write_text(text)
    assert last_words(tmp_path / "log") == words
    assert last_words(tmp_path / "absent") == ""


def test_replicas_are_different_pods_of_one_policy(write: Callable[[str, str], Path]) -> None:
    folder = write("a.yml", deployment("web", "containers: [{name: app, image: a}]\n", replicas=3))
    plans = plan_pods(read_deployment([folder]))
    assert len({plan.name for plan in plans}) == 3
    assert len({plan.host_data for plan in plans}) == 1
