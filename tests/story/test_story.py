"""The story of issue and README, played in order by real processes; each test begins where the one before it ended."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.story import Story

SIMULATED = "--allow-simulated"
VALUES = ("--reference-values", ".contrast-dev/reference-values.json")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    played = Story(tmp_path_factory.mktemp("story"))
    yield played
    played.close()


def yaml(story: Story) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (story.root / "deployment").iterdir()}


def events(story: Story) -> list[str]:
    shown = json.loads(story.contrast("ledger", "show", "ledger", "--json"))
    return [entry["type"] for entry in shown["entries"]]


def read(story: Story, name: str) -> bytes:
    return (story.root / name).read_bytes()


def test_0_a_simulated_vendor_is_made_for_the_workspace(story: Story) -> None:
    said = story.contrast("dev", "init")
    values = json.loads(read(story, ".contrast-dev/reference-values.json"))
    assert values["simulated"][0]["TrustAnchor"] in said
    story.run("python", "build_images.py")


def test_1_generate_prepares_the_yaml_and_changes_nothing_when_run_again(story: Story) -> None:
    before = yaml(story)
    story.contrast("generate", "deployment/")
    after, manifest = yaml(story), read(story, "manifest.json")
    assert {name for name in before if before[name] != after[name]} == set(before) - {"operations.yml"}
    story.contrast("generate", "deployment/")
    assert (yaml(story), read(story, "manifest.json")) == (after, manifest)


def test_3_the_first_set_creates_the_ledger(story: Story) -> None:
    story.start_coordinator()
    said = story.contrast("set", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "deployment/")
    assert "manifest 1 is in force" in said
    assert events(story) == ["ledger.created", "epoch.opened", "manifest.set"]
    assert (story.root / "seed-shares.json").exists()


def test_4_every_pod_attests_and_gets_its_certificate(story: Story) -> None:
    story.contrast("dev", "run", "--load-balancer", story.host, "--detach", "deployment/")
    phases = {pod["subject"]: pod["phase"] for pod in story.pods()}
    assert phases.pop("coordinator") == "running"
    assert set(phases.values()) == {"ready"}, phases
    assert sum(name.startswith("emoji-") for name in phases) == 2
    assert events(story).count("certificate.issued") == 5
    assert "secret.released" in events(story)


def test_6_a_data_owner_verifies_the_whole_deployment(story: Story) -> None:
    said = story.contrast("verify", "-c", story.coordinator, SIMULATED, *VALUES)
    assert "reference values: .contrast-dev/reference-values.json" in said
    story.contrast("verify", "-c", story.coordinator, "-m", "manifest.json", SIMULATED)
    assert read(story, "verify/manifest.0.json") == read(story, "manifest.json")
    assert len(list((story.root / "verify").glob("policy.*.rego"))) == 5


def test_7_curl_and_openssl_need_nothing_but_the_mesh_root(story: Story) -> None:
    assert json.loads(story.web("/ready"))["ready"] is True
    assert "cert.1.pem: OK" in story.chain()


def test_5_voting_works_and_nobody_without_a_certificate_is_let_in(story: Story) -> None:
    votes = json.loads(story.web("/api/vote?choice=:doughnut:", "-X", "POST"))["votes"]
    assert votes >= 1
    assert ":doughnut:" in story.web("/api/leaderboard")
    assert story.answer_without_certificate("voting") == b""


def test_8_an_update_brings_a_new_mesh_ca_and_only_an_owner_can_make_it(story: Story) -> None:
    old = read(story, "verify/mesh-root.pem")
    shutil.copy(story.root / "manifest.json", story.root / "manifest.first.json")
    built = story.run("python", "build_images.py", "--tag", "v2", "--only", "web")
    new = next(line.split()[-1] for line in built.splitlines() if "emojivoto/web:v2@" in line)
    path = story.root / "deployment" / "web.yml"
    path.write_text(re.sub(r"contrast\.invalid/emojivoto/web:v1@sha256:[0-9a-f]{64}", new, path.read_text()))
    story.contrast("generate", "deployment/")
    size = len(events(story))
    story.run("openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "stranger.pem")
    update = ("set", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "deployment/")
    assert "not_an_owner" in story.contrast(*update, "--workload-owner-key", "stranger.pem", status=1)
    assert "stale_transition" in story.contrast(*update, "--latest-transition", "ab" * 32, status=1)
    assert len(events(story)) <= size + 2  # At most one refusal of each code.
    assert "manifest 2 is in force" in story.contrast(*update)
    said = story.contrast("verify", "-c", story.coordinator, "-m", "manifest.first.json", SIMULATED, status=1)
    assert "Policies." in said
    assert read(story, "verify/mesh-root.pem") == old
    story.contrast("verify", "-c", story.coordinator, "-m", "manifest.json", SIMULATED)
    assert read(story, "verify/manifest.0.json") == read(story, "manifest.first.json")
    assert read(story, "verify/manifest.1.json") == read(story, "manifest.json")
    story.verify_leaf(status=2)
    story.contrast("dev", "stop")
    story.contrast("dev", "run", "--load-balancer", story.host, "--detach", "deployment/")
    assert json.loads(story.web("/ready"))["ready"] is True
    assert "cert.1.pem: OK" in story.chain()


def test_8_a_pod_that_the_manifest_does_not_name_gets_nothing_and_a_reason(story: Story) -> None:
    path = story.root / "deployment" / "vote-bot.yml"
    good = path.read_text()
    (annotation,) = re.findall(r"agent\.policy: ([A-Za-z0-9+/=]+)", good)
    changed = base64.b64encode(b"# not what was reviewed\n" + base64.b64decode(annotation)).decode()
    path.write_text(good.replace(annotation, changed))
    issued = events(story).count("certificate.issued")
    story.contrast("dev", "stop")
    run = ("dev", "run", "--load-balancer", story.host, "--detach", "deployment/")
    said = story.contrast(*run, status=1)
    assert "which the manifest in force does not name" in said
    phases = {pod["subject"].partition("-")[0]: pod["phase"] for pod in story.pods()}
    assert phases["vote"] == "failed"
    assert phases["web"] == "ready"
    assert events(story).count("certificate.issued") == issued + 4
    story.wait(lambda: "attestation.refused" in events(story), "the refusal is in the ledger")
    path.write_text(good)
    story.contrast("dev", "stop")


def test_9_a_killed_coordinator_replays_and_is_recovered(story: Story) -> None:
    root, before = read(story, "verify/coordinator-root.pem"), events(story)
    story.kill_coordinator()
    assert events(story) == before
    story.start_coordinator()
    verify = ("verify", "-c", story.coordinator, "-m", "manifest.json", SIMULATED)
    assert "contrast recover" in story.contrast(*verify, status=1)
    assert story.probe("readiness") == 503
    story.contrast("recover", "-c", story.coordinator, "-m", "manifest.json", SIMULATED)
    assert story.probe("readiness") == 200
    story.contrast(*verify)
    assert read(story, "verify/coordinator-root.pem") == root
    assert events(story)[: len(before)] == before
    assert "ledger.recovered" in events(story)


def test_10_secrets_stay_the_same_over_update_and_recovery(story: Story) -> None:
    """A volume that was encrypted with one must open again."""
    checks: dict[str, set[str]] = {}
    for entry in json.loads(story.contrast("ledger", "show", "ledger", "--json"))["entries"]:
        if entry["type"] == "secret.released":
            checks.setdefault(entry["event"]["secret_id"], set()).add(entry["event"]["check"])
    assert len(checks) == 4
    assert all(len(found) == 1 for found in checks.values())


def test_11_the_ledger_is_for_people_too(story: Story) -> None:
    story.contrast("verify", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "--full")
    story.contrast("ledger", "verify", "verify/ledger", SIMULATED, *VALUES)
    story.contrast("audit", "verify/ledger", SIMULATED, *VALUES)
    assert "passes" in story.contrast("ledger", "verify", "ledger")
    assert "certificate.issued" in story.contrast("ledger", "show", "verify/ledger")
    state = json.loads(story.contrast("ledger", "replay", "verify/ledger", "--at", "2", "--json"))
    assert state["generation"] == 1


def test_12_after_the_last_manifest_no_other_follows(story: Story) -> None:
    update = ("set", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "deployment/")
    story.contrast("generate", "--disable-updates", "deployment/")
    story.contrast(*update)
    with (story.root / "manifest.json").open("a") as manifest:
        manifest.write("\n")
    assert "updates_disabled" in story.contrast(*update, status=1)


def test_13_an_emptied_ledger_is_noticed(story: Story) -> None:
    """What the host can do with the storage, the data owner sees."""
    story.kill_coordinator()
    shutil.move(story.root / "ledger", story.root / "ledger.hidden")
    story.start_coordinator()
    update = ("set", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "deployment/")
    assert "--new-ledger" in story.contrast(*update, status=1)
    assert Path(story.root / "ledger.hidden").is_dir()
