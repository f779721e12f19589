"""A witness's operator goes on with another history: said twice, recorded for good, and never from afar."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner, Result

from cli.program import cli
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError
from ledger.note import NoteSigner, open_note, sign_note
from ledger.witness import AcceptedFork, WitnessError
from ledger.witness_store import WitnessStore
from tests.ledger.test_witness import LEAVES, LOG, OTHERS, asking, root
from witness.keys import read_keys
from witness.run import open_state
from witness.server import WitnessService, make_app

ORIGIN = LOG.key.name
NOW_S = 1_790_000_000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A witness that has cosigned nine entries."""
    folder = tmp_path / "state"
    store, _ = open_state(folder, "w.example/alice")
    store.close()
    assert ask(folder, asking(0, 9))
    return folder


def ask(folder: Path, raw: bytes) -> str:
    """What the witness in *folder* answers."""
    store, keys = open_state(folder, None)
    try:
        return WitnessService(store, keys.cosigners, {ORIGIN: [LOG.key]}, lambda: NOW_S).add_checkpoint(raw)
    finally:
        store.close()


def note(folder: Path, size: int, leaves: Any = OTHERS, *, by: NoteSigner = LOG) -> Path:
    path = folder.parent / f"note-{size}"
    path.write_text(sign_note(Checkpoint(ORIGIN, size, root(size, leaves)).text(), [by]))
    return path


def accept(folder: Path, old: str, new: Path, *more: str) -> Result:
    command = ["witness", "accept-fork", "--state", str(folder), "--old", old, "--new", str(new)]
    return CliRunner().invoke(cli, [*command, "--log", str(LOG.key), *more], prog_name="contrast")


def shown(folder: Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["witness", "show", "--state", str(folder), "--json"], prog_name="contrast")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


HEAD = f"9:{root(9).hex()}"


def test_an_accepted_fork_is_cosigned_from_then_on_and_the_old_history_no_more(state: Path) -> None:
    with pytest.raises(WitnessError):
        ask(state, asking(9, 11, OTHERS))
    result = accept(state, HEAD, note(state, 7))
    assert result.exit_code == 0, result.output
    assert "VOUCHES FOR ANOTHER HISTORY" in " ".join(result.output.split())
    assert '"event": "fork_accepted"' in result.stderr
    assert ask(state, asking(7, 11, OTHERS))
    with pytest.raises(WitnessError):
        ask(state, asking(11, 13, LEAVES))


def test_it_is_recorded_for_good(state: Path) -> None:
    """A data owner who asks later must be able to learn it."""
    assert accept(state, HEAD, note(state, 7)).exit_code == 0
    assert ask(state, asking(7, 8, OTHERS))
    back = f"8:{root(8, OTHERS).hex()}"
    assert accept(state, back, note(state, 10, LEAVES), "--json").exit_code == 0
    (log,) = shown(state)["logs"]
    assert (log["origin"], log["size"]) == (ORIGIN, 10)
    assert [(fork["old"], fork["new"]) for fork in log["accepted_forks"]] == [
        (HEAD, f"7:{root(7, OTHERS).hex()}"),
        (back, f"10:{root(10).hex()}"),
    ]
    store = WitnessStore(state)
    assert [fork.new_size for fork in store.forks(ORIGIN)] == [7, 10]
    assert store.forks("another") == ()
    known = store.known(ORIGIN)
    keys = read_keys(state)
    assert known is not None
    assert keys is not None
    assert len(open_note(known.note, [LOG.key, *keys.public])[1]) == 3
    store.close()


@pytest.mark.parametrize(
    ("old", "because"),
    [
        (f"8:{root(8).hex()}", "remembers 9 entries"),
        (f"9:{root(9, OTHERS).hex()}", "remembers 9 entries"),
        ("9", "SIZE:ROOT"),
        (f"-9:{root(9).hex()}", "SIZE:ROOT"),
    ],
)
def test_another_old_head_than_the_one_remembered_changes_nothing(state: Path, old: str, because: str) -> None:
    """A stale command line would take back more than was meant."""
    before = shown(state)
    result = accept(state, old, note(state, 7))
    assert result.exit_code in {1, 2}
    assert because in " ".join(result.output.split())
    assert shown(state) == before


def test_only_a_checkpoint_that_the_ledger_signed_is_taken(state: Path) -> None:
    stranger = NoteSigner.parse(_other_key())
    for new, because in (
        (note(state, 7, by=stranger), "signature"),
        (note(state, 9, LEAVES), "nothing to give up"),
    ):
        result = accept(state, HEAD, new)
        assert result.exit_code == 1, result.output
        assert because in result.output
    (state.parent / "nonsense").write_bytes(b"\xff")
    assert accept(state, HEAD, state.parent / "nonsense").exit_code == 1
    assert shown(state)["logs"][0]["accepted_forks"] == []


def _other_key() -> str:
    import base64  # noqa: PLC0415

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    signer = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x21" * 32))
    return f"PRIVATE+KEY+{ORIGIN}+{signer.key.key_id.hex()}+{base64.b64encode(bytes([1]) + b'!' * 32).decode()}"


def test_a_ledger_that_it_never_met_has_nothing_to_give_up(tmp_path: Path) -> None:
    store, _ = open_state(tmp_path / "fresh", "w.example/bob")
    store.close()
    result = accept(tmp_path / "fresh", HEAD, note(tmp_path / "fresh", 7))
    assert result.exit_code == 1
    assert "remembers nothing" in result.output


def test_a_damaged_record_is_no_record() -> None:
    good = AcceptedFork(1, 2, b"\1" * 32, 3, b"\2" * 32)
    assert AcceptedFork.unpack(good.pack()) == good
    for bad in (b"", good.pack()[:-1], b"\2" + good.pack()[1:]):
        with pytest.raises(LedgerError, match="damaged"):
            AcceptedFork.unpack(bad)


async def test_no_request_can_ask_for_it(state: Path) -> None:
    """Whoever forks a ledger would simply ask the witnesses to agree."""
    store, keys = open_state(state, None)
    app = make_app(WitnessService(store, keys.cosigners, {ORIGIN: [LOG.key]}, lambda: NOW_S))
    assert {route.method for route in app.router.routes()} == {"POST", "GET", "HEAD"}
    assert {str(route.resource.canonical) for route in app.router.routes() if route.resource} == {
        "/add-checkpoint",
        "/{digest}/checkpoint",
    }
    async with TestClient(TestServer(app)) as client:
        for path in ("/accept-fork", "/add-checkpoint?accept-fork", "/add-checkpoint"):
            async with client.post(path, data=asking(0, 7, OTHERS)) as response:
                assert response.status in {404, 409}
    store.close()
