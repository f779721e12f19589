"""The program itself, as a process: exit codes, signals, kill -9 under load, logs."""

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from attestation.simulated import socket
from coordinator.events import CertificateIssued, decode_event
from coordinator.opening import open_ledger
from ledger.lmdb_store import LmdbStore
from tests.support.acts import recovery_for
from tests.support.deployment import Deployment, Pod, launch, random_nonce
from wire.bundle import parse_bundle
from wire.client import CoordinatorClient
from wire.messages import SetManifestResponse
from wire.problem import RemoteError

PROGRAM = [sys.executable, "-m", "coordinator"]


@dataclass(slots=True)
class Program:
    """A running process and its ports."""

    process: asyncio.subprocess.Process
    log: Path
    ports: dict[str, int]

    @asynccontextmanager
    async def client(self, port: str) -> AsyncIterator[CoordinatorClient]:
        async with CoordinatorClient(f"127.0.0.1:{self.ports[port]}") as client:
            client.accept_unattested_UNSAFE()
            yield client

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    async def end(self, number: signal.Signals) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 30)


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "CONTRAST_SIMULATED_PROCESSOR": str(folder / "processor"),
        "CONTRAST_BIND": "127.0.0.1",
        "CONTRAST_USER_PORT": "0",
        "CONTRAST_MESH_PORT": "0",
        "CONTRAST_PROBE_PORT": "0",
        "CONTRAST_LEDGER": str(folder / "ledger"),
        **more,
    }


@asynccontextmanager
async def program(folder: Path, **environ: str) -> AsyncIterator[Program]:
    """The Coordinator as a program; killed at the end if it still runs."""
    log = folder / f"log.{time.monotonic_ns()}"
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, env=environment(folder, **environ), stdout=stream, stderr=stream
        )
    try:
        listening: list[str] = []
        for _ in range(600):
            listening = [line for line in log.read_text().splitlines() if '"event": "listening"' in line]
            if listening or process.returncode is not None:
                break
            await asyncio.sleep(0.05)
        assert listening, log.read_text()
        event = json.loads(listening[0])
        yield Program(process, log, {name: event[f"{name}_port"] for name in ("user", "mesh", "probe")})
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def processor(folder: Path) -> AsyncIterator[None]:
    async with socket.serve(launch(), folder / "processor"):
        yield


async def first_set(running: Program) -> SetManifestResponse:
    async with running.client("user") as client:
        attested = await client.fetch_statement(random_nonce())
        return await client.set_manifest(Deployment().request(attested.statement.origin or ""))


async def recover(running: Program, shares: SetManifestResponse) -> None:
    async with running.client("user") as client:
        attested = await client.fetch_statement(random_nonce())
        await client.recover(recovery_for(attested.statement_raw, shares))


async def test_no_certificate_is_lost_when_the_program_is_killed_under_load(tmp_path: Path) -> None:
    """A certificate outside of the ledger is one that no auditor will ever see."""
    received: list[bytes] = []
    shares: SetManifestResponse | None = None

    async def workload(running: Program, started: asyncio.Event) -> None:
        try:
            async with running.client("mesh") as client:
                while True:
                    answer = await client.certificate(Pod().request((await client.challenge()).nonce))
                    received.append(parse_bundle(answer.bundle).leaf)
                    started.set()
        except RemoteError:
            return  # Killed, as meant.

    async with processor(tmp_path):
        for _ in range(3):
            async with program(tmp_path) as running:
                if shares is None:
                    shares = await first_set(running)
                else:
                    await recover(running, shares)
                started = asyncio.Event()
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(8):
                        tasks.create_task(workload(running, started))
                    await started.wait()
                    await asyncio.sleep(secrets.randbelow(300) / 1000)
                    await running.end(signal.SIGKILL)
            store = LmdbStore(tmp_path / "ledger", readonly=True)
            try:
                opened = open_ledger(store)
                ledger = opened.log
                events = [decode_event(ledger.entry(seq))[0] for seq in range(ledger.size)]
                issued = {event.certificate for event in events if isinstance(event, CertificateIssued)}
                assert {hashlib.sha256(leaf).digest() for leaf in received} <= issued
                assert all(ledger.blob(certificate) for certificate in issued)
                assert opened.state.attestations == opened.state.certificates == len(issued)
            finally:
                store.close()
    assert len(received) >= 3


async def test_a_signal_ends_it_gracefully_and_nothing_is_left_open(tmp_path: Path) -> None:
    async with processor(tmp_path):
        async with program(tmp_path) as running:
            await first_set(running)
            async with running.client("mesh") as client:
                await client.certificate(Pod().request((await client.challenge()).nonce))
                assert await running.end(signal.SIGTERM) == 0
            events = running.events()
            assert events[-1]["event"] == "stopped"
        store = LmdbStore(tmp_path / "ledger", readonly=True)
        opened = open_ledger(store)
        assert opened.log.finished is not None
        assert int(opened.log.finished.split("\n")[1]) == opened.log.size == 5
        store.close()
        for name in ("ledger", "ledger/data.mdb"):
            assert (tmp_path / name).stat().st_mode & 0o077 == 0


async def test_probes_and_metrics_answer_without_tls(tmp_path: Path) -> None:
    async with processor(tmp_path), program(tmp_path) as running, aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{running.ports['probe']}{path}") as response:
                return response.status, await response.text()

        assert await get("/probe/startup") == (200, "ok\n")
        assert await get("/probe/liveness") == (200, "ok\n")
        assert await get("/probe/readiness") == (503, "empty\n")
        await first_set(running)
        assert await get("/probe/readiness") == (200, "ok\n")
        status, text = await get("/metrics")
        assert status == 200
        assert "contrast_coordinator_ledger_entries 3.0" in text
        assert 'contrast_coordinator_state{state="active"} 1.0' in text


async def test_only_tls_1_3_is_spoken(tmp_path: Path) -> None:
    async with processor(tmp_path), program(tmp_path) as running:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", running.ports["user"], ssl=context)


async def test_the_log_is_json_and_holds_no_secret_and_no_evidence(tmp_path: Path) -> None:
    async with processor(tmp_path), program(tmp_path, CONTRAST_LOG_LEVEL="debug", CONTRAST_ACCESS_LOG="1") as running:
        await first_set(running)
        async with running.client("mesh") as client:
            await client.certificate(Pod().request((await client.challenge()).nonce))
            with pytest.raises(RemoteError):
                await client.certificate(Pod(b"# unknown").request((await client.challenge()).nonce))
        assert await running.end(signal.SIGTERM) == 0
        lines = running.events()
        assert {"opened", "listening", "manifest_set", "request", "refused", "stopped"} <= {
            str(line["event"]) for line in lines
        }
        assert max(len(str(value)) for line in lines for value in line.values()) < 500


async def test_two_coordinators_do_not_share_a_directory(tmp_path: Path) -> None:
    """Both would find it empty, and the loser would keep a seed for a ledger that is not its own."""
    async with processor(tmp_path), program(tmp_path):
        second = await asyncio.create_subprocess_exec(
            *PROGRAM, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(second.communicate(), 60)
        assert second.returncode == 4
        assert b"ledger_in_use" in said


async def test_another_name_of_the_directory_is_no_other_directory(tmp_path: Path) -> None:
    """A lock on a path would be passed by with a link."""
    (tmp_path / "link").symlink_to("ledger")
    async with processor(tmp_path), program(tmp_path):
        second = await asyncio.create_subprocess_exec(
            *PROGRAM,
            env=environment(tmp_path, CONTRAST_LEDGER=str(tmp_path / "link")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(second.communicate(), 60)
        assert second.returncode == 4
        assert b"ledger_in_use" in said


async def test_a_second_coordinator_on_a_copy_issues_nothing_and_says_why(tmp_path: Path) -> None:
    """No lock reaches a copied folder or another machine: it has no seed, and that is what keeps it from writing."""
    other = tmp_path / "other"
    other.mkdir()
    async with processor(tmp_path), program(tmp_path) as first:
        await first_set(first)
        async with first.client("mesh") as client:
            await client.certificate(Pod().request((await client.challenge()).nonce))
        await asyncio.to_thread(shutil.copytree, tmp_path / "ledger", other / "ledger")
        async with processor(other), program(other) as second:
            async with second.client("mesh") as client:
                with pytest.raises(RemoteError, match="needs_recovery"):
                    await client.challenge()
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{second.ports['probe']}/probe/readiness") as answer,
            ):
                assert (answer.status, await answer.text()) == (503, "recovery\n")
            async with first.client("mesh") as client:
                await client.certificate(Pod().request((await client.challenge()).nonce))


async def test_the_process_leaves_no_core_and_holds_no_secret_in_its_environment(tmp_path: Path) -> None:
    """Both are read by whoever controls the host's storage, or the node's agents."""
    async with processor(tmp_path), program(tmp_path) as running:
        await first_set(running)
        core, environ = await asyncio.to_thread(exposed, running.process.pid)
        assert core.split()[4:6] == ["0", "0"]
        assert {line.partition("=")[0] for line in environ} <= {*environment(tmp_path), "LC_CTYPE", ""}


def exposed(pid: int) -> tuple[str, list[str]]:
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (core,) = (line for line in limits if line.startswith("Max core file size"))
    return core, Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")


@pytest.mark.parametrize(
    ("environ", "code", "says"),
    [
        ({"CONTRAST_LEDGER": ""}, 2, "CONTRAST_LEDGER"),
        ({"CONTRAST_USER_PORT": "many"}, 2, "CONTRAST_USER_PORT"),
        ({"CONTRAST_SIMULATED_PROCESSOR": ""}, 1, "no_secure_processor"),
        ({"CONTRAST_BIND": "203.0.113.7"}, 4, "cannot_listen"),
        ({"CONTRAST_LEDGER": "/proc/nowhere"}, 1, "ledger_refused"),
    ],
)
def test_it_says_why_it_does_not_start(tmp_path: Path, environ: dict[str, str], code: int, says: str) -> None:
    done = subprocess.run(
        PROGRAM, env=environment(tmp_path, **environ), capture_output=True, timeout=60, check=False, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


async def test_a_damaged_ledger_names_its_first_bad_record_and_stops_the_start(tmp_path: Path) -> None:
    async with processor(tmp_path):
        async with program(tmp_path) as running:
            await first_set(running)
            assert await running.end(signal.SIGTERM) == 0
        path = tmp_path / "ledger" / "data.mdb"
        raw = path.read_bytes()
        at = raw.index(b"manifest.set")
        path.write_bytes(raw.replace(raw[at : at + 12], b"manifest.sex"))
        done = await asyncio.create_subprocess_exec(
            *PROGRAM, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(done.communicate(), 60)
        assert done.returncode == 1
        last = json.loads(output.splitlines()[-1])
        assert last["event"] == "ledger_refused"
        assert "entry 2" in last["detail"]


def test_help_and_version_of_the_flags() -> None:
    done = subprocess.run([*PROGRAM, "--help"], capture_output=True, timeout=60, check=True, text=True)
    assert "--ledger" in done.stdout
    done = subprocess.run([*PROGRAM, "--nonsense"], capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 2
