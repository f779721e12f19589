"""Keeping what a process holds in memory out of files: for programs that hold keys. It hides nothing from the CPU."""

import ctypes
import os
import resource
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def keep_memory_private() -> None:
    """No core dump of this process, and no look into its memory by others of the same user.

    Storage belongs to the attacker, and whoever can cut the ledger's file short can have the process killed with
    SIGBUS: a core dump on that storage would be the seed. A limit of zero does not stop a core_pattern that is a pipe,
    so the process is also marked as not dumpable.

    Raises:
        OSError: the kernel refuses it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def swapping(table: Path = Path("/proc/swaps")) -> bool:
    """Whether this machine may write memory to a disk.

    Locking all memory instead (mlockall) would lock the ledger's pages, too, and end the process at the usual limits; a
    confidential guest needs no swap.
    """
    try:
        return len(table.read_text().splitlines()) > 1  # The first line is the heading.
    except OSError:
        return False
