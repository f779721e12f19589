"""Cosignatures as a data owner and an auditor meet them: the quorum is named, missing ones fail, a fork is loud."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator.witnessing import Witnessing
from ledger.memory import MemoryStore
from ledger.note import VerifierKey, note_text
from ledger.policyfile import parse_policy
from tests.cli.test_against_coordinator import SIMULATED, set_manifest
from tests.coordinator.test_evidence import until
from tests.support.cli_world import LiveCoordinator, World, live_coordinator
from tests.support.witnesses import RunningWitness, live_witnesses
from wire.witnesses import WitnessClient

VERIFY = ("verify", "-m", "manifest.json", SIMULATED, "--witness-policy", "policy")


@dataclass
class Seen:
    """A workspace whose ledger two of three witnesses have cosigned to its end; `newest` is what w1 shows of it."""

    world: World
    store: MemoryStore
    port: int

    def audit(self, where: str, *more: str) -> dict[str, Any]:
        result = self.world.run("audit", where, "-m", "manifest.json", SIMULATED, "--json", *more)
        assert isinstance(result.exception, SystemExit | None), result.exception
        document: dict[str, Any] = json.loads(result.stdout)
        assert (result.exit_code == 0) == document["ok"]
        return document


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    world, store = World(tmp_path_factory.mktemp("seen")), MemoryStore()
    with live_witnesses("w1", "w2", "w3") as witnesses:
        text = "".join(each.line() for each in witnesses) + "group enough 2 w1 w2 w3\nquorum enough\n"
        (world.root / "policy").write_text(text)
        (world.root / "all").write_text(text.replace("enough 2", "enough all"))
        (world.root / "without").write_text(f"{witnesses[2].line()}quorum w3\n")
        how = Witnessing(policy=parse_policy(text.encode()), client=WitnessClient(timeout_s=5.0), strict=True)
        with live_coordinator(store, witnessing=how) as live:
            set_manifest(world, live)
            key = VerifierKey.parse(live.running.service.state.verifier_keys[0])
            for each in witnesses[:2]:  # The third never meets this ledger.
                each.logs[key.name] = [key]
            yesterday = copy.deepcopy(store)
            world.ok("ledger", "export", f"https://{live.address}", "yesterday")
            live.issue()
            wait_for(live, witnesses[:2])
            known = witnesses[0].store.known(key.name)
            assert known is not None
            (world.root / "newest").write_bytes(known.note)
            world.ok("ledger", "export", f"https://{live.address}", "ledger")
            said = world.ok(*VERIFY, "-c", live.address).output
            assert "a quorum has seen all 5 entries" in " ".join(said.split())
            world.ok(*VERIFY, "--full", "-c", live.address)
            before = world.files()
            refused = (*VERIFY[:-1], "without", "-c", live.address)
            said = world.refused(*refused, because="lacks the cosignatures").output
            assert "witness w3: no cosignature" in said
            assert world.files() == before
            port = int(live.address.rpartition(":")[2])
    return Seen(world, yesterday, port)


def wait_for(live: LiveCoordinator, witnesses: list[RunningWitness]) -> None:
    """Until both witnesses' lines stand under the newest checkpoint."""

    def cosigned() -> bool:
        note = live.running.service.ledger.finished or ""
        assert note_text(note)
        return all(f"{each.name}.example " in note for each in witnesses)

    live.call(until(cosigned))


def test_an_audit_names_the_witnesses_and_the_quorum(seen: Seen) -> None:
    document = seen.audit("ledger", "--witness-policy", "policy", "--html", "page.html")
    assert document["ok"]
    found = document["witnesses"]
    assert found["quorum"]
    assert found["seen"] == document["size"]
    assert [(each["witness"], each["size"]) for each in found["cosignatures"]] == [("w1", 5), ("w2", 5)]
    assert found["silent"] == ["w3"]
    page = (seen.world.root / "page.html").read_text()
    assert "A quorum has seen all of it" in page
    assert "Witnesses of your policy" in page
    assert page.count("witness w") == 2
    said = seen.world.ok("audit", "ledger", "-m", "manifest.json", SIMULATED, "--witness-policy", "policy").output
    assert "witness w1 saw all of it" in said
    assert "witness w3: no cosignature" in said
    assert "w1 saw" in seen.world.ok("ledger", "verify", "ledger", "--witness-policy", "policy").output


def test_without_a_policy_it_is_said_that_nobody_was_asked(seen: Seen) -> None:
    assert seen.audit("ledger")["witnesses"] is None
    for command in (("audit", "ledger", "-m", "manifest.json", SIMULATED), ("ledger", "verify", "ledger")):
        assert "cosignatures were not checked" in " ".join(seen.world.ok(*command).output.split())
    seen.world.ok("audit", "ledger", "-m", "manifest.json", SIMULATED, "--html", "unasked.html")
    page = (seen.world.root / "unasked.html").read_text()
    assert "cosignatures were not checked" in page
    assert "As witnessed" not in page
    seen.world.refused("audit", "ledger", "--cosigned", "newest", because="takes --witness-policy", status=2)


@pytest.mark.parametrize("policy", ["all", "without"])
def test_a_quorum_that_is_not_met_fails_though_nothing_is_wrong(seen: Seen, policy: str) -> None:
    """Whoever demands witnesses is not content with a ledger that only its host has seen."""
    document = seen.audit("ledger", "--witness-policy", policy, "--allow-missing")
    assert (document["then"], document["now"], document["ok"]) == ("proven", "accepted", False)
    assert not document["witnesses"]["quorum"]
    seen.world.refused("audit", "ledger", "--witness-policy", policy, because="NO quorum")
    seen.world.refused("ledger", "verify", "ledger", "--witness-policy", policy, because="lacks the cosignatures")


def test_what_a_witness_shows_elsewhere_must_be_of_this_history(seen: Seen) -> None:
    """The host serves yesterday's ledger, honestly signed; a witness knows better."""
    world = seen.world
    with live_coordinator(seen.store, port=seen.port) as live:
        world.ok("recover", "-c", live.address, SIMULATED, "--accept-fork-UNSAFE")
        live.issue()
        world.ok("ledger", "export", f"https://{live.address}", "another")
    document = seen.audit("another", "--witness-policy", "policy", "--cosigned", "newest")
    assert not document["ok"]
    assert document["then"] == "refused"
    assert document["first_contradiction"]["code"] == "witness_contradicts"
    assert "w1" in document["first_contradiction"]["reason"]
    asked = ("--witness-policy", "policy", "--cosigned", "newest")
    world.refused("ledger", "verify", "another", *asked, because="contradicts what witnesses have seen")
    assert seen.audit("ledger", *asked)["ok"]
    (world.root / "nonsense").write_bytes(b"\xff")
    world.refused("audit", "ledger", *asked[:2], "--cosigned", "nonsense", because="is no checkpoint of")


def test_an_older_copy_is_a_rollback_to_whoever_asks_a_witness(seen: Seen) -> None:
    """Every signature under yesterday's ledger is good, and who looks for the first time remembers no head."""
    world = seen.world
    asked = ("--witness-policy", "policy", "--cosigned", "newest")
    assert seen.audit("yesterday")["ok"]
    document = seen.audit("yesterday", *asked)
    assert not document["ok"]
    assert document["first_contradiction"]["code"] == "witness_contradicts"
    assert "5 entries are known there, and this one ends after 3: rolled back, or an older copy" in str(document)
    said = world.refused("ledger", "verify", "yesterday", *asked, because="contradicts what witnesses have seen").output
    assert "rolled back, or an older copy" in " ".join(said.split())


def test_a_false_line_is_a_contradiction(seen: Seen) -> None:
    root: Path = seen.world.root
    seen.world.ok("ledger", "export", "ledger", "false")
    path = root / "false" / "checkpoint"
    lines = path.read_text().splitlines(keepends=True)
    other = (root / "newest").read_text().splitlines(keepends=True)[-2]
    assert "w1.example" in other
    text = "".join(line for line in lines if not line.startswith("— w1.example"))
    changed = other[:-20] + ("A" if other[-20] != "A" else "B") + other[-19:]
    path.write_text(text + changed)
    document = seen.audit("false", "--witness-policy", "policy")
    assert document["first_contradiction"]["code"] == "cosignature_wrong"
    assert not document["witnesses"]["quorum"]
