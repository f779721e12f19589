"""Docker's configuration and helpers are read as docker reads them, and no secret ends in a message."""

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.challenges import parse_challenges
from images.credentials import DockerConfig
from images.errors import CredentialsError

SECRET = "hunter2-hunter2"


class Home:
    """A home directory with a docker configuration and helpers in PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ".docker").mkdir()
        (root / "bin").mkdir()

    def config(self, value: Any) -> "Home":
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        (self.root / ".docker" / "config.json").write_bytes(raw)
        return self

    def helper(self, body: str, name: str = "test") -> "Home":
        path = self.root / "bin" / f"docker-credential-{name}"
        path.write_text(f'#!/bin/sh\nread -r server\necho "$1 $server" >>"{self.root}/asked"\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return self

    def asked(self) -> list[str]:
        return (self.root / "asked").read_text().splitlines()

    def open(self, **environ: str) -> DockerConfig:
        return DockerConfig({"HOME": str(self.root), "PATH": f"{self.root}/bin:{os.environ['PATH']}", **environ})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


ENTRIES: dict[str, tuple[str, str, Any, tuple[str, str, bool] | None]] = {
    "by host": ("r.example:5000", "r.example:5000", {"auth": encoded(f"me:{SECRET}")}, ("me", SECRET, False)),
    "by address": ("r.example", "https://r.example/v2/", {"auth": encoded(f"me:{SECRET}")}, ("me", SECRET, False)),
    "docker's own": ("registry-1.docker.io", "https://index.docker.io/v1/", {"auth": encoded("me:a:b")},
                     ("me", "a:b", False)),
    "in clear": ("r.example", "r.example", {"username": "me", "password": SECRET}, ("me", SECRET, False)),
    "identity token": ("r.example", "r.example", {"identitytoken": SECRET}, ("<token>", SECRET, True)),
    "another host": ("r.example", "r.example:5000", {"auth": encoded("me:x")}, None),
    "logged out": ("r.example", "r.example", {}, None),
}  # fmt: skip


@pytest.mark.parametrize(("registry", "key", "entry", "wanted"), ENTRIES.values(), ids=ENTRIES)
async def test_stored_credentials_are_found(
    home: Home, registry: str, key: str, entry: Any, wanted: tuple[str, str, bool] | None
) -> None:
    found = await home.config({"auths": {key: entry}}).open().lookup(registry)
    assert (None if found is None else (found.username, found.secret, found.identity)) == wanted
    assert SECRET not in repr(found)


async def test_without_configuration_nobody_is_logged_in(home: Home, tmp_path: Path) -> None:
    assert await home.open().lookup("r.example") is None
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"auths": {"r.example": {"auth": encoded("me:x")}}}))
    assert await home.open(DOCKER_CONFIG=str(other)).lookup("r.example") is not None


UNUSABLE: list[Any] = [
    b"", b"[]", b"{", b"\xff", b" " * (2 << 20), {"credHelpers": []}, {"credsStore": "../sh"},
    {"auths": {"r.example": {"auth": "%%%"}}}, {"auths": {"r.example": {"auth": encoded("nocolon")}}},
]  # fmt: skip


@pytest.mark.parametrize("raw", UNUSABLE)
async def test_a_configuration_that_cannot_be_used_is_named(home: Home, raw: Any) -> None:
    with pytest.raises(CredentialsError, match=r"config\.json"):
        await home.config(raw).open().lookup("r.example")


async def test_a_helper_answers_for_its_registry(home: Home) -> None:
    answer = json.dumps({"ServerURL": "r.example", "Username": "me", "Secret": SECRET})
    home.config({"credHelpers": {"r.example": "test"}}).helper(f"echo '{answer}'")
    found = await home.open().lookup("r.example")
    assert found is not None
    assert (found.username, found.secret, found.identity) == ("me", SECRET, False)
    assert home.asked() == ["get r.example"]
    assert await home.open().lookup("another.example") is None


async def test_the_store_is_asked_for_everything_else_and_tokens_are_known(home: Home) -> None:
    answer = json.dumps({"Username": "<token>", "Secret": SECRET})
    home.config({"credsStore": "test"}).helper(f"echo '{answer}'")
    found = await home.open().lookup("docker.io")
    assert found is not None
    assert found.identity
    assert home.asked() == ["get https://index.docker.io/v1/"]


async def test_a_helper_that_knows_nothing_is_no_error(home: Home) -> None:
    home.config({"credsStore": "test"}).helper("echo 'credentials not found in native keychain'; exit 1")
    assert await home.open().lookup("r.example") is None
    assert "get https://r.example" in home.asked()


FAULTS = {
    "fails": f"echo {SECRET}; exit 3",
    "no JSON": f"echo {SECRET}",
    "no secret": 'echo \'{"Username": "me"}\'',
    "floods": "yes",
}


@pytest.mark.parametrize("body", FAULTS.values(), ids=FAULTS)
async def test_a_helper_that_misbehaves_is_named_without_what_it_said(home: Home, body: str) -> None:
    home.config({"credsStore": "test"}).helper(body)
    with pytest.raises(CredentialsError, match="docker-credential-test") as caught:
        await home.open().lookup("r.example")
    assert SECRET not in str(caught.value)


async def test_a_helper_that_is_not_installed_is_named(home: Home) -> None:
    with pytest.raises(CredentialsError, match="not in PATH"):
        await home.config({"credHelpers": {"r.example": "absent"}}).open().lookup("r.example")


async def test_a_helper_that_hangs_is_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.credentials._HELPER_S", 0.2)
    home.config({"credsStore": "test"}).helper("exec sleep 60")
    with pytest.raises(CredentialsError, match="did not answer"):
        await home.open().lookup("r.example")


CHALLENGES: dict[str, list[tuple[str, dict[str, str]]]] = {
    'Bearer realm="https://a/t",service="s, t",scope="repository:x:pull,push"': [
        ("bearer", {"realm": "https://a/t", "service": "s, t", "scope": "repository:x:pull,push"})
    ],
    'Basic realm="a \\"quoted\\" name"': [("basic", {"realm": 'a "quoted" name'})],
    "Negotiate, Basic realm=plain , Bearer realm=x": [
        ("negotiate", {}), ("basic", {"realm": "plain"}), ("bearer", {"realm": "x"})
    ],
    "": [],
    '"': [],
}  # fmt: skip


@pytest.mark.parametrize("header", CHALLENGES)
def test_challenges_are_read(header: str) -> None:
    assert [(c.scheme, c.parameters) for c in parse_challenges([header])] == CHALLENGES[header]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=3))
def test_no_header_makes_the_reader_raise(headers: list[str]) -> None:
    parse_challenges(headers)
