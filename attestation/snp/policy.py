"""The bits of a guest's launch policy and of the platform's state: their names, and what is wrong with them."""

from typing import Final

from attestation.reference import GuestPolicy, PlatformInfo
from attestation.snp.report import Report

# SNP ABI, table 9. (bit, name in GuestPolicy)
_ALLOWANCES: Final = ((16, "smt"), (21, "cxl_allowed"))
_DEMANDS: Final = (
    (20, "single_socket"),
    (22, "mem_aes_256_xts"),
    (23, "rapl_dis"),
    (24, "ciphertext_hiding_dram"),
    (25, "page_swap_disable"),
)
_MUST_BE_ONE: Final = 1 << 17
_MIGRATE_MA: Final = 1 << 18
_DEBUG: Final = 1 << 19
_DEFINED: Final = (1 << 26) - 1
_NO_MIGRATION_AGENT: Final = b"\xff" * 32

# SNP ABI, table 23. (bit, name in PlatformInfo)
_PLATFORM: Final = (
    (0, "smt_enabled"),
    (1, "tsme_enabled"),
    (2, "ecc_enabled"),
    (3, "rapl_disabled"),
    (4, "ciphertext_hiding_dram_enabled"),
    (5, "alias_check_complete"),
    (6, "iommu_write_safe"),
    (7, "tio_enabled"),
)
_NOTHING_ASKED: Final = PlatformInfo()


def policy_fault(report: Report, wanted: GuestPolicy) -> str | None:
    """What the launch policy says that it must not, None if nothing: everything that is wrong, in a few words."""
    policy = report.policy
    faults = []
    if policy & _DEBUG:
        faults.append("DEBUG is allowed")
    if policy & _MIGRATE_MA or report.report_id_ma != _NO_MIGRATION_AGENT:
        faults.append("migration is allowed")
    if not policy & _MUST_BE_ONE:
        faults.append("bit 17 is zero")
    if policy > _DEFINED:
        faults.append("undefined bits are set")
    if (policy >> 8 & 0xFF, policy & 0xFF) < (wanted.abi_major, wanted.abi_minor):
        faults.append(f"ABI minimum is {policy >> 8 & 0xFF}.{policy & 0xFF}")
    for bit, name in _ALLOWANCES:
        if policy >> bit & 1 and not getattr(wanted, name):
            faults.append(f"{name} is allowed")
    for bit, name in _DEMANDS:
        if getattr(wanted, name) and not policy >> bit & 1:
            faults.append(f"{name} is not demanded")
    return ", ".join(faults) or None


def describe_policy(wanted: GuestPolicy) -> str:
    """What a launch policy may and must say."""
    allowed = [name for _, name in _ALLOWANCES if getattr(wanted, name)]
    demanded = [name for _, name in _DEMANDS if getattr(wanted, name)]
    return (
        f"no debug, no migration, ABI {wanted.abi_major}.{wanted.abi_minor} or later, allowed: "
        f"{', '.join(allowed) or 'nothing'}, demanded: {', '.join(demanded) or 'nothing'}"
    )


def describe_policy_bits(policy: int) -> str:
    """What a launch policy says, bit by bit."""
    names = [name for bit, name in (*_ALLOWANCES, *_DEMANDS) if policy >> bit & 1]
    names += [name for bit, name in ((18, "MIGRATE_MA"), (19, "DEBUG")) if policy >> bit & 1]
    return f"ABI {policy >> 8 & 0xFF}.{policy & 0xFF}, " + (", ".join(names) or "no bit set")


def platform_fault(platform_info: int, wanted: PlatformInfo) -> str | None:
    """Which required bits are clear and which forbidden ones set, None if all is well."""
    faults = []
    for bit, name in _PLATFORM:
        demand = getattr(wanted, name)
        if demand is not None and demand != bool(platform_info >> bit & 1):
            faults.append(f"{name} is {'clear' if demand else 'set'}")
    return ", ".join(faults) or None


def is_asked(wanted: PlatformInfo) -> bool:
    """Whether any bit is asked for at all."""
    return wanted != _NOTHING_ASKED


def describe_platform_info(platform_info: int) -> str:
    """The bits that are set, unknown ones by number: they are told, not refused."""
    names = [name for bit, name in _PLATFORM if platform_info >> bit & 1]
    names += [f"unknown bit {bit}" for bit in range(8, 64) if platform_info >> bit & 1]
    return ", ".join(names) or "no bit set"


def describe_platform_wanted(wanted: PlatformInfo) -> str:
    """What is asked of the platform."""
    asked = [
        f"{name} {'set' if getattr(wanted, name) else 'clear'}"
        for _, name in _PLATFORM
        if getattr(wanted, name) is not None
    ]
    return ", ".join(asked) or "not asked for"
