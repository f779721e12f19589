"""What an audit found: findings, counts, and the history as it was proven. Plain data, no judging and no printing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.state import State
from ledger.checkpoint import Checkpoint
from manifest.model import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One contradiction, or one decision that could not be proven.

    Attributes:
        seq: The entry it is about; None when it is about the whole ledger.
        code: Stable name: a rule, ``unproven``, ``unknown_coordinator``, ``ledger_damaged``, …
        text: What was seen, what was wanted.
        proven_wrong: False for what is merely unproven because an input is missing.
    """

    seq: int | None
    code: str
    text: str
    proven_wrong: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """A manifest of the history with its bytes, as set at *seq*."""

    generation: int
    seq: int
    time_ms: int
    transition: bytes
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEntry:
    """A Coordinator instance of the history, and who accepts it.

    Attributes:
        key: Its Ed25519 public key.
        policy: HOSTDATA of its evidence.
        opened: Seq of ``epoch.opened``.
        closed: Seq of the entry that closed it; None while it is open.
        product: What processor its evidence is from.
        accepted_here: None where no reference values of the verifier were given; else whether they accept it.
        reason: Why not, in one line.
    """

    key: bytes
    policy: bytes
    opened: int
    closed: int | None
    time_ms: int
    product: str
    accepted_here: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of replaying a ledger."""

    checkpoint: Checkpoint
    checkpoint_raw: bytes
    state: State
    manifests: tuple[ManifestEntry, ...]
    epochs: tuple[EpochEntry, ...]
    coordinator_policies: tuple[bytes, ...]
    root_ca: bytes
    mesh_ca: bytes
    intermediate: bytes
    counts: Mapping[str, int]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Nothing is wrong and nothing is unproven."""
        return not self.findings

    @property
    def problems(self) -> tuple[Finding, ...]:
        """As :attr:`findings`; the first is the first in the ledger's order."""
        return self.findings
