"""`generate` on the example deployment: nothing but what was meant changes, nothing at all where anything is wrong."""

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.deployment import annotated_policy
from cli.freshness import Freshness, freshness
from cli.keys import new_seedshare_owner_key, pkcs1, seedshare_owner_public
from cli.program import cli
from cli.workspace import Workspace
from k8s.resources import INITDATA, load_folder, read_resources
from localnode.deployment import find_pod
from localnode.setup import dev_init
from manifest.parse import parse_manifest
from policy.carrier import policy_in

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "emojivoto"


class Folder:
    """A workspace with the example, its images and a simulated vendor."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str) -> Result:
        before = Path.cwd()
        os.chdir(self.root)
        try:
            return CliRunner().invoke(cli, ["generate", *arguments], prog_name="contrast")
        finally:
            os.chdir(before)

    def ok(self, *arguments: str) -> Result:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result

    def refused(self, *arguments: str, status: int = 1) -> str:
        """Demand a refusal that leaves every file as it was; give what was said."""
        before = self.state()
        result = self.run(*arguments)
        assert result.exit_code == status, result.output + repr(result.exception)
        assert self.state() == before
        return result.output

    def state(self) -> dict[str, tuple[bytes, int]]:
        """Content and time of every file that a person works with."""
        return {
            str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "images" not in path.parts
        }

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_bytes()
        assert old.encode() in text
        path.write_bytes(text.replace(old.encode(), new.encode(), 1))

    def manifest(self) -> Any:
        return json.loads((self.root / "manifest.json").read_bytes())

    def entry(self, name: str) -> dict[str, object]:
        """The manifest's entry of the pod whose annotation names it."""
        for workload in read_resources(load_folder([self.root / "deployment"])).confidential:
            if workload.name == name:
                policy = base64.b64decode(workload.policy_annotation or "")
                found: dict[str, object] = self.manifest()["Policies"][hashlib.sha256(policy).hexdigest()]
                return found
        raise KeyError(name)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vendor, images and a seed share key, made once: RSA-4096 takes a second each."""
    root = tmp_path_factory.mktemp("prepared")
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True)
    dev_init(root, now=datetime(2026, 1, 1, tzinfo=UTC))
    subprocess.run(
        [sys.executable, "build_images.py"], cwd=root, check=True, capture_output=True, env={"PYTHONPATH": str(ROOT)}
    )
    (root / "share.pem").write_bytes(new_seedshare_owner_key())
    return root


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Folder:
    root = tmp_path / "workspace"
    shutil.copytree(prepared, root, symlinks=True)
    return Folder(root)


def generate(folder: Folder, *more: str) -> Result:
    return folder.ok("deployment", "--add-seedshare-owner-key", "share.pem", *more)


def test_it_creates_private_keys_and_a_manifest_that_parses(folder: Folder) -> None:
    folder.ok("deployment")
    for name in ("workload-owner.pem", "seedshare-owner.pem"):
        assert stat.S_IMODE((folder.root / name).stat().st_mode) == 0o600
    manifest = parse_manifest((folder.root / "manifest.json").read_bytes())
    assert len(manifest.policies) == 5
    assert len(manifest.workload_owner_key_digests) == 1
    share = seedshare_owner_public((folder.root / "seedshare-owner.pem").read_bytes(), name="x")
    assert manifest.seedshare_owner_pub_keys == (pkcs1(share),)
    assert manifest.simulated_anchor is not None
    digest = (folder.root / "coordinator-policy.sha256").read_text()
    assert {bytes.fromhex(digest.strip())} == manifest.coordinator_policies


def test_run_again_it_touches_no_file(folder: Folder) -> None:
    """Not even its time: whoever watches the files would deploy again."""
    generate(folder)
    before = folder.state()
    assert "up to date" in folder.ok("deployment").output
    folder.ok("--check", "deployment")
    assert folder.state() == before


def test_only_insertions_change_the_yaml(folder: Folder) -> None:
    """Comments, order, quoting and line ends are the author's."""
    before = {path.name: path.read_bytes() for path in (folder.root / "deployment").iterdir()}
    generate(folder)
    for name, old in before.items():
        new = (folder.root / "deployment" / name).read_bytes()
        kept = iter(new.splitlines(keepends=True))
        for line in old.splitlines(keepends=True):
            if b"contrast.invalid/contrast/coordinator:" in line:
                continue  # Its digest is added.
            assert any(line == candidate for candidate in kept), (name, line)


def test_files_without_confidential_pods_stay_untouched(folder: Folder) -> None:
    before = folder.state()["deployment/operations.yml"]
    generate(folder)
    assert folder.state()["deployment/operations.yml"] == before


@pytest.mark.parametrize("ending", ["\r\n", "\n"], ids=["crlf", "lf"])
def test_line_ends_and_byte_order_mark_stay(folder: Folder, ending: str) -> None:
    path = folder.root / "deployment" / "web.yml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", ending.encode()))
    generate(folder)
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.count(b"\n") == raw.count(ending.encode())
    before = folder.state()
    folder.ok("deployment")
    assert folder.state() == before


def test_edited_names_and_secret_ids_survive(folder: Folder) -> None:
    generate(folder)
    folder.edit("manifest.json", '"web.default"', '"shop.example.com"')
    before = folder.state()
    folder.ok("deployment")
    assert folder.state() == before
    folder.edit("deployment/web.yml", 'value: "8443"', 'value: "9443"')
    folder.ok("deployment")
    sans = folder.entry("web")["SANs"]
    assert isinstance(sans, list)
    assert "shop.example.com" in sans
    assert "web.default" not in sans


def test_a_pod_that_left_the_yaml_leaves_the_manifest(folder: Folder) -> None:
    generate(folder)
    (folder.root / "deployment" / "vote-bot.yml").unlink()
    result = folder.ok("deployment")
    assert "left out" in result.output
    assert len(folder.manifest()["Policies"]) == 4


def test_all_faults_of_all_files_are_told_and_nothing_is_written(folder: Folder) -> None:
    """One fault a run makes ten runs, and half a run makes a deployment that nobody can start."""
    folder.edit("deployment/emoji.yml", "@sha256:", "@sha512:")
    folder.edit("deployment/voting.yml", "runAsNonRoot", "runAsNonBoot")
    (folder.root / "manifest.json").write_text('{"Policies": {}, "Extra": 1}')
    said = folder.refused("deployment")
    for place in ("deployment/emoji.yml:", "deployment/voting.yml:", "manifest.json:1"):
        assert place in said
    assert "nothing was written" in said


def test_malformed_yaml_is_told_with_its_line(folder: Folder) -> None:
    folder.edit("deployment/web.yml", "metadata:\n  name: web\n", "metadata:\n  name: [web\n")
    assert "deployment/web.yml:" in folder.refused("deployment")


def test_a_missing_image_is_told_with_the_line_that_names_it(folder: Folder) -> None:
    shutil.rmtree(folder.root / "images")
    said = folder.refused("deployment")
    assert "deployment/web.yml:" in said
    assert "containers[0].image" in said


def test_without_a_coordinator_nothing_is_done(folder: Folder) -> None:
    (folder.root / "deployment" / "coordinator.yml").unlink()
    assert "pod-role: coordinator" in folder.refused("deployment")


def test_without_reference_values_the_user_is_told_what_to_give(folder: Folder) -> None:
    (folder.root / ".contrast-dev" / "reference-values.json").unlink()
    assert "--reference-values" in folder.refused("deployment")


def test_disabled_updates_name_no_owner(folder: Folder) -> None:
    generate(folder, "--disable-updates")
    assert folder.manifest()["WorkloadOwnerKeyDigests"] == []
    assert not (folder.root / "workload-owner.pem").exists()
    folder.refused("deployment", "--disable-updates", "-w", "workload-owner.pem", status=2)
    folder.ok("deployment")
    assert folder.manifest()["WorkloadOwnerKeyDigests"] == []


def test_more_owners_are_added_and_made(folder: Folder) -> None:
    generate(folder)
    folder.ok("deployment", "-w", "second.pem")
    assert len(folder.manifest()["WorkloadOwnerKeyDigests"]) == 2
    assert stat.S_IMODE((folder.root / "second.pem").stat().st_mode) == 0o600
    before = folder.state()
    folder.ok("deployment", "-w", "second.pem")
    assert folder.state() == before


def test_a_key_of_another_kind_is_refused(folder: Folder) -> None:
    assert "P-384" in folder.refused("deployment", "-w", "share.pem")
    assert "no PEM key" in folder.refused("deployment", "--add-seedshare-owner-key", "deployment/web.yml")


def test_check_writes_nothing_and_tells_what_would_change(folder: Folder) -> None:
    said = folder.refused("--check", "deployment", "--add-seedshare-owner-key", "share.pem")
    assert "deployment/web.yml" in said
    assert "manifest.json" in said
    assert "not up to date (" in said


def test_json_is_one_document(folder: Folder) -> None:
    document = json.loads(generate(folder, "--json").stdout)
    assert {pod["name"] for pod in document["pods"]} == {"coordinator", "emoji", "vote-bot", "voting", "web"}
    assert "manifest.json" in document["changed"]


def test_a_failing_disk_leaves_everything_as_it_was(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML of one state with a manifest of another locks the pods out."""
    real, calls = Path.replace, iter(range(100))

    def replace(self: Path, target: Path) -> Path:
        if self.suffix == ".new" and next(calls) == 4:
            raise OSError(28, "No space left on device", str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    said = folder.refused("deployment", "--add-seedshare-owner-key", "share.pem", status=4)
    assert "No space left" in said


def test_our_own_images_get_the_digest_of_the_build_that_is_there(folder: Folder) -> None:
    """A rebuilt Coordinator under an old digest would not be found by any node."""
    generate(folder)
    path = folder.root / "deployment" / "coordinator.yml"
    good = path.read_bytes()
    start = good.index(b"coordinator:v0.1.0@sha256:") + len(b"coordinator:v0.1.0@sha256:")
    path.write_bytes(good[:start] + b"0" * 64 + good[start + 64 :])
    folder.ok("deployment")
    assert path.read_bytes() == good


def test_an_initializer_of_the_authors_own_registry_stays(folder: Folder) -> None:
    """Else whoever forgets --initializer-image once goes back to the image of a trial, or is refused."""
    generate(folder)
    files = [path for path in (folder.root / "deployment").iterdir() if b"/initializer:" in path.read_bytes()]
    for path in files:
        ours = path.read_bytes()
        path.write_bytes(ours.replace(b"contrast.invalid/contrast/initializer", b"registry.example.com/initializer"))
    generate(folder)
    assert len(files) == 4
    for path in files:
        assert b"registry.example.com/initializer:" in path.read_bytes()
        assert b"contrast.invalid/contrast/initializer" not in path.read_bytes()


def test_policies_go_into_initdata_for_the_runtime_classes_that_read_it(folder: Folder) -> None:
    """What is measured then is the initdata document: the manifest must name its digest, and local guests have it."""
    folder.edit("deployment/web.yml", "runtimeClassName: contrast-cc", "runtimeClassName: contrast-cc-next")
    generate(folder, "--initdata", "contrast-cc-next")
    found = read_resources(load_folder([folder.root / "deployment"])).confidential
    names = {workload.name for workload in found if INITDATA in workload.annotations}
    assert names == {"web"}
    for workload in found:
        measured = annotated_policy(workload) or b""
        assert hashlib.sha256(measured).hexdigest() in folder.manifest()["Policies"]
        assert find_pod(read_resources(load_folder([folder.root / "deployment"])), workload.name).host_data == (
            hashlib.sha256(measured).digest()
        )
        assert "policy_data" in policy_in(measured)
    assert "nothing to change" in generate(folder).output  # The form is kept without the option.
    folder.edit("deployment/emoji.yml", "io.katacontainers.config.agent.policy: ", f"{INITDATA}: eA==\n        x: ")
    assert "no gzip" in folder.refused("deployment", "--add-seedshare-owner-key", "share.pem")


def test_paths_that_do_not_exist_are_a_matter_of_files(folder: Folder) -> None:
    """Exit 1 would say that something was judged and refused; a script could not tell a typing error from that."""
    output = folder.refused("deployment", "deploymnet/", "other.yml", status=4)
    assert "deploymnet, other.yml: no such file or folder" in output


def compared(folder: Folder, *more: Path) -> Freshness:
    return freshness([folder.root / "deployment", *more], Workspace(folder.root))


def test_pods_as_generate_left_them_are_what_their_policies_were_made_from(folder: Folder) -> None:
    """A false alarm at every `set` would teach its owner to read over it."""
    generate(folder, "--initdata", "contrast-cc")
    assert compared(folder) == Freshness(stale=(), unknown=())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("web", "name: EMOJI_ADDR", "name: EMOJI_ADRR"),
        ("web", "emojivoto/web:v1@sha256:", "emojivoto/web:v1@sha256:0000"),
        ("web", '"contrast.invalid/emojivoto/web:v1', '"contrast.invalid/emojivoto/web:v2" # "'),
    ],
    ids=["variable", "another digest", "no digest"],
)
def test_a_pod_edited_after_generate_is_named_before_it_is_set(folder: Folder, name: str, old: str, new: str) -> None:
    """Else it is denied by its own policy, minutes after a `set` that looked fine."""
    generate(folder)
    folder.edit(f"deployment/{name}.yml", old, new)
    found = compared(folder)
    assert found.unknown == ()
    assert [item.partition(": ")[2] for item in found.stale] == [f"Deployment {name}"]
    assert f"{name}.yml:" in found.stale[0]


def test_what_only_a_registry_knows_is_called_unknown(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(folder)
    monkeypatch.setenv("CONTRAST_CACHE_DIR", str(folder.root / "nothing"))
    shutil.rmtree(folder.root / "images")
    found = compared(folder)
    assert found.stale == ()
    assert set(found.unknown) == {f"Deployment {name}" for name in ("emoji", "vote-bot", "voting", "web")}
