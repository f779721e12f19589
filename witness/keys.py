"""A witness's own keys: made once, kept in one file of its state directory, never shown. Signs nothing itself."""

import base64
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.errors import LedgerError, NoteError
from ledger.note import KeyType, MLDSASigner, TimedNoteSigner, VerifierKey

FILE: Final = "witness.key"
_PREFIX: Final = "PRIVATE+KEY+"
_LIMIT: Final = 4096


class WitnessKeyError(LedgerError):
    """The file of the witness's keys cannot be read or made; the message never shows it."""

    code = "bad_witness_key"


@dataclass(frozen=True, slots=True)
class WitnessKeys:
    """Two keys of one name. Policies name either: Ed25519 is short, ML-DSA-44 outlives quantum computers."""

    ed25519: TimedNoteSigner = field(repr=False)
    mldsa44: MLDSASigner = field(repr=False)

    @property
    def cosigners(self) -> tuple[TimedNoteSigner, MLDSASigner]:
        """Both, in the order of their lines."""
        return self.ed25519, self.mldsa44

    @property
    def public(self) -> tuple[VerifierKey, VerifierKey]:
        """Their verifier keys, in the same order."""
        return self.ed25519.key, self.mldsa44.key


def make_keys(folder: Path, name: str) -> WitnessKeys:
    """Make new keys in *folder*, mode 0600, durable before they are used.

    Raises:
        WitnessKeyError: *name* is none for notes, the file is there already, or cannot be written.
    """
    seeds = {KeyType.ED25519_COSIGNATURE: secrets.token_bytes(32), KeyType.MLDSA44_COSIGNATURE: secrets.token_bytes(32)}
    try:
        keys = _keys(name, seeds)
    except NoteError as error:
        raise WitnessKeyError(f"{name!r} is no name for a witness: {error}") from None
    text = "".join(
        f"{_PREFIX}{name}+{key.key_id.hex()}+{base64.b64encode(bytes([key.type]) + seeds[key.type]).decode()}\n"
        for key in keys.public
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WitnessKeyError(f"the keys of the witness cannot be written to {folder} ({error.strerror})") from error
    return keys


def read_keys(folder: Path) -> WitnessKeys | None:
    """The keys in *folder*, None if there are none.

    Raises:
        WitnessKeyError: the file is damaged, or others may read it.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            mode, raw = os.fstat(file.fileno()).st_mode, file.read(_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WitnessKeyError(f"{path} cannot be read ({error.strerror})") from error
    if mode & 0o077:
        raise WitnessKeyError(f"others on this machine may read {path}: make new keys elsewhere, or chmod 600 {path}")
    try:
        return _parse(raw.decode())
    except (ValueError, KeyError, NoteError):
        raise WitnessKeyError(f"{path} is damaged: restore it; without it this witness has another identity") from None


def _parse(text: str) -> WitnessKeys:
    seeds: dict[KeyType, bytes] = {}
    ids: list[str] = []
    names: set[str] = set()
    for line in text.splitlines():
        _, _, name, key_id, encoded = line.split("+", 4)
        kind, *seed = base64.b64decode(encoded, validate=True)
        seeds[KeyType(kind)] = bytes(seed)
        names.add(name)
        ids.append(key_id)
    (name,) = names
    keys = _keys(name, seeds)
    if [key.key_id.hex() for key in keys.public] != ids:
        raise ValueError("the seeds give other keys than their ids say")
    return keys


def _keys(name: str, seeds: dict[KeyType, bytes]) -> WitnessKeys:
    return WitnessKeys(
        TimedNoteSigner(name, Ed25519PrivateKey.from_private_bytes(seeds[KeyType.ED25519_COSIGNATURE])),
        MLDSASigner(name, MLDSA44PrivateKey.from_seed_bytes(seeds[KeyType.MLDSA44_COSIGNATURE])),
    )
