"""`generate` with images of a registry: pinned in place, locked, repeatable without it, refused with the line."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.imaging import HostType, MirrorType, short_name
from cli.keys import new_seedshare_owner_key
from cli.program import cli
from images.layout import ImageStore
from images.transport import Mirror
from localnode.deployment import find_pod, read_deployment
from localnode.kata import KataShim
from localnode.setup import dev_init
from policy.explain_layers import layers_of
from policy.rego import policy_data
from tests.support.real_registry import RealRegistry, need_programs
from tests.support.terminal import on_terminal, plain

EXAMPLE = Path(__file__).parents[2] / "examples" / "emojivoto"
YAML = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      runtimeClassName: contrast-cc
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: {{runAsUser: 7, runAsGroup: 8}}
      containers:
        - name: app
          image: "{host}/demo/app:v1"   # the author's comment
"""


class Folder:
    """A workspace whose application comes from a registry."""

    def __init__(self, root: Path, registry: RealRegistry) -> None:
        self.root, self.registry = root, registry
        self.yaml = root / "deployment" / "app.yml"
        self.environ = {**registry.docker_config(root / "docker"), "CONTRAST_CACHE_DIR": str(root / "cache")}

    def run(self, *arguments: str) -> Result:
        before = Path.cwd()
        os.chdir(self.root)
        try:
            command = ["generate", "deployment", "--registry-ca", str(self.registry.ca), *arguments]
            return CliRunner().invoke(cli, command, prog_name="contrast", env=self.environ)
        finally:
            os.chdir(before)

    def ok(self, *arguments: str) -> Result:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result

    def lock(self) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = json.loads((self.root / "images.lock.json").read_bytes())["images"]
        return found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> RealRegistry:
    need_programs()
    found = RealRegistry(tmp_path_factory.mktemp("registry"))
    with found.running():
        push_app(found)
    return found


def push_app(registry: RealRegistry) -> None:
    """What the tag means at the beginning of every test."""
    shutil.rmtree(registry.folder / "layout-demo-app", ignore_errors=True)
    registry.push("demo/app", {"etc/passwd": "app:x:7:8::/:\n"}, "--config.user=app", "--config.entrypoint=/app")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    dev_init(root, now=datetime(2026, 1, 1, tzinfo=UTC))
    (root / "seedshare-owner.pem").write_bytes(new_seedshare_owner_key())
    (root / "seedshare-owner.pem").chmod(0o600)
    return root


@pytest.fixture
def folder(prepared: Path, registry: RealRegistry, tmp_path: Path) -> Folder:
    root = tmp_path / "workspace"
    shutil.copytree(prepared, root)
    (root / "deployment").mkdir()
    shutil.copy(EXAMPLE / "deployment" / "coordinator.yml", root / "deployment")
    found = Folder(root, registry)
    found.yaml.write_text(YAML.format(host=registry.host))
    return found


@pytest.fixture
def online(registry: RealRegistry) -> Iterator[None]:
    with registry.running():
        yield


@pytest.mark.usefixtures("online")
def test_an_image_is_pinned_in_place_and_the_comment_kept(folder: Folder) -> None:
    folder.ok()
    (name,) = folder.lock()
    assert name.startswith(f"{folder.registry.host}/demo/app:v1@sha256:")
    assert f'image: "{name}"   # the author\'s comment\n' in folder.yaml.read_text()
    before = {path: path.stat().st_mtime_ns for path in (folder.yaml, folder.root / "images.lock.json")}
    assert "up to date" in folder.ok().output
    folder.ok("--check", "--update-lock")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_with_lock_and_cache_it_runs_without_the_registry(folder: Folder) -> None:
    with folder.registry.running():
        folder.ok()
    pinned = folder.yaml.read_bytes()
    folder.ok("--check")
    folder.yaml.write_text(YAML.format(host=folder.registry.host))
    folder.ok()
    assert folder.yaml.read_bytes() == pinned, "the tag means what it meant when it was locked"


def test_progress_is_shown_per_image_on_a_terminal_only(
    folder: Folder,
) -> None:
    command = ("generate", "deployment", "--registry-ca", str(folder.registry.ca))
    with folder.registry.running():
        status, output = on_terminal(100, *command, cwd=folder.root, env=folder.environ)
        assert status == 0, output
        assert "computing policies, 1 of 1 images are here" in plain(output), "once, under its tag"
        assert "/? bytes" not in plain(output)
        assert output.endswith("\r\n")
        assert plain(output).rstrip().splitlines()[-1].startswith("written: ")
        shutil.rmtree(folder.root / "cache")
        quiet = folder.ok()
    assert "images are here" not in quiet.output
    assert "\x1b" not in quiet.output


def test_a_tag_that_moved_is_pinned_as_it_was_until_somebody_asks(folder: Folder) -> None:
    """Lock and YAML say what runs; a registry alone changes nothing."""
    with folder.registry.running():
        folder.ok()
        before = folder.lock()
        shutil.rmtree(folder.registry.folder / "layout-demo-app")
        folder.registry.push("demo/app", {"etc/passwd": "app:x:9:9::/:\n"}, "--config.entrypoint=/other")
        assert "up to date" in folder.ok().output
        assert folder.lock() == before
        text = folder.yaml.read_text()
        folder.yaml.write_text(re.sub(r"(/demo/app:v1)@sha256:[0-9a-f]+", r"\1", text))
        folder.ok()
        assert folder.lock() == before
        assert folder.yaml.read_text() == text
        folder.yaml.write_text(re.sub(r"(/demo/app:v1)@sha256:[0-9a-f]+", r"\1", text))
        output = folder.ok("--update-lock").output
        push_app(folder.registry)
    assert re.search(r"app changed\n +container app\n +- image: .*\n", output)
    assert re.search(r"\+ args|\+ command: .*/other", output)
    assert len(folder.lock()) == 1, "what no pod has any more is not kept where the lock is made anew"


@pytest.mark.usefixtures("online")
def test_no_pin_refuses_with_the_line(folder: Folder) -> None:
    before = folder.yaml.read_bytes()
    result = folder.run("--no-pin")
    assert result.exit_code == 1
    assert "app.yml:15" in result.output
    assert "@sha256:" in result.output
    assert folder.yaml.read_bytes() == before
    assert not (folder.root / "images.lock.json").exists()


def test_policies_demand_the_layers_of_every_image_and_root_hashes_are_kept(folder: Folder) -> None:
    with folder.registry.running():
        folder.ok()
        (pause,) = [name for name in folder.lock() if "/demo/app:" in name]
        said = folder.ok("--layers", "verity", "--pause-image", pause).output
    assert "deny nodes whose guests pull images" in said
    before = folder.lock()
    resources = read_deployment([folder.root / "deployment"])
    plan = find_pod(resources, "app")
    listed = before[pause]["layers"]
    assert isinstance(listed, list)
    roots = [layer["verity"] for layer in listed]
    data = policy_data(plan.policy)
    assert [layer.root_hash for layer in layers_of(data, "pause")] == roots[::-1]
    assert [layer.root_hash for layer in layers_of(data, pause.partition("@")[2])] == roots[::-1]
    assert len(data["containers"]) == 3  # type: ignore[arg-type]
    assert len(data["shared"]["layers"]) == 3, "those of the Initializer too"  # type: ignore[index]
    folder.ok("--layers", "verity", "--pause-image", pause, "--check")
    images = ImageStore([folder.root / ".contrast-dev" / "images", folder.root / "cache"])
    shim = KataShim(plan, resources, images, address="127.0.0.2")
    shim.sandbox()
    for container in plan.containers("initContainers"):
        shim.create(str(container["name"]))
        shim.start(str(container["name"]))
        shim.stop(str(container["name"]))
    assert shim.create("app").arguments == ("/app",), (
        "the stand-in for a node hands layers over where they are asked for"
    )
    assert len(before) >= 2, "images of layouts have root hashes too"
    for image in before.values():
        layers = image["layers"]
        assert isinstance(layers, list)
        assert all(len(layer["verity"]) == 64 for layer in layers)
    folder.ok()
    assert folder.lock() == before, "a run without root hashes keeps them"


def test_a_pause_image_that_nobody_named_is_asked_for(folder: Folder) -> None:
    before = folder.yaml.read_bytes()
    for arguments, said in (
        (["--layers", "verity"], "--pause-image REFERENCE@sha256:"),
        (["--layers", "verity", "--pause-image", "registry.example.com/pause:3.10"], "--pause-image: "),
        (["--pause-image", f"registry.example.com/pause@sha256:{'1' * 64}"], "only for --layers verity"),
    ):
        result = folder.run(*arguments)
        assert result.exit_code == 2
        assert said in result.output
    assert folder.yaml.read_bytes() == before


def test_a_pause_image_that_cannot_be_had_is_told(folder: Folder) -> None:
    result = folder.run("--layers", "verity", "--pause-image", f"127.0.0.1:9/pause@sha256:{'1' * 64}")
    assert result.exit_code == 1
    assert "--pause-image: " in result.output
    assert "127.0.0.1:9" in result.output
    assert "app.yml:15" in result.output, "with all other faults"
    assert "nothing was written" in result.output


def test_every_image_that_cannot_be_had_is_told_with_its_line(folder: Folder) -> None:
    (folder.root / "deployment" / "other.yml").write_text(
        YAML.format(host="127.0.0.1:9").replace("name: app}", "name: other}", 1)
    )
    result = folder.run()
    assert result.exit_code == 1
    assert "app.yml:15" in result.output
    assert "other.yml:15" in result.output
    assert "nothing was written" in result.output


def test_a_damaged_lock_is_told(folder: Folder) -> None:
    (folder.root / "images.lock.json").write_text("{}")
    result = folder.run()
    assert result.exit_code == 1
    assert "images.lock.json" in result.output


def test_bars_have_short_names() -> None:
    """A digest is as long as a terminal is wide."""
    digest = f"@sha256:{'1' * 64}"
    assert (
        short_name(f"localhost:5000/a/b:v1{digest}") == short_name("localhost:5000/a/b:v1") == "localhost:5000/a/b:v1"
    )
    assert short_name(f"localhost:5000/a/b{digest}") == "localhost:5000/a/b@111111111111"


def test_registries_and_mirrors_are_named_without_scheme() -> None:
    mirror = MirrorType().convert("docker.io=mirror.example:5000/hub/", None, None)
    assert mirror == Mirror(registry="docker.io", host="mirror.example:5000", prefix="hub")
    assert HostType().convert("localhost:5000", None, None) == "localhost:5000"
    for options in (["--mirror", "docker.io"], ["--mirror", "docker.io=https://m.example"], ["--layers", "erofs"],
                    ["--insecure-registry", "http://localhost:5000"]):  # fmt: skip
        assert CliRunner().invoke(cli, ["generate", *options, "deployment"], prog_name="contrast").exit_code == 2
