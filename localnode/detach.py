"""The node as a process of its own: starting it, asking how it is, ending it and what it left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import localnode
from localnode.errors import LocalNodeError, NodeNotRunningError, NodeRunningError
from localnode.guest import find_coordinator
from localnode.node import COORDINATOR, NodeSettings, prepare
from localnode.pod import last_words
from localnode.process import Identity, end, is_alive, parse_identity
from localnode.rundir import DevFolder, open_log, private_folder, read_identity, read_state
from localnode.status import Phase, Status, parse_status

_POLL = 0.1  # seconds
_NODE_GRACE = 45.0  # seconds: more than the pods' own grace periods usually are
_CHILD_GRACE = 5.0


def start_detached(
    settings: NodeSettings,
    *,
    environ: Mapping[str, str],
    report: Callable[[Status], None],
    timeout: float = 120.0,
) -> int:
    """Start the node in the background and wait until every pod is ready (0) or some are not going to be (1).

    Everything that can be wrong with the files is found here, before a process is started. After *timeout* seconds the
    answer is 1 and the node goes on trying.

    Raises:
        LocalNodeError, ResourceError, ImageError: as `run_node`.
    """
    folder = DevFolder.of(settings.root)
    prepare(settings)
    if _node(folder) is not None:
        raise NodeRunningError(f"the pods of {folder.root} run already: end them with `contrast dev stop`")
    private_folder(folder.dev)
    private_folder(folder.run)
    for path in (folder.status_file, folder.node_log):
        path.unlink(missing_ok=True)
    log = open_log(folder.node_log)
    try:
        process = subprocess.Popen(  # noqa: S603  our own program with the user's own paths
            [sys.executable, "-m", "localnode", *_arguments(settings)],
            env={**environ, "PYTHONPATH": _with_ourselves(environ)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    try:
        return _follow(process, folder, report, timeout)
    finally:
        if process.returncode is None:
            process.returncode = 0  # It outlives us on purpose; Popen would warn of it.


def status(root: Path) -> tuple[Status, ...]:
    """The newest status of the Coordinator's guest, and of every pod and external Service while the node runs.

    Raises:
        NodeNotRunningError: neither a node nor a Coordinator of this workspace runs.
    """
    folder = DevFolder.of(root)
    coordinator = _coordinator(folder)
    if _node(folder) is not None:
        return (*coordinator, *_statuses(folder))
    if not coordinator:
        raise NodeNotRunningError(f"no pods of {folder.root} run: start them with `contrast dev run deployment/`")
    return coordinator


def stop(root: Path, *, report: Callable[[Status], None]) -> int:
    """End the node of this workspace and whatever of its pods is left; nobody else. 0, also when nothing ran."""
    folder = DevFolder.of(root)
    node = _node(folder)
    left = _left_behind(folder)
    if node is None and not left:
        return 0
    known = list(_statuses(folder))
    if node is not None:
        end([node], grace=_NODE_GRACE)
    # A node that was killed could not end its pods' programs.
    end([identity for identity in _left_behind(folder) or left if is_alive(identity)], grace=_CHILD_GRACE, group=True)
    for path in (folder.node_file, folder.processes_file):
        path.unlink(missing_ok=True)
    for item in known:
        if not item.phase.lost and item.subject != COORDINATOR:
            report(Status(subject=item.subject, phase=Phase.STOPPED, address=item.address))
    return 0


def _follow(
    process: "subprocess.Popen[bytes]", folder: DevFolder, report: Callable[[Status], None], timeout: float
) -> int:
    seen: dict[str, Status] = {}
    deadline = time.monotonic() + timeout
    while True:
        ended = process.poll()
        for item in _statuses(folder):
            if seen.get(item.subject) != item:
                seen[item.subject] = item
                report(item)
        if ended is not None:
            if not seen:
                raise LocalNodeError(f"the node ended with exit code {ended}: {last_words(folder.node_log)}")
            return 1
        pods = [item for item in seen.values() if not item.subject.startswith("service/")]
        if pods and all(item.phase.settled for item in pods):
            return 1 if any(item.phase.lost for item in seen.values()) else 0
        if time.monotonic() > deadline:
            for item in pods:
                if not item.phase.settled:
                    said = f"not ready after {timeout:.0f} s, and goes on trying: `contrast dev status` shows it"
                    report(replace(item, detail="; ".join(filter(None, [item.detail, said]))))
            return 1
        time.sleep(_POLL)


def _statuses(folder: DevFolder) -> Iterator[Status]:
    try:
        lines = folder.status_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            yield parse_status(line)
        except ValueError:
            continue  # somebody else's text: it says nothing about a pod


def _coordinator(folder: DevFolder) -> tuple[Status, ...]:
    found, identity = find_coordinator(folder), read_identity(folder.coordinator_file)
    if found is None or identity is None:
        return ()
    detail = f"process {identity.pid} of `contrast dev guest`: user port {found.user_port}, mesh port {found.mesh_port}"
    return (Status(subject="coordinator", phase=Phase.RUNNING, address=found.address, detail=detail),)


def _node(folder: DevFolder) -> Identity | None:
    identity = read_identity(folder.node_file)
    return identity if identity is not None and is_alive(identity) else None


def _left_behind(folder: DevFolder) -> list[Identity]:
    state = read_state(folder.processes_file) or {}
    found: list[Identity] = []
    for entry in state.get("processes") or ():
        try:
            identity = parse_identity(entry["process"])
        except (ValueError, TypeError, KeyError):
            continue  # what names no process cannot be ended
        if is_alive(identity):
            found.append(identity)
    return found


def _arguments(settings: NodeSettings) -> list[str]:
    options = {
        "--network": settings.network,
        "--load-balancer": settings.load_balancer,
        "--coordinator": settings.coordinator,
    }
    given = [word for flag, value in options.items() if value is not None for word in (flag, value)]
    images = [word for path in settings.images for word in ("--images", str(path.resolve()))]
    return [*given, *images, "--root", str(settings.root.resolve()), "--", *(str(p.resolve()) for p in settings.paths)]


def _with_ourselves(environ: Mapping[str, str]) -> str:
    """A PYTHONPATH in which the new process finds the very packages that run here."""
    home = str(Path(localnode.__path__[0]).resolve().parent)
    return os.pathsep.join([home, *filter(None, [environ.get("PYTHONPATH")])])
