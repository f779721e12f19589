"""What the secure processor does for a guest: it remembers how the guest was launched and signs reports that say so.

The bytes are those of the real firmware ABI; nothing protects the guest or the key.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.errors import IssueError
from attestation.evidence import Evidence, Kind
from attestation.simulated.vendor import Chip, VendorChain
from attestation.snp.endorsement import EndorsementKind
from attestation.snp.products import GENOA, MILAN, TURIN, Tcb, pack_tcb
from attestation.snp.report import ALGORITHM_P384_SHA384, LAYOUT, SIGNED_SIZE, SIGNING_KEY_VCEK, SIGNING_KEY_VLEK

DEFAULT_POLICY: Final = 0x30000  # Bit 17 is always one; bit 16 allows SMT.
DEFAULT_PLATFORM_INFO: Final = 0x25  # SMT, ECC, alias check complete.
_CPUID: Mapping[str, bytes] = {MILAN: b"\x19\x01\x01", GENOA: b"\x19\x11\x01", TURIN: b"\x1a\x02\x01"}
_FIRMWARE = (1, 58, 1)
_NO_MIGRATION_AGENT = b"\xff" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLaunch:
    """How a guest is launched: everything that its reports will say beside the 64 bytes it chooses itself.

    Attributes:
        measurement: 48 bytes.
        host_data: 32 bytes, the digest of the guest's policy.
        policy: launch policy bits (SNP ABI, table 9).
        platform_info: platform state bits.
        vmpl: privilege level that asks for the reports.
        report_version: 2 to 5.
        current_tcb, committed_tcb, launch_tcb: None means what the chip's certificate says.
        mitigations: both mitigation vectors, of version 5 reports only.
    """

    measurement: bytes
    host_data: bytes
    policy: int = DEFAULT_POLICY
    platform_info: int = DEFAULT_PLATFORM_INFO
    vmpl: int = 0
    guest_svn: int = 0
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    report_version: int = 5
    current_tcb: Tcb | None = None
    committed_tcb: Tcb | None = None
    launch_tcb: Tcb | None = None
    mitigations: int = 0

    def __post_init__(self) -> None:
        for name, value, size in (
            ("measurement", self.measurement, 48),
            ("host_data", self.host_data, 32),
            ("family_id", self.family_id, 16),
            ("image_id", self.image_id, 16),
            ("id_key_digest", self.id_key_digest, 48),
            ("author_key_digest", self.author_key_digest, 48),
        ):
            if len(value) != size:
                raise IssueError(f"{name} has {len(value)} bytes, wanted {size}")
        if self.report_version not in (2, 3, 4, 5):
            raise IssueError(f"report version {self.report_version} does not exist, wanted 2 to 5")


class SecureProcessor:
    """One simulated chip of a vendor, launching guests."""

    def __init__(self, vendor: VendorChain, chip: Chip | None = None) -> None:
        self._vendor = vendor
        self._chip = vendor.chip if chip is None else chip

    def launch(self, launch: GuestLaunch) -> "Guest":
        """A guest whose reports say how it was launched; its report id is random, as the firmware's is."""
        return Guest(self._vendor, self._chip, launch, secrets.token_bytes(32))


class Guest:
    """A launched guest's view of its processor."""

    def __init__(self, vendor: VendorChain, chip: Chip, launch: GuestLaunch, report_id: bytes) -> None:
        self.launch = launch
        self._vendor = vendor
        self._chip = chip
        self._report_id = report_id

    def report(self, report_data: bytes) -> bytes:
        """A signed report of 1184 bytes about this guest and *report_data* (64 bytes).

        Raises:
            IssueError: *report_data* has another size.
        """
        if len(report_data) != 64:
            raise IssueError(f"REPORT_DATA has {len(report_data)} bytes, wanted 64")
        unsigned = self._unsigned(report_data)
        r, s = decode_dss_signature(self._chip.key.sign(unsigned, ec.ECDSA(SHA384())))
        return unsigned + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)

    def evidence(self, report_data: bytes) -> Evidence:
        """The report together with everything it takes to judge it."""
        return Evidence.make(
            Kind.SIMULATED,
            {
                "report": self.report(report_data),
                "vek": self._chip.certificate,
                "intermediate": self._vendor.intermediate,
                "root": self._vendor.root,
                "crl": self._vendor.crl,
            },
        )

    def _unsigned(self, report_data: bytes) -> bytes:
        launch, product, chip = self.launch, self._vendor.product, self._chip
        is_vlek = self._vendor.endorsement is EndorsementKind.VLEK
        signing_key = SIGNING_KEY_VLEK if is_vlek else SIGNING_KEY_VCEK
        has_author_key = any(launch.author_key_digest)
        mitigations = launch.mitigations if launch.report_version == 5 else 0
        major, minor, build = _FIRMWARE
        return LAYOUT.pack(
            launch.report_version,
            launch.guest_svn,
            launch.policy,
            launch.family_id,
            launch.image_id,
            launch.vmpl,
            ALGORITHM_P384_SHA384,
            pack_tcb(launch.current_tcb or chip.tcb, product),
            launch.platform_info,
            signing_key << 2 | has_author_key,
            b"",
            report_data,
            launch.measurement,
            launch.host_data,
            launch.id_key_digest,
            launch.author_key_digest,
            self._report_id,
            _NO_MIGRATION_AGENT,
            pack_tcb(chip.tcb, product),
            b"" if launch.report_version == 2 else _CPUID[product.name],
            b"",
            bytes(64) if is_vlek else chip.chip_id,
            pack_tcb(launch.committed_tcb or chip.tcb, product),
            *(build, minor, major, 0),
            *(build, minor, major, 0),
            pack_tcb(launch.launch_tcb or chip.tcb, product),
            mitigations,
            mitigations,
            b"",
            *(b"", b"", b"", b"", b""),
        )[:SIGNED_SIZE]
