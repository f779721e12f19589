"""Ledgers of every released format replay for ever, to the state that they had when they were written."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.events import decode_event, pack_event
from coordinator.opening import check_finished
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.rules import Rules
from coordinator.state import EMPTY, State
from ledger.entry import Entry
from ledger.errors import LedgerContentError
from ledger.source import DirectorySource
from ledger.verify import Verified, replay_source

GOLDEN = sorted(path for path in Path(__file__).parent.iterdir() if path.name.startswith("ledger-"))


def blobs(source: DirectorySource) -> Callable[[bytes], bytes | None]:
    """Blobs that are what their names say; others count as missing."""

    def blob(digest: bytes) -> bytes | None:
        data = source.blob(digest)
        return data if data is not None and hashlib.sha256(data).digest() == digest else None

    return blob


def replay(folder: Path) -> tuple[State, Verified, list[Entry]]:
    """Replay an export by the ledger's rules and by the Coordinator's."""
    source = DirectorySource(folder)
    entries: list[Entry] = []
    rules = Rules(blob=blobs(source), body_hash=lambda seq: entries[seq].body_hash)
    state = EMPTY

    def visit(entry: Entry) -> None:
        nonlocal state
        state = rules.apply(state, entry)
        entries.append(entry)

    verified = replay_source(source, visit=visit)
    check_finished(verified.checkpoint_raw.decode(), state)
    return state, verified, entries


def test_there_is_a_golden_ledger() -> None:
    assert [path.name for path in GOLDEN] == ["ledger-v1"]


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_a_golden_ledger_replays_to_the_state_it_had(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    state, verified, entries = replay(folder)
    current = state.current
    assert current is not None
    assert {
        "origin": state.origin,
        "size": verified.size,
        "root": verified.root.hex(),
        "head": verified.head.hex(),
        "generation": state.generation,
        "transition": state.transition.hex(),
        "control_head": [state.control_head.seq, state.control_head.body_hash.hex()],
        "manifest": current.manifest.hex(),
        "mesh_ca": current.mesh_ca.hex(),
        "root_ca": state.root_ca.hex(),
        "attestations": state.attestations,
        "certificates": state.certificates,
        "secrets": state.secrets,
        "refused": state.refused,
        "recoveries": state.recoveries,
        "open_epochs": [epoch.key.hex() for epoch in state.open_epochs],
        "types": [entry.body.type for entry in entries],
    } == expected


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_every_payload_is_packed_again_to_its_bytes(folder: Path) -> None:
    """A changed encoding would orphan every ledger that exists."""
    for entry in replay(folder)[2]:
        event, link = decode_event(entry)
        packed = pack_event(event) if link is None else pack_event(event, link)
        assert packed == (entry.body.type, entry.body.payload)


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_every_type_of_event_is_there(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    assert set(expected["types"]) == {
        "ledger.created",
        "epoch.opened",
        "manifest.set",
        "attestation.accepted",
        "attestation.refused",
        "certificate.issued",
        "secret.released",
        "ledger.recovered",
    }


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_no_file_of_it_can_change_unnoticed(folder: Path, tmp_path: Path) -> None:
    """Otherwise these tests would prove nothing."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "expected.json" or path.parent.name == "entry":
            continue
        copied = tmp_path / "copy"
        shutil.copytree(folder, copied)
        changed = copied / path.relative_to(folder)
        raw = bytearray(changed.read_bytes())
        raw[len(raw) // 2] ^= 1
        changed.write_bytes(bytes(raw))
        if path.parent.name != "blob":
            with pytest.raises((LedgerContentError, RuleBrokenError, UnprovenError, UnicodeDecodeError)):
                replay(copied)
        else:
            assert blobs(DirectorySource(copied))(bytes.fromhex(path.name)) is None
        shutil.rmtree(copied)
