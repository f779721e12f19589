"""One thing changed in an honest request: denied and explained, unless a written rule says why it does no harm."""

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.requests import Request
from tests.support.policies import Case, living_case, nodes, rich_case, sandboxless_case

# (which paths, why a change there is harmless or honest)
HARMLESS = [
    (r"OCI\.Linux\.Resources\.(CPU|Memory)", "limits of the node: it can always deny service"),
    (r"OCI\.Linux\.CgroupsPath$", "a name in the guest's own cgroup tree"),
    (
        r"OCI\.Linux\.Devices\[\d+\]\.(Major|Minor|FileMode|UID|GID)$",
        "numbers that the agent replaces by those of the device",
    ),
    (r"OCI\.Linux\.Devices\[\d+\]$", "the same"),
    (r"devices\[\d+\]\.(id|vm_path)$", "where the node attached the volume"),
    (r"OCI\.Process\.ApparmorProfile$", "a node without AppArmor"),
    (r"OCI\.Process\.OOMScoreAdj$", "the kubelet computes it from the node's memory"),
    (r"OCI\.Annotations\.io\.kubernetes\.cri\.(sandbox-(cpu|memory|image)|podsandbox)", "read by nobody in the guest"),
    (
        r"OCI\.Annotations\.io\.kubernetes\.cri\.(image-name|sandbox-log-directory)$",
        "optional: only compared when there",
    ),
    (r"OCI\.Annotations\.nerdctl/network-namespace$", "a name of the node"),
    (r"OCI\.Annotations\.io\.katacontainers\.pkg\.oci\.bundle_path$", "only its end counts, the container's id"),
    (r"storages\[\d+\]\.shared$", "absent in older agents"),
    (r"^storages\[0\]\.source$", "the registry and name of an image: its digest says it all"),
    (r"OCI\.Process\.(Env|Capabilities\.\w+|User\.AdditionalGids)$", "order says nothing (only reordered lists pass)"),
    (r"OCI\.Linux\.(MaskedPaths|ReadonlyPaths|Namespaces|Devices)$|^devices$|^storages$", "order says nothing"),
    (r"OCI\.Mounts$", "an order in which no mount hides another"),
    (r"OCI\.Linux\.ReadonlyPaths(\[\d+\])?$", "a path may be masked instead"),
    (r"^dns", "names are the node's to resolve"),
    (r"^sandbox_id$", "the node chooses it, and is held to it from then on"),
    (r"timeout$|signal$|exec_id$", "lifecycle of a known container"),
]


def changes(value: Any) -> list[tuple[str, Any]]:
    """What a place could hold instead."""
    match value:
        case bool():
            return [("flipped", not value), ("null", None)]
        case int():
            return [("one more", value + 1), ("one less", value - 1), ("null", None), ("text", str(value))]
        case str():
            return [
                ("longer", value + "x"),
                ("a line more", value + "\nx=y"),
                ("before", "x" + value),
                ("number", 1),
                ("null", None),
            ]
        case None:
            return [("a table", {"x": 1}), ("a text", "x")]
        case list():
            listed = [("a text more", [*value, "x"]), ("null", None), ("a text", "x")]
            if value:
                listed += [("less", value[:-1]), ("twice", [*value, value[-1]]), ("reversed", value[::-1])]
            return [(name, changed) for name, changed in listed if changed != value]
        case _:
            return [("empty", {}), ("null", None)] if value else [("null", None)]


@pytest.mark.parametrize("key", ["-", "first", "web"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_changed_creation_is_denied(key: str, data: st.DataObject) -> None:
    check(rich_case(key), "CreateContainerRequest", rich_case(key).shim.create_container(key), data)


# The first of them would be another layer here; devices may be any, since dm-verity says what is on them.
LAYERED_HARMLESS = [
    *((pattern, why) for pattern, why in HARMLESS if not pattern.startswith(r"^storages[")),
    (r"^storages\[\d+\]\.source$", "a device at another place, with the same root hash"),
]


@pytest.mark.parametrize("part", ["request", "storages"])
@pytest.mark.parametrize("key", ["-", "first", "web"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_changed_creation_from_layers_is_denied(key: str, part: str, data: st.DataObject) -> None:
    """A layer, a root hash, a place or an order of the node's choice would be another program under our name."""
    pod = rich_case(key, layered=True)
    check(
        pod,
        "CreateContainerRequest",
        pod.shim.create_container(key),
        data,
        LAYERED_HARMLESS,
        where=r"^storages\[" if part == "storages" else "",
    )


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_changed_sandbox_is_denied(data: st.DataObject) -> None:
    pod = sandboxless_case()
    check(pod, "CreateSandboxRequest", pod.shim.create_sandbox(), data)


EXEC_HARMLESS = [
    (r"^(exec_id|container_id)$", "which process of which container: it runs as that container, or not at all"),
    (r"^process[.]Env$", "order says nothing"),
    (r"^process[.]User[.]AdditionalGids$", "order says nothing"),
    (r"^process[.]OOMScoreAdj$", "none of its own, or one of its container's"),
]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_changed_command_is_denied(data: st.DataObject) -> None:
    """Beside probes and hooks, exactly as they stand in the YAML, nothing runs in a container from outside."""
    pod = living_case()
    check(pod, "ExecProcessRequest", pod.shim.exec_process("web", ("/bin/stop", "now")), data, EXEC_HARMLESS)


COPY_HARMLESS = [
    (r"^(file_size|file_mode|dir_mode|uid|gid|offset)$", "content and owner of the node's own files"),
    (r"^path$", "a longer name below the same mount, or another mount's place: also files of the node"),
    (r"^file_type$", "a folder for a file: also files of the node"),
    (r"^symlink_target$", "a link that stays in its folder"),
]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_changed_copy_stays_among_the_files_of_the_node(data: st.DataObject) -> None:
    """What is copied lies where only mounts of the node's files look, whatever is changed."""
    pod = living_case()
    honest = data.draw(st.sampled_from(list(pod.shim.copies("web"))), label="copy")
    request = check(pod, "CopyFileRequest", honest, data, COPY_HARMLESS)
    if request is not None:
        assert re.fullmatch(
            r"/run/kata-containers/shared/containers/[a-z0-9.-]+-[0-9a-f]{16}-[a-z.-]+(/[^/]+)*", str(request["path"])
        )
        assert "/../" not in f"{request['path']}/"
        target = str(request.get("symlink_target") or "") if request["file_type"] == "Symlink" else ""
        assert not target.startswith("/")
        assert "/../" not in f"/{target}/"


def check(
    pod: Case,
    endpoint: str,
    honest: Request,
    data: st.DataObject,
    harmless: list[tuple[str, str]] = HARMLESS,
    *,
    where: str = "",
) -> Request | None:
    """Change one thing (at *where*); give the request if it is allowed, which a rule of *harmless* must say."""
    request = copy.deepcopy(honest)
    places = [place for place in nodes(request) if re.search(where, place[0])]
    path, container, key = data.draw(st.sampled_from(places), label="place")
    deleted = isinstance(container, dict) and data.draw(st.booleans(), label="delete")
    if deleted:
        del container[key]
    else:
        _, changed = data.draw(st.sampled_from(changes(container[key])), label="change")
        container[key] = changed
    before = pod.engine.state
    decision = pod.ask(endpoint, request)
    if decision.allowed:
        pod.engine.restore(before)
        assert any(re.search(pattern, path) for pattern, _ in harmless), f"{path} was changed and nobody minded"
        return request
    assert decision.reasons
    assert "rules as a whole" not in str(decision), f"no field explains why {path} was denied"
    return None
