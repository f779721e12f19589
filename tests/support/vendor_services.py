"""AMD's, Azure's and Intel's services on loopback, answering with what was published, counting who asked for what."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from aiohttp.test_utils import TestServer

from attestation.collateral.endorse import Endorser, Sources
from attestation.collateral.shelf import Shelf
from attestation.collateral.supply import Patience, Supply
from attestation.fetch import Fetcher


@dataclass
class Service:
    """One HTTP server: path and query -> (status, body, headers); everything else is 404."""

    answers: dict[str, tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    failing: int = 0
    """How many requests are answered with 503 before it works."""
    headers_seen: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def add(self, path: str, body: bytes, headers: dict[str, str] | None = None, *, status: int = 200) -> None:
        self.answers[path] = (status, body, headers or {})

    async def handle(self, request: web.Request) -> web.Response:
        self.asked[request.path_qs] += 1
        self.headers_seen.append(dict(request.headers))
        if self.failing:
            self.failing -= 1
            return web.Response(status=503, headers={"Retry-After": "1"})
        status, body, headers = self.answers.get(request.path_qs, (404, b"not found", {}))
        return web.Response(status=status, body=body, headers=headers)


@asynccontextmanager
async def serving(service: Service | None = None) -> AsyncIterator[Service]:
    """The service, listening."""
    service = service or Service()
    app = web.Application()
    app.router.add_get("/{path:.*}", service.handle)
    async with TestServer(app) as server:
        service.url = str(server.make_url("")).rstrip("/")
        yield service


@dataclass
class Time:
    """Clocks that only a test moves."""

    now_s: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return int(self.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@asynccontextmanager
async def supplying(
    time: Time | None = None,
    *,
    directory: Path | None = None,
    patience: Patience | None = None,
    proxy: str | None = None,
) -> AsyncIterator[Supply]:
    time = time or Time()
    async with Fetcher(chance=lambda: 0.5, sleep=time.sleep, timeout_s=5, proxy=proxy) as fetcher:
        yield Supply(fetcher, Shelf(directory), clock_ms=time.unix_ms, monotonic_s=time.monotonic_s, patience=patience)


@asynccontextmanager
async def endorsing(
    sources: Callable[[str], Sources], service: Service, time: Time | None = None, *, directory: Path | None = None
) -> AsyncIterator[Endorser]:
    """An endorser whose sources are *service*."""
    async with supplying(time, directory=directory) as supply:
        yield Endorser(supply, sources(service.url))


def amd_only(url: str) -> Sources:
    return Sources(amd=url, intel=None)


def intel_only(url: str) -> Sources:
    return Sources(amd=None, intel=url)


def load_pccs(service: Service, collateral: bytes, *, ca: str = "platform") -> None:
    """Take published collateral apart into the answers that it was made of."""
    fields = json.loads(collateral)
    fmspc = json.loads(fields["tcb_info"])["fmspc"].upper()
    tcb = f'{{"tcbInfo":{fields["tcb_info"]},"signature":"{fields["tcb_info_signature"]}"}}'
    identity = f'{{"enclaveIdentity":{fields["qe_identity"]},"signature":"{fields["qe_identity_signature"]}"}}'
    service.add(
        f"/sgx/certification/v4/pckcrl?ca={ca}&encoding=der",
        bytes.fromhex(fields["pck_crl"]),
        {"SGX-PCK-CRL-Issuer-Chain": quote(fields["pck_crl_issuer_chain"])},
    )
    service.add(
        f"/tdx/certification/v4/tcb?fmspc={fmspc}",
        tcb.encode(),
        {"TCB-Info-Issuer-Chain": quote(fields["tcb_info_issuer_chain"])},
    )
    service.add(
        "/tdx/certification/v4/qe/identity",
        identity.encode(),
        {"SGX-Enclave-Identity-Issuer-Chain": quote(fields["qe_identity_issuer_chain"])},
    )
    service.add("/sgx/certification/v4/rootcacrl", re.sub(r"\s", "", fields["root_ca_crl"]).encode())
