"""Reference values in JSON, alone in a file or inside a manifest, read and written; nothing is judged by them here.

Names and meanings are those of the manifest (DESIGN section 6); `snp` trusts AMD's pinned roots, `simulated` one root
that somebody made up and that is named by hash, `tdx` trusts Intel's, `azure`
AMD's and what it vouches for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attestation.errors import ReferenceValueError
from attestation.reference import (
    MAX_GRACE_DAYS,
    TDX_STATUSES,
    AzureReferenceValues,
    GuestPolicy,
    Pcr,
    PlatformInfo,
    ReferenceValues,
    SnpReferenceValues,
    TdxReferenceValues,
)
from attestation.snp.products import PRODUCTS, Tcb
from manifest.errors import ManifestError, Problem
from manifest.fields import Boolean, Column, Faults, Hex, HexNumber, Integer, Listed, Table, Text
from manifest.jsontext import JsonSyntaxError, Node, read_json

MAX_FILE = 1 << 20
MAX_ENTRIES = 64
MAX_CHIPS = 4096

_BYTE = Integer(0, 255)
_FLAG = Boolean()
_CHIP_ID = Hex(64, short=8)  # Turin's, as AMD's service and its tools write them; reports have zeros behind them.

_TCB: Table[Tcb] = Table(
    Tcb,
    (
        Column("BootloaderVersion", "bootloader", _BYTE, required=True),
        Column("TEEVersion", "tee", _BYTE, required=True),
        Column("SNPVersion", "snp", _BYTE, required=True),
        Column("MicrocodeVersion", "microcode", _BYTE, required=True),
        Column("FMCVersion", "fmc", _BYTE),
    ),
)
_GUEST_POLICY: Table[GuestPolicy] = Table(
    GuestPolicy,
    (
        Column("ABIMajor", "abi_major", _BYTE, shown=True),
        Column("ABIMinor", "abi_minor", _BYTE, shown=True),
        Column("SMT", "smt", _FLAG, shown=True),
        Column("MigrateMA", "migrate_ma", _FLAG, shown=True),
        Column("Debug", "debug", _FLAG, shown=True),
        Column("SingleSocket", "single_socket", _FLAG, shown=True),
        Column("CXLAllowed", "cxl_allowed", _FLAG, shown=True),
        Column("MemAES256XTS", "mem_aes_256_xts", _FLAG, shown=True),
        Column("RAPLDis", "rapl_dis", _FLAG, shown=True),
        Column("CipherTextHidingDRAM", "ciphertext_hiding_dram", _FLAG, shown=True),
        Column("PageSwapDisable", "page_swap_disable", _FLAG, shown=True),
    ),
    refusals=(ReferenceValueError,),
)
_PLATFORM_INFO: Table[PlatformInfo] = Table(
    PlatformInfo,
    (
        Column("SMTEnabled", "smt_enabled", _FLAG),
        Column("TSMEEnabled", "tsme_enabled", _FLAG),
        Column("ECCEnabled", "ecc_enabled", _FLAG),
        Column("RAPLDisabled", "rapl_disabled", _FLAG),
        Column("CiphertextHidingDRAMEnabled", "ciphertext_hiding_dram_enabled", _FLAG),
        Column("AliasCheckComplete", "alias_check_complete", _FLAG),
        Column("IOMMUWriteSafe", "iommu_write_safe", _FLAG),
        Column("TIOEnabled", "tio_enabled", _FLAG),
    ),
)
_SNP_COLUMNS = (
    Column("Platform", "platform", Text(), required=True),
    Column("ProductName", "product_name", Text(choices=tuple(PRODUCTS)), required=True),
    Column("TrustedMeasurement", "trusted_measurement", Hex(48), required=True),
    Column("APEIP", "ap_eip", HexNumber(4)),
    Column("CPUSignature", "cpu_signature", HexNumber(4)),
    Column("MinimumTCB", "minimum_tcb", _TCB, required=True),
    Column("MinimumLaunchTCB", "minimum_launch_tcb", _TCB),
    Column("MaximumTCB", "maximum_tcb", _TCB),
    Column("GuestPolicy", "guest_policy", _GUEST_POLICY, shown=True),
    Column("PlatformInfo", "platform_info", _PLATFORM_INFO, shown=True),
    Column("MinimumMitigationVector", "minimum_mitigation_vector", Integer(0, (1 << 64) - 1)),
    Column("VMPL", "vmpl", Integer(0, 3)),
    Column("MinimumGuestSVN", "minimum_guest_svn", Integer(0, (1 << 32) - 1)),
    Column("FamilyID", "family_id", Hex(16)),
    Column("ImageID", "image_id", Hex(16)),
    Column("RequireIDBlock", "require_id_block", _FLAG),
    Column("IDKeyDigests", "id_key_digests", Listed(Hex(48), 16)),
    Column("AuthorKeyDigests", "author_key_digests", Listed(Hex(48), 16)),
    Column("AllowedChipIDs", "allowed_chip_ids", Listed(_CHIP_ID, MAX_CHIPS)),
    Column("DeniedChipIDs", "denied_chip_ids", Listed(_CHIP_ID, MAX_CHIPS)),
    Column("AllowedProviders", "allowed_providers", Listed(Text(128), 64)),
    Column("AllowMaskedChipID", "allow_masked_chip_id", _FLAG),
    Column("AllowProvisionalFirmware", "allow_provisional_firmware", _FLAG),
    Column("Distrusted", "distrusted", _FLAG),
    Column("CRL", "crl", Text(choices=("required", "warn"))),
)
_ANCHOR_COLUMNS = (
    Column("TrustAnchor", "trust_anchor", Hex(32), required=True),
    Column("TrustAnchorSPKI", "trust_anchor_spki", Hex(32)),
)
_HINTS = {
    "CPUs": "it has no effect on what is accepted; remove it",
    "TrustAnchor": "only an entry of ReferenceValues.simulated names its own anchor",
    "TrustAnchorSPKI": "only an entry of ReferenceValues.simulated names its own anchor",
}
_SNP: Table[SnpReferenceValues] = Table(SnpReferenceValues, _SNP_COLUMNS, (ReferenceValueError,), _HINTS)
_SIMULATED: Table[SnpReferenceValues] = Table(
    SnpReferenceValues, _SNP_COLUMNS + _ANCHOR_COLUMNS, (ReferenceValueError,), _HINTS
)
_TDX: Table[TdxReferenceValues] = Table(
    TdxReferenceValues,
    (
        Column("Platform", "platform", Text(), required=True),
        Column("MrTd", "mr_td", Hex(48), required=True),
        Column("MrSeam", "mr_seam", Hex(48), required=True),
        Column("Rtmrs", "rtmrs", Listed(Hex(48), longest=4, shortest=4, unique=False), required=True),
        Column("Xfam", "xfam", Hex(8), required=True),
        Column("MinTCBEvaluationDataNumber", "minimum_tcb_evaluation_data_number", Integer(0, (1 << 32) - 1)),
        Column("AllowedTCBStatuses", "allowed_tcb_statuses", Listed(Text(choices=TDX_STATUSES), 16, shortest=1)),
        Column("TCBGracePeriodDays", "grace_period_days", Integer(0, MAX_GRACE_DAYS)),
        Column("RejectedAdvisories", "rejected_advisories", Listed(Text(), 256)),
        Column("AllowPerfmon", "allow_perfmon", _FLAG),
        Column("AllowedPIIDs", "allowed_piids", Listed(Hex(16), MAX_CHIPS)),
        Column("DeniedPIIDs", "denied_piids", Listed(Hex(16), MAX_CHIPS)),
        Column("MemoryIntegrity", "memory_integrity", _FLAG, shown=True),
        Column("SMTDisabled", "smt_disabled", _FLAG, shown=True),
        Column("StaticPlatform", "static_platform", _FLAG, shown=True),
        Column("Distrusted", "distrusted", _FLAG),
    ),
    (ReferenceValueError,),
    _HINTS,
)


_PCR: Table[Pcr] = Table(
    Pcr,
    (
        Column("Index", "index", Integer(0, 23), required=True),
        Column("SHA256", "value", Hex(32), required=True),
    ),
)
_AZURE: Table[AzureReferenceValues] = Table(
    AzureReferenceValues,
    (
        Column("SNP", "snp", _SNP, required=True),
        Column("PCRs", "pcrs", Listed(_PCR, 24, shortest=1), required=True),
    ),
    (ReferenceValueError,),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSet:
    """Reference values by kind."""

    snp: tuple[SnpReferenceValues, ...] = ()
    tdx: tuple[TdxReferenceValues, ...] = ()
    azure: tuple[AzureReferenceValues, ...] = ()
    simulated: tuple[SnpReferenceValues, ...] = ()

    @property
    def all(self) -> tuple[ReferenceValues, ...]:
        """Every entry; a peer passes if any of them matches."""
        return self.snp + self.tdx + self.azure + self.simulated

    @classmethod
    def of(cls, entries: Sequence[ReferenceValues]) -> "ReferenceSet":
        """The set of *entries*, each under its kind."""
        snp = [entry for entry in entries if isinstance(entry, SnpReferenceValues)]
        return cls(
            snp=tuple(entry for entry in snp if not entry.is_simulated),
            tdx=tuple(entry for entry in entries if isinstance(entry, TdxReferenceValues)),
            azure=tuple(entry for entry in entries if isinstance(entry, AzureReferenceValues)),
            simulated=tuple(entry for entry in snp if entry.is_simulated),
        )


REFERENCE_SET: Table[ReferenceSet] = Table(
    ReferenceSet,
    (
        Column("snp", "snp", Listed(_SNP, MAX_ENTRIES)),
        Column("tdx", "tdx", Listed(_TDX, MAX_ENTRIES)),
        Column("azure", "azure", Listed(_AZURE, MAX_ENTRIES)),
        Column("simulated", "simulated", Listed(_SIMULATED, MAX_ENTRIES)),
    ),
)


def read_reference_set(node: Node, path: str, faults: Faults) -> ReferenceSet | None:
    """The reference values in *node*: at least one, and no simulated beside real ones; None after reporting why not."""
    before = len(faults.problems)
    found = REFERENCE_SET.read(node, path, faults)
    if not isinstance(found, ReferenceSet):
        return None
    if not found.all:
        faults.add(
            path,
            "names no reference values: at least one entry under snp, tdx, azure or simulated is needed",
            node.line,
        )
    if found.simulated and (found.snp or found.tdx or found.azure):
        faults.add(path, "mixes simulated with real reference values: a simulated processor keeps no secret", node.line)
    if len({entry.trust_anchor for entry in found.simulated}) > 1:
        faults.add(path, "names two simulated trust anchors, at most one is allowed", node.line)
    return found if len(faults.problems) == before else None


def parse_reference_values(raw: bytes, *, name: str = "reference-values.json") -> tuple[ReferenceValues, ...]:
    """The entries of a `--reference-values` file, `{"snp": [...], "tdx": [...], "simulated": [...]}`.

    Raises:
        ManifestError: with every fault of the file.
    """
    faults = Faults()
    found = read_reference_set(read_root(raw, faults, limit=MAX_FILE, name=name), "", faults)
    if faults.problems or found is None:
        raise ManifestError(tuple(faults.problems), name=name)
    return found.all


def render_reference_values(entries: Sequence[ReferenceValues]) -> object:
    """What `json.dumps` takes for *entries*, each under its kind; kinds without an entry are left out."""
    return REFERENCE_SET.write(ReferenceSet.of(entries))


def read_root(raw: bytes, faults: Faults, *, limit: int, name: str) -> Node:
    """The document's root; duplicate keys go to *faults*.

    Raises:
        ManifestError: it is too long or no JSON, so nothing more can be said of it.
    """
    if len(raw) > limit:
        raise ManifestError((Problem("", f"has {len(raw)} bytes, at most {limit} are read", None),), name=name)
    try:
        root, duplicates = read_json(raw)
    except JsonSyntaxError as error:
        raise ManifestError((error.problem,), name=name) from None
    for problem in duplicates:
        faults.add(problem.path, problem.message, problem.line)
    return root
