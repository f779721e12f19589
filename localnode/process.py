"""Which process is meant by a number that somebody wrote down; signals go to that one or to nobody.

A process id is used again after its process ended. The start time, in ticks since boot, and the boot's own id tell
whether it is still the same one.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_START_TIME = 19  # field 22 of /proc/PID/stat (proc(5)), counted from the one behind the command's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process, for as long as this boot lasts."""

    pid: int
    start_ticks: int
    boot_id: str

    def json(self) -> dict[str, object]:
        """As a state file holds it."""
        return {"pid": self.pid, "start_ticks": self.start_ticks, "boot_id": self.boot_id}


def parse_identity(value: object) -> Identity:
    """Read what `Identity.json` gave.

    Raises:
        ValueError: it is something else. Process 1 and negative numbers (groups) are nothing we ever started.
    """
    if isinstance(value, dict):
        pid, ticks, boot = (value.get(key) for key in ("pid", "start_ticks", "boot_id"))
        if type(pid) is int and pid > 1 and type(ticks) is int and isinstance(boot, str):
            return Identity(pid=pid, start_ticks=ticks, boot_id=boot)
    raise ValueError("no process is named there")


def identify(pid: int, *, proc: Path = PROC) -> Identity | None:
    """Who has this number now; None when nobody (or only a zombie, which does nothing any more)."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name may hold spaces and parentheses
    if fields[0] in {"Z", "X"}:
        return None
    return Identity(pid=pid, start_ticks=int(fields[_START_TIME]), boot_id=boot)


def is_alive(identity: Identity, *, proc: Path = PROC) -> bool:
    """Whether that very process still runs."""
    return identify(identity.pid, proc=proc) == identity


def send(identity: Identity, number: signal.Signals, *, group: bool = False) -> bool:
    """Signal that very process, or the group it leads; False when it has ended. Nobody else is ever signalled."""
    with contextlib.suppress(ProcessLookupError):
        # The descriptor holds on to one process: between the comparison and the signal the number cannot change hands.
        descriptor = os.pidfd_open(identity.pid)
        try:
            if not is_alive(identity):
                return False
            if group and os.getpgid(identity.pid) == identity.pid:
                os.killpg(identity.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
            return True
        finally:
            os.close(descriptor)
    return False


def end(
    identities: Iterable[Identity],
    *,
    grace: float,
    group: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> tuple[Identity, ...]:
    """SIGTERM to each, SIGKILL to those that still run after *grace* seconds; returns those that had to be killed."""
    asked = [identity for identity in identities if send(identity, signal.SIGTERM, group=group)]
    deadline = monotonic() + grace
    while monotonic() < deadline and any(map(is_alive, asked)):
        sleep(0.05)
    return tuple(identity for identity in asked if send(identity, signal.SIGKILL, group=group))
