"""Judging the ledger that a restarted Coordinator found, and sealing the seed for it; nothing is fetched here.

Such a Coordinator has no seed, so its ledger ends in a draft: a checkpoint that only the last epoch signed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from audit.replay import replay
from cli.differences import differences
from cli.errors import RefusedError, counted
from cli.heads import Head, check_extends
from cli.keys import pkcs1
from cli.known_heads import KnownHead, contradicted, refusal
from cli.verifying import root_at
from coordinator.keys import Seed
from coordinator.state import State
from ledger.checked import CheckedSource
from ledger.note import VerifierKey
from ledger.source import DirectorySource, Source
from manifest.model import Manifest
from wire.messages import AcceptedFork, RecoveryRequest
from wire.messages import Head as MessageHead
from wire.sealing import fork_input, hpke_seal, recovery_input, seed_info, sign_recovery
from wire.statement import Statement, Unverified


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A ledger that may be given its seed."""

    state: State
    head: Head
    root_ca: bytes
    lost: tuple[KnownHead, ...] = ()
    """Known heads that it does not extend; none unless that was accepted."""


def judge_offered(
    folder: Path,
    unverified: Unverified,
    manifest: Manifest,
    remembered: Head | None,
    *,
    address: str,
    manifest_name: str,
    known: Sequence[KnownHead] = (),
    accept_fork: bool = False,
) -> Offered:
    """Replay the ledger in *folder*; demand what DESIGN's recovery demands.

    Raises:
        RefusedError: the draft is of no open epoch, the replay gives another head than was attested, or the manifest in
            force is not *manifest*.
        HeadError: it does not extend the remembered head.
        LedgerError, CoordinatorError: it breaks a rule.
    """
    source = CheckedSource(DirectorySource(folder))
    report = replay(source, draft=True)
    if not report.ok:
        raise RefusedError(
            f"the ledger of {address} does not pass: {counted(len(report.problems), 'finding')}",
            details=tuple(item.text for item in report.problems),
        )
    state, offered = report.state, report.checkpoint
    attested = (unverified.origin, unverified.ledger_key, unverified.size, unverified.root)
    key = VerifierKey.parse(state.verifier_keys[0]).public
    replayed = (state.origin, key.hex(), offered.size, offered.root.hex())
    if attested != replayed:
        raise RefusedError(
            f"the ledger of {address} is not what its Coordinator attested",
            details=(f"attested {attested}", f"replayed {replayed}"),
        )
    head = Head(
        origin=state.origin,
        ledger_key=key,
        size=offered.size,
        root=offered.root,
        checkpoint=unverified.draft.encode(),
    )
    lost = _contradicted(source, head, remembered, known, address=address, accept=accept_fork)
    lines = differences(
        manifest, report.manifests[-1].manifest, mine_name=manifest_name, theirs_name="the manifest in force"
    )
    if lines:
        raise RefusedError(f"the manifest in force in the ledger of {address} is not {manifest_name}", details=lines)
    return Offered(state=state, head=head, root_ca=report.root_ca, lost=lost)


def _contradicted(
    source: Source, head: Head, remembered: Head | None, known: Sequence[KnownHead], *, address: str, accept: bool
) -> tuple[KnownHead, ...]:
    """Demand that the ledger extends every known head, or say which ones it does not."""

    def root(size: int) -> bytes:
        return root_at(source, size)

    if remembered is not None and accept and remembered.origin == head.origin:
        known = (*known, KnownHead(size=remembered.size, root=remembered.root, source="remembered here"))
    else:
        check_extends(remembered, head, root, address=address)
    lost = contradicted(known, head, root)
    if lost and not accept:
        raise refusal(lost, head, address=address)
    return lost


def sealed_request(
    seed: Seed,
    key: rsa.RSAPrivateKey,
    statement: Statement,
    statement_raw: bytes,
    unverified: Unverified,
    *,
    now: datetime,
    lost: Sequence[KnownHead] = (),
) -> RecoveryRequest:
    """Return the request that gives *seed* to the Coordinator of *statement*, for that ledger and no other.

    The heads *lost*, which that ledger does not extend, are signed too, and will stand in it for ever.
    """
    hashed, root = hashlib.sha256(statement_raw).digest(), bytes.fromhex(unverified.root)
    info = seed_info(unverified.origin, hashed, unverified.size, root)
    sealed = hpke_seal(seed.pack(), bytes.fromhex(statement.hpke_public_key), info)
    sealed_sha256 = hashlib.sha256(sealed).digest()
    message = recovery_input(unverified.origin, hashed, unverified.size, root, sealed_sha256)
    heads = sorted({(head.size, head.root) for head in lost})
    fork = None
    if heads:
        signature = sign_recovery(key, fork_input(unverified.origin, hashed, sealed_sha256, heads))
        named = tuple(MessageHead(size=size, root=each.hex()) for size, each in heads)
        fork = AcceptedFork(heads=named, signature=signature)
    return RecoveryRequest(
        sealed=sealed,
        statement=hashed.hex(),
        size=unverified.size,
        root=unverified.root,
        share_owner=hashlib.sha256(pkcs1(key.public_key())).hexdigest(),
        signature=sign_recovery(key, message),
        accepted_fork=fork,
        owner_time_ms=round(now.timestamp() * 1000),
    )
