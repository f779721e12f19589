"""One pod from its sandbox to its end: every request is judged by the pod's policy first, then done as plain processes.

Order and meaning are a kubelet's: init containers one after the other, each to its end; then the containers; ready when
their probes say so. Restarting is left out: what ends is reported with its reason, and stays ended.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from images.errors import ImageError
from images.layout import ImageStore
from k8s.nodes import Data
from localnode import child
from localnode.deployment import PodPlan, mounts, readiness
from localnode.errors import ContainerFailedError, DeniedError, LocalNodeError
from localnode.pathmap import PathMap
from localnode.probes import Probe, is_ready
from localnode.process import Identity
from localnode.rundir import open_log, private_folder
from localnode.status import Phase, Status

SHIM = Path(__file__).resolve().parent / "shim"
_LOG_TAIL = 16 * 1024
_REASON = 1000  # characters of a reason that a status line shows
_PATIENCE = 2.0  # seconds that an init container takes before anybody asks what it does
_STARTUP_POLL = 0.1  # seconds; a kubelet's period is for pods that live for days


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the policy has allowed to run in one container: the very strings of the request."""

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str


class Shim(Protocol):
    """The requests that a Kata shim sends for one pod, each judged by the pod's policy before it is done.

    Every method raises DeniedError with the reasons. They compute; call them off the event loop.
    """

    def sandbox(self) -> None:
        """The sandbox and its pause container."""
        ...

    def create(self, container: str) -> Judged:
        """Create a container; answers what to run."""
        ...

    def start(self, container: str) -> None:
        """Start it."""
        ...

    def stop(self, container: str) -> None:
        """Signal, wait for and remove it."""
        ...

    def destroy(self) -> None:
        """The end of the sandbox."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlace:
    """What the node gives to a pod: its address, folders, and what its programs are told about the world.

    Attributes:
        hosts: the file for CONTRAST_HOSTS.
        processor: the socket of its simulated processor.
        path: this machine's search path for programs.
    """

    address: str
    folder: Path
    logs: Path
    hosts: Path
    processor: Path
    path: str


class Pod:
    """One pod. ``run`` ends when the pod does, or is cancelled and then ends what it started."""

    def __init__(
        self,
        plan: PodPlan,
        place: PodPlace,
        shim: Shim,
        images: ImageStore,
        *,
        report: Callable[[Status], None],
        processes: Callable[[str, Identity | None], None],
    ) -> None:
        """*report* gets every change, *processes* every start (name, identity) and end (name, None) of a process."""
        self.plan = plan
        self.place = place
        self.ready = False
        self._shim = shim
        self._images = images
        self._report = report
        self._processes = processes
        self._said: Status | None = None

    async def run(self) -> None:
        """Live. Refusals and failures are reported, not raised: the other pods go on."""
        try:
            await self._live()
        except DeniedError as error:
            self._say(Phase.DENIED, str(error))
        except (LocalNodeError, ImageError, OSError) as error:
            self._say(Phase.FAILED, str(error))
        except asyncio.CancelledError:
            self._say(Phase.STOPPED, "")
            raise

    async def _live(self) -> None:
        await asyncio.to_thread(self._shim.sandbox)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._finish, self._shim.destroy)
            waiting: list[tuple[str, asyncio.subprocess.Process]] = []
            for container in self.plan.containers("initContainers"):
                name = _name(container)
                self._say(Phase.INITIALIZING, name)
                running = self._container(container)
                if container.get("restartPolicy") == "Always":  # a sidecar: it goes on beside the containers
                    waiting.append((name, await stack.enter_async_context(running)))
                    continue
                async with running as process:
                    code = await self._until_over(name, process)
                if code != 0:
                    raise ContainerFailedError(self._why(name, code))
            for container in self.plan.containers("containers"):
                process = await stack.enter_async_context(self._container(container))
                waiting += [(_name(container), process)]
            self._say(Phase.RUNNING, "")
            failure: BaseException | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    probing = group.create_task(self._watch())
                    ending = [group.create_task(self._until_end(name, process)) for name, process in waiting]
                    await asyncio.wait(ending)
                    probing.cancel()
            except* ContainerFailedError as failed:
                failure = failed.exceptions[0]
                self._say(Phase.FAILED, str(failure))  # at once: ending the others takes its time
            finally:
                self.ready = False
            if failure is not None:  # Outside of except*, which would wrap it in a group once more.
                raise failure
        self._say(Phase.STOPPED, "all its containers have ended")

    async def _until_over(self, name: str, process: asyncio.subprocess.Process) -> int:
        """Wait for an init container; while it tries again and again, say what it waits for."""
        said = ""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    return child.exit_code(await process.wait())
            words = last_words(self.log_of(name))
            if words and words != said:
                said = words
                self._say(Phase.INITIALIZING, f"{name}: {words}")

    async def _until_end(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = child.exit_code(await process.wait())
        if code != 0:
            raise ContainerFailedError(self._why(name, code))

    @asynccontextmanager
    async def _container(self, container: dict[str, Data]) -> AsyncIterator[asyncio.subprocess.Process]:
        name = _name(container)
        judged = await asyncio.to_thread(self._shim.create, name)
        launch = await asyncio.to_thread(self._prepare, container, judged)
        await asyncio.to_thread(self._shim.start, name)
        log = open_log(self.log_of(name))
        try:
            process = await child.start(replace(launch, log=log))
        finally:
            os.close(log)
        label = f"{self.plan.id}/{name}"
        self._processes(label, child.identity_of(process))
        try:
            yield process
        finally:
            try:
                await self._finish(self._shim.stop, name)
            finally:
                if process.returncode is None:
                    await child.end(process, grace=self.plan.grace)
                self._processes(label, None)

    async def _finish(self, judge: Callable[..., None], *arguments: str) -> None:
        # A policy that forbids the end of its own container is no reason to let the process live.
        with contextlib.suppress(DeniedError):
            await asyncio.to_thread(judge, *arguments)

    def _prepare(self, container: dict[str, Data], judged: Judged) -> child.Launch:
        """Unpack the image, and say in this machine's paths what was judged in the container's."""
        name = _name(container)
        layout, image = self._images.find(str(container.get("image")))
        root = self.place.folder / "containers" / name
        layout.unpack(image, root)
        at = mounts(container, self.place.folder / "volumes")
        for volume in at.values():
            private_folder(volume)
        paths = PathMap(root=root, mounts=at)
        environment = dict(entry.split("=", 1) for entry in judged.environment)
        image_path = environment.get("PATH", "")
        program, *arguments = judged.arguments
        directory = paths.path(judged.directory)
        if not directory.is_dir():
            directory = root
        return child.Launch(
            program=child.find_in_container(program, image_path=image_path, paths=paths, path=self.place.path),
            arguments=tuple(map(paths.text, arguments)),
            environment=self._environment(environment, paths),
            directory=directory,
        )

    def _environment(self, judged: Mapping[str, str], paths: PathMap) -> dict[str, str]:
        environment = {key: paths.text(value) for key, value in judged.items()}
        # A program's own default would be a path of this machine, not of its container.
        environment.setdefault("CONTRAST_TLS_DIR", str(paths.path("/contrast/tls-config")))
        modules = [str(SHIM), *filter(None, [environment.get("PYTHONPATH")])]
        return environment | {
            "PATH": self.place.path,
            "PYTHONPATH": os.pathsep.join(modules),
            "CONTRAST_HOSTS": str(self.place.hosts),
            "CONTRAST_BIND": self.place.address,
            "CONTRAST_SIMULATED_PROCESSOR": str(self.place.processor),
        }

    async def _watch(self) -> None:
        probes = [
            probe
            for container in self.plan.containers("containers")
            if (probe := readiness(container, self.plan.named_ports)) is not None
        ]
        period, was_ready = _STARTUP_POLL, False
        while True:
            self.ready = await self._all_ready(probes)
            if self.ready != was_ready:
                self._say(Phase.READY if self.ready else Phase.RUNNING, "" if self.ready else "its probe fails")
                was_ready, period = self.ready, min([probe.period for probe in probes], default=0.0)
            if was_ready and not probes:
                return  # without a probe, running is ready
            await asyncio.sleep(period)

    async def _all_ready(self, probes: list[Probe]) -> bool:
        return all([await is_ready(probe, self.place.address) for probe in probes])

    def log_of(self, container: str) -> Path:
        """Where what the container prints goes."""
        return self.place.logs / f"{self.plan.id}.{container}.log"

    def _why(self, container: str, code: int) -> str:
        reason = last_words(self.log_of(container))
        return f"{container} ended with exit code {code}" + (
            f": {reason}" if reason else f"; see {self.log_of(container)}"
        )

    def _say(self, phase: Phase, detail: str) -> None:
        status = Status(subject=self.plan.id, phase=phase, detail=detail, address=self.place.address)
        if status != self._said:
            self._said = status
            self._report(status)


def last_words(log: Path) -> str:
    """What a program said last, for a person: the newest JSON line with a reason in it, else the last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return ""
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict) and (said := _said(entry)):
                return _one_line(said)
    if not lines:
        return ""
    with contextlib.suppress(ValueError, RecursionError):
        newest = json.loads(lines[-1])
        if isinstance(newest, dict) and isinstance(newest.get("event"), str):
            return _one_line(newest["event"])  # A log for machines; its other fields explain nothing to a person.
    return _one_line(lines[-1])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON]


def _said(entry: Mapping[str, object]) -> str:
    code = entry.get("code")
    parts = [str(entry[key]) for key in ("detail", "message", "error", "reason", "action") if entry.get(key)]
    if code is None and not parts:
        return ""
    return ": ".join([*([str(code)] if code else []), *(["; ".join(parts)] if parts else [])])


def _name(container: Mapping[str, Data]) -> str:
    return str(container["name"])
