"""The ledger head that this pod saw before, kept in the receipt beside its certificate: a restart forgets nothing."""

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
        with path.open("rb") as stream:
            raw = stream.read(MAX_RECEIPT + 1)
        return read_checkpoint(parse_proof(raw).checkpoint_raw.encode())
    except FileNotFoundError:
        return None
    except (OSError, LedgerError) as error:
        raise LocalFaultError(
            f"{path} is no receipt that can be read ({error}): it says which ledger this pod belongs to. If the pod is "
            "to forget that, delete the pod, or the files"
        ) from error
