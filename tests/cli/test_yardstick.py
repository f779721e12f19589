"""Which values judge, and the conditions for simulated ones."""

import dataclasses
import json

import pytest

from cli.errors import RefusedError, UsageFaultError
from cli.release import parse_release
from cli.yardstick import by_manifest, by_values, check_simulated, parse_policy_file, render_policy_file
from manifest.parse import parse_manifest
from tests.support.deployment import COORDINATOR_POLICY, Deployment, digest, vendor

KNOWN = digest(COORDINATOR_POLICY)
SIMULATED = json.dumps(json.loads(Deployment().manifest)["ReferenceValues"]).encode()
REAL = json.dumps(
    {
        "snp": [
            {key: value for key, value in entry.items() if not key.startswith("TrustAnchor")}
            for entry in json.loads(SIMULATED)["simulated"]
        ]
    }
).encode()
NOTHING = parse_release(
    json.dumps(
        {"format": 1, "version": "1", "note": "n", "reference_values": {}, "coordinator_policies": [], "images": {}}
    ).encode()
)
RELEASED = dataclasses.replace(
    NOTHING,
    reference_values=by_values(NOTHING, file=("f", REAL), policy_hashes=[KNOWN], policy_file=None).reference_values,
    coordinator_policies=(KNOWN,),
)


def test_the_manifest_brings_both() -> None:
    manifest = parse_manifest(Deployment().manifest)
    found = by_manifest(manifest, name="m.json", policy_hashes=[b"x" * 32])
    assert found.anchors == {vendor().fingerprint}
    assert found.coordinator_policies == {KNOWN, b"x" * 32}
    assert "m.json" in "\n".join(found.sources)
    assert "SIMULATED" in "\n".join(found.sources)


def test_a_file_of_values_overrides_those_of_the_manifest() -> None:
    found = by_manifest(parse_manifest(Deployment().manifest), name="m.json", file=("v.json", REAL))
    assert found.anchors == frozenset()
    assert "v.json" in found.sources[0]


def test_without_anything_the_user_is_told_what_to_give() -> None:
    with pytest.raises(
        UsageFaultError, match=r"no reference values .* \(-m\).* in a trial .contrast-dev/reference-values.json"
    ):
        by_values(NOTHING, file=None, policy_hashes=[KNOWN], policy_file=None)
    with pytest.raises(UsageFaultError, match="--coordinator-policy-hash"):
        by_values(NOTHING, file=("f", REAL), policy_hashes=[], policy_file=None)


def test_release_data_is_used_where_nothing_else_is_given() -> None:
    found = by_values(RELEASED, file=None, policy_hashes=[], policy_file=None)
    assert found.coordinator_policies == {KNOWN}
    assert not found.from_file


def test_the_digest_left_by_generate_replaces_the_released_ones_and_is_said() -> None:
    found = by_values(RELEASED, file=None, policy_hashes=[], policy_file=("c.sha256", b"ab" * 32 + b"\n"))
    assert found.coordinator_policies == {b"\xab" * 32}
    assert any("c.sha256" in line and "generate" in line for line in found.sources)


def test_simulated_values_need_the_option_and_the_option_needs_them() -> None:
    simulated = by_values(NOTHING, file=("f", SIMULATED), policy_hashes=[KNOWN], policy_file=None)
    real = by_values(NOTHING, file=("f", REAL), policy_hashes=[KNOWN], policy_file=None)
    check_simulated(simulated, allowed=True)
    check_simulated(real, allowed=False)
    with pytest.raises(RefusedError, match="protects nothing"):
        check_simulated(simulated, allowed=False)
    with pytest.raises(UsageFaultError, match="names the simulated anchor"):
        check_simulated(real, allowed=True)


def test_an_anchor_that_no_file_of_the_user_names_is_never_enough() -> None:
    """The option must not work with values that came from somewhere else."""
    simulated = by_values(NOTHING, file=("f", SIMULATED), policy_hashes=[KNOWN], policy_file=None)
    with pytest.raises(UsageFaultError):
        check_simulated(dataclasses.replace(simulated, from_file=False), allowed=True)


def test_policy_files_are_strict() -> None:
    assert parse_policy_file(render_policy_file([KNOWN, b"x" * 32]), name="p") == {KNOWN, b"x" * 32}
    with pytest.raises(RefusedError, match="p:2"):
        parse_policy_file(KNOWN.hex().encode() + b"\nnonsense\n", name="p")
