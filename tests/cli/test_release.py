"""Release data is strict, never names a simulated anchor, and agrees with the package."""

import json
import tomllib
from pathlib import Path

import pytest

from cli.release import ReleaseDataError, parse_release, release
from tests.support.deployment import Deployment

GOOD = {
    "format": 1,
    "version": "9.9.9",
    "note": "",
    "reference_values": {},
    "coordinator_policies": ["ab" * 32],
    "images": {"initializer": "registry.example/i@sha256:" + "0" * 64},
}


def test_the_version_is_the_one_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert release().version == project["project"]["version"]


def test_good_data_is_read() -> None:
    found = parse_release(json.dumps(GOOD).encode())
    assert found.coordinator_policies == (b"\xab" * 32,)
    assert "Coordinator policy" in "\n".join(found.lines())


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"extra": 1},
        {"coordinator_policies": ["AB" * 32]},
        {"coordinator_policies": "ab"},
        {"reference_values": {"simulated": []}},
        {"images": 3},
    ],
)
def test_damaged_data_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ReleaseDataError):
        parse_release(json.dumps(GOOD | change).encode())


def test_a_simulated_anchor_can_not_be_released() -> None:
    """Every verifier without options of its own would trust whoever holds that vendor's key."""
    values = json.loads(Deployment().manifest)["ReferenceValues"]
    with pytest.raises(ReleaseDataError, match="simulated"):
        parse_release(json.dumps(GOOD | {"reference_values": values}).encode())
