"""`contrast dev` passes on exactly what was typed, and ends with the exit code of what it ran."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from click.testing import CliRunner, Result

from cli.program import cli
from localnode.errors import LocalNodeError
from localnode.guest import Coordinator
from localnode.node import NodeSettings
from localnode.status import Phase, Status


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["dev", *arguments], prog_name="contrast")


def test_what_follows_the_dashes_reaches_the_program_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option of the program taken for one of ours would start another program than was typed."""
    seen: dict[str, Any] = {}

    async def guest(root: Path, paths: Sequence[Path], **more: Any) -> int:
        seen.update(more, root=root, paths=tuple(paths))
        return 7

    monkeypatch.setattr("cli.dev.run_in_guest", guest)
    typed = (
        "--pod",
        "coordinator",
        "deployment/",
        "more",
        "--",
        "contrast-coordinator",
        "--ledger",
        "l",
        "--",
        "--help",
    )
    assert run("guest", *typed).exit_code == 7
    assert seen["command"] == ("contrast-coordinator", "--ledger", "l", "--", "--help")
    assert seen["paths"] == (Path("deployment"), Path("more"))
    assert seen["pod"] == "coordinator"


@pytest.mark.parametrize("rest", [(), ("--",)], ids=["no dashes", "nothing after them"])
def test_a_guest_without_a_program_is_a_usage_error(rest: tuple[str, ...]) -> None:
    result = run("guest", "--pod", "coordinator", "deployment/", *rest)
    assert result.exit_code == 2
    assert "-- PROGRAM" in result.output


def _settings(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> list[NodeSettings]:
    seen: list[NodeSettings] = []

    def start(settings: NodeSettings, *, environ: Mapping[str, str], report: Callable[[Status], None]) -> int:
        seen.append(settings)
        report(Status(subject="web-0", phase=Phase.READY, detail="a\x1b[2J", address="127.0.0.9"))
        return code

    async def no_question(*_: object) -> None:
        """The Coordinator is not what these tests are about."""

    monkeypatch.setattr(name, start)
    monkeypatch.setattr("cli.dev.demand_manifest", no_question)
    return seen


def test_a_failed_pod_is_exit_1_and_its_line_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _settings(monkeypatch, "cli.dev.start_detached", 1)
    result = run("run", "--detach", "--network", "127.9.9.0/24", "deployment/")
    assert result.exit_code == 1
    assert "web-0" in result.output
    assert "\x1b" not in result.output
    assert (seen[0].network, seen[0].paths) == ("127.9.9.0/24", (Path("deployment"),))


def test_json_gives_one_line_for_each_status(monkeypatch: pytest.MonkeyPatch) -> None:
    _settings(monkeypatch, "cli.dev.start_detached", 0)
    result = run("run", "--detach", "--json", "deployment/")
    assert json.loads(result.stdout)["subject"] == "web-0"


def test_an_error_of_the_node_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> tuple[Status, ...]:
        raise LocalNodeError("nothing runs here")

    monkeypatch.setattr("cli.dev.status", fail)
    result = run("status")
    assert result.exit_code == 1
    assert "nothing runs here" in result.output


def test_a_stop_with_nothing_to_stop_says_so(tmp_path: Path) -> None:
    """Silence reads as "stopped" in the wrong folder, too."""
    result = CliRunner().invoke(cli, ["--workspace-dir", str(tmp_path), "dev", "stop"])
    assert result.exit_code == 0
    assert "nothing that `contrast dev run` started" in result.stderr


@pytest.mark.parametrize(
    ("state", "advice"), [(None, "contrast dev guest"), ("empty", "contrast set"), ("recovery", "contrast recover")]
)
def test_pods_that_cannot_get_a_certificate_are_not_waited_for(
    state: str | None, advice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two minutes of `pending` do not tell a newcomer that a step was left out."""
    monkeypatch.setattr("cli.dev.start_detached", lambda *_, **__: pytest.fail("started"))
    if state is not None:
        here = Coordinator(address="127.0.0.9", user_port=1313, mesh_port=7777)
        monkeypatch.setattr("cli.dev.find_coordinator", lambda _: here)
        monkeypatch.setattr("cli.dev.CoordinatorClient", saying(state))
    result = CliRunner().invoke(cli, ["--workspace-dir", str(tmp_path), "dev", "run", "--detach", "deployment/"])
    assert result.exit_code == 1
    assert f"`{advice}" in result.stderr


def saying(state: str) -> type:
    class Client:
        def __init__(self, address: str, *, port: int) -> None:
            del port
            self.address = address

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

        async def fetch_statement(self, nonce: bytes) -> SimpleNamespace:
            assert len(nonce) == 32
            return SimpleNamespace(statement=SimpleNamespace(state=state))

    return Client


def test_a_coordinator_without_pods_is_shown_with_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Status(subject="coordinator", phase=Phase.RUNNING, address="127.0.0.9")
    monkeypatch.setattr("cli.dev.status", lambda _: (guest,))
    result = run("status", "--json")
    assert json.loads(result.stdout)["subject"] == "coordinator"
    assert "contrast dev run" in result.stderr


def test_pods_that_go_on_after_an_interrupt_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """`interrupted` alone reads as if nothing ran."""
    _settings(monkeypatch, "cli.dev.start_detached", 0)

    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.dev.start_detached", interrupted)
    monkeypatch.setattr("cli.dev.status", lambda _: (Status(subject="web-0", phase=Phase.PENDING),))
    result = run("run", "--detach", "deployment/")
    assert result.exit_code == 130
    assert "contrast dev stop" in result.stderr


def test_a_stop_tells_of_the_coordinator_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds its ports and its ledger; who thinks that all was stopped wonders at the next start."""
    guest = Status(subject="coordinator", phase=Phase.RUNNING, detail="process 7 of `contrast dev guest`")
    monkeypatch.setattr("cli.dev.stop", lambda *_, **__: 0)
    monkeypatch.setattr("cli.dev.status", lambda _: (guest,))
    result = run("stop")
    assert result.exit_code == 0
    assert "the Coordinator goes on: process 7" in result.stderr
