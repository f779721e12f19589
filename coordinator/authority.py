"""What one manifest in force lets the Coordinator do, ready for the hot path, built once per generation."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from coordinator.ca import LeafIssuer, ca_end
from coordinator.keys import Seed
from coordinator.refusals import CaExpiredError
from coordinator.state import State
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.extensions import companions_extension
from wire.sealing import secret_check


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a policy gets: names, perhaps a secret, and the extension that names root CA and secret."""

    policy: bytes
    sans: tuple[str, ...]
    secret_id: str | None
    check: bytes | None
    companions: x509.UnrecognizedExtension


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The manifest in force with its CA, certificates in DER, and a grant for every policy."""

    origin: str
    generation: int
    manifest_seq: int
    manifest: Manifest
    root_ca: bytes
    intermediate: bytes
    mesh_ca: bytes
    ends: datetime
    """When the first of the three CA certificates ends."""
    issuer: LeafIssuer = field(repr=False)
    grants: dict[bytes, Grant]


def make_authority(state: State, blob: Callable[[bytes], bytes], seed: Seed) -> Authority:
    """The authority of the manifest in force in *state*, whose documents *blob* gives.

    Raises:
        LookupError: There is no manifest in force.
    """
    current = state.current
    if current is None:
        raise LookupError("no manifest is in force")
    manifest = parse_manifest(blob(current.manifest), recorded=True)
    intermediate = blob(current.intermediate)
    root_ca = blob(state.root_ca)
    mesh_ca = blob(current.mesh_ca)
    ends = ca_end(root_ca, intermediate, mesh_ca)
    root_sha256 = hashlib.sha256(root_ca).digest()
    checks: dict[str, bytes] = {}
    grants: dict[bytes, Grant] = {}
    for digest, policy in manifest.policies.items():
        secret_id = policy.workload_secret_id
        if secret_id is not None and secret_id not in checks:
            checks[secret_id] = secret_check(seed.workload_secret(secret_id))
        named = {} if secret_id is None else {secret_id: checks[secret_id]}
        grants[digest] = Grant(
            policy=digest,
            sans=policy.sans,
            secret_id=secret_id,
            check=None if secret_id is None else checks[secret_id],
            companions=companions_extension(root_sha256, named),
        )
    return Authority(
        origin=state.origin,
        generation=current.generation,
        manifest_seq=current.seq,
        manifest=manifest,
        root_ca=root_ca,
        intermediate=intermediate,
        mesh_ca=mesh_ca,
        ends=ends,
        issuer=LeafIssuer.of(seed.mesh_ca_key(current.transition), intermediate, end=ends),
        grants=grants,
    )


def demand_valid(authority: Authority, now: datetime) -> None:
    """Refuse to sign what would end before it begins. Raises CaExpiredError."""
    if authority.ends <= now:
        raise CaExpiredError(
            "The CA of the manifest in force has ended.",
            seen=f"{now:%Y-%m-%d}",
            wanted=f"before {authority.ends:%Y-%m-%d}",
        )
