"""What a policy lets a pod do, in the words of Kubernetes: facts to show and to compare; it judges no request."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from policy.model import EPHEMERAL, SANDBOX_KEY, SHARED
from policy.names import ORDINAL
from policy.reasons import get, items, table, texts
from policy.text import SUFFIX, readable

Data = Mapping[str, object]
_KINDS: Final = {"init": "init container", "sidecar": "sidecar container", "app": "container"}
_BEFORE: Final = {"begun:": "was started", "ended:": "has ended", "pod:": "was asked for"}
_IN_NAMES: Final = (
    ("-[0-9]{1,10}", "-<number>"),
    (f"-{ORDINAL}", "-<number>"),
    (f"-{SUFFIX}", "-<generated>"),
    (SUFFIX, "<generated>"),
)
_NUMBER: Final = re.compile(r"-\([0-9|{}\[\]-]+\)-")  # Below a job's completions.
_ANY_NAMESPACE: Final = "any namespace, but one for the whole pod"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a policy says: a field, as Kubernetes calls it, and its values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A pod or one of its containers, with everything said about it."""

    name: str
    facts: tuple[Fact, ...]

    def json(self) -> dict[str, object]:
        """How it stands in a JSON document."""
        return {"part": self.name, "facts": {fact.name: list(fact.values) for fact in self.facts}}


@dataclass(frozen=True, slots=True)
class Change:
    """One field in which two policies differ; *part* is whose."""

    part: str
    field: str
    removed: tuple[str, ...]
    added: tuple[str, ...]

    def json(self) -> dict[str, object]:
        """How it stands in a JSON document."""
        return {"part": self.part, "field": self.field, "removed": list(self.removed), "added": list(self.added)}


def describe(data: Data) -> tuple[Part, ...]:
    """Say what a policy with the expectations *data* allows: the pod first, then its containers in their order."""
    containers = table(get(data, "containers"))
    sandbox = table(containers.get(SANDBOX_KEY))
    ordered = sorted((key for key in containers if key != SANDBOX_KEY), key=lambda key: _rank(containers, key))
    return (
        Part("pod", tuple(fact for fact in _pod(data, sandbox) if fact.values)),
        *(
            Part(
                f"{_KINDS.get(str(get(containers, key, 'kind')), 'container')} {key}",
                tuple(fact for fact in _container(data, table(containers[key])) if fact.values),
            )
            for key in ordered
        ),
    )


def differences(old: Data, new: Data) -> tuple[Change, ...]:
    """Say in what the policies with the expectations *old* and *new* differ, field by field."""
    before, after = ({part.name: part for part in describe(data)} for data in (old, new))
    found: list[Change] = []
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            found.append(Change(name, "", (name,), ()))
        elif name not in before:
            found.append(Change(name, "", (), (name,)))
        else:
            found += _changed(before[name], after[name])
    return tuple(found)


def shown(value: object) -> str:
    """A text of a policy, or its pattern, for people."""
    pattern = get(value, "pattern")
    return readable(pattern) if isinstance(pattern, str) else str(value)


def pod_name(pattern: str) -> str:
    """The pattern of a pod's name, for people."""
    pattern = _NUMBER.sub("-<number>-", pattern)
    for written, meant in _IN_NAMES:
        pattern = pattern.replace(written, meant)
    return readable(pattern)


def _changed(before: Part, after: Part) -> Iterator[Change]:
    old, new = ({fact.name: fact.values for fact in part.facts} for part in (before, after))
    for name in dict.fromkeys((*old, *new)):
        left, right = old.get(name, ()), new.get(name, ())
        if left == right:
            continue
        removed = tuple(value for value in left if value not in right)
        added = tuple(value for value in right if value not in left)
        # Where only order or number changed, the whole lists say so.
        yield Change(before.name, name, removed, added) if removed or added else Change(before.name, name, left, right)


def _rank(containers: Data, key: str) -> tuple[int, int, str]:
    """Init containers in their order: each comes after the one that it waits for."""
    depth, seen = 0, {key}
    at = str(get(containers, key, "after", "key"))
    while at in containers and at not in seen:
        seen.add(at)
        depth, at = depth + 1, str(get(containers, at, "after", "key"))
    return (get(containers, key, "kind") == "app", depth, key)


def _pod(data: Data, sandbox: Data) -> Iterator[Fact]:
    pod = table(get(data, "pod"))
    namespace = pod.get("namespace")
    yield Fact("name", (pod_name(str(get(pod, "name", "pattern"))),))
    yield Fact("namespace", (namespace if isinstance(namespace, str) else _ANY_NAMESPACE,))
    yield Fact("hostname", (str(pod["hostname"]),) if pod.get("hostname") else ())
    yield Fact("fsGroup", () if pod.get("fs_group") is None else (str(pod["fs_group"]),))
    yield Fact(
        "annotations", tuple(f"{key}: {value}" for key, value in table(get(data, "shared", "annotations")).items())
    )
    yield Fact("sysctls", tuple(f"{key}={value}" for key, value in sorted(table(sandbox.get("sysctls")).items())))
    shared = any(get(one, "pidns") is True for one in table(get(data, "containers")).values())
    yield Fact("shareProcessNamespace", ("true",) if shared else ())
    yield Fact("pause image layers", _layers(data, sandbox))
    yield Fact("logs", ("the node may read what the containers print" if pod.get("logs") else "stay in the guest",))


def _container(data: Data, want: Data) -> Iterator[Fact]:
    after = table(want.get("after"))
    first = "the sandbox" if after.get("key") in (SANDBOX_KEY, "sandbox") else f"{after.get('key')}"
    yield Fact("starts", (f"after {first} {_BEFORE.get(str(after.get('flag')), '')}".rstrip(),))
    yield Fact("image", (f"<any registry>/<any name>@{want.get('image')}",))
    yield Fact("image layers", _layers(data, want))
    yield Fact("command", tuple(map(shown, items(want.get("args")))))
    yield Fact("workingDir", (str(want.get("cwd")),))
    yield Fact("env", (*texts(want.get("env")), *(readable(str(p)) for p in table(want.get("env_patterns")).values())))
    for service, variables in table(want.get("env_links")).items():
        listed = tuple(readable(str(pattern)) for pattern in table(variables).values())
        kind = "from the device plugin of" if "/" in service else "of Service"
        yield Fact(f"env {kind} {service}", listed and (*listed, "(all of them, or none)"))
    yield Fact("runAsUser", (str(want.get("uid")),))
    gids = items(want.get("gids"))
    yield Fact("runAsGroup", (" or ".join(map(str, gids)),))
    groups = [group for listed in items(want.get("groups")) for group in items(listed) if group not in gids]
    yield Fact("supplementalGroups", tuple(dict.fromkeys(map(str, groups))))
    names = texts(get(data, "shared", "capabilities", str(want.get("capabilities"))))
    kind = str(want.get("capabilities"))
    yield Fact("capabilities", ("the runtime's default",) if kind == "default" else tuple(names) or ("none",))
    yield Fact("privileged", ("true: kernel files unmasked and writable",) if want.get("paths") == "no" else ())
    yield Fact("allowPrivilegeEscalation", ("false" if want.get("no_new_privileges") else "true",))
    yield Fact("readOnlyRootFilesystem", ("true" if want.get("readonly") else "false",))
    yield Fact("tty", ("true",) if want.get("tty") else ())
    yield Fact("volumeMounts", tuple(_mounts(table(want.get("mounts")))))
    yield Fact("volumeDevices", tuple(texts(want.get("devices"))))
    yield Fact("GPUs", (f"{want['gpus']}, which of its own is the node's choice",) if want.get("gpus") else ())
    yield Fact("exec", tuple(" ".join(texts(command)) for command in items(want.get("exec"))))
    low, high = (str(value) for value in (*items(want.get("oom")), "?", "?")[:2])
    yield Fact("OOM score", (low if low == high else f"{low} to {high}",))
    profiles = [profile or "none" for profile in texts(want.get("apparmor"))]
    yield Fact("appArmorProfile", (" or ".join(profiles),))


def _layers(data: Data, want: Data) -> tuple[str, ...]:
    """The layers that the node must hand over, top first; none where the guest pulls the image."""
    listed = items(get(data, "shared", "layers", str(want.get("image"))))
    return tuple(f"{get(layer, 'id')} with dm-verity root hash {get(layer, 'hash')}" for layer in listed)


def _mounts(mounts: Data) -> Iterator[str]:
    for place, mount in mounts.items():
        access = "read-only" if "ro" in items(get(mount, "options")) else "writable"
        disk, source = get(mount, "disk"), get(mount, "source")
        if isinstance(disk, str):
            what = f"emptyDir {disk}, on a disk encrypted by the guest"
        elif isinstance(source, str) and source.startswith(EPHEMERAL):
            what = f"emptyDir {source.removeprefix(EPHEMERAL)}, in the guest's memory"
        elif re.search(re.escape(SHARED), readable(str(get(source, "pattern")))):
            what = "files that come from the node"
        else:
            what = shown(source)
        yield f"{place} ({what}, {access})"
