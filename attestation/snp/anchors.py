"""AMD's roots, pinned by SHA-256 of certificate and of public key. The certificates arrive with the evidence.

Beware of public notes that list the intermediates (67d303bd, 5464738c, 5b77ef5f) as roots: those are the first block of
the vendor's chain files, not the last.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.snp.products import GENOA, MILAN, TURIN


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a root must hash to.

    Attributes:
        certificate: SHA-256 of the root certificate in DER.
        spki: SHA-256 of its SubjectPublicKeyInfo; None where only the certificate is named.
    """

    certificate: bytes
    spki: bytes | None


AMD_ROOTS: Mapping[str, Anchor] = {
    MILAN: Anchor(
        bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
        bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
    ),
    GENOA: Anchor(
        bytes.fromhex("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
        bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
    ),
    TURIN: Anchor(
        bytes.fromhex("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
        bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
    ),
}

PINNED = frozenset(anchor.certificate for anchor in AMD_ROOTS.values())
"""Roots whose every byte is known, and with it that each has signed itself; see ``chain.link_fault``."""
