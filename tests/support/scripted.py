"""The Initializer's world in a test: a Coordinator that is a function, and time that only sleeping moves."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from attestation.issuer import Issuer
from initializer.run import World
from tests.support.fakemesh import NOW, Answer, ReportIssuer
from wire.client import CoordinatorClient
from wire.messages import CertificateRequest, CertificateResponse, ChallengeResponse

Reply = Callable[[CertificateRequest], Answer]


class Scripted(CoordinatorClient):
    """A client whose Coordinator is a function, which may raise what a client raises."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("127.0.0.1:1")
        self.reply = reply

    async def challenge(self) -> ChallengeResponse:
        return ChallengeResponse(nonce=b"n" * 32, expires_in_ms=120_000)

    async def certificate(self, request: CertificateRequest) -> CertificateResponse:
        return self.reply(request).response()


@dataclass(slots=True)
class Time:
    """A clock that only sleeping moves."""

    now: datetime = NOW
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


def world(reply: Reply, *, policy: bytes = b"p" * 32, time: Time | None = None, source: Issuer | None = None) -> World:
    """A world without network; without *time*, sleeping is a failure of the test."""

    @asynccontextmanager
    async def connect() -> Any:
        yield Scripted(reply)

    async def no_sleep(_: float) -> None:
        raise AssertionError("there was nothing to wait for")

    return World(
        connect=connect,
        source=source or ReportIssuer(policy),
        clock=(lambda: NOW) if time is None else (lambda: time.now),
        sleep=no_sleep if time is None else time.sleep,
        chance=lambda: 0.0,
    )
