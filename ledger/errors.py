"""What can be wrong with a ledger, a note or a proof; no handling of it.

Every error has a stable ``code`` and a message that says what was seen, what was wanted and what to do.
"""


class LedgerError(Exception):
    """Something about a ledger is not as it must be."""

    code = "ledger_error"


class LedgerContentError(LedgerError):
    """A record breaks a rule of the format. ``seq`` names the first bad one; None where no record can be named."""

    code = "ledger_damaged"

    def __init__(self, seq: int | None, reason: str) -> None:
        """Keep *seq* for programs and *reason* (seen, wanted) for people."""
        super().__init__(f"{'the ledger' if seq is None else f'entry {seq}'}: {reason}")
        self.seq = seq
        self.reason = reason


class CodecError(LedgerContentError):
    """Bytes are not canonical MessagePack (docs/formats.md, section 1), or a value has no canonical form."""

    def __init__(self, reason: str) -> None:
        """A codec sees bytes, not their place: the reader that knows the seq names it."""
        super().__init__(None, reason)


class LedgerEmptyError(LedgerError):
    """The store holds no ledger. One is created by the first accepted manifest, never because a store is empty."""

    code = "ledger_empty"


class HeadMovedError(LedgerError):
    """The store does not end where the batch continues: another writer was faster, or the storage went back."""

    code = "head_moved"


class LedgerForkedError(LedgerError):
    """The store no longer extends what this process has confirmed. The writer stops for good."""

    code = "ledger_forked"


class StoreError(LedgerError):
    """The store failed; whether the batch was recorded is known only after it is read again."""

    code = "store_failed"


class StoreFullError(StoreError):
    """No space is left for the batch; nothing of it was recorded."""

    code = "ledger_full"


class WriterClosedError(LedgerError):
    """The writer is shutting down (or never ran) and takes no command."""

    code = "shutting_down"


class NoteError(LedgerError):
    """A signed note, verifier key or checkpoint is malformed or not signed as demanded."""

    code = "note_refused"


class ProofError(LedgerError):
    """A Merkle proof does not prove what it is offered for, or is malformed."""

    code = "proof_refused"
