"""A strict Coordinator and its witnesses, all real processes; each test begins where the one before it ended."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from ledger.note import VerifierKey, open_note
from ledger.proof import parse_proof
from tests.support.story import PATIENCE_S, Story

SIMULATED = "--allow-simulated"
NAMES = ("alice", "bob")


class Witnesses:
    """Two data owners, each with a witness on an address of its own."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: _free_port(story.host) for name in NAMES}
        self.vkeys: dict[str, str] = {}

    def init(self) -> str:
        """Make both; the policy that wants both of them."""
        for name in NAMES:
            said = self.story.contrast(
                "witness", "init", "--state", f"witness-{name}", "--name", f"{name}.example/witness", "--json"
            )
            self.vkeys[name] = json.loads(said)["vkeys"][0]
        lines = [f"witness {name} {self.vkeys[name]} http://{self.story.host}:{self.ports[name]}/\n" for name in NAMES]
        return "".join(lines) + "group both all alice bob\nquorum both\n"

    def start(self, name: str) -> None:
        process = subprocess.Popen(
            [
                *("contrast", "witness", "run", "--listen", f"{self.story.host}:{self.ports[name]}"),
                *("--state", f"witness-{name}", "--vkeys", "verify/ledger.vkeys"),
            ],
            cwd=self.story.root,
            env=self.story.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.running[name] = process
        assert process.stdout is not None
        assert any(b"listening" in line for line in process.stdout)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running.pop(name).communicate(timeout=PATIENCE_S)

    def close(self) -> None:
        for name in list(self.running):
            self.kill(name)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    played = Story(tmp_path_factory.mktemp("witnesses"))
    yield played
    played.close()


@pytest.fixture(scope="module")
def witnesses(story: Story) -> Iterator[Witnesses]:
    there = Witnesses(story)
    yield there
    there.close()


def initialize(story: Story, *, status: int = 0) -> str:
    """What the Initializer of a web pod says, in a guest of its own."""
    tls = story.root / "tls"
    tls.mkdir(exist_ok=True)
    environ, story.environ = story.environ, {
        **story.environ, "COORDINATOR_HOST": f"{story.host}:7777", "CONTRAST_TLS_DIR": str(tls),
    }  # fmt: skip
    try:
        return story.run(
            *("contrast", "dev", "guest", "--pod", "web", "deployment/"),
            *("--", "contrast-initializer", "--attempts", "2"),
            status=status,
        )
    finally:
        story.environ = environ


def test_0_a_strict_coordinator_starts_with_a_policy(story: Story, witnesses: Witnesses) -> None:
    story.contrast("dev", "init")
    story.run("python", "build_images.py")
    story.contrast("generate", "deployment/")
    (story.root / "witnesses").write_text(witnesses.init())
    story.environ["CONTRAST_WITNESS_TIMEOUT"] = "2"
    story.start_coordinator("--witness-policy", "witnesses", "--strict")
    story.contrast("set", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "deployment/")
    story.contrast("verify", "-c", story.coordinator, "-m", "manifest.json", SIMULATED)


def test_1_without_its_witnesses_no_certificate_leaves(story: Story) -> None:
    said = initialize(story, status=3)
    assert "witnesses_unavailable" in said
    assert not (story.root / "tls" / "cert.tlog-proof").exists()


def test_2_with_them_it_does_and_the_receipt_shows_them(story: Story, witnesses: Witnesses) -> None:
    for name in NAMES:
        witnesses.start(name)
    initialize(story)
    proof = parse_proof((story.root / "tls" / "cert.tlog-proof").read_bytes())
    keys = [VerifierKey.parse(line) for line in witnesses.vkeys.values()]
    assert set(open_note(proof.checkpoint_raw.encode(), keys)[1]) == set(keys)
    said = story.contrast("ledger", "check-receipt", "tls/certChain.pem", "tls/cert.tlog-proof")
    assert "is recorded" in said


def test_3_one_witness_less_is_no_quorum_and_its_return_mends_it(story: Story, witnesses: Witnesses) -> None:
    witnesses.kill("alice")
    assert "witnesses_unavailable" in initialize(story, status=3)
    witnesses.start("alice")
    initialize(story)


def test_4_the_witnesses_know_more_than_an_older_copy_of_the_ledger(story: Story, witnesses: Witnesses) -> None:
    """The operator's workspace is new, or has not looked for a while; the host puts an old copy back."""
    copies = story.root / "copies"
    story.kill_coordinator()
    shutil.copytree(story.root / "ledger", copies)
    story.start_coordinator("--witness-policy", "witnesses", "--strict")
    recover = ("recover", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "--witness-policy", "witnesses")
    story.contrast(*recover)
    initialize(story)
    story.kill_coordinator()
    (story.root / "heads.json").unlink()
    shutil.rmtree(story.root / "ledger")
    shutil.copytree(copies, story.root / "ledger")
    story.start_coordinator("--witness-policy", "witnesses", "--strict")
    said = story.contrast(*recover, status=1)
    assert "rolled back" in said
    assert "witness alice" in said
    # Whoever recovers it all the same gets no certificate out of it, since the witnesses remember. So would a pod that
    # had one before (tests/initializer/test_real.py); this one is new.
    story.contrast(*recover, "--accept-fork-UNSAFE")
    shutil.rmtree(story.root / "tls")
    assert "witnesses_unavailable" in initialize(story, status=3)
    assert "witness_contradicts" in (story.root / "coordinator.log").read_text()


def test_5_what_was_started_is_ended(story: Story, witnesses: Witnesses) -> None:
    for name in NAMES:
        process = witnesses.running[name]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert (story.root / "witness-alice" / "witness.key").stat().st_mode & 0o077 == 0
