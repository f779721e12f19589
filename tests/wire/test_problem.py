"""Refusals, evidence on the wire, and waiting: small things that everything else relies on."""

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.evidence import Evidence, Kind
from wire.evidence import from_message, to_message
from wire.json import MessageError
from wire.messages import EvidenceMessage, EvidencePart
from wire.problem import RemoteRefusedError, UnreachableError, make_problem, parse_problem
from wire.retry import Backoff, asked_s, passes


def test_a_problem_reads_back_and_is_rfc_9457() -> None:
    problem = make_problem("not_an_owner", HTTPStatus.FORBIDDEN, "no", seen="a", wanted="b", action="c")
    assert parse_problem(problem.bytes()) == problem
    assert json.loads(problem.bytes()) == {
        "type": "https://contrast.invalid/problems/not_an_owner",
        "title": "Forbidden",
        "status": 403,
        "code": "not_an_owner",
        "detail": "no",
        "seen": "a",
        "wanted": "b",
        "action": "c",
    }


def test_unknown_fields_and_codes_are_tolerated() -> None:
    """RFC 9457 section 3.2: newer servers say more."""
    document = json.loads(make_problem("some_new_code", HTTPStatus.CONFLICT, "x").bytes())
    assert parse_problem(json.dumps({**document, "instance": "/1"}).encode()).code == "some_new_code"


def test_long_texts_are_cut_rather_than_refused() -> None:
    problem = make_problem("x", HTTPStatus.BAD_REQUEST, "d" * 9000, seen="s" * 9000, title="t" * 999)
    assert parse_problem(problem.bytes()) == problem


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"[" * 9000, b'{"code": "A b"}', b" " * 20_000, b"\xff"])
def test_what_is_no_problem_is_refused(raw: bytes) -> None:
    with pytest.raises(MessageError):
        parse_problem(raw)


def test_a_hostile_text_cannot_drive_the_terminal() -> None:
    """An escape sequence in a refusal would repaint the screen of whoever reads it."""
    problem = make_problem("x", HTTPStatus.CONFLICT, "a\x1b[2Jb\r\nc", seen="\u202e\x07")
    shown = str(RemoteRefusedError(problem, address="h:1"))
    assert "a [2Jb  c" in shown
    assert all(line.isprintable() for line in shown.split("\n"))


def test_evidence_travels_unchanged() -> None:
    evidence = Evidence.make(Kind.SNP, {"report": b"r", "vek": b"v", "crl": b"c"})
    assert from_message(to_message(evidence)) == evidence


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("sgx", ["report"]),
        ("snp", ["vek"]),
        ("snp", ["report", "quote"]),
        ("snp", ["report", "report"]),
        ("snp", ["vek", "report"]),
        ("tdx", ["report"]),
    ],
)
def test_evidence_in_another_form_is_refused(kind: str, roles: list[str]) -> None:
    message = EvidenceMessage(kind=kind, parts=tuple(EvidencePart(role=role, data=b"x") for role in roles))
    with pytest.raises(MessageError):
        from_message(message)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_grow_to_a_ceiling_and_never_vanish(failures: int, chance: float) -> None:
    backoff = Backoff(first_s=0.5, ceiling_s=30)
    wait_s = backoff.delay_s(failures, chance)
    assert 0.25 <= wait_s <= 30
    assert wait_s <= backoff.delay_s(failures + 1, chance)


def test_what_may_pass() -> None:
    def refused(status: HTTPStatus, retry_after_s: int | None = None) -> RemoteRefusedError:
        return RemoteRefusedError(make_problem("x", status, ""), address="", retry_after_s=retry_after_s)

    assert passes(UnreachableError("x"))
    assert passes(refused(HTTPStatus.SERVICE_UNAVAILABLE))
    assert passes(refused(HTTPStatus.TOO_MANY_REQUESTS))
    assert not passes(refused(HTTPStatus.FORBIDDEN))
    assert asked_s(refused(HTTPStatus.SERVICE_UNAVAILABLE, 5)) == 5
    assert asked_s(refused(HTTPStatus.SERVICE_UNAVAILABLE, 10**9)) == 60
    assert asked_s(UnreachableError("x")) == 0
