"""Every place of every request in whole lives, changed in every way: denied, unless a rule written here says why not.

`test_mutation` draws a few changes; this walks through all of them with the second judge, which finds reasons in
Python, and asks the Rego about one of each shape: of one life about each change, of the others about each place.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from k8s.resources import READ_LOGS
from policy.explain import judged, reasons
from policy.rego import policy_data
from policy.requests import Request
from tests.support.policies import LAYERED, LAYERED_CONFIG, RICH, Case, case, nodes, plain
from tests.support.published import RECORDED, example_pods, recorded_life

READABLE = RICH.replace("annotations: {", f'annotations: {{{READ_LOGS}: "true", ', 1)  # Whose logs are asked for, too.
Step = tuple[str, Request]
Rule = tuple[str, str, str, str]
MORE = "a field more"  # At no place.
ANY = "any"  # Of the other changes.
TYPE = "another type"  # What protobuf cannot say: no agent shows it to a policy.
ALIKE = {
    "before",
    "capitals",
    "space",
    "a message more",
    "without the first",
    "the first twice",
}  # As others are.
SAMPLED: set[tuple[str, ...]] = set()  # What the Rego was asked about in any of the lives that give samples.
NO_LOOPBACK = "longer|before|capitals|a line more|climbing|empty|space"
# Endpoint, place, which changes, and why they do no harm.
HARMLESS: list[Rule] = [
    ("CreateContainer", r"^OCI\.Linux\.Resources\.(CPU|Memory)(\..*)?$", ANY, "the node can always deny service"),
    ("CreateContainer", r"^OCI\.Linux\.CgroupsPath$", "longer|before|capitals|empty", "a name in the guest's cgroups"),
    ("CreateContainer", r"^OCI\.Linux\.Devices\[\]\.(Major|Minor|FileMode|UID|GID)$", ANY, "replaced by the agent"),
    ("CreateContainer", r"^devices\[\]\.(id|vm_path)$", ANY, "where the node attached the volume"),
    ("CreateContainer", r"^OCI\.Version$", "longer", "of the runtime specification"),
    ("CreateContainer", r"^OCI\.Process\.ApparmorProfile$", "empty", "a node without AppArmor"),
    ("CreateContainer", r"^OCI\.Process\.OOMScoreAdj$", "one more|one less", "the kubelet computes it from the memory"),
    ("CreateContainer", r"\.cri\.(sandbox-(cpu|memory|image).*|podsandbox\..*)$", ANY, "read by nobody in the guest"),
    ("CreateContainer", r"\.agent\.policyOption\.execCommands$", "removed", "of an older generator, read by nobody"),
    ("CreateContainer", r"\.cri\.image-name$", "removed|before", "optional; registry and name of an image may be any"),
    ("CreateContainer", r"\.cri\.sandbox-log-directory$", "removed", "optional"),
    ("CreateContainer", r"\.nerdctl/network-namespace$", "removed|longer|capitals", "a name of the node"),
    ("CreateContainer", r"\.oci\.bundle_path$", "before", "only its end counts, the container's id"),
    ("CreateContainer", r"^OCI\.Process\.(Env|Capabilities\.\w+)$", "reversed", "a set"),
    ("CreateContainer|ExecProcess", r"rocess\.Env$", "the first twice|without the first",
     "the image's value of a variable that the pod sets anew: not all runtimes show it"),
    ("CreateContainer|ExecProcess", r"rocess\.Env\[\]$", "longer", "a node's name, which only the node knows"),
    ("CreateContainer", r"^OCI\.Process\.User\.AdditionalGids$", "reversed|less|without the first",
     "a set; for the sandbox runtimes differ in whether the pod's groups are in it"),
    ("CreateContainer", r"^OCI\.Linux\.(Namespaces|Devices)$|^(devices|storages)$", "reversed", "a set"),
    ("CreateContainer", r"^OCI\.Linux\.(MaskedPaths|ReadonlyPaths)$", "reversed|the (first|last) twice", "a set"),
    ("CreateContainer", r"^storages\[\]\.shared$", "removed", "absent in older agents"),
    ("CreateContainer", r"^storages\[\]\.source$", "before", "registry and name of an image: its digest says it all"),
    ("CreateContainer", r"^storages\[\]\.driver_options\[\]$", "space", "the same JSON"),
    ("CreateSandbox", r"^dns(\[\])?$", ANY, "names are the node's to resolve"),
    ("CreateSandbox", r"^sandbox_id$", "longer|before", "the node chooses it, and is held to it from then on"),
    ("CreateSandbox", r"^hostname$", "longer", "a name that such a pod could have; the sandbox is held to it"),
    ("CreateSandbox", r"^storages$", "empty|less|without the first", "containers that want shared memory fail"),
    ("CreateSandbox", r"^storages\[\]\.shared$", "removed", "absent in older agents"),
    ("CopyFile", r"^(file_size|file_mode|dir_mode|uid|gid|offset)$", ANY, "files of the node, which can be any"),
    ("CopyFile", r"^path$", "longer|a line more|before|capitals|space", "another file of the node in its place"),
    ("CopyFile", r"^symlink_target$", "longer|before|capitals|a line more|empty|space", "stays in its folder"),
    ("CopyFile", r"^symlink_target of no link$", ANY, "read by nobody"),
    ("ExecProcess", r"^exec_id$", ANY, "a name for the process"),
    ("ExecProcess", r"^process\.Env$|^process\.User\.AdditionalGids$", "reversed", "a set"),
    ("GuestDetails", r"^mem_(block_size|hotplug_probe)$", ANY, "a question"),
    ("OnlineCPUMem", r"^(wait|nb_cpus|cpu_only)$", ANY, "gives the guest what it was given already"),
    ("(Signal|Wait)Process|TtyWinResize", r"^exec_id$|^signal$|^row$|^column$", ANY, "life of a known container"),
    ("RemoveContainer", r"^timeout$", ANY, "life of a known container"),
    ("ReadStream", r"^(exec_id|len)$", ANY, "which output"),
    ("UpdateInterface", r"^interface\.(devicePath|pciPath|mtu|type_)$", ANY, "the node's network"),
    ("UpdateInterface", r"^interface\.IPAddresses(\[\]\.(family|mask))?$", ANY, "the node's network"),
    ("UpdateInterface", r"^interface\.IPAddresses\[\]\.address$", NO_LOOPBACK, "the node's network"),
    ("UpdateInterface", r"^interface\.(device|name|hwAddr)$", "longer|before|capitals|empty", "the node's network"),
    ("UpdateRoutes", r"^routes\.Routes(\[\]\.(gateway|scope|family|flags|mtu))?$", ANY, "the node's network"),
    ("UpdateRoutes", r"^routes\.Routes\[\]\.(source|dest)$", NO_LOOPBACK, "the node's network"),
    ("UpdateRoutes|AddARPNeighbors", r"\[\]\.device$", "longer|before|capitals|empty", "the node's network"),
    ("AddARPNeighbors", r"^neighbors\.ARPNeighbors(\[\]\.(lladdr|toIPAddress\.family))?$", ANY, "the node's network"),
    ("AddARPNeighbors", r"\.toIPAddress\.address$", NO_LOOPBACK, "the node's network"),
]  # fmt: skip


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """Everything else that could stand in the place of *value*."""
    match value:
        case bool():
            yield from (("flipped", not value), (TYPE, None), (TYPE, int(value)), (TYPE, "true"))
        case int():
            yield from (("one more", value + 1), ("one less", value - 1), (TYPE, None), (TYPE, str(value)))
        case str():
            yield from (
                ("longer", value + "x"), ("before", "x" + value), ("a line more", value + "\nx=y"), ("empty", ""),
                ("capitals", value.upper()), ("climbing", value + "/../.."), ("space", value + " "),
                (TYPE, 1), (TYPE, None), (TYPE, [value]),
            )  # fmt: skip
        case None:
            yield from (("something", {"x": 1}), ("something", "x"), ("something", [1]), (TYPE, 0), (TYPE, False))
            yield ("an empty message", {})
        case list():
            yield from (("a text more", [*value, "x"]), ("a message more", [*value, {}]), (TYPE, None), (TYPE, "x"))
            if not value:
                return
            yield from (("less", value[:-1]), ("without the first", value[1:]), ("empty", []))
            yield from (
                ("reversed", value[::-1]),
                ("the last twice", [*value, value[-1]]),
                ("the first twice", [value[0], *value]),
            )
        case dict():
            yield from ((MORE, {**value, "Unknown": "x"}), (MORE, {**value, "Unknown": {"a": 1}}))
            yield from ((TYPE, None), (TYPE, "x"), (TYPE, []), ("empty", {}))
        case _:
            raise AssertionError(value)


def walk(request: Request) -> Iterator[tuple[str, str, Request]]:
    """*request* with one thing changed, for every thing and every change: place, change, request (the same object)."""
    yield "", MORE, {**request, "Unknown": {"a": 1}}
    for path, holder, key in list(nodes(request)):
        honest = holder[key]
        shape = re.sub(r"\[\d+\]", "[]", path)
        for name, changed in changes(honest):
            if type(changed) is not type(honest) or changed != honest:
                holder[key] = changed
                yield shape, name, request
        holder[key] = honest
        if isinstance(holder, dict):
            del holder[key]
            yield shape, "removed", request
            holder[key] = honest


def allowing(endpoint: str, place: str, change: str) -> set[Rule]:
    """The written rules for a change."""
    return {
        rule
        for rule in HARMLESS
        if re.fullmatch(f"({rule[0]})Request", endpoint)
        and re.search(rule[1], place)
        and (re.fullmatch(rule[2], change) if rule[2] != ANY else change != MORE)
    }


def whole_life(pod: Case) -> Iterator[Step]:
    """A life, and in its middle what else a node may ask for."""
    web = {"container_id": pod.shim.container_id("web"), "exec_id": pod.shim.container_id("web")}
    neighbor = {
        "toIPAddress": {"family": 0, "address": "10.0.0.1", "mask": ""},
        "device": "eth0", "lladdr": "00:00:5e:00:53:01", "state": 128, "flags": 0,
    }  # fmt: skip
    for endpoint, request in pod.shim.life():
        yield endpoint, request
        if endpoint == "GetOOMEventRequest":
            yield "AddARPNeighborsRequest", {"neighbors": {"ARPNeighbors": [neighbor]}}
            yield "ReadStreamRequest", {**web, "len": 4096}
            yield "TtyWinResizeRequest", {**web, "row": 24, "column": 80}
            yield "RemoveStaleVirtiofsShareMountsRequest", {}
            yield "ExecProcessRequest", pod.shim.exec_process("web", ("/bin/stop", "now"))


def once(
    steps: Iterable[Step], pod: Case, seen: set[tuple[object, ...]]
) -> Iterator[tuple[str, Request, dict[str, object]]]:
    """The requests of a life, each with the state before it; of those with the same places, one: not those *seen*."""
    for endpoint, request in steps:
        state = dict(pod.engine.state)
        pod.allowed(endpoint, request)
        places = tuple(sorted({re.sub(r"\[\d+\]", "[]", path) for path, _, _ in nodes(request)}))
        if (endpoint, request.get("file_type"), places) not in seen:
            seen.add((endpoint, request.get("file_type"), places))
            yield endpoint, plain(request), state


def swept(
    pod: Case,
    steps: Iterable[Step],
    *,
    asked: str = ".",
    sample: bool = False,
    seen: set[tuple[object, ...]] | None = None,
) -> tuple[list[tuple[str, str, str]], set[Rule]]:
    """All changes that pass without a written rule, and the rules that were needed.

    At places that fit *asked* the Rego answers too, once for each change, or (*sample*) for each place alone.
    """
    data, found, used = policy_data(pod.policy.text), set(), set()
    shapes: set[tuple[str, ...]] = SAMPLED if sample else set()
    for endpoint, request, state in once(steps, pod, set() if seen is None else seen):
        after = pod.engine.state
        no_link = endpoint == "CopyFileRequest" and request["file_type"] != "Symlink"
        for shape, change, changed in walk(request):
            place = f"{shape} of no link" if no_link and shape == "symlink_target" else shape
            passes = not reasons(data, state, endpoint, changed)
            if passes:
                rules = allowing(endpoint, place, change)
                used |= rules
                if not rules:
                    found.add((endpoint, place, change))
            told = passes or change not in ALIKE
            about = (endpoint, place) if sample else (endpoint, place, change)
            if told and about not in shapes and re.search(asked, place):
                shapes.add(about)
                pod.engine.restore(state)
                if pod.engine.allow(endpoint, changed).allowed != passes:
                    found.add((endpoint, place, f"{change}: the Rego {'denies' if passes else 'allows'}"))
        pod.engine.restore(after)
    return sorted(found), used


@lru_cache
def sweeps(name: str, vectors: Path) -> tuple[list[tuple[str, str, str]], set[Rule]]:
    if name in RECORDED:
        return swept(*recorded_life(name, vectors), sample=True)
    if name == "example":
        seen: set[tuple[object, ...]] = set()  # Of all its pods together.
        parts = [swept(pod, pod.shim.life(), sample=True, seen=seen) for pod in example_pods()]
        return sorted({change for found, _ in parts for change in found}), set().union(*(used for _, used in parts))
    if name == "layers":
        pod = case(READABLE, image=LAYERED_CONFIG, settings=LAYERED)
        return swept(pod, whole_life(pod), asked=r"^storages(\[\])?(\.\w+)?$")
    pod = case(READABLE)
    return swept(pod, whole_life(pod))


LIVES = ["guest pull", "layers", "example", *RECORDED]


@pytest.mark.parametrize("name", LIVES)
def test_whatever_is_changed_in_a_life_is_denied_or_a_written_rule_allows_it(name: str, vectors: Path) -> None:
    """Each place that nobody minds is a way in, until somebody has written down why it is none."""
    assert not sweeps(name, vectors)[0]


def test_every_request_that_can_be_allowed_is_walked_through() -> None:
    """A request that no life asks for would be changed by nobody."""
    endpoints = {endpoint for endpoint, _ in whole_life(case(RICH))}
    assert endpoints == set(judged())


def test_no_rule_is_there_for_nothing(vectors: Path) -> None:
    """A rule that nothing needs would hide the next hole."""
    used = set().union(*(sweeps(name, vectors)[1] for name in LIVES))
    assert [rule for rule in HARMLESS if rule not in used] == []
