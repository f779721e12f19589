"""A Coordinator that listens in a thread of its own, and a workspace in which commands are run against it."""

import asyncio
import base64
import dataclasses
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization

from attestation.issuer import Issuer
from cli.program import cli
from coordinator.witnessing import Witnessing
from ledger.store import Store
from manifest.model import Role
from tests.support.coordinator import Clock, Running, coordinator
from tests.support.deployment import COORDINATOR_POLICY, Deployment, Pod, digest, owner_key, share_key
from wire.messages import CertificateResponse
from wire.routes import Port


class LiveCoordinator:
    """A running Coordinator and the loop that it runs in."""

    def __init__(self, running: Running, loop: asyncio.AbstractEventLoop) -> None:
        self.running = running
        self.loop = loop
        self.address = f"127.0.0.1:{running.server.ports[Port.USER]}"

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    def issue(self, pod: Pod | None = None) -> CertificateResponse:
        """Let *pod* obtain a certificate."""

        async def issue() -> CertificateResponse:
            there = pod or Pod()
            async with self.running.client(Port.MESH) as client:
                challenge = await client.challenge()
                return await client.certificate(there.request(challenge.nonce))

        answer: CertificateResponse = self.call(issue())
        return answer

    def size(self) -> int:
        return self.running.service.ledger.size


@contextmanager
def live_coordinator(
    store: Store | None = None,
    *,
    issuer: Issuer | None = None,
    port: int = 0,
    witnessing: Witnessing | None = None,
    clock: Clock | None = None,
) -> Iterator[LiveCoordinator]:
    """Start a Coordinator on *store*; *port* 0 is any free one."""
    started: list[LiveCoordinator | BaseException] = []
    ready = threading.Event()
    stop: list[asyncio.Event] = []

    async def life() -> None:
        def at(settings: Any) -> Any:
            return dataclasses.replace(settings, user_port=port)

        async with coordinator(store, issuer=issuer, clock=clock, change=at, witnessing=witnessing) as running:
            stop.append(asyncio.Event())
            started.append(LiveCoordinator(running, asyncio.get_running_loop()))
            ready.set()
            await stop[0].wait()

    def run() -> None:
        try:
            asyncio.run(life())
        except BaseException as error:  # noqa: BLE001 told by the test below
            started.insert(0, error)
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(60)
    live = started[0]
    if isinstance(live, BaseException):
        raise live
    try:
        yield live
    finally:
        live.loop.call_soon_threadsafe(stop[0].set)
        thread.join(60)
        if isinstance(started[0], BaseException):
            raise started[0]


class World:
    """A workspace with keys, manifest and YAML of a `Deployment`; commands run in it as in a shell."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write_key("workload-owner.pem", owner_key())
        self.write_key("seedshare-owner.pem", share_key())
        self.deploy(Deployment())

    def write_key(self, name: str, key: Any) -> None:
        path = self.root / name
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        path.chmod(0o600)

    def deploy(self, deployment: Deployment) -> None:
        """Write what `generate` would have left for *deployment*."""
        self.deployment = deployment
        (self.root / "manifest.json").write_bytes(deployment.manifest)
        folder = self.root / "deployment"
        folder.mkdir(exist_ok=True)
        documents = [
            _pod(f"pod-{number}", text, policy.role)
            for number, (text, policy) in enumerate(deployment.policies.items())
        ]
        (folder / "all.yml").write_text("---\n".join(documents))
        (self.root / "coordinator-policy.sha256").write_text(digest(COORDINATOR_POLICY).hex() + "\n")

    def run(self, *arguments: str) -> Result:
        """Run `contrast` with *arguments* in the workspace."""
        before = Path.cwd()
        os.chdir(self.root)
        try:
            return CliRunner().invoke(cli, list(arguments), prog_name="contrast")
        finally:
            os.chdir(before)

    def ok(self, *arguments: str) -> Result:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output + str(result.exception or "")
        return result

    def refused(self, *arguments: str, because: str, status: int = 1) -> Result:
        """Demand that the command ends with *status* and says *because*."""
        result = self.run(*arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        assert because in result.output, result.output
        return result

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }


def _pod(name: str, policy: bytes, role: Role | None) -> str:
    annotation = f"\n    contrast.edgeless.systems/pod-role: {role.value}" if role else ""
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  annotations:{annotation}\n"
        f"    io.katacontainers.config.agent.policy: {base64.b64encode(policy).decode()}\n"
        "spec:\n  runtimeClassName: contrast-cc\n  containers:\n  - name: main\n"
        f"    image: registry.example/{name}@sha256:{'0' * 64}\n"
    )
