"""What an owner accepts, in frozen shapes. Where the values come from and how to judge by them is elsewhere."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal

from attestation.errors import ReferenceValueError
from attestation.snp.launch import EPYC_V4, measurements_of_seed
from attestation.snp.products import PRODUCTS, Product, Tcb

CrlMode = Literal["required", "warn"]

UP_TO_DATE = "UpToDate"
TDX_STATUSES = (
    UP_TO_DATE,
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)
"""What an entry may accept of Intel's names for TCB levels: all but Revoked."""
MAX_GRACE_DAYS = 3650
MEASUREMENT_SIZE = 48
CHIP_ID_SIZE = 64
DIGEST_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPolicy:
    """What the launch policy of a guest may allow and must demand (SNP ABI, table 9).

    The policy is no part of the measurement: without this check the host could launch the right image for debugging.

    Attributes:
        abi_major, abi_minor: the policy must demand at least this firmware ABI.
        smt, cxl_allowed: whether the policy may allow it.
        migrate_ma, debug: named because manifests name them; True is refused.
        single_socket, mem_aes_256_xts, rapl_dis, ciphertext_hiding_dram, page_swap_disable: whether the policy must
            demand it.
    """

    abi_major: int = 0
    abi_minor: int = 0
    smt: bool = True
    migrate_ma: bool = False
    debug: bool = False
    single_socket: bool = False
    cxl_allowed: bool = False
    mem_aes_256_xts: bool = False
    rapl_dis: bool = False
    ciphertext_hiding_dram: bool = False
    page_swap_disable: bool = False

    def __post_init__(self) -> None:
        if self.debug or self.migrate_ma:
            raise ReferenceValueError("Debug and MigrateMA must be false: such a guest keeps no secret")
        if not (0 <= self.abi_major <= 255 and 0 <= self.abi_minor <= 255):
            raise ReferenceValueError(f"ABI {self.abi_major}.{self.abi_minor} is out of range, wanted 0 to 255 each")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformInfo:
    """Bits of the platform's state: each required (True), forbidden (False) or not asked for (None)."""

    smt_enabled: bool | None = None
    tsme_enabled: bool | None = None
    ecc_enabled: bool | None = None
    rapl_disabled: bool | None = None
    ciphertext_hiding_dram_enabled: bool | None = None
    alias_check_complete: bool | None = None
    iommu_write_safe: bool | None = None
    tio_enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReferenceValues:
    """One acceptable SEV-SNP guest on one product.

    Attributes:
        platform: name for people, e.g. ``Metal-QEMU-SNP``.
        product_name: Milan, Genoa, Siena (which is Bergamo too) or Turin.
        trusted_measurement: launch measurement, 48 bytes.
        ap_eip: where further processors of the guest start; then *trusted_measurement* is a seed, the measurement with
            one vCPU, and those of 1 to 220 vCPUs are accepted.
        cpu_signature: CPUID signature that the hypervisor gives those processors; QEMU's EPYC-v4 by default.
        minimum_tcb: for REPORTED_TCB and COMMITTED_TCB, part by part; with ``fmc`` on Turin and only there.
        minimum_launch_tcb: for LAUNCH_TCB; None means *minimum_tcb*, so a missing value does not open anything.
        maximum_tcb: upper bound of sanity; None means a fixed bound well above what AMD has released.
        minimum_mitigation_vector: bits that both MIT vectors must have; nonzero refuses reports before version 5.
        vmpl: privilege level that the report must be for.
        minimum_guest_svn, family_id, image_id: chosen by whoever signs the ID block; not asked for by default.
        require_id_block: the launch must have had an ID block signed by one of *id_key_digests* (48 bytes each),
            and, where *author_key_digests* is not empty, an author key among those.
        allowed_chip_ids: 64 bytes each, as in reports; on Turin 8 will do, to which the zeros that reports have are
            added here. Empty means every chip of the product.
        denied_chip_ids: chips whose keys are known to be extracted.
        allowed_providers: CSP_ID of acceptable VLEKs, e.g. ``CN=cc-us-east-2.amazonaws.com``; empty refuses every VLEK.
        allow_masked_chip_id: accept a VCEK report without chip id.
        allow_provisional_firmware: accept COMMITTED below CURRENT, firmware that can still be rolled back.
        distrusted: refuse everything that fits this entry, and say so: for a product whose keys are known to be lost.
        crl: ``required``: a fresh revocation list must come along; ``warn``: its absence or age shows in the
            verdict only. A list that names the intermediate refuses in both. On real hardware the list comes along
            only where the host's certificate table has it; a simulated vendor always makes one.
        trust_anchor: None for real hardware (AMD's pinned roots); for a simulated vendor SHA-256 of its root in DER.
        trust_anchor_spki: SHA-256 of that root's public key, compared as well where given.

    Raises:
        ReferenceValueError: a value that no report can satisfy, or that would accept what must not be accepted.
    """

    platform: str
    product_name: str
    trusted_measurement: bytes
    minimum_tcb: Tcb
    minimum_launch_tcb: Tcb | None = None
    maximum_tcb: Tcb | None = None
    guest_policy: GuestPolicy = GuestPolicy()
    platform_info: PlatformInfo = PlatformInfo()
    minimum_mitigation_vector: int = 0
    vmpl: int = 0
    minimum_guest_svn: int = 0
    family_id: bytes | None = None
    image_id: bytes | None = None
    require_id_block: bool = False
    id_key_digests: tuple[bytes, ...] = ()
    author_key_digests: tuple[bytes, ...] = ()
    allowed_chip_ids: tuple[bytes, ...] = ()
    denied_chip_ids: tuple[bytes, ...] = ()
    allowed_providers: tuple[str, ...] = ()
    allow_masked_chip_id: bool = False
    allow_provisional_firmware: bool = False
    distrusted: bool = False
    ap_eip: int | None = None
    cpu_signature: int = EPYC_V4
    crl: CrlMode = "required"
    trust_anchor: bytes | None = None
    trust_anchor_spki: bytes | None = None

    def __post_init__(self) -> None:
        if self.product_name not in PRODUCTS:
            raise ReferenceValueError(f"product {self.product_name!r} is unknown, wanted one of {', '.join(PRODUCTS)}")
        for name, tcb in (
            ("minimum_tcb", self.minimum_tcb),
            ("minimum_launch_tcb", self.minimum_launch_tcb),
            ("maximum_tcb", self.maximum_tcb),
        ):
            if tcb is not None:
                self._check_tcb(name, tcb)
        object.__setattr__(self, "allowed_chip_ids", self._as_reported(self.allowed_chip_ids))
        object.__setattr__(self, "denied_chip_ids", self._as_reported(self.denied_chip_ids))
        self._check_sizes()
        if self.require_id_block and not self.id_key_digests:
            raise ReferenceValueError("an ID block is required, but no digest of an acceptable ID key is given")
        if not 0 <= self.vmpl <= 3:
            raise ReferenceValueError(f"VMPL {self.vmpl} does not exist, wanted 0 to 3")
        if not 0 <= self.minimum_mitigation_vector < 2**64 or not 0 <= self.minimum_guest_svn < 2**32:
            raise ReferenceValueError("minimum_mitigation_vector has 64 bits and minimum_guest_svn 32, both unsigned")
        if not 0 <= (self.ap_eip or 0) < 2**32 or not 0 <= self.cpu_signature < 2**32:
            raise ReferenceValueError("ap_eip and cpu_signature have 32 bits, both unsigned")
        if self.crl not in ("required", "warn"):
            raise ReferenceValueError(f"crl is {self.crl!r}, wanted 'required' or 'warn'")

    @property
    def product(self) -> Product:
        """The product line that the entry is for."""
        return PRODUCTS[self.product_name]

    @property
    def measurements(self) -> Container[bytes]:
        """Launch measurements that are acceptable: one, or one for each number of vCPUs."""
        if self.ap_eip is None:
            return (self.trusted_measurement,)
        return measurements_of_seed(self.trusted_measurement, self.ap_eip, self.cpu_signature)

    @property
    def is_simulated(self) -> bool:
        """Whether the entry trusts a vendor that somebody made up."""
        return self.trust_anchor is not None

    def _as_reported(self, chips: tuple[bytes, ...]) -> tuple[bytes, ...]:
        short = self.product.chip_id_size
        if short == CHIP_ID_SIZE or all(len(chip) != short for chip in chips):
            return chips
        return tuple(dict.fromkeys(chip.ljust(CHIP_ID_SIZE, b"\0") if len(chip) == short else chip for chip in chips))

    def _check_tcb(self, name: str, tcb: Tcb) -> None:
        if (tcb.fmc is not None) != self.product.has_fmc:
            wanted = "with" if self.product.has_fmc else "without"
            raise ReferenceValueError(f"{name} of {self.product_name} is wanted {wanted} an FMC version")
        parts = (tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode, tcb.fmc or 0)
        if not all(0 <= part <= 255 for part in parts):
            raise ReferenceValueError(f"{name} is {tcb}; each part is 0 to 255")

    def _check_sizes(self) -> None:
        sized: list[tuple[str, bytes | None, int]] = [
            ("trusted_measurement", self.trusted_measurement, MEASUREMENT_SIZE),
            ("family_id", self.family_id, 16),
            ("image_id", self.image_id, 16),
            ("trust_anchor", self.trust_anchor, DIGEST_SIZE),
            ("trust_anchor_spki", self.trust_anchor_spki, DIGEST_SIZE),
        ]
        sized += [("allowed_chip_ids", chip, CHIP_ID_SIZE) for chip in self.allowed_chip_ids]
        sized += [("denied_chip_ids", chip, CHIP_ID_SIZE) for chip in self.denied_chip_ids]
        sized += [("id_key_digests", digest, 48) for digest in self.id_key_digests]
        sized += [("author_key_digests", digest, 48) for digest in self.author_key_digests]
        for name, value, size in sized:
            if value is not None and len(value) != size:
                raise ReferenceValueError(f"{name} has {len(value)} bytes, wanted {size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxReferenceValues:
    """One acceptable TDX guest.

    DEBUG, MIGRATABLE and undefined attributes refuse a quote whatever an entry says, and so do SEPT_VE_DISABLE = 0 and
    a service TD: dcap-qvl, by which quotes are verified, judges no such quote.

    Attributes:
        mr_td, mr_seam, rtmrs: 48 bytes each: firmware, TDX module, and what was measured at run time.
        xfam: 8 bytes, extended features.
        minimum_tcb_evaluation_data_number: of both documents of Intel's collateral; its rollback stops here.
        allowed_tcb_statuses: what the platform's TCB level may be called by Intel; Revoked is none of them.
        grace_period_days: for how long a level is accepted after Intel dated the one that superseded it, where its
            status alone refuses it; 0 gives no grace.
        rejected_advisories: names like ``INTEL-SA-00828`` that a level must not be subject to.
        allow_perfmon: accept guests with performance counters, whose host can watch what they execute.
        allowed_piids: platform instance ids, 16 bytes each; empty means every platform.
        denied_piids: platforms that are trusted no more.
        memory_integrity: demand cryptographic integrity of memory.
        smt_disabled: demand a platform without hyperthreading.
        static_platform: demand a platform whose processors cannot be exchanged after registration.
        distrusted: refuse everything that fits this entry, and say so.

    Raises:
        ReferenceValueError: a value that no quote can satisfy, or that would accept what must not be accepted.
    """

    platform: str
    mr_td: bytes
    mr_seam: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    xfam: bytes
    minimum_tcb_evaluation_data_number: int = 0
    allowed_tcb_statuses: tuple[str, ...] = (UP_TO_DATE,)
    grace_period_days: int = 0
    rejected_advisories: tuple[str, ...] = ()
    allow_perfmon: bool = False
    allowed_piids: tuple[bytes, ...] = field(default=())
    denied_piids: tuple[bytes, ...] = field(default=())
    memory_integrity: bool = False
    smt_disabled: bool = False
    static_platform: bool = False
    distrusted: bool = False

    def __post_init__(self) -> None:
        measured = (
            ("mr_td", self.mr_td),
            ("mr_seam", self.mr_seam),
            *((f"rtmrs[{i}]", rtmr) for i, rtmr in enumerate(self.rtmrs)),
        )
        for name, value in measured:
            if len(value) != MEASUREMENT_SIZE:
                raise ReferenceValueError(f"{name} has {len(value)} bytes, wanted {MEASUREMENT_SIZE}")
        if len(self.xfam) != 8:
            raise ReferenceValueError(f"xfam has {len(self.xfam)} bytes, wanted 8")
        if any(len(piid) != 16 for piid in self.allowed_piids + self.denied_piids):
            raise ReferenceValueError("allowed_piids and denied_piids have 16 bytes each")
        unknown = [status for status in self.allowed_tcb_statuses if status not in TDX_STATUSES]
        if unknown or not self.allowed_tcb_statuses:
            raise ReferenceValueError(
                f"allowed_tcb_statuses has {', '.join(unknown) or 'no status'}, "
                f"wanted some of {', '.join(TDX_STATUSES)}"
            )
        if not 0 <= self.grace_period_days <= MAX_GRACE_DAYS:
            raise ReferenceValueError(f"grace_period_days is {self.grace_period_days}, wanted 0 to {MAX_GRACE_DAYS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcr:
    """One register of a TPM and its value in the SHA-256 bank, 32 bytes."""

    index: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureReferenceValues:
    """One acceptable guest of an Azure confidential VM (SEV-SNP with a paravisor and a virtual TPM).

    Attributes:
        snp: what the report about the paravisor must say; never with a simulated anchor.
        pcrs: of the virtual TPM: what was booted. PCR 8 is the policy's and not named.

    Raises:
        ReferenceValueError: no PCR at all, an index twice or out of range, a value of another length.
    """

    snp: SnpReferenceValues
    pcrs: tuple[Pcr, ...]

    def __post_init__(self) -> None:
        if self.snp.is_simulated:
            raise ReferenceValueError("an Azure entry trusts AMD's roots and no simulated anchor")
        indices = [pcr.index for pcr in self.pcrs]
        if not indices or len(set(indices)) != len(indices):
            raise ReferenceValueError("an Azure entry names at least one PCR, each once: without them any image passes")
        if not all(0 <= pcr.index < 24 and pcr.index != 8 and len(pcr.value) == DIGEST_SIZE for pcr in self.pcrs):
            raise ReferenceValueError("PCRs are 0 to 23 without 8, which is the policy's, and have 32 bytes each")

    @property
    def platform(self) -> str:
        """Name for people."""
        return self.snp.platform


ReferenceValues = SnpReferenceValues | TdxReferenceValues | AzureReferenceValues
