"""Judging the ledger that a restarted Coordinator found, and sealing the seed for it; nothing is fetched here.

Such a Coordinator has no seed, so its ledger ends in a draft: a checkpoint that only the last epoch signed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from audit.replay import state_at
from cli.differences import differences
from cli.errors import RefusedError
from cli.heads import Head, check_extends
from cli.keys import pkcs1
from cli.sources import CheckedSource
from cli.verifying import root_at
from coordinator.keys import Seed
from coordinator.rules import epoch_verifier_key
from coordinator.state import State
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import LedgerError
from ledger.note import VerifierKey, open_note
from ledger.source import DirectorySource, Source
from ledger.verify import replay_source
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.messages import RecoveryRequest
from wire.sealing import hpke_seal, recovery_input, seed_info, sign_recovery
from wire.statement import Statement, Unverified


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A ledger that may be given its seed."""

    state: State
    head: Head
    root_ca: bytes


def judge_offered(
    folder: Path,
    unverified: Unverified,
    manifest: Manifest,
    remembered: Head | None,
    *,
    address: str,
    manifest_name: str,
) -> Offered:
    """Replay the ledger in *folder*; demand what DESIGN's recovery demands.

    Raises:
        RefusedError: the draft is of no open epoch, the replay gives another head than was attested, or the manifest in
            force is not *manifest*.
        HeadError: it does not extend the remembered head.
        LedgerError, CoordinatorError: it breaks a rule.
    """
    source = CheckedSource(DirectorySource(folder))
    verified = replay_source(source, visit=lambda _: None, workers=2)
    state = state_at(source, verified.size)
    checkpoint = open_draft(unverified.draft.encode(), state)
    attested = (unverified.origin, unverified.ledger_key, unverified.size, unverified.root)
    key = VerifierKey.parse(state.verifier_keys[0]).public
    replayed = (state.origin, key.hex(), verified.size, verified.root.hex())
    if attested != replayed or (checkpoint.size, checkpoint.root) != (verified.size, verified.root):
        raise RefusedError(
            f"the ledger of {address} is not what its Coordinator attested",
            details=(f"attested {attested}", f"replayed {replayed}"),
        )
    head = Head(
        origin=state.origin,
        ledger_key=key,
        size=verified.size,
        root=verified.root,
        checkpoint=unverified.draft.encode(),
    )
    check_extends(remembered, head, lambda size: root_at(source, size), address=address)
    _demand_manifest(source, state, manifest, address=address, name=manifest_name)
    root_ca = source.blob(state.root_ca)
    if root_ca is None:
        raise RefusedError(f"the root CA {state.root_ca.hex()} is missing in the ledger of {address}")
    return Offered(state=state, head=head, root_ca=root_ca)


def open_draft(raw: bytes, state: State) -> Checkpoint:
    """Return the checkpoint in the note *raw*, signed by an epoch that is open at its size.

    A finished note is not asked for: the ledger key that would sign it comes only with the seed.

    Raises:
        RefusedError: no such epoch signed it.
    """
    keys = [epoch_verifier_key(state, epoch) for epoch in state.open_epochs]
    try:
        text, signed = open_note(raw, keys)
        if not signed:
            raise RefusedError("no epoch that is open in this ledger signed its last checkpoint: its end was exchanged")
        return parse_checkpoint(text)
    except LedgerError as error:
        raise RefusedError(f"the last checkpoint of the ledger is not signed by one of its epochs: {error}") from error


def sealed_request(
    seed: Seed, key: rsa.RSAPrivateKey, statement: Statement, statement_raw: bytes, unverified: Unverified
) -> RecoveryRequest:
    """Return the request that gives *seed* to the Coordinator of *statement*, for that ledger and no other."""
    hashed, root = hashlib.sha256(statement_raw).digest(), bytes.fromhex(unverified.root)
    info = seed_info(unverified.origin, hashed, unverified.size, root)
    sealed = hpke_seal(seed.pack(), bytes.fromhex(statement.hpke_public_key), info)
    message = recovery_input(unverified.origin, hashed, unverified.size, root, hashlib.sha256(sealed).digest())
    return RecoveryRequest(
        sealed=sealed,
        statement=hashed.hex(),
        size=unverified.size,
        root=unverified.root,
        share_owner=hashlib.sha256(pkcs1(key.public_key())).hexdigest(),
        signature=sign_recovery(key, message),
    )


def _demand_manifest(source: Source, state: State, manifest: Manifest, *, address: str, name: str) -> None:
    current = state.current
    raw = None if current is None else source.blob(current.manifest)
    if raw is None:
        raise RefusedError(f"the ledger of {address} has no manifest in force")
    lines = differences(manifest, parse_manifest(raw), mine_name=name, theirs_name="the manifest in force")
    if lines:
        raise RefusedError(f"the manifest in force in the ledger of {address} is not {name}", details=lines)
