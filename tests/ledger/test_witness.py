"""What a witness cosigns: the published conversation, and every way to make it sign two histories."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError
from ledger.merkle import EMPTY_ROOT, Frontier, consistency_path, leaf_hash
from ledger.note import (
    MLDSASigner,
    NoteSigner,
    TimedNoteSigner,
    VerifierKey,
    cosignature_time,
    ed25519_key,
    open_note,
    sign_note,
    split_note,
)
from ledger.witness import (
    MAX_REQUEST_BYTES,
    Known,
    WitnessError,
    cosign,
    judge_history,
    judge_signature,
    parse_request,
    write_request,
)

NAME = "example.com/witness"
COSIGNERS = (
    TimedNoteSigner(NAME, Ed25519PrivateKey.from_private_bytes(bytes(32))),
    MLDSASigner(NAME, MLDSA44PrivateKey.from_seed_bytes(bytes(32))),
)
LOG = NoteSigner("log.example", Ed25519PrivateKey.from_private_bytes(bytes([7] * 32)))
LEAVES = [leaf_hash(bytes([number])) for number in range(20)]
OTHERS = [*LEAVES[:5], *(leaf_hash(bytes([99, number])) for number in range(15))]


@dataclass
class Memory:
    """A witness without a disk."""

    logs: dict[str, list[VerifierKey]]
    known: dict[str, Known] = field(default_factory=dict)
    now_s: int = 1_790_000_000

    def ask(self, raw: bytes) -> tuple[int, str]:
        try:
            request = parse_request(raw)
            keys = judge_signature(request, self.logs)
            known = self.known.get(request.checkpoint.origin)
            judge_history(request, known)
        except WitnessError as refusal:
            return refusal.status, refusal.body
        lines, new = cosign(request, keys, known, COSIGNERS, now_s=self.now_s)
        assert Known.unpack(new.pack()) == new
        self.known[request.checkpoint.origin] = new
        return 200, lines


def witness() -> Memory:
    return Memory({LOG.key.name: [LOG.key]})


def root(size: int, leaves: Sequence[bytes] = LEAVES) -> bytes:
    frontier = Frontier()
    frontier.extend(leaves[:size])
    return frontier.root()


def proof(old: int, new: int, leaves: Sequence[bytes] = LEAVES) -> list[bytes]:
    def node(level: int, index: int) -> bytes:
        return root(1 << level, leaves[index << level :])

    return consistency_path(old, new, node)


def asking(
    old: int,
    new: int,
    leaves: Sequence[bytes] = LEAVES,
    *,
    signer: NoteSigner = LOG,
    path: Sequence[bytes] | None = None,
) -> bytes:
    text = Checkpoint(signer.key.name, new, root(new, leaves)).text()
    return write_request(old, proof(old, new, leaves) if path is None else path, sign_note(text, [signer]))


def conversation(vectors: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((vectors / "tlog/witness-protocol/add-checkpoint-sequence.json").read_text())
    return document


def test_the_published_conversation_is_answered_as_published(vectors: Path) -> None:
    """Logs of other programs would get no cosignature of ours, or one that they should not."""
    told = conversation(vectors)
    origin = told["cases"][0]["request_body"].split("\n")[2]
    there = Memory({origin: [ed25519_key(origin, bytes.fromhex(told["log_public_key_hex"]))]})
    for number, case in enumerate(told["cases"]):
        status, body = there.ask(case["request_body"].encode())
        # The vector is of 2025: an unknown log is 404 since version 1.0.0.
        assert status == (404 if "unknown log" in case["asserts"][0] else case["status"]), number
        for demand in case["asserts"]:
            kind, _, text = demand.partition(' "')
            wanted = json.loads('"' + text)
            assert (body == wanted) if kind == "body ==" else (wanted in body), number
    assert there.known[origin].size == told["final_size"]


def test_the_answer_is_a_cosignature_by_each_of_its_keys() -> None:
    there = witness()
    status, lines = there.ask(asking(0, 7))
    assert status == 200
    text = Checkpoint(LOG.key.name, 7, root(7)).text()
    keys = [signer.key for signer in COSIGNERS]
    assert open_note((text + "\n" + lines).encode(), keys)[1] == keys
    assert {cosignature_time(line.signature) for line in split_note((text + "\n" + lines).encode())[1]} == {there.now_s}
    # What monitors are given holds the log's own line too, and no stranger's.
    assert open_note(there.known[LOG.key.name].note, [LOG.key, *keys])[1] == [LOG.key, *keys]


def test_a_second_history_is_never_cosigned() -> None:
    """The one promise of a witness."""
    there = witness()
    assert there.ask(asking(0, 7))[0] == 200
    assert there.ask(asking(7, 9, OTHERS))[0] == 422
    assert there.ask(asking(7, 7, OTHERS))[0] == 422
    assert there.ask(asking(7, 9, OTHERS, path=proof(7, 9)))[0] == 422
    assert there.ask(asking(5, 9, OTHERS)) == (409, "7\n")
    assert there.ask(asking(0, 9, OTHERS)) == (409, "7\n")
    assert there.ask(asking(0, 5)) == (409, "7\n")
    assert there.ask(asking(7, 5, path=[]))[0] == 400
    assert there.ask(asking(7, 9))[0] == 200
    assert there.known[LOG.key.name].size == 9


def test_the_same_checkpoint_again_gets_a_newer_time() -> None:
    """A log that does not grow could not be shown to be current."""
    there = witness()
    there.ask(asking(0, 7))
    there.now_s += 100
    status, lines = there.ask(asking(7, 7))
    assert status == 200
    assert cosignature_time(split_note(f"x\n\n{lines}".encode())[1][0].signature) == there.now_s
    assert there.ask(asking(7, 7, path=[bytes(32)]))[0] == 422


def test_a_clock_that_goes_back_takes_no_time_back() -> None:
    """A later cosignature would seem older than an earlier one."""
    there = witness()
    there.ask(asking(0, 7))
    before, there.now_s = there.now_s, 5
    _, lines = there.ask(asking(7, 9))
    assert cosignature_time(split_note(f"x\n\n{lines}".encode())[1][0].signature) == before


def test_only_the_log_itself_is_listened_to() -> None:
    """Anybody could make the witness run ahead of the log."""
    there = witness()
    stranger = NoteSigner(LOG.key.name, Ed25519PrivateKey.generate())
    assert there.ask(asking(0, 7, signer=stranger))[0] == 403
    assert there.ask(asking(0, 7, signer=NoteSigner("other.example", Ed25519PrivateKey.generate())))[0] == 404
    good = asking(0, 7)
    line = good.decode().rstrip("\n").rpartition("\n")[2]
    raw = bytearray(base64.b64decode(line.rpartition(" ")[2]))
    raw[10] ^= 1
    bad = good.decode().replace(line, f"\N{EM DASH} {LOG.key.name} {base64.b64encode(raw).decode()}").encode()
    assert there.ask(bad)[0] == 403
    assert not there.known


def test_an_empty_log_has_the_empty_root() -> None:
    there = witness()
    text = Checkpoint(LOG.key.name, 0, bytes(32)).text()
    assert there.ask(write_request(0, [], sign_note(text, [LOG])))[0] == 422
    text = Checkpoint(LOG.key.name, 0, EMPTY_ROOT).text()
    assert there.ask(write_request(0, [], sign_note(text, [LOG])))[0] == 200
    assert there.ask(write_request(0, [], sign_note(text, [LOG])))[0] == 200
    assert there.ask(asking(0, 3))[0] == 200


HASH = base64.b64encode(bytes(32)) + b"\n"
MALFORMED = {
    "zero": (b"old 0", b"old 00"),
    "sign": (b"old 0", b"old -0"),
    "no number": (b"old 0", b"old "),
    "word": (b"old 0", b"Old 0"),
    "spaces": (b"old 0", b"old  0"),
    "carriage return": (b"old 0", b"old 0\r"),
    "too great": (b"old 0", b"old 9223372036854775808"),
    "short hash": (b"old 0\n", b"old 0\nAAAA\n"),
    "space after hash": (b"old 0\n", b"old 0\n" + HASH[:-1] + b" \n"),
    "64 hashes": (b"old 0\n", b"old 0\n" + HASH * 64),
    "no blank line": (b"old 0\n\n", b"old 0\n"),
    "spelling of the size": (b"\n7\n", b"\n07\n"),
    "bytes before": (b"old 0", b"\xffold 0"),
    "too long": (b"old 0", b"old 0" + b" " * MAX_REQUEST_BYTES),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_changes_nothing(name: str) -> None:
    there, (seen, instead) = witness(), MALFORMED[name]
    status, body = there.ask(asking(0, 7).replace(seen, instead))
    assert status == 400, body
    assert body.startswith("malformed request: ")
    assert not there.known


def test_a_request_that_is_cut_off_changes_nothing() -> None:
    there, good = witness(), asking(0, 7)
    for end in range(len(good)):
        assert there.ask(good[:end])[0] in {400, 403}
    assert not there.known


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_answered(raw: bytes, at: int, byte: int) -> None:
    """A stranger's bytes would end the witness."""
    assert witness().ask(raw)[0] == 400
    changed = bytearray(asking(0, 7))
    changed[at % len(changed)] = byte
    assert witness().ask(bytes(changed))[0] in {200, 400, 403, 404, 409, 422}


def test_a_damaged_memory_is_no_empty_one() -> None:
    """A witness that takes a damaged record for none would sign anything."""
    there = witness()
    there.ask(asking(0, 7))
    raw = there.known[LOG.key.name].pack()
    for bad in (b"", raw[:20], b"\x02" + raw[1:]):
        with pytest.raises(LedgerError):
            Known.unpack(bad)
