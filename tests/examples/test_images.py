"""The images of the example: the same bytes everywhere, and the very digests that the YAML names."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from images.layout import OciLayout

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "emojivoto"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emojivoto_build_images", EXAMPLE / "build_images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_yaml_names_the_digests_of_what_is_built(builder: ModuleType) -> None:
    """Or `contrast generate` would not find the images (run build_images.py and copy what it prints)."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((EXAMPLE / "deployment").glob("*.yml")))
    assert sorted(re.findall(r"contrast\.invalid/emojivoto/[a-z-]+:[^\s'\"]+", text)) == sorted(builder.references())


def test_two_builds_give_the_same_bytes(builder: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "two"):
        builder.main(["--output", str(tmp_path / name)])
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
        for n in ("one", "two")
    )
    assert {str(path)[4:]: data for path, data in one.items()} == {str(path)[4:]: data for path, data in two.items()}


def test_a_second_version_changes_one_image_and_keeps_the_first(
    builder: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step 8 of the story: one image changes, everything that runs goes on being found."""
    builder.main(["--output", str(tmp_path), "--tag", "v2", "--only", "web"])
    printed = capsys.readouterr().out.split()
    assert set(builder.references()) < set(printed)
    (second,) = set(printed) - set(builder.references())
    assert second.startswith("contrast.invalid/emojivoto/web:v2@sha256:")
    layout = OciLayout(tmp_path)
    image = layout.find(second)
    unpacked = layout.unpack(image, tmp_path / "root")
    assert (unpacked.root / "app" / "version.txt").read_text() == "v2\n"
    assert image.config.entrypoint == ("python3", "/app/web.py")
