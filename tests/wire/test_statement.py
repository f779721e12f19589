"""Statements: each state says what it must, and nothing that it cannot know."""

from typing import Any

import msgspec
import pytest

from wire.json import MessageError
from wire.statement import ControlHead, Statement, Unverified, origin_of, parse_statement, statement_bytes

LEDGER_KEY = "17" * 32
ORIGIN = origin_of(bytes.fromhex(LEDGER_KEY))
HISTORY: dict[str, Any] = {
    "checkpoint": f"{ORIGIN}\n3\nAAAA\n\n— x y\n",
    "control_head": ControlHead(seq=2, hash="05" * 32),
    "transition": "06" * 32,
    "root_ca": b"root",
    "mesh_ca": b"mesh",
}
UNVERIFIED = Unverified(
    origin=ORIGIN, ledger_key=LEDGER_KEY, size=3, root="07" * 32, draft="draft", generation=1, **HISTORY
)


def statement(state: str, **changes: Any) -> Statement:
    fields: dict[str, Any] = {
        "version": 1,
        "state": state,
        "epoch_key": "01" * 32,
        "tls_cert_sha256": "02" * 32,
        "hpke_public_key": "03" * 32,
        "generation": 0,
        "api_versions": ("v1",),
        "simulated": True,
    }
    match state:
        case "active":
            fields |= {"origin": ORIGIN, "ledger_key": LEDGER_KEY, "generation": 1, **HISTORY}
        case "empty":
            fields |= {"origin": ORIGIN, "ledger_key": LEDGER_KEY}
        case "recovery":
            fields |= {"unverified": UNVERIFIED}
        case _:
            raise AssertionError(state)
    return Statement(**{**fields, **changes})


def check_refused(broken: Statement, *, path: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_statement(msgspec.json.encode(broken))
    assert caught.value.path == path
    with pytest.raises(MessageError):
        statement_bytes(broken)


@pytest.mark.parametrize("state", ["active", "empty", "recovery"])
def test_each_state_reads_back(state: str) -> None:
    assert parse_statement(statement_bytes(statement(state))) == statement(state)


@pytest.mark.parametrize("field", ["origin", "ledger_key", *HISTORY])
def test_an_active_coordinator_says_everything(field: str) -> None:
    check_refused(statement("active", **{field: None}), path=field)


@pytest.mark.parametrize("field", ["origin", "ledger_key", *HISTORY])
def test_in_recovery_nothing_from_storage_stands_as_verified(field: str) -> None:
    """A field at the top would be believed: the evidence covers it, and the storage is the host's."""
    check_refused(statement("recovery", **{field: getattr(statement("active"), field)}), path=field)


@pytest.mark.parametrize("field", list(HISTORY))
def test_an_empty_coordinator_has_no_history(field: str) -> None:
    check_refused(statement("empty", **{field: HISTORY[field]}), path=field)


@pytest.mark.parametrize("state", ["active", "empty"])
def test_nothing_unverified_stands_beside_what_is(state: str) -> None:
    check_refused(statement(state, unverified=UNVERIFIED), path="unverified")


def test_a_generation_fits_its_state() -> None:
    check_refused(statement("active", generation=0), path="generation")
    check_refused(statement("empty", generation=1), path="generation")
    check_refused(statement("recovery", generation=1), path="generation")


def test_an_origin_is_the_hash_of_its_key() -> None:
    check_refused(statement("active", ledger_key="18" * 32), path="origin")
    other = msgspec.structs.replace(UNVERIFIED, ledger_key="18" * 32)
    check_refused(statement("recovery", unverified=other), path="origin")


def test_another_version_or_state_is_refused() -> None:
    raw = statement_bytes(statement("active"))
    for broken in (raw.replace(b'"version":1', b'"version":2'), raw.replace(b'"active"', b'"ready"')):
        with pytest.raises(MessageError):
            parse_statement(broken)
