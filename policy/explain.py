"""Says why a policy denies a request: the same expectations, checked once more in Python, field by field.

This is no second opinion that could allow anything: the Rego decides. Tests hold the two together.
"""

from collections.abc import Callable, Mapping

from policy.explain_container import check_create, check_exec
from policy.explain_layers import demands_layers
from policy.layers import CONTAINER_ID
from policy.model import SHARED
from policy.reasons import MISSING, Findings, Reason, found, get, items, show, table

Data = Mapping[str, object]
_Check = Callable[[Findings, Data, Data, Data], None]
_NODE = "what an honest node asks"
_SHM: Data = {
    "driver": "ephemeral", "driver_options": [], "source": "shm", "fstype": "tmpfs",
    "options": ["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"],
    "mount_point": "/run/kata-containers/sandbox/shm", "fs_group": None,
}  # fmt: skip
_CLIMBS = r"(^|/)[.][.](/|$)"
_LOOPBACK = r"^127[.]|^(0{0,4}:){0,7}0{0,3}1$|^::ffff:127[.]"


def explain(data: Data, state: Data, endpoint: str, request: Data) -> tuple[Reason, ...]:
    """Why a policy with the expectations *data* and the *state* denies *request*; at least one reason.

    Only for requests that were denied: for others the answer means nothing.
    """
    check = _CHECKS.get(endpoint)
    if check is None:
        return (Reason(field=endpoint, seen="asked for", wanted="never asked for", source="no pod of ours needs it"),)
    findings = Findings()
    check(findings, data, state, request)
    return tuple(findings.reasons) or (
        Reason(
            field=endpoint, seen=show(dict(request)), wanted="another request", source="the rules as a whole deny it"
        ),
    )


def reasons(data: Data, state: Data, endpoint: str, request: Data) -> tuple[Reason, ...]:
    """All differences found, none for a request that is as expected."""
    check = _CHECKS.get(endpoint)
    findings = Findings()
    if check is None:
        return explain(data, state, endpoint, request)
    check(findings, data, state, request)
    return tuple(findings.reasons)


def _always(_findings: Findings, _data: Data, _state: Data, _request: Data) -> None:
    """Allowed whatever it says."""


def _known(findings: Findings, _data: Data, state: Data, request: Data) -> None:
    cid = get(request, "container_id")
    if not isinstance(cid, str) or f"id:{cid}" not in state:
        known = sorted(key.removeprefix("id:") for key in state if key.startswith("id:"))
        findings.add("container_id", cid, f"one of the containers made before: {', '.join(known) or 'none yet'}", _NODE)


def _start(findings: Findings, data: Data, state: Data, request: Data) -> None:
    _known(findings, data, state, request)
    if state.get(f"started:{get(request, 'container_id')}"):
        findings.add("container_id", get(request, "container_id"), "a container not started yet", _NODE)


def _read_stream(findings: Findings, data: Data, state: Data, request: Data) -> None:
    if get(data, "pod", "logs") is not True:
        findings.add(
            "ReadStreamRequest", True, "nothing: what containers print stays in the guest", "setting read_logs"
        )
    _known(findings, data, state, request)


def _ephemeral(findings: Findings, _data: Data, _state: Data, request: Data) -> None:
    findings.empty("storages", get(request, "storages"), _NODE)


def _sandbox(findings: Findings, data: Data, state: Data, request: Data) -> None:
    if state.get("pod:sandbox"):
        findings.add("sandbox_id", get(request, "sandbox_id"), "no second sandbox in this guest", _NODE)
    findings.equal("guest_hook_path", get(request, "guest_hook_path"), "", "hooks would run on every container")
    findings.empty("kernel_modules", get(request, "kernel_modules"), "the guest's kernel loads no modules")
    findings.equal("sandbox_pidns", get(request, "sandbox_pidns"), False, _NODE)
    form = CONTAINER_ID if demands_layers(data) else "^[a-z0-9][a-z0-9.-]{0,127}$"
    findings.matches("sandbox_id", get(request, "sandbox_id"), form, "an id", _NODE)
    name = get(request, "hostname")
    hostname, pattern = get(data, "pod", "hostname"), get(data, "pod", "name", "pattern")
    if name != hostname and not (hostname == "" and found(str(pattern), name)):
        findings.add("hostname", name, show(hostname or pattern), "spec.hostname, else metadata.name")
    storages = get(request, "storages")
    if not isinstance(storages, list) or len(storages) > 1:
        findings.add("storages", storages, "at most the shared memory", _NODE)
    for index, storage in enumerate(items(storages)):
        for name_, wanted in _SHM.items():
            findings.equal(f"storages[{index}].{name_}", get(storage, name_), wanted, _NODE)
        if get(storage, "shared") not in (False, MISSING):
            findings.add(f"storages[{index}].shared", get(storage, "shared"), "false", _NODE)


def _copy(findings: Findings, data: Data, _state: Data, request: Data) -> None:
    path, kind, target = get(request, "path"), get(request, "file_type"), get(request, "symlink_target")
    findings.matches(
        "path", path, str(get(data, "pod", "copies")), f"{SHARED}<container>-<16 digits>-<end of a mount's path>",
        "volumeMounts, and the files that the kubelet always brings",
    )  # fmt: skip
    if found(_CLIMBS, path):
        findings.add("path", path, "no '..' in it", "CVE-2026-41326")
    if kind in ("Regular", "Directory"):
        return
    if kind != "Symlink":
        findings.add("file_type", kind, "Regular, Directory or Symlink", _NODE)
        return
    findings.matches(
        "path", path, f"^{SHARED}[^/]+/.", "a link inside a copied folder, not at its place", "CVE-2026-41326"
    )
    if not isinstance(target, str) or target.startswith("/") or found(_CLIMBS, target):
        findings.add("symlink_target", target, "a relative target without '..'", "CVE-2026-41326")


def _interface(findings: Findings, _data: Data, _state: Data, request: Data) -> None:
    interface = get(request, "interface")
    flags = get(interface, "raw_flags")
    if isinstance(flags, bool) or flags not in (0, 128):
        findings.add("interface.raw_flags", flags, "0 or 128 (no ARP)", _NODE)
    for name, forbidden in (("name", "lo"), ("device", "lo"), ("hwAddr", "00:00:00:00:00:00")):
        value = get(interface, name)
        if value is MISSING or value == forbidden:
            findings.add(
                f"interface.{name}", value, f"anything but {forbidden}", "the loopback interface is the guest's"
            )


def _routes(findings: Findings, _data: Data, _state: Data, request: Data) -> None:
    for index, route in enumerate(items(get(request, "routes", "Routes"))):
        where = f"routes.Routes[{index}]"
        if get(route, "device") == "lo":
            findings.add(f"{where}.device", "lo", "another interface", "the loopback interface is the guest's")
        if found(_LOOPBACK, get(route, "source")):
            findings.add(f"{where}.source", get(route, "source"), "no loopback address", "they are the guest's")


def _neighbors(findings: Findings, _data: Data, _state: Data, request: Data) -> None:
    for index, entry in enumerate(items(get(request, "neighbors", "ARPNeighbors"))):
        where = f"neighbors.ARPNeighbors[{index}]"
        address = table(get(entry, "toIPAddress"))
        if get(entry, "device") == "lo":
            findings.add(f"{where}.device", "lo", "another interface", "the loopback interface is the guest's")
        if found(_LOOPBACK, address.get("address")):
            findings.add(
                f"{where}.toIPAddress.address", address.get("address"), "no loopback address", "they are the guest's"
            )
        if address.get("mask", "") != "":
            findings.add(f"{where}.toIPAddress.mask", address.get("mask"), "no mask", _NODE)
        if get(entry, "state") not in (2, 128):
            findings.add(f"{where}.state", get(entry, "state"), "2 or 128", _NODE)
        if get(entry, "flags") not in (0, 8, 128, 136):
            findings.add(f"{where}.flags", get(entry, "flags"), "0, 8, 128 or 136", _NODE)


_CHECKS: Mapping[str, _Check] = {
    "AddARPNeighborsRequest": _neighbors,
    "CopyFileRequest": _copy,
    "CreateContainerRequest": check_create,
    "CreateSandboxRequest": _sandbox,
    "DestroySandboxRequest": _always,
    "ExecProcessRequest": check_exec,
    "GetOOMEventRequest": _always,
    "GuestDetailsRequest": _always,
    "OnlineCPUMemRequest": _always,
    "ReadStreamRequest": _read_stream,
    "RemoveContainerRequest": _known,
    "RemoveStaleVirtiofsShareMountsRequest": _always,
    "SignalProcessRequest": _known,
    "StartContainerRequest": _start,
    "StatsContainerRequest": _known,
    "TtyWinResizeRequest": _known,
    "UpdateEphemeralMountsRequest": _ephemeral,
    "UpdateInterfaceRequest": _interface,
    "UpdateRoutesRequest": _routes,
    "WaitProcessRequest": _known,
}
