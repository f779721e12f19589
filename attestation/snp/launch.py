"""The launch digest of a guest, continued from one vCPU to more; the digest of an image is `contrast measure`'s.

The firmware extends the digest page by page (SNP ABI, section 8.17.2). The last pages are the processors' save areas,
one each, all alike but the first: so the measurement with one vCPU is a seed for those with more.
"""

import hashlib
from functools import lru_cache
from struct import pack_into
from typing import Final

MAX_VCPUS: Final = 220
EPYC_V4: Final = 0x00800F12  # CPUID signature of QEMU's EPYC-v4, which Kata launches guests with.

_PAGE: Final = 4096
_PAGE_TYPE_VMSA: Final = 2
_VMSA_ADDRESS: Final = 0xFFFFFFFFF000  # Of all save areas: the RMP records them at an address of all ones.
_SNP_ACTIVE: Final = 1


@lru_cache(maxsize=64)
def measurements_of_seed(seed: bytes, ap_eip: int, cpu_signature: int = EPYC_V4) -> dict[bytes, int]:
    """Measurement -> number of vCPUs, for 1 to 220 of them.

    Args:
        seed: launch digest with one vCPU, 48 bytes.
        ap_eip: where the others start, from the firmware image (its SEV-ES reset block).
        cpu_signature: CPUID Fn0000_0001 EAX that they see.
    """
    contents = hashlib.sha384(save_area(ap_eip, cpu_signature)).digest()
    found, digest = {seed: 1}, seed
    for vcpus in range(2, MAX_VCPUS + 1):
        digest = extend(digest, contents)
        found[digest] = vcpus
    return found


def extend(digest: bytes, contents: bytes) -> bytes:
    """The launch digest after one more save area, whose page hashes to *contents*. SNP ABI, table 67 (PAGE_INFO)."""
    page_info = digest + contents + (0x70).to_bytes(2, "little") + bytes((_PAGE_TYPE_VMSA, 0, 0, 0, 0, 0))
    return hashlib.sha384(page_info + _VMSA_ADDRESS.to_bytes(8, "little")).digest()


def save_area(eip: int, cpu_signature: int) -> bytes:
    """The page with a processor's state at its start, as QEMU on KVM sets it up (APM volume 2, table B-4)."""
    page = bytearray(_PAGE)
    # Segments: selector, attributes, limit, base. The code segment and RIP together are the start address.
    for offset, selector, attributes, base in (
        (0x000, 0, 0x93, 0),  # ES
        (0x010, 0xF000, 0x9B, eip & 0xFFFF0000),  # CS
        (0x020, 0, 0x93, 0),  # SS
        (0x030, 0, 0x93, 0),  # DS
        (0x040, 0, 0x93, 0),  # FS
        (0x050, 0, 0x93, 0),  # GS
        (0x060, 0, 0, 0),  # GDTR
        (0x070, 0, 0x82, 0),  # LDTR
        (0x080, 0, 0, 0),  # IDTR
        (0x090, 0, 0x8B, 0),  # TR
    ):
        pack_into("<HHIQ", page, offset, selector, attributes, 0xFFFF, base)
    for offset, value in (
        (0x0D0, 0x1000),  # EFER: SVME
        (0x148, 0x40),  # CR4: MCE
        (0x158, 0x10),  # CR0: ET
        (0x160, 0x400),  # DR7
        (0x168, 0xFFFF0FF0),  # DR6
        (0x170, 0x2),  # RFLAGS
        (0x178, eip & 0xFFFF),  # RIP
        (0x268, 0x0007040600070406),  # PAT
        (0x310, cpu_signature),  # RDX
        (0x3B0, _SNP_ACTIVE),  # SEV features
        (0x3E8, 0x1),  # XCR0
    ):
        pack_into("<Q", page, offset, value)
    pack_into("<I", page, 0x408, 0x1F80)  # MXCSR
    pack_into("<H", page, 0x410, 0x37F)  # x87 control word
    return bytes(page)
