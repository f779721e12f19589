"""Rollbacks and forks as operators and data owners meet them: recover refuses, compare proves, an override is loud."""

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.opening import open_ledger
from coordinator.witnessing import Witnessing
from ledger.lmdb_store import LmdbStore
from ledger.memory import MemoryStore
from ledger.note import VerifierKey
from ledger.policyfile import parse_policy
from ledger.store import Store
from tests.cli.test_against_coordinator import SIMULATED, set_manifest
from tests.coordinator.test_evidence import until
from tests.support.cli_world import LiveCoordinator, World, live_coordinator
from tests.support.witnesses import RunningWitness, live_witnesses
from wire.bundle import parse_bundle
from wire.witnesses import WitnessClient

UNSAFE = "--accept-fork-UNSAFE"


@dataclass
class Rolled:
    """A workspace, its newest storage, yesterday's copy of it, and heads that others know of."""

    world: World
    newest: MemoryStore
    yesterday: MemoryStore
    port: int

    def recover(self, *more: str) -> tuple[str, ...]:
        return ("recover", "-c", f"127.0.0.1:{self.port}", SIMULATED, *more)


@pytest.fixture
def rolled(tmp_path: Path) -> Rolled:
    """The host has put yesterday's storage back; the operator's memory is of yesterday, too."""
    world, store = World(tmp_path), MemoryStore()
    with live_coordinator(store) as live:
        port = int(live.address.rpartition(":")[2])
        set_manifest(world, live)
        live.issue()
        world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
        (world.root / "old").write_text(live.running.service.ledger.finished or "")
        yesterday = copy.deepcopy(store)
        receipt = parse_bundle(live.issue().bundle).receipt
        (world.root / "cert.tlog-proof").write_bytes(receipt)
        (world.root / "new").write_text(live.running.service.ledger.finished or "")
    return Rolled(world, store, yesterday, port)


def test_recovery_takes_heads_that_others_know(rolled: Rolled) -> None:
    """The operator's own memory may be older than the rollback."""
    world = rolled.world
    with live_coordinator(rolled.yesterday, port=rolled.port) as live:
        before = world.files()
        for name in ("new", "cert.tlog-proof"):
            said = world.refused(*rolled.recover("--known-head", "old", "--known-head", name), because="rolled back")
            assert "known:   7 entries" in said.output
            assert f"({name})" in said.output
            assert UNSAFE in said.output
        assert world.files() == before
        assert live.running.service.phase == "recovery"
        world.ok(*rolled.recover("--known-head", "old"))
    with live_coordinator(rolled.newest, port=rolled.port):
        world.refused(*rolled.recover(), because="forked")  # The operator has gone on with yesterday's.


def test_recovery_takes_the_memory_of_another_workspace(rolled: Rolled, tmp_path: Path) -> None:
    world = rolled.world
    heads = json.loads((world.root / "heads.json").read_bytes())
    (head,) = heads["heads"].values()
    heads["heads"] = {"elsewhere:1313": head | {"root": "ab" * 32}}
    (world.root / "theirs.json").write_text(json.dumps(heads))
    with live_coordinator(rolled.newest, port=rolled.port):
        world.refused(*rolled.recover("--known-head", "theirs.json"), because="forked")
        heads["heads"]["elsewhere:1313"]["origin"] = "contrast.invalid/" + "0" * 64
        (world.root / "theirs.json").write_text(json.dumps(heads))
        world.refused(*rolled.recover("--known-head", "theirs.json"), because="no head of")


def test_a_head_that_the_ledger_did_not_sign_is_not_taken(rolled: Rolled) -> None:
    """A stranger's file would keep the Coordinator down, or stand in the ledger as lost history."""
    world = rolled.world
    note = (world.root / "new").read_text()
    (world.root / "changed").write_text(note.replace("\n7\n", "\n9\n", 1))
    (world.root / "draft").write_text(note.replace(note.split("\n\n")[1].split("\n")[0] + "\n", "", 1))
    (world.root / "nonsense").write_bytes(b"\xff\x00")
    with live_coordinator(rolled.newest, port=rolled.port):
        for name in ("changed", "draft", "nonsense"):
            world.refused(*rolled.recover("--known-head", name, UNSAFE), because="is no checkpoint of")
        world.refused(*rolled.recover("--known-head", "nowhere"), because="nowhere", status=4)


def test_going_on_without_lost_history_is_loud_and_stands_in_the_ledger(rolled: Rolled) -> None:
    world = rolled.world
    with live_coordinator(rolled.yesterday, port=rolled.port) as live:
        said = world.ok(*rolled.recover("--known-head", "new", UNSAFE))
        assert "ACCEPTED ON REQUEST" in said.output
        for more in ((), ("--full",)):
            assert (
                "HISTORY WAS GIVEN UP"
                in world.ok("verify", *more, "-c", live.address, "-m", "manifest.json", SIMULATED).output
            )
        live.issue()
        world.ok("audit", "verify/ledger", "-m", "manifest.json", SIMULATED, "--html", "audit.html")
        assert "History was given up" in (world.root / "audit.html").read_text()
    (fork,) = open_ledger(rolled.yesterday).state.forks
    assert [size for size, _ in fork.event.heads] == [7]
    shown = world.ok("ledger", "show", "verify/ledger").output
    assert "ledger.fork_accepted" in shown
    assert "does not extend" in shown


def test_the_override_forgets_the_operators_own_memory_only_loudly(rolled: Rolled) -> None:
    world = rolled.world
    with live_coordinator(rolled.newest, port=rolled.port) as live:
        world.ok(*rolled.recover())
        world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    with live_coordinator(rolled.yesterday, port=rolled.port) as live:
        world.refused(*rolled.recover(), because="rolled back")
        assert "remembered here" in world.ok(*rolled.recover(UNSAFE)).output
        world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    assert len(open_ledger(rolled.yesterday).state.forks) == 1


def test_the_override_changes_nothing_where_nothing_is_lost(rolled: Rolled) -> None:
    """A habit of typing it must not stain honest ledgers."""
    with live_coordinator(rolled.newest, port=rolled.port):
        said = rolled.world.ok(*rolled.recover("--known-head", "new", UNSAFE)).output
    assert "ACCEPTED" not in said
    assert open_ledger(rolled.newest).state.forks == ()


# --- Witnesses' heads.


@pytest.fixture
def witnesses() -> Iterator[list[RunningWitness]]:
    with live_witnesses("w1", "w2", "w3") as running:
        yield running


def policy_text(witnesses: list[RunningWitness]) -> str:
    return "".join(each.line() for each in witnesses) + "group enough 2 w1 w2 w3\nquorum enough\n"


def strict(witnesses: list[RunningWitness]) -> Witnessing:
    policy = parse_policy(policy_text(witnesses).encode())
    return Witnessing(policy=policy, client=WitnessClient(timeout_s=5.0), strict=True)


def know(live: LiveCoordinator, witnesses: list[RunningWitness]) -> None:
    key = VerifierKey.parse(live.running.service.state.verifier_keys[0])
    for each in witnesses:
        each.logs[key.name] = [key]


def test_recovery_asks_the_witnesses(tmp_path: Path, witnesses: list[RunningWitness]) -> None:
    """Nobody in the workspace may have seen the newest entries, but the witnesses have."""
    world, store = World(tmp_path), MemoryStore()
    (world.root / "policy").write_text(policy_text(witnesses))
    with live_coordinator(store, witnessing=strict(witnesses)) as live:
        port = int(live.address.rpartition(":")[2])
        set_manifest(world, live)
        know(live, witnesses)
        yesterday = copy.deepcopy(store)
        live.issue()
        origin = live.running.service.state.origin
        live.call(until(lambda: all(each.store.known(origin) for each in witnesses)))
    recover = ("recover", "-c", f"127.0.0.1:{port}", SIMULATED, "--witness-policy", "policy")
    with live_coordinator(yesterday, port=port):
        said = world.refused(*recover, because="rolled back").output
        assert "witness w1" in said
    with live_coordinator(store, port=port, witnessing=strict(witnesses)) as live:
        world.ok(*recover)
        live.issue()


def test_silent_witnesses_are_no_good_news(tmp_path: Path, witnesses: list[RunningWitness]) -> None:
    """Whoever rolls the ledger back would also keep the witnesses from answering, or answer for them."""
    world, store = World(tmp_path), MemoryStore()
    (world.root / "policy").write_text(policy_text(witnesses))
    with live_coordinator(store, witnessing=strict(witnesses)) as live:
        port = int(live.address.rpartition(":")[2])
        set_manifest(world, live)
        key = VerifierKey.parse(live.running.service.state.verifier_keys[0])
        witnesses[0].logs[key.name] = [key]  # The other two never met this ledger.
        live.call(until(lambda: witnesses[0].store.known(key.name) is not None))
    with live_coordinator(store, port=port):
        recover = ("recover", "-c", f"127.0.0.1:{port}", SIMULATED, "--witness-policy", "policy")
        said = world.refused(*recover, because="fewer witnesses").output
        assert "w2: answered 404" in said
        (world.root / "policy").write_text(policy_text(witnesses[:1]).replace("enough 2 w1 w2 w3", "enough 1 w1"))
        world.ok(*recover)


# --- Comparing.


@dataclass
class Forked:
    """Two Coordinators that went on from copies of one ledger, and what two data owners keep of them."""

    mine: World
    yours: World


@pytest.fixture
def forked(tmp_path: Path) -> Forked:
    (tmp_path / "mine").mkdir()
    (tmp_path / "yours").mkdir()
    world, store = World(tmp_path / "mine"), MemoryStore()
    with live_coordinator(store) as live:
        set_manifest(world, live)
        live.issue()
    shares = (world.root / "seed-shares.json").read_bytes()
    worlds = []
    for name, count in (("mine", 1), ("yours", 3)):
        there = world if name == "mine" else World(tmp_path / name)
        (there.root / "seed-shares.json").write_bytes(shares)
        copied: Store = copy.deepcopy(store)
        with live_coordinator(copied) as live:
            there.ok("recover", "-c", live.address, SIMULATED)
            for _ in range(count):
                live.issue()
            (there.root / "receipt").write_bytes(parse_bundle(live.issue().bundle).receipt)
            there.ok("verify", "--full", "-c", live.address, "-m", "manifest.json", SIMULATED)
        worlds.append(there)
    return Forked(*worlds)


def test_two_exports_that_contradict_become_evidence_for_a_third_person(forked: Forked, tmp_path: Path) -> None:
    """A fork that nobody can prove to others is a quarrel."""
    yours = forked.yours.root / "verify" / "ledger"
    keys = [str(each.root / "verify" / "ledger.vkeys") for each in (forked.yours, forked.mine)]
    said = forked.mine.refused("ledger", "compare", "verify/ledger", str(yours), because="FORKED")
    assert "fork.json" in said.output
    (tmp_path / "third").mkdir()
    third = World(tmp_path / "third")
    (third.root / "fork.json").write_bytes((forked.mine.root / "fork.json").read_bytes())
    said = third.ok("ledger", "check-evidence", "fork.json", "--vkeys", keys[0], "--vkeys", keys[1])
    assert "PROVEN" in said.output
    # Who has judged one of the two Coordinators only is told what is missing.
    third.refused("ledger", "check-evidence", "fork.json", "--vkeys", keys[0], because="never judged")
    raw = (third.root / "fork.json").read_bytes()
    (third.root / "bad.json").write_bytes(raw.replace(b'"second"', b'"sekond"'))
    third.refused("ledger", "check-evidence", "bad.json", "--vkeys", keys[0], because="no evidence")


def test_two_coordinators_on_one_entry_are_evidence_of_their_own(forked: Forked, tmp_path: Path) -> None:
    """The moment of the fork, for a third person who has neither ledger, and of sides who have receipts only."""
    yours = forked.yours.root / "verify" / "ledger"
    keys = [each.root / "verify" / "ledger.vkeys" for each in (forked.yours, forked.mine)]
    both = ("--vkeys", str(keys[0]), "--vkeys", str(keys[1]))
    said = forked.mine.refused("ledger", "compare", "verify/ledger", str(yours), because="FORKED")
    assert "fork-epochs.json" in said.output
    assert "opened at entry 5" in " ".join(said.output.split())
    for world in (forked.mine, forked.yours):
        world.ok("ledger", "receipt", "verify/ledger", "--seq", "5", "-o", "opened")
    (forked.mine.root / "theirs").write_bytes((forked.yours.root / "opened").read_bytes())
    forked.mine.refused("ledger", "compare", "opened", "theirs", *both, "-o", "twins.json", because="FORKED")
    (tmp_path / "third").mkdir()
    third = World(tmp_path / "third")
    for name in ("fork-epochs.json", "twins.json"):
        (third.root / name).write_bytes((forked.mine.root / name).read_bytes())
        assert "two Coordinators on one entry" in third.ok("ledger", "check-evidence", name, *both).output
        document = json.loads(third.ok("ledger", "check-evidence", name, *both, "--json").stdout)
        assert (document["opened"], len(set(document["epochs"]))) == (5, 2)
        third.refused("ledger", "check-evidence", name, *both[:2], because="never judged")
    raw = (third.root / "twins.json").read_bytes()
    (third.root / "bad.json").write_bytes(raw.replace(b'"second"', b'"sekond"'))
    third.refused("ledger", "check-evidence", "bad.json", *both, because="no evidence")


def test_a_receipt_is_enough_on_the_shorter_side(forked: Forked) -> None:
    """A pod's receipt, or a certificate holder's, carries the head that it was issued under."""
    keys = ("--vkeys", "verify/ledger.vkeys")
    yours = str(forked.yours.root / "verify" / "ledger")
    forked.mine.refused("ledger", "compare", "receipt", yours, *keys, "-o", "found.json", because="FORKED")
    assert (forked.mine.root / "found.json").exists()
    theirs = str(forked.yours.root / "verify" / "ledger" / "checkpoint")
    both = (*keys, "--vkeys", str(forked.yours.root / "verify" / "ledger.vkeys"))
    forked.mine.refused("ledger", "compare", "receipt", theirs, *both, because="alone contradict nothing", status=2)


def test_one_history_agrees_with_itself(forked: Forked) -> None:
    keys = ("--vkeys", "verify/ledger.vkeys")
    for one, other in (("verify/ledger", "verify/ledger"), ("receipt", "verify/ledger"), ("receipt", "receipt")):
        assert "they agree" in forked.mine.ok("ledger", "compare", one, other, *keys).output
    assert not (forked.mine.root / "fork.json").exists()


def test_what_a_plain_verify_leaves_is_a_side(forked: Forked, tmp_path: Path) -> None:
    """Who never ran --full has a history to hold against another's all the same."""
    store, keys = MemoryStore(), ("--vkeys", "verify/ledger.vkeys")
    (tmp_path / "plain").mkdir()
    world = World(tmp_path / "plain")
    with live_coordinator(store) as live:
        set_manifest(world, live)
        (world.root / "old").write_text(live.running.service.ledger.finished or "")
        live.issue()
        world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    assert not (world.root / "verify" / "ledger" / "tile" / "entries").exists()
    assert "at sizes 3 and 5" in world.ok("ledger", "compare", "old", "verify/ledger", *keys).output
    assert "they agree" in world.ok("ledger", "compare", "verify/ledger", "verify/ledger", *keys).output
    shutil.rmtree(world.root / "verify" / "ledger" / "tile")
    compare = ("ledger", "compare", "old", "verify/ledger", *keys)
    world.refused(*compare, because="`contrast verify --full` leaves the whole ledger", status=2)
    # Of the fork, the longer side as a plain verify leaves it.
    shutil.rmtree(forked.yours.root / "verify" / "ledger" / "tile" / "entries")
    both = (*keys, "--vkeys", str(forked.yours.root / "verify" / "ledger.vkeys"))
    theirs = str(forked.yours.root / "verify" / "ledger")
    forked.mine.refused("ledger", "compare", "receipt", theirs, *both, "-o", "found.json", because="FORKED")
    forked.mine.ok("ledger", "check-evidence", "found.json", *both)


def test_a_draft_is_no_side(forked: Forked, tmp_path: Path) -> None:
    note = (forked.mine.root / "verify" / "ledger" / "checkpoint").read_text()
    text, lines = note.split("\n\n")
    (forked.mine.root / "draft").write_text(f"{text}\n\n{lines.splitlines()[1]}\n")
    forked.mine.refused("ledger", "compare", "draft", "verify/ledger", because="no finished checkpoint")
    store = LmdbStore(tmp_path / "lmdb")
    store.close()
    forked.mine.refused("ledger", "compare", str(tmp_path / "lmdb"), "verify/ledger", because="no ledger")


def test_two_ledgers_are_no_fork(forked: Forked, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    with live_coordinator(MemoryStore()) as live:
        set_manifest(other, live)
        other.ok("verify", "--full", "-c", live.address, "-m", "manifest.json", SIMULATED)
    there = str(other.root / "verify" / "ledger")
    forked.mine.refused("ledger", "compare", "verify/ledger", there, because="two ledgers")
