"""A program in a simulated guest: it gets a secure processor of its own, launched with the digest of its pod's policy.

What the pod may do is not judged here: this runs the one program that a person named, to try it out.
"""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.errors import IssueError
from attestation.simulated.processor import GuestLaunch, SecureProcessor
from attestation.simulated.socket import serve
from localnode import child
from localnode.addresses import parse_loopback
from localnode.deployment import find_pod, read_deployment
from localnode.errors import ContainerFailedError, GuestError
from localnode.process import is_alive
from localnode.rundir import DevFolder, private_folder, read_identity, read_state, write_state
from localnode.setup import DevPlatform, load_platform

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
USER_PORT: Final = 1313
MESH_PORT: Final = 7777
_GRACE: Final = 10.0  # seconds
_PORTS: Final = (
    ("user_port", "--user-port", "CONTRAST_USER_PORT", USER_PORT),
    ("mesh_port", "--mesh-port", "CONTRAST_MESH_PORT", MESH_PORT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Where a Coordinator listens."""

    address: str
    user_port: int
    mesh_port: int


@asynccontextmanager
async def simulated_guest(platform: DevPlatform, host_data: bytes, socket: Path) -> AsyncIterator[Path]:
    """A guest launched with *host_data*; its processor answers on *socket* until the block ends.

    Raises:
        GuestError: the socket cannot be made.
    """
    guest = SecureProcessor(platform.vendor).launch(GuestLaunch(measurement=platform.measurement, host_data=host_data))
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serve(guest, socket))
        except IssueError as error:
            raise GuestError(f"the simulated processor cannot answer: {error}") from error
        yield socket


async def run_in_guest(
    root: Path,
    paths: Sequence[Path],
    *,
    pod: str,
    command: Sequence[str],
    environ: Mapping[str, str],
    bind: str = "127.0.0.1",
) -> int:
    """Run *command* in the guest of the workload *pod*, and return its exit code (128 + n when signal n ended it).

    SIGINT, SIGTERM and SIGHUP go on to the program. A Coordinator is recorded in the workspace: there the pods find it.

    Args:
        root: the workspace, with a simulated vendor in it.
        paths: the YAML that holds the workload, with its policy.
        pod: the workload's name.
        command: the program and its arguments.
        environ: what it inherits.
        bind: the loopback address that it listens on (CONTRAST_BIND).

    Raises:
        LocalNodeError, ResourceError: the guest cannot be launched; the program was not started.
    """
    platform = load_platform(root)
    plan = find_pod(read_deployment(paths), pod)
    address = parse_loopback(bind)
    if not command:
        raise ContainerFailedError("no program is named: write it behind `--`")
    path = child.search_path(environ)
    program = child.find_program(command[0], path=path)
    folder = DevFolder.of(root)
    with short_folder() as sockets:
        async with simulated_guest(platform, plan.host_data, sockets / "processor") as socket:
            environment = {
                **environ,
                "PATH": path,
                "CONTRAST_SIMULATED_PROCESSOR": str(socket),
                "CONTRAST_BIND": address,
            }
            launch = child.Launch(program=program, arguments=tuple(command[1:]), environment=environment)
            async with _running(launch) as process:
                if not plan.workload.is_coordinator:
                    return child.exit_code(await process.wait())
                with _recorded(folder, process, address, command, environ):
                    return child.exit_code(await process.wait())


def find_coordinator(folder: DevFolder) -> Coordinator | None:
    """The Coordinator that a guest of this workspace runs now, if any."""
    state, identity = read_state(folder.coordinator_file), read_identity(folder.coordinator_file)
    if state is None or identity is None or not is_alive(identity):
        return None
    address, user, mesh = (state.get(key) for key in ("address", "user_port", "mesh_port"))
    if not isinstance(address, str) or not isinstance(user, int) or not isinstance(mesh, int):
        return None
    return Coordinator(address=address, user_port=user, mesh_port=mesh)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder (0700) for sockets, removed afterwards."""
    # A Unix socket's path has at most 107 bytes, and workspaces lie deep.
    folder = Path(tempfile.mkdtemp(prefix="contrast-guest-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _running(launch: child.Launch) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start it, with every signal that we get from now on going to it; it does not outlive the block."""
    started: list[asyncio.subprocess.Process] = []
    early: list[signal.Signals] = []

    def deliver(number: signal.Signals) -> None:
        if not started:
            early.append(number)
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    child.forward_signals(deliver, SIGNALS)
    try:
        process = await child.start(launch)
        started.append(process)
        for number in early:
            deliver(number)
        try:
            yield process
        finally:
            if process.returncode is None:
                await child.end(process, grace=_GRACE)
    finally:
        child.restore_signals(SIGNALS)


@contextlib.contextmanager
def _recorded(
    folder: DevFolder,
    process: asyncio.subprocess.Process,
    address: str,
    command: Sequence[str],
    environ: Mapping[str, str],
) -> Iterator[None]:
    """While the block runs, the workspace's Coordinator is *process*; afterwards it is the one before, if that runs."""
    identity = child.identity_of(process)
    if identity is None:
        yield
        return
    before = read_state(folder.coordinator_file) if find_coordinator(folder) is not None else None
    ports = {key: _port(command, environ, flag, name, default) for key, flag, name, default in _PORTS}
    private_folder(folder.run)
    write_state(folder.coordinator_file, {"process": identity.json(), "address": address, **ports})
    try:
        yield
    finally:
        # One that ended at once, because another has its port, must not make the pods forget that other.
        if read_identity(folder.coordinator_file) == identity:
            folder.coordinator_file.unlink(missing_ok=True)
            if before is not None:
                write_state(folder.coordinator_file, before)


def _port(command: Sequence[str], environ: Mapping[str, str], flag: str, name: str, default: int) -> int:
    """The port that the Coordinator will take: its flag, else its variable, else its default."""
    text = environ.get(name, "")
    for index, word in enumerate(command):
        if word == flag and index + 1 < len(command):
            text = command[index + 1]
        elif word.startswith(flag + "="):
            text = word.partition("=")[2]
    return int(text) if text.isascii() and text.isdigit() else default
