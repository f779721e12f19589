"""What an honest node does is allowed, for every kind of pod that can be described."""

from collections.abc import Callable

import pytest

from k8s.resources import READ_LOGS, load_folder, read_resources
from policy.errors import UnsupportedError
from policy.names import pod_names
from policy.rego import policy_text, render
from policy.settings import Settings
from tests.support.policies import CONFIG, IMAGE, RICH, Case, case, layered_case, simple_pod
from tests.support.published import EXAMPLE, example_pods

INDEXED = simple_pod(
    kind="Job", container='args: ["$(JOB_COMPLETION_INDEX)", "$(HOST)"], env: [{name: HOST, value: "$(HOSTNAME)"}]'
).replace("{template", "{completionMode: Indexed, completions: 12, template")
PODS = {
    "rich": RICH,
    "simple": simple_pod(),
    "token": simple_pod(container="tty: true, workingDir: /srv"),
    "privileged": simple_pod(container="lifecycle: {}").replace(
        "runAsGroup: 1000", "runAsGroup: 1000, privileged: true"
    ),
    "deployment": simple_pod(kind="Deployment"),
    "statefulset": simple_pod(kind="StatefulSet", name="db.v1"),
    "daemonset": simple_pod(kind="DaemonSet"),
    "job": simple_pod(kind="Job"),
    "indexed job": INDEXED,
    "hostname": simple_pod(spec="hostname: fixed"),
    "guaranteed": simple_pod(
        container="resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: '1000m', memory: 1Gi}}"
    ),
}


@pytest.mark.parametrize("make", [case, layered_case], ids=["guest-pull", "layers"])
@pytest.mark.parametrize("text", PODS.values(), ids=PODS)
def test_an_honest_life_is_allowed_and_a_second_one_in_the_same_guest_is_not(
    text: str, make: Callable[[str], Case]
) -> None:
    """A denied honest request would be a pod that never starts."""
    pod = make(text)
    for endpoint, request in pod.shim.life():
        pod.allowed(endpoint, request)
    pod.denied("CreateSandboxRequest", pod.shim.create_sandbox(), "no second sandbox")
    pod.denied("CreateContainerRequest", pod.shim.create_container("-"), "id not used before")


def test_the_example_and_its_coordinator_live() -> None:
    """The demo's pods, the Coordinator with its block device among them."""
    found = read_resources(load_folder([EXAMPLE]))
    assert {str(w) for w in found.coordinators} == {"StatefulSet coordinator"}
    lives = list(example_pods())
    assert [str(life.workload) for life in lives] == [str(workload) for workload in found.confidential]
    for life in lives:
        for endpoint, request in life.shim.life():
            life.allowed(endpoint, request)


def test_every_replica_of_a_coordinator_has_the_one_policy() -> None:
    """Its digest stands in manifests: two replicas, or two runs, must not differ."""
    text = simple_pod(kind="StatefulSet", name="coordinator")
    first = case(text)
    assert first.policy == case(text).policy
    assert '"^coordinator-(0|[1-9][0-9]{0,9})$"' in first.policy.text
    assert pod_names(first.workload, 1).example == "coordinator-1"
    assert first.policy.sha256 == policy_text(first.workload, {IMAGE: CONFIG}).sha256


def test_a_container_that_failed_is_made_again_and_an_init_container_until_the_next_one_came() -> None:
    """A crash must not need a new pod, and a finished init container must not run a second time."""
    pod = case(RICH)
    pod.run_until("second")
    pod.denied(
        "CreateContainerRequest", pod.shim.create_container("web"), "only after init container helper was started"
    )
    for step in pod.shim.begin("second"):
        pod.allowed(*step)
    for step in pod.shim.end("second"):
        pod.allowed(*step)
    for step in [*pod.shim.begin("second", 1), *pod.shim.end("second", 1)]:
        pod.allowed(*step)
    pod.denied("CreateContainerRequest", pod.shim.create_container("first", 1), "later containers were made")
    for step in pod.shim.begin("helper"):
        pod.allowed(*step)
    pod.denied("CreateContainerRequest", pod.shim.create_container("second", 2), "later containers were made")
    for step in [*pod.shim.begin("web"), *pod.shim.end("helper"), *pod.shim.begin("helper", 1)]:
        pod.allowed(*step)
    pod.denied("CreateContainerRequest", pod.shim.create_container("helper", 2), "no second container helper")


def test_nodes_without_service_variables_and_readable_logs_are_a_choice() -> None:
    readable = simple_pod().replace("{name: web}", f'{{name: web, annotations: {{{READ_LOGS}: "true"}}}}')
    quiet = case(readable, settings=Settings(kubernetes_service=False))
    assert "KUBERNETES" not in quiet.policy.text
    for step in quiet.shim.begin("-"):
        if step[0] == "CreateContainerRequest":
            quiet.allowed("CreateSandboxRequest", quiet.shim.create_sandbox())
        quiet.allowed(*step)
    quiet.allowed("ReadStreamRequest", {"container_id": quiet.shim.container_id("-"), "exec_id": "", "len": 1})
    loud = case(simple_pod())
    loud.denied("ReadStreamRequest", {"container_id": "x", "exec_id": "", "len": 1}, "stays in the guest")


@pytest.mark.parametrize("value", ["'yes'", "'True'", "''"])
def test_logs_are_let_out_only_by_the_one_word(value: str) -> None:
    """A near miss must not silently mean either."""
    text = simple_pod().replace("{name: web}", f"{{name: web, annotations: {{{READ_LOGS}: {value}}}}}")
    with pytest.raises(UnsupportedError, match=r'write "true", in quotes'):
        case(text)


def test_the_policy_is_readable_line_by_line() -> None:
    """The agent's parser stops at 64 KiB a line; a reviewer stops earlier."""
    text = render(case(RICH).pod).text
    assert max(len(line) for line in text.split("\n")) < 1000
    assert text.count("\n") > 500
