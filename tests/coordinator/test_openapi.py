"""The description of the API and the routes that are served are the same, in both directions."""

from openapi_spec_validator import validate

from coordinator.admission import Gate
from coordinator.server import Handlers, make_app
from tests.support.acts import certificate, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import Pod
from wire.openapi import document
from wire.routes import ROUTES, Port

Served = set[tuple[Port, str, str]]


def served(running: Running) -> Served:
    """Every (port, method, path) that a request can reach."""
    handlers = running.server._handlers
    assert isinstance(handlers, Handlers)
    found: Served = set()
    for port in Port:
        app = make_app(handlers, port, Gate(per_peer=1, per_route=1), running.metrics, access_log=False)
        for route in app.router.routes():
            assert route.resource is not None
            if route.method != "HEAD":
                found.add((port, route.method, route.resource.canonical))
    return found


async def test_every_route_is_described_and_every_description_is_served() -> None:
    """A client generated from the document would meet a route that is not there, or miss one."""
    described = {(port, route.method, route.path) for route in ROUTES for port in route.ports}
    paths = document()["paths"]
    assert isinstance(paths, dict)
    in_document = {
        (method.upper(), path) for path, item in paths.items() for method in item if method in {"get", "post"}
    }
    async with coordinator() as running:
        assert served(running) == described
    assert in_document == {(method, path) for _, method, path in described}


async def test_the_document_is_served_and_valid() -> None:
    async with coordinator() as running, running.client() as client:
        served_document = await client.openapi()
    assert served_document == document()
    validate(document())


async def test_a_get_takes_no_body_into_account() -> None:
    async with (
        coordinator() as running,
        running.raw() as session,
        session.get(running.url(Port.USER, "/v1/capabilities"), data=b"x" * 10_000) as response,
    ):
        assert response.status == 200
        assert (await response.json())["api_versions"] == ["v1"]


async def test_the_metrics_count_what_happened() -> None:
    async with coordinator() as running, running.raw() as session:
        await set_manifest(running)
        await certificate(running, Pod())
        async with session.get(running.url(Port.PROBE, "/metrics")) as response:
            text = await response.text()
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "contrast_coordinator_certificates_issued_total 1.0" in text
        assert 'contrast_coordinator_requests_total{route="/v1/certificates",status="200"} 1.0' in text
        assert "contrast_coordinator_manifest_generation 1.0" in text
