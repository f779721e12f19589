"""Who a container runs as and what the kernel lets it do: users, groups, capabilities, OOM score; no files, no mounts.

Images are pulled inside the guest, so the node's runtime sees no layers: it knows no groups from ``/etc/group``, and a
group that the YAML does not give is 0 for it. Whatever depends on more must be written down.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from images.config import ImageConfig
from k8s.problems import Path
from policy.fields import APPARMOR, CAPABILITIES, RESOURCES, check_fields
from policy.model import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, GPU_RESOURCE
from policy.reader import Reader, Table

BEST_EFFORT: Final = (1000, 1000)
BURSTABLE: Final = (2, 999)  # By the node's memory, which nobody knows here.
GUARANTEED: Final = (-997, -997)
_DEFAULT_PROFILE: Final = "cri-containerd.apparmor.d"  # Where the node has AppArmor; without it there is none.
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_UNITS: Final[Mapping[str, Decimal]] = {
    "": Decimal(1), "m": Decimal("0.001"), "u": Decimal("0.000001"), "n": Decimal("0.000000001"),
    **{unit: Decimal(1000 ** (power + 1)) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024 ** (power + 1)) for power, unit in enumerate("KMGTPE")},
}  # fmt: skip
_RESOURCES: Final = {"cpu", "memory", "ephemeral-storage", GPU_RESOURCE}
_MAX_GPUS: Final = 16
_PAUSE_ID: Final = 65535  # User and group of the pause image.


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Numeric user, group and additional groups (sorted, the group among them)."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def container_identity(
    reader: Reader, security: Table, path: Path, image: ImageConfig, image_name: str, *, resolved: bool = True
) -> Identity | None:
    """The user of a container: its own context, then the pod's, then the image's USER.

    Args:
        reader: The pod; collects what cannot be decided.
        security: The container's security context.
        path: Its place in the pod spec.
        image: How the image wants to run.
        image_name: For messages.
        resolved: Whether the node can turn names into numbers: it sees the image's layers.
    """
    pod = reader.table(reader.pod, "securityContext", ())
    place = (*path, "securityContext")
    uid = reader.number(security, "runAsUser", place)
    uid = reader.number(pod, "runAsUser", ("securityContext",)) if uid is None else uid
    gid = reader.number(security, "runAsGroup", place)
    gid = reader.number(pod, "runAsGroup", ("securityContext",)) if gid is None else gid
    name, _, group = image.user.partition(":")
    named = False
    if uid is None:
        if not name:
            uid = 0
        elif name.isascii() and name.isdigit() and int(name) < 1 << 32:
            uid = int(name)
        elif image.accounts is None or (found := image.accounts.user(name)) is None:
            where = "whose layers were not read" if image.accounts is None else "whose /etc/passwd does not name it"
            reader.refuse(
                path,
                f"image {image_name}, {where}, wants the user {name!r}",
                "write securityContext.runAsUser and runAsGroup",
            )
            return None
        else:
            uid, named = found.uid, True
            gid = found.gid if gid is None else gid
    known = None if image.accounts is None else image.accounts.user_by_uid(uid)
    if gid is None and resolved and known is not None:
        gid = known.gid  # As the node finds it.
    if gid is None:
        wanted = known.gid if known is not None else int(group) if group.isascii() and group.isdigit() else 0
        if wanted != 0 or (uid != 0 and image.accounts is None):
            reader.refuse(
                path,
                f"the group of user {uid} is not written, and the node, which sees no layers, would take 0",
                f"write securityContext.runAsGroup: {wanted or uid}",
            )
            return None
        gid = 0
    other_than_root = security.get("runAsNonRoot")
    other_than_root = pod.get("runAsNonRoot") if other_than_root is None else other_than_root
    if named and not resolved:
        reason = f"image {image_name} names its user {name!r}, which the node cannot find: the guest pulls the layers"
        reader.refuse(
            path, reason, f"write securityContext.runAsUser: {uid} and runAsGroup: {gid}, as the image has it"
        )
    elif other_than_root and named and uid != 0:
        reason = f"runAsNonRoot is true and image {image_name} names its user {name!r}, so no node would start it"
        reader.refuse(path, reason, f"write securityContext.runAsUser: {uid}")
    if uid == 0 and other_than_root:
        reader.refuse(path, "runAsNonRoot is true and the user is 0, so no node would start it", "write runAsUser")
    return Identity(uid=uid, gid=gid, groups=tuple(sorted({gid, *extra_groups(reader)})))


def sandbox_identities(reader: Reader) -> tuple[int, tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """User, possible groups and possible group lists of the sandbox.

    Nodes differ in its group where only ``runAsUser`` is written (the pause image's, or 0), and in whether it gets the
    additional groups. It runs ``/pause`` and nothing of the pod's, so either is as good.
    """
    pod = reader.table(reader.pod, "securityContext", ())
    uid = reader.number(pod, "runAsUser", ("securityContext",))
    gid = reader.number(pod, "runAsGroup", ("securityContext",))
    gids = (gid,) if gid is not None else (_PAUSE_ID,) if uid is None else (0, _PAUSE_ID)
    extra = extra_groups(reader)
    groups = {listed for each in gids for listed in ((each,), tuple(sorted({each, *extra})))}
    return _PAUSE_ID if uid is None else uid, gids, tuple(sorted(groups))


def extra_groups(reader: Reader) -> tuple[int, ...]:
    """``fsGroup`` and ``supplementalGroups`` of the pod."""
    pod = reader.table(reader.pod, "securityContext", ())
    groups = pod.get("supplementalGroups") or []
    listed = [group for group in groups if isinstance(group, int)] if isinstance(groups, list) else []
    if not isinstance(groups, list) or len(listed) != len(groups):
        reader.refuse(
            ("securityContext", "supplementalGroups"), "these are no group numbers", "write a list of numbers"
        )
    fs_group = reader.number(pod, "fsGroup", ("securityContext",))
    return (*listed, *(() if fs_group is None else (fs_group,)))


def capabilities(reader: Reader, security: Table, path: Path) -> tuple[str, ...]:
    """The capabilities without ``CAP_``, sorted."""
    if security.get("privileged"):
        return ALL_CAPABILITIES
    place = (*path, "securityContext")
    wanted = reader.table(security, "capabilities", place)
    check_fields(reader, wanted, CAPABILITIES, (*place, "capabilities"))
    # As containerd: in any case of letters; ALL first (dropping it counts more), then the single names, and what is
    # dropped by name is gone.
    added, dropped = (
        tuple(name.upper() for name in reader.texts(wanted, kind, (*place, "capabilities")) or ())
        for kind in ("add", "drop")
    )
    for name in (*added, *dropped):
        if name != "ALL" and name not in ALL_CAPABILITIES:
            reader.refuse((*place, "capabilities"), f"{name!r} is no capability", "write it as NET_ADMIN, without CAP_")
    start: Iterable[str] = () if "ALL" in dropped else ALL_CAPABILITIES if "ALL" in added else DEFAULT_CAPABILITIES
    return tuple(sorted(({*start} | {*added} - {"ALL"}) - {*dropped}))


def apparmor(reader: Reader, security: Table, path: Path, name: str) -> tuple[str, ...]:
    """The profiles that an honest node may set for the container *name*."""
    pod = reader.table(reader.pod, "securityContext", ())
    own = reader.table(security, "appArmorProfile", (*path, "securityContext"))
    check_fields(reader, own, APPARMOR, (*path, "securityContext", "appArmorProfile"))
    kind = (own or reader.table(pod, "appArmorProfile", ("securityContext",))).get("type")
    annotations = reader.workload.pod_metadata.get("annotations")
    annotation = annotations.get(_APPARMOR + name) if isinstance(annotations, dict) else None
    if kind is None and annotation is not None:  # As it was written before Kubernetes 1.30.
        kind = {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}.get(str(annotation))
        if kind is None:
            reason = f"the annotation {_APPARMOR}{name} asks for a profile that is the node's file"
            reader.refuse(path, reason, "write runtime/default there, or remove it")
    if kind in {None, "RuntimeDefault"}:
        return ("",) if security.get("privileged") else ("", _DEFAULT_PROFILE)
    if kind != "Unconfined":
        place = (*path, "securityContext", "appArmorProfile") if own else ("securityContext", "appArmorProfile")
        reader.refuse(place, f"a profile of type {kind!r} is the node's file", "write RuntimeDefault")
    return ("",)


def oom_scores(reader: Reader, containers: Iterable[tuple[Path, Table]]) -> tuple[int, int]:
    """The range of OOM scores that the kubelet gives to containers of this quality of service."""
    asked: list[bool] = []
    equal: list[bool] = []
    for path, container in containers:
        resources = reader.table(container, "resources", path)
        check_fields(reader, resources, RESOURCES, (*path, "resources"))
        limits, requests = (reader.table(resources, name, (*path, "resources")) for name in ("limits", "requests"))
        for name in {*limits, *requests} - _RESOURCES:
            kind = "limits" if name in limits else "requests"
            reader.refuse(
                (*path, "resources", kind, name),
                f"{name!r} brings devices or memory of the node's choice, which no policy of this version can name",
                f"for GPUs passed through to the guest write {GPU_RESOURCE}; else remove it, or let a pod that is not "
                "confidential do this part of the work",
            )
        for name in ("cpu", "memory"):
            limit = _quantity(reader, limits, name, (*path, "resources", "limits"))
            request = _quantity(reader, requests, name, (*path, "resources", "requests"))
            asked += [limit not in {None, 0}, request not in {None, 0}]
            equal.append(limit not in {None, 0} and request in {None, limit})
    if reader.pod.get("priorityClassName") == "system-node-critical" or (equal and all(equal)):
        return GUARANTEED
    return BURSTABLE if any(asked) else BEST_EFFORT


def gpus(reader: Reader, path: Path, container: Table) -> int:
    """How many GPUs are passed through to *container*: the limit, which a request may only repeat."""
    resources = reader.table(container, "resources", path)
    limit, request = (
        reader.table(resources, name, (*path, "resources")).get(GPU_RESOURCE) for name in ("limits", "requests")
    )
    if limit is None and request is None:
        return 0
    text = str(limit)
    if isinstance(limit, bool) or not text.isascii() or not text.isdigit() or int(text) > _MAX_GPUS:
        place = (*path, "resources", "limits", GPU_RESOURCE)
        reader.refuse(place, f"{limit!r} is no number of GPUs", f"write a limit, from 1 to {_MAX_GPUS}")
        return 0
    if request is not None and str(request) != text:
        place = (*path, "resources", "requests", GPU_RESOURCE)
        reader.refuse(place, f"it asks for {request!r}, its limit is {limit!r}", "write the same number, or remove it")
    return int(text)


def _quantity(reader: Reader, table: Table, name: str, path: Path) -> Decimal | None:
    value = table.get(name)
    if value is None:
        return None
    text = str(value)
    digits = text.rstrip("EPTGMKkimun") if not text[-1:].isdigit() else text
    try:
        return Decimal(digits) * _UNITS[text[len(digits) :]]
    except (InvalidOperation, KeyError):
        reader.refuse((*path, name), f"{text!r} is no quantity", "write it as 500m or 64Mi")
        return None
