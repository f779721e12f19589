"""Layers are read side by side, by a helper process too; with it, without it, and when it dies: one answer."""

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from images import scan as scanning
from images.build import digest_of
from images.config import User
from images.errors import DigestMismatchError, UnsafeLayerError
from images.layerscan import LayerFile
from images.layout import OciLayout
from images.model import Descriptor, Image
from images.scanhelper import ScanHelper, serve
from tests.support.registry import FakeRegistry, sha256, tar_of

LAYERS = [tar_of({"etc/passwd": f"user{number}:x:{number}:{number}::/:\n".encode(), f"f{number}": b"x" * 5000})
          for number in range(5)]  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return OciLayout(tmp_path)


def put(layout: OciLayout, *layers: bytes) -> Image:
    registry = FakeRegistry()
    pushed = registry.push(*layers, packed="")
    for blob in (pushed.manifest, pushed.config, *pushed.layers):
        path(layout, sha256(blob)).write_bytes(blob)
    return layout.image(pushed.digest)


def path(layout: OciLayout, digest: str) -> Path:
    return layout.path / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_the_helper_finds_what_we_find(layout: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put(layout, *LAYERS)
    alone = layout.scan(image, verity=True)
    monkeypatch.setattr(scanning, "_WORTH_A_PROCESS", 0)
    assert layout.scan(image, verity=True) == alone
    assert alone.accounts.users == (User(name="user4", uid=4, gid=4),)
    assert alone.roots is not None
    assert len(set(alone.roots)) == 5


@pytest.mark.parametrize("death", ["before", "between"])
def test_a_helper_that_dies_is_done_without(layout: OciLayout, monkeypatch: pytest.MonkeyPatch, death: str) -> None:
    image = put(layout, *LAYERS)
    alone = layout.scan(image, verity=True)
    monkeypatch.setattr(scanning, "_WORTH_A_PROCESS", 0)

    class Dying(ScanHelper):
        def scan(self, file: LayerFile) -> Any:
            found = super().scan(file) if death == "between" else None
            if self._process is not None:
                os.kill(self._process.pid, signal.SIGKILL)
            return found or super().scan(file)

    monkeypatch.setattr(scanning, "ScanHelper", Dying)
    assert layout.scan(image, verity=True) == alone


def test_a_fault_found_by_the_helper_keeps_its_kind(layout: OciLayout) -> None:
    image = put(layout, LAYERS[0], tar_of({"../../etc/passwd": b""}))
    helper = ScanHelper()
    try:
        damaged = path(layout, image.layers[0].digest)
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
        for index, error in enumerate((DigestMismatchError, UnsafeLayerError)):
            layer = image.layers[index]
            with pytest.raises(error):
                helper.scan(LayerFile(path=path(layout, layer.digest), layer=layer, diff_id=image.diff_ids[index]))
    finally:
        helper.stop()
    assert helper.scan(LayerFile(path=damaged, layer=image.layers[0], diff_id=image.diff_ids[0])) is None


def test_the_helpers_answers_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(LAYERS[0])
    layer = Descriptor(
        media_type="application/vnd.oci.image.layer.v1.tar", digest=digest_of(LAYERS[0]), size=len(LAYERS[0])
    )
    request = {"path": str(tmp_path / "layer"), "type": layer.media_type, "digest": layer.digest, "size": layer.size,
               "diff_id": layer.digest}  # fmt: skip
    answers = io.BytesIO()
    serve(io.BytesIO(b"".join(json.dumps({**request, **more}).encode() + b"\n" for more in ({}, {"size": 1}))), answers)
    good, bad = map(json.loads, answers.getvalue().splitlines())
    assert set(good) == {"events", "hidden", "root"}
    assert bad["error"] == "DigestMismatchError"
