"""The API's OpenAPI document, made from the table of routes and the messages; nothing is written twice."""

import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from msgspec import Struct

from wire.problem import CONTENT_TYPE, Problem
from wire.routes import COMMON_PROBLEMS, JSON, PROBLEM_STATUS, ROUTES, Port, Route
from wire.statement import Statement

_REF = "#/components/schemas/{name}"
_PARAMETERS: Mapping[str, tuple[str, dict[str, object]]] = {
    "L": ("The level of the tile.", {"type": "string", "pattern": "^[0-9]{1,2}$"}),
    "N": (
        "The index of the tile as C2SP tlog-tiles writes it. It may hold slashes, which are not escaped.",
        {"type": "string", "pattern": "^(x[0-9]{3}/)*[0-9]{3}(\\.p/[0-9]{1,3})?$"},
    ),
    "seq": ("The number of the entry.", {"type": "string", "pattern": "^(0|[1-9][0-9]{0,18})$"}),
    "sha256": ("The SHA-256 of the blob.", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
}
_PORTS: Mapping[Port, str] = {
    Port.USER: "Operators, data owners and auditors. HTTPS with the epoch's certificate, which the statement names.",
    Port.MESH: "Workloads. HTTPS with the same certificate.",
    Port.PROBE: "Probes and metrics. Plain HTTP, for the node.",
}


def document() -> dict[str, object]:
    """The OpenAPI 3.1 document, for `/openapi.json`."""
    _, schemas = msgspec.json.schema_components(_messages(), ref_template=_REF)
    paths: dict[str, dict[str, object]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, _shared(route))[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Contrast Coordinator",
            "version": "v1",
            "summary": "Sets manifests, attests workloads, issues certificates, and shows the ledger of all of it.",
            "description": (
                "Bytes in JSON are padded standard base64, hashes are lower-case hex. Unknown fields are refused in "
                "requests. Every refusal is an RFC 9457 problem document whose `code` is stable; tolerate new ones."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [_server(port) for port in Port],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _messages() -> list[type[Struct]]:
    found: dict[type[Struct], None] = {Problem: None, Statement: None}
    for route in ROUTES:
        if route.request is not None:
            found[route.request] = None
        if not isinstance(route.answer, str):
            found[route.answer] = None
    return list(found)


def _shared(route: Route) -> dict[str, object]:
    """What all methods of a path share: its parameters, and the ports that have it."""
    shared: dict[str, object] = {"servers": [_server(port) for port in route.ports]}
    names = re.findall(r"{(\w+)}", route.path)
    if names:
        shared["parameters"] = [
            {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
            for name in names
            for text, schema in [_PARAMETERS[name]]
        ]
    return shared


def _operation(route: Route) -> dict[str, object]:
    operation: dict[str, object] = {"operationId": route.name, "summary": route.summary}
    if route.request is not None:
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {route.max_request} bytes.",
            "content": {JSON: {"schema": _reference(route.request)}},
        }
    operation["responses"] = {
        "200": {"description": f"At most {route.max_answer} bytes.", "content": _answer(route)},
        **_problems(route),
    }
    return operation


def _answer(route: Route) -> dict[str, object]:
    if not isinstance(route.answer, str):
        return {JSON: {"schema": _reference(route.answer)}}
    return {route.answer: {"schema": {"type": "object"}}} if route.answer == JSON else {route.answer: {}}


def _problems(route: Route) -> dict[str, object]:
    """One response for each status, naming its codes; probes answer a bare 503."""
    if Port.PROBE in route.ports:
        return {} if route.path == "/metrics" else {"503": {"description": "Not now."}}
    codes: dict[int, list[str]] = {}
    for code in sorted({*COMMON_PROBLEMS, *route.problems}):
        codes.setdefault(PROBLEM_STATUS[code], []).append(code)
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(names)}.",
            "content": {
                CONTENT_TYPE: {
                    "schema": {"allOf": [_reference(Problem), {"properties": {"code": {"examples": names}}}]},
                }
            },
        }
        for status, names in sorted(codes.items())
    }


def _reference(kind: type[Struct]) -> dict[str, object]:
    return {"$ref": _REF.format(name=kind.__name__)}


def _server(port: Port) -> dict[str, object]:
    scheme = "http" if port is Port.PROBE else "https"
    return {
        "url": f"{scheme}://{{host}}:{port.value}",
        "description": _PORTS[port],
        "variables": {"host": {"default": "coordinator"}},
    }
