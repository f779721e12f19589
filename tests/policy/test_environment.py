"""The environment as containerd puts it together from its own variables, the image's and the pod's."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.policies import CONFIG, Case, case, simple_pod

IMAGE_ENV = ("FIRST=1", "LEVEL=info", "LEVEL=warn", "LAST=2")
POD = simple_pod(container="env: [{name: LEVEL, value: debug}]")


def begun(text: str, *env: str) -> tuple[Case, dict[str, Any]]:
    """A pod whose sandbox runs, and the honest request for its container."""
    made = case(text, image=replace(CONFIG, env=env))
    made.allowed("CreateSandboxRequest", made.shim.create_sandbox())
    made.allowed("CreateContainerRequest", made.shim.create_container("-"))
    made.allowed("StartContainerRequest", {"container_id": made.shim.facts.sandbox_id})
    return made, made.shim.create_container("app")


def env_of(request: dict[str, Any]) -> list[str]:
    found: list[str] = request["OCI"]["Process"]["Env"]
    return found


def test_an_image_without_a_path_gets_the_runtimes() -> None:
    """Containerd puts its PATH into every container, not only where the image has no variables at all."""
    made, request = begun(simple_pod(), "LANG=C")
    assert {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"} <= set(env_of(request))
    made.allowed("CreateContainerRequest", request)


def test_the_images_host_name_and_terminal_count_more_than_the_runtimes() -> None:
    """Containerd writes HOSTNAME and TERM before it reads the image's variables."""
    made, request = begun(simple_pod(container="tty: true"), "HOSTNAME=box", "TERM=dumb", "PATH=/own")
    env = env_of(request)
    assert [e for e in env if e.startswith(("HOSTNAME", "TERM", "PATH="))] == ["HOSTNAME=box", "TERM=dumb", "PATH=/own"]
    made.allowed("CreateContainerRequest", request)


def test_the_images_value_before_the_pods_is_what_containerd_sends() -> None:
    """Both are appended; a policy that wants one of them would deny every pod that changes a variable of its image."""
    made, request = begun(POD, *IMAGE_ENV)
    levels = [entry for entry in env_of(request) if entry.startswith("LEVEL")]
    assert levels == ["LEVEL=info", "LEVEL=warn", "LEVEL=debug"]
    made.allowed("CreateContainerRequest", request)


def test_runtimes_that_send_the_last_value_only_are_allowed_too() -> None:
    """What is left out has no effect, so it is not demanded."""
    made, request = begun(POD, *IMAGE_ENV)
    env = env_of(request)
    env.remove("LEVEL=info")
    env.remove("LEVEL=warn")
    made.allowed("CreateContainerRequest", request)


@pytest.mark.parametrize(
    "levels",
    [
        ["LEVEL=debug", "LEVEL=info"],
        ["LEVEL=warn", "LEVEL=debug", "LEVEL=info"],
        ["LEVEL=trace", "LEVEL=debug"],
        ["LEVEL=debug", "LEVEL=debug"],
        ["LEVEL=info", "LEVEL=warn"],
        ["LEVEL=info"],
        ["LEVEL=", "LEVEL=debug"],
        ["LEVEL", "LEVEL=debug"],
        ["FIRST=1", "LEVEL=debug"],
    ],
    ids=", ".join,
)
def test_any_other_order_or_value_is_denied(levels: list[str]) -> None:
    """The last value counts in the guest: it must be the pod's, and before it nothing but the image's may stand."""
    made, request = begun(POD, *IMAGE_ENV)
    env = env_of(request)
    env[:] = [*(entry for entry in env if not entry.startswith("LEVEL")), *levels]
    decision = made.ask("CreateContainerRequest", request)
    assert not decision.allowed
    assert "OCI.Process.Env" in str(decision)


def test_a_value_that_only_the_running_pod_knows_overrides_as_well() -> None:
    """A fieldRef is a pattern in the policy; the image's literal may stand before it, not after it."""
    text = simple_pod(container="env: [{name: LEVEL, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]")
    made, request = begun(text, *IMAGE_ENV)
    env = env_of(request)
    env.remove("LEVEL=web")
    env.insert(0, "LEVEL=web")
    assert not made.ask("CreateContainerRequest", request).allowed
    env.remove("LEVEL=web")
    env.append("LEVEL=web")
    made.allowed("CreateContainerRequest", request)
