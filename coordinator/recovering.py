"""From a seed that a share owner sends to a prepared recovery: opened, matched, its head checked. It writes nothing."""

import datetime as dt
import hashlib
from collections.abc import Callable

from attestation.issuer import Issuer
from coordinator.ca import load, spki, spki_of
from coordinator.commands import RecoverLedger
from coordinator.epoch import Epoch
from coordinator.errors import MalformedRequestError, NotAShareOwnerError, StaleStatementError
from coordinator.events import ForkAccepted, LedgerRecovered
from coordinator.keys import Seed, public_bytes
from coordinator.own_evidence import prove_epoch
from coordinator.refusals import CaMismatchError, HeadMismatchError, SeedMismatchError
from coordinator.setting import verifier_keys
from coordinator.state import State
from ledger.checkpoint import origin_of
from ledger.log import Log
from manifest.model import Manifest
from wire.messages import RecoveryRequest
from wire.sealing import SealingError, fork_input, hpke_open, recovery_input, seed_info, signed_by_owner


def open_seed(
    message: RecoveryRequest,
    *,
    epoch: Epoch,
    state: State,
    manifest: Manifest,
    statement: bytes,
    blob: Callable[[bytes], bytes],
) -> Seed:
    """The seed in *message*, once it is the one of this ledger and comes from a share owner.

    Args:
        message: As received.
        epoch: Whose HPKE key the seed is sealed to.
        state: What the replay gave.
        manifest: The one in force, which names the share owners.
        statement: The bytes that this Coordinator's evidence covers at the moment.
        blob: A document that the ledger names.

    Raises:
        StaleStatementError: It was sealed for another statement.
        NotAShareOwnerError: No share owner of the manifest signed it.
        SeedMismatchError: It does not open, or belongs to another ledger.
        CaMismatchError: It is this ledger's, but the recorded CA is not its.
    """
    statement_sha256 = hashlib.sha256(statement).digest()
    if bytes.fromhex(message.statement) != statement_sha256:
        raise StaleStatementError(seen=message.statement, wanted=statement_sha256.hex())
    root = bytes.fromhex(message.root)
    owners = {hashlib.sha256(owner).digest(): owner for owner in manifest.seedshare_owner_pub_keys}
    owner = owners.get(bytes.fromhex(message.share_owner))
    if owner is None:
        raise NotAShareOwnerError(seen=message.share_owner, wanted=", ".join(sorted(each.hex() for each in owners)))
    signed = recovery_input(state.origin, statement_sha256, message.size, root, hashlib.sha256(message.sealed).digest())
    if not signed_by_owner(owner, message.signature, signed):
        raise NotAShareOwnerError("The recovery's signature is not the share owner's over this seed and this head.")
    try:
        secret = hpke_open(message.sealed, epoch.hpke, seed_info(state.origin, statement_sha256, message.size, root))
        seed = Seed.unpack(secret)
    except (SealingError, ValueError):
        raise SeedMismatchError("The sealed seed does not open for this Coordinator and this head.") from None
    if origin_of(public_bytes(seed.ledger_key())) != state.origin:
        raise SeedMismatchError(wanted=f"the seed of {state.origin}")
    check_derived(seed, state, blob)
    return seed


def check_derived(seed: Seed, state: State, blob: Callable[[bytes], bytes]) -> None:
    """Demand that the ledger's other keys are the seed's, too, before anything is signed in their name.

    Raises:
        CaMismatchError: A CA, or the post-quantum ledger key, is another one.
    """
    current = state.current
    if current is None:
        raise MalformedRequestError("A ledger without manifest cannot be recovered.")
    pairs = [
        ("root CA", state.root_ca, seed.root_ca_key()),
        ("mesh CA", current.mesh_ca, seed.mesh_ca_key(current.transition)),
    ]
    for what, digest, key in pairs:
        recorded = hashlib.sha256(spki(load(blob(digest), what))).hexdigest()
        derived = hashlib.sha256(spki_of(key.public_key())).hexdigest()
        if recorded != derived:
            raise CaMismatchError(
                f"The {what} that the ledger records is not the seed's.", seen=f"key {recorded}", wanted=derived
            )
    if state.verifier_keys != verifier_keys(seed, state.origin):
        raise CaMismatchError("The verifier keys that the ledger records are not the seed's.")


def check_head(ledger: Log, size: int, root: bytes) -> None:
    """Demand that this ledger extends the head that the share owner knows.

    Raises:
        HeadMismatchError: It is shorter, or another one.
    """
    if not 0 < size <= ledger.size:
        raise HeadMismatchError(seen=f"{ledger.size} entries", wanted=f"at least {size}")
    if ledger.root_at(size) != root:
        raise HeadMismatchError(seen=f"another root at size {size}", wanted=root.hex())


async def prepare_recovery(
    message: RecoveryRequest,
    *,
    epoch: Epoch,
    state: State,
    ledger: Log,
    manifest: Manifest,
    issuer: Issuer,
    now_ms: int,
) -> RecoverLedger:
    """The command that opens this epoch on the replayed ledger, anchored at the manifest in force.

    Raises:
        HeadMismatchError: The ledger does not extend the head in *message*.
        CoordinatorExcludedError: The manifest in force does not accept this Coordinator.
    """
    current = state.current
    if current is None:
        raise MalformedRequestError("A ledger without manifest cannot be recovered.")
    root = bytes.fromhex(message.root)
    check_head(ledger, message.size, root)
    fork = _accepted_fork(message, state, ledger, manifest)
    opening = await prove_epoch(
        epoch,
        manifest,
        issuer,
        origin=state.origin,
        anchor_seq=current.seq,
        anchor=ledger.entry(current.seq).body_hash,
        now=dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC),
    )
    recovered = LedgerRecovered(
        epoch_key=epoch.public,
        share_owner=bytes.fromhex(message.share_owner),
        statement=bytes.fromhex(message.statement),
        size=message.size,
        root=root,
        signature=message.signature,
        closed_epochs=(),
    )
    return RecoverLedger(
        generation=state.generation,
        request_id=hashlib.sha256(message.sealed).digest(),
        prepared_ms=now_ms,
        epoch=opening.event,
        recovered=recovered,
        fork=fork,
        blobs=opening.blobs,
    )


def _accepted_fork(message: RecoveryRequest, state: State, ledger: Log, manifest: Manifest) -> ForkAccepted | None:
    """The event that says for ever that this ledger went on although its owner knew another history.

    Raises:
        MalformedRequestError: The ledger does extend one of the heads: nothing is to be accepted about it.
        NotAShareOwnerError: The signature over the heads is not that of the owner who recovers.
    """
    fork = message.accepted_fork
    if fork is None:
        return None
    heads = tuple(sorted({(head.size, bytes.fromhex(head.root)) for head in fork.heads}))
    for size, root in heads:
        if size <= ledger.size and ledger.root_at(size) == root:
            raise MalformedRequestError(
                "This ledger extends a head that is named as forked.", seen=f"size {size}", wanted="contradicted heads"
            )
    owner = bytes.fromhex(message.share_owner)
    key = next(each for each in manifest.seedshare_owner_pub_keys if hashlib.sha256(each).digest() == owner)
    statement, sealed = bytes.fromhex(message.statement), hashlib.sha256(message.sealed).digest()
    signed = fork_input(state.origin, statement, sealed, heads)
    if not signed_by_owner(key, fork.signature, signed):
        raise NotAShareOwnerError("The accepted fork is not signed by the share owner who recovers.")
    return ForkAccepted(share_owner=owner, heads=heads, signature=fork.signature)
