"""Who we are to a registry: docker's ``config.json`` and the credential helpers it names; nothing is sent from here.

Helpers are external programs, ``docker-credential-NAME get``, with the registry's name on standard input and JSON on
standard output. No secret appears in a message, an argument list or a ``repr``.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from images.errors import CredentialsError

_MAX_CONFIG: Final = 1 << 20
_MAX_ANSWER: Final = 64 << 10
_HELPER_S: Final = 30.0
_LAST_S: Final = 5.0  # a killed helper is gone at once, unless a child of another session holds its pipe
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HUB_KEY: Final = "https://index.docker.io/v1/"  # Docker's old name for its own registry, in every config.json.
_IDENTITY: Final = "<token>"  # The user name by which helpers mark an identity token.


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name and password, or (``identity``) a token to be exchanged at the token server."""

    username: str
    secret: str = field(repr=False)
    identity: bool = False

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.secret}".encode()).decode()


class CredentialSource(Protocol):
    """Where credentials come from."""

    async def lookup(self, registry: str) -> Credentials | None:
        """The credentials for that registry (host and port), None where there are none; raises CredentialsError."""
        ...


class DockerConfig:
    """Docker's configuration, read when a registry first asks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """*environ* says where the configuration lies (``DOCKER_CONFIG``, ``HOME``), and helpers (``PATH``)."""
        self._environ = dict(environ)
        folder = environ.get("DOCKER_CONFIG")
        self.path = (Path(folder) if folder else Path(environ.get("HOME", "/")) / ".docker") / "config.json"

    async def lookup(self, registry: str) -> Credentials | None:
        """As the Protocol says: ``credHelpers``, then ``credsStore``, then ``auths``, as docker itself does."""
        config = self._read()
        helper = _named(config, "credHelpers", registry, self.path) or config.get("credsStore")
        if helper:
            return await self._ask(helper, registry)
        return self._stored(config, registry)

    def _read(self) -> dict[str, object]:
        try:
            with self.path.open("rb") as file:
                raw = file.read(_MAX_CONFIG + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CredentialsError(f"{self.path}: {error.strerror or error}") from error
        try:
            config = json.loads(raw) if len(raw) <= _MAX_CONFIG else None
        except (ValueError, RecursionError):
            config = None
        if not isinstance(config, dict):
            raise CredentialsError(f"{self.path} is no JSON object of at most {_MAX_CONFIG} bytes: repair or remove it")
        return config

    def _stored(self, config: dict[str, object], registry: str) -> Credentials | None:
        auths = config.get("auths")
        if not isinstance(auths, dict):
            return None
        for key in _keys(registry):
            entry = auths.get(key)
            if not isinstance(entry, dict) or not entry:
                continue
            if isinstance(token := entry.get("identitytoken"), str) and token:
                return Credentials(username=_IDENTITY, secret=token, identity=True)
            if isinstance(auth := entry.get("auth"), str) and auth:
                return self._decoded(auth, key)
            user, password = entry.get("username"), entry.get("password")
            if isinstance(user, str) and isinstance(password, str):
                return Credentials(username=user, secret=password)
        return None

    def _decoded(self, auth: str, key: str) -> Credentials:
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            user, colon, password = "", "", ""
        if not colon:
            raise CredentialsError(f"{self.path}: the entry of {key} is no base64 of user:password: log in again")
        return Credentials(username=user, secret=password.rstrip("\0"))

    async def _ask(self, helper: object, registry: str) -> Credentials | None:
        if not isinstance(helper, str) or not _HELPER_NAME.fullmatch(helper):
            raise CredentialsError(
                f"{self.path} names a credential helper {helper!r}: wanted letters, digits, '_', '-'"
            )
        name = f"docker-credential-{helper}"
        program = shutil.which(name, path=self._environ.get("PATH", os.defpath))
        if program is None:
            raise CredentialsError(f"{self.path} names {name} for {registry}, which is not in PATH: install it")
        for key in _keys(registry):
            answer = await self._run(program, name, key)
            if answer is not None:
                return _answered(answer, name, registry)
        return None

    async def _run(self, program: str, name: str, key: str) -> bytes | None:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                program, "get", stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=self._environ,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise CredentialsError(f"{name}: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(_HELPER_S):
                return await _converse(process, key, name)
        except TimeoutError:
            raise CredentialsError(f"{name} did not answer within {_HELPER_S:.0f} s") from None
        finally:
            # With its children: one that keeps the pipe open would be waited for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await _over(process)


async def _over(process: asyncio.subprocess.Process) -> None:
    """Wait for a process that was killed: its pipe is emptied first, since asyncio waits for the pipe as well."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_S):
            while process.stdout is not None and await process.stdout.read(_MAX_ANSWER):
                pass
            await process.wait()


async def _converse(process: asyncio.subprocess.Process, key: str, name: str) -> bytes | None:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both were asked for")
    try:
        process.stdin.write(key.encode())
        await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # It knows the answer without the question; its exit code tells.
    answer = await process.stdout.read(_MAX_ANSWER + 1)
    while len(answer) <= _MAX_ANSWER and (more := await process.stdout.read(_MAX_ANSWER + 1)):
        answer += more
    if len(answer) > _MAX_ANSWER:
        raise CredentialsError(f"{name} answers with more than {_MAX_ANSWER} bytes")
    if await process.wait() == 0:
        return answer
    # What it printed may hold a secret, so only the sentence of the protocol is looked for.
    if b"credentials not found" in answer:
        return None
    raise CredentialsError(f"{name} failed with exit code {process.returncode}: try it by hand, `{name} get`")


def _answered(answer: bytes, name: str, registry: str) -> Credentials | None:
    try:
        document = json.loads(answer)
        username, secret = document["Username"], document["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialsError(f"{name} does not answer with Username and Secret for {registry}")
    if not username and not secret:
        return None
    return Credentials(username=username, secret=secret, identity=username == _IDENTITY)


def _keys(registry: str) -> tuple[str, ...]:
    """The names under which docker files a registry's credentials."""
    if registry in {"docker.io", "registry-1.docker.io", "index.docker.io"}:
        return (_HUB_KEY, "docker.io", "index.docker.io")
    return (registry, f"https://{registry}", f"http://{registry}", f"https://{registry}/v2/", f"https://{registry}/")


def _named(config: dict[str, object], table: str, registry: str, path: Path) -> object:
    helpers = config.get(table)
    if helpers is None:
        return None
    if not isinstance(helpers, dict):
        raise CredentialsError(f"{path}: {table} is no object")
    return next((helpers[key] for key in _keys(registry) if key in helpers), None)
