"""A registry may be slow, broken or hostile: the right bytes come out, or a clear error, and no secret leaks."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from images.build import INDEX_TYPE, MANIFEST_TYPE
from images.errors import (
    CacheError,
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnreachableError,
)
from images.model import Descriptor
from images.registry import RegistryClient
from images.transport import Mirror, RegistrySettings
from tests.support.registry import (
    PASSWORD,
    TOKEN,
    FakeRegistry,
    Known,
    TokenServer,
    blob_answer,
    client_of,
    endless,
    login,
    running,
    server_tls,
    serving,
    sha256,
    status_answer,
    tar_of,
)

LAYER = tar_of({"etc/passwd": b"app:x:7:8::/:\n"})
DATA = b"a blob of the registry" * 1000
BLOB = Descriptor(media_type="x/y", digest=sha256(DATA), size=len(DATA))


async def fetch(client: RegistryClient, registry: FakeRegistry, wanted: Descriptor = BLOB) -> bytes:
    file = io.BytesIO()
    await client.blob(registry.reference(), wanted, file, progress=lambda _size: None)
    return file.getvalue()


async def test_a_tag_is_resolved_with_every_type_of_manifest_accepted() -> None:
    async with running(FakeRegistry()) as registry, client_of(registry) as client:
        image = registry.push(LAYER)
        document = await client.manifest(registry.reference())
        assert (document.digest, document.raw) == (image.digest, image.manifest)
        accepted = registry.seen[0].headers["Accept"]
        for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "manifest.v2"):
            assert f"{kind}+json" in accepted


async def test_a_blob_is_written_whole_and_reported() -> None:
    sizes: list[int] = []
    async with running(FakeRegistry(blobs={BLOB.digest: DATA})) as registry, client_of(registry) as client:
        file = io.BytesIO()
        await client.blob(registry.reference(), BLOB, file, progress=sizes.append)
        assert file.getvalue() == DATA
        assert sizes[-1] == BLOB.size


WRONG_MANIFESTS: dict[str, tuple[dict[str, Any], type[ImageError], str]] = {
    "other bytes": ({"data": b"{}"}, DigestMismatchError, "changed it"),
    "a login page": ({"content_type": "text/html"}, RegistryError, "no manifest"),
    "an index by its header": ({"content_type": INDEX_TYPE}, RegistryError, "its text"),
    "another digest in the header": ({"headers": {"Docker-Content-Digest": "sha256:" + "0" * 64}}, DigestMismatchError,
                                     "names the digest"),
    "five megabytes": ({"data": bytes(5 << 20)}, ImageTooLargeError, "more than"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "error", "says"), WRONG_MANIFESTS.values(), ids=WRONG_MANIFESTS)
async def test_a_manifest_that_is_not_the_one_asked_for_is_refused(
    change: dict[str, Any], error: type[ImageError], says: str
) -> None:
    async with running(FakeRegistry()) as registry, client_of(registry) as client:
        image = registry.push(LAYER)
        registry.wrong["manifests"] = blob_answer(**{"data": image.manifest, "content_type": MANIFEST_TYPE, **change})
        with pytest.raises(error, match=says):
            await client.manifest(registry.reference(digest=image.digest))


async def truncated(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(DATA))})
    await response.prepare(request)
    await response.write(DATA[:100])
    assert request.transport is not None
    request.transport.close()
    return response


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(DATA[:1])
    await asyncio.sleep(60)
    return response


WRONG_BLOBS: dict[str, tuple[Callable[[web.Request], Awaitable[web.StreamResponse]], type[ImageError], str]] = {
    "tampered": (blob_answer(DATA[:-1] + b"!"), DigestMismatchError, "changed it"),
    "longer": (blob_answer(DATA + b"!"), DigestMismatchError, "its manifest says"),
    "shorter": (blob_answer(DATA[:-1]), DigestMismatchError, "its manifest says"),
    "endless": (endless, DigestMismatchError, "more than"),
    "cut off": (truncated, RegistryUnreachableError, "2 times in a row"),
    "slow": (drip, RegistryUnreachableError, "did not answer in time"),
    "gone": (status_answer(410), RegistryError, "status 410"),
    "broken": (status_answer(500), RegistryUnreachableError, "status 500"),
    "forbidden": (status_answer(403), RegistryDeniedError, "docker login"),
    "compressed on the way": (blob_answer(DATA[:-1] + b"?", headers={"Content-Encoding": "gzip"}),
                              DigestMismatchError, "changed it"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "error", "says"), WRONG_BLOBS.values(), ids=WRONG_BLOBS)
async def test_a_blob_that_is_not_the_one_asked_for_is_refused(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], error: type[ImageError], says: str
) -> None:
    async with running(FakeRegistry(wrong={"blobs": answer})) as registry, client_of(registry, idle_s=0.3) as client:
        with pytest.raises(error, match=says):
            await fetch(client, registry)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_busy_registry_is_asked_again(status: int) -> None:
    busy = web.Response(status=status, headers={"Retry-After": "0"})
    async with running(FakeRegistry(blobs={BLOB.digest: DATA}, fail_first=[busy])) as registry:
        async with client_of(registry) as client:
            assert await fetch(client, registry) == DATA
        assert len(registry.seen) == 2


async def test_a_download_that_begins_anew_leaves_nothing_of_the_first_try() -> None:
    tries = iter([truncated, blob_answer(DATA)])

    async def first_cut_off(request: web.Request) -> web.StreamResponse:
        answer: web.StreamResponse = await next(tries)(request)
        return answer

    async with running(FakeRegistry(wrong={"blobs": first_cut_off})) as registry, client_of(registry) as client:
        assert await fetch(client, registry) == DATA


async def test_what_a_registry_does_not_have_is_named_and_its_text_cannot_steer_a_terminal() -> None:
    async with running(FakeRegistry()) as registry, client_of(registry) as client:
        with pytest.raises(ImageNotFoundError, match="team/app/manifests/v1") as caught:
            await client.manifest(registry.reference())
        assert "\x1b" not in str(caught.value)
        assert "MANIFEST_UNKNOWN" in str(caught.value)


async def test_a_full_disk_is_no_fault_of_the_network() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:  # noqa: ARG002
            raise OSError(28, "No space left on device")

    async with running(FakeRegistry(blobs={BLOB.digest: DATA})) as registry, client_of(registry) as client:
        with pytest.raises(CacheError, match="No space left"):
            await client.blob(registry.reference(), BLOB, Full(), progress=lambda _size: None)
        assert len(registry.seen) == 1


# Who we are.


async def test_basic_credentials_are_sent_when_asked_for() -> None:
    async with running(FakeRegistry(auth="basic", blobs={BLOB.digest: DATA})) as registry:
        async with client_of(registry, credentials=login(registry)) as client:
            assert await fetch(client, registry) == DATA
            assert await fetch(client, registry) == DATA
        assert "Authorization" not in registry.seen[0].headers
        assert len(registry.seen) == 3


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_wrong_or_no_credentials_are_a_clear_error_without_them(auth: str) -> None:
    token_server = TokenServer()
    async with serving(token_server.answer) as host:
        token_server.url = f"http://{host}/token"
        async with running(FakeRegistry(auth=auth, token_server=token_server)) as registry:
            wrong = login(registry)
            for known in (wrong, Known()):
                if known is wrong:
                    known.by_host = {
                        key: type(value)(username=value.username, secret="wrong-secret")
                        for key, value in known.by_host.items()
                    }
                async with client_of(registry, host, credentials=known) as client:
                    with pytest.raises(RegistryDeniedError, match="docker login") as caught:
                        await fetch(client, registry)
                assert "wrong-secret" not in str(caught.value) + repr(caught.value) + repr(known.by_host)


@pytest.mark.parametrize("how", ["password", "anonymous", "identity"])
async def test_a_token_is_fetched_once_and_used(how: str) -> None:
    """The token server, not the registry, learns the password."""
    token_server = TokenServer(anonymous=how == "anonymous")
    async with serving(token_server.answer) as host:
        token_server.url = f"http://{host}/token?account=us"
        registry = FakeRegistry(auth="bearer", token_server=token_server, blobs={BLOB.digest: DATA})
        async with running(registry):
            known = Known() if how == "anonymous" else login(registry, identity=how == "identity")
            async with client_of(registry, host, credentials=known) as client:
                both = await asyncio.gather(*(fetch(client, registry) for _ in range(5)))
            assert set(both) == {DATA}
            assert len(token_server.seen) == 1
            sent = token_server.seen[0]
            asked = token_server.forms[0] if how == "identity" else sent.query
            assert (asked["scope"], asked["service"]) == ("repository:team/app:pull", "our registry")
            assert (sent.method, "Authorization" in sent.headers) == {
                "password": ("GET", True), "anonymous": ("GET", False), "identity": ("POST", False)
            }[how]  # fmt: skip
            assert all(PASSWORD not in str(request.headers) for request in registry.seen)


async def test_an_expired_token_is_renewed_once() -> None:
    token_server = TokenServer(anonymous=True)
    async with serving(token_server.answer) as host:
        token_server.url = f"http://{host}/token"
        registry = FakeRegistry(auth="bearer", token_server=token_server, blobs={BLOB.digest: DATA})
        async with running(registry), client_of(registry, host) as client:
            token_server.token = "of-yesterday"
            with pytest.raises(RegistryDeniedError):
                await fetch(client, registry)
            token_server.token = TOKEN
            assert await fetch(client, registry) == DATA


BAD_TOKENS = ["", "two words", "line\r\nX-Injected: 1", "töken", None, 5]


@pytest.mark.parametrize("token", BAD_TOKENS)
async def test_a_token_that_is_none_is_refused(token: Any) -> None:
    token_server = TokenServer(anonymous=True, token=token)
    async with serving(token_server.answer) as host:
        token_server.url = f"http://{host}/token"
        registry = FakeRegistry(auth="bearer", token_server=token_server)
        async with running(registry), client_of(registry, host) as client:
            with pytest.raises(RegistryError, match="gives no token"):
                await fetch(client, registry)


@pytest.mark.parametrize(
    "realm", ["http://127.0.0.1:9/token", "ftp://a.invalid/", "/token", "", "http://[::1", "https://"]
)
async def test_credentials_go_to_no_token_server_without_tls(realm: str) -> None:
    token_server = TokenServer(url=realm)
    registry = FakeRegistry(auth="bearer", token_server=token_server)
    async with running(registry), client_of(registry, credentials=login(registry)) as client:
        with pytest.raises(RegistryError, match="wanted https"):
            await fetch(client, registry)


async def test_a_busy_token_server_is_asked_again() -> None:
    token_server = TokenServer(anonymous=True, fail_first=[web.Response(status=503)])
    async with serving(token_server.answer) as host:
        token_server.url = f"http://{host}/token"
        registry = FakeRegistry(auth="bearer", token_server=token_server, blobs={BLOB.digest: DATA})
        async with running(registry), client_of(registry, host) as client:
            assert await fetch(client, registry) == DATA


@pytest.mark.parametrize("challenge", ["Negotiate", "Digest realm=x", "", "???"])
async def test_a_way_to_authenticate_that_is_not_spoken_is_named(challenge: str) -> None:
    wrong = status_answer(401, **{"WWW-Authenticate": challenge})
    async with running(FakeRegistry(wrong={"blobs": wrong})) as registry, client_of(registry) as client:
        with pytest.raises(RegistryError, match="Bearer and Basic are understood"):
            await fetch(client, registry)


# Redirects.


async def test_a_redirect_to_another_host_carries_no_credentials() -> None:
    elsewhere = FakeRegistry(blobs={BLOB.digest: DATA})
    async with running(elsewhere), running(FakeRegistry(auth="basic")) as registry:
        target = f"http://{elsewhere.host}/v2/x/blobs/{BLOB.digest}?signature=1"
        registry.wrong["blobs"] = status_answer(307, Location=target)
        async with client_of(registry, elsewhere, credentials=login(registry)) as client:
            assert await fetch(client, registry) == DATA
        assert "Authorization" not in elsewhere.seen[0].headers
        assert elsewhere.seen[0].query == {"signature": "1"}


async def test_a_redirect_within_the_registry_keeps_them() -> None:
    registry = FakeRegistry(auth="basic", blobs={"other": DATA})
    async with running(registry), client_of(registry, credentials=login(registry)) as client:
        registry.wrong[BLOB.digest] = status_answer(302, Location="/v2/team/app/blobs/other")
        assert await fetch(client, registry) == DATA


async def test_a_host_that_was_redirected_to_cannot_ask_for_credentials() -> None:
    elsewhere = FakeRegistry(auth="basic")
    async with running(elsewhere), running(FakeRegistry()) as registry:
        registry.wrong["blobs"] = status_answer(307, Location=f"http://{elsewhere.host}/v2/x/blobs/y")
        known = login(registry)
        known.by_host[elsewhere.host] = known.by_host[registry.host]
        async with client_of(registry, elsewhere, credentials=known) as client:
            with pytest.raises(RegistryDeniedError):
                await fetch(client, registry)
        assert not known.asked
        assert all("Authorization" not in request.headers for request in elsewhere.seen)


@pytest.mark.parametrize("location", ["http://127.0.0.1:9/?a=secret", "file:///etc/passwd", "", "http://[::1", "//"])
async def test_a_redirect_to_where_nothing_is_encrypted_is_refused(location: str) -> None:
    registry = FakeRegistry(wrong={"blobs": status_answer(307, Location=location)})
    async with running(registry), client_of(registry) as client:
        with pytest.raises(RegistryError) as caught:
            await fetch(client, registry)
        assert "secret" not in str(caught.value)


async def test_redirects_that_never_end_are_cut_off() -> None:
    async with running(FakeRegistry()) as registry, client_of(registry) as client:
        registry.wrong["blobs"] = status_answer(302, Location=f"/v2/team/app/blobs/{BLOB.digest}")
        with pytest.raises(RegistryError, match="more than 5 times"):
            await fetch(client, registry)


# Mirrors, TLS, proxies.


async def test_a_mirror_is_asked_first_without_the_registrys_credentials() -> None:
    async with running(FakeRegistry()) as mirror, running(FakeRegistry(auth="basic")) as registry:
        image = mirror.push(LAYER)
        mirrors = (Mirror(registry=registry.host, host=mirror.host, prefix="hub"),)
        async with client_of(registry, mirror, credentials=login(registry), mirrors=mirrors) as client:
            assert (await client.manifest(registry.reference())).digest == image.digest
        assert not registry.seen
        assert mirror.paths() == ["/v2/hub/team/app/manifests/v1"]
        assert "Authorization" not in mirror.seen[0].headers


@pytest.mark.parametrize("fault", ["absent", "tampered", "broken", "dead"])
async def test_a_mirror_that_fails_or_lies_is_passed_over(fault: str) -> None:
    registry = FakeRegistry(blobs={BLOB.digest: DATA})
    mirror = FakeRegistry()
    async with running(registry), running(mirror):
        if fault != "absent":
            mirror.wrong["blobs"] = blob_answer(DATA[::-1]) if fault == "tampered" else status_answer(500)
        host = "127.0.0.1:9" if fault == "dead" else mirror.host
        mirrors = (Mirror(registry=registry.host, host=host),)
        async with client_of(registry, mirror, host, mirrors=mirrors) as client:
            assert await fetch(client, registry) == DATA
            registry.blobs.clear()
            with pytest.raises(ImageNotFoundError, match="before that, mirrors"):
                await fetch(client, registry)


async def test_a_certificate_of_nobody_is_refused_and_a_named_ca_accepted(tmp_path: Path) -> None:
    context, ca, _both = server_tls(tmp_path)
    async with running(FakeRegistry(blobs={BLOB.digest: DATA}), tls=context) as registry:
        async with client_of() as client:
            with pytest.raises(RegistryUnreachableError, match="--registry-ca"):
                await fetch(client, registry)
        async with client_of(ca_file=ca) as client:
            assert await fetch(client, registry) == DATA
    with pytest.raises(RegistryError, match="no PEM file"):
        RegistryClient(RegistrySettings(ca_file=tmp_path / "absent.pem"), Known())


async def test_plain_http_is_spoken_only_when_asked_for_by_name() -> None:
    async with running(FakeRegistry(blobs={BLOB.digest: DATA})) as registry, client_of() as client:
        with pytest.raises(RegistryUnreachableError, match=r"--insecure-registry 127\.0\.0\.1:"):
            await fetch(client, registry)
        assert not registry.seen


async def test_a_registry_that_is_not_there_is_a_clear_error() -> None:
    async with client_of("127.0.0.1:9") as client:
        with pytest.raises(RegistryUnreachableError, match=r"127\.0\.0\.1"):
            await client.manifest(FakeRegistry(host="127.0.0.1:9").reference())


async def test_the_environments_proxy_is_used_and_no_proxy_respected() -> None:
    seen: list[web.Request] = []

    async def proxy(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=DATA)

    async with serving(proxy) as proxy_host, running(FakeRegistry(blobs={BLOB.digest: DATA})) as registry:
        environ = {"HTTP_PROXY": f"http://me:proxy-secret@{proxy_host}"}
        async with client_of(registry, environ=environ) as client:
            assert await fetch(client, registry) == DATA
        assert not registry.seen
        assert registry.host in str(seen[0].url)
        assert seen[0].headers["Proxy-Authorization"].startswith("Basic ")
        async with client_of(registry, environ={**environ, "NO_PROXY": "127.0.0.1"}) as client:
            assert await fetch(client, registry) == DATA
        assert len(registry.seen) == 1
