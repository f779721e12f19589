"""A verdict: every check, what was seen, what was wanted (docs/formats.md, section 7). It decides nothing itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import msgspec

from attestation.evidence import Kind
from attestation.snp.products import Tcb

RULES_VERSION: Final = 1
CHECK_COUNT: Final = 27

CHECK_NAMES: Final[tuple[str, ...]] = (
    "length",
    "version",
    "signature-algorithm",
    "must-be-zero",
    "product",
    "trust-anchor",
    "chain",
    "leaf-kind",
    "leaf-encoding",
    "revocation",
    "signature",
    "certificate-tcb",
    "chip-identity",
    "tcb-order",
    "minimum-tcb",
    "distrust",
    "mitigations",
    "guest-policy",
    "platform-info",
    "vmpl",
    "measurement",
    "id-block",
    "guest-svn",
    "host-data",
    "report-data",
    "chip-allow-list",
    "completeness",
)

Text = str | Callable[[], str]


class Outcome(IntEnum):
    """How a check ended; the number is its byte in the ledger."""

    NOT_APPLICABLE = 0
    PASSED = 1
    FAILED = 2


_OUTCOME_WORDS: Mapping[Outcome, str] = {
    Outcome.NOT_APPLICABLE: "not_applicable",
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
}


class Check:
    """One numbered check. What was seen and wanted may be given as functions, called only when somebody reads them.

    A verdict has 27 of these and the hot path reads none of their texts, so texts cost nothing until they are read.
    """

    __slots__ = ("_seen", "_wanted", "name", "number", "outcome")

    def __init__(self, number: int, name: str, outcome: Outcome, seen: Text = "", wanted: Text = "") -> None:
        self.number = number
        self.name = name
        self.outcome = outcome
        self._seen = seen
        self._wanted = wanted

    @property
    def seen(self) -> str:
        """What the evidence says, in a few words."""
        return self._seen if isinstance(self._seen, str) else self._seen()

    @property
    def wanted(self) -> str:
        """What would have passed, in a few words."""
        return self._wanted if isinstance(self._wanted, str) else self._wanted()

    def as_dict(self) -> dict[str, object]:
        """The check as it stands in the verdict's JSON."""
        return {
            "number": self.number,
            "name": self.name,
            "outcome": _OUTCOME_WORDS[self.outcome],
            "seen": self.seen,
            "wanted": self.wanted,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Check) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.number, self.outcome))

    def __repr__(self) -> str:
        return f"Check({self.number} {self.name} {self.outcome.name}: seen {self.seen!r}, wanted {self.wanted!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What verified evidence says of a guest, fit for a certificate: nothing in it tells one machine from another."""

    kind: Kind
    product: str
    report_version: int
    endorsement: str
    provider: str | None
    measurement: bytes
    host_data: bytes
    guest_policy: int
    guest_svn: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    platform_info: int
    reported_tcb: Tcb
    current_tcb: Tcb
    committed_tcb: Tcb
    launch_tcb: Tcb
    current_firmware: str
    committed_firmware: str
    id_key_digest: bytes
    author_key_digest: bytes
    launch_mitigations: int
    current_mitigations: int

    def of_azure(self, policy: bytes) -> "Claims":
        """The claims of a guest whose paravisor these are: its policy stands in the virtual TPM, not in HOSTDATA."""
        return replace(self, kind=Kind.AZURE, host_data=policy)

    def as_dict(self) -> dict[str, object]:
        """The claims as JSON values, bytes in hex, 64-bit fields as text; keys sorted."""
        return {
            "author_key_digest": self.author_key_digest.hex(),
            "committed_firmware": self.committed_firmware,
            "committed_tcb": _tcb(self.committed_tcb),
            "current_firmware": self.current_firmware,
            "current_mitigations": f"{self.current_mitigations:#x}",
            "current_tcb": _tcb(self.current_tcb),
            "endorsement": self.endorsement,
            "family_id": self.family_id.hex(),
            "guest_policy": f"{self.guest_policy:#x}",
            "guest_svn": self.guest_svn,
            "host_data": self.host_data.hex(),
            "id_key_digest": self.id_key_digest.hex(),
            "image_id": self.image_id.hex(),
            "kind": self.kind.value,
            "launch_mitigations": f"{self.launch_mitigations:#x}",
            "launch_tcb": _tcb(self.launch_tcb),
            "measurement": self.measurement.hex(),
            "platform_info": f"{self.platform_info:#x}",
            "product": self.product,
            "provider": self.provider,
            "report_version": self.report_version,
            "reported_tcb": _tcb(self.reported_tcb),
            "vmpl": self.vmpl,
        }

    def json(self) -> bytes:
        """The claims for a certificate extension: JSON, keys sorted, no spaces (docs/formats.md, section 11)."""
        return _dump(self.as_dict())


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxClaims:
    """What a verified quote says of a guest, fit for a certificate: nothing in it tells one machine from another."""

    kind: Kind
    quote_version: int
    tcb_status: str
    advisories: tuple[str, ...]
    evaluation_number: int
    memory: str
    host_data: bytes
    mr_td: bytes
    mr_seam: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    xfam: bytes
    td_attributes: int
    tee_tcb_svn: bytes

    @property
    def product(self) -> str:
        """What kind of processor it is, for lists that name one."""
        return "TDX"

    def as_dict(self) -> dict[str, object]:
        """The claims as JSON values, bytes in hex, 64-bit fields as text; keys sorted."""
        return {
            "advisories": list(self.advisories),
            "evaluation_number": self.evaluation_number,
            "host_data": self.host_data.hex(),
            "kind": self.kind.value,
            "memory": self.memory,
            "mr_seam": self.mr_seam.hex(),
            "mr_td": self.mr_td.hex(),
            "product": self.product,
            "quote_version": self.quote_version,
            "rtmrs": [rtmr.hex() for rtmr in self.rtmrs],
            "tcb_status": self.tcb_status,
            "td_attributes": f"{self.td_attributes:#x}",
            "tee_tcb_svn": self.tee_tcb_svn.hex(),
            "xfam": self.xfam.hex(),
        }

    def json(self) -> bytes:
        """The claims for a certificate extension: JSON, keys sorted, no spaces (docs/formats.md, section 11)."""
        return _dump(self.as_dict())


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What was decided about one piece of evidence, and by which rules. Equal verdicts say the same, word for word.

    Attributes:
        kind: of the evidence.
        rules: version of the rules that were applied.
        accepted: no check failed, and every check that must pass did.
        outcomes: one byte per check, in order of the numbers, as the ledger stores them.
        texts: what was seen and wanted, per check.
        claims: what the evidence says; None unless accepted, since what is not verified claims nothing.
        entry_index: index of the reference values that the checks are for; None when none fits the kind.
    """

    kind: Kind
    rules: int
    accepted: bool
    outcomes: bytes
    texts: tuple[tuple[Text, Text], ...]
    claims: Claims | TdxClaims | None
    entry_index: int | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and self.entry_index == other.entry_index and self.json() == other.json()

    def __hash__(self) -> int:
        return hash((self.kind, self.outcomes, self.entry_index))

    @property
    def checks(self) -> tuple[Check, ...]:
        """All 27, in order of their numbers; made when they are read, since the hot path reads none."""
        return tuple(
            Check(number, name, Outcome(outcome), seen, wanted)
            for number, (name, outcome, (seen, wanted)) in enumerate(
                zip(CHECK_NAMES, self.outcomes, self.texts, strict=True), start=1
            )
        )

    @property
    def first_failure(self) -> Check | None:
        """The failed check with the lowest number, or None."""
        return next((check for check in self.checks if check.outcome is Outcome.FAILED), None)

    @property
    def failures(self) -> tuple[Check, ...]:
        """All failed checks, in order of their numbers."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    @property
    def not_checked(self) -> tuple[Check, ...]:
        """What nobody asked for or what does not apply: never silently "anything goes"."""
        return tuple(check for check in self.checks if check.outcome is Outcome.NOT_APPLICABLE)

    def json(self) -> bytes:
        """The verdict as the ledger stores it: the same evidence, rules and inputs give the same bytes."""
        return _dump(
            {
                "kind": self.kind.value,
                "rules": self.rules,
                "accepted": self.accepted,
                "checks": [check.as_dict() for check in self.checks],
                "claims": None if self.claims is None else self.claims.as_dict(),
            }
        )


_dump = msgspec.json.Encoder().encode


def _tcb(tcb: Tcb) -> dict[str, int]:
    parts = {"bootloader": tcb.bootloader, "microcode": tcb.microcode, "snp": tcb.snp, "tee": tcb.tee}
    return parts if tcb.fmc is None else {"bootloader": tcb.bootloader, "fmc": tcb.fmc, **parts}
