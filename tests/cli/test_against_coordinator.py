"""`set`, `verify` and `recover` against a real Coordinator over HTTP: what they write, and when they write nothing."""

import asyncio
import dataclasses
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cli.fetch import Get, fetch_ledger
from cli.fetch_control import fetch_control
from ledger.memory import MemoryStore
from ledger.store import Store
from manifest.model import Policy, Role
from tests.support.cli_world import LiveCoordinator, World, live_coordinator
from tests.support.deployment import (
    COORDINATOR_POLICY,
    VAULT_POLICY,
    WEB_POLICY,
    Deployment,
    GuestIssuer,
    Pod,
    digest,
    launch,
    other_vendor,
    owner_key,
)

SIMULATED = "--allow-simulated"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def live(store: Store) -> Iterator[LiveCoordinator]:
    with live_coordinator(store) as running:
        yield running


def set_manifest(world: World, live: LiveCoordinator, *more: str) -> None:
    world.ok("set", "-c", live.address, SIMULATED, "deployment", *more)


def test_the_first_set_leaves_shares_certificates_and_a_head(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    shares = json.loads((world.root / "seed-shares.json").read_bytes())
    assert shares["origin"].startswith("contrast.invalid/")
    assert len(shares["seed_shares"]) == 1
    for name in ("coordinator-root.pem", "mesh-root.pem"):
        x509.load_pem_x509_certificate((world.root / name).read_bytes())
    heads = json.loads((world.root / "heads.json").read_bytes())["heads"]
    assert heads[live.address]["size"] == 3


def test_set_again_changes_nothing(world: World, live: LiveCoordinator) -> None:
    """A lost answer must be askable again without a second manifest, and without losing the shares."""
    set_manifest(world, live)
    (world.root / "seed-shares.json").unlink()
    size = live.size()
    set_manifest(world, live)
    assert (world.root / "seed-shares.json").exists()
    assert live.size() == size


def test_verify_writes_everything_that_a_data_owner_needs(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    live.issue()
    live.issue(Pod(VAULT_POLICY))
    result = world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    assert "SIMULATED" in result.output
    assert "reference values: manifest.json" in result.output
    folder = world.root / "verify"
    assert (folder / "manifest.0.json").read_bytes() == world.deployment.manifest
    for text in world.deployment.policies:
        assert (folder / f"policy.{digest(text).hex()}.rego").read_bytes() == text
    assert (folder / "mesh-root.pem").read_bytes() == (world.root / "mesh-root.pem").read_bytes()
    assert (folder / "coordinator-root.pem").read_bytes() == (world.root / "coordinator-root.pem").read_bytes()
    assert (folder / "ledger" / "checkpoint").read_bytes().startswith(b"contrast.invalid/")
    assert (folder / "ledger" / "entry" / "2").exists()
    assert len((folder / "ledger.vkeys").read_text().splitlines()) == 4
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert not list(world.root.glob(".verify*"))


def test_the_exported_ledger_passes_offline(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    live.issue()
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, "--full")
    judged = world.ok("ledger", "verify", "verify/ledger")
    assert "passes" in judged.stdout
    assert "SIMULATED PLATFORM" in judged.stderr  # Without reference values nobody said --allow-simulated.
    shown = world.ok("ledger", "show", "verify/ledger").output
    assert "certificate.issued" in shown
    assert "web.default.svc.cluster.local" in shown
    state = json.loads(world.ok("ledger", "replay", "verify/ledger", "--at", "2", "--json").stdout)
    assert (state["generation"], state["certificates"]) == (1, 0)
    events = json.loads(world.ok("ledger", "show", "verify/ledger", "--from", "1", "--to", "2", "--json").stdout)
    assert [event["type"] for event in events["entries"]] == ["epoch.opened", "manifest.set"]


def test_verify_without_a_manifest_uses_the_values_given_and_says_so(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    values = json.loads(world.deployment.manifest)["ReferenceValues"]
    (world.root / "values.json").write_text(json.dumps(values))
    result = world.ok("verify", "-c", live.address, SIMULATED, "--reference-values", "values.json")
    assert "reference values: values.json" in result.output
    assert "left here by `contrast generate`" in result.output
    document = json.loads(
        world.ok("verify", "-c", live.address, SIMULATED, "--reference-values", "values.json", "--json").stdout
    )
    assert document["ok"] is True
    assert document["simulated"] is True


def test_a_policy_that_the_verifier_does_not_know_is_refused(world: World, live: LiveCoordinator) -> None:
    """Whoever ran that Coordinator could have had the seed."""
    set_manifest(world, live)
    values = json.loads(world.deployment.manifest)["ReferenceValues"]
    (world.root / "values.json").write_text(json.dumps(values))
    (world.root / "coordinator-policy.sha256").write_text("ab" * 32 + "\n")
    world.refused(
        "verify",
        "-c",
        live.address,
        SIMULATED,
        "--reference-values",
        "values.json",
        because="is not the one you accept",
    )
    assert not (world.root / "verify").exists()
    known = digest(next(iter(world.deployment.policies))).hex()
    world.ok(
        "verify", "-c", live.address, SIMULATED, "--reference-values", "values.json", "--coordinator-policy-hash", known
    )


def test_another_manifest_than_expected_is_told_in_words(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    other = Deployment().with_policy(WEB_POLICY, Policy(sans=("web", "evil.example.com")))
    (world.root / "other.json").write_bytes(other.manifest)
    result = world.refused("verify", "-c", live.address, "-m", "other.json", SIMULATED, because="SANs")
    assert "evil.example.com" in result.output
    assert not (world.root / "verify").exists()


def test_an_update_gives_another_mesh_ca_and_the_history_shows_both(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    old = (world.root / "mesh-root.pem").read_bytes()
    root = (world.root / "coordinator-root.pem").read_bytes()
    shares = (world.root / "seed-shares.json").read_bytes()
    live.issue()
    world.deploy(Deployment().with_policy(b"package agent_policy\n# new\n", Policy(sans=("new",))))
    set_manifest(world, live)
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    assert (world.root / "verify" / "manifest.1.json").read_bytes() == world.deployment.manifest
    assert (world.root / "verify" / "mesh-root.pem").read_bytes() != old
    assert (world.root / "coordinator-root.pem").read_bytes() == root
    assert (world.root / "seed-shares.json").read_bytes() == shares


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--workload-owner-key", "stranger.pem"), "not_an_owner"),
        (("--latest-transition", "00" * 32), "stale_transition"),
    ],
)
def test_an_update_that_is_refused_writes_nothing(
    world: World, live: LiveCoordinator, more: tuple[str, ...], code: str
) -> None:
    set_manifest(world, live)
    world.write_key("stranger.pem", ec.generate_private_key(ec.SECP384R1()))
    world.deploy(Deployment().with_policy(b"package agent_policy\n# new\n", Policy(sans=("new",))))
    before = world.files()
    world.refused("set", "-c", live.address, SIMULATED, "deployment", *more, because=code)
    assert world.files() == before


def test_yaml_and_manifest_that_disagree_are_told_before_anybody_is_asked(world: World) -> None:
    yaml = world.root / "deployment" / "all.yml"
    documents = yaml.read_text().split("---\n")
    yaml.write_text("---\n".join(documents[:-1]))
    before = world.files()
    result = world.refused("set", "-c", "127.0.0.1:1", SIMULATED, "deployment", because="disagree")
    assert digest(VAULT_POLICY).hex() in result.output
    assert world.files() == before


def test_nobody_there_is_exit_3_with_the_address(world: World) -> None:
    result = world.refused(
        "set", "-c", "127.0.0.1:1", SIMULATED, "--timeout", "0", "deployment", because="127.0.0.1:1", status=3
    )
    assert "--timeout" in result.output


def test_a_simulated_platform_needs_the_option(world: World, live: LiveCoordinator) -> None:
    world.refused("set", "-c", live.address, "deployment", because="--allow-simulated")
    world.refused("verify", "-c", live.address, "-m", "manifest.json", because="--allow-simulated")


def test_the_option_without_a_file_that_names_the_anchor_is_refused(world: World, live: LiveCoordinator) -> None:
    """Else a peer could bring its own anchor."""
    world.refused("verify", "-c", live.address, SIMULATED, because="no reference values", status=2)


def test_a_coordinator_of_another_vendor_is_refused(world: World) -> None:
    with live_coordinator(issuer=GuestIssuer(launch(chain=other_vendor()))) as live:
        before = world.files()
        result = world.refused("set", "-c", live.address, SIMULATED, "deployment", because="not the one you accept")
        assert "check" in result.output
        assert world.files() == before


def test_verify_again_demands_an_extension(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    live.issue()
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    heads = json.loads((world.root / "heads.json").read_bytes())["heads"]
    assert heads[live.address]["size"] == live.size()


def test_a_longer_memory_than_the_ledger_is_a_rollback(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    heads = json.loads((world.root / "heads.json").read_bytes())
    heads["heads"][live.address]["size"] = 30
    (world.root / "heads.json").write_text(json.dumps(heads))
    before = world.files()
    result = world.refused("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, because="rolled back")
    assert "remembered: 30 entries" in result.output
    assert "offered:    3 entries" in result.output
    assert world.files() == before


@pytest.mark.parametrize("size", [1, 2, 3], ids=["older", "old", "equal"])
def test_another_history_is_a_fork_for_verify_and_for_set(world: World, live: LiveCoordinator, size: int) -> None:
    set_manifest(world, live)
    heads = json.loads((world.root / "heads.json").read_bytes())
    heads["heads"][live.address] |= {"size": size, "root": "ab" * 32}
    (world.root / "heads.json").write_text(json.dumps(heads))
    before = world.files()
    world.refused("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, because="forked")
    world.refused("set", "-c", live.address, SIMULATED, "deployment", because="forked")
    assert world.files() == before


def test_a_replaced_ledger_is_loud_and_new_ledger_accepts_it(world: World, store: MemoryStore) -> None:
    with live_coordinator(store) as live:
        port = int(live.address.rpartition(":")[2])
        set_manifest(world, live)
        shares = (world.root / "seed-shares.json").read_bytes()
    with live_coordinator(MemoryStore(), port=port) as live:
        world.refused("set", "-c", live.address, SIMULATED, "deployment", because="--new-ledger")
        set_manifest(world, live, "--new-ledger")
        world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    kept = list(world.root.glob("seed-shares.*.json"))
    assert [path.read_bytes() for path in kept] == [shares]
    with live_coordinator(MemoryStore(), port=port) as live:
        World(world.root)
        world.refused("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, because="no manifest yet")


def test_recover_brings_a_restarted_coordinator_back(world: World, store: MemoryStore) -> None:
    with live_coordinator(store) as live:
        port = int(live.address.rpartition(":")[2])
        set_manifest(world, live)
        live.issue()
        root = (world.root / "coordinator-root.pem").read_bytes()
    with live_coordinator(store, port=port) as live:
        world.refused("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, because="contrast recover")
        world.refused("set", "-c", live.address, SIMULATED, "deployment", because="contrast recover")
        world.ok("recover", "-c", live.address, SIMULATED)
        world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
        assert (world.root / "verify" / "coordinator-root.pem").read_bytes() == root
        world.refused("recover", "-c", live.address, SIMULATED, because="nothing to recover")
        live.issue()


def test_recover_refuses_another_manifest_and_strange_shares(world: World, store: MemoryStore) -> None:
    """The seed must go to no ledger but the owner's own, at the manifest that the owner means."""
    with live_coordinator(store) as live:
        set_manifest(world, live)
    with live_coordinator(store) as live:
        (world.root / "other.json").write_bytes(Deployment().with_policy(WEB_POLICY, Policy(sans=("other",))).manifest)
        world.refused("recover", "-c", live.address, SIMULATED, "-m", "other.json", because="is not other.json")
        shares = json.loads((world.root / "seed-shares.json").read_bytes())
        strange = dict(shares, origin="contrast.invalid/" + "0" * 64)
        (world.root / "strange.json").write_text(json.dumps(strange))
        world.refused("recover", "-c", live.address, SIMULATED, "--seed", "strange.json", because="another ledger")
        assert live.running.service.state.recoveries == 0


def test_set_sends_no_signature_for_a_manifest_without_owners(world: World, live: LiveCoordinator) -> None:
    world.deploy(dataclasses.replace(Deployment(), owners=()))
    result = world.ok("set", "-c", live.address, SIMULATED, "deployment")
    assert "can never be replaced" in result.output
    world.deploy(Deployment())
    world.refused("set", "-c", live.address, SIMULATED, "deployment", because="updates_disabled")


def test_a_swapped_blob_in_an_exported_ledger_is_found(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, "--full")
    name = hashlib.sha256(world.deployment.manifest).hexdigest()
    blob = world.root / "verify" / "ledger" / "blob" / name
    blob.write_bytes(blob.read_bytes().replace(b'"web"', b'"bad"'))
    world.refused("ledger", "verify", "verify/ledger", because=name)


@pytest.mark.parametrize("full", [False, True], ids=["control chain", "full"])
def test_a_ledger_that_grows_while_it_is_downloaded_is_verified_as_attested(
    world: World, live: LiveCoordinator, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    """On a busy deployment there is no quiet moment."""
    set_manifest(world, live)

    async def busy(get: Get, checkpoint: bytes, *arguments: Any, **more: Any) -> object:
        await asyncio.to_thread(live.issue)
        fetch: Any = fetch_ledger if full else fetch_control
        return await fetch(get, checkpoint, *arguments, **more)

    monkeypatch.setattr("cli.verify.fetch_ledger" if full else "cli.verify.fetch_control", busy)
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, *(["--full"] if full else []))
    assert (world.root / "verify" / "ledger" / "checkpoint").read_bytes().splitlines()[1] == b"3"
    assert live.size() > 3


def test_a_set_whose_files_cannot_be_written_is_repeated(
    world: World, live: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is in force then, and the shares must not be lost."""

    def full(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
        if str(path).endswith(".new"):
            raise OSError(28, "No space left on device", str(path))
        return real(path, flags, mode, **more)

    real = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        world.refused("set", "-c", live.address, SIMULATED, "deployment", because="No space left", status=4)
    assert not (world.root / "seed-shares.json").exists()
    set_manifest(world, live)
    assert (world.root / "seed-shares.json").exists()


def test_a_verification_that_cannot_be_written_keeps_the_last_one(
    world: World, live: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_manifest(world, live)
    verify = ("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    world.ok(*verify)
    before = world.files()
    real = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "ledger.vkeys":
            raise OSError(28, "No space left on device", str(self))
        return real(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        world.refused(*verify, because="No space left", status=4)
    assert world.files() == before


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("tile/entries/000.p/3", ("show", "verify", "replay")),
        ("tile/0/000.p/3", ("show", "verify", "replay")),
        ("checkpoint", ("verify",)),  # The middle of it is a signature, which only `verify` judges.
    ],
)
def test_a_damaged_export_is_told_and_never_a_crash(
    world: World, live: LiveCoordinator, name: str, commands: tuple[str, ...]
) -> None:
    set_manifest(world, live)
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, "--full")
    path = world.root / "verify" / "ledger" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    for command in commands:
        world.refused("ledger", command, "verify/ledger", because="error:")
    shutil.rmtree(world.root / "verify" / "ledger")
    world.refused("ledger", "show", "verify/ledger", because="holds no ledger", status=4)


def test_every_policy_with_the_role_is_listed(world: World, live: LiveCoordinator) -> None:
    """A second Coordinator that never ran could still be given the seed tomorrow."""
    spare = b"package agent_policy\n# spare coordinator\n"
    world.deploy(Deployment().with_policy(spare, Policy(sans=("spare",), role=Role.COORDINATOR)))
    set_manifest(world, live)
    said = world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED).output
    assert f"never run: policy {digest(spare).hex()}" in said
    values = json.loads(world.deployment.manifest)["ReferenceValues"]
    (world.root / "values.json").write_text(json.dumps(values))
    judged = ("verify", "-c", live.address, SIMULATED, "--reference-values", "values.json")
    world.refused(*judged, because="unknown_coordinator")
    world.ok(*judged, "--coordinator-policy-hash", digest(spare).hex())


def test_several_owners_sign_together(world: World, live: LiveCoordinator) -> None:
    second = ec.generate_private_key(ec.SECP384R1())
    world.write_key("second.pem", second)
    world.deploy(dataclasses.replace(Deployment(), owners=(owner_key(), second)))
    keys = ("--workload-owner-key", "workload-owner.pem", "--workload-owner-key", "second.pem")
    set_manifest(world, live, *keys)
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, "--full")
    events = json.loads(world.ok("ledger", "show", "verify/ledger", "--from", "2", "--json").stdout)["entries"]
    assert len(events[0]["event"]["signatures"]) == 2


def test_a_key_that_others_may_read_is_warned_of(world: World, live: LiveCoordinator) -> None:
    (world.root / "workload-owner.pem").chmod(0o644)
    assert "chmod 600" in world.ok("set", "-c", live.address, SIMULATED, "deployment").output


def test_no_secret_of_a_key_file_is_ever_shown(world: World, live: LiveCoordinator) -> None:
    """A damaged key file must not end up in a terminal's history or a CI log."""
    raw = (world.root / "workload-owner.pem").read_text()
    (world.root / "workload-owner.pem").write_text(raw.replace("A", "!", 1))
    said = world.refused("set", "-c", live.address, SIMULATED, "deployment", because="no PEM key").output
    assert raw.splitlines()[2][:20] not in said


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"size": 30}, "rolled back"),
        ({"root": "ab" * 32}, "forked"),
        ({"origin": "contrast.invalid/" + "0" * 64}, "--new-ledger"),
    ],
    ids=["rolled back", "forked", "replaced"],
)
def test_the_seed_is_never_given_to_a_ledger_that_does_not_extend_the_one_seen(
    world: World, store: MemoryStore, change: dict[str, object], because: str
) -> None:
    """The storage is the host's: with the seed an old ledger would be the true one."""
    with live_coordinator(store) as live:
        port = int(live.address.rpartition(":")[2])
        set_manifest(world, live)
    heads = json.loads((world.root / "heads.json").read_bytes())
    heads["heads"][live.address] |= change
    (world.root / "heads.json").write_text(json.dumps(heads))
    with live_coordinator(store, port=port) as live:
        world.refused("recover", "-c", live.address, SIMULATED, because=because)
        assert live.running.service.state.recoveries == 0


def test_a_linked_verify_folder_stays_linked(world: World, live: LiveCoordinator) -> None:
    set_manifest(world, live)
    (world.root / "elsewhere").mkdir()
    (world.root / "verify").symlink_to("elsewhere")
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    assert (world.root / "verify").is_symlink()
    assert (world.root / "elsewhere" / "mesh-root.pem").exists()


def test_a_ledger_without_manifest_is_no_table_and_says_what_begins_it(world: World, live: LiveCoordinator) -> None:
    """A table's head above the error looks like an answer; routes are of no help to whoever forgot `contrast set`."""
    said = world.refused("ledger", "show", f"https://{live.address}", because="`contrast set`").output
    assert "what it says" not in said
    assert "openapi" not in said


def test_a_long_ledger_is_shown_from_its_end(
    world: World, live: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_manifest(world, live)
    world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, "--full")
    monkeypatch.setattr("cli.ledger.SHOWN", 2)
    result = world.ok("ledger", "show", "verify/ledger")
    assert "ledger.created" not in result.output
    assert "--from" in result.output
    assert "ledger.created" in world.ok("ledger", "show", "verify/ledger", "--from", "0").output


def test_a_manifest_that_excludes_the_running_coordinator_is_refused(world: World, live: LiveCoordinator) -> None:
    """It could set it and then issue nothing more; and the way out is another one than for `verify`."""
    set_manifest(world, live)
    size = live.size()
    policies = {
        b"package agent_policy\n# another coordinator\n" if policy.role else text: policy
        for text, policy in Deployment().policies.items()
    }
    world.deploy(dataclasses.replace(Deployment(), policies=policies))
    said = world.refused("set", "-c", live.address, SIMULATED, "deployment", because="Role coordinator").output
    assert "--coordinator-policy-hash" not in said
    assert live.size() == size


def test_an_upgrade_keeps_the_running_coordinators_policy_that_no_yaml_has(world: World, live: LiveCoordinator) -> None:
    """Else no manifest names both, and a Coordinator with a new image could never be recovered."""
    set_manifest(world, live)
    old, new = Deployment().policies, b"package agent_policy\n# the next coordinator\n"
    both = dataclasses.replace(Deployment(), policies={new: old[COORDINATOR_POLICY], **old})
    world.deploy(both)
    world.deploy(
        dataclasses.replace(
            both, policies={text: both.policies[text] for text in both.policies if text != COORDINATOR_POLICY}
        )
    )
    (world.root / "manifest.json").write_bytes(both.manifest)
    (world.root / "running.rego").write_bytes(COORDINATOR_POLICY)
    world.refused("set", "-c", live.address, SIMULATED, "deployment", because="stands in no YAML file")
    set_manifest(world, live, "--policy", "running.rego")
    assert live.running.service.state.generation == 2


def test_verify_reads_the_control_chain_and_says_what_it_proved(world: World, live: LiveCoordinator) -> None:
    """What was not proven must not be taken for proven."""
    set_manifest(world, live)
    live.issue()
    live.issue(Pod(VAULT_POLICY))
    world.deploy(Deployment().with_policy(b"package agent_policy\n# new\n", Policy(sans=("new",))))
    set_manifest(world, live)
    verify = ("verify", "-c", live.address, "-m", "manifest.json", SIMULATED)
    (world.root / "heads.json").unlink()
    said = " ".join(world.ok(*verify).output.split())
    assert "proved: every manifest, Coordinator and recovery" in said
    assert "only --full proves" in said
    assert "not proved: that this is the newest ledger, since none was remembered" in said
    document = json.loads(world.ok(*verify, "--json").stdout)
    assert (document["full"], document["extends"]) == (False, live.size())
    read = world.root / "verify" / "ledger"
    assert sorted(path.name for path in (read / "entry").iterdir()) == ["0", "1", "2", str(live.size() - 1)]
    assert not (read / "tile" / "entries").exists()
    assert "--full" in world.refused("ledger", "show", "verify/ledger", because="holds only", status=4).output
    said = " ".join(world.ok(*verify, "--full").output.split())
    assert f"proved: all {live.size()} entries replayed, every decision derived again" in said
    assert f"proved: it extends the {live.size()} entries that this workspace remembered" in said
    assert "only --full" not in said
    assert "not proved" not in said
    assert "passes" in world.ok("ledger", "verify", "verify/ledger").output


def test_the_control_chain_is_followed_over_a_recovery(world: World, store: MemoryStore) -> None:
    with live_coordinator(store) as live:
        port = int(live.address.rpartition(":")[2])
        set_manifest(world, live)
        live.issue()
    with live_coordinator(store, port=port) as live:
        world.ok("recover", "-c", live.address, SIMULATED)
        live.issue()
        document = json.loads(world.ok("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, "--json").stdout)
        assert document["counts"] == {
            "epoch.opened": 2,
            "ledger.created": 1,
            "ledger.recovered": 1,
            "manifest.set": 1,
        }
        first, second = document["coordinators"]
        assert (first["closed"], second["closed"]) == (second["opened"] + 1, None)


def test_a_manifest_that_nothing_signs_is_told_before_it_is_refused(world: World, live: LiveCoordinator) -> None:
    """`not signed`, from far away, does not say which file was looked for here."""
    (world.root / "workload-owner.pem").unlink()
    refused = world.refused("set", "-c", live.address, SIMULATED, "deployment", because="not_an_owner")
    assert "nothing signs this manifest: workload-owner.pem is not there" in refused.stderr
