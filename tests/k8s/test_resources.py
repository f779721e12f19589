"""Workloads are found wherever they stand, and what Kubernetes would refuse is refused here with its line."""

from pathlib import Path

import pytest

from k8s.problems import ResourceError
from k8s.resources import ResourceSet, config_map_data, load_folder, read_resources, secret_data
from k8s.yamlfile import YamlFile

_POD = "      runtimeClassName: contrast-cc-snp\n      containers:\n      - name: c\n"


def read(*texts: str) -> ResourceSet:
    return read_resources([YamlFile.parse(f"f{number}.yml", text.encode()) for number, text in enumerate(texts)])


def faults(*texts: str) -> list[tuple[int, str]]:
    with pytest.raises(ResourceError) as caught:
        read(*texts)
    return [(problem.line, problem.path) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("kind", "replicas"),
    [
        ("Deployment", 3),
        ("ReplicaSet", 3),
        ("ReplicationController", 3),
        ("StatefulSet", 3),
        ("DaemonSet", 1),
        ("Job", 1),
    ],
)
def test_every_kind_with_a_pod_template_is_a_workload(kind: str, replicas: int) -> None:
    """A kind that is overlooked runs without a policy of its own."""
    text = f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: w}}\nspec:\n  replicas: 3\n  template:\n    spec:\n{_POD}"
    (workload,) = read(text).confidential
    assert (workload.kind, workload.name, workload.replicas, workload.namespace) == (kind, "w", replicas, None)
    assert workload.pod_line("containers", 0, "name") == 10
    assert workload.pod_spec["runtimeClassName"] == workload.runtime_class == "contrast-cc-snp"


def test_cron_jobs_lists_and_bare_pods_are_workloads_too() -> None:
    """The template of a CronJob lies deeper, and a List hides its objects one level down."""
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: batch/v1, kind: CronJob, metadata: {name: cron}, spec: {jobTemplate: {spec: {template:"
        " {metadata: {annotations: {a: b}}, spec: {containers: [{name: c}]}}}}}}\n"
        "- {apiVersion: v1, kind: Pod, metadata: {generateName: pod-, annotations: {a: c}},"
        " spec: {containers: [{name: c}]}}\n"
        "---\nkind: DeploymentList\nitems:\n"
        "- metadata: {name: d}\n  spec: {template: {spec: {containers: [{name: c}]}}}\n"
    )
    cron, pod, deployment = read(text).workloads
    assert (cron.pod_path, cron.annotations) == (("spec", "jobTemplate", "spec", "template", "spec"), {"a": "b"})
    assert (pod.name, pod.generate_name, pod.annotations, pod.path) == ("pod-", "pod-", {"a": "c"}, ("items", 1))
    assert (deployment.kind, deployment.confidential, deployment.line()) == ("Deployment", False, 9)


def test_our_annotations_may_stand_at_the_object_or_at_its_pods() -> None:
    """People put them at either place; a Coordinator that is not recognised would wait for itself."""
    prefix = "contrast.edgeless.systems/"
    text = (
        "kind: StatefulSet\nmetadata:\n  name: coordinator\n  namespace: ns\n"
        f"  annotations: {{{prefix}pod-role: coordinator, other: x}}\n"
        "spec:\n  template:\n"
        f"    metadata: {{annotations: {{{prefix}workload-secret-id: s, {prefix}skip-initializer: 'true'}}}}\n"
        f"    spec:\n{_POD}"
    )
    resources = read(text)
    (workload,) = resources.coordinators
    assert workload.is_coordinator
    assert workload.skips_initializer
    assert (workload.workload_secret_id, workload.policy_annotation) == ("s", None)
    assert "other" not in workload.annotations
    assert faults(text.replace("workload-secret-id: s", "pod-role: other"))[0][0] == 8


def test_other_kinds_and_other_peoples_yaml_pass_through() -> None:
    """Helm values and custom resources lie in the same folders and are nobody's fault."""
    resources = read("kind: Gadget\nspec: 1\n", "just text\n", "- a\n", "x: 1\n", "", "---\n---\n", "kind: 7\n")
    assert resources.workloads == ()


def test_inputs_are_found_and_decoded() -> None:
    """Environment from a ConfigMap or Secret becomes part of a policy."""
    resources = read(
        "kind: ConfigMap\nmetadata: {name: c}\ndata: {a: 'yes'}\n---\n"
        "kind: Secret\nmetadata: {name: s}\ndata: {a: eA==, b: eQ==}\nstringData: {b: z}\n---\n"
        "kind: Service\nmetadata: {name: v}\n---\nkind: ServiceAccount\nmetadata: {name: w}\n"
    )
    assert config_map_data(resources.config_maps[0]) == {"a": "yes"}
    assert secret_data(resources.secrets[0]) == {"a": b"x", "b": b"z"}
    assert [str(found) for found in resources.services + resources.service_accounts] == [
        "Service v",
        "ServiceAccount w",
    ]


def test_a_secret_that_cannot_be_decoded_does_not_show_itself() -> None:
    """Error messages end up in logs."""
    resources = read(
        "kind: Secret\nmetadata: {name: s}\ndata:\n  a: hunter2!\n",
        "kind: ConfigMap\nmetadata: {name: c}\ndata: {a: 1}\n",
    )
    with pytest.raises(ResourceError, match=r"f0\.yml:4: data\.a: not base64") as caught:
        secret_data(resources.secrets[0])
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ResourceError, match="the number 1 where a text is wanted"):
        config_map_data(resources.config_maps[0])


def test_every_fault_of_every_object_is_reported_at_once() -> None:
    """Kubernetes would refuse all of these, one apply at a time."""
    text = (
        "kind: Pod\nmetadata:\n  name: 1\nspec:\n  runtimeClassName: yes\n  containers:\n  - image: i\n  - name: a\n"
        "    env: {a: b}\n    volumeMounts: [x]\n  - name: a\n  volumes: 3\n"
        "---\nkind: Deployment\nmetadata: {}\nspec: {replicas: -1, template: {metadata: [], spec: {containers: []}}}\n"
        "---\nkind: Pod\nmetadata: {name: x, annotations: {a: 1}}\nspec: {containers: [{name: a}]}\n"
        "---\nkind: Job\n"
    )
    assert faults(text) == [
        (3, "metadata.name"),
        (5, "spec.runtimeClassName"),
        (7, "spec.containers[0].name"),
        (9, "spec.containers[1].env"),
        (10, "spec.containers[1].volumeMounts[0]"),
        (11, "spec.containers[2].name"),
        (12, "spec.volumes"),
        (15, "metadata.name"),
        (16, "spec.template.metadata"),
        (16, "spec.template.spec.containers"),
        (16, "spec.replicas"),
        (19, "metadata.annotations.a"),
        (22, "metadata"),
        (22, "spec.template.spec"),
    ]


def test_an_object_defined_twice_is_refused_with_both_places() -> None:
    """Which of the two is applied last would decide what runs."""
    pod = "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}\n"
    with pytest.raises(
        ResourceError, match=r"f1\.yml:2: metadata\.name: Pod a is defined a second time, first in f0\.yml:1"
    ):
        read(pod, pod)
    assert len(read(pod, pod.replace("name: a", "name: a, namespace: b")).workloads) == 2
    assert (
        len(read(pod.replace("name: a", "generateName: a"), pod.replace("name: a", "generateName: a")).workloads) == 2
    )


def test_folders_are_walked_in_a_stable_order_and_each_file_is_read_once(tmp_path: Path) -> None:
    """An order that depends on the disk would make two runs of generate differ."""
    for name in ("b.yml", "a.yaml", "sub/c.yml", ".hidden/d.yml", "e.txt", "f.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a: 1\n")
    files = load_folder([tmp_path / "sub", tmp_path, tmp_path / "e.txt", tmp_path / "b.yml"])
    names = [str(Path(file.path).relative_to(tmp_path)) for file in files]
    assert names == ["sub/c.yml", "a.yaml", "b.yml", "e.txt"]


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder with three bad files should take one run to understand."""
    (tmp_path / "a.yml").write_text("a: [\n")
    (tmp_path / "b.yml").write_text("a: 1\na: 1\n")
    (tmp_path / "c.yml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ResourceError) as caught:
        load_folder([tmp_path, tmp_path / "missing"])
    assert [Path(problem.file).name for problem in caught.value.problems] == ["a.yml", "b.yml", "c.yml", "missing"]


@pytest.mark.parametrize(
    ("api", "kind"),
    [
        ("batch.volcano.sh/v1alpha1", "Job"),
        ("serving.knative.dev/v1", "Service"),
        ("apps.kruise.io/v1beta1", "StatefulSet"),
        ("example.com/v1", "Pod"),
        ("apps.example/v1", "Deployment"),
    ],
)
def test_kinds_of_other_apis_pass_through_though_their_names_are_ours(api: str, kind: str) -> None:
    """A folder that holds such an object would be refused for fields that its API does not have."""
    found = read(f"apiVersion: {api}\nkind: {kind}\nmetadata: {{}}\nspec: {{tasks: [{{template: {{spec: {{}}}}}}]}}\n")
    assert (found.workloads, found.services) == ((), ())


@pytest.mark.parametrize("api", ["apps/v1", "extensions/v1beta1", "batch/v1", "v1"])
def test_old_and_new_groups_of_kubernetes_are_read(api: str) -> None:
    """An object under the group of an older release is the same workload."""
    text = f"apiVersion: {api}\nkind: DaemonSet\nmetadata: {{name: w}}\nspec:\n  template:\n    spec:\n{_POD}"
    assert len(read(text).confidential) == 1
