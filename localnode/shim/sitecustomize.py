"""Name resolution inside a pod's Python programs, as a cluster's DNS and kube-proxy do it; changes nothing else.

The local node puts this folder first on PYTHONPATH and names a file in CONTRAST_HOSTS. Python imports a module of this
name at start-up, before the program. Names that the file does not know are left to the system. It uses the standard
library alone, and little of it, since it runs in every process of every pod.
"""

import itertools
import json
import os
import socket
from typing import Any

_system_getaddrinfo = socket.getaddrinfo
# One turn for each Service: a program that asks two of them alternately must not meet the same replica every time.
_turns: dict[str, Any] = {}


def _getaddrinfo(host: Any, port: Any, *hints: Any, **named_hints: Any) -> Any:
    path = os.environ.get("CONTRAST_HOSTS")
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not path or not isinstance(name, str):
        return _system_getaddrinfo(host, port, *hints, **named_hints)
    with open(path, encoding="utf-8") as file:  # noqa: PTH123  pathlib is not loaded at this point
        services = json.load(file)["services"]
    service = services.get(name.rstrip(".").lower())
    if service is None:
        return _system_getaddrinfo(host, port, *hints, **named_hints)
    endpoints = service["endpoints"]
    if not endpoints:
        raise socket.gaierror(socket.EAI_AGAIN, f"Service {name} has no ready pod yet")
    # Processes begin at different replicas, or the first one would get every first connection.
    turn = _turns.setdefault(name.lower(), itertools.count(os.getpid()))
    first = next(turn) % len(endpoints)
    found: list[Any] = []
    for address, ports in endpoints[first:] + endpoints[:first]:
        target = ports.get(str(port), port)
        found += _system_getaddrinfo(address, target, *hints, **named_hints)
    return found


socket.getaddrinfo = _getaddrinfo
