"""The program as a container runs it: environment, exit status, signals, JSON logs; over real TLS."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest
from aiohttp import web

from attestation.simulated.socket import serve as serve_processor
from initializer.__main__ import STOPPED, run
from initializer.errors import SettingsError
from initializer.settings import DEFAULT_DIRECTORY, parse_settings
from tests.conftest import PROJECT
from tests.support.fakemesh import FakeMesh
from tests.support.tls import ServerIdentity, serve
from tests.support.vendor import launch, vendor_chain
from wire.json import decode, encode
from wire.messages import CertificateRequest, ChallengeResponse
from wire.problem import CONTENT_TYPE, make_problem

IDENTITY = ServerIdentity()


def coordinator(mesh: FakeMesh | None) -> web.Application:
    """A Coordinator's port for workloads; without *mesh* it knows no policy."""

    async def challenge(request: web.Request) -> web.Response:
        assert await request.read() == b""
        answer = ChallengeResponse(nonce=b"n" * 32, expires_in_ms=120_000)
        return web.Response(body=encode(answer), content_type="application/json")

    async def certificates(request: web.Request) -> web.Response:
        message = decode(await request.read(), CertificateRequest, limit=1 << 20)
        if mesh is None:
            problem = make_problem("unknown_policy", HTTPStatus.FORBIDDEN, "no")
            return web.Response(body=problem.bytes(), status=403, content_type=CONTENT_TYPE)
        return web.Response(body=encode(mesh.answer(message).response()), content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/challenges", challenge)
    app.router.add_post("/v1/certificates", certificates)
    return app


@asynccontextmanager
async def pod(tmp_path: Path, mesh: FakeMesh | None) -> AsyncIterator[dict[str, str]]:
    """The environment of a pod beside a running Coordinator."""
    socket = tmp_path / "processor.sock"
    async with (
        serve(coordinator(mesh), IDENTITY) as address,
        serve_processor(launch(vendor_chain(), host_data=b"\x0a" * 32), socket),
    ):
        yield {
            "COORDINATOR_HOST": address,
            "CONTRAST_TLS_DIR": str(tmp_path / "contrast" / "tls-config"),
            "CONTRAST_SIMULATED_PROCESSOR": str(socket),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
        }


async def start(environ: Mapping[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "initializer",
        *arguments,
        env=dict(environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def logs_event(process: asyncio.subprocess.Process, event: str) -> None:
    """Wait until *process* logs *event*; it must not end before."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        if json.loads(line)["event"] == event:
            return
    pytest.fail(f"the program ended before it logged {event}")


def content(environ: Mapping[str, str]) -> list[str]:
    """Names in the directory of the files."""
    return [path.name for path in Path(environ["CONTRAST_TLS_DIR"]).iterdir()]


def logged(stderr: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in stderr.splitlines()]


async def test_a_pod_gets_its_files_and_the_program_ends_with_0(tmp_path: Path) -> None:
    mesh = FakeMesh(now=datetime.now(UTC))
    async with pod(tmp_path, mesh) as environ:
        process = await start(environ)
        _, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    folder = Path(environ["CONTRAST_TLS_DIR"])
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o400
    assert mesh.secret is not None
    assert (folder / "workload-secret").read_text() == mesh.secret.hex() + "\n"
    events = logged(stderr)
    assert [event["event"] for event in events] == ["started", "placed"]
    assert events[0]["evidence"] == "simulated"
    assert mesh.secret.hex() not in stderr.decode()


async def test_a_pod_that_the_manifest_does_not_name_ends_with_1_and_says_which(tmp_path: Path) -> None:
    async with pod(tmp_path, None) as environ:
        process = await start(environ)
        _, stderr = await process.communicate()
    assert process.returncode == 1
    last = logged(stderr)[-1]
    assert last["code"] == "refused"
    assert ("0a" * 32) in str(last["reason"])
    assert "does not name" in str(last["reason"])
    assert content(environ) == []


async def test_sigterm_ends_it_cleanly_while_nobody_answers(tmp_path: Path) -> None:
    async with pod(tmp_path, None) as environ:
        process = await start({**environ, "COORDINATOR_HOST": "127.0.0.1:1"})
        await logs_event(process, "trying_again")
        process.send_signal(signal.SIGTERM)
        _, stderr = await process.communicate()
    assert process.returncode == STOPPED
    assert logged(stderr)[-1]["event"] == "stopped"
    assert content(environ) == []


async def test_sigterm_ends_a_renewing_one_with_0_and_its_files_stay(tmp_path: Path) -> None:
    async with pod(tmp_path, FakeMesh(now=datetime.now(UTC))) as environ:
        process = await start(environ, "--renew")
        await logs_event(process, "renewal_planned")
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
    assert (Path(environ["CONTRAST_TLS_DIR"]) / "certChain.pem").is_file()


async def test_giving_up_ends_with_3(tmp_path: Path) -> None:
    async with pod(tmp_path, None) as environ:
        process = await start({**environ, "COORDINATOR_HOST": "127.0.0.1:1"}, "--attempts", "1")
        _, stderr = await process.communicate()
    assert process.returncode == 3
    assert "127.0.0.1:1 does not answer" in str(logged(stderr)[-1]["reason"])


@pytest.mark.parametrize(
    ("environ", "status", "because"),
    [
        ({}, 2, "COORDINATOR_HOST is not set"),
        ({"COORDINATOR_HOST": "https://x"}, 2, "no host or host:port"),
        ({"COORDINATOR_HOST": "x", "CONTRAST_TLS_DIR": "relative"}, 2, "absolute path"),
        ({"COORDINATOR_HOST": "x", "CONTRAST_TLS_DIR": "/tmp"}, 4, "secure processor"),
    ],
)
def test_a_wrong_environment_has_its_status_and_its_advice(
    environ: dict[str, str], status: int, because: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([], environ) == status
    assert because in capfd.readouterr().err


def test_settings_have_their_defaults() -> None:
    settings = parse_settings([], {"COORDINATOR_HOST": "coordinator-ready.default"})
    assert settings.coordinator == "coordinator-ready.default:7777"
    assert settings.directory == Path(DEFAULT_DIRECTORY)
    assert (settings.renew, settings.attempts) == (False, 0)
    with pytest.raises(SettingsError, match="--attempts"):
        parse_settings(["--attempts", "-1"], {"COORDINATOR_HOST": "x"})


def test_help_names_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_settings(["--help"], {})
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("COORDINATOR_HOST", "CONTRAST_TLS_DIR", "--renew", "certChain.pem", "143"):
        assert word in text
