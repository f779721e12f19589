"""What an owner accepts, in frozen shapes; how it is read, written and authorised stands beside this."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from attestation.reference import AzureReferenceValues, ReferenceValues, SnpReferenceValues, TdxReferenceValues


class Role(StrEnum):
    """What a policy may be besides a workload."""

    COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a pod with this policy gets: names for its certificate, and a secret if it has an id for one."""

    sans: tuple[str, ...]
    workload_secret_id: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest that was parsed. Its identity is `digest`, the SHA-256 of `raw`, the bytes as they were written.

    Attributes:
        policies: by SHA-256 of the policy, which is the pod's HOSTDATA; in the order of the document.
        workload_owner_key_digests: SHA-256 of each owner key's SPKI DER with uncompressed point; none: no updates.
        seedshare_owner_pub_keys: RSA public keys, PKCS#1 DER; they cannot change after the first set.
    """

    raw: bytes
    digest: bytes
    policies: Mapping[bytes, Policy]
    snp: tuple[SnpReferenceValues, ...]
    tdx: tuple[TdxReferenceValues, ...]
    simulated: tuple[SnpReferenceValues, ...]
    azure: tuple[AzureReferenceValues, ...] = ()
    workload_owner_key_digests: tuple[bytes, ...]
    seedshare_owner_pub_keys: tuple[bytes, ...]

    @property
    def reference_values(self) -> tuple[ReferenceValues, ...]:
        """Every entry of every kind, for `attestation.judge.judge`."""
        return self.snp + self.tdx + self.azure + self.simulated

    @property
    def coordinator_policies(self) -> frozenset[bytes]:
        """The policies whose pods may hold the seed."""
        return frozenset(digest for digest, policy in self.policies.items() if policy.role is Role.COORDINATOR)

    @property
    def simulated_anchor(self) -> bytes | None:
        """SHA-256 of the simulated vendor's root, None where the manifest trusts real hardware."""
        return self.simulated[0].trust_anchor if self.simulated else None
