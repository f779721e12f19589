"""What the node says about a pod, as one line for people or one JSON object for programs; prints nothing itself."""

import json
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a pod is in its life."""

    PENDING = "pending"
    INITIALIZING = "initializing"
    RUNNING = "running"
    READY = "ready"
    DENIED = "denied"  # by its own policy
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self in {Phase.READY, Phase.DENIED, Phase.FAILED, Phase.STOPPED}

    @property
    def lost(self) -> bool:
        """Whether the pod did not come to run."""
        return self in {Phase.DENIED, Phase.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One change: which pod (or Service), where it is now, and why, for a person."""

    subject: str
    phase: Phase
    detail: str = ""
    address: str = ""

    def line(self) -> str:
        """One line for a terminal; the caller escapes control characters."""
        return f"{self.subject:<24} {self.phase:<12} {self.address:<15} {self.detail}".rstrip()

    def json(self) -> str:
        """One line of JSON, without spaces: `grep` and `awk` may rely on it."""
        return json.dumps(
            {"subject": self.subject, "phase": self.phase.value, "detail": self.detail, "address": self.address},
            separators=(",", ":"),
            ensure_ascii=False,
        )


def parse_status(line: str) -> Status:
    """Read what `Status.json` wrote.

    Raises:
        ValueError: it is something else.
    """
    value = json.loads(line)
    if not isinstance(value, dict) or not all(isinstance(value.get(key, ""), str) for key in Status.__slots__):
        raise ValueError("no status line")
    return Status(
        subject=value.get("subject", ""),
        phase=Phase(value.get("phase", "")),
        detail=value.get("detail", ""),
        address=value.get("address", ""),
    )
