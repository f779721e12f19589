"""Built images are the same bytes everywhere and are read back as they were meant."""

import shutil
from pathlib import Path

import pytest

from images.build import File, ImageSpec, Link, build_image, write_layout
from images.errors import ImageNotFoundError, LayoutError
from images.layout import ImageStore, OciLayout

SPEC = ImageSpec(
    files={
        "app/web.py": File(data=b"print('hi')\n"),
        "bin/run": File(data=b"x", mode=0o755),
        "usr/app": Link(target="/app"),
    },
    entrypoint=("/bin/run",),
    cmd=("--now",),
    env=("PATH=/bin", "A=b=c"),
    user="1000:1000",
    working_dir="/app",
    volumes=("/data",),
)


def test_the_digest_is_the_same_on_every_machine() -> None:
    """A changed digest would mean that the pinned references of the examples no longer fit."""
    assert build_image(SPEC).digest == "sha256:2ea2b3ee1e333057b4a86a88e93b49a9814403afa091d051819c54eee89d5ea9"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "images", {"contrast.invalid/web:v1": SPEC})["contrast.invalid/web:v1"]
    layout = OciLayout(tmp_path / "images")
    image = layout.find(f"contrast.invalid/web:v1@{digest}")
    assert image == layout.find("contrast.invalid/web:v1")
    assert (image.config.entrypoint, image.config.cmd, image.config.user) == (("/bin/run",), ("--now",), "1000:1000")
    assert (image.config.env, image.config.volumes) == (("PATH=/bin", "A=b=c"), ("/data",))
    root = layout.unpack(image, tmp_path / "root").root
    assert (root / "usr/app/web.py").read_bytes() == b"print('hi')\n"
    assert (root / "bin/run").stat().st_mode & 0o777 == 0o755


def test_a_second_run_changes_no_byte(tmp_path: Path) -> None:
    write_layout(tmp_path, {"a:1": SPEC, "b:1": ImageSpec()})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    write_layout(tmp_path, {"b:1": ImageSpec(), "a:1": SPEC})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("path", ["/abs", "", "a/../b", "a//b", "./a"])
def test_a_path_that_could_leave_the_layer_is_refused(path: str) -> None:
    with pytest.raises(LayoutError, match="relative to the root"):
        build_image(ImageSpec(files={path: File(data=b"")}))


def test_a_file_below_a_file_is_refused() -> None:
    with pytest.raises(LayoutError, match="parent of another"):
        build_image(ImageSpec(files={"a": File(data=b""), "a/b": File(data=b"")}))


def test_a_store_looks_into_every_layout_and_says_where_it_looked(tmp_path: Path) -> None:
    write_layout(tmp_path / "images" / "one", {"x.invalid/one:1": SPEC})
    write_layout(tmp_path / "images" / "two", {"x.invalid/two:1": ImageSpec(user="7")})
    store = ImageStore([tmp_path / "images", tmp_path / "absent"])
    assert store.config("x.invalid/two:1").user == "7"
    with pytest.raises(ImageNotFoundError, match=r"one.*two"):
        store.find("x.invalid/three:1")
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(ImageNotFoundError, match="no OCI layout"):
        ImageStore([tmp_path / "images"]).find("x.invalid/one:1")
