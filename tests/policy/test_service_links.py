"""Variables of Services: never, unless the pod asks for those of named Services; then in the kubelet's seven forms."""

from typing import Any

import pytest

from images.config import ImageConfig
from policy.errors import UnsupportedError
from policy.rego import policy_data
from policy.requests import PodFacts, Shim
from policy.words import describe
from tests.support.policies import Case, case, plain, pod_of, simple_pod

SERVICES = """
kind: Service
metadata: {name: my-db}
spec: {ports: [{port: 5432, name: sql-main}, {port: 53, protocol: UDP, name: odd}]}
---
kind: Service
metadata: {name: cache}
spec: {clusterIP: 10.0.0.99, ports: [{port: 6379}]}
---
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ports: [{port: 1}]}
---
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: x.invalid}
---
kind: Service
metadata: {name: portless}
spec: {}
---
kind: Service
metadata: {name: elsewhere, namespace: other}
spec: {ports: [{port: 1}]}
---
kind: Service
metadata: {name: my-db-service}
spec: {ports: [{port: 1}]}
---
kind: Service
metadata: {name: wrong}
spec: {ports: [{port: http}]}
"""
DB = {
    "MY_DB_SERVICE_HOST": "10.0.0.77",
    "MY_DB_SERVICE_PORT": "5432",
    "MY_DB_SERVICE_PORT_SQL_MAIN": "5432",
    "MY_DB_SERVICE_PORT_ODD": "53",
    "MY_DB_PORT": "tcp://10.0.0.77:5432",
    "MY_DB_PORT_5432_TCP": "tcp://10.0.0.77:5432",
    "MY_DB_PORT_5432_TCP_PROTO": "tcp",
    "MY_DB_PORT_5432_TCP_PORT": "5432",
    "MY_DB_PORT_5432_TCP_ADDR": "10.0.0.77",
    "MY_DB_PORT_53_UDP": "udp://10.0.0.77:53",
    "MY_DB_PORT_53_UDP_PROTO": "udp",
    "MY_DB_PORT_53_UDP_PORT": "53",
    "MY_DB_PORT_53_UDP_ADDR": "10.0.0.77",
}


def asking(services: str, *, container: str = "", links: str = "true") -> str:
    text = simple_pod(container=container).replace("enableServiceLinks: false", f"enableServiceLinks: {links}")
    return text.replace(
        "name: web}", f"name: web, annotations: {{contrast.edgeless.systems/service-links: {services}}}}}"
    )


def ready(text: str) -> Case:
    pod = case(text, SERVICES)
    pod.run_until("app")
    return pod


def env_of(request: Any) -> list[str]:
    found: list[str] = request["OCI"]["Process"]["Env"]
    return found


def test_a_service_makes_the_variables_that_the_kubelet_makes() -> None:
    pod = ready(asking("my-db"))
    request = plain(pod.shim.create_container("app"))
    assert {e for e in env_of(request) if e.startswith("MY_DB")} == {f"{name}={value}" for name, value in DB.items()}
    pod.allowed("CreateContainerRequest", request)


def test_a_service_that_came_later_made_none() -> None:
    pod = ready(asking("'my-db, cache'"))
    request = plain(pod.shim.create_container("app"))
    request["OCI"]["Process"]["Env"] = [e for e in env_of(request) if not e.startswith("MY_DB")]  # type: ignore[index]
    pod.allowed("CreateContainerRequest", request)


def test_addresses_of_both_families_are_written_as_in_urls() -> None:
    pod = case(asking("my-db"), SERVICES)
    pod.shim = Shim(pod.pod, PodFacts(name="web", service_ip="fd00::7", api_host="fd00::1"))
    pod.run_until("app")
    request = plain(pod.shim.create_container("app"))
    assert "MY_DB_PORT=tcp://[fd00::7]:5432" in env_of(request)
    assert "KUBERNETES_PORT=tcp://[fd00::1]:443" in env_of(request)
    pod.allowed("CreateContainerRequest", request)


CHANGES: list[tuple[str, str, str]] = [
    ("MY_DB_SERVICE_HOST", "evil.invalid", "no name for an address"),
    ("MY_DB_SERVICE_HOST", "10.0.0.77\nX=y", "nothing behind it"),
    ("MY_DB_SERVICE_PORT", "5433", "the Service's port"),
    ("MY_DB_SERVICE_PORT_ODD", "5432", "of that name"),
    ("MY_DB_PORT", "tcp://10.0.0.77:5432/x", "no path"),
    ("MY_DB_PORT", "tcp://user@10.0.0.77:5432", "no user"),
    ("MY_DB_PORT", "udp://10.0.0.77:5432", "the Service's protocol"),
    ("MY_DB_PORT_5432_TCP_PROTO", "http", "the Service's protocol alone"),
    ("MY_DB_PORT_53_UDP_ADDR", "", "an address"),
    ("CACHE_SERVICE_HOST", "10.0.0.98", "the address that the file gives"),
]


@pytest.mark.parametrize(("name", "value"), [row[:2] for row in CHANGES], ids=[row[2] for row in CHANGES])
def test_values_are_those_of_the_service(name: str, value: str) -> None:
    pod = ready(asking("'my-db,cache'"))
    request = plain(pod.shim.create_container("app"))
    index = next(n for n, entry in enumerate(env_of(request)) if entry.startswith(name + "="))
    env_of(request)[index] = f"{name}={value}"
    pod.denied("CreateContainerRequest", request, name)


def test_nothing_else_comes_with_them() -> None:
    """Asking for one Service opens nothing for others, nor for forms that the kubelet does not know."""
    pod = ready(asking("my-db"))
    for more in ("CACHE_SERVICE_HOST=10.0.0.99", "MY_DB_PORT_5433_TCP_PORT=5433", "MY_DB_SERVICE_NAME=x",
        "MY_DB_SERVICE_HOST=10.0.0.78", "LD_PRELOAD=x"):  # fmt: skip
        request = plain(pod.shim.create_container("app"))
        env_of(request).append(more)
        pod.denied("CreateContainerRequest", request, more)
    request = plain(pod.shim.create_container("app"))
    env_of(request).remove("MY_DB_SERVICE_PORT_ODD=53")
    pod.denied("CreateContainerRequest", request, "all variables of Service my-db, or none")
    env_of(request).append("MY_DB_SERVICE_PORT=5432")
    pod.denied("CreateContainerRequest", request, "MY_DB_SERVICE_PORT=5432")


def test_what_the_author_writes_goes_before_and_can_name_them() -> None:
    pod = ready(asking("my-db", container="env: [{name: MY_DB_PORT, value: '1'}, "
        "{name: URL, value: '$(MY_DB_SERVICE_HOST):$(MY_DB_PORT)'}]"))  # fmt: skip
    request = plain(pod.shim.create_container("app"))
    assert [e for e in env_of(request) if e.startswith(("MY_DB_PORT=", "URL="))] == ["MY_DB_PORT=1", "URL=10.0.0.77:1"]
    pod.allowed("CreateContainerRequest", request)


@pytest.mark.parametrize(("text", "because"), [
    (simple_pod().replace("enableServiceLinks: false,", ""), "write enableServiceLinks: false; or, if the pod reads"),
    (simple_pod().replace("enableServiceLinks: false", "enableServiceLinks: true"), "name the Services"),
    (asking("my-db", links="false"), "it turns off what"),
    (asking("gone"), "'gone' of the pod's namespace is in none of the files"),
    (asking("''"), "in none of the files"),
    (asking("headless"), "no address of its own"),
    (asking("elsewhere"), "no address of its own"),
    (asking("portless"), "has no ports"),
    (asking("wrong"), "give it a number"),
    (asking("'my-db, my-db-service'"), "both make the variable MY_DB_SERVICE_PORT"),
])  # fmt: skip
def test_what_cannot_be_asked_for_is_refused(text: str, because: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        pod_of(text, SERVICES)
    assert because in str(caught.value)
    assert all(problem.line > 0 for problem in caught.value.problems)


def test_an_images_variable_of_the_same_name_is_refused() -> None:
    """Both would be sent, and which one counts would be the runtime's choice."""
    image = ImageConfig(entrypoint=("/app",), env=("CACHE_PORT=1",))
    with pytest.raises(UnsupportedError, match="write CACHE_PORT under env"):
        pod_of(asking("cache"), SERVICES, image=image)
    pod_of(asking("cache", container="env: [{name: CACHE_PORT, value: '2'}]"), SERVICES, image=image)


def test_a_policy_shows_them() -> None:
    parts = describe(policy_data(case(asking("cache"), SERVICES).policy.text))
    facts = {fact.name: fact.values for fact in parts[1].facts}
    assert "CACHE_SERVICE_HOST=10.0.0.99" in facts["env of Service cache"]
    assert "CACHE_SERVICE_PORT=6379" in facts["env of Service cache"]
