"""From YAML to pods, Services, probes and mounts."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from k8s.problems import ResourceError
from localnode.addresses import Service, ServicePort
from localnode.deployment import (
    find_pod,
    mounts,
    plan_pods,
    read_deployment,
    read_services,
    readiness,
)
from localnode.errors import PodNotFoundError, PolicyMissingError
from localnode.probes import Probe
from tests.support.pods import coordinator, deployment

Write = Callable[[str, str], Path]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "emojivoto" / "deployment"
CONTAINERS = "containers: [{name: app, image: a, ports: [{name: https, containerPort: 8443}]}]\n"


def test_every_confidential_pod_but_the_coordinator_is_planned(write: Write) -> None:
    write("a.yml", deployment("emoji", CONTAINERS, replicas=2))
    write("b.yml", coordinator())
    plain = deployment("plain", CONTAINERS).replace("runtimeClassName: contrast-cc", "runtimeClassName: runc")
    plans = plan_pods(read_deployment([write("c.yml", plain)]))
    assert [plan.workload.name for plan in plans] == ["emoji", "emoji"]
    assert all(re.fullmatch(r"emoji-[a-z0-9]+-[a-z0-9]+", plan.name) for plan in plans)
    assert plans[0].namespace == "default"
    assert plans[0].labels == {"app": "emoji"}
    assert plans[0].named_ports == {"https": 8443}
    assert plans[0].grace == 5.0


def test_the_coordinator_is_found_by_name(write: Write) -> None:
    folder = write("b.yml", coordinator("the policy"))
    assert find_pod(read_deployment([folder]), "coordinator").policy == "the policy"
    with pytest.raises(PodNotFoundError, match="there is coordinator"):
        find_pod(read_deployment([folder]), "web")


def test_a_workload_without_policy_is_refused_before_anything_runs(write: Write) -> None:
    folder = write("a.yml", deployment("emoji", CONTAINERS).replace("agent.policy:", "agent.other:"))
    with pytest.raises(PolicyMissingError, match=r"a\.yml:1: Deployment emoji has no policy"):
        plan_pods(read_deployment([folder]))


def test_broken_yaml_is_named_with_its_line(write: Write) -> None:
    with pytest.raises(ResourceError, match=r"a\.yml"):
        read_deployment([write("a.yml", "kind: [Deployment\n")])


def test_the_examples_services_are_read() -> None:
    services = {service.name: service for service in read_services(read_deployment([EXAMPLE]))}
    assert set(services) == {"coordinator", "coordinator-ready", "emoji", "voting", "web"}
    assert services["web"] == Service(
        name="web",
        namespace="default",
        selector=(("app", "web"),),
        ports=(ServicePort(port=8443, target=8443),),
        external=True,
    )
    assert services["emoji"].ports == (ServicePort(port=8443, target="https"),)
    assert not services["voting"].external


def test_a_port_of_another_protocol_is_not_carried(write: Write) -> None:
    text = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: dns}\nspec: {ports: [{port: 53, protocol: UDP}, {port: 53}]}\n"
    )
    (service,) = read_services(read_deployment([write("s.yml", text)]))
    assert service.ports == (ServicePort(port=53, target=53),)


def test_pods_of_two_namespaces_do_not_share_a_folder(write: Write) -> None:
    """One's key would be the other's."""
    text = deployment("web", CONTAINERS)
    write("a.yml", text)
    plans = plan_pods(read_deployment([write("b.yml", text.replace("name: web\n", "name: web\n  namespace: b\n", 1))]))
    assert plans[0].name == plans[1].name
    assert [plan.id for plan in plans] == [plans[0].name, f"{plans[0].name}.b"]


@pytest.mark.parametrize(
    ("probe", "wanted"),
    [
        (None, None),
        ({"exec": {"command": ["true"]}}, None),
        ({"tcpSocket": {"port": 80}}, Probe(port=80)),
        ({"tcpSocket": {"port": "https"}, "periodSeconds": 2}, Probe(port=8443, period=2.0)),
        ({"tcpSocket": {"port": "nobody"}}, None),
        (
            {"httpGet": {"path": "/ready", "port": 1, "scheme": "HTTPS"}, "timeoutSeconds": 5},
            Probe(port=1, path="/ready", scheme="HTTPS", timeout=5.0),
        ),
        ({"httpGet": {"port": 1}}, Probe(port=1, path="/")),
    ],
)
def test_probes_from_outside_are_read(probe: object, wanted: Probe | None) -> None:
    assert readiness({"name": "a", "readinessProbe": probe}, {"https": 8443}) == wanted  # type: ignore[dict-item]


def test_volumes_become_folders_side_by_side_whatever_their_names(tmp_path: Path) -> None:
    """A name from YAML must not lead out of the pod's folder."""
    found = mounts(
        {
            "volumeMounts": [
                {"name": "a", "mountPath": "/data/"},
                {"name": "../../b", "mountPath": "/x"},
                {"name": "a", "mountPath": "/again"},
            ]
        },
        tmp_path,
    )
    assert found["/data"] == found["/again"] == tmp_path / "a"
    assert all(place.parent == tmp_path for place in found.values())
