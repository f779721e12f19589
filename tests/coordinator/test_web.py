"""The fast way to read a message accepts nothing that the strict reader refuses, and reads nothing differently."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from coordinator.errors import CoordinatorError
from coordinator.web import parse_message, problem_of
from ledger.errors import LedgerForkedError, StoreFullError
from tests.support.deployment import Deployment, Pod
from wire.json import MessageError, decode, encode
from wire.messages import AttestRequest, CertificateRequest, SetManifestRequest

LIMIT = 1 << 20
NONCE = bytes(range(32))
MESSAGES: tuple[Struct, ...] = (
    AttestRequest(nonce=NONCE),
    Pod().request(NONCE),
    Deployment().request("contrast.invalid/" + "0" * 64),
)


def outcome(raw: bytes, kind: type[Struct], reader: object) -> object:
    try:
        return reader(raw, kind, limit=LIMIT)  # type: ignore[operator]
    except MessageError:
        return "refused"


@given(data=st.data())
def test_changed_bytes_are_read_as_the_strict_reader_reads_them(data: st.DataObject) -> None:
    """A duplicate key or a second spelling of base64 could pass by the fast way otherwise."""
    message = data.draw(st.sampled_from(MESSAGES))
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.sampled_from(["insert", "delete", "replace", "repeat"])):
            case "insert":
                raw[at:at] = data.draw(
                    st.sampled_from([b" ", b'"', b",", b"{", b"}", b"\\u0041", b"=", b"null", b"1e5", b"A"])
                )
            case "delete":
                del raw[at : at + 1]
            case "replace":
                raw[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case _:
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 60))]
    kind = type(message)
    assert outcome(bytes(raw), kind, parse_message) == outcome(bytes(raw), kind, decode)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | st.integers(0, 300).map(lambda n: b"[" * n))
def test_any_bytes_are_a_message_or_a_refusal(raw: bytes) -> None:
    assert outcome(raw, AttestRequest, parse_message) == outcome(raw, AttestRequest, decode)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_honest_bytes_with_spaces_are_read_too(message: Struct) -> None:
    """Other programs than ours write JSON with spaces and in another order."""
    spaced = json.dumps(dict(reversed(json.loads(encode(message)).items())), indent=2).encode()
    assert parse_message(spaced, type(message), limit=LIMIT) == message


def test_an_absent_known_head_may_be_null() -> None:
    body = json.loads(encode(Pod().request(NONCE))) | {"known_head": None}
    parsed = parse_message(json.dumps(body).encode(), CertificateRequest, limit=LIMIT)
    assert parsed.known_head is None


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreFullError("full"), 507, "ledger_full"),
        (LedgerForkedError("forked"), 500, "ledger_forked"),
        (MessageError("no"), 400, "malformed_request"),
        (CoordinatorError(), 500, "internal"),
        (ZeroDivisionError("secret detail"), 500, "internal"),
    ],
)
def test_each_kind_of_failure_has_its_status(error: Exception, status: int, code: str) -> None:
    problem, _ = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert "secret detail" not in problem.bytes().decode()


def test_messages_of_sets_are_strict_as_well() -> None:
    body = json.loads(encode(MESSAGES[2]))
    with pytest.raises(MessageError):
        parse_message(json.dumps({**body, "policies": "x"}).encode(), SetManifestRequest, limit=LIMIT)
