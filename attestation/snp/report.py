"""The attestation report as the SNP firmware ABI lays it out, versions 2 to 5. Reading only, no judging."""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from attestation.errors import ReportError
from attestation.snp.products import Product, reserved_tcb_bytes

REPORT_SIZE: Final = 0x4A0
SIGNED_SIZE: Final = 0x2A0
VERSIONS: Final = range(2, 6)
P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
SIGNING_KEY_VCEK: Final = 0
SIGNING_KEY_VLEK: Final = 1
ALGORITHM_P384_SHA384: Final = 1

# SNP ABI 1.55 and later, table 22. Little-endian, as everything the firmware writes.
LAYOUT: Final = Struct(
    "<IIQ16s16sII"  # 000 version, guest SVN, policy, family id, image id, VMPL, algorithm
    "8sQI4s"  # 038 current TCB, platform info, key flags, zero
    "64s48s32s48s48s32s32s"  # 050 report data, measurement, host data, id key, author key, report id, its MA
    "8s3s21s64s8s"  # 180 reported TCB, family/model/stepping, zero, chip id, committed TCB
    "4B4B8sQQ152s"  # 1E8 current and committed firmware, launch TCB, mitigation vectors, zero
    "48s24s48s24s368s"  # 2A0 R and S, little-endian in 72 bytes each
)
_ZERO_4 = bytes(4)
_ZERO_21 = bytes(21)
_ZERO_24 = bytes(24)
_ZERO_152 = bytes(152)
_ZERO_368 = bytes(368)


@dataclass(frozen=True, slots=True)
class Report:
    """One report, field by field; ``raw`` is what was signed and what everything is judged by.

    Attributes:
        cpuid: family, model and stepping, None in version 2.
        current_firmware, committed_firmware: major, minor, build.
        launch_mitigations, current_mitigations: zero before version 5.
        r, s: the signature's two numbers.
        nonzero: offsets of the ranges that must be zero in this version, and are not.
    """

    raw: bytes
    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algorithm: int
    current_tcb: bytes
    platform_info: int
    flags: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid: tuple[int, int, int] | None
    chip_id: bytes
    committed_tcb: bytes
    current_firmware: tuple[int, int, int]
    committed_firmware: tuple[int, int, int]
    launch_tcb: bytes
    launch_mitigations: int
    current_mitigations: int
    r: int
    s: int
    nonzero: tuple[str, ...]

    @property
    def signed(self) -> bytes:
        """The bytes under the signature."""
        return self.raw[:SIGNED_SIZE]

    @property
    def signing_key(self) -> int:
        """Which key signed: 0 VCEK, 1 VLEK, 7 none."""
        return self.flags >> 2 & 7

    @property
    def has_author_key(self) -> bool:
        """Whether the ID key was itself endorsed by an author key."""
        return bool(self.flags & 1)


def parse_report(raw: bytes) -> Report:
    """Read a report of exactly 1184 bytes.

    Raises:
        ReportError: another length (check 1), or a version that we do not know (check 2).
    """
    if len(raw) != REPORT_SIZE:
        raise ReportError(f"{len(raw)} bytes", check=1)
    (
        version,
        guest_svn,
        policy,
        family_id,
        image_id,
        vmpl,
        algorithm,
        current_tcb,
        platform_info,
        flags,
        zero_4c,
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        reported_tcb,
        cpuid,
        zero_18b,
        chip_id,
        committed_tcb,
        current_build,
        current_minor,
        current_major,
        zero_1eb,
        committed_build,
        committed_minor,
        committed_major,
        zero_1ef,
        launch_tcb,
        launch_mitigations,
        current_mitigations,
        zero_208,
        r,
        zero_2d0,
        s,
        zero_318,
        zero_330,
    ) = LAYOUT.unpack(raw)
    if version not in VERSIONS:
        raise ReportError(f"version {version}", check=2)
    nonzero = []
    if zero_4c != _ZERO_4:
        nonzero.append("04C")
    if zero_18b != _ZERO_21 or (version == 2 and any(cpuid)):
        nonzero.append("188" if version == 2 else "18B")
    if zero_1eb or zero_1ef:
        nonzero.append("1EB or 1EF")
    if version < 5 and (launch_mitigations or current_mitigations):
        nonzero.append("1F8")
    if zero_208 != _ZERO_152:
        nonzero.append("208")
    if zero_2d0 != _ZERO_24 or zero_318 != _ZERO_24 or zero_330 != _ZERO_368:
        nonzero.append("the signature's padding")
    return Report(
        raw,
        version,
        guest_svn,
        policy,
        family_id,
        image_id,
        vmpl,
        algorithm,
        current_tcb,
        platform_info,
        flags,
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        reported_tcb,
        None if version == 2 else (cpuid[0], cpuid[1], cpuid[2]),
        chip_id,
        committed_tcb,
        (current_major, current_minor, current_build),
        (committed_major, committed_minor, committed_build),
        launch_tcb,
        launch_mitigations,
        current_mitigations,
        int.from_bytes(r, "little"),
        int.from_bytes(s, "little"),
        tuple(nonzero),
    )


def signature_numbers(raw: bytes) -> tuple[int, int]:
    """R and S of a report of the right length; the bytes behind each must be zero, which is not asked here."""
    return int.from_bytes(raw[0x2A0:0x2D0], "little"), int.from_bytes(raw[0x2E8:0x318], "little")


def is_in_range(r: int, s: int) -> bool:
    """Whether both are numbers that a signature may have."""
    return 0 < r < P384_ORDER and 0 < s < P384_ORDER


def reserved_bytes_set(report: Report, product: Product) -> tuple[str, ...]:
    """Names of the ranges that must be zero and are not: those of the version, and those that depend on the product."""
    found = report.nonzero
    for name, tcb in (
        ("CURRENT_TCB", report.current_tcb),
        ("REPORTED_TCB", report.reported_tcb),
        ("COMMITTED_TCB", report.committed_tcb),
        ("LAUNCH_TCB", report.launch_tcb),
    ):
        if reserved_tcb_bytes(tcb, product).strip(b"\0"):
            found = (*found, name)
    return found
