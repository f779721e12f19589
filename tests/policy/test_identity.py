"""Who a container runs as and what it may do, where YAML can be read in more than one way: as containerd reads it."""

from dataclasses import replace
from typing import Any

import pytest

from images.config import Accounts, User
from policy.errors import UnsupportedError
from policy.model import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from tests.support.policies import CONFIG, IMAGE, LAYERED, LAYERED_CONFIG, case, pod_of, simple_pod


def pod(container: str, annotations: str = "") -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: web, annotations: {{{annotations}}}}}\n"
        "spec: {enableServiceLinks: false, runtimeClassName: contrast-cc, "
        f"containers: [{{name: app, image: '{IMAGE}'{container}}}]}}\n"
    )


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("drop: [all], add: [net_admin]", {"NET_ADMIN"}),
        ("drop: [all]", set()),
        ("add: [all], drop: [chown]", {*ALL_CAPABILITIES} - {"CHOWN"}),
        ("add: [ALL], drop: [ALL]", set()),
        ("add: [ALL, CHOWN], drop: [ALL]", {"CHOWN"}),
        ("add: [SYS_TIME], drop: [kill]", {*DEFAULT_CAPABILITIES, "SYS_TIME"} - {"KILL"}),
    ],
)
def test_capabilities_are_read_as_containerd_reads_them(written: str, wanted: set[str]) -> None:
    """`drop: [all]` in small letters is common; dropping ALL counts more than adding ALL."""
    security = f", securityContext: {{runAsUser: 1, runAsGroup: 1, capabilities: {{{written}}}}}"
    _, made = pod_of(pod(security))
    assert set(made.container("app").capabilities) == wanted


@pytest.mark.parametrize("name", ["CAP_NET_ADMIN", "cap_chown", "nothing"])
def test_what_is_no_capability_is_refused(name: str) -> None:
    """With its prefix containerd would look for CAP_CAP_NET_ADMIN."""
    with pytest.raises(UnsupportedError, match="without CAP_"):
        pod_of(simple_pod().replace("runAsGroup: 1000", f"runAsGroup: 1, capabilities: {{add: [{name}]}}"))


APPARMOR = "container.apparmor.security.beta.kubernetes.io/app"
USER = ", securityContext: {runAsUser: 1, runAsGroup: 1}"


@pytest.mark.parametrize(
    ("value", "profiles"),
    [("unconfined", ("",)), ("runtime/default", ("", "cri-containerd.apparmor.d"))],
)
def test_an_old_annotation_of_apparmor_is_honoured(value: str, profiles: tuple[str, ...]) -> None:
    """Kubelets still set the profile that the annotation names; passed over, an honest node would be denied."""
    _, made = pod_of(pod(USER, f"{APPARMOR}: {value}"))
    assert made.container("app").apparmor == profiles


def test_a_profile_of_the_node_in_an_annotation_is_refused() -> None:
    """It is refused as the field would be."""
    with pytest.raises(UnsupportedError, match="the node's file; write runtime/default there, or remove it"):
        pod_of(pod(USER, f"{APPARMOR}: localhost/strict"))


def test_the_field_counts_more_than_the_annotation() -> None:
    """Where both stand, the annotation is what an older client left behind."""
    security = ", securityContext: {runAsUser: 1, runAsGroup: 1, appArmorProfile: {type: Unconfined}}"
    _, made = pod_of(pod(security, f"{APPARMOR}: localhost/strict"))
    assert made.container("app").apparmor == ("",)


ACCOUNTS = Accounts(users=(User(name="app", uid=7, gid=8),))


def test_a_named_user_with_run_as_non_root_is_refused_with_its_number() -> None:
    """The kubelet compares numbers only: such a pod never starts, and the reason stands in the node's log."""
    image = replace(LAYERED_CONFIG, user="app", accounts=ACCOUNTS)
    security = ", securityContext: {runAsNonRoot: true}"
    with pytest.raises(UnsupportedError, match=r"write securityContext\.runAsUser: 7"):
        pod_of(pod(security), image=image, settings=LAYERED)
    _, made = pod_of(pod(""), image=image, settings=LAYERED)
    assert made.container("app").uid == 7
    _, made = pod_of(
        pod(", securityContext: {runAsNonRoot: true, runAsUser: 7, runAsGroup: 7}"), image=image, settings=LAYERED
    )
    assert made.container("app").uid == 7


def test_a_named_user_of_an_image_that_the_guest_pulls_is_refused_with_both_numbers() -> None:
    """The node has no layers to find the name in, so it would not make the container: say so before, with the fix."""
    image = replace(CONFIG, user="app", accounts=ACCOUNTS)
    with pytest.raises(UnsupportedError) as refused:
        pod_of(pod(""), image=image)
    (problem,) = refused.value.problems
    assert "'app', which the node cannot find" in problem.reason
    assert problem.instead == "write securityContext.runAsUser: 7 and runAsGroup: 8, as the image has it"
    _, made = pod_of(pod(", securityContext: {runAsUser: 7, runAsGroup: 8}"), image=image)
    assert (made.container("app").uid, made.container("app").gid) == (7, 8)


def test_a_group_that_nobody_wrote_is_the_images_where_the_node_sees_its_layers() -> None:
    """Refusing what such a node knows would ask for lines that change nothing."""
    security = ", securityContext: {runAsUser: 7}"
    _, made = pod_of(pod(security), image=replace(LAYERED_CONFIG, accounts=ACCOUNTS), settings=LAYERED)
    assert made.container("app").gids == (8,)
    with pytest.raises(UnsupportedError, match=r"write securityContext\.runAsGroup: 8"):
        pod_of(pod(security), image=replace(CONFIG, accounts=ACCOUNTS))


@pytest.mark.parametrize(("gid", "groups"), [(0, [0]), (65535, [65535])])
def test_the_sandbox_of_a_pod_with_a_user_alone_has_either_group_that_nodes_give_it(
    gid: int, groups: list[int]
) -> None:
    """The most common security context there is: one node takes the pause image's group, another one 0."""
    made = case(simple_pod("securityContext: {runAsUser: 1000}"))
    made.allowed("CreateSandboxRequest", made.shim.create_sandbox())
    request: Any = made.shim.create_container("-")
    request["OCI"]["Process"]["User"].update(UID=1000, GID=1000, AdditionalGids=[1000])
    made.denied("CreateContainerRequest", request, "one of")
    request["OCI"]["Process"]["User"].update(GID=gid, AdditionalGids=groups)
    made.allowed("CreateContainerRequest", request)


@pytest.mark.parametrize("kind", ["cinder", "flexVolume", "glusterfs", "iscsi", "rbd", "vsphereVolume"])
def test_volumes_that_come_as_disks_are_refused_with_their_reason(kind: str) -> None:
    """`not known here` would leave a person without a way on."""
    with pytest.raises(UnsupportedError, match=r"as a disk.*persistentVolumeClaim"):
        pod_of(simple_pod(f"volumes: [{{name: a, {kind}: {{x: y}}}}]"))
