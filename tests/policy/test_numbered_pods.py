"""Pods that have a number: indexed jobs and stateful sets. The number in names, variables and arguments is one."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import UnsupportedError
from policy.names import below, pod_names
from policy.rego import policy_data
from policy.requests import PodFacts, Shim
from policy.words import describe
from tests.support.policies import Case, case, pod_of, resources, simple_pod

READS = 'args: ["--part=$(JOB_COMPLETION_INDEX)/12"]'
CRON = """
kind: CronJob
metadata: {name: nightly}
spec:
  jobTemplate:
    spec: {completionMode: Indexed, completions: 3, template: TEMPLATE}
"""


def job(completions: int = 12, container: str = READS) -> str:
    text = simple_pod(kind="Job", container=container)
    return text.replace("{template", f"{{completionMode: Indexed, completions: {completions}, template")


def named(text: str, name: str) -> Case:
    pod = case(text)
    pod.shim = Shim(pod.pod, PodFacts(name=name))
    return pod


def env_of(pod: Case) -> list[str]:
    request: Any = pod.shim.create_container("app")
    found: list[str] = request["OCI"]["Process"]["Env"]
    return found


@given(limit=st.integers(1, 3000), number=st.integers(0, 4000))
def test_numbers_below_a_limit(limit: int, number: int) -> None:
    assert bool(re.fullmatch(below(limit), str(number))) == (number < limit)
    assert not re.fullmatch(below(limit), f"0{number}")


def test_an_indexed_job_lives() -> None:
    """Its controller writes name, host name and a variable of each pod."""
    pod = named(job(), "web-11-x2b4c")
    assert {"JOB_COMPLETION_INDEX=11", "HOSTNAME=web-11"} <= set(env_of(pod))
    for step in pod.shim.life():
        pod.allowed(*step)


def test_a_pod_of_an_indexed_job_has_one_number() -> None:
    """A node that gives two pods the same part, or one pod another, would change what the job computes."""
    pod = named(job(), "web-3-x2b4c")
    pod.run_until("app")
    changes: list[tuple[Any, str]] = [
        (lambda p: p["Env"].__setitem__(p["Env"].index("JOB_COMPLETION_INDEX=3"), "JOB_COMPLETION_INDEX=4"), "INDEX"),
        (lambda p: p["Env"].__setitem__(p["Env"].index("HOSTNAME=web-3"), "HOSTNAME=web-4"), "HOSTNAME"),
        (lambda p: p["Args"].__setitem__(-1, "--part=4/12"), "Args"),
        (lambda p: p["Env"].remove("JOB_COMPLETION_INDEX=3"), "JOB_COMPLETION_INDEX"),
        (lambda p: p["Env"].append("JOB_COMPLETION_INDEX=3"), "JOB_COMPLETION_INDEX"),
    ]
    for change, because in changes:
        request: Any = pod.shim.create_container("app")
        change(request["OCI"]["Process"])
        pod.denied("CreateContainerRequest", request, because)


@pytest.mark.parametrize(
    "name", ["web-12-x2b4c", "web-03-x2b4c", "web-x2b4c", "web--1-x2b4c", "web-3", "web-3-4-x2b4c"]
)
def test_other_names_and_numbers_are_denied(name: str) -> None:
    pod = named(job(), "web-3-x2b4c")
    pod.allowed("CreateSandboxRequest", pod.shim.create_sandbox())

    def renamed(request: Any) -> None:
        request["OCI"]["Annotations"]["io.kubernetes.cri.sandbox-name"] = name

    pod.create_denied("-", renamed, "sandbox-name")


def test_the_host_name_is_the_pods() -> None:
    pod = named(job(), "web-3-x2b4c")
    pod.allowed("CreateSandboxRequest", {**pod.shim.create_sandbox(), "hostname": "web-4"})
    pod.denied("CreateContainerRequest", pod.shim.create_container("-"), "hostname")
    other = named(job(), "web-3-x2b4c")
    other.denied("CreateSandboxRequest", {**other.shim.create_sandbox(), "hostname": "web.3"}, "hostname")


def test_jobs_of_a_cron_job_are_numbered_too() -> None:
    template = simple_pod(kind="Job", container=READS).partition("{template: ")[2].strip()[:-1]
    pod = named(CRON.replace("TEMPLATE", template), "nightly-29000000-2-x2b4c")
    assert "HOSTNAME=nightly-29000000-2" in env_of(pod)
    for step in pod.shim.life():
        pod.allowed(*step)
    assert "<number>" in describe(policy_data(pod.policy.text))[0].facts[0].values[0]


def test_what_the_author_gives_goes_before_the_controllers_variable() -> None:
    pod = named(job(container="env: [{name: JOB_COMPLETION_INDEX, value: '7'}]"), "web-3-x2b4c")
    assert "JOB_COMPLETION_INDEX=7" in env_of(pod)
    for step in pod.shim.life():
        pod.allowed(*step)


FIELDS = "env: [{name: NUM, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['%s']\"}}}]"


@pytest.mark.parametrize(("label", "value"), [
    ("apps.kubernetes.io/pod-index", "5"), ("statefulset.kubernetes.io/pod-name", "db.v1-5"),
])  # fmt: skip
def test_labels_of_stateful_sets_are_the_pods_own(label: str, value: str) -> None:
    pod = named(simple_pod(kind="StatefulSet", name="db.v1", container=FIELDS % label), "db.v1-5")
    assert f"NUM={value}" in env_of(pod)
    pod.run_until("app")
    pod.create_denied("app", lambda r: _set(r, "NUM=6"), "NUM=")
    pod.allowed("CreateContainerRequest", pod.shim.create_container("app"))


def test_the_index_of_a_job_is_read_by_its_own_name_too() -> None:
    label = FIELDS.replace("labels", "annotations") % "batch.kubernetes.io/job-completion-index"
    pod = named(job(container=label), "web-3-x2b4c")
    assert "NUM=3" in env_of(pod)
    for kind in ("Deployment", "StatefulSet"):
        with pytest.raises(UnsupportedError, match="the cluster would choose"):
            pod_of(simple_pod(kind=kind, container=label))


def test_a_job_whose_numbers_make_its_names_too_long_is_refused() -> None:
    text = job(1000).replace("name: web}", f"name: {'a' * 54}}}")
    with pytest.raises(UnsupportedError, match="use at most 53 characters"):
        pod_of(text)


def test_jobs_made_by_generated_names_have_two_random_ends() -> None:
    (workload,) = resources(simple_pod(kind="Job").replace("name: web}", "generateName: web-}")).workloads
    assert re.fullmatch(pod_names(workload).pattern, "web-x2b4c-9f6xk")
    assert re.fullmatch(pod_names(workload).pattern, pod_names(workload).example)


def _set(request: Any, entry: str) -> None:
    env = request["OCI"]["Process"]["Env"]
    name = entry.partition("=")[0]
    env[next(n for n, one in enumerate(env) if one.startswith(f"{name}="))] = entry
