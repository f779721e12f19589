"""The four services as programs, with certificates of a throw-away mesh CA; names resolve as on the local node."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from localnode.addresses import Endpoint, Service, ServicePort, hosts_document
from tests.support.mesh import Mesh

PROJECT = Path(__file__).resolve().parents[2]
APPS = PROJECT / "examples" / "emojivoto" / "apps"
SHIM = PROJECT / "localnode" / "shim"
PATIENCE_S = 60  # A program that says nothing for so long hangs.


@dataclass
class Program:
    """A running service, its JSON log read line by line."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def event(self, name: str) -> dict[str, Any]:
        """The next line of that event; fails when the program ends first."""
        assert self.process.stdout is not None
        silent = threading.Timer(PATIENCE_S, self.process.kill)
        silent.start()
        try:
            for line in self.process.stdout:
                entry: dict[str, Any] = json.loads(line)
                self.lines.append(entry)
                if entry["event"] == name:
                    return entry
        finally:
            silent.cancel()
        raise AssertionError(f"no event {name!r} in {self.lines}")


@dataclass
class Town:
    """The mesh, the programs that run, and what their names mean."""

    folder: Path
    mesh: Mesh
    apps: Path
    programs: list[Program] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def start(self, service: str, *, tls: Path | None = None, **environment: str) -> Program:
        directory = tls or self.mesh.issue(self.folder / f"tls-{service}-{len(self.programs)}", service)
        process = subprocess.Popen(
            [sys.executable, self.apps / f"{service.replace('-', '_')}.py"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(SHIM),
                "PYTHONDONTWRITEBYTECODE": "1",
                "CONTRAST_HOSTS": str(self.folder / "hosts.json"),
                "CONTRAST_TLS_DIR": str(directory),
                "POD_IP": "127.0.0.1",
                "LISTEN_PORT": "0",
                **environment,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        program = Program(process)
        self.programs.append(program)
        if service != "vote-bot":
            self.ports[service] = program.event("listening")["port"]
            self._write_hosts()
        return program

    def start_all(self) -> None:
        self.start("emoji", ALLOWED_CLIENTS="web")
        self.start("voting", ALLOWED_CLIENTS="web", STATE_DIR=str(self.folder))
        self.start("web", EMOJI_ADDR="emoji:8443", VOTING_ADDR="voting:8443")

    def stop(self) -> None:
        for program in self.programs:
            program.process.kill()
            program.process.communicate()

    def _write_hosts(self) -> None:
        services = [
            (
                Service(
                    name=name,
                    namespace="default",
                    selector=(("app", name),),
                    ports=(ServicePort(port=8443, target=port),),
                ),
                [Endpoint(address="127.0.0.1", ports=((8443, port),))],
            )
            for name, port in self.ports.items()
        ]
        (self.folder / "hosts.json").write_bytes(hosts_document(services, namespace="default"))

    def context(self, client: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.mesh.pem.decode())
        if client is not None:
            directory = self.folder / f"client-{client}"
            if not directory.exists():
                self.mesh.issue(directory, client)
            context.load_cert_chain(directory / "certChain.pem", directory / "key.pem")
        return context

    def ask(
        self, service: str, method: str, path: str, *, client: str | None = None, context: ssl.SSLContext | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        with socket.create_connection(("127.0.0.1", self.ports[service]), timeout=10) as plain:
            secured = (context or self.context(client)).wrap_socket(plain, server_hostname=service)
            connection = http.client.HTTPSConnection(service)
            connection.sock = secured
            try:
                connection.request(method, path)
                response = connection.getresponse()
                return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
            finally:
                connection.close()

    def json(self, service: str, method: str, path: str, *, client: str | None = None) -> tuple[int, Any]:
        status, _, body = self.ask(service, method, path, client=client)
        return status, json.loads(body)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh()


@pytest.fixture
def town(tmp_path: Path, mesh: Mesh) -> Iterator[Town]:
    apps = tmp_path / "app"
    shutil.copytree(APPS, apps)
    (apps / "version.txt").write_text("v1\n")
    made = Town(tmp_path, mesh, apps)
    try:
        yield made
    finally:
        made.stop()


def test_voting_works_through_the_front_end(town: Town) -> None:
    """Or the services would not find, believe or understand each other."""
    town.start_all()
    assert town.json("web", "GET", "/ready") == (200, {"ready": True, "version": "v1"})
    assert town.json("web", "POST", "/api/vote?choice=:doughnut:")[1] == {
        "shortcode": ":doughnut:",
        "votes": 1,
        "emoji": "🍩",
    }
    assert town.json("web", "POST", "/api/vote?choice=:pizza:")[0] == 200
    assert town.json("web", "POST", "/api/vote?choice=:pizza:")[0] == 200
    status, board = town.json("web", "GET", "/api/leaderboard")
    assert status == 200
    assert [(entry["emoji"], entry["votes"]) for entry in board] == [("🍕", 2), ("🍩", 1)]
    assert len(town.json("web", "GET", "/api/list")[1]) > 50


def test_the_bot_votes_through_the_front_end(town: Town) -> None:
    town.start_all()
    bot = town.start("vote-bot", WEB_ADDR="web:8443", VOTE_INTERVAL_MS="1", FAVOURITE_SHARE="1")
    assert bot.event("voted")["choice"] == ":doughnut:"
    bot.process.send_signal(signal.SIGTERM)
    bot.event("stopped")
    assert bot.process.wait(10) == 0


@pytest.mark.parametrize("service", ["emoji", "voting"])
def test_an_internal_service_refuses_a_client_without_mesh_certificate(town: Town, service: str) -> None:
    """Or anybody in the cluster's network could change the counts."""
    program = town.start(service, ALLOWED_CLIENTS="web", STATE_DIR=str(town.folder))
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        town.ask(service, "GET", "/list")
    assert "CERTIFICATE" in program.event("tls_refused")["reason"]


@pytest.mark.parametrize("service", ["emoji", "voting"])
def test_an_internal_service_refuses_a_certificate_of_another_mesh(town: Town, service: str) -> None:
    program = town.start(service, ALLOWED_CLIENTS="web", STATE_DIR=str(town.folder))
    other = Mesh().issue(town.folder / "other", "web")
    context = town.context()
    context.load_cert_chain(other / "certChain.pem", other / "key.pem")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        town.ask(service, "GET", "/list", context=context)
    program.event("tls_refused")


@pytest.mark.parametrize(("service", "path"), [("emoji", "/list"), ("voting", "/results")])
def test_a_member_of_the_mesh_may_not_do_what_its_name_does_not_allow(town: Town, service: str, path: str) -> None:
    """The mesh CA says who somebody is, not what they may do."""
    town.start(service, ALLOWED_CLIENTS="web", STATE_DIR=str(town.folder))
    assert town.json(service, "GET", path, client="web")[0] == 200
    status, answer = town.json(service, "GET", path, client="vote-bot")
    assert (status, answer["code"]) == (403, "wrong_client")


def test_a_service_does_not_believe_a_server_of_another_name(town: Town) -> None:
    """Or any pod of the mesh could pose as the catalogue."""
    town.start("emoji", tls=town.mesh.issue(town.folder / "false", "voting"), ALLOWED_CLIENTS="web")
    town.start("voting", ALLOWED_CLIENTS="web", STATE_DIR=str(town.folder))
    web = town.start("web", EMOJI_ADDR="emoji:8443", VOTING_ADDR="voting:8443")
    assert town.json("web", "GET", "/api/list")[0] == 502
    assert "Hostname mismatch" in web.event("peer_failed")["detail"]


def test_a_client_below_tls_1_3_is_refused(town: Town) -> None:
    town.start_all()
    context = town.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        town.ask("web", "GET", "/", context=context)


def test_the_page_runs_nothing_but_its_own_script(town: Town) -> None:
    town.start_all()
    status, headers, body = town.ask("web", "GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert b"<title>Emoji Vote</title>" in body
    assert not re.search(rb"""(src|href)=["']?http""", body)


def test_the_second_version_shows_in_the_title(town: Town) -> None:
    (town.apps / "version.txt").write_text("v2\n")
    town.start_all()
    assert b"<title>Emoji Vote v2</title>" in town.ask("web", "GET", "/")[2]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/api/vote", 400, "bad_choice"),
        ("POST", "/api/vote?choice=doughnut", 400, "bad_choice"),
        ("POST", "/api/vote?choice=:" + "a" * 100 + ":", 400, "bad_choice"),
        ("POST", "/api/vote?choice=:nobody_knows:", 404, "unknown_emoji"),
        ("POST", "/api/vote?" + "&".join(f"a{n}=1" for n in range(20)), 400, "bad_request"),
        ("GET", "/api/vote?choice=:pizza:", 405, "wrong_method"),
        ("GET", "/etc/passwd", 404, "not_found"),
        ("GET", "/..%2f..%2fkey.pem", 404, "not_found"),
    ],
)
def test_a_strange_request_is_refused_with_a_code(town: Town, method: str, path: str, status: int, code: str) -> None:
    town.start_all()
    seen, answer = town.json("web", method, path)
    assert (seen, answer["code"]) == (status, code)


def test_a_silent_client_does_not_stop_the_others(town: Town) -> None:
    """The handshake is made in the connection's own thread."""
    town.start_all()
    with socket.create_connection(("127.0.0.1", town.ports["web"])):
        assert town.json("web", "GET", "/ready")[0] == 200


def test_counts_survive_a_restart_only_with_the_same_secret(town: Town) -> None:
    """The host owns the volume: a file it made up must not become counts."""

    def restart(secret: bytes, name: str) -> Any:
        tls = town.mesh.issue(town.folder / f"voting-{name}", "voting", secret=secret)
        program = town.start("voting", tls=tls, ALLOWED_CLIENTS="web", STATE_DIR=str(town.folder))
        answer = town.json("voting", "GET", "/results", client="web")[1]
        town.ask("voting", "POST", "/vote?choice=:pizza:", client="web")
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(10) == 0
        return answer

    assert restart(b"s" * 64, "first") == []
    assert restart(b"s" * 64, "again") == [{"shortcode": ":pizza:", "votes": 1}]
    assert restart(b"t" * 64, "other") == []


def test_a_request_under_way_is_answered_before_the_program_stops(town: Town) -> None:
    """A rollout must not cut off votes."""
    emoji = town.start("emoji", ALLOWED_CLIENTS="web")
    with socket.create_connection(("127.0.0.1", town.ports["emoji"]), timeout=10) as plain:
        secured = town.context("web").wrap_socket(plain, server_hostname="emoji")
        secured.sendall(b"GET /list HTTP/1.0\r\n")
        time.sleep(0.05)  # lets the handler's thread begin; if it has not yet, the test is weaker, not flaky
        emoji.process.send_signal(signal.SIGTERM)
        secured.sendall(b"\r\n")
        assert secured.recv(64).startswith(b"HTTP/1.0 200")
        secured.close()
    assert emoji.process.wait(10) == 0


def test_logs_hold_no_secret(town: Town) -> None:
    secret = b"\x5a" * 64
    tls = town.mesh.issue(town.folder / "voting", "voting", secret=secret)
    program = town.start("voting", tls=tls, ALLOWED_CLIENTS="web", STATE_DIR=str(town.folder))
    town.ask("voting", "POST", "/vote?choice=:pizza:", client="web")
    program.process.send_signal(signal.SIGTERM)
    program.event("stopped")
    text = json.dumps(program.lines)
    assert secret.hex() not in text
    assert secret.decode() not in text
    assert any(line["event"] == "workload_secret" and line["present"] for line in program.lines)
