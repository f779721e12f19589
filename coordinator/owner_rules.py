"""What owners may do to a recorded ledger: set a manifest, bring back the seed, accept a fork. Each act is signed."""

from attestation.rulebook import newest
from coordinator.ca_rules import CaRules
from coordinator.documents import Documents
from coordinator.epoch_rules import EpochRules
from coordinator.events import ForkAccepted, LedgerRecovered, ManifestSet
from coordinator.keys import sha256
from coordinator.refusals import RuleBrokenError
from coordinator.state import State
from ledger.entry import Entry
from manifest.authorise import (
    AuthorisationError,
    Signature,
    check_successor,
    genesis_previous,
    transition,
    verify_owner,
)
from wire.sealing import fork_input, recovery_input, signed_by_owner


class OwnerRules:
    """Judges what workload owners and seed share owners had recorded."""

    def __init__(self, documents: Documents, epochs: EpochRules, authorities: CaRules) -> None:
        self._documents = documents
        self._epochs = epochs
        self._ca = authorities

    def manifest_set(self, state: State, entry: Entry, event: ManifestSet) -> None:
        """A manifest comes into force: by an owner, after the one before, with a CA, closing whom it excludes."""
        seq, current = entry.body.seq, state.current
        in_force = self._documents.manifest(current.manifest, seq=seq) if current else None
        manifest = self._documents.manifest(event.manifest, seq=seq)
        previous = current.transition if current else genesis_previous(state.origin)
        if event.generation != state.generation + 1:
            raise RuleBrokenError(seq, "generation", seen=str(event.generation), wanted=str(state.generation + 1))
        if event.previous != previous:
            raise RuleBrokenError(
                seq, "the transition follows another one", seen=event.previous.hex(), wanted=previous.hex()
            )
        if event.transition != transition(event.manifest, previous):
            raise RuleBrokenError(seq, "the transition is not of this manifest", seen=event.transition.hex())
        if entry.body.request_id != event.transition:
            raise RuleBrokenError(seq, "the request id is the transition", seen=entry.body.request_id.hex())
        try:
            verify_owner(
                [Signature(spki, signature) for spki, signature in event.signatures],
                manifest_in_force=in_force,
                offered=manifest,
                origin=state.origin,
                transition_hash=event.transition,
            )
            if in_force is not None:
                check_successor(in_force, manifest)
        except AuthorisationError as error:
            raise RuleBrokenError(seq, "the manifest was not authorised", seen=str(error)) from None
        if in_force is None:
            owners = tuple(sha256(key) for key in manifest.seedshare_owner_pub_keys)
            if tuple(owner for owner, _ in state.seed_shares) != owners:
                raise RuleBrokenError(seq, "the seed shares are not the manifest's owners'")
        self._ca.mesh(state, entry, event)
        writer = state.open_epoch(entry.body.signer)
        rules = newest() if writer is None else writer.event.rules  # Of the Coordinator that judged them then.
        closed = tuple(
            epoch.key for epoch in state.open_epochs if not self._epochs.still_accepts(manifest, epoch, seq, rules)
        )
        if entry.body.signer in closed:
            raise RuleBrokenError(seq, "the manifest does not accept the epoch that set it")
        if event.closed_epochs != closed:
            raise RuleBrokenError(seq, "the epochs closed are not those that the manifest excludes")

    def recovered(self, state: State, entry: Entry, event: LedgerRecovered) -> None:
        """A share owner brought the seed to a new epoch, for a head that he knew."""
        seq = entry.body.seq
        opened = state.epochs[-1] if state.epochs else None
        if opened is None or opened.seq != seq - 1 or opened.key != event.epoch_key or entry.body.signer != opened.key:
            raise RuleBrokenError(seq, "a recovery follows the opening of its own epoch")
        closed = tuple(epoch.key for epoch in state.open_epochs if epoch.key != event.epoch_key)
        if event.closed_epochs != closed:
            raise RuleBrokenError(seq, "a recovery closes every earlier epoch")
        if event.size > opened.seq:
            raise RuleBrokenError(
                seq,
                "the head known at recovery is longer than the ledger",
                seen=str(event.size),
                wanted=f"<= {opened.seq}",
            )
        if state.current is None:
            raise RuleBrokenError(seq, "a ledger without manifest cannot be recovered")
        manifest = self._documents.manifest(state.current.manifest, seq=seq)
        owners = {sha256(key): key for key in manifest.seedshare_owner_pub_keys}
        owner = owners.get(event.share_owner)
        if owner is None:
            raise RuleBrokenError(seq, "the recovery is by no seed share owner", seen=event.share_owner.hex())
        # The request id of a recovery is the SHA-256 of the sealed seed.
        message = recovery_input(state.origin, event.statement, event.size, event.root, entry.body.request_id)
        if not signed_by_owner(owner, event.signature, message):
            raise RuleBrokenError(seq, "the share owner's signature is wrong")

    def fork_accepted(self, state: State, entry: Entry, event: ForkAccepted) -> None:
        """The owner who recovered continues although he knew other heads."""
        seq, recovery = entry.body.seq, state.recovery
        if recovery is None or recovery.seq != seq - 1 or state.epochs[-1].key != entry.body.signer:
            raise RuleBrokenError(seq, "a fork is accepted by the recovery right before")
        if event.share_owner != recovery.event.share_owner:
            raise RuleBrokenError(seq, "a fork is accepted by who recovered", seen=event.share_owner.hex())
        if not event.heads or list(event.heads) != sorted(set(event.heads)):
            raise RuleBrokenError(seq, "the heads of an accepted fork are some, in order, each once")
        current = state.current
        if current is None:
            raise RuleBrokenError(seq, "a ledger without manifest cannot be recovered")
        manifest = self._documents.manifest(current.manifest, seq=seq)
        owners = {sha256(key): key for key in manifest.seedshare_owner_pub_keys}
        message = fork_input(state.origin, recovery.event.statement, entry.body.request_id, event.heads)
        if event.share_owner not in owners or not signed_by_owner(owners[event.share_owner], event.signature, message):
            raise RuleBrokenError(seq, "the share owner's signature over the accepted fork is wrong")
