"""From a store to a ledger that is believed: everything replayed, by the ledger's rules and by ours."""

import hashlib
import secrets
from dataclasses import dataclass, field

from coordinator.epoch_rules import epoch_verifier_key
from coordinator.events import CONTROL_TYPES
from coordinator.keys import SALT_BYTES, SEED_BYTES, Seed
from coordinator.refusals import RuleBrokenError
from coordinator.rules import Rules
from coordinator.state import EMPTY, State
from ledger.checkpoint import Checkpoint, open_finished_by
from ledger.entry import Entry, parse_entry
from ledger.errors import LedgerContentError, LedgerEmptyError, LedgerError, NoteError
from ledger.log import Log, check_draft, open_log
from ledger.note import VerifierKey
from ledger.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A ledger with its state. A seed only where there is no ledger yet: it is made here and nowhere else.

    ``draft`` is the newest checkpoint as it was verified; empty where there is no ledger.
    """

    log: Log
    state: State
    rules: Rules
    seed: Seed | None = field(repr=False)
    draft: str = ""


def open_ledger(store: Store, *, workers: int = 2) -> Opened:
    """Replay all of *store*, on *workers* threads.

    Raises:
        LedgerContentError: A record, node, blob or checkpoint is not what it must be; the first bad seq is named.
        RuleBrokenError: A record is well formed and signed, and still breaks a rule.
        UnprovenError: A document that a rule needs is gone.
    """
    lookup = _Lookup(store)
    rules = Rules(blob=lookup.blob, body_hash=lookup.body_hash)
    state = EMPTY

    def visit(entry: Entry) -> None:
        nonlocal state
        state = rules.apply(state, entry)
        lookup.passed(entry)

    try:
        log = open_log(store, visit=visit, workers=workers)
    except LedgerEmptyError:
        seed = Seed(secrets.token_bytes(SEED_BYTES), secrets.token_bytes(SALT_BYTES))
        log = Log.empty(store)
        lookup.log = log
        return Opened(log=log, state=EMPTY, rules=rules, seed=seed)
    lookup.log = log
    if state.current is None:
        raise LedgerContentError(state.size, "the first commit is not whole: restore the ledger from an export")
    if state.origin != log.origin:
        raise LedgerContentError(None, f"the checkpoint is of {log.origin}, the ledger was created as {state.origin}")
    lookup.compare()
    rules.complete(state)
    for seq, size, root in rules.head_claims:
        if log.root_at(size) != root:
            raise RuleBrokenError(seq, "the head known at recovery is not one of this ledger", seen=root.hex())
    if log.finished is not None:
        check_finished(log.finished, state)
    return Opened(log=log, state=state, rules=rules, seed=None, draft=verified_draft(log))


def verified_draft(log: Log) -> str:
    """The draft checkpoint of *log*'s head, signed by the epoch that wrote the last entry.

    Raises:
        LedgerContentError: The storage has another one by now.
    """
    draft = log.store.draft()
    check_draft(draft, log.position, log.root, log.entry(log.size - 1).body.signer)
    return "" if draft is None else draft.decode()


def check_finished(finished: str, state: State) -> Checkpoint:
    """Demand both signatures of a finished note, the epoch's one by an epoch that was open at its size.

    Raises:
        LedgerContentError: A signature is missing, wrong, or by an epoch that had no say.
    """
    epochs = {epoch_verifier_key(state, epoch): epoch for epoch in state.epochs}
    try:
        checkpoint, signer = open_finished_by(
            finished.encode(), ledger_key=VerifierKey.parse(state.verifier_keys[0]), epoch_keys=epochs
        )
    except NoteError as error:
        raise LedgerContentError(None, f"the finished checkpoint: {error}") from error
    if not epochs[signer].signs(checkpoint.size):
        raise LedgerContentError(
            None, f"the finished checkpoint of size {checkpoint.size} is signed by an epoch that was not open then"
        )
    return checkpoint


class _Lookup:
    """Blobs and earlier entries for the rules: hashed again, and never taken from beyond what was replayed."""

    def __init__(self, store: Store) -> None:
        self.log: Log | None = None
        self._store = store
        self._control: dict[int, bytes] = {}
        self._read: list[tuple[int, bytes]] = []

    def blob(self, digest: bytes) -> bytes | None:
        data = self._store.blob(digest)
        if data is not None and hashlib.sha256(data).digest() != digest:
            raise LedgerContentError(None, f"the blob {digest.hex()} was changed in the storage")
        return data

    def body_hash(self, seq: int) -> bytes:
        known = self._control.get(seq)
        if known is not None:
            return known
        if self.log is not None:
            return self.log.entry(seq).body_hash
        raws = self._store.entries(seq, seq + 1)
        if not raws:
            raise LedgerContentError(seq, "the record is gone from the storage")
        found = parse_entry(raws[0], seq).body_hash
        self._read.append((seq, found))  # Storage can answer differently each time: compared once the tree is known.
        return found

    def passed(self, entry: Entry) -> None:
        if entry.body.type in CONTROL_TYPES:
            self._control[entry.body.seq] = entry.body_hash

    def compare(self) -> None:
        if self.log is None:
            raise LedgerError("the ledger is not open yet")
        for seq, found in self._read:
            if self.log.entry(seq).body_hash != found:
                raise LedgerContentError(seq, "the storage gave another record a moment ago")
