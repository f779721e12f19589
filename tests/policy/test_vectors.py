"""Requests that others published with what their policy must answer, put to ours; and recorded lives of real pods.

Where ours is stricter on purpose the reason stands here, case by case. Before each case our sandbox is made as an
honest node does, because our policy demands it; and ``enableServiceLinks: false`` is added to each pod, as we demand.
"""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from policy.requests import Request
from tests.support.policies import Case
from tests.support.published import RECORDED, Json, life, read, recorded_life

PARTIAL = "the published request has no mounts, no image and no environment; ours demands all of them"
STRICTER = {
    ("createcontainer/volumes/config_map", "CreateContainer with config map volume"): PARTIAL,
    ("createcontainer/volumes/emptydir", "volumeMount: valid mount structure"): PARTIAL,
    ("createcontainer/volumes/emptydir", "volumeMount: valid mount destination(s)"): PARTIAL,
    ("createcontainer/generate_name", "generated name with valid prefix (dummysfx)"): PARTIAL,
    ("createcontainer/network_namespace", "one network namespace"): PARTIAL,
    ("createcontainer/network_namespace", "same network namespace"): PARTIAL,
}
FOLDERS = [
    "addarpneighbors", "copyfile", "createsandbox", "updateinterface", "updateroutes", "state/createcontainer",
    "createcontainer/env_vars", "createcontainer/generate_name", "createcontainer/ignored_fields",
    "createcontainer/network_namespace", "createcontainer/sysctls", "createcontainer/volumes/config_map",
    "createcontainer/volumes/emptydir",
]  # fmt: skip


def filled(kind: str, request: Json, case: Case) -> Request:
    """The partial *request* with protobuf's defaults; some tell their kind once more, in a field that none has."""
    request = {name: value for name, value in request.items() if name != "type"}
    if kind == "CreateContainerRequest":
        model = case.shim.create_container("-")
        return cast("Request", merged(emptied(model), request))
    defaults: Json = {
        "CreateSandboxRequest": {
            **emptied(case.shim.create_sandbox()),
            "hostname": case.shim.facts.name,
            "sandbox_id": "a" * 64,
        },
        "CopyFileRequest": emptied(next(case.shim.copies("-"))),
    }.get(kind, {})
    return cast("Request", merged(defaults, request))


def emptied(value: Any) -> Any:
    match value:
        case dict():
            return {key: emptied(item) for key, item in value.items() if key not in {"Annotations", "Sysctl"}}
        case bool():
            return False
        case int():
            return 0
        case str():
            return ""
        case list():
            return []
        case _:
            return None


def merged(defaults: Any, given: Any) -> Any:
    if not isinstance(defaults, dict) or not isinstance(given, dict):
        return given
    return {**defaults, **{key: merged(defaults.get(key), value) for key, value in given.items()}}


def prepared(folder: str, cases: list[Json], vectors: Path) -> Case:
    """A guest of that pod, brought to where the first case begins."""
    text = read(vectors / "genpolicy" / folder)
    if folder == "copyfile":
        # The published policy lets every name be copied, ours those of mounts: here they are.
        mounts = "    volumeMounts: [{name: a, mountPath: /foo}, {name: a, mountPath: /x/foo..}]\n"
        mounts += "  volumes: [{name: a, configMap: {name: a}}]\n"
        text = text.rstrip("\n") + "\n" + mounts
    first = next((c["request"] for c in cases if c["kind"] == "CreateContainerRequest"), None)
    annotations = {} if first is None else first["OCI"]["Annotations"]
    facts = {
        "sandbox_id": annotations.get("io.kubernetes.cri.sandbox-id", "a" * 64),
        "uid": annotations.get("io.kubernetes.cri.sandbox-uid", "9c64c5bf-298f-46c4-ad63-e2270a2ff44c"),
    }
    if "io.kubernetes.cri.sandbox-name" in annotations:
        facts["name"] = annotations["io.kubernetes.cri.sandbox-name"]
    case = life(text, facts)
    if first is not None:
        case.allowed("CreateSandboxRequest", case.shim.create_sandbox())
        if annotations.get("io.kubernetes.cri.container-type") == "container":
            case.allowed("CreateContainerRequest", case.shim.create_container("-"))
            case.allowed("StartContainerRequest", {"container_id": case.shim.facts.sandbox_id})
    return case


@pytest.mark.parametrize("folder", FOLDERS)
def test_published_cases(folder: str, vectors: Path) -> None:
    """Every expectation met, or a written reason why ours is stricter."""
    path = vectors / "genpolicy" / folder / "testcases.json"
    cases = json.loads(path.read_text())
    case = prepared(folder, cases, vectors)
    seen = set()
    for entry in cases:
        request = filled(entry["kind"], entry["request"], case)
        decision = case.ask(entry["kind"], request)
        key = (folder, entry["description"])
        if key in STRICTER:
            seen.add(key)
            assert (entry["allowed"], decision.allowed) == (True, False), f"{key}: the written reason no longer holds"
        else:
            assert decision.allowed == entry["allowed"], f"{key}: {decision}"
    assert seen == {key for key in STRICTER if key[0] == folder}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_lives_of_real_pods_are_allowed(name: str, vectors: Path) -> None:
    """What a real node asked for, with its images pulled in the guest instead of coming from the node, is allowed."""
    case, steps = recorded_life(name, vectors)
    for endpoint, request in steps:
        case.allowed(endpoint, request)


def shape(value: Any, path: str = "") -> set[str]:
    """The fields of a request; what a node may name freely, and lists of plain values, end a path."""
    if isinstance(value, list):
        return set().union({path}, *(shape(item, path + "[]") for item in value))
    if not isinstance(value, dict) or path.endswith(("Annotations", "Sysctl", "Memory", "CPU")):
        return {path}
    return set().union({path}, *(shape(item, f"{path}.{key}") for key, item in value.items()))


def test_our_requests_have_the_fields_of_real_ones(vectors: Path) -> None:
    """Each protobuf field present, none invented: else a policy would pass here and fail in a real guest."""
    folder = vectors / "genpolicy"
    real = json.loads((folder / "state/createcontainer/testcases.json").read_text())[0]["request"]
    ours = life(read(folder / "state/createcontainer"), {}).shim
    # The published request leaves out a field that is false and empty lists of files.
    assert shape(ours.create_container("-")) ^ shape(real) <= {".storages[].shared", ".OCI.Process.ConsoleSize"}
    recorded = json.loads((folder / "_regorus-kata/pod-lifecycle/requests.json").read_text())
    by_kind = {entry["kind"]: entry["request"] for entry in recorded}
    assert shape(ours.create_sandbox()) ^ shape(by_kind["CreateSandboxRequest"]) <= {".storages[].shared"}
    renamed = {".interface.pciPath", ".interface.devicePath"}
    assert shape(ours.update_interface()) ^ shape(by_kind["UpdateInterfaceRequest"]) <= renamed
    newer = {".routes.Routes[].flags", ".routes.Routes[].mtu"}
    assert shape(ours.update_routes()) ^ shape(by_kind["UpdateRoutesRequest"]) <= newer
