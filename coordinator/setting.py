"""From a manifest that somebody sends to a prepared command: read, authorised, judged, certified. It writes nothing."""

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.issuer import Issuer
from coordinator.ca import ca_end, intermediate_certificate, mesh_certificate, root_certificate
from coordinator.commands import CreateLedger, SetManifest
from coordinator.epoch import Epoch
from coordinator.events import ZERO_HASH, LedgerCreated, ManifestSet, pack_event
from coordinator.keys import Seed, public_bytes
from coordinator.own_evidence import excluded, prove_epoch
from coordinator.refusals import (
    BadManifestError,
    CaExpiredError,
    PoliciesMismatchError,
    StaleTransitionError,
)
from coordinator.rules import Rules
from coordinator.state import State
from ledger.checkpoint import origin_of
from ledger.entry import Body
from ledger.note import ed25519_key, mldsa44_key
from manifest.authorise import Signature, check_successor, genesis_previous, transition, verify_owner
from manifest.errors import ManifestError
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.messages import SetManifestRequest
from wire.sealing import seal_seed_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A manifest as it was sent: parsed, its policies complete, nothing authorised yet."""

    manifest: Manifest
    policies: tuple[bytes, ...]
    previous: bytes
    transition: bytes
    signatures: tuple[Signature, ...]

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """The manifest and its policies, which the ledger stores as they came."""
        return (self.manifest.raw, *self.policies)


def read_offer(message: SetManifestRequest) -> Offered:
    """Read *message*; all faults of the manifest are named at once.

    Raises:
        BadManifestError: The bytes are no manifest.
        PoliciesMismatchError: The policies are not exactly those that it names.
    """
    try:
        manifest = parse_manifest(message.manifest)
    except ManifestError as error:
        raise BadManifestError(str(error)) from None
    sent = {hashlib.sha256(policy).digest() for policy in message.policies}
    named = set(manifest.policies)
    if sent != named or len(message.policies) != len(named):
        missing = ", ".join(sorted(each.hex()[:16] for each in named - sent)) or "none"
        surplus = ", ".join(sorted(each.hex()[:16] for each in sent - named)) or "none"
        raise PoliciesMismatchError(seen=f"not named: {surplus}", wanted=f"not sent: {missing}")
    previous = bytes.fromhex(message.previous)
    return Offered(
        manifest=manifest,
        policies=message.policies,
        previous=previous,
        transition=transition(manifest.digest, previous),
        signatures=tuple(Signature(each.public_key, each.signature) for each in message.signatures),
    )


async def prepare_first(offered: Offered, *, epoch: Epoch, seed: Seed, issuer: Issuer, now_ms: int) -> CreateLedger:
    """The command that creates the ledger: its keys, this epoch, the first manifest, all at *now_ms*.

    Raises:
        StaleTransitionError: The manifest follows something else than the beginning of this ledger.
        AuthorisationError: The manifest names owners and none of them signed.
        CoordinatorExcludedError: The manifest does not accept this Coordinator.
    """
    origin = origin_of(public_bytes(seed.ledger_key()))
    previous = genesis_previous(origin)
    if offered.previous != previous:
        raise StaleTransitionError(
            seen=f"previous {offered.previous.hex()}", wanted=f"{previous.hex()} (the beginning of {origin})"
        )
    manifest = offered.manifest
    verify_owner(
        offered.signatures, manifest_in_force=None, offered=manifest, origin=origin, transition_hash=offered.transition
    )
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    root_ca = root_certificate(seed.root_ca_key(), origin=origin, now=now, serial=_serial())
    created = LedgerCreated(
        origin=origin,
        verifier_keys=verifier_keys(seed, origin),
        root_ca=hashlib.sha256(root_ca).digest(),
        seed_shares=tuple(
            (hashlib.sha256(owner).digest(), seal_seed_share(seed.seed, seed.salt, _rsa(owner), origin))
            for owner in manifest.seedshare_owner_pub_keys
        ),
    )
    kind, payload = pack_event(created)
    body = Body(
        signer=epoch.public,
        seq=0,
        time_ms=now_ms,
        prev=ZERO_HASH,
        type=kind,
        payload=payload,
        request_id=offered.transition,
    )
    opening = await prove_epoch(
        epoch,
        manifest,
        issuer,
        origin=origin,
        anchor_seq=0,
        anchor=hashlib.sha256(body.pack()).digest(),
        now=now,
    )
    event, certificates = _manifest_event(offered, seed, root_ca, generation=1, now=now, closed=())
    return CreateLedger(
        created=created,
        epoch=opening.event,
        manifest_set=event,
        time_ms=now_ms,
        blobs=(root_ca, *certificates, *opening.blobs, *offered.blobs),
    )


def prepare_update(
    offered: Offered, state: State, *, epoch: Epoch, seed: Seed, rules: Rules, root_ca: bytes, now_ms: int
) -> SetManifest:
    """The command for a further manifest: authorised by the one in force, accepting the Coordinator that sets it.

    Raises:
        StaleTransitionError: It follows another transition than the one in force.
        CaExpiredError: The root CA has ended.
        AuthorisationError: Not signed by an owner, updates disabled, or share owners changed.
        CoordinatorExcludedError: It does not accept this Coordinator.
    """
    current = state.current
    if current is None or offered.previous != current.transition:
        raise StaleTransitionError(
            seen=f"previous {offered.previous.hex()}", wanted=current.transition.hex() if current else "no previous"
        )
    in_force = rules.manifest(current.manifest)
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    demand_root(root_ca, now)
    verify_owner(
        offered.signatures,
        manifest_in_force=in_force,
        offered=offered.manifest,
        origin=state.origin,
        transition_hash=offered.transition,
    )
    check_successor(in_force, offered.manifest)
    closed: list[bytes] = []
    for each in state.open_epochs:
        verdict = rules.judge_epoch(
            each.event,
            offered.manifest.reference_values,
            policies=offered.manifest.coordinator_policies,
            at_ms=each.time_ms,
            seq=each.seq,
        )
        if verdict.accepted:
            continue
        if each.key == epoch.public:
            evidence = rules.evidence(each.event.evidence, each.seq)
            raise excluded(evidence, offered.manifest, verdict.first_failure)
        closed.append(each.key)
    event, certificates = _manifest_event(
        offered, seed, root_ca, generation=state.generation + 1, now=now, closed=tuple(closed)
    )
    return SetManifest(writer=epoch.public, event=event, prepared_ms=now_ms, blobs=(*certificates, *offered.blobs))


def _manifest_event(
    offered: Offered, seed: Seed, root_ca: bytes, *, generation: int, now: dt.datetime, closed: tuple[bytes, ...]
) -> tuple[ManifestSet, tuple[bytes, bytes]]:
    mesh_key = seed.mesh_ca_key(offered.transition)
    intermediate = intermediate_certificate(
        seed.root_ca_key(), root_ca, mesh_key, transition=offered.transition, now=now, serial=_serial()
    )
    mesh_ca = mesh_certificate(mesh_key, transition=offered.transition, now=now, serial=_serial(), end=ca_end(root_ca))
    event = ManifestSet(
        generation=generation,
        manifest=offered.manifest.digest,
        previous=offered.previous,
        transition=offered.transition,
        signatures=tuple((each.spki, each.signature) for each in offered.signatures),
        intermediate=hashlib.sha256(intermediate).digest(),
        mesh_ca=hashlib.sha256(mesh_ca).digest(),
        closed_epochs=closed,
    )
    return event, (intermediate, mesh_ca)


def demand_root(root_ca: bytes, now: dt.datetime) -> None:
    """Refuse a manifest that nobody could trust through the root. Raises CaExpiredError."""
    end = ca_end(root_ca)
    if end <= now:
        raise CaExpiredError(
            "The root CA has ended, and its ledger with it.",
            seen=f"{now:%Y-%m-%d}",
            wanted=f"before {end:%Y-%m-%d}",
            action="Begin a new ledger: start a Coordinator with empty storage and run `contrast set --new-ledger`. "
            "Workload secrets are derived anew there; move the data that they protect before.",
        )


def verifier_keys(seed: Seed, origin: str) -> tuple[str, str]:
    """The ledger's two verifier keys, as `ledger.created` names them."""
    classical = ed25519_key(origin, public_bytes(seed.ledger_key()))
    lattice = mldsa44_key(origin, seed.ledger_mldsa_key().public_key().public_bytes_raw())
    return str(classical), str(lattice)


def _rsa(owner: bytes) -> rsa.RSAPublicKey:
    key = load_der_public_key(owner)
    if not isinstance(key, rsa.RSAPublicKey):  # The manifest's reader has refused this.
        raise BadManifestError("A seed share owner's key is no RSA key.")
    return key


def _serial() -> int:
    """Random, positive, 16 bytes with the second bit set, so that no DER padding byte is needed."""
    return int.from_bytes(secrets.token_bytes(16)) & (2**127 - 1) | 2**126
