"""Every difference between two manifests is said in words, and equal bytes have none."""

import dataclasses
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cli.differences import differences
from manifest.model import Policy
from manifest.parse import parse_manifest
from tests.support.deployment import SECRET_ID, VAULT_POLICY, WEB_POLICY, Deployment, digest, other_vendor, values_of

BASE = Deployment()


def told(other: Deployment) -> str:
    mine, theirs = parse_manifest(BASE.manifest), parse_manifest(other.manifest)
    return "\n".join(differences(mine, theirs, mine_name="mine.json", theirs_name="theirs"))


def test_equal_bytes_do_not_differ() -> None:
    assert told(BASE) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: BASE.with_policy(b"x", Policy(sans=("new",))), ["only in theirs", digest(b"x").hex(), "new"]),
        (lambda: BASE.with_policy(WEB_POLICY, Policy(sans=("evil",))), ["SANs", "evil", "in theirs"]),
        (lambda: BASE.with_policy(VAULT_POLICY, Policy(sans=("vault",))), ["WorkloadSecretID", SECRET_ID, "None"]),
        (
            lambda: dataclasses.replace(BASE, values=(values_of(other_vendor()),)),
            ["ReferenceValues", "only in mine.json", "only in theirs"],
        ),
        (
            lambda: dataclasses.replace(BASE, owners=(ec.generate_private_key(ec.SECP384R1()),)),
            ["WorkloadOwnerKeyDigests"],
        ),
        (lambda: dataclasses.replace(BASE, share_owners=()), ["SeedshareOwnerPubKeys", "only in mine.json"]),
    ],
    ids=["policy", "sans", "secret", "values", "owners", "shares"],
)
def test_each_kind_of_difference_is_named(change: Callable[[], Deployment], words: list[str]) -> None:
    """A data owner decides by these lines whether the operator may go on."""
    text = told(change())
    for word in words:
        assert word in text


def test_another_layout_is_a_difference_too() -> None:
    """What is signed are bytes."""
    mine = parse_manifest(BASE.manifest)
    theirs = parse_manifest(json.dumps(json.loads(BASE.manifest)).encode())
    (line,) = differences(mine, theirs, mine_name="a", theirs_name="b")
    assert "the bytes are not" in line
