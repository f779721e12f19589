"""Each answer of a registry and of its token server can be slow, endless, cut off or a lie; none is waited for long."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from images.errors import (
    DigestMismatchError,
    ImageError,
    ImageTooLargeError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnreachableError,
    UnsupportedImageError,
)
from images.model import image_of, json_object
from images.transport import MAX_PAUSE_S, Transport
from tests.support.registry import (
    TOKEN,
    Answer,
    FakeRegistry,
    TokenServer,
    blob_answer,
    client_of,
    endless,
    login,
    running,
    serving,
    status_answer,
    tar_of,
)

LAYER = tar_of({"etc/passwd": b"app:x:7:8::/:\n"})


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.close()
    return response


async def drip(request: web.Request) -> web.StreamResponse:
    """A byte now and then, soon enough for every pause between two bytes and never at an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def silent(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits that long")


LIES: dict[str, tuple[Answer, type[ImageError], str]] = {
    "endless": (endless, ImageTooLargeError, "more than"),
    "cut off": (cut_off, RegistryUnreachableError, "2 times in a row"),
    "silent": (silent, RegistryUnreachableError, "did not answer in time"),
    "in drops": (drip, RegistryUnreachableError, "did not answer in time"),
}


@pytest.mark.parametrize(("answer", "error", "says"), LIES.values(), ids=LIES)
async def test_a_manifest_is_not_waited_for_for_ever(
    answer: Answer, error: type[ImageError], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    async with (
        running(FakeRegistry(wrong={"manifests": answer})) as registry,
        client_of(registry, idle_s=0.3) as client,
    ):
        with pytest.raises(error, match=says):
            await client.manifest(registry.reference())


@pytest.mark.parametrize(("answer", "error", "says"), LIES.values(), ids=LIES)
async def test_a_token_is_not_waited_for_for_ever(
    answer: Answer, error: type[ImageError], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    async with serving(answer) as host:
        registry = FakeRegistry(auth="bearer", token_server=TokenServer(url=f"http://{host}/token"))
        async with running(registry), client_of(registry, host, idle_s=0.3) as client:
            with pytest.raises(error, match=says):
                await client.manifest(registry.reference())


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make whole answers late after a second and not after a minute."""
    real = Transport.request

    def sooner(*arguments: Any, seconds: float, **more: Any) -> Any:
        return real(*arguments, seconds=min(seconds, 1.0), **more)

    monkeypatch.setattr(Transport, "request", sooner)


async def test_a_registry_that_takes_no_token_is_asked_twice_and_no_more() -> None:
    token_server = TokenServer(anonymous=True)
    async with serving(token_server.answer) as host:
        token_server.url = f"http://{host}/token"
        challenge = {"WWW-Authenticate": f'Bearer realm="{token_server.url}"'}
        registry = FakeRegistry(wrong={"manifests": status_answer(401, **challenge)})
        async with running(registry), client_of(registry, host, tries=4) as client:
            with pytest.raises(RegistryDeniedError, match="docker login"):
                await client.manifest(registry.reference())
        assert len(registry.seen) == 2
        assert len(token_server.seen) == 1


TOKENS: dict[str, Callable[[str], dict[str, object]]] = {
    "token": lambda token: {"token": token},
    "access_token": lambda token: {"access_token": token},
    "both": lambda token: {"token": token, "access_token": "another"},
    "an empty one besides": lambda token: {"token": "", "access_token": token},
    "with a time": lambda token: {"token": token, "expires_in": 60, "issued_at": "2026-01-01T00:00:00Z"},
    "with a time that is none": lambda token: {"token": token, "expires_in": -1e308, "issued_at": []},
}


@pytest.mark.parametrize("form", TOKENS.values(), ids=TOKENS)
async def test_a_token_comes_under_either_name(form: Callable[[str], dict[str, object]]) -> None:
    """Times in it decide nothing: a token counts until the registry says otherwise."""
    async with serving(blob_answer(json.dumps(form(TOKEN)).encode())) as host:
        registry = FakeRegistry(auth="bearer", token_server=TokenServer(url=f"http://{host}/token"))
        async with running(registry), client_of(registry, host) as client:
            image = registry.push(LAYER)
            assert (await client.manifest(registry.reference())).digest == image.digest
            assert (await client.manifest(registry.reference())).digest == image.digest


async def test_a_manifest_that_lies_elsewhere_is_asked_for_without_credentials() -> None:
    elsewhere = FakeRegistry()
    async with running(elsewhere), running(FakeRegistry(auth="basic")) as registry:
        image = elsewhere.push(LAYER)
        registry.wrong["manifests"] = status_answer(307, Location=f"http://{elsewhere.host}/v2/x/manifests/v1")
        async with client_of(registry, elsewhere, credentials=login(registry)) as client:
            assert (await client.manifest(registry.reference())).digest == image.digest
        assert "Authorization" in registry.seen[-1].headers
        assert "Authorization" not in elsewhere.seen[0].headers


async def test_credentials_do_not_come_back_after_a_way_through_another_host() -> None:
    """Else a registry's open redirect would hand them to whom that host names."""
    elsewhere = FakeRegistry()
    async with running(elsewhere), running(FakeRegistry(auth="basic")) as registry:
        registry.push(LAYER)
        elsewhere.wrong["manifests"] = status_answer(307, Location=f"http://{registry.host}/v2/team/app/manifests/v1")
        registry.wrong["v9"] = status_answer(307, Location=f"http://{elsewhere.host}/v2/x/manifests/v1")
        async with client_of(registry, elsewhere, credentials=login(registry)) as client:
            with pytest.raises(RegistryDeniedError):
                await client.manifest(registry.reference("v9"))


WAITS = {
    "seconds": ({"Retry-After": "7"}, 7.0),
    "a date": ({"Retry-After": "Tue, 24 Nov 2026 10:00:09 GMT", "Date": "Tue, 24 Nov 2026 10:00:00 GMT"}, 9.0),
    "a date of old": ({"Retry-After": "Tue, 24 Nov 2026 09:00:00 GMT", "Date": "Tue, 24 Nov 2026 10:00:00 GMT"}, 0.0),
    "a year": ({"Retry-After": "31536000"}, MAX_PAUSE_S),
    "a thousand digits": ({"Retry-After": "9" * 1000}, MAX_PAUSE_S),
    "next year": ({"Retry-After": "Wed, 24 Nov 2027 10:00:00 GMT", "Date": "Tue, 24 Nov 2026 10:00:00 GMT"},
                  MAX_PAUSE_S),
    "less than nothing": ({"Retry-After": "-5"}, 0.0),
    "a date without zone": ({"Retry-After": "Tue, 24 Nov 2026 10:00:09", "Date": "Tue, 24 Nov 2026 10:00:00 GMT"}, 0.0),
    "no date": ({"Retry-After": "soon"}, 0.0),
    "nothing": ({}, 0.0),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "expected"), WAITS.values(), ids=WAITS)
async def test_a_busy_registry_is_given_the_time_that_it_asks_for(
    headers: dict[str, str], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    registry = FakeRegistry(fail_first=[web.Response(status=429, headers=headers)])
    async with running(registry), client_of(registry) as client:
        image = registry.push(LAYER)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        assert (await client.manifest(registry.reference())).digest == image.digest
    assert pauses[0] == expected


OLD = "application/vnd.docker.distribution.manifest.v1+prettyjws"


async def test_images_of_docker_before_2016_are_refused_with_words() -> None:
    async with running(FakeRegistry()) as registry, client_of(registry) as client:
        registry.wrong["manifests"] = blob_answer(b'{"schemaVersion": 1}', content_type=OLD)
        with pytest.raises(RegistryError, match=r"schema 1.*skopeo copy --format v2s2"):
            await client.manifest(registry.reference())


@pytest.mark.parametrize(
    "kind",
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
     "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"],
)  # fmt: skip
def test_foreign_layers_are_refused_with_words(kind: str) -> None:
    pushed = FakeRegistry().push(LAYER)
    manifest = json_object(pushed.manifest.replace(b"application/vnd.oci.image.layer.v1.tar+gzip", kind.encode()), "x")
    with pytest.raises(UnsupportedImageError, match="foreign layer"):
        image_of(manifest, pushed.config, digest=pushed.digest, manifest_digest=pushed.digest)


@pytest.mark.parametrize("more", [-1, 1, 1 << 30])
async def test_a_layer_is_as_large_as_its_manifest_says(more: int) -> None:
    """Chunked answers name no length, so the bytes are counted."""
    async with running(FakeRegistry()) as registry, client_of(registry) as client:
        image = registry.push(LAYER)
        layer = image_of(
            json_object(image.manifest, "x"), image.config, digest=image.digest, manifest_digest=image.digest
        ).layers[0]
        data = image.layers[0]

        async def chunked(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(data)
            return response

        for answer in (chunked, blob_answer(data)):
            registry.wrong["blobs"] = answer
            with pytest.raises(
                (DigestMismatchError, RegistryUnreachableError), match=r"manifest says|ends after|more than"
            ):
                await client.blob(
                    registry.reference(),
                    type(layer)(media_type=layer.media_type, digest=layer.digest, size=layer.size + more),
                    io.BytesIO(),
                    progress=lambda _size: None,
                )
