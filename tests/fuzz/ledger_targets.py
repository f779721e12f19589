"""What is fuzzed of the ledger: notes, checkpoints, tiles, proofs, receipts, entries, events, witnesses' requests."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from coordinator.events import CONTROL_TYPES, EventError, decode_payload
from ledger.checkpoint import read_checkpoint
from ledger.codec import unpack
from ledger.contradiction import EvidenceError, parse_evidence
from ledger.cose import parse_receipt
from ledger.cosigned import Asked, cosigned_by
from ledger.entry import Entry, parse_entry, parse_raw
from ledger.errors import CodecError, LedgerContentError, NoteError, ProofError
from ledger.keyring import Keyring, parse_keyring
from ledger.note import MLDSASigner, TimedNoteSigner, VerifierKey, ed25519_key, open_note
from ledger.policyfile import parse_policy
from ledger.proof import parse_proof
from ledger.shapes import Shapes
from ledger.tiles import decode_bundle, encode_bundle, parse_path
from ledger.twin_epochs import parse_epoch_evidence, verify_epoch_evidence
from ledger.witness import WitnessError, parse_request
from tests.fuzz.targets import Target
from tests.support.ledger_machine import EPOCH, LEDGER, ORIGIN
from tests.support.ledgers import batch_of, chain

_FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
_ENTRIES = chain(3)
_NOTE = batch_of([entry.raw for entry in _ENTRIES], head_hash=_ENTRIES[-1].body_hash).finished or b""
_TYPES = sorted(
    CONTROL_TYPES | {"attestation.accepted", "attestation.refused", "certificate.issued", "secret.released"}
)


def _examples(title: str) -> tuple[bytes, ...]:
    """The examples of docs/formats.md whose name begins with *title*."""
    found = []
    for block in _FORMATS.read_text("utf-8").split("```example ")[1:]:
        name, _, rest = block.partition("\n")
        if name.startswith(title):
            found.append(bytes.fromhex(rest.partition("```")[0].replace("\n", "")))
    return tuple(found)


def _entry(raw: bytes) -> Entry:
    """The strict reader, and the quick one beside it: both take it or neither does."""
    shapes = Shapes()
    for good in _ENTRIES:
        shapes.read(good.raw, good.body.seq)
    for seq in range(len(_ENTRIES)):
        try:
            strict: object = parse_raw(raw, seq)[1:]
        except LedgerContentError as error:
            strict = str(error)
        try:
            quick: object = shapes.read(raw, seq)[6:]
        except LedgerContentError as error:
            quick = str(error)
        assert quick == strict
    return parse_entry(raw)


def _event(raw: bytes) -> None:
    """As the payload of every type."""
    for number, kind in enumerate(_TYPES):
        try:
            decode_payload(kind, raw)
        except (EventError, CodecError):
            if number == len(_TYPES) - 1:
                raise


def _bundle(raw: bytes) -> None:
    for width in (1, 2, 256):
        try:
            entries = decode_bundle(raw, width)
        except ProofError:
            continue
        assert encode_bundle(entries) == raw


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _epoch_fork(raw: bytes) -> None:
    """Read, then judged by keys that know nothing of it: the receipts inside are a stranger's, too."""
    evidence = parse_epoch_evidence(raw)
    with pytest.raises(EvidenceError):
        verify_epoch_evidence(evidence, [Keyring(_KEYS[0], (), ())])


def _cosigned(raw: bytes) -> None:
    """As a checkpoint from elsewhere, and as the ledger's own."""
    own = read_checkpoint(_NOTE)
    lines = [f"witness {each.name[0]} {each}\n" for each in _WITNESSES]
    policy = parse_policy("".join([*lines, "group two 2 a b\nquorum two\n"]).encode())
    for note, others in ((_NOTE, (("elsewhere", raw),)), (raw, ())):
        try:
            cosigned_by(
                Asked(policy, others),
                note,
                ledger_key=_KEYS[0],
                checkpoint=own,
                root_at=lambda size: bytes([size % 256] * 32),
            )
        except NoteError:
            if not others:
                raise


_COSIGNERS: list[MLDSASigner | TimedNoteSigner] = [
    TimedNoteSigner("a.example", EPOCH),
    MLDSASigner("b.example", MLDSA44PrivateKey.from_seed_bytes(bytes(32))),
]
_WITNESSES = [signer.key for signer in _COSIGNERS]
_COSIGNED = (
    _NOTE + "".join(each.line(_NOTE.partition(b"\n\n")[0] + b"\n", 1_790_000_000) for each in _COSIGNERS).encode()
)
_KEYS = [
    ed25519_key(ORIGIN, LEDGER.public_key().public_bytes_raw()),
    ed25519_key(f"{ORIGIN}/epoch", EPOCH.public_key().public_bytes_raw()),
]

LEDGER_TARGETS: dict[str, Target] = {
    "note": Target(
        lambda raw: open_note(raw, _KEYS), (NoteError,), ("tlog/signed-notes/*", "tlog/*/*.note"), (_NOTE,)
    ),
    "verifier_key": Target(lambda raw: VerifierKey.parse(_text(raw)), (NoteError,), (), (str(_KEYS[0]).encode(),)),
    "checkpoint": Target(read_checkpoint, (NoteError,), ("tlog/*/checkpoint*",), (_NOTE,)),
    "tile_path": Target(
        lambda raw: parse_path(_text(raw)), (ProofError,), (),
        (b"tile/0/x001/234.p/5", b"tile/entries/000", b"tile/8/x123/x456/789"),
    ),
    "bundle": Target(_bundle, (), (), (encode_bundle([entry.raw for entry in _ENTRIES[:2]]),)),
    "proof": Target(
        parse_proof, (ProofError,), ("tlog/*/*.tlog-proof",),
        (b"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 2\n" + b"A" * 43 + b"=\n\n" + _NOTE,),
    ),
    "cose_receipt": Target(parse_receipt, (ProofError,), ("tlog/*/*.cose",)),
    "keyring": Target(parse_keyring, (NoteError,), (), (str(_KEYS[0]).encode() + b"\n",)),
    "witness_policy": Target(parse_policy, (NoteError,), (), (b"log " + str(_KEYS[0]).encode() + b"\nquorum none\n",)),
    "fork_evidence": Target(parse_evidence, (EvidenceError, NoteError, ProofError), (), _examples("fork-evidence")),
    "epoch_fork_evidence": Target(_epoch_fork, (EvidenceError,), (), _examples("epoch-fork-evidence")),
    "cosigned": Target(_cosigned, (NoteError,), (), (_COSIGNED, _NOTE)),
    "entry": Target(_entry, (LedgerContentError,), (), (*(entry.raw for entry in _ENTRIES), *_examples("entry"))),
    "canonical": Target(unpack, (CodecError,), (), _examples("canonical")),
    "event": Target(
        _event, (EventError, CodecError), (),
        tuple(example for kind in _TYPES for example in _examples(kind)),
    ),
    "witness_request": Target(
        parse_request, (WitnessError, NoteError, ProofError), ("tlog/*/*request*",),
        (b"old 1\n" + b"A" * 43 + b"=\n\n" + _NOTE,),
    ),
}  # fmt: skip
