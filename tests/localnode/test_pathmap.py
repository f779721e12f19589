"""Paths of a container on this machine."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localnode.pathmap import PathMap


@pytest.fixture
def paths(tmp_path: Path) -> PathMap:
    root, contrast, tls = tmp_path / "root", tmp_path / "contrast", tmp_path / "tls"
    (root / "app").mkdir(parents=True)
    (root / "app" / "web.py").touch()
    return PathMap(root=root, mounts={"/contrast": contrast, "/contrast/tls-config": tls, "/data": tmp_path / "data"})


def test_paths_below_mounts_and_in_the_root_are_replaced(paths: PathMap) -> None:
    root, contrast, tls = paths.root, paths.mounts["/contrast"], paths.mounts["/contrast/tls-config"]
    for written, wanted in {
        "/app/web.py": f"{root}/app/web.py",
        "/app/new.txt": f"{root}/app/new.txt",
        "--config=/app/web.py": f"--config={root}/app/web.py",
        "/app:/contrast/x": f"{root}/app:{contrast}/x",
        "/contrast/tls-config/key.pem": f"{tls}/key.pem",
        "/contrast/": f"{contrast}/",
        "/contrast/../app/web.py": f"{root}/app/web.py",
        "/": f"{root}",
        "run /app/web.py, /data/x": f"run {root}/app/web.py, {paths.mounts['/data']}/x",
    }.items():
        assert paths.text(written) == wanted


@pytest.mark.parametrize(
    "text",
    ["https://contrast/x", "/api/list", "/contrastive/x", "a/app/web.py", "web:8443", "", "1 / 2", "//app/web.py"],
)
def test_what_is_no_path_of_the_container_stays(paths: PathMap, text: str) -> None:
    """A URL that begins like a mount must reach the program as it was judged."""
    assert paths.text(text) == text


@given(st.lists(st.sampled_from(["..", ".", "", "etc", "app"]), max_size=12))
def test_no_path_leaves_the_root(parts: list[str]) -> None:
    """Or a program would be handed this machine's files by `..`."""
    root = Path("/nowhere/root")
    place = PathMap(root=root, mounts={}).path("/" + "/".join(parts))
    assert ".." not in place.parts
    assert place.is_relative_to(root)
