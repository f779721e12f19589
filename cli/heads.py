"""The heads that this workspace has seen, and what a ledger offered later must satisfy; nothing is fetched here.

A head is kept under the address that the user named. It turns a rollback, a fork or a replaced ledger from invisible
into loud.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cli.errors import ForkedError, RefusedError, ReplacedError, RolledBackError

_FORMAT: Final = 1
_FIELDS: Final = frozenset({"origin", "ledger_key", "size", "root", "checkpoint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is remembered of a ledger.

    Attributes:
        origin: the ledger's name in notes.
        ledger_key: Ed25519 public key of the ledger.
        size: number of entries.
        root: Merkle root over them.
        checkpoint: the finished checkpoint as received; the proof to show in case of a dispute.
    """

    origin: str
    ledger_key: bytes
    size: int
    root: bytes
    checkpoint: bytes

    def __str__(self) -> str:
        return f"{self.size} entries, root {self.root.hex()}, ledger {self.origin}"


Heads = Mapping[str, Head]


def check_extends(remembered: Head | None, offered: Head, root_at: Callable[[int], bytes], *, address: str) -> None:
    """Demand that *offered* continues *remembered*.

    Args:
        remembered: the head seen before at this address, if any.
        offered: the head that the ledger has now.
        root_at: gives the root that the offered ledger had at an earlier size, from its own verified entries.
        address: what the user named, for the message.

    Raises:
        ReplacedError: another ledger.
        RolledBackError: fewer entries than before.
        ForkedError: another history of the same ledger.
    """
    if remembered is None:
        return
    both = (f"remembered: {remembered}", f"offered:    {offered}")
    if (remembered.origin, remembered.ledger_key) != (offered.origin, offered.ledger_key):
        raise ReplacedError(
            f"another ledger answers at {address}: the one this workspace knows was replaced. "
            "If you know why (a new deployment), accept it with --new-ledger; otherwise do not trust this Coordinator",
            details=both,
        )
    if offered.size < remembered.size:
        raise RolledBackError(
            f"the ledger at {address} was rolled back: it lacks {remembered.size - offered.size} entries "
            "that were there before. The host may have restored an old copy; restore the newest one",
            details=both,
        )
    seen = root_at(remembered.size)
    if seen != remembered.root:
        raise ForkedError(
            f"the ledger at {address} is forked: its first {remembered.size} entries are not the ones seen before. "
            "Keep both checkpoints, they prove it; do not trust this Coordinator",
            details=(*both, f"offered root at {remembered.size}: {seen.hex()}"),
        )


def parse_heads(raw: bytes | None, *, name: str = "heads.json") -> dict[str, Head]:
    """Return the heads of the file *raw*, none where there is no file.

    Raises:
        RefusedError: the file is not what `render_heads` writes. It is not ignored: that would forget what was seen.
    """
    if raw is None:
        return {}
    try:
        document = json.loads(raw)
        _check_format(document["format"])
        return {address: _parse_head(item) for address, item in document["heads"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedError(
            f"{name} is damaged ({error}); restore it, or remove it if you accept to forget which ledgers were seen"
        ) from error


def render_heads(heads: Heads) -> bytes:
    """Return the bytes of the file that holds *heads*, in a stable order."""
    document = {
        "format": _FORMAT,
        "heads": {
            address: {
                "origin": head.origin,
                "ledger_key": head.ledger_key.hex(),
                "size": head.size,
                "root": head.root.hex(),
                "checkpoint": head.checkpoint.decode(),
            }
            for address, head in sorted(heads.items())
        },
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _check_format(value: object) -> None:
    if value != _FORMAT:
        raise ValueError(f"format {value!r}")


def _parse_head(item: dict[str, object]) -> Head:
    if set(item) != _FIELDS:
        raise ValueError(f"fields {sorted(item)}")
    origin, key, size, root, checkpoint = (
        item[name] for name in ("origin", "ledger_key", "size", "root", "checkpoint")
    )
    if not (isinstance(origin, str) and isinstance(key, str) and isinstance(root, str) and isinstance(checkpoint, str)):
        raise TypeError("a field is no text")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"size {size!r}")
    head = Head(
        origin=origin,
        ledger_key=bytes.fromhex(key),
        size=size,
        root=bytes.fromhex(root),
        checkpoint=checkpoint.encode(),
    )
    if len(head.ledger_key) != 32 or len(head.root) != 32:
        raise ValueError("a hash or key of another length than 32 bytes")
    return head
