"""Every field counts, also those deep inside; what asks for nothing is no reason to refuse a pod."""

import pytest

from policy.errors import UnsupportedError
from tests.support.policies import pod_of, simple_pod

INNER = [
    "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name, odd: 1}}}]",
    "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, odd: 1}}}]",
    "env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: b, odd: 1}}}]",
    "envFrom: [{configMapRef: {name: a, odd: 1}}]",
    "livenessProbe: {exec: {command: [a], odd: 1}}",
    "lifecycle: {preStop: {exec: {command: [a], odd: 1}}}",
]


@pytest.mark.parametrize("container", INNER)
def test_an_unknown_field_deep_inside_is_refused(container: str) -> None:
    """A misspelled field is dropped by some clients and refused by others; here it would pass without effect."""
    with pytest.raises(UnsupportedError, match=r"odd: this field is not known"):
        pod_of(simple_pod(container=container))


@pytest.mark.parametrize(
    "spec", ["securityContext: {sysctls: [{name: a.b, value: '1', odd: 1}]}", "securityContext: {odd: 1}"]
)
def test_an_unknown_field_of_the_pods_security_is_refused(spec: str) -> None:
    with pytest.raises(UnsupportedError, match=r"odd: this field is not known"):
        pod_of(simple_pod(spec))


@pytest.mark.parametrize("more", ["capabilities: {drops: [ALL]}", "appArmorProfile: {type: Unconfined, drops: x}"])
def test_a_misspelled_restriction_is_refused(more: str) -> None:
    """Passed over, the container would keep what its author wanted to take from it."""
    with pytest.raises(UnsupportedError, match=r"drops: this field is not known"):
        pod_of(simple_pod().replace("runAsGroup: 1000", f"runAsGroup: 1000, {more}"))


def test_empty_values_that_charts_write_ask_for_nothing() -> None:
    """Rendered charts hold such fields in every pod."""
    text = simple_pod(
        "securityContext: {seLinuxOptions: {}, windowsOptions: {}, sysctls: [], supplementalGroups: []}, "
        "resourceClaims: [], ephemeralContainers: [], initContainers: [], volumes: [], resources: {}, affinity: {}, "
        "hostAliases: [], tolerations: [], dnsConfig: {}",
        "resources: {claims: [], limits: {}, requests: {}}, env: [], envFrom: [], volumeMounts: [], lifecycle: {}, "
        "volumeDevices: [], livenessProbe: {}, ports: []",
    ).replace("runAsGroup: 1000}", "runAsGroup: 1000, seLinuxOptions: {}, windowsOptions: {}, capabilities: {}}")
    _, full = pod_of(text)
    _, bare = pod_of(simple_pod())
    assert full == bare


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("net.core.somaxconn", "net.core.somaxconn"),
        ("net/core/somaxconn", "net.core.somaxconn"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
    ],
)
def test_sysctls_are_named_as_the_kubelet_names_them(written: str, sent: str) -> None:
    _, made = pod_of(simple_pod(f"securityContext: {{sysctls: [{{name: {written}, value: '1'}}]}}"))
    assert made.container("-").sysctls == {sent: "1"}


@pytest.mark.parametrize("amount", ["1", "0.5", "500m", "100000n", "1e3", "64Mi", "12E", "1k"])
def test_quantities_of_every_form_are_read(amount: str) -> None:
    _, made = pod_of(simple_pod(container=f"resources: {{requests: {{memory: {amount}}}}}"))
    assert made.container("app").oom == (2, 999)


@pytest.mark.parametrize(
    ("written", "wanted"), [("/data/", "/data"), ("//data", "/data"), ("data", "/data"), ("/a/../b/", "/b")]
)
def test_a_path_that_is_not_clean_is_shown_clean(written: str, wanted: str) -> None:
    """Advice that is refused in its turn is none; and all faults of a mount are told at once."""
    text = simple_pod(
        "volumes: [{name: v, emptyDir: {}}]", f"volumeMounts: [{{name: v, mountPath: '{written}', subPath: x}}]"
    )
    with pytest.raises(UnsupportedError) as caught:
        pod_of(text)
    paths = [problem.path.rpartition(".")[2] for problem in caught.value.problems]
    assert paths == ["mountPath", "subPath"]
    assert caught.value.problems[0].instead == f"write {wanted}"
