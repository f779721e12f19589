"""The ledger head that this pod saw before, kept in the receipt beside its certificate: a restart forgets nothing."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from initializer.errors import LocalFaultError
from ledger.checkpoint import Checkpoint, read_checkpoint
from ledger.errors import LedgerError
from ledger.proof import parse_proof
from wire.bundle import MAX_RECEIPT

RECEIPT: Final = "cert.tlog-proof"


def known_head(directory: Path) -> Checkpoint | None:
    """The head in the receipt that an earlier run placed in *directory*; None where there is none.

    Without it whoever can make the Initializer end, and one wrong answer does, could show the next one an older ledger.

    Raises:
        LocalFaultError: there is a receipt, and it cannot be read.
    """
    path = directory / RECEIPT
    try:
        return read_checkpoint(parse_proof(_read_file(path)).checkpoint_raw.encode())
    except FileNotFoundError:
        return None
    except (OSError, LedgerError) as error:
        raise LocalFaultError(
            f"{path} is no receipt that can be read ({error}): it says which ledger this pod belongs to. If the pod is "
            "to forget that, delete the pod, or the files"
        ) from error


def _read_file(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # A pipe there must not hold it up.
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        return stream.read(MAX_RECEIPT + 1)
