"""Images that the node hands over as layers: exactly those, in their order and places, under their root hashes."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from images.config import VerityLayer
from policy.errors import UnsupportedError
from policy.explain_layers import layers_of
from policy.layers import FSTYPES, layer_options, layered, mount_point, overlay_options, root_path
from policy.places import advice, place_of
from policy.rego import policy_data
from policy.requests import Request
from policy.settings import Settings
from policy.words import describe, differences
from tests.support.policies import (
    LAYERED,
    LAYERED_CONFIG,
    RICH,
    Case,
    case,
    layered_case,
    pod_of,
    rich_case,
    simple_pod,
)

OTHER = VerityLayer(name="e" * 64, root_hash="5" * 64)
RECORDED = "genpolicy/_regorus-kata/pod-lifecycle/requests.json"
Json = dict[str, Any]


def storages(request: Request) -> list[Json]:
    return cast("list[Json]", request["storages"])


def overlay(request: Request) -> Json:
    return next(s for s in storages(request) if s["driver"] == "overlayfs")


def swap(request: Request, one: int, other: int) -> None:
    listed = storages(request)
    listed[one], listed[other] = listed[other], listed[one]


def reordered(request: Request) -> None:
    """Layers in another order, told alike by all storages: files of a lower layer would hide those above."""
    swap(request, 0, 1)
    layers = [LAYERED_CONFIG.layers[i] for i in (1, 2, 0)] if LAYERED_CONFIG.layers else []
    overlay(request)["options"] = overlay_options(layers)


def pulled(request: Request) -> None:
    pull = rich_case("web").shim.create_container("web")
    request["storages"] = pull["storages"]


def other_layer(request: Request) -> None:
    storages(request)[0].update(options=layer_options(OTHER), mount_point=mount_point(OTHER))


DENIED: list[tuple[str, Callable[[Request], object], str]] = [
    ("another root hash", lambda r: storages(r)[1].update(options=layer_options(OTHER)), "(layers)[1].options"),
    ("another layer", other_layer, "storages (layers)[0].mount_point"),
    ("a layer elsewhere", lambda r: storages(r)[0].update(mount_point="/run/x"), "storages (layers)[0].mount_point"),
    ("a layer without dm-verity", lambda r: storages(r)[0]["options"].pop(), "storages (layers)[0].options"),
    ("a writable layer", lambda r: storages(r)[0]["options"].__setitem__(0, "rw"), "storages (layers)[0].options"),
    ("a layer from the node's files", lambda r: storages(r)[0].update(driver="local"), "driver"),
    ("a layer of no device", lambda r: storages(r)[0].update(source="/etc"), "PCI address"),
    ("two layers exchanged", lambda r: swap(r, 0, 1), "storages (layers)[0].mount_point"),
    ("another order", reordered, "storages (overlay).options[1]"),
    ("the overlay before a layer", lambda r: swap(r, 2, 3), "fstype"),
    ("a layer less", lambda r: storages(r).pop(0), "3 layers of fstype tar"),
    ("a layer more", lambda r: storages(r).insert(0, dict(storages(r)[0])), "3 layers of fstype tar"),
    ("no overlay", lambda r: storages(r).remove(overlay(r)), "then one fuse3.kata-overlay"),
    ("two overlays", lambda r: storages(r).append(dict(overlay(r))), "then one fuse3.kata-overlay"),
    ("an overlay elsewhere", lambda r: overlay(r).update(mount_point="/run/x"), "storages (overlay).mount_point"),
    ("an overlay of less", lambda r: overlay(r).update(options=overlay_options([OTHER])), "options"),
    ("an overlay of a folder", lambda r: overlay(r)["options"].append("upperdir=/run/x"), "6 options"),
    ("an image that the guest pulls", pulled, "no image that the guest pulls"),
    ("another root", lambda r: cast("Json", r["OCI"])["Root"].update(Path="/run/x/rootfs"), "Root.Path"),
    ("an id that is a copied file's name", lambda r: r.update(container_id=f"x-{'0' * 16}-hosts"), "container_id"),
]  # fmt: skip


@pytest.mark.parametrize(("mutate", "because"), [row[1:] for row in DENIED], ids=[row[0] for row in DENIED])
def test_another_image_than_the_known_one_is_denied(mutate: Callable[[Request], object], because: str) -> None:
    def change(request: Request) -> None:
        mutate(request)

    rich_case("web", layered=True).create_denied("web", change, because)


def test_files_of_the_node_never_land_in_a_container() -> None:
    """Roots lie beside the copied files; an id such as that of a file would let the node write programs."""
    pod = layered_case(simple_pod())
    pod.allowed("CreateSandboxRequest", pod.shim.create_sandbox())
    copy = next(iter(pod.shim.copies("app")))
    pod.allowed("CopyFileRequest", copy)
    root = root_path(pod.shim.container_id("app"))
    pod.denied("CopyFileRequest", {**copy, "path": f"{root}/bin/app"}, "path")
    pod.denied("CopyFileRequest", {**copy, "path": root}, "path")


def test_a_policy_for_images_that_the_guest_pulls_takes_no_layers() -> None:
    rich_case("web").create_denied(
        "web",
        lambda request: request.update(rich_case("web", layered=True).shim.create_container("web")),
        "exactly one image, pulled in the guest",
    )


def test_guest_pull_has_the_same_policy_whether_or_not_root_hashes_are_known() -> None:
    assert case(RICH, image=LAYERED_CONFIG).policy == case(RICH).policy


def test_an_image_without_root_hashes_is_refused_with_its_line() -> None:
    with pytest.raises(UnsupportedError, match=r"pod0.yml:4: .*image.*--layers verity"):
        pod_of(simple_pod(), settings=LAYERED)
    with pytest.raises(UnsupportedError, match="it has no layers"):
        pod_of(simple_pod(), settings=LAYERED, image=replace(LAYERED_CONFIG, layers=()))
    with pytest.raises(UnsupportedError, match="--pause-image"):
        pod_of(simple_pod(), settings=Settings(pause_layers=()), image=LAYERED_CONFIG)


def test_people_see_the_layers_and_where_they_come_from() -> None:
    pod = layered_case(simple_pod())
    data = policy_data(pod.policy.text)
    facts = {fact.name: fact.values for part in describe(data) for fact in part.facts}
    assert facts["pause image layers"] == (f"{'d' * 64} with dm-verity root hash {'4' * 64}",)
    assert [value[:1] for value in facts["image layers"]] == ["c", "b", "a"], "top first"
    (changed,) = [
        change for change in differences(data, policy_data(_other(pod).policy.text)) if change.field == "image layers"
    ]
    assert changed.added == (f"{OTHER.name} with dm-verity root hash {OTHER.root_hash}",)
    pod.run_until("app")
    request = pod.shim.create_container("app")
    other_layer(request)
    reasons = pod.ask("CreateContainerRequest", request).reasons
    assert {str(place_of(reason, pod.workload, "app", request)) for reason in reasons} == {
        "pod0.yml:4: spec.containers[0].image"
    }
    sandbox = layered_case(simple_pod())
    sandbox.run_until("-")
    request = sandbox.shim.create_container("-")
    other_layer(request)
    for reason in sandbox.ask("CreateContainerRequest", request).reasons:
        assert place_of(reason, sandbox.workload, "-", request) is None
        assert "operator's choice" in advice(reason, None)


def test_rules_are_changed_only_where_they_are_known() -> None:
    with pytest.raises(ValueError, match="no part about images"):
        layered("package agent_policy\n")


def test_recorded_nodes_ask_as_our_honest_node_does(vectors: Path) -> None:
    """The form is AKS': what its node asked for must be what our rules demand, option by option."""
    found = 0
    for recorded in _creations(json.loads((vectors / RECORDED).read_bytes())):
        listed = recorded["storages"]
        parts = [s for s in listed if s["fstype"] == "tar"]
        layers = tuple(
            VerityLayer(name=s["mount_point"].rpartition("/")[2], root_hash=s["options"][3].partition("=")[2])
            for s in parts
        )
        config = replace(LAYERED_CONFIG, layers=layers[::-1])
        pod = case(simple_pod(), image=config, settings=LAYERED)
        pod.run_until("app")
        request = pod.shim.create_container("app")
        root = {"mount_point": root_path(pod.shim.container_id("app"))}
        assert (
            recorded["OCI"]["Root"]["Path"] == root_path(recorded["container_id"]) == listed[len(parts)]["mount_point"]
        )
        request["storages"] = [{**s, **(root if s["driver"] == "overlayfs" else {})} for s in listed[: len(parts) + 1]]
        assert (
            layers_of(policy_data(pod.policy.text), pod.pod.container("app").image and f"sha256:{'1' * 64}") == layers
        )
        pod.allowed("CreateContainerRequest", request)
        found += 1
    assert found >= 2


def test_the_older_generator_expects_what_our_honest_node_asks(vectors: Path) -> None:
    """Its policies, written as templates for each layer, filled in for one container, are our requests."""
    compared = 0
    for path in sorted((vectors / "genpolicy" / "_golden-msft-azl5").rglob("policy_data.json")):
        for container in json.loads(path.read_bytes())["containers"]:
            *templates, last = [s for s in container["storages"] if s["fstype"] in FSTYPES]
            ids, hashes = (option.split(":") for option in last["options"])
            layers = tuple(VerityLayer(name=one, root_hash=root) for one, root in zip(ids, hashes, strict=True))
            pod = case(simple_pod(), image=replace(LAYERED_CONFIG, layers=layers[::-1]), settings=LAYERED)
            *ours, whole = [s for s in storages(pod.shim.create_container("app")) if s["fstype"] in FSTYPES]
            for index, (template, layer) in enumerate(zip(templates, ours, strict=True)):
                assert (template["options"], template["mount_point"]) == ([f"$(hash{index})"], f"$(layer{index})")
                assert layer["options"][3] == f"io.katacontainers.fs-opt.root-hash={hashes[index]}"
                assert layer["mount_point"] == f"/run/kata-containers/sandbox/layers/{ids[index]}"
            for template, one in zip((*templates, last), (*ours, whole), strict=True):
                for name in ("driver", "driver_options", "fstype", "fs_group"):
                    assert template[name] == one[name]
            assert last["mount_point"] == "$(cpath)/$(bundle-id)" == container["OCI"]["Root"]["Path"]
            assert whole["options"][-1] == f"lowerdir={':'.join(ids)}"
            compared += 1
    assert compared > 40


def test_the_policy_of_a_pod_with_layers_is_the_same_for_the_same_pod() -> None:
    one, other = layered_case(RICH).policy, layered_case(RICH).policy
    assert one == other
    assert one.sha256 == hashlib.sha256(one.text.encode()).digest()
    assert "image_guest_pull" not in one.text


def _other(pod: Case) -> Case:
    config = replace(LAYERED_CONFIG, layers=(*(LAYERED_CONFIG.layers or ())[:2], OTHER))
    assert pod.pod.layered
    return case(simple_pod(), image=config, settings=LAYERED)


def _creations(value: object) -> list[Json]:
    if isinstance(value, dict):
        if "storages" in value and "OCI" in value:
            return [value]
        return [found for child in value.values() for found in _creations(child)]
    return [found for child in value for found in _creations(child)] if isinstance(value, list) else []
