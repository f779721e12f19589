"""What an audit found: findings, counts, and the history as it was proven. Plain data, no judging and no printing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from attestation.evidence import Kind
from coordinator.state import State
from ledger.checkpoint import Checkpoint
from ledger.cosigned import Cosigned
from manifest.model import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One contradiction, or one decision that could not be proven.

    Attributes:
        seq: The entry it is about; None when it is about the whole ledger.
        code: Stable name: a rule, ``unproven``, ``unknown_coordinator``, ``ledger_damaged``, …
        text: What was seen, what was wanted.
        proven_wrong: False for what is merely unproven because an input is missing.
        about: The type of that entry, empty where there is none.
        now: Only what is known now speaks against it; as decided then it was right.
    """

    seq: int | None
    code: str
    text: str
    proven_wrong: bool = True
    about: str = ""
    now: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """A manifest of the history with its bytes, as set at *seq*, and how much was recorded under it."""

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
class MovedSecret:
    """A secret id that a manifest gave to other policies than the one before: who held it can still know it."""

    secret_id: str
    generation: int
    seq: int
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryEntry:
    """A recovery: when, at which entry, and whose seed share it took (SHA-256 of the owner's PKCS#1 key)."""

    seq: int
    time_ms: int
    share_owner: bytes
    size: int


@dataclass(slots=True, kw_only=True)
class PolicyActivity:
    """What the pods of one policy were given."""

    attestations: int = 0
    certificates: int = 0
    secrets: int = 0
    first_ms: int = 0
    last_ms: int = 0
    sans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was read of a ledger before it ended, or before the first entry that cannot be right."""

    state: State
    manifests: tuple[ManifestEntry, ...] = ()
    recoveries: tuple[RecoveryEntry, ...] = ()
    moved_secrets: tuple[MovedSecret, ...] = ()
    activity: Mapping[bytes, PolicyActivity] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    times: Mapping[int, int] = field(default_factory=dict)
    """Start of an interval in Unix milliseconds -> attestations in it; the intervals are as fine as there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of replaying a ledger: all of it, or (not *full*) its control chain."""

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
    full: bool = True

    @property
    def ok(self) -> bool:
        """Nothing is wrong and nothing is unproven."""
        return not self.findings

    @property
    def problems(self) -> tuple[Finding, ...]:
        """As :attr:`findings`; the first is the first in the ledger's order."""
        return self.findings


@dataclass(slots=True, kw_only=True)
class Tally:
    """How many events of one type were read, and how many of them are wrong, unproven, or would be refused now."""

    seen: int = 0
    wrong: int = 0
    unproven: int = 0
    refused_now: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A whole ledger, audited as far as it makes sense.

    Attributes:
        history: What was read; complete where *report* is there.
        report: None where the ledger broke off: *broken* says where and why.
        broken: The contradiction after which nothing can be judged.
        findings: All contradictions and everything unproven, *broken* included, in the ledger's order.
        more: How many further findings are only counted.
        tallies: Per type of event what came of it, in the order of the ledger's life.
        cosigned: What witnesses say; None where nobody asked, or where the ledger broke off.
    """

    history: History
    report: Report | None
    broken: Finding | None
    findings: tuple[Finding, ...]
    more: int
    tallies: Mapping[str, "Tally"]
    cosigned: Cosigned | None = None

    @property
    def contradictions(self) -> tuple[Finding, ...]:
        """What was wrong then."""
        return tuple(finding for finding in self.findings if finding.proven_wrong and not finding.now)

    @property
    def unproven(self) -> tuple[Finding, ...]:
        """What could not be judged because something is missing."""
        return tuple(finding for finding in self.findings if not finding.proven_wrong)

    @property
    def simulated(self) -> bool:
        """A Coordinator of this ledger ran on a simulated platform: all of it can be in order and prove nothing."""
        return any(epoch.event.evidence[0] == Kind.SIMULATED for epoch in self.history.state.epochs)

    @property
    def refused_now(self) -> tuple[Finding, ...]:
        """What was right then and would be refused today."""
        return tuple(finding for finding in self.findings if finding.now)
