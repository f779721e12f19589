"""The workspace of the simulated platform."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from images.layout import OciLayout
from localnode.errors import DevWorkspaceError
from localnode.setup import dev_init, load_platform, reference
from manifest.reference_file import parse_reference_values

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    assert dev_init(root, now=NOW).created
    return root


def test_a_vendor_stays_when_it_is_there(workspace: Path) -> None:
    """Every manifest of the workspace names it."""
    first, again = load_platform(workspace), dev_init(workspace, now=NOW)
    assert not again.created
    assert again.fingerprint == first.vendor.fingerprint.hex()
    assert again.measurement == first.measurement.hex()


def test_a_vendor_of_another_product_is_not_taken_for_the_one_that_was_asked_for(workspace: Path) -> None:
    """Who tries Turin must not be told that all is well by a Milan."""
    for product, vlek in (("Turin", False), ("Milan", True), (None, True)):
        with pytest.raises(DevWorkspaceError, match="holds a simulated vendor of Milan"):
            dev_init(workspace, now=NOW, product=product, vlek=vlek)
    assert dev_init(workspace, now=NOW, product="Milan").product == "Milan"


def test_everything_is_for_the_owner_alone(workspace: Path) -> None:
    dev = workspace / ".contrast-dev"
    assert stat.S_IMODE(dev.stat().st_mode) == 0o700
    for path in [*(dev / "vendor").iterdir(), dev / "reference-values.json"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_reference_values_are_those_that_verifiers_read(workspace: Path) -> None:
    prepared, platform = dev_init(workspace, now=NOW), load_platform(workspace)
    (entry,) = parse_reference_values(prepared.reference_values.read_bytes())
    assert getattr(entry, "trust_anchor", None) == platform.vendor.fingerprint
    assert getattr(entry, "trusted_measurement", None) == platform.measurement


def test_the_images_hold_the_programs_and_are_the_same_each_time(workspace: Path, tmp_path: Path) -> None:
    prepared = dev_init(workspace, now=NOW)
    assert dev_init(workspace, now=NOW).images == prepared.images
    layout = OciLayout(workspace / ".contrast-dev" / "images")
    for program, pinned in prepared.images.items():
        image = layout.find(pinned)
        assert image == layout.find(reference(program))
        assert image.config.entrypoint == (f"contrast-{program}",)
        root = layout.unpack(image, tmp_path / program).root
        assert (root / "opt/contrast" / program / "__init__.py").is_file()
        assert (root / "usr/local/bin" / f"contrast-{program}").stat().st_mode & 0o111


def test_the_coordinators_yaml_names_the_image_that_is_built() -> None:
    """Or `contrast generate` would look for an image that nobody makes."""
    for path in ("k8s/coordinator.yml", "examples/emojivoto/deployment/coordinator.yml"):
        assert f"image: {reference('coordinator')} " in (PROJECT / path).read_text(encoding="utf-8")


def test_reference_values_of_another_vendor_are_refused(tmp_path: Path) -> None:
    """A guest would be launched that no verifier accepts, with no hint why."""
    dev_init(tmp_path, now=NOW)
    path = tmp_path / ".contrast-dev" / "reference-values.json"
    value = json.loads(path.read_text())
    value["simulated"][0]["TrustAnchor"] = "00" * 32
    path.write_text(json.dumps(value))
    with pytest.raises(DevWorkspaceError, match="remove the file"):
        dev_init(tmp_path, now=NOW)
    for broken in ("", "[]", '{"simulated": [{}]}', '{"simulated": 3}', "[" * 100_000):
        path.write_text(broken)
        with pytest.raises(DevWorkspaceError, match=r"reference-values\.json"):
            load_platform(tmp_path)


def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DevWorkspaceError, match="contrast dev init"):
        load_platform(tmp_path)
    with pytest.raises(DevWorkspaceError, match="Milan, Genoa, Turin"):
        dev_init(tmp_path, now=NOW, product="Rome")


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Keys must not be written where somebody else points."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".contrast-dev").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DevWorkspaceError, match="link"):
        dev_init(tmp_path, now=NOW)
