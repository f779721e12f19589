"""The keys for offline checks of one ledger: its own, and each judged epoch's with its sizes. Judges no epoch.

Whoever verified the ledger writes them down (``verify/ledger.vkeys``); whoever trusts that file can check checkpoints
and receipts with it alone, and no Coordinator needs to be reachable. docs/formats.md, section 12.
"""

from dataclasses import dataclass
from typing import Final

from ledger.checkpoint import Checkpoint, epoch_name, open_finished_by
from ledger.errors import NoteError
from ledger.note import KeyType, VerifierKey

MAX_KEYRING_BYTES: Final = 4_000_000
_MAX_EPOCHS: Final = 20_000
_COMMENT: Final = (
    "# the ledger's keys, then each Coordinator's with the first and the last size of the ledger for which it signs\n"
)


class KeyringError(NoteError):
    """A file of verifier keys is malformed; the message names the line."""

    code = "bad_keyring"


@dataclass(frozen=True, slots=True)
class EpochKey:
    """A judged epoch's key and the sizes for which it signs; *last* is None while it is open."""

    key: VerifierKey
    first: int
    last: int | None

    def signs(self, size: int) -> bool:
        """Whether a checkpoint of *size*, or the entry that makes the ledger that long, can be this epoch's."""
        return self.first <= size and (self.last is None or size <= self.last)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one ledger. *more* are its further keys (ML-DSA-44), which are not asked for."""

    ledger: VerifierKey
    more: tuple[VerifierKey, ...]
    epochs: tuple[EpochKey, ...]

    def text(self) -> str:
        """The file."""
        lines = [f"ledger {key}\n" for key in (self.ledger, *self.more)]
        lines += [f"epoch {each.first} {'-' if each.last is None else each.last} {each.key}\n" for each in self.epochs]
        return _COMMENT + "".join(lines)

    def open_finished(self, raw: bytes) -> tuple[Checkpoint, EpochKey]:
        """The checkpoint in *raw*, signed by the ledger and by an epoch that was open at its size. Raises NoteError."""
        checkpoint, signer = open_finished_by(
            raw, ledger_key=self.ledger, epoch_keys=[each.key for each in self.epochs]
        )
        for each in self.epochs:
            if each.key == signer and each.signs(checkpoint.size):
                return checkpoint, each
        raise NoteError(f"the checkpoint of size {checkpoint.size} is signed by an epoch that was not open then")

    def epoch(self, public: bytes, size: int) -> EpochKey | None:
        """The epoch with this raw key, if it was open when the ledger had *size*."""
        return next((each for each in self.epochs if each.key.public == public and each.signs(size)), None)


def parse_keyring(raw: bytes) -> Keyring:
    """Read what text() wrote; comments and empty lines are passed over. Raises KeyringError."""
    if len(raw) > MAX_KEYRING_BYTES:
        raise KeyringError(f"the file of verifier keys has {len(raw)} bytes, at most {MAX_KEYRING_BYTES} are read")
    own: list[VerifierKey] = []
    epochs: list[EpochKey] = []
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise KeyringError("the file of verifier keys is not UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            match line.split(" "):
                case [""]:
                    continue
                case [first, *_] if first.startswith("#"):
                    continue
                case ["ledger", key]:
                    own.append(VerifierKey.parse(key))
                case ["epoch", first, last, key] if len(epochs) < _MAX_EPOCHS:
                    bound = None if last == "-" else _size(last)
                    epochs.append(EpochKey(VerifierKey.parse(key), _size(first), bound))
                case _:
                    _refuse("a line is `ledger KEY` or `epoch FIRST LAST KEY`")
        except NoteError as error:
            raise KeyringError(f"line {number} of the verifier keys: {error}") from None
    if not own or own[0].type is not KeyType.ED25519 or any(key.name != own[0].name for key in own):
        raise KeyringError("the first ledger line names its Ed25519 key, and all of them the same ledger")
    wanted = epoch_name(own[0].name)
    if any(each.key.name != wanted or each.key.type is not KeyType.ED25519 for each in epochs):
        raise KeyringError(f"every epoch has an Ed25519 key called {wanted}")
    return Keyring(own[0], tuple(own[1:]), tuple(epochs))


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and str(int(text)) == text):
        _refuse("a size is a decimal number")
    return int(text)


def _refuse(why: str) -> None:
    raise KeyringError(why)
