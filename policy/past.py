"""The state of a guest right before a request, if everything before it was as it should be; for explanations only."""

from policy.explain_volumes import part_of
from policy.model import SANDBOX_KEY
from policy.reasons import CRI, MISSING, Data, get, items, table

_UNKNOWN_ID = "0" * 64


def assumed_state(data: Data, endpoint: str, request: Data, key: str) -> dict[str, object]:
    """What an agent with the expectations *data* would hold when *request* about the container *key* arrives.

    What only the past tells is taken from the request itself, so no reason can come of it.
    """
    if endpoint in {"CreateSandboxRequest", "CopyFileRequest"}:
        return {}
    annotations = table(get(request, "OCI", "Annotations"))
    name = annotations.get(CRI + "sandbox-name", "pod")
    stem = part_of(data, name, 1) if get(data, "pod", "stem") is True else None
    cid = get(request, "container_id")
    create = endpoint == "CreateContainerRequest"
    sandbox = cid if create and key == SANDBOX_KEY else annotations.get(CRI + "sandbox-id", _UNKNOWN_ID)
    state: dict[str, object] = {
        "pod:sandbox": sandbox,
        "pod:hostname": get(data, "pod", "hostname") or (stem if stem is not None else name),
        "passed:-": create and key != SANDBOX_KEY,
    }
    if create and key == SANDBOX_KEY:
        return state
    namespaces = items(get(request, "OCI", "Linux", "Namespaces"))
    state |= {
        "pod:name": name,
        "pod:namespace": annotations.get(CRI + "sandbox-namespace", "default"),
        "pod:uid": annotations.get(CRI + "sandbox-uid", "00000000-0000-0000-0000-000000000000"),
        "pod:network": [get(one, "Path") for one in namespaces if get(one, "Type") == "network"],
        f"begun:{SANDBOX_KEY}": True,
        f"id:{sandbox}": SANDBOX_KEY,
    }
    after = get(data, "containers", key, "after")
    state[f"{get(after, 'flag')}{get(after, 'key')}"] = True
    if not create and isinstance(cid, str):
        state |= {f"id:{cid}": key, f"live:{key}": True}
        if endpoint != "StartContainerRequest":
            state |= {f"started:{cid}": True, f"begun:{key}": True}
        if (own := _environment_name(request)) is not MISSING:
            state["pod:name"] = own
    return state


def _environment_name(request: Data) -> object:
    """The pod's name as a process to be executed says it."""
    for entry in items(get(request, "process", "Env")):
        if isinstance(entry, str) and entry.startswith("HOSTNAME="):
            return entry.removeprefix("HOSTNAME=")
    return MISSING
