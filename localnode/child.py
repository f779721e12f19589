"""Starts programs as children of a guest or of a pod, finds them, and ends them; knows nothing of policies.

A child ends when its parent does, whatever the parent dies of: a guest does not outlive its machine.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localnode.errors import ContainerFailedError
from localnode.pathmap import PathMap
from localnode.process import Identity, identify

_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One program to start: every string of it as the child sees it. ``log`` is a descriptor; None inherits ours."""

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path | None = None
    log: int | None = None


def search_path(environ: Mapping[str, str]) -> str:
    """Where programs are looked for: beside this Python (our own console scripts), then as the caller's PATH says."""
    return os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])


def find_program(name: str, *, path: str) -> str:
    """The file of the program *name*, as a shell would find it.

    Raises:
        ContainerFailedError: there is none.
    """
    found = shutil.which(name, path=path)
    if found is None:
        raise ContainerFailedError(
            f"program {name!r} is not on this machine: install it, or `make setup` if it is ours"
        )
    return found


def find_in_container(name: str, *, image_path: str, paths: PathMap, path: str) -> str:
    """The program *name* of a container: from its root file system, else this machine's in place of a base image.

    Raises:
        ContainerFailedError: neither has it.
    """
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in image_path.split(":") if folder]
    for candidate in candidates:
        place = paths.path(candidate)
        if place.is_file() and os.access(place, os.X_OK):
            return str(place)
    return find_program(name.rpartition("/")[2], path=path)


async def start(launch: Launch) -> asyncio.subprocess.Process:
    """Start it in a session of its own, with nothing to read.

    Raises:
        ContainerFailedError: the system refuses.
    """
    try:
        return await asyncio.create_subprocess_exec(
            launch.program,
            *launch.arguments,
            env=dict(launch.environment),
            cwd=launch.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=launch.log,
            stderr=launch.log,
            # A terminal's Ctrl-C is for the parent, which passes it on in its own way.
            start_new_session=True,
            preexec_fn=_die_with_parent(os.getpid()),
        )
    except OSError as error:
        raise ContainerFailedError(f"{launch.program} cannot be started: {error.strerror or error}") from error


async def end(process: asyncio.subprocess.Process, *, grace: float) -> int:
    """SIGTERM to the child, SIGKILL to its group after *grace* seconds; returns its exit code."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace):
            await process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # also what the child itself has left behind
    return exit_code(await process.wait())


def exit_code(code: int) -> int:
    """As a shell says it: 128 and the signal's number for a program that a signal ended."""
    return 128 - code if code < 0 else code


def identity_of(process: asyncio.subprocess.Process) -> Identity | None:
    """Who the child is, for state files; None when it has ended already."""
    return identify(process.pid) if process.returncode is None else None


def forward_signals(deliver: Callable[[signal.Signals], None], numbers: Sequence[signal.Signals]) -> None:
    """Hand the signals that this process gets to *deliver*, until `restore_signals`."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, deliver, number)


def restore_signals(numbers: Sequence[signal.Signals]) -> None:
    """Undo `forward_signals`."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.remove_signal_handler(number)


def _die_with_parent(parent: int) -> Callable[[], None]:
    # Loaded before the fork: between fork and exec only the system call is made.
    prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between, so nobody will tell us
            os._exit(1)

    return before_exec
