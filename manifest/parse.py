"""From a manifest's bytes to a `Manifest`, or to every fault in them at once; files are read elsewhere."""

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from manifest.errors import ManifestError
from manifest.fields import FAULT, Column, Faults, Hex, Listed, Table, Text, hex_fault, members
from manifest.jsontext import Node, join
from manifest.model import Manifest, Policy, Role
from manifest.reference_file import ReferenceSet, read_reference_set, read_root, render_reference_values
from manifest.sans import SanError, parse_san

MAX_MANIFEST: Final = 1 << 20
MAX_POLICIES: Final = 4096
MAX_SANS: Final = 64
MAX_SANS_LENGTH: Final = 8192  # All SANs of a policy together: they are written into one ledger entry of 16 KiB.
MAX_SECRET_ID: Final = 256
MAX_OWNERS: Final = 16
MIN_RSA_BITS: Final = 3072
MAX_RSA_BITS: Final = 8192
RSA_EXPONENT: Final = 65537


def parse_manifest(raw: bytes, *, name: str = "manifest.json", recorded: bool = False) -> Manifest:
    """The manifest in *raw*; *name* is what messages call it.

    One that is *recorded* in a ledger is read by what was demanded of it then: a stricter rule for new manifests must
    close no ledger.

    Raises:
        ManifestError: with every fault that could be found.
    """
    faults = Faults(recorded=recorded)
    root = read_root(raw, faults, limit=MAX_MANIFEST, name=name)
    found = DOCUMENT.read(root, "", faults)
    if faults.problems or not isinstance(found, Document):
        raise ManifestError(tuple(sorted(faults.problems, key=lambda problem: problem.line or 0)), name=name)
    return Manifest(
        raw=raw,
        digest=hashlib.sha256(raw).digest(),
        policies=MappingProxyType(dict(found.policies)),
        snp=found.reference_values.snp,
        tdx=found.reference_values.tdx,
        azure=found.reference_values.azure,
        simulated=found.reference_values.simulated,
        workload_owner_key_digests=found.workload_owner_key_digests,
        seedshare_owner_pub_keys=found.seedshare_owner_pub_keys,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The content of a manifest without its bytes, as it is read and rendered."""

    policies: tuple[tuple[bytes, Policy], ...]
    reference_values: ReferenceSet
    workload_owner_key_digests: tuple[bytes, ...]
    seedshare_owner_pub_keys: tuple[bytes, ...]


class _Sans:
    """The SANs of one policy."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `manifest.fields.Codec`."""
        sans = Listed(_San(), MAX_SANS).read(node, path, faults)
        if isinstance(sans, tuple) and sum(len(san) for san in sans) > MAX_SANS_LENGTH:
            return faults.add(
                path, f"the SANs of one policy have at most {MAX_SANS_LENGTH} characters together", node.line
            )
        return sans

    def write(self, value: object) -> object:
        """See `manifest.fields.Codec`."""
        return Listed(_San(), MAX_SANS).write(value)


class _San:
    """One SAN; it stays text, and has been parsed once."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `manifest.fields.Codec`."""
        if not isinstance(node.value, str):
            return faults.wrong_type(path, node, "a string")
        try:
            return parse_san(node.value, recorded=faults.recorded).value
        except SanError as error:
            return faults.add(path, str(error), node.line)

    def write(self, value: object) -> object:
        """See `manifest.fields.Codec`."""
        return value


class _Role:
    """The role of a policy."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `manifest.fields.Codec`."""
        text = Text(choices=tuple(role.value for role in Role)).read(node, path, faults)
        return Role(text) if isinstance(text, str) else FAULT

    def write(self, value: object) -> object:
        """See `manifest.fields.Codec`."""
        return value


class _Policies:
    """The object `Policies`, whose keys are digests."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `manifest.fields.Codec`."""
        found = members(node, path, faults)
        if found is None:
            return FAULT
        if not 0 < len(found) <= MAX_POLICIES:
            return faults.add(path, f"has {len(found)} policies, wanted 1 to {MAX_POLICIES}", node.line)
        policies: list[tuple[bytes, Policy]] = []
        for key, member in found.items():
            inner = join(path, key)
            fault = hex_fault(key) or (None if len(key) == 64 else f"has {len(key)} hex digits")
            if fault:
                faults.add(
                    inner, f"a policy is named by its SHA-256, 64 lower-case hex digits; this {fault}", member.line
                )
            policy = _POLICY.read(member.node, inner, faults)
            if isinstance(policy, Policy) and not fault:
                policies.append((bytes.fromhex(key), policy))
        if len(policies) < len(found):
            return FAULT
        if not any(policy.role is Role.COORDINATOR for _, policy in policies):
            return faults.add(path, 'no policy has "Role": "coordinator", so nothing could hold the seed', node.line)
        return tuple(policies)

    def write(self, value: object) -> object:
        """See `manifest.fields.Codec`."""
        if not isinstance(value, tuple):
            raise TypeError(f"{value!r} is no tuple of policies")
        return {digest.hex(): _POLICY.write(policy) for digest, policy in value}


class _ReferenceValues:
    """The object `ReferenceValues`."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `manifest.fields.Codec`."""
        found = read_reference_set(node, path, faults)
        return FAULT if found is None else found

    def write(self, value: object) -> object:
        """See `manifest.fields.Codec`."""
        if not isinstance(value, ReferenceSet):
            raise TypeError(f"{value!r} are no reference values")
        return render_reference_values(value.all)


class _RsaKey:
    """An RSA public key, PKCS#1 DER in hex."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """See `manifest.fields.Codec`."""
        raw = Hex(None, longest=2048).read(node, path, faults)
        if not isinstance(raw, bytes):
            return FAULT
        fault = rsa_key_fault(raw)
        return raw if fault is None else faults.add(path, fault, node.line)

    def write(self, value: object) -> object:
        """See `manifest.fields.Codec`."""
        return Hex(None).write(value)


def rsa_key_fault(raw: bytes) -> str | None:
    """What keeps *raw* from being a seed share owner's key, None if nothing does."""
    try:
        key = serialization.load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        return "is no RSA public key in PKCS#1 DER"
    if not isinstance(key, rsa.RSAPublicKey):
        return "is no RSA key"
    if key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1) != raw:
        return "is not the PKCS#1 DER of its key (RSAPublicKey, not SubjectPublicKeyInfo)"
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return f"has {key.key_size} bits, wanted {MIN_RSA_BITS} to {MAX_RSA_BITS}"
    if key.public_numbers().e != RSA_EXPONENT:
        return f"has another public exponent than {RSA_EXPONENT}"
    return None


_POLICY: Table[Policy] = Table(
    Policy,
    (
        Column("SANs", "sans", _Sans(), required=True),
        Column("WorkloadSecretID", "workload_secret_id", Text(MAX_SECRET_ID)),
        Column("Role", "role", _Role()),
    ),
)
DOCUMENT: Table[Document] = Table(
    Document,
    (
        Column("Policies", "policies", _Policies(), required=True),
        Column("ReferenceValues", "reference_values", _ReferenceValues(), required=True),
        Column("WorkloadOwnerKeyDigests", "workload_owner_key_digests", Listed(Hex(32), MAX_OWNERS), required=True),
        Column("SeedshareOwnerPubKeys", "seedshare_owner_pub_keys", Listed(_RsaKey(), MAX_OWNERS), required=True),
    ),
    hints={"WorkloadOwnerPubKeys": 'write "WorkloadOwnerKeyDigests", the SHA-256 of each key\'s SPKI DER'},
)
