"""Attesting a Coordinator: ask, judge the evidence by the user's own values, then speak to no other.

Nothing it says is used before its evidence binds the statement, our nonce and the certificate of the connection.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from attestation.binding import Purpose, report_data
from attestation.evidence import Kind, host_data_of
from attestation.judge import judge
from attestation.verdict import Verdict
from cli.errors import NoAnswerError, NotAttestedError, RefusedError
from cli.output import Output, clean
from cli.yardstick import Yardstick
from wire.client import Attested, CoordinatorClient
from wire.problem import RemoteError, UnreachableError
from wire.retry import Retry, asked_s, demand_wanted, passes
from wire.statement import Statement

PAUSE_S: Final = 1.0
QUIET_S: Final = 1.5
_HOST_DATA_CHECK: Final = 24

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedCoordinator:
    """A Coordinator whose evidence was good.

    Attributes:
        statement: what it says of itself, covered by the evidence.
        statement_raw: the bytes that were covered.
        verdict: the judgement.
        address: what the user named.
    """

    statement: Statement
    statement_raw: bytes
    verdict: Verdict
    address: str


def judge_answer(attested: Attested, yardstick: Yardstick, *, nonce: bytes, now: datetime, address: str) -> Verdict:
    """Judge the evidence of one answer.

    Raises:
        NotAttestedError: the evidence does not bind what was said, or fails the user's values; all failures.
    """
    wanted = report_data(Purpose.COORDINATOR, nonce, attested.statement_raw)
    verdict = judge(
        attested.evidence,
        yardstick.reference_values,
        report_data=wanted,
        host_data=yardstick.coordinator_policies,
        now=now,
    )
    if not verdict.accepted:
        raise NotAttestedError(
            f"the Coordinator at {address} is not the one you accept",
            details=(*_failures(verdict), *_advice(attested, verdict, yardstick), *yardstick.sources),
        )
    statement = attested.statement
    if bytes.fromhex(statement.tls_cert_sha256) != attested.tls_sha256:
        raise NotAttestedError(
            f"someone stands between you and the Coordinator at {address}: "
            "the connection's certificate is not the attested one",
            details=(f"seen   {attested.tls_sha256.hex()}", f"wanted {statement.tls_cert_sha256}"),
        )
    if statement.simulated != (attested.evidence.kind is Kind.SIMULATED):
        raise NotAttestedError(f"the Coordinator at {address} contradicts its evidence on whether it is simulated")
    return verdict


async def attest(
    client: CoordinatorClient, yardstick: Yardstick, *, nonce: bytes, now: datetime, address: str
) -> AttestedCoordinator:
    """Attest the Coordinator behind *client* and pin its certificate for all that follows.

    Raises:
        NotAttestedError: see `judge_answer`.
        RemoteError: no usable answer.
    """
    attested = await client.fetch_statement(nonce)
    verdict = judge_answer(attested, yardstick, nonce=nonce, now=now, address=address)
    client.pin(attested.tls_sha256)
    return AttestedCoordinator(
        statement=attested.statement, statement_raw=attested.statement_raw, verdict=verdict, address=address
    )


async def patiently(action: Callable[[], Awaitable[T]], *, timeout_s: float, output: Output, what: str) -> T:
    """Run *action* again while nobody answers, a second apart, for at most *timeout_s* seconds.

    A refusal is final, unless the Coordinator says itself that it passes (starting, too many requests). Who waits is
    told once for what, and how long.

    Raises:
        NoAnswerError: nobody answered in time.
    """
    began = time.monotonic()
    deadline = began + timeout_s
    told = False
    with output.working(what):
        while True:
            try:
                return await action()
            except RemoteError as error:
                demand_wanted()
                pause_s = max(PAUSE_S, asked_s(error))
                late = time.monotonic() + pause_s > deadline
                if late and isinstance(error, UnreachableError):
                    tried = f"tried for {timeout_s:g} s; --timeout changes that"
                    raise NoAnswerError(str(error), details=(tried,)) from error
                if late or not passes(error):
                    raise
                # One that was started just before this command is there in a moment.
                if not told and time.monotonic() - began > QUIET_S:
                    left_s = deadline - time.monotonic()
                    output.note(clean(str(error).splitlines()[0]))
                    output.note(f"{what}: trying again for up to {left_s:.0f} s (--timeout changes that)")
                    told = True
            await asyncio.sleep(pause_s)


def persistent(client: CoordinatorClient) -> Callable[[str], Awaitable[bytes]]:
    """Return what fetches a file of the ledger, and does not give up at the first lost connection or `429`."""
    retry = Retry(attempts=8, sleep=asyncio.sleep, chance=secrets.SystemRandom().random)

    async def get(path: str) -> bytes:
        return await retry.run(lambda: client.ledger_file(path))

    return get


def announce(output: Output, coordinator: AttestedCoordinator, yardstick: Yardstick) -> None:
    """Say what was attested and by which values, loudly where it is simulated."""
    for line in yardstick.sources:
        output.note(line)
    unchecked = coordinator.verdict.not_checked
    if unchecked:
        output.note(f"not checked of its evidence: {', '.join(check.name for check in unchecked)}")
    if coordinator.statement.simulated:
        output.banner(
            "SIMULATED PLATFORM: no hardware protects this Coordinator. "
            "Whoever runs its machine can read and forge everything."
        )


def demand_active(statement: Statement, *, address: str, verb: str) -> None:
    """Refuse to go on with a Coordinator that is in another state than `active`.

    Raises:
        RefusedError: with what to do about it.
    """
    match statement.state:
        case "active":
            return
        case "empty":
            raise RefusedError(
                f"the Coordinator at {address} has no manifest yet, so there is nothing to {verb}: run `contrast set`"
            )
        case _:
            raise RefusedError(
                f"the Coordinator at {address} was restarted and has no seed, so what it shows is unverified: "
                f"the seed share owner runs `contrast recover`, then {verb} again"
            )


def _failures(verdict: Verdict) -> tuple[str, ...]:
    return tuple(
        f"check {check.number} {check.name}: seen {check.seen}, wanted {check.wanted}" for check in verdict.failures
    ) or ("the evidence is of a kind that none of your reference values is for",)


def _advice(attested: Attested, verdict: Verdict, yardstick: Yardstick) -> tuple[str, ...]:
    if any(check.number == _HOST_DATA_CHECK for check in verdict.failures):
        policy = host_data_of(attested.evidence).hex()
        return (f"it runs under the policy {policy}: {yardstick.advice}",)
    return ()
