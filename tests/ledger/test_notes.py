"""Notes, keys and checkpoints against everything that other implementations published."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoint as cp
from ledger.checkpoint import Checkpoint, epoch_name, open_finished, open_finished_by, origin_of, parse_checkpoint
from ledger.errors import NoteError
from ledger.note import (
    KeyType,
    MLDSASigner,
    NoteSigner,
    TimedNoteSigner,
    VerifierKey,
    cosignature_time,
    mldsa44_key,
    open_note,
    sign_note,
    split_note,
)


def cases(vectors: Path, name: str) -> Any:
    return json.loads((vectors / "tlog" / "signed-notes" / name).read_text())


def full_note(case: dict[str, Any]) -> bytes | None:
    return case["note"].encode() if "note" in case else None


def test_published_notes_are_judged_as_published(vectors: Path) -> None:
    """We would accept a note that others refuse, or the reverse."""
    judged = 0
    for case in cases(vectors, "notes.json"):
        raw = full_note(case)
        if raw is None:
            continue
        keys = [VerifierKey.parse(line) for line in case["vkeys"]]
        judged += 1
        if not case["ok"]:
            with pytest.raises(NoteError):
                open_note(raw, keys)
            continue
        _, verified = open_note(raw, keys)
        assert [key.name for key in verified] == case["verified"], case["id"]
    assert judged >= 9


def test_published_verifier_keys_are_judged_as_published(vectors: Path) -> None:
    """A key written by another program would not be read, or a damaged one would."""
    for case in cases(vectors, "vkeys.json"):
        # The formats project's ML-DSA key carries an id that breaks the C2SP formula; its own reader does not compare.
        if case["ok"] and case["id"] != "formats-mldsa44-0x06":
            key = VerifierKey.parse(case["vkey"])
            assert str(key) == case["vkey"]
            assert key.type == case["type"]
        else:
            with pytest.raises(NoteError):
                VerifierKey.parse(case["vkey"])


def test_a_key_id_that_breaks_the_formula_is_named(vectors: Path) -> None:
    """A verifier key's typing error would be found only when nothing verifies."""
    line = next(case["vkey"] for case in cases(vectors, "vkeys.json") if case["id"] == "formats-mldsa44-0x06")
    name, _, encoded = line.split("+", 2)
    raw = base64.b64decode(encoded)
    assert str(mldsa44_key(name, raw[1:])).split("+", 2)[2] == encoded
    with pytest.raises(NoteError, match="its bytes give"):
        VerifierKey.parse(line)


def test_gos_private_key_signs_the_published_note(vectors: Path) -> None:
    """Our signatures would not be those of other programs with the same key."""
    case = cases(vectors, "skey.json")
    signer = NoteSigner.parse(case["skey"])
    assert str(signer.key) == case["vkey"]
    assert sign_note(case["text"], [signer]) == case["signed"]
    assert "AYEKFA" not in repr(signer)


def test_published_checkpoints_are_judged_as_published(vectors: Path) -> None:
    """A checkpoint of another log would be read differently."""
    for case in cases(vectors, "checkpoints.json"):
        if case["ok"]:
            parsed = parse_checkpoint(case["text"], extensions=True)
            assert (parsed.origin, parsed.size) == (case["origin"], case["size"])
        else:
            with pytest.raises(NoteError):
                parse_checkpoint(case["text"], extensions=True)


def test_a_static_ct_tree_head_verifies(vectors: Path) -> None:
    """Type 05 signatures of certificate logs would be ignored."""
    case = cases(vectors, "rfc6962-note-0x05.json")
    key = VerifierKey.parse(case["vkey"])
    assert open_note(case["romeCP"].encode(), [key])[1] == [key]
    with pytest.raises(NoteError):
        open_note(case["romeCP"].replace("115474666", "115474667").encode(), [key])


def test_cosignatures_carry_their_time(vectors: Path) -> None:
    """A witness's time would be read from the wrong bytes."""
    case = cases(vectors, "cosignatures.json")
    _, lines = split_note(case["example_checkpoint"].encode())
    assert cosignature_time(lines[1].signature) == 1_679_315_147
    for stamp in case["timestamps"]:
        raw = base64.b64decode(stamp["sig"])
        if "unix" in stamp:
            assert cosignature_time(raw[4:]) == stamp["unix"]
        else:
            with pytest.raises(NoteError):
                cosignature_time(raw[4:])


def test_cosigned_checkpoints_of_a_two_level_log(vectors: Path) -> None:
    """Witnesses' signatures (type 04) would not count."""
    for name in ("witness", "witness2"):
        folder = vectors / "tlog" / "sunlight-skylight" / name
        keys = [
            VerifierKey.parse(line) for line in json.loads((folder / "witness.v0.json").read_text())["verifier_keys"]
        ]
        raw = next(folder.glob("*/checkpoint")).read_bytes()
        text, verified = open_note(raw, keys)
        assert verified == keys
        assert verified[0].type is KeyType.ED25519_COSIGNATURE
        assert parse_checkpoint(text).size == 300


def test_the_published_log_is_signed_at_every_size(vectors: Path) -> None:
    """Checkpoints of an independent log would not verify."""
    folder = vectors / "tlog" / "tessera-log"
    key = VerifierKey.parse((folder / "log.vkey").read_text().strip())
    for size in range(16):
        text, _ = open_note((folder / f"checkpoint.{size}").read_bytes(), [key])
        assert parse_checkpoint(text).size == size


LEDGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
EPOCH = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
ORIGIN = origin_of(LEDGER.public_key().public_bytes_raw())
LEDGER_SIGNER = NoteSigner(ORIGIN, LEDGER)
EPOCH_SIGNER = NoteSigner(epoch_name(ORIGIN), EPOCH)
CHECKPOINT = Checkpoint(ORIGIN, 7, bytes(range(32)))


def finished(*signers: NoteSigner) -> bytes:
    return sign_note(CHECKPOINT.text(), signers).encode()


def test_a_finished_checkpoint_has_both_signatures() -> None:
    """A draft, or a stolen ledger key alone, would pass for a finished checkpoint."""
    keys = {"ledger_key": LEDGER_SIGNER.key, "epoch_keys": [EPOCH_SIGNER.key]}
    raw = finished(LEDGER_SIGNER, EPOCH_SIGNER)
    assert open_finished(raw, ledger_key=LEDGER_SIGNER.key, epoch_keys=[EPOCH_SIGNER.key]) == CHECKPOINT
    _, by = open_finished_by(raw, ledger_key=LEDGER_SIGNER.key, epoch_keys=[EPOCH_SIGNER.key])
    assert by == EPOCH_SIGNER.key
    for bad in (finished(EPOCH_SIGNER), finished(LEDGER_SIGNER), finished(NoteSigner(ORIGIN, EPOCH), EPOCH_SIGNER)):
        with pytest.raises(NoteError):
            open_finished(bad, **keys)  # type: ignore[arg-type]
    with pytest.raises(NoteError):
        open_finished(raw, ledger_key=LEDGER_SIGNER.key, epoch_keys=[])


def test_the_ledger_key_cannot_stand_in_for_an_epoch() -> None:
    """Who holds the seed could add to the ledger without an epoch that was judged."""
    itself = NoteSigner(epoch_name(ORIGIN), LEDGER)
    with pytest.raises(NoteError, match="no epoch"):
        open_finished(finished(LEDGER_SIGNER, itself), ledger_key=LEDGER_SIGNER.key, epoch_keys=[EPOCH_SIGNER.key])


def test_a_checkpoint_of_another_ledger_is_refused() -> None:
    """Two ledgers' checkpoints could be exchanged where one key knows both."""
    other = sign_note(Checkpoint("other", 7, bytes(32)).text(), [LEDGER_SIGNER, EPOCH_SIGNER]).encode()
    with pytest.raises(NoteError, match="the checkpoint is of other"):
        open_finished(other, ledger_key=LEDGER_SIGNER.key, epoch_keys=[EPOCH_SIGNER.key])


@pytest.mark.parametrize(
    "text",
    [
        "o\n01\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "o\n+1\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "o\n²\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "o\n9223372036854775808\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "o\n1\n" + base64.b64encode(bytes(31)).decode() + "\n",
        "o\n1\n" + base64.b64encode(bytes(32)).decode()[:-2] + "B=\n",
        "o\n1\n" + base64.b64encode(bytes(32)).decode() + "\nextension\n",
        "o\n1\n",
        "",
    ],
)
def test_a_checkpoint_has_one_spelling(text: str) -> None:
    """Two texts would name one tree, and comparing bytes would miss it."""
    with pytest.raises(NoteError):
        parse_checkpoint(text)


def test_the_mldsa_cosigner_signs_what_the_specification_says() -> None:
    """The post-quantum line would verify nowhere."""
    signer = MLDSASigner(ORIGIN, MLDSA44PrivateKey.from_seed_bytes(bytes(32)))
    text = CHECKPOINT.text()
    note = text + "\n" + signer.line(text.encode(), 1_790_000_000)
    key = VerifierKey.parse(str(signer.key))
    assert open_note(note.encode(), [key])[1] == [key]
    assert cosignature_time(split_note(note.encode())[1][0].signature) == 1_790_000_000
    with pytest.raises(NoteError):
        open_note(note.replace("\n7\n", "\n8\n").encode(), [key])


def test_an_mldsa_cosignature_is_none_of_a_checkpoint_with_extension_lines() -> None:
    """It does not cover them: whoever stands between could write there what he likes, under a good signature."""
    signer = MLDSASigner(ORIGIN, MLDSA44PrivateKey.from_seed_bytes(bytes(32)))
    text = CHECKPOINT.text()
    line = signer.line(text.encode(), 1_790_000_000)
    with pytest.raises(NoteError, match="does not verify"):
        open_note(f"{text}what nobody signed\n\n{line}".encode(), [signer.key])
    with pytest.raises(ValueError, match="extension"):
        signer.line(f"{text}extension\n".encode(), 1_790_000_000)


@pytest.mark.parametrize("lattice", [False, True], ids=["ed25519", "ml-dsa-44"])
def test_a_cosignature_is_dated_as_every_reader_can_read_it(*, lattice: bool) -> None:
    """Readers with signed 64-bit times refuse it or see one before 1970, and two auditors would disagree."""
    signer = (
        MLDSASigner(ORIGIN, MLDSA44PrivateKey.from_seed_bytes(bytes(32))) if lattice else TimedNoteSigner("w", LEDGER)
    )
    text = CHECKPOINT.text()
    assert open_note(f"{text}\n{signer.line(text.encode(), 2**63 - 1)}".encode(), [signer.key])[1] == [signer.key]
    with pytest.raises(NoteError, match="2\\^63-1 seconds"):
        open_note(f"{text}\n{signer.line(text.encode(), 2**63)}".encode(), [signer.key])


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a\x00b"])
def test_a_name_that_breaks_the_line_is_refused(name: str) -> None:
    """A key's name could forge the line of another."""
    with pytest.raises(NoteError):
        NoteSigner(name, LEDGER)


@pytest.mark.parametrize("text", ["no newline", "tab\there\n", "", "lone \ud800\n"])
def test_a_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    """We would write what no one, we included, can read."""
    with pytest.raises(NoteError):
        sign_note(text, [LEDGER_SIGNER])


@given(st.binary(max_size=400))
def test_any_bytes_are_a_note_or_a_note_error(raw: bytes) -> None:
    """A stranger's bytes would end the program."""
    with pytest.raises(NoteError):
        open_note(raw, [LEDGER_SIGNER.key])


@given(st.integers(0, 700), st.integers(1, 255))
def test_any_changed_byte_spoils_a_finished_checkpoint(at: int, change: int) -> None:
    """A changed checkpoint would still be accepted."""
    raw = bytearray(finished(LEDGER_SIGNER, EPOCH_SIGNER))
    raw[at % len(raw)] ^= change
    with pytest.raises(NoteError):
        open_finished(bytes(raw), ledger_key=LEDGER_SIGNER.key, epoch_keys=[EPOCH_SIGNER.key])


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_a_note_error(line: str) -> None:
    """A stranger's key line would end the program."""
    with pytest.raises(NoteError):
        VerifierKey.parse(line)


def test_an_oversized_note_is_not_parsed() -> None:
    """A stranger could make us work for as long as it likes."""
    with pytest.raises(NoteError, match="at most"):
        split_note(b"a\n" * 600_000)
    assert cp.MAX_SIZE == 2**63 - 1
