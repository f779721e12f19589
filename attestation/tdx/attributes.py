"""The bits of TD_ATTRIBUTES and XFAM: their names, and which of them keep a guest from keeping a secret."""

from typing import Final

# Intel TDX module ABI (348551-008), table 3.23. (bit, name)
DEBUG: Final = 1 << 0
PROFILED: Final = 0x70  # The rest of the group "TD under debug".
ICSSD: Final = 1 << 16
SERVTD_EXT: Final = 1 << 17
LASS: Final = 1 << 27
SEPT_VE_DISABLE: Final = 1 << 28
MIGRATABLE: Final = 1 << 29
PKS: Final = 1 << 30
KEY_LOCKER: Final = 1 << 31
PROVISIONING_AGENT: Final = 1 << 62
PERFMON: Final = 1 << 63
_NAMES: Final = (
    (0, "DEBUG"),
    (4, "HGS_PLUS_PROF"),
    (5, "PERF_PROF"),
    (6, "UNCORE_PROF"),
    (16, "ICSSD"),
    (17, "SERVTD_EXT"),
    (27, "LASS"),
    (28, "SEPT_VE_DISABLE"),
    (29, "MIGRATABLE"),
    (30, "PKS"),
    (31, "KEY_LOCKER"),
    (62, "TPA"),
    (63, "PERFMON"),
)
_DEFINED: Final = sum(1 << bit for bit, _ in _NAMES)


def attributes_fault(attributes: int, *, allow_perfmon: bool) -> str | None:
    """What TD_ATTRIBUTES say that they must not, None if nothing: everything that is wrong, in a few words."""
    faults = []
    if attributes & DEBUG:
        faults.append("DEBUG is set: the host reads and writes the guest's memory")
    if attributes & PROFILED:
        faults.append("the TD is profiled: Intel counts it among those under debug")
    if attributes & SERVTD_EXT:
        faults.append("SERVTD_EXT is set: service TDs may be bound to the guest")
    if attributes & PROVISIONING_AGENT:
        faults.append("TPA is set: the TD is a provisioning agent of the platform and no guest")
    if attributes & MIGRATABLE:
        faults.append("MIGRATABLE is set: a migration TD that nobody named may move the guest")
    if attributes & PERFMON and not allow_perfmon:
        faults.append("PERFMON is set, which no value allows")
    if not attributes & SEPT_VE_DISABLE:
        faults.append(
            "SEPT_VE_DISABLE is clear: the host may inject exceptions, and dcap-qvl, by which quotes are verified "
            "here, judges no such quote, genuine or not"
        )
    if attributes & ~_DEFINED:
        faults.append("undefined bits are set")
    return ", ".join(faults) or None


def describe_attributes(attributes: int) -> str:
    """The bits that are set, unknown ones by number."""
    names = [name for bit, name in _NAMES if attributes >> bit & 1]
    names += [f"unknown bit {bit}" for bit in range(64) if attributes & ~_DEFINED & 1 << bit]
    return ", ".join(names) or "no bit set"
