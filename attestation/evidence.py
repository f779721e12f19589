"""Evidence as it travels and is stored: a kind and named parts. Whether any of it is true is not known here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from attestation.errors import EvidenceError

REPORT_SIZE = 1184
TDX_BODY = 48
TDX_BODY_V5 = 54  # Version 5 puts body type (u16) and body size (u32) before the body.
TDX_REPORT_DATA = 520  # In every body.


class Kind(StrEnum):
    """What made the evidence. A simulated processor never passes for a real one: its kind differs, not only its key."""

    SNP = "snp"
    TDX = "tdx"
    AZURE = "azure-snp"
    SIMULATED = "simulated"


# Role -> largest size in bytes. A report may be longer than a report is: check 1 refuses it and says so.
_SNP_ROLES: Mapping[str, int] = {"report": 4096, "vek": 4096, "intermediate": 4096, "root": 4096, "crl": 65_536}
_ROLES: Mapping[Kind, Mapping[str, int]] = {
    Kind.SNP: _SNP_ROLES,
    Kind.SIMULATED: _SNP_ROLES,
    Kind.TDX: {"quote": 32_768, "collateral": 262_144},
    Kind.AZURE: {
        **{role: size for role, size in _SNP_ROLES.items() if role != "report"},
        "hcl": 16_384,
        "quote": 1024,
        "signature": 1024,
        "pcrs": 2048,
        "policy": 32,
        "bound": 64,
    },
}
_FIRST: Mapping[Kind, str] = {Kind.SNP: "report", Kind.SIMULATED: "report", Kind.TDX: "quote", Kind.AZURE: "hcl"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """Parts of one attestation, by role in ascending byte order, each role once.

    Attributes:
        kind: what made it.
        parts: (role, bytes): for ``snp`` and ``simulated`` report, vek (VCEK or VLEK), intermediate (ASK or ASVK),
            root (ARK) and crl, certificates in DER; for ``tdx`` quote and collateral; for ``azure-snp`` hcl (the
            paravisor's blob with the report), the virtual TPM's quote, its signature and pcrs, policy and bound (what
            PCR 8 and the quote are about, 32 and 64 bytes), and the certificates. The certificates are hints: what they
            are worth is decided by the reference values' trust anchor.

    Raises:
        EvidenceError: an unknown role, a wrong order, a doubled, missing, empty or oversized part.
    """

    kind: Kind
    parts: tuple[tuple[str, bytes], ...]

    def __post_init__(self) -> None:
        roles = _ROLES[self.kind]
        before = ""
        for role, data in self.parts:
            if role not in roles:
                raise EvidenceError(f"{self.kind} evidence has no role {role[:40]!r}, only {', '.join(sorted(roles))}")
            if role <= before:
                raise EvidenceError(f"role {role!r} stands after {before!r}; roles ascend, each once")
            if not 0 < len(data) <= roles[role]:
                raise EvidenceError(f"part {role!r} has {len(data)} bytes, wanted 1 to {roles[role]}")
            before = role
        if self.part(_FIRST[self.kind]) is None:
            raise EvidenceError(f"{self.kind} evidence needs a part {_FIRST[self.kind]!r}")

    @classmethod
    def make(cls, kind: Kind | str, parts: Mapping[str, bytes]) -> "Evidence":
        """Evidence from a mapping of role to bytes.

        Raises:
            EvidenceError: see the class; also for a kind that does not exist.
        """
        return cls(parse_kind(kind), tuple(sorted(parts.items())))

    def part(self, role: str) -> bytes | None:
        """The bytes of *role*, or None where that part was not given."""
        for name, data in self.parts:
            if name == role:
                return data
        return None

    def references(self) -> tuple[str, tuple[tuple[str, bytes], ...]]:
        """What a ledger entry says of it: kind and (role, SHA-256); the parts themselves become blobs."""
        return self.kind.value, tuple((role, hashlib.sha256(data).digest()) for role, data in self.parts)


def parse_kind(text: str) -> Kind:
    """The kind that *text* names.

    Raises:
        EvidenceError: there is no such kind.
    """
    try:
        return Kind(text)
    except ValueError:
        raise EvidenceError(f"evidence of kind {text[:40]!r}, wanted one of {', '.join(Kind)}") from None


def binding_of(evidence: Evidence) -> bytes:
    """The 64 bytes of REPORT_DATA that the evidence carries, read and not verified.

    Raises:
        EvidenceError: the report or quote is too short to have any.
    """
    if evidence.kind is Kind.TDX:
        return _tdx_body(evidence, TDX_REPORT_DATA, 64)
    if evidence.kind is Kind.AZURE:
        return _sized(evidence, "bound", 64)
    return _report(evidence)[0x50:0x90]


def host_data_of(evidence: Evidence) -> bytes:
    """The 32 bytes of HOSTDATA (for TDX the first 32 of MRCONFIGID), read and not verified.

    Raises:
        EvidenceError: the report or quote is too short to have any.
    """
    if evidence.kind is Kind.TDX:
        return _tdx_body(evidence, 184, 32)
    if evidence.kind is Kind.AZURE:
        return _sized(evidence, "policy", 32)
    return _report(evidence)[0xC0:0xE0]


def _sized(evidence: Evidence, role: str, size: int) -> bytes:
    part = evidence.part(role) or b""
    if len(part) != size:
        raise EvidenceError(f"the part {role!r} has {len(part)} bytes, wanted {size}")
    return part


def _report(evidence: Evidence) -> bytes:
    report = evidence.part("report") or b""
    if len(report) != REPORT_SIZE:
        raise EvidenceError(f"the report has {len(report)} bytes, wanted {REPORT_SIZE}")
    return report


def _tdx_body(evidence: Evidence, offset: int, size: int) -> bytes:
    quote = evidence.part("quote") or b""
    version = int.from_bytes(quote[:2], "little")
    if version not in (4, 5):
        raise EvidenceError(f"the quote has version {version}, wanted 4 or 5")
    start = (TDX_BODY_V5 if version == 5 else TDX_BODY) + offset
    if len(quote) < start + size:
        raise EvidenceError(f"the quote has {len(quote)} bytes, wanted at least {start + size}")
    return quote[start : start + size]
