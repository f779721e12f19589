"""Files that are YAML by accident: JSON stays JSON, a template is called one, other tools' anchors are refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k8s.edits import Edit, InsertItem, SetValue, apply_to_data
from k8s.inject import InjectionSettings, injection_edits
from k8s.nodes import Data
from k8s.problems import ResourceError
from k8s.resources import load_folder, read_resources
from k8s.yamlfile import YamlFile

POD: dict[str, Data] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "annotations": {"a": "b"}},
    "spec": {
        "runtimeClassName": "contrast-cc",
        "volumes": [],
        "containers": [{"name": "app", "image": "x/y", "stdin": True, "env": None}],
    },
}
SETTINGS = InjectionSettings(initializer_image="contrast.invalid/contrast/initializer:v1@sha256:" + "7" * 64)


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_stays_json(indent: int | str | None) -> None:
    """`kubectl apply` reads a document that begins with a brace as JSON: keys without quotes would make it unusable."""
    file = YamlFile.parse("pod.json", json.dumps(POD, indent=indent).encode())
    (workload,) = read_resources([file]).confidential
    after = file.apply(injection_edits(workload, SETTINGS, "QUJD"))
    changed = json.loads(after)
    assert changed["metadata"]["annotations"] == {"a": "b", "io.katacontainers.config.agent.policy": "QUJD"}
    assert changed["spec"]["initContainers"][0]["env"] == [{"name": "COORDINATOR_HOST", "value": "coordinator-ready"}]
    assert changed["spec"]["volumes"] == [{"name": "contrast-secrets", "emptyDir": {"medium": "Memory"}}]
    (again,) = read_resources([YamlFile.parse("pod.json", after)]).confidential
    assert injection_edits(again, SETTINGS, "QUJD") == ()


def test_json_in_a_folder_is_read_where_kubectl_would_apply_it(tmp_path: Path) -> None:
    """A pod that is overlooked is applied without a policy; files of other tools are none of ours."""
    (tmp_path / "pod.json").write_text(json.dumps(POD))
    (tmp_path / "package.json").write_text('{"name": "x", "name": "twice"}')
    (workload,) = read_resources(load_folder([tmp_path])).confidential
    assert workload.file.path == str(tmp_path / "pod.json")
    with pytest.raises(ResourceError, match="stands in line 1 already"):
        load_folder([tmp_path / "package.json"])


VALUES: st.SearchStrategy[Data] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8).filter(str.isprintable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~:{", min_size=1, max_size=3), inner),
    max_leaves=6,
)
PLACES: list[tuple[str | int, ...]] = [
    ("metadata", "name"),
    ("spec", "new"),
    ("spec", "containers", 0),
    ("spec", "containers", 0, "stdin"),
    ("spec", "volumes"),
    ("metadata", "annotations"),
]


@given(value=VALUES, place=st.sampled_from(PLACES), first=st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_is_set_in_json_is_json(value: Data, place: tuple[str | int, ...], *, first: bool) -> None:
    file = YamlFile.parse("pod.json", json.dumps(POD).encode())
    edits: list[Edit] = [SetValue(document=0, path=place, value=value)]
    if place != ("spec", "containers", 0):
        edits.append(InsertItem(document=0, path=("spec", "containers"), index=0 if first else 1, value=value))
    assert json.loads(file.apply(edits)) == apply_to_data(POD, edits)


def test_yaml_in_braces_keeps_its_own_style() -> None:
    """Only what is JSON already is written as JSON."""
    file = YamlFile.parse("f.yml", b"{kind: Pod, metadata: {}}\n")
    edit = SetValue(document=0, path=("metadata", "name"), value="web")
    assert file.apply([edit]) == b"{kind: Pod, metadata: {name: web}}\n"


def faults(text: str) -> list[tuple[int, str]]:
    with pytest.raises(ResourceError) as caught:
        YamlFile.parse("f.yml", text.encode())
    return [(problem.line, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind: Pod\nmetadata:\n  name: {{ .Release.Name }}\n", 3),
        ("{{- if .Values.on }}\nkind: Pod\n{{- end }}\n", 1),
        ("kind: Pod\nmetadata:\n  labels:\n    {{- include 'x' . | nindent 4 }}\n", 4),
        ("spec:\n  replicas: {{ a }}\n  x: {{ b }}\n", 2),
    ],
)
def test_a_template_is_called_one(text: str, line: int) -> None:
    """What a parser makes of two braces tells nobody that the file is to be rendered first."""
    ((at, message),) = faults(text)
    assert (at, "helm template" in message) == (line, True)


def test_braces_in_a_text_are_no_template() -> None:
    """Workflows hold them in quotes: another fault of such a file stays what it is, and without one it is read."""
    text = 'kind: Workflow\nargs: ["{{inputs.x}}"]\n'
    assert YamlFile.parse("f.yml", text.encode()).documents[0].data == {"kind": "Workflow", "args": ["{{inputs.x}}"]}
    ((line, message),) = faults(text + "kind: Pod\n")
    assert (line, "template" in message) == (3, False)


@pytest.mark.parametrize("name", ["a.b", "a:", "a/b", "ä"])
def test_anchors_that_kubernetes_does_not_read_are_refused(name: str) -> None:
    """Its parser ends an anchor's name at such a character, and takes the rest for something else."""
    assert any("is no name that Kubernetes reads" in message for _, message in faults(f"a: &{name} x\n"))
