"""Initializer and Coordinator together, over TLS, with simulated hardware: the genuine path, and a host in between."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from initializer.errors import RefusedError, WrongAnswerError
from initializer.run import Initializer, World
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import VAULT_POLICY, WEB_POLICY, Deployment, GuestIssuer, launch
from wire.bundle import parse_bundle
from wire.client import CoordinatorClient
from wire.extensions import read_companions
from wire.messages import CertificateRequest, CertificateResponse
from wire.routes import Port
from wire.sealing import secret_check

Change = Callable[[CertificateResponse], CertificateResponse]


class HostInBetween(CoordinatorClient):
    """A client whose answers pass through the hands of a host."""

    change: Change = staticmethod(lambda answer: answer)

    async def certificate(self, request: CertificateRequest) -> CertificateResponse:
        return self.change(await super().certificate(request))


@asynccontextmanager
async def deployed() -> AsyncIterator[Running]:
    async with coordinator() as running:
        _, statement = await running.statement()
        assert statement.origin is not None
        async with running.client() as client:
            await client.set_manifest(Deployment().request(statement.origin))
        yield running


def world(running: Running, policy: bytes, change: Change | None = None) -> World:
    def connect() -> CoordinatorClient:
        client = HostInBetween(f"{running.host}:{running.server.ports[Port.MESH]}")
        if change is not None:
            client.change = change
        return client

    async def no_sleep(_: float) -> None:
        raise AssertionError("there was nothing to wait for")

    return World(
        connect=connect,
        source=GuestIssuer(launch(policy)),
        clock=lambda: datetime.now(UTC),
        sleep=no_sleep,
        chance=lambda: 0.0,
    )


def content(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith(".."))


async def test_a_pod_gets_a_certificate_and_the_secret_that_its_leaf_names(tmp_path: Path) -> None:
    async with deployed() as running:
        initializer = Initializer(world(running, VAULT_POLICY), tmp_path / "a")
        obtained = await initializer.once()
        again = await initializer.once()  # A renewal, with a proof that the ledger only grew.
    (secret,) = obtained.checked.secrets.values()
    assert obtained.checked.secrets == again.checked.secrets, "the secret of an id changes"
    assert again.checked.head.size > obtained.checked.head.size
    assert again.checked.leaf.public_key() != obtained.checked.leaf.public_key()
    assert list(read_companions(obtained.checked.leaf).secrets.values()) == [secret_check(secret)]
    assert (tmp_path / "a" / "workload-secret").read_text() == secret.hex() + "\n"
    names = obtained.checked.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["vault"]


async def test_a_policy_that_the_manifest_does_not_name_gets_nothing_and_is_told_its_digest(tmp_path: Path) -> None:
    unknown = b"package agent_policy\n# never set\n"
    async with deployed() as running:
        with pytest.raises(RefusedError, match=hashlib.sha256(unknown).hexdigest()):
            await Initializer(world(running, unknown), tmp_path).once()
    assert content(tmp_path) == []


@pytest.mark.parametrize("part", ["leaf", "intermediate", "mesh_ca", "root_ca", "receipt", "sealed"])
async def test_a_part_of_another_genuine_answer_is_refused(part: str, tmp_path: Path) -> None:
    """The other pod's answer comes from another Coordinator for the CAs, from the same one for the rest."""
    kept: list[CertificateResponse] = []

    def keep(answer: CertificateResponse) -> CertificateResponse:
        kept.append(answer)
        return answer

    def swap(answer: CertificateResponse) -> CertificateResponse:
        other = kept[-1]
        if part == "sealed":
            return msgspec.structs.replace(answer, sealed=other.sealed)
        mine, theirs = parse_bundle(answer.bundle), parse_bundle(other.bundle)
        fields = {name: getattr(mine, name) for name in ("leaf", "intermediate", "mesh_ca", "root_ca", "receipt")}
        mixed = type(mine)(**{**fields, part: getattr(theirs, part)})
        assert mixed != mine
        return msgspec.structs.replace(answer, bundle=mixed.pack())

    async with deployed() as running, deployed() as elsewhere:
        source = elsewhere if part in ("intermediate", "mesh_ca", "root_ca") else running
        await Initializer(world(source, VAULT_POLICY, keep), tmp_path / "other").once()
        with pytest.raises(WrongAnswerError):
            await Initializer(world(running, VAULT_POLICY, swap), tmp_path / "target").once()
    assert content(tmp_path / "target") == []


async def test_a_secret_withheld_or_given_to_a_pod_without_one_is_refused(tmp_path: Path) -> None:
    kept: list[CertificateResponse] = []

    def withhold(answer: CertificateResponse) -> CertificateResponse:
        kept.append(answer)
        return msgspec.structs.replace(answer, sealed=None)

    def give(answer: CertificateResponse) -> CertificateResponse:
        return msgspec.structs.replace(answer, sealed=kept[0].sealed)

    async with deployed() as running:
        for policy, change in ((VAULT_POLICY, withhold), (WEB_POLICY, give)):
            with pytest.raises(WrongAnswerError, match="check 8"):
                await Initializer(world(running, policy, change), tmp_path).once()
    assert content(tmp_path) == []
