"""What no policy describes is refused with file, line, field, reason and what to write: all at once, never silently."""

from typing import Any

import pytest

from images.config import Accounts, Group, ImageConfig, User
from policy.errors import PolicyTextError, UnsupportedError
from policy.rego import policy_data, render
from policy.settings import Settings
from tests.support.policies import CONFIG, IMAGE, LAYERED, LAYERED_CONFIG, case, pod_of, simple_pod

POD_FIELDS = [
    "hostNetwork: true", "hostPID: true", "hostIPC: true", "hostUsers: false", "setHostnameAsFQDN: true",
    "os: {name: windows}", "ephemeralContainers: [{name: x}]",
    "resourceClaims: [{name: x}]", "resources: {limits: {cpu: 1}}", "volumez: []",
    "shareProcessNamespace: 'yes'", "securityContext: {seLinuxOptions: {user: x}}",
    "securityContext: {windowsOptions: {hostProcess: true}}",
    "securityContext: {runAsUser: -1, runAsGroup: 1}", "securityContext: {fsGroup: x}",
    "securityContext: {supplementalGroups: [x]}",
    "securityContext: {appArmorProfile: {type: Localhost}}",
    "volumes: [{name: a, hostPath: {path: /}}]", "volumes: [{name: a, hostPath: {path: /dev/sda}}]",
    "volumes: [{name: a, hostPath: {path: /srv/../run/x}}]", "volumes: [{name: a, hostPath: {path: /a, type: Socket}}]",
    "volumes: [{name: a, hostPath: {path: /a, odd: 1}}]", "volumes: [{name: a, csi: {driver: x, readOnly: 'yes'}}]",
    "volumes: [{name: a, iscsi: {iqn: x}}]", "volumes: [{name: a, image: {reference: x}}]",
    "volumes: [{name: a, newKind: {}}]", "volumes: [{name: a, emptyDir: {}, configMap: {name: x}}]",
    "volumes: [{name: a, emptyDir: {medium: HugePages}}]", "volumes: [{name: a, emptyDir: {odd: 1}}]",
    "unknown: 1",
]  # fmt: skip
CONTAINER_FIELDS = [
    "volumeMounts: [{name: none, mountPath: /x}]", "volumeMounts: [{name: none, mountPath: x}]", "unknown: 1",
    "volumeMounts: [{name: none, mountPath: /proc/x}]", "volumeMounts: [{name: none, mountPath: /dev}]",
    "volumeMounts: [{name: none, mountPath: /x/../y}]", "volumeMounts: [{name: none, mountPath: /}]",
    "volumeMounts: [{name: none, mountPath: /x, subPath: y}]",
    "volumeMounts: [{name: none, mountPath: /x, subPathExpr: y}]",
    "volumeMounts: [{name: none, mountPath: /x, mountPropagation: Bidirectional}]",
    "volumeDevices: [{name: none, devicePath: /dev/x}]", "volumeDevices: [{name: none, devicePath: dev/x}]",
    "restartPolicy: Always", "terminationMessagePath: x", "args: [1]", "command: text", "env: [{name: '', value: x}]",
    "env: [{name: A, value: 1}]", "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
    "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.odd}}}]", "env: [{name: A, valueFrom: {}}]",
    "env: [{name: A, valueFrom: {fileKeyRef: {path: x}}}]", "env: [{name: A, valueFrom: {odd: {}}}]",
    "env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['pod-template-hash']\"}}}]",
    "env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: x}}}]",
    "env: [{name: A, valueFrom: {secretKeyRef: {name: absent, key: x}}}]",
    "env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: x, optional: true}}}]",
    "envFrom: [{configMapRef: {name: absent}}]", "envFrom: [{secretRef: {name: absent}}]", "envFrom: [{odd: {}}]",
    "resources: {limits: {nvidia.com/gpu: 1}}", "resources: {limits: {hugepages-2Mi: 1}}",
    "resources: {limits: {nvidia.com/pgpu: 17}}", "resources: {limits: {nvidia.com/pgpu: '1.5'}}",
    "resources: {requests: {nvidia.com/pgpu: 1}}",
    "resources: {limits: {nvidia.com/pgpu: 1}, requests: {nvidia.com/pgpu: 2}}",
    "resources: {claims: [{name: x}]}",
    "resources: {limits: {memory: lots}}", "readinessProbe: {odd: 1}", "lifecycle: {odd: 1}",
    "lifecycle: {preStop: {odd: 1}}", "readinessProbe: {exec: {command: text}}", "tty: 1",
]  # fmt: skip


def refused(text: str, **more: Any) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        pod_of(text, **more)
    for problem in caught.value.problems:
        assert problem.file == "pod0.yml"
        assert problem.line > 0
        assert problem.reason
        assert problem.instead
    return caught.value


@pytest.mark.parametrize("field", POD_FIELDS)
def test_a_field_of_the_pod_is_refused(field: str) -> None:
    name = field.split(":", 1)[0]
    assert any(name in problem.path for problem in refused(simple_pod(spec=field)).problems)


@pytest.mark.parametrize("field", CONTAINER_FIELDS)
def test_a_field_of_a_container_is_refused(field: str) -> None:
    name = field.split(":", 1)[0]
    assert any(f"containers[0].{name}" in problem.path for problem in refused(simple_pod(container=field)).problems)


def test_devices_by_annotation_are_refused_as_by_limits() -> None:
    """The node's runtime would hand over whatever device it calls by that name."""
    text = simple_pod().replace("name: web}", "name: web, annotations: {cdi.k8s.io/gpu: nvidia.com/gpu=0}}")
    assert "annotation cdi.k8s.io/gpu asks for devices" in str(refused(text))


def test_all_faults_come_at_once_each_with_its_line() -> None:
    """A person corrects a file once."""
    text = f"""
kind: Pod
metadata: {{name: web}}
spec:
  runtimeClassName: contrast-cc
  hostNetwork: true
  containers:
    - name: app
      image: {IMAGE}
      env:
        - name: A
          valueFrom: {{secretKeyRef: {{name: s, key: k}}}}
      volumeMounts: [{{name: gone, mountPath: /x}}]
    - name: two
      image: registry.invalid/app:v1
"""
    error = refused(text)
    found = {(problem.line, problem.path.rpartition(".")[2]) for problem in error.problems}
    assert {(6, "hostNetwork"), (12, "secretKeyRef"), (13, "name"), (15, "image")} <= found
    assert any(problem.path == "spec.enableServiceLinks" for problem in error.problems)
    assert "write enableServiceLinks: false" in str(error)
    assert "@sha256:<digest of the image>" in str(error)
    assert "every auditor can read" in str(error)
    assert "workload secret" in str(error)
    assert str(error).count("\n") == len(error.problems) - 1


def test_images_must_be_pinned_and_known() -> None:
    assert "names no digest" in str(refused(simple_pod().replace(IMAGE, "registry.invalid/app:v1")))
    assert "was not found" in str(refused(simple_pod(), images={}))
    assert "no part of a repository" in str(
        refused(simple_pod().replace(IMAGE, "UPPER/Case@" + IMAGE.partition("@")[2]))
    )


def test_a_volume_of_the_image_needs_a_mount() -> None:
    """Else the node would bring a folder of its own choice (GHSA-phhq-63jg-fp7r)."""
    image = ImageConfig(entrypoint=("/app",), volumes=("/data",))
    assert "mount an emptyDir at /data" in str(refused(simple_pod(), image=image))
    mounted = "volumeMounts: [{name: d, mountPath: /data}]"
    pod_of(simple_pod(spec="volumes: [{name: d, emptyDir: {}}]", container=mounted), image=image)


def test_users_by_name_need_the_layers_and_groups_must_be_written() -> None:
    bare = simple_pod().replace(", securityContext: {runAsUser: 1000, runAsGroup: 1000}", "")
    named = ImageConfig(entrypoint=("/app",), user="app")
    assert "whose layers were not read" in str(refused(bare, image=named))
    accounts = Accounts(users=(User(name="app", uid=7, gid=8),), groups=(Group(name="g", gid=9, members=("app",)),))
    layers = LAYERED_CONFIG.layers
    seen = ImageConfig(entrypoint=("/app",), user="app", accounts=accounts, layers=layers)
    _, pod = pod_of(bare, image=seen, settings=LAYERED)
    assert (pod.containers[1].uid, pod.containers[1].gid, pod.containers[1].groups) == (7, 8, ((8,),))
    other = ImageConfig(entrypoint=("/app",), user="who", accounts=accounts)
    assert "does not name it" in str(refused(bare, image=other))
    assert "runAsGroup: 5" in str(refused(bare, image=ImageConfig(entrypoint=("/app",), user="4:5")))
    assert "runAsGroup: 8" in str(refused(bare, image=ImageConfig(entrypoint=("/app",), user="7", accounts=accounts)))
    root = bare.replace("containers:", "securityContext: {runAsNonRoot: true}, containers:")
    assert "runAsNonRoot" in str(refused(root, image=ImageConfig(entrypoint=("/app",))))


def test_values_of_secrets_only_when_asked_for() -> None:
    """A policy is public for good."""
    secret = "kind: Secret\nmetadata: {name: s}\nstringData: {k: hidden-value}\n"
    text = simple_pod(
        container="env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}], "
        "envFrom: [{prefix: P_, secretRef: {name: s}}]"
    )
    with pytest.raises(UnsupportedError) as caught:
        pod_of(text, secret)
    assert "hidden-value" not in str(caught.value)
    published = case(text, secret, settings=Settings(publish_secret_values=True)).policy.text
    assert '"A=hidden-value"' in published
    assert '"P_k=hidden-value"' in published


def test_config_maps_give_their_values_and_variables_name_each_other() -> None:
    config = "kind: ConfigMap\nmetadata: {name: c}\ndata: {one: '1', two: 'x=y'}\n"
    env = "envFrom: [{configMapRef: {name: c}}], env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: two}}}, "
    env += "{name: B, value: '$(A)-$(one)-$(B)-$$(A)-$'}, {name: B, value: '$(B)!'}]"
    text = case(simple_pod(container=env), config).policy.text
    for line in ('"A=x=y"', '"one=1"', '"two=x=y"', '"B=x=y-1-$(B)-$(A)-$!"'):
        assert line in text


VOLUMES = """
kind: StatefulSet
metadata: {name: web}
spec:
  volumeClaimTemplates: [{metadata: {name: own}}]
  template:
    spec:
      runtimeClassName: contrast-cc
      enableServiceLinks: false
      automountServiceAccountToken: false
      containers:
        - name: app
          image: IMAGE
          securityContext: {runAsUser: 1000, runAsGroup: 1000}
          volumeMounts:
            - {name: own, mountPath: /own}
            - {name: own, mountPath: /part, subPath: a/b}
            - {name: host, mountPath: /host/data}
            - {name: share, mountPath: /nfs}
            - {name: driver, mountPath: /driver}
            - {name: claim, mountPath: /claim}
            - {name: config, mountPath: /etc/one.conf, subPath: one.conf}
            - {name: all, mountPath: /all}
            - {name: who, mountPath: /who, subPathExpr: $(POD)}
          volumeDevices: [{name: fresh, devicePath: /dev/fresh}]
      volumes:
        - {name: host, hostPath: {path: /srv/data, type: Directory}}
        - {name: share, nfs: {server: s, path: /p, readOnly: true}}
        - {name: driver, csi: {driver: d, readOnly: true}}
        - {name: claim, persistentVolumeClaim: {claimName: c, readOnly: true}}
        - {name: config, configMap: {name: c}}
        - {name: all, projected: {sources: [{configMap: {name: c}}, {downwardAPI: {items: []}}]}}
        - {name: who, downwardAPI: {items: []}}
        - {name: fresh, ephemeral: {volumeClaimTemplate: {spec: {volumeMode: Block}}}}
""".replace("IMAGE", IMAGE)


def test_volumes_of_the_node_are_described_with_their_access() -> None:
    """Whatever kind they are, the guest sees files that the node hands on, each at its place and no other."""
    pod = case(VOLUMES)
    for step in pod.shim.life():
        pod.allowed(*step)
    found = {
        place: (str(mount.source.parts[-1]) if mount.source else "", mount.options[-1])
        for place, mount in pod.pod.container("app").mounts.items()
    }
    assert found == {
        "/dev/termination-log": ("-termination-log", "rw"), "/own": ("-own", "rw"), "/part": ("-part", "rw"),
        "/host/data": ("-data", "rw"), "/nfs": ("-nfs", "ro"), "/driver": ("-driver", "ro"), "/claim": ("-claim", "ro"),
        "/etc/one.conf": ("-one.conf", "ro"), "/all": ("-all", "ro"), "/who": ("-who", "ro"),
    }  # fmt: skip
    assert pod.pod.container("app").devices == ("/dev/fresh",)


def test_a_part_of_an_empty_dir_is_refused() -> None:
    """The node resolves a subPath: it would bring a folder of its own where the guest's memory is meant."""
    for medium in ("{}", "{medium: Memory}"):
        text = simple_pod(
            spec=f"volumes: [{{name: d, emptyDir: {medium}}}]",
            container="volumeMounts: [{name: d, mountPath: /d, subPath: a}]",
        )
        assert "which lies in the guest" in str(refused(text))


def test_optional_objects_are_taken_from_the_files() -> None:
    config = "kind: ConfigMap\nmetadata: {name: c}\ndata: {one: '1'}\n"
    env = "env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: one, optional: true}}}, "
    env += "{name: B, valueFrom: {configMapKeyRef: {name: c, key: two, optional: true}}}], "
    env += "envFrom: [{prefix: P_, configMapRef: {name: c, optional: true}}]"
    text = case(simple_pod(container=env), config).policy.text
    assert '"A=1"' in text
    assert '"P_one=1"' in text
    assert '"B=' not in text
    assert "the host's choice" in str(refused(simple_pod(container=env)))


def test_a_name_too_long_for_a_host_name_is_refused() -> None:
    for kind, limit in {"Pod": 63, "Deployment": 46, "DaemonSet": 57, "CronJob": 48}.items():
        if kind != "CronJob":
            pod_of(simple_pod(kind=kind, name="a" * limit))
            assert f"use at most {limit} characters" in str(refused(simple_pod(kind=kind, name="a" * (limit + 1))))


def test_a_line_that_the_agent_could_not_read_is_refused() -> None:
    _, pod = pod_of(simple_pod(container=f"args: ['{'x' * 70_000}']"))
    with pytest.raises(PolicyTextError, match="the agent reads 60000"):
        render(pod)


@pytest.mark.parametrize("text", ["", "package agent_policy\n", "x\npolicy_data := [", "x\npolicy_data := {}"])
def test_foreign_policies_are_an_error_not_a_crash(text: str) -> None:
    with pytest.raises(PolicyTextError):
        policy_data(text)


def test_the_same_pod_has_the_same_policy_and_another_pod_another() -> None:
    same = {case(simple_pod()).policy.sha256 for _ in range(3)}
    assert len(same) == 1
    assert case(simple_pod(name="other")).policy.sha256 not in same
    assert case(simple_pod(), image=CONFIG).policy.sha256 in same
