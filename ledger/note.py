"""C2SP signed notes: keys, signing, opening. What a note's text means is for others (checkpoint.py).

Rules (c2sp.org/signed-note): UTF-8 without control characters but newline; the text ends in a newline, a blank line
follows, then signature lines. A line of an unknown key is ignored, a bad line of a known key spoils the note, and at
least one known key must have signed. As other implementations do, at most 100 lines and 1 000 000 bytes are read.

Ed25519 signatures are accepted as described in ledger/entry.py. Nothing is learnt from who wrote a key: a verifier gets
its keys from someone it trusts.
"""

import base64
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, assert_never

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ledger import base64text
from ledger.errors import NoteError

MAX_NOTE_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
_DASH: Final = "\N{EM DASH} "
_MAX_TIME_S: Final = 2**63 - 1


class KeyType(IntEnum):
    """The signature types of c2sp.org/signed-note that are verified here."""

    ED25519 = 0x01
    ECDSA = 0x02
    ED25519_COSIGNATURE = 0x04
    RFC6962 = 0x05
    MLDSA44_COSIGNATURE = 0x06


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named public key: raw bytes for Ed25519 and ML-DSA-44, SPKI DER for ECDSA and RFC 6962."""

    name: str
    type: KeyType
    public: bytes

    def __post_init__(self) -> None:
        """A key that could verify nothing is refused where it is made. Raises NoteError."""
        _check_name(self.name)
        _load(self.type, self.public)

    @classmethod
    def parse(cls, line: str) -> "VerifierKey":
        """Read ``name+hash+base64(type key)``. Raises NoteError."""
        name, _, rest = line.partition("+")
        key_hash, plus, encoded = rest.partition("+")
        if not plus or len(line) > 8192:
            raise NoteError("a verifier key is name+hash+key; this line is something else")
        if len(key_hash) != 8 or any(digit not in "0123456789abcdef" for digit in key_hash):
            raise NoteError("the hash of a verifier key is eight hexadecimal digits")
        raw = _decode(encoded, "the key")
        try:
            key = cls(name, KeyType(raw[0]), raw[1:])
        except (IndexError, ValueError) as error:
            raise NoteError("the verifier key has a type that is not known here") from error
        if key.key_id.hex() != key_hash:
            raise NoteError(f"the verifier key of {name} has hash {key_hash}, its bytes give {key.key_id.hex()}")
        return key

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key in a signature line. c2sp.org/signed-note, Signature types."""
        if self.type is KeyType.ECDSA:
            return hashlib.sha256(self.public).digest()[:4]
        public = hashlib.sha256(self.public).digest() if self.type is KeyType.RFC6962 else self.public
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + public).digest()[:4]

    def __str__(self) -> str:
        encoded = base64text.encode(bytes([self.type]) + self.public)
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verify(self, text: str, signature: bytes) -> None:
        """Demand that *signature* (without the key id) is this key's over the note text. Raises NoteError."""
        try:
            _verify(self, text, signature)
        except (InvalidSignature, ValueError, struct.error) as error:
            raise NoteError(f"the signature of {self.name} does not verify: the note was changed") from error


def ed25519_key(name: str, public: bytes) -> VerifierKey:
    """The verifier key of a raw Ed25519 public key."""
    return VerifierKey(name, KeyType.ED25519, public)


def mldsa44_key(name: str, public: bytes) -> VerifierKey:
    """The verifier key of a raw ML-DSA-44 public key (timestamped (sub)tree cosignatures)."""
    return VerifierKey(name, KeyType.MLDSA44_COSIGNATURE, public)


class NoteSigner:
    """An Ed25519 key with the name under which it signs notes. Shows no key when printed."""

    __slots__ = ("_key", "_prefix", "key")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        """Raises NoteError for a name that no note can hold."""
        self._key = private
        self.key = ed25519_key(name, private.public_key().public_bytes_raw())
        self._prefix = self.key.key_id

    @classmethod
    def parse(cls, line: str) -> "NoteSigner":
        """Read Go's ``PRIVATE+KEY+name+hash+base64(type seed)``. Raises NoteError, which never shows the line."""
        parts = line.split("+", 4)
        if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
            raise NoteError("a private key of notes begins with PRIVATE+KEY+")
        raw = _decode(parts[4], "the private key")
        if len(raw) != 33 or raw[0] != KeyType.ED25519:
            raise NoteError("only Ed25519 private keys of 32 bytes are read")
        signer = cls(parts[2], Ed25519PrivateKey.from_private_bytes(raw[1:]))
        if signer.key.key_id.hex() != parts[3]:
            raise NoteError(f"the private key of {parts[2]} does not match its hash {parts[3]}")
        return signer

    def line(self, text: bytes) -> str:
        """The signature line over the note text, newline included."""
        signature = base64text.encode(self._prefix + self._key.sign(text))
        return f"{_DASH}{self.key.name} {signature}\n"


class TimedNoteSigner:
    """An Ed25519 key that cosigns checkpoints (type 04): its signature holds the time. Shows no key when printed."""

    __slots__ = ("_key", "key")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        """Raises NoteError for a name that no note can hold."""
        self._key = private
        self.key = VerifierKey(name, KeyType.ED25519_COSIGNATURE, private.public_key().public_bytes_raw())

    def line(self, text: bytes, unix_s: int) -> str:
        """The cosignature line over a checkpoint's text at *unix_s* (seconds), newline included."""
        signature = struct.pack(">Q", unix_s) + self._key.sign(b"cosignature/v1\ntime %d\n" % unix_s + text)
        return f"{_DASH}{self.key.name} {base64text.encode(self.key.key_id + signature)}\n"


class MLDSASigner:
    """An ML-DSA-44 key that cosigns checkpoints (type 06): public half and verifier key. Shows no key when printed."""

    __slots__ = ("_key", "key")

    def __init__(self, name: str, private: MLDSA44PrivateKey) -> None:
        """Raises NoteError for a name that no note can hold."""
        self._key = private
        self.key = mldsa44_key(name, private.public_key().public_bytes_raw())

    def line(self, text: bytes, unix_s: int) -> str:
        """The cosignature line over a checkpoint's text at *unix_s* (seconds), newline included."""
        message = _subtree_message(self.key.name, unix_s, text.decode())
        signature = struct.pack(">Q", unix_s) + self._key.sign(message)
        return f"{_DASH}{self.key.name} {base64text.encode(self.key.key_id + signature)}\n"


def sign_note(text: str, signers: Sequence[NoteSigner]) -> str:
    """The note of *text* with a line for each signer, in their order. Raises NoteError for a text no note can hold."""
    _check_text(text)
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise NoteError("the text of a note is UTF-8; this one has a lone surrogate") from error
    return text + "\n" + "".join(signer.line(raw) for signer in signers)


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One line below a note, not yet verified."""

    name: str
    key_id: bytes
    signature: bytes

    def text(self) -> str:
        """The line, newline included."""
        return f"{_DASH}{self.name} {base64text.encode(self.key_id + self.signature)}\n"


def note_text(note: str) -> str:
    """The signed text of a note of ours: everything up to its blank line, which no text of ours holds another of."""
    return note.partition("\n\n")[0] + "\n"


def with_lines(note: str, lines: str, *, limit: int) -> str:
    """*note* with further signature *lines*; a line of a (name, key id) that it has replaces that line.

    At most *limit* bytes: lines that no longer fit are left out, those of *note* itself never. Raises NoteError.
    """
    text, first = split_note(note.encode())
    _, more = split_note(f"{text}\n{lines}".encode()) if lines else (text, ())
    kept = {(line.name, line.key_id): line.text() for line in first}
    size = len(note.encode())
    for line in more:
        size += len(line.text().encode()) - len(kept.get((line.name, line.key_id), "").encode())
        if size > limit:
            break
        kept[line.name, line.key_id] = line.text()
    return f"{text}\n" + "".join(kept.values())


def split_note(raw: bytes) -> tuple[str, tuple[SignatureLine, ...]]:
    """Text and signature lines of a well-formed note; nothing is verified. Raises NoteError."""
    if len(raw) > MAX_NOTE_BYTES:
        raise NoteError(f"the note has {len(raw)} bytes, at most {MAX_NOTE_BYTES} are read")
    try:
        note = raw.decode()
    except UnicodeDecodeError as error:
        raise NoteError("a note is UTF-8; these bytes are not") from error
    at = note.rfind("\n\n")
    if at < 0 or not note.endswith("\n"):
        raise NoteError("a note is a text, a blank line and signature lines; one of them is missing")
    text, block = note[: at + 1], note[at + 2 :]
    _check_text(text)
    lines = block.split("\n")[:-1]
    if not lines:
        raise NoteError("the note has no signature line")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"the note has {len(lines)} signature lines, at most {MAX_SIGNATURES} are read")
    return text, tuple(_signature_line(line) for line in lines)


def open_note(raw: bytes, keys: Iterable[VerifierKey]) -> tuple[str, list[VerifierKey]]:
    """The text of a note and the *keys* that signed it, in the order of their lines; a second line of one is skipped.

    Raises NoteError if it is malformed, a known key's signature is bad, or no known key has signed.
    """
    text, lines = split_note(raw)
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise NoteError(f"two of the given keys are both called {key.name} {key.key_id.hex()}")
    verified: list[VerifierKey] = []
    for line in lines:
        signer = known.get((line.name, line.key_id))
        if signer is None or signer in verified:
            continue
        signer.verify(text, line.signature)
        verified.append(signer)
    if not verified:
        names = ", ".join(dict.fromkeys(line.name for line in lines))
        raise NoteError(f"no key that is known here has signed the note; it is signed by {names[:500]}")
    return text, verified


def cosignature_time(signature: bytes) -> int:
    """Unix seconds in a cosignature (types 04 and 06), key id removed. Raises NoteError."""
    if len(signature) not in {8 + 64, 8 + 2420}:
        raise NoteError("this is no timestamped signature")
    (seconds,) = struct.unpack_from(">Q", signature)
    if seconds > _MAX_TIME_S:
        raise NoteError("the time of the cosignature is beyond 2^63-1 seconds")
    return int(seconds)


def _verify(key: VerifierKey, text: str, signature: bytes) -> None:
    raw = text.encode()
    match key.type, _load(key.type, key.public):
        case KeyType.ED25519, Ed25519PublicKey() as public:
            public.verify(signature, raw)
        case KeyType.ED25519_COSIGNATURE, Ed25519PublicKey() as public:
            seconds = cosignature_time(signature)
            public.verify(signature[8:], b"cosignature/v1\ntime %d\n" % seconds + raw)
        case KeyType.ECDSA, ec.EllipticCurvePublicKey() as public:
            public.verify(signature, raw, ec.ECDSA(hashes.SHA256()))
        case KeyType.RFC6962, ec.EllipticCurvePublicKey() as public:
            public.verify(*_tree_head(text, signature), ec.ECDSA(hashes.SHA256()))
        case KeyType.MLDSA44_COSIGNATURE, MLDSA44PublicKey() as public:
            public.verify(signature[8:], _subtree_message(key.name, cosignature_time(signature), text))
        case _:
            raise ValueError("the key is of another type than its bytes")


def _load(kind: KeyType, public: bytes) -> Ed25519PublicKey | ec.EllipticCurvePublicKey | MLDSA44PublicKey:
    try:
        match kind:
            case KeyType.ED25519 | KeyType.ED25519_COSIGNATURE:
                return Ed25519PublicKey.from_public_bytes(public)
            case KeyType.MLDSA44_COSIGNATURE:
                return MLDSA44PublicKey.from_public_bytes(public)
            case KeyType.ECDSA | KeyType.RFC6962:
                loaded = load_der_public_key(public)
            case _:
                assert_never(kind)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NoteError(f"the bytes of the verifier key are no {kind.name} key") from error
    if not isinstance(loaded, ec.EllipticCurvePublicKey):
        raise NoteError("the verifier key is not an elliptic curve key")
    return loaded


def _tree_head(text: str, signature: bytes) -> tuple[bytes, bytes]:
    """Signature and message of an RFC 6962 TreeHeadSignature (3.5) carried in a checkpoint."""
    size, root = _size_and_root(text)
    timestamp, hash_algorithm, signature_algorithm, length = struct.unpack_from(">QBBH", signature)
    if (hash_algorithm, signature_algorithm) != (4, 3) or length != len(signature) - 12:
        raise ValueError("not SHA-256 with ECDSA")
    return signature[12:], struct.pack(">BBQQ", 0, 1, timestamp, size) + root


def _subtree_message(name: str, seconds: int, text: str) -> bytes:
    """What an ML-DSA-44 cosigner signs for a whole tree: c2sp.org/tlog-cosignature, type 06.

    It does not cover extension lines, so a checkpoint that has some is neither signed nor believed.
    """
    size, root = _size_and_root(text)
    if text.count("\n") != 3:
        raise ValueError("an ML-DSA-44 cosignature covers no extension lines")
    cosigner, origin = name.encode(), text.split("\n", 1)[0].encode()
    if max(len(cosigner), len(origin)) > 255:
        raise ValueError("a name is longer than 255 bytes")
    head = b"subtree/v1\n\x00" + bytes([len(cosigner)]) + cosigner + struct.pack(">Q", seconds)
    return head + bytes([len(origin)]) + origin + struct.pack(">QQ", 0, size) + root


def _size_and_root(text: str) -> tuple[int, bytes]:
    """Second and third line of a checkpoint; its own module, which imports this one, reads it in full."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[1].isascii() or not lines[1].isdigit() or len(lines[1]) > 20:
        raise ValueError("not a checkpoint")
    root = base64.b64decode(lines[2], validate=True)
    if len(root) != 32:
        raise ValueError("not a checkpoint")
    return int(lines[1]), root


def _signature_line(line: str) -> SignatureLine:
    if not line.startswith(_DASH):
        raise NoteError("a signature line begins with an em dash and a space; this one does not")
    name, space, encoded = line[len(_DASH) :].partition(" ")
    if not space:
        raise NoteError("a signature line is dash, name and signature; one is missing")
    _check_name(name)
    raw = _decode(encoded, "a signature")
    if len(raw) < 5:
        raise NoteError("a signature line holds four bytes of key id and a signature; this one is shorter")
    return SignatureLine(name, raw[:4], raw[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() or _is_control(character) for character in name):
        raise NoteError("a key name is not empty and has no space, no plus sign and no control character")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise NoteError("a key name is UTF-8; this one has bytes that are not")


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("the text of a note ends with a newline")
    if any(_is_control(character) and character != "\n" for character in text):
        raise NoteError("a note has no control characters but newlines")


def _is_control(character: str) -> bool:
    return character < " "  # the specification's wording: ASCII below U+0020


def _decode(encoded: str, what: str) -> bytes:
    try:
        return base64text.decode(encoded)
    except ValueError as error:
        raise NoteError(f"{what} {error}") from None
