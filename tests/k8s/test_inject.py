"""Injection adds what is ours to any pod, nothing else, and nothing twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from k8s.edits import Edit, SetValue
from k8s.inject import InjectionSettings, coordinator_host, injected_pod, injection_edits
from k8s.nodes import Data
from k8s.problems import EditError, ResourceError
from k8s.resources import ResourceSet, read_resources
from k8s.yamlfile import YamlFile
from tests.support.yaml_corpus import PODS, REFUSED
from tests.support.yaml_spans import without

SETTINGS = InjectionSettings(initializer_image="contrast.invalid/contrast/initializer:v1@sha256:" + "ab" * 32)
POLICY = "cGFja2FnZSBhZ2VudF9wb2xpY3kK"
POD = "kind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n"


def read(raw: bytes) -> tuple[YamlFile, ResourceSet]:
    file = YamlFile.parse("f.yml", raw)
    return file, read_resources([file])


def edits_of(resources: ResourceSet, settings: InjectionSettings = SETTINGS, policy: str = POLICY) -> list[Edit]:
    return [edit for workload in resources.workloads for edit in injection_edits(workload, settings, policy)]


def inject(raw: bytes, settings: InjectionSettings = SETTINGS, policy: str = POLICY) -> bytes:
    file, resources = read(raw)
    return file.apply(edits_of(resources, settings, policy))


def check_pod(pod: dict[str, Data]) -> None:
    """Hold one pod to what every injected pod has."""
    containers, initial, volumes = pod["containers"], pod["initContainers"], pod["volumes"]
    assert isinstance(containers, list)
    assert isinstance(initial, list)
    assert isinstance(volumes, list)
    first = initial[0]
    assert isinstance(first, dict)
    assert (first["name"], first["image"]) == ("contrast-initializer", SETTINGS.initializer_image)
    assert first["env"] == [{"name": "COORDINATOR_HOST", "value": SETTINGS.coordinator_host}]
    assert volumes.count({"name": "contrast-secrets", "emptyDir": {"medium": "Memory"}}) == 1
    for container in [*initial, *containers]:
        assert isinstance(container, dict)
        mounts = container["volumeMounts"]
        assert isinstance(mounts, list)
        assert mounts.count({"name": "contrast-secrets", "mountPath": "/contrast"}) == 1


def check_injection(raw: bytes) -> None:
    """Inject into every workload of *raw* and hold the result to all that is promised."""
    file, resources = read(raw)
    edits = edits_of(resources)
    changed = file.apply(edits)
    assert without(file.splices(edits), changed.decode(), file.text) == file.text
    for splice in file.splices(edits):  # nothing of the author's is replaced but a value that says "nothing"
        assert file.text[splice.start : splice.end] in {"", "~", "null", "[]", "[ ]", "{}"}
    result, again = read(changed)
    assert edits_of(again) == []
    assert result.apply([]) == changed
    for before, after in zip(resources.workloads, again.workloads, strict=True):
        assert injected_pod(before, SETTINGS) == injected_pod(after, SETTINGS) == after.pod_spec
        assert after.policy_annotation == POLICY
        check_pod(after.pod_spec)


@pytest.mark.parametrize("name", PODS)
def test_every_odd_pod_is_injected_by_insertion_alone(name: str) -> None:
    """The author's bytes are the author's."""
    check_injection(PODS[name].encode())


def test_every_published_yaml_is_injected_by_insertion_alone(vectors: Path) -> None:
    """Real files of all kinds, as the common generator's own tests use them."""
    paths = sorted((vectors / "genpolicy").rglob("*.y*ml"))
    assert len(paths) >= 30
    for path in paths:
        check_injection(path.read_bytes())


@pytest.mark.parametrize("name", ["mounts merged in from elsewhere", "mounts shared with something else"])
def test_a_mount_that_would_reach_other_places_is_refused(name: str) -> None:
    """Changing a shared list changes whatever else shares it."""
    text, line, _ = REFUSED[name]
    with pytest.raises(EditError) as caught:
        inject(text.encode())
    assert caught.value.problems[0].line == line


def test_a_changed_setting_changes_that_value_and_keeps_what_the_author_added() -> None:
    """A new image or policy must not cost the author's limits or comments."""
    text = inject(POD.encode()).decode()
    text = text.replace(
        "    env:\n", "    resources: {limits: {memory: 64Mi}} # mine\n    env:\n    - name: MINE\n      value: x\n", 1
    )
    newer = InjectionSettings(initializer_image="other@sha256:" + "cd" * 32, coordinator_host="h:1")
    changed = inject(text.encode(), newer, "bmV3").decode()
    expected = (
        text.replace(SETTINGS.initializer_image, newer.initializer_image)
        .replace(POLICY, "bmV3")
        .replace(
            "    - name: COORDINATOR_HOST\n      value: coordinator-ready",
            '    - name: COORDINATOR_HOST\n      value: "h:1"',
        )
    )
    assert changed.replace("value: h:1", 'value: "h:1"') == expected
    assert inject(changed.encode(), newer, "bmV3").decode() == changed


def test_the_coordinator_and_who_asks_for_it_get_a_policy_and_no_initializer() -> None:
    """The Coordinator cannot ask itself for a certificate before it runs."""
    for annotation in ("pod-role: coordinator", "skip-initializer: 'true'"):
        text = POD.replace("{name: p}", f"{{name: p, annotations: {{contrast.edgeless.systems/{annotation}}}}}")
        _, resources = read(text.encode())
        (edit,) = edits_of(resources)
        assert isinstance(edit, SetValue)
        assert edit.path == ("metadata", "annotations", "io.katacontainers.config.agent.policy")
        assert injected_pod(resources.workloads[0], SETTINGS) == resources.workloads[0].pod_spec


def test_a_template_without_metadata_gets_the_policy_all_the_same() -> None:
    """Jobs are often written so."""
    text = "kind: Job\nmetadata: {name: j}\nspec:\n  template:\n    spec:\n      containers:\n      - name: c\n"
    assert read(inject(text.encode()))[1].workloads[0].policy_annotation == POLICY


@pytest.mark.parametrize(
    ("pod_wide", "written"),
    [
        ("", {"runAsUser": 1000, "runAsGroup": 2000}),
        ("  securityContext: {runAsUser: 1000}\n", {"runAsGroup": 2000}),
        ("  securityContext: {runAsUser: 1000, runAsGroup: 2000}\n", {}),
    ],
)
def test_the_initializer_runs_as_whoever_reads_its_key(pod_wide: str, written: dict[str, int]) -> None:
    """The key file is readable by its owner only; another user's container would fail at its first connection."""
    settings = replace(SETTINGS, runs_as=(1000, 2000))
    first = injected_pod(read((POD + pod_wide).encode())[1].workloads[0], settings)["initContainers"]
    assert isinstance(first, list)
    assert isinstance(first[0], dict)
    context = first[0]["securityContext"]
    assert isinstance(context, dict)
    assert {name: value for name, value in context.items() if name.startswith("runAs")} == written


@pytest.mark.parametrize(
    ("addition", "line", "word"),
    [
        ("  initContainers: [{name: a}, {name: contrast-initializer}]\n", 6, "must be the first"),
        ("  initContainers:\n  - name: contrast-initializer\n    command: [sh]\n", 8, "runs what its image says"),
        ("  - name: contrast-initializer\n", 6, "is ours"),
        ("  volumes:\n  - name: contrast-secrets\n    emptyDir: {}\n", 7, "medium: Memory"),
        ("  volumes: [{name: contrast-secrets, hostPath: {path: /}}]\n", 6, "private key"),
        ("    volumeMounts: [{name: v, mountPath: /contrast/}]\n", 6, "mount this volume elsewhere"),
    ],
)
def test_what_stands_in_our_place_is_refused_with_its_line(addition: str, line: int, word: str) -> None:
    """Overwriting it would break the author's pod; sharing it could show the key to the host."""
    _, resources = read((POD + addition).encode())
    with pytest.raises(ResourceError, match=word) as caught:
        injected_pod(resources.workloads[0], SETTINGS)
    assert caught.value.problems[0].line == line
    with pytest.raises(ResourceError, match=word):
        edits_of(resources)


def test_the_coordinator_is_named_with_its_namespace_where_the_files_know_it() -> None:
    """Pods of another namespace cannot find a bare service name."""
    marked = "{name: p, annotations: {contrast.edgeless.systems/pod-role: coordinator}}"
    text = POD.replace("{name: p}", marked).replace("spec:\n", "spec:\n  runtimeClassName: contrast-cc\n")
    assert coordinator_host(read(text.encode())[1]) == "coordinator-ready"
    text = text.replace("{name: p,", "{name: p, namespace: ns,")
    assert coordinator_host(read(text.encode())[1]) == "coordinator-ready.ns"


def first_resources(*containers: str) -> Data:
    """What the Initializer of a pod with containers of these resources gets."""
    text = "kind: Pod\nmetadata: {name: p}\nspec:\n  runtimeClassName: contrast-cc\n  containers:\n"
    text += "".join(f"  - {{name: c{number}, resources: {found}}}\n" for number, found in enumerate(containers))
    check_injection(text.encode())
    _, resources = read(inject(text.encode()))
    initial = resources.workloads[0].pod_spec["initContainers"]
    assert isinstance(initial, list)
    assert isinstance(initial[0], dict)
    return initial[0].get("resources")


GUARANTEED = "{requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: 500m, memory: 1Gi}}"
RESOURCES: dict[str, tuple[tuple[str, ...], Data]] = {
    "guaranteed stays guaranteed": (
        (GUARANTEED, GUARANTEED.replace("500m", "2")),
        {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
    ),
    "limits alone": (("{limits: {cpu: 1, memory: 1Gi}}",), {"limits": {"cpu": 1, "memory": "128Mi"}}),
    "requests alone": (("{requests: {cpu: 1, memory: 1Gi}}",), {"requests": {"cpu": 1, "memory": "128Mi"}}),
    "a small request keeps a large limit company": (
        ("{requests: {cpu: 10m}, limits: {cpu: 4}}", "{limits: {cpu: 4}}"),
        {"requests": {"cpu": "10m"}, "limits": {"cpu": 4}},
    ),
    "no limit of processors where a container has none": (
        ("{limits: {cpu: 4, memory: 1Gi}}", "{limits: {memory: 1Gi}}"), {"limits": {"memory": "128Mi"}}),
    "disks are counted too": (("{limits: {ephemeral-storage: 1Gi}}",), {"limits": {"ephemeral-storage": "1Gi"}}),
    "devices are not ours": (("{limits: {nvidia.com/gpu: 1}}",), None),
    "nothing": (("{}", GUARANTEED), None),
    "empty": (("{limits: {cpu: null}, requests: }",), None),
}  # fmt: skip


@pytest.mark.parametrize(("containers", "expected"), RESOURCES.values(), ids=RESOURCES)
def test_the_initializer_changes_neither_quality_nor_size_of_a_pod(containers: tuple[str, ...], expected: Data) -> None:
    """Without limits it would turn a Guaranteed pod into a Burstable one, and quotas on limits would refuse the pod.

    With limits where the pod has none, the guest would get more processors, and another measurement.
    """
    assert first_resources(*containers) == expected


def test_resources_that_an_author_gave_the_initializer_stay() -> None:
    text = POD.replace("name: c\n", f"name: c\n    resources: {GUARANTEED}\n")
    once = inject(text.encode()).decode()
    assert "memory: 128Mi" in once
    for mine in ("memory: 256Mi", "memory: 1Gi"):
        edited = once.replace("memory: 128Mi", mine)
        assert inject(edited.encode()).decode() == edited
