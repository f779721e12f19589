"""The API's description is valid, and says of every route what it takes, gives and refuses."""

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from wire.openapi import document
from wire.routes import COMMON_PROBLEMS, PROBLEM_STATUS, ROUTES, Port, Route

DOCUMENT: Any = document()


def operation(route: Route) -> Any:
    return DOCUMENT["paths"][route.path][route.method.lower()]


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)
    json.dumps(DOCUMENT)


def test_the_routes_are_those_of_the_design() -> None:
    """DESIGN section 4; a route too many is an attack surface, one too few a promise broken."""
    assert {(port.value, route.method, route.path) for route in ROUTES for port in route.ports} == {
        (1313, "GET", "/v1/capabilities"),
        (1313, "GET", "/openapi.json"),
        (1313, "POST", "/v1/attest"),
        (1313, "POST", "/v1/manifests"),
        (1313, "POST", "/v1/recovery"),
        (1313, "GET", "/v1/manifests"),
        (1313, "GET", "/v1/ledger/checkpoint"),
        (1313, "GET", "/v1/ledger/tile/{L}/{N}"),
        (1313, "GET", "/v1/ledger/tile/entries/{N}"),
        (1313, "GET", "/v1/ledger/entry/{seq}"),
        (1313, "GET", "/v1/ledger/blob/{sha256}"),
        (7777, "POST", "/v1/attest"),
        (7777, "POST", "/v1/challenges"),
        (7777, "POST", "/v1/certificates"),
        (9102, "GET", "/probe/startup"),
        (9102, "GET", "/probe/liveness"),
        (9102, "GET", "/probe/readiness"),
        (9102, "GET", "/metrics"),
    }


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_route_is_described_whole(route: Route) -> None:
    described = operation(route)
    assert described["summary"] == route.summary
    assert ("requestBody" in described) == (route.request is not None)
    assert "200" in described["responses"]
    names = {parameter["name"] for parameter in DOCUMENT["paths"][route.path].get("parameters", ())}
    assert names == set(re.findall(r"{(\w+)}", route.path))
    servers = {server["url"].rpartition(":")[2] for server in DOCUMENT["paths"][route.path]["servers"]}
    assert servers == {str(port.value) for port in route.ports}
    if Port.PROBE not in route.ports:
        for code in (*COMMON_PROBLEMS, *route.problems):
            assert code in described["responses"][str(PROBLEM_STATUS[code])]["description"]


def test_every_bound_of_a_message_is_in_its_schema() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["AttestRequest"]["additionalProperties"] is False
    assert schemas["SetManifestRequest"]["properties"]["policies"]["maxItems"] == 4096
    assert schemas["Head"]["properties"]["root"]["pattern"] == "^[0-9a-f]{64}$"
    assert {"Statement", "Unverified", "Problem", "CertificateResponse", "RecoveryResponse"} <= set(schemas)
