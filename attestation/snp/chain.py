"""The endorsement chain of a report: ARK -> ASK or ASVK -> VCEK or VLEK, and the ARK's revocation list.

AMD publishes two lists, for ASKs and for ASVKs, both signed by the ARK and nothing in them telling which is which: who
supplies the evidence could answer for an ASVK with the other one. Fetching it by address is what settles that.

Says whether the links hold. Whether the root is one to trust, and whether it is the right time, is asked in ``verify``.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from attestation.errors import CertificateError
from attestation.evidence import Evidence
from attestation.snp.anchors import PINNED, Anchor
from attestation.snp.certificates import (
    Authority,
    Certificate,
    RevocationList,
    is_signed_by,
    parse_authority,
    parse_crl,
)
from attestation.snp.endorsement import Endorsement, parse_endorsement

_T = TypeVar("_T")
_ROLES = ("root", "intermediate", "vek")


@dataclass(frozen=True, slots=True)
class Chain:
    """Parsed certificates of one report, as they came along: hints, until the checks say otherwise.

    Attributes:
        anchor: what the root hashes to.
        not_before, not_after: when all three certificates are valid.
    """

    root: Authority
    intermediate: Authority
    endorsement: Endorsement
    crl: RevocationList | None
    anchor: Anchor
    not_before: datetime
    not_after: datetime

    @property
    def certificates(self) -> tuple[Certificate, Certificate, Certificate]:
        """Root, intermediate, leaf."""
        return self.root.certificate, self.intermediate.certificate, self.endorsement.certificate

    def is_valid(self, now: datetime) -> bool:
        """Whether all three certificates are valid at *now*."""
        return self.not_before <= now <= self.not_after

    def is_listed(self, now: datetime) -> bool:
        """Whether there is a revocation list, and *now* is its time."""
        crl = self.crl
        return crl is not None and crl.this_update <= now < crl.next_update


def chain_key(evidence: Evidence) -> bytes:
    """One hash over every certificate and the list, each with its role and length; the report is no part of it."""
    pieces = [b"%s %d\0%s" % (role.encode(), len(data), data) for role, data in evidence.parts if role != "report"]
    return hashlib.sha256(b"".join(pieces)).digest()


def parse_chain(evidence: Evidence) -> Chain:
    """Read the certificates that came with a report.

    Raises:
        CertificateError: one is missing, or is not what its role says.
    """
    missing = [role for role in _ROLES if evidence.part(role) is None]
    if missing:
        raise CertificateError(f"no {', no '.join(missing)} came with the report")
    root = _named("root", parse_authority, evidence)
    intermediate = _named("intermediate", parse_authority, evidence)
    endorsement = _named("vek", parse_endorsement, evidence)
    crl = None if evidence.part("crl") is None else _named("crl", parse_crl, evidence)
    certificates = (root.certificate, intermediate.certificate, endorsement.certificate)
    anchor = Anchor(hashlib.sha256(certificates[0].raw).digest(), hashlib.sha256(certificates[0].spki).digest())
    return Chain(
        root,
        intermediate,
        endorsement,
        crl,
        anchor,
        max(certificate.not_before for certificate in certificates),
        min(certificate.not_after for certificate in certificates),
    )


def link_fault(chain: Chain) -> str | None:
    """What is wrong with the three links (names, path lengths, signatures), or None.

    Costs three RSA-4096, or two where the root is, byte for byte, one that is pinned: that its own signature holds is
    then a fact about a constant (docs/adr/0029), and a test verifies it.
    """
    root, intermediate, leaf = chain.certificates
    if root.subject != root.issuer:
        return f"{root.common_name} is not self-signed"
    if chain.root.path_length == 0 or chain.intermediate.path_length != 0:
        return f"path lengths are {chain.root.path_length} and {chain.intermediate.path_length}"
    links = (
        (root, root, chain.root),
        (intermediate, root, chain.root),
        (leaf, intermediate, chain.intermediate),
    )
    for certificate, issuer, authority in links:
        if certificate.issuer != issuer.subject:
            return (
                f"{certificate.common_name} names {certificate.issuer_common_name} as issuer, not {issuer.common_name}"
            )
        if certificate is root and chain.anchor.certificate in PINNED:
            continue
        if not is_signed_by(certificate.signed, certificate.signature, authority.key):
            return f"{certificate.common_name} is not signed by this {issuer.common_name}"
    return None


def crl_fault(chain: Chain, crl: RevocationList) -> str | None:
    """What is wrong with the list apart from its age, None if nothing is. One RSA-4096 verification."""
    root = chain.root.certificate
    if crl.issuer != root.subject or not chain.root.signs_crls:
        return f"the list is not one of {root.common_name}"
    if not is_signed_by(crl.signed, crl.signature, chain.root.key):
        return f"the list is not signed by this {root.common_name}"
    return None


def _named(role: str, parse: Callable[[bytes], _T], evidence: Evidence) -> _T:
    try:
        return parse(evidence.part(role) or b"")
    except CertificateError as error:
        raise CertificateError(f"{role}: {error}") from None
