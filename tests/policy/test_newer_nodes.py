"""What newer nodes and other registries send in an honest request, and what only looks like it."""

from typing import Any

import pytest

from tests.support.policies import DIGEST, Case, case, simple_pod

ALLOWED = [["nsdelegate"], ["nsdelegate", "memory_recursiveprot"], ["memory_recursiveprot"]]
DENIED = [["memory_hugetlb_accounting"], ["rw"], ["nsdelegate", "rw"], ["bind"], [""]]


def begun() -> tuple[Case, dict[str, Any]]:
    made = case(simple_pod())
    made.run_until("app")
    return made, made.shim.create_container("app")


def options_of(request: dict[str, Any], place: str) -> list[str]:
    found: list[str] = next(mount for mount in request["OCI"]["Mounts"] if mount["destination"] == place)["options"]
    return found


@pytest.mark.parametrize("more", ALLOWED, ids=str)
def test_the_options_of_cgroup_v2_are_allowed(more: list[str]) -> None:
    """On such a node containerd repeats the options of its own mount; every pod there would be denied."""
    made, request = begun()
    options_of(request, "/sys/fs/cgroup").extend(more)
    made.allowed("CreateContainerRequest", request)


@pytest.mark.parametrize("more", DENIED, ids=str)
def test_other_options_of_cgroups_are_denied(more: list[str]) -> None:
    made, request = begun()
    options_of(request, "/sys/fs/cgroup").extend(more)
    made.denied("CreateContainerRequest", request, "options")


def test_the_options_of_cgroup_v2_belong_to_cgroups_alone() -> None:
    made, request = begun()
    options_of(request, "/sys").append("nsdelegate")
    made.denied("CreateContainerRequest", request, "options")
    made, request = begun()
    options_of(request, "/sys/fs/cgroup")[:] = ["nsdelegate"]
    made.denied("CreateContainerRequest", request, "options")


SOURCES = [
    (f"mirror.example.test/a/b:stable@{DIGEST}", True),
    (f"@{DIGEST}", False),
    (f"a@b@{DIGEST}", False),
    ("registry.invalid/app:v1", False),
    ("registry.invalid/app@" + DIGEST[:-1], False),
    ("registry.invalid/app@" + DIGEST.upper(), False),
    ("registry.invalid/app@sha512:" + DIGEST.removeprefix("sha256:"), False),
    ("pause", False),
    (DIGEST, False),
    ("", False),
]


@pytest.mark.parametrize(("source", "allowed"), SOURCES)
def test_an_image_is_named_by_its_digest_and_has_a_name(source: str, allowed: bool) -> None:
    """Registry and name are the node's choice; a source without any is nobody's image."""
    made, request = begun()
    request["storages"][0]["source"] = source
    assert made.ask("CreateContainerRequest", request).allowed == allowed
