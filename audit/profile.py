"""What a leaf looks like that a Coordinator issues: each extension, and no other one. Knows no attestation.

A leaf is presented to clients of every kind. One that may sign certificates, or code, or is dated back before its own
CA, would say more than the manifest gave, whatever its names are.
"""

from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from coordinator.times import moment
from wire.extensions import CHECKPOINT_OID, CLAIMS_OID, COMPANIONS_OID, SIMULATED_OID

OURS: Final = frozenset({CLAIMS_OID, CHECKPOINT_OID, COMPANIONS_OID, SIMULATED_OID})
MAX_BACKDATED: Final = timedelta(hours=26)
"""An hour is what leaves are dated back, and a day is how far a host's clock may jump while one is issued."""
_PURPOSES: Final = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
_CRITICAL: Final = (x509.BasicConstraints, x509.KeyUsage)
_KNOWN: Final = (*_CRITICAL, x509.ExtendedKeyUsage, x509.AuthorityKeyIdentifier, x509.SubjectAlternativeName)


def leaf_fault(leaf: x509.Certificate, *, time_ms: int) -> tuple[str, str] | None:
    """What no leaf of an honest Coordinator has: the rule and what was seen; None for a good one.

    Args:
        leaf: Read already; its signature, key, names and end are judged elsewhere.
        time_ms: When its issuance was recorded.
    """
    found: set[type] = set()
    for extension in leaf.extensions:
        value = extension.value
        if extension.oid in OURS:
            if extension.critical:
                return "the leaf has an extension in another way than leaves have it", extension.oid.dotted_string
            continue
        if not isinstance(value, _KNOWN) or extension.critical != isinstance(value, _CRITICAL):
            return "the leaf has an extension that leaves do not have", extension.oid.dotted_string
        found.add(type(value))
        if isinstance(value, x509.KeyUsage) and not _only_signs(value):
            return "the leaf's key usage is more or other than signing handshakes", repr(value)
        if isinstance(value, x509.ExtendedKeyUsage) and set(value) != _PURPOSES:
            return "the leaf's extended key usage is not TLS for servers and clients", repr(value)
    if not found >= {x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage}:
        return "the leaf lacks key usage or basic constraints", ", ".join(sorted(each.__name__ for each in found))
    if leaf.not_valid_before_utc < moment(time_ms) - MAX_BACKDATED:
        return "the leaf is backdated", leaf.not_valid_before_utc.isoformat()
    return None


def _only_signs(usage: x509.KeyUsage) -> bool:
    others = (
        usage.content_commitment, usage.key_encipherment, usage.data_encipherment, usage.key_agreement,
        usage.key_cert_sign, usage.crl_sign,
    )  # fmt: skip
    return usage.digital_signature and not any(others)
