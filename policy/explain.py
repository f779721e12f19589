"""Says why a policy denies a request: the same expectations, checked once more in Python, field by field.

This is no second opinion that could allow anything: the Rego decides. Tests hold the two together.
"""

from collections.abc import Callable, Mapping

from k8s.resources import READ_LOGS
from policy.explain_container import check_create, check_exec
from policy.explain_layers import demands_layers
from policy.layers import CONTAINER_ID
from policy.messages import FIELDS
from policy.model import SHARED
from policy.reasons import MISSING, NODE, Data, Findings, Reason, found, get, items, show, table

_Check = Callable[[Findings, Data, Data, Data], None]
_SHM: Data = {
    "driver": "ephemeral", "driver_options": [], "source": "shm", "fstype": "tmpfs",
    "options": ["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"],
    "mount_point": "/run/kata-containers/sandbox/shm", "fs_group": None,
}  # fmt: skip
_CLIMBS = r"(^|/)[.][.](/|$)"
_LOOPBACK = r"^127[.]|^(0{0,4}:){0,7}0{0,3}1(/|$)|^(0{0,4}:){0,6}[Ff]{4}:"
_NAME = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_HARDWARE = r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"
_LINK = r"^[A-Za-z0-9_.:@-]{0,15}$"
_GUESTS = "the loopback interface is the guest's"


def explain(data: Data, state: Data, endpoint: str, request: Data) -> tuple[Reason, ...]:
    """Why a policy with the expectations *data* and the *state* denies *request*; at least one reason.

    Only for requests that were denied: for others the answer means nothing.
    """
    check = _CHECKS.get(endpoint)
    if check is None:
        return (Reason(field=endpoint, seen="asked for", wanted="never asked for", source="no pod of ours needs it"),)
    if (old := _older(endpoint, request)) is not None:
        return (old,)
    findings = _judged(check, data, state, endpoint, request)
    return findings or (
        Reason(
            field=endpoint, seen=show(dict(request)), wanted="another request", source="the rules as a whole deny it"
        ),
    )


def _older(endpoint: str, request: Data) -> Reason | None:
    """Why a request of an agent of Microsoft's 3.2 line is denied, whatever it says."""
    marks = {"CreateContainerRequest": ("base", "env_map"), "CopyFileRequest": ("symlink_src",)}.get(endpoint, ())
    if not marks or not set(marks) <= request.keys():
        return None
    return Reason(
        field=endpoint,
        seen=f"the fields {' and '.join(marks)}",
        wanted="the form of Kata's agents from 3.29 on",
        source="an agent of Microsoft's 3.2 line asks for policies in a form that this version does not write: "
        "use node images with a newer agent",
    )


def reasons(data: Data, state: Data, endpoint: str, request: Data) -> tuple[Reason, ...]:
    """All differences found, none for a request that is as expected."""
    check = _CHECKS.get(endpoint)
    if check is None:
        return explain(data, state, endpoint, request)
    return _judged(check, data, state, endpoint, request)


def judged() -> tuple[str, ...]:
    """The requests that may be allowed at all."""
    return tuple(_CHECKS)


def _judged(check: _Check, data: Data, state: Data, endpoint: str, request: Data) -> tuple[Reason, ...]:
    findings = Findings()
    findings.known("", request, FIELDS[endpoint])
    check(findings, data, state, request)
    return tuple(findings.reasons)


def _always(_findings: Findings, _data: Data, _state: Data, _request: Data) -> None:
    """Allowed whatever it says."""


def _known(findings: Findings, _data: Data, state: Data, request: Data) -> None:
    cid = get(request, "container_id")
    if not isinstance(cid, str) or f"id:{cid}" not in state:
        known = sorted(key.removeprefix("id:") for key in state if key.startswith("id:"))
        findings.add("container_id", cid, f"one of the containers made before: {', '.join(known) or 'none yet'}", NODE)


def _start(findings: Findings, data: Data, state: Data, request: Data) -> None:
    _known(findings, data, state, request)
    if state.get(f"started:{get(request, 'container_id')}"):
        findings.add("container_id", get(request, "container_id"), "a container not started yet", NODE)


def _read_stream(findings: Findings, data: Data, state: Data, request: Data) -> None:
    if get(data, "pod", "logs") is not True:
        findings.add(
            "ReadStreamRequest",
            True,
            "nothing: what containers print stays in the guest",
            f'annotation {READ_LOGS}, which "true" would let the node read the logs',
        )
    _known(findings, data, state, request)


def _ephemeral(findings: Findings, _data: Data, _state: Data, request: Data) -> None:
    findings.empty("storages", get(request, "storages"), NODE)


def _sandbox(findings: Findings, data: Data, state: Data, request: Data) -> None:
    if state.get("pod:sandbox"):
        findings.add("sandbox_id", get(request, "sandbox_id"), "no second sandbox in this guest", NODE)
    findings.equal("guest_hook_path", get(request, "guest_hook_path"), "", "hooks would run on every container")
    findings.empty("kernel_modules", get(request, "kernel_modules"), "the guest's kernel loads no modules")
    findings.equal("sandbox_pidns", get(request, "sandbox_pidns"), False, NODE)
    form = CONTAINER_ID if demands_layers(data) else "^[a-z0-9][a-z0-9.-]{0,127}$"
    findings.matches("sandbox_id", get(request, "sandbox_id"), form, "an id", NODE)
    name = get(request, "hostname")
    hostname, pattern = get(data, "pod", "hostname"), get(data, "pod", "name", "pattern")
    if get(data, "pod", "stem") is True:
        findings.matches("hostname", name, _NAME, "<job>-<number>, as the pod's name begins", "metadata.name")
    elif not (hostname and name == hostname) and not (hostname == "" and found(str(pattern), name)):
        findings.add("hostname", name, show(hostname or pattern), "spec.hostname, else metadata.name")
    storages = get(request, "storages")
    if not isinstance(storages, list) or len(storages) > 1:
        findings.add("storages", storages, "at most the shared memory", NODE)
    for index, storage in enumerate(items(storages)):
        findings.known(f"storages[{index}]", storage, FIELDS["storages"])
        for name_, wanted in _SHM.items():
            findings.equal(f"storages[{index}].{name_}", get(storage, name_), wanted, NODE)
        if get(storage, "shared") is not False and get(storage, "shared") is not MISSING:
            findings.add(f"storages[{index}].shared", get(storage, "shared"), "false", NODE)


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
        findings.add("file_type", kind, "Regular, Directory or Symlink", NODE)
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
        findings.add("interface.raw_flags", flags, "0 or 128 (no ARP)", NODE)
    findings.known("interface", interface, FIELDS["interface"])
    for name in ("name", "device"):
        _link(findings, f"interface.{name}", get(interface, name))
    address = get(interface, "hwAddr")
    if not found(_HARDWARE, address) or address == "00:00:00:00:00:00":
        findings.add("interface.hwAddr", address, "an address like 02:00:00:00:00:01, not all zero", _GUESTS)
    _every(findings, "interface.IPAddresses", get(interface, "IPAddresses"), _address)


def _every(findings: Findings, where: str, seen: object, check: Callable[[Findings, str, object], None]) -> None:
    if not isinstance(seen, list | dict | str):
        findings.add(where, seen, "a list", NODE)
    for key, item in table(seen).items() if isinstance(seen, dict) else enumerate(items(seen)):
        check(findings, f"{where}[{key}]", item)


def _link(findings: Findings, where: str, seen: object) -> None:
    if not found(_LINK, seen) or seen == "lo":
        findings.add(where, seen, "the name of an interface, not lo", _GUESTS)


def _address(findings: Findings, where: str, seen: object) -> None:
    if not isinstance(seen, dict):
        findings.add(where, seen, "an address", NODE)
    findings.known(where, seen, FIELDS["address"])
    _outside(findings, f"{where}.address", get(seen, "address"))


def _outside(findings: Findings, where: str, seen: object) -> None:
    if not isinstance(seen, str) or found(_LOOPBACK, seen):
        findings.add(where, seen, "no loopback address", "they are the guest's")


def _routes(findings: Findings, _data: Data, _state: Data, request: Data) -> None:
    findings.known("routes", get(request, "routes"), ("Routes",))
    _every(findings, "routes.Routes", get(request, "routes", "Routes"), _route)


def _route(findings: Findings, where: str, route: object) -> None:
    findings.known(where, route, FIELDS["Routes"])
    _link(findings, f"{where}.device", get(route, "device"))
    for name in ("source", "dest"):
        _outside(findings, f"{where}.{name}", get(route, name))


def _neighbors(findings: Findings, _data: Data, _state: Data, request: Data) -> None:
    findings.known("neighbors", get(request, "neighbors"), ("ARPNeighbors",))
    _every(findings, "neighbors.ARPNeighbors", get(request, "neighbors", "ARPNeighbors"), _neighbor)


def _neighbor(findings: Findings, where: str, entry: object) -> None:
    findings.known(where, entry, FIELDS["ARPNeighbors"])
    _link(findings, f"{where}.device", get(entry, "device"))
    _address(findings, f"{where}.toIPAddress", get(entry, "toIPAddress"))
    findings.equal(f"{where}.toIPAddress.mask", get(entry, "toIPAddress", "mask"), "", NODE)
    for name, allowed in (("state", (2, 128)), ("flags", (0, 8, 128, 136))):
        value = get(entry, name)
        if isinstance(value, bool) or value not in allowed:
            findings.add(f"{where}.{name}", value, f"one of {', '.join(map(str, allowed))}", NODE)


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
