"""A Coordinator counts only if its evidence binds what it says, our nonce and the connection."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

import pytest

from attestation.binding import Purpose, report_data
from cli.attesting import demand_active, judge_answer, patiently
from cli.errors import NoAnswerError, NotAttestedError, RefusedError
from cli.output import Output
from cli.yardstick import Yardstick, by_manifest
from manifest.parse import parse_manifest
from tests.support.deployment import COORDINATOR_POLICY, WEB_POLICY, Deployment, launch, other_vendor
from wire.client import Attested
from wire.problem import RemoteRefusedError, UnreachableError, make_problem
from wire.statement import Statement, origin_of, parse_statement, statement_bytes

NONCE = b"n" * 32
NOW = datetime(2026, 6, 1, tzinfo=UTC)
YARDSTICK: Yardstick = by_manifest(parse_manifest(Deployment().manifest), name="m.json")


def statement(*, simulated: bool = True) -> bytes:
    return statement_bytes(
        Statement(
            version=1,
            state="empty",
            epoch_key="00" * 32,
            tls_cert_sha256="11" * 32,
            hpke_public_key="00" * 32,
            generation=0,
            api_versions=("v1",),
            simulated=simulated,
            origin=origin_of(bytes(32)),
            ledger_key="00" * 32,
        )
    )


def answer(
    *,
    raw: bytes | None = None,
    bound: bytes | None = None,
    nonce: bytes = NONCE,
    purpose: Purpose = Purpose.COORDINATOR,
    tls: bytes = b"\x11" * 32,
    runs: bytes = COORDINATOR_POLICY,
    **guest: object,
) -> Attested:
    said = statement() if raw is None else raw
    evidence = launch(runs, **guest).evidence(report_data(purpose, nonce, said if bound is None else bound))  # type: ignore[arg-type]
    return Attested(statement_raw=said, statement=parse_statement(said), evidence=evidence, tls_sha256=tls)


def judge(attested: Attested) -> None:
    judge_answer(attested, YARDSTICK, nonce=NONCE, now=NOW, address="h:1313")


def test_the_honest_one_is_accepted() -> None:
    judge(answer())


@pytest.mark.parametrize(
    ("attested", "check"),
    [
        (lambda: answer(nonce=b"x" * 32), "report-data"),
        (lambda: answer(bound=statement(simulated=False)), "report-data"),
        (lambda: answer(purpose=Purpose.WORKLOAD), "report-data"),
        (lambda: answer(runs=WEB_POLICY), "host-data"),
        (lambda: answer(measurement=bytes(48)), "measurement"),
        (lambda: answer(chain=other_vendor()), "trust-anchor"),
        (lambda: answer(tls=b"\x22" * 32), "someone stands between"),
        (lambda: answer(raw=statement(simulated=False)), "contradicts its evidence"),
    ],
    ids=["nonce", "statement", "purpose", "policy", "measurement", "vendor", "connection", "hidden simulation"],
)
def test_anything_else_is_refused_with_the_reason(attested: Callable[[], Attested], check: str) -> None:
    """Each of these is somebody else than the Coordinator that the user means."""
    with pytest.raises(NotAttestedError) as caught:
        judge(attested())
    assert check in "\n".join((str(caught.value), *caught.value.details))


def test_an_unknown_policy_is_told_with_the_option_that_accepts_it() -> None:
    with pytest.raises(NotAttestedError) as caught:
        judge(answer(runs=WEB_POLICY))
    assert any("--coordinator-policy-hash" in line for line in caught.value.details)


@pytest.mark.parametrize(("state", "advice"), [("empty", "contrast set"), ("recovery", "contrast recover")])
def test_other_states_say_what_to_do(state: str, advice: str) -> None:
    said = parse_statement(statement())
    with pytest.raises(RefusedError, match=advice):
        demand_active(_in(said, state), address="h", verb="verify")


def _in(said: Statement, state: str) -> Statement:
    fields = {name: getattr(said, name) for name in said.__struct_fields__}
    return Statement(**fields | {"state": state})


class Flaky:
    """An action that fails some times first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def refusal(code: str, status: int) -> RemoteRefusedError:
    return RemoteRefusedError(make_problem(code, HTTPStatus(status), "no"), address="h")


async def test_nobody_there_is_tried_again_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.attesting.PAUSE_S", 0.001)
    action = Flaky(UnreachableError("gone"), refusal("busy", 429))
    assert await patiently(action, timeout_s=60, output=Output(), what="x") == "done"
    assert action.calls == 3
    with pytest.raises(NoAnswerError, match="gone"):
        await patiently(Flaky(UnreachableError("gone")), timeout_s=0, output=Output(), what="x")


async def test_who_waits_is_told_once_for_what_and_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A minute of silence in a pipe looks like a program that hangs."""
    monkeypatch.setattr("cli.attesting.QUIET_S", 0)
    monkeypatch.setattr("cli.attesting.PAUSE_S", 0.001)
    action = Flaky(UnreachableError("h:1313 does not answer"), UnreachableError("again"))
    assert await patiently(action, timeout_s=60, output=Output(json_mode=True), what="attesting h:1313") == "done"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "h:1313 does not answer",
        "attesting h:1313: trying again for up to 60 s (--timeout changes that)",
    ]


async def test_a_refusal_is_final() -> None:
    """Trying again would only fill the ledger of refusals."""
    action = Flaky(refusal("not_an_owner", 403))
    with pytest.raises(RemoteRefusedError):
        await asyncio.wait_for(patiently(action, timeout_s=60, output=Output(), what="x"), 5)
    assert action.calls == 1
