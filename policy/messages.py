"""The shape of the agent's messages: protobuf's defaults for what a written request leaves out, and its log lines.

Facts from the agent's protocol (agent.proto, oci.proto), as its policy engine sees them: every field present.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import Final

Request = dict[str, object]
Data = Mapping[str, object]

_CAPABILITIES: Final[Data] = {
    "Bounding": [], "Effective": [], "Inheritable": [], "Permitted": [], "Ambient": [],
}  # fmt: skip
_USER: Final[Data] = {"UID": 0, "GID": 0, "AdditionalGids": [], "Username": ""}
_PROCESS: Final[Data] = {
    "Terminal": False, "ConsoleSize": None, "User": _USER, "Args": [], "Env": [], "Cwd": "",
    "Capabilities": _CAPABILITIES, "Rlimits": [], "NoNewPrivileges": False, "ApparmorProfile": "", "OOMScoreAdj": 0,
    "SelinuxLabel": "",
}  # fmt: skip
_RESOURCES: Final[Data] = {
    "Devices": [], "Memory": None, "CPU": None, "Pids": None, "BlockIO": None, "HugepageLimits": [], "Network": None,
}  # fmt: skip
_LINUX: Final[Data] = {
    "UIDMappings": [], "GIDMappings": [], "Sysctl": {}, "Resources": _RESOURCES, "CgroupsPath": "", "Namespaces": [],
    "Devices": [], "Seccomp": None, "RootfsPropagation": "", "MaskedPaths": [], "ReadonlyPaths": [], "MountLabel": "",
    "IntelRdt": None,
}  # fmt: skip
_OCI: Final[Data] = {
    "Version": "", "Process": _PROCESS, "Root": {"Path": "", "Readonly": False}, "Hostname": "", "Mounts": [],
    "Hooks": None, "Annotations": {}, "Linux": _LINUX, "Solaris": None, "Windows": None,
}  # fmt: skip
_PORTS: Final[Data] = {"stdin_port": 0, "stdout_port": 0, "stderr_port": 0}
_NAMED: Final[Data] = {"container_id": "", "exec_id": ""}
_DEFAULTS: Final[Mapping[str, Data]] = {
    "CopyFileRequest": {
        "path": "", "file_type": "Regular", "symlink_target": None, "file_size": 0, "file_mode": 0, "dir_mode": 0,
        "uid": 0, "gid": 0, "offset": 0,
    },
    "CreateContainerRequest": {
        **_NAMED, "string_user": None, "devices": [], "storages": [], "OCI": _OCI, "sandbox_pidns": False,
        "shared_mounts": [], **_PORTS,
    },
    "CreateSandboxRequest": {
        "hostname": "", "dns": [], "storages": [], "sandbox_pidns": False, "sandbox_id": "", "guest_hook_path": "",
        "kernel_modules": [],
    },
    "ExecProcessRequest": {**_NAMED, "string_user": None, "process": _PROCESS, **_PORTS},
    "ReadStreamRequest": {**_NAMED, "len": 0},
    "RemoveContainerRequest": {"container_id": "", "timeout": 0},
    "SetPolicyRequest": {"policy": ""},
    "SignalProcessRequest": {**_NAMED, "signal": 0},
    "StartContainerRequest": {"container_id": ""},
    "StatsContainerRequest": {"container_id": ""},
    "TtyWinResizeRequest": {**_NAMED, "row": 0, "column": 0},
    "UpdateEphemeralMountsRequest": {"storages": []},
    "UpdateInterfaceRequest": {
        "interface": {
            "device": "", "name": "", "IPAddresses": [], "mtu": 0, "hwAddr": "", "devicePath": "", "type_": "",
            "raw_flags": 0,
        },
    },
    "UpdateRoutesRequest": {"routes": {"Routes": []}},
    "AddARPNeighborsRequest": {"neighbors": {"ARPNeighbors": []}},
    "WaitProcessRequest": dict(_NAMED),
    "WriteStreamRequest": {**_NAMED, "data": []},
}  # fmt: skip
_MOUNT: Final[Data] = {"destination": "", "source": "", "type_": "", "options": []}
_STORAGE: Final[Data] = {
    "driver": "", "driver_options": [], "source": "", "fstype": "", "options": [], "mount_point": "", "fs_group": None,
    "shared": False,
}  # fmt: skip
_DEVICE: Final[Data] = {"id": "", "type_": "", "vm_path": "", "container_path": "", "options": []}
_ROUTE: Final[Data] = {
    "dest": "", "gateway": "", "device": "", "source": "", "scope": 0, "family": 0, "flags": 0, "mtu": 0,
}  # fmt: skip
_NEIGHBOR: Final[Data] = {
    "toIPAddress": {"family": 0, "address": "", "mask": ""}, "device": "", "lladdr": "", "state": 0, "flags": 0,
}  # fmt: skip
_ITEMS: Final[Mapping[str, Data]] = {
    "Mounts": _MOUNT, "storages": _STORAGE, "devices": _DEVICE, "Namespaces": {"Type": "", "Path": ""},
    "Routes": _ROUTE, "ARPNeighbors": _NEIGHBOR,
}  # fmt: skip
# Every field that the rules know, by the kind of thing that has it. Others must be empty.
FIELDS: Final[Mapping[str, Collection[str]]] = {
    **_DEFAULTS,
    "DestroySandboxRequest": (),
    "GetOOMEventRequest": (),
    "GuestDetailsRequest": ("mem_block_size", "mem_hotplug_probe"),
    "OnlineCPUMemRequest": ("wait", "nb_cpus", "cpu_only"),
    "RemoveStaleVirtiofsShareMountsRequest": (),
    "OCI": _OCI, "Root": ("Path", "Readonly"), "Process": _PROCESS, "User": _USER, "Capabilities": _CAPABILITIES,
    "Linux": _LINUX, "Resources": _RESOURCES, "Namespaces": ("Type", "Path"), "Mounts": _MOUNT, "storages": _STORAGE,
    "Devices": ("Path", "Type", "Major", "Minor", "FileMode", "UID", "GID"), "devices": _DEVICE, "Routes": _ROUTE,
    "interface": ("device", "name", "IPAddresses", "mtu", "hwAddr", "devicePath", "type_", "raw_flags"),
    "CPU": ("Shares", "Quota", "Period", "RealtimeRuntime", "RealtimePeriod", "Cpus", "Mems"),
    "Memory": ("Limit", "Reservation", "Swap", "Kernel", "KernelTCP", "Swappiness", "DisableOOMKiller"),
    "address": ("family", "address", "mask"), "ARPNeighbors": _NEIGHBOR,
}  # fmt: skip
_BLOCKED: Final = re.compile(r"\b([A-Z][A-Za-z]{2,63}) is blocked by policy(?:: *(.*))?")
_SAID: Final = ("msg", "message", "MESSAGE", "log", "error", "err", "desc", "reason")  # Where loggers put the words.
_MAX_DEPTH: Final = 40


def completed(endpoint: str, request: Data) -> Request:
    """*request* with protobuf's defaults for whatever it leaves out; what it says stays."""
    return _merged(_DEFAULTS.get(endpoint, {}), request, 0)


def blocked(line: str) -> tuple[str, str] | None:
    """Endpoint and further words of a line of the agent's log, or of the event that Kubernetes shows of it."""
    found = _BLOCKED.search(line.replace('\\"', '"'))
    return None if found is None else (found.group(1), (found.group(2) or "").strip().rstrip('"'))


def messages_of(text: str) -> str:
    """A log as plain lines: of records in JSON (the agent's own, containerd's, the journal's) only what they say."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return "\n".join(_said(line) for line in text.splitlines())
    record = isinstance(whole, dict) and not {"kind", "request", "OCI"} & whole.keys()
    return _said(" ".join(text.split("\n"))) if record else text


def _said(line: str) -> str:
    start = line.find("{")
    try:
        record = json.loads(line[start:]) if start >= 0 else None
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, dict) or {"kind", "request"} <= record.keys():
        return line
    return " ".join(record[name] for name in _SAID if isinstance(record.get(name), str)) or line


def parse_requests(text: str) -> list[Request]:
    """The entries of a file: one JSON document (a list, or one entry), or one JSON document per line (policy.jsonl).

    A log may stand before each of its lines (a date, a host's name); lines of such a log that hold no request are
    passed over.

    Raises:
        ValueError: it is neither; the message names the line.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("too deeply nested") from error
    except ValueError as error:
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            start = line.find('{"kind"')
            if not line.strip() or (start < 0 and line.lstrip()[0] not in '{["'):
                continue  # Of a log.
            try:
                found.append(json.loads(line[max(start, 0) :]))
            except (ValueError, RecursionError):
                raise ValueError(f"line {number}: {error}") from None
        if not found:
            raise ValueError(f"line 1: {error}") from None
    listed = found if isinstance(found, list) else [found]
    for index, entry in enumerate(listed):
        if not isinstance(entry, dict):
            raise ValueError(f"entry {index} is {type(entry).__name__}, wanted an object")  # noqa: TRY004 a file's fault
    return listed


def _merged(defaults: Data, given: Data, depth: int) -> Request:
    if depth > _MAX_DEPTH:
        return dict(given)
    found: Request = {**defaults, **given}
    for name, value in given.items():
        default = defaults.get(name)
        if isinstance(default, dict) and isinstance(value, dict) and default:
            found[name] = _merged(default, value, depth + 1)
        elif isinstance(value, list) and name in _ITEMS:
            found[name] = [_merged(_ITEMS[name], item, depth + 1) if isinstance(item, dict) else item for item in value]
    return found
