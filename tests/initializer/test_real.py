"""Initializer and Coordinator together, over TLS, with simulated hardware: the genuine path, and a host in between."""

import asyncio
import copy
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from coordinator.witnessing import Witnessing
from initializer.errors import LocalFaultError, RefusedError, WrongAnswerError
from initializer.run import Initializer, World
from ledger.memory import MemoryStore
from ledger.policyfile import parse_policy
from tests.coordinator.test_evidence import until
from tests.coordinator.test_witnesses import know
from tests.support.acts import recover, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import VAULT_POLICY, WEB_POLICY, Deployment, GuestIssuer, launch
from tests.support.witnesses import running_witness
from wire.bundle import parse_bundle
from wire.client import CoordinatorClient
from wire.extensions import read_companions
from wire.messages import CertificateRequest, CertificateResponse
from wire.routes import Port
from wire.sealing import secret_check
from wire.witnesses import WitnessClient

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


async def test_a_renewing_pod_takes_nothing_from_an_older_copy_of_the_ledger(tmp_path: Path) -> None:
    """The host puts yesterday's storage back; the pods that have seen today's notice it by themselves."""
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        yesterday = copy.deepcopy(store)
        initializer = Initializer(world(running, WEB_POLICY), tmp_path)
        for _ in range(4):
            await initializer.once()
        head = initializer._head
        assert head is not None
        kept = (tmp_path / "certChain.pem").read_bytes()
    async with coordinator(yesterday) as running:
        await recover(running, shares)
        initializer.world = world(running, WEB_POLICY)
        with pytest.raises(RefusedError, match="head_mismatch"):
            await initializer.once()
        # Nothing was issued for it; that somebody knows a longer ledger is recorded as a refusal.
        assert running.service.state.certificates == 0
        await until(lambda: running.service.state.refused == 1)
        assert set(running.service.state.refusals) == {"head_mismatch"}
        # Grown past the pod's head it is still another history, and its proof leads nowhere.
        while running.service.ledger.size <= head.size:
            await Initializer(world(running, WEB_POLICY), tmp_path / "other").once()
        with pytest.raises(WrongAnswerError, match="check 10"):
            await initializer.once()
    assert (tmp_path / "certChain.pem").read_bytes() == kept


async def test_a_restarted_initializer_remembers_the_ledger_of_its_files(tmp_path: Path) -> None:
    """One wrong answer ends the process. The next one knew nothing, and took an older copy, or another ledger."""
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        yesterday = copy.deepcopy(store)
        for _ in range(3):
            await Initializer(world(running, WEB_POLICY), tmp_path).once()  # Each one a process of its own.
        kept = (tmp_path / "certChain.pem").read_bytes()
    async with coordinator(yesterday) as running:
        await recover(running, shares)
        with pytest.raises(RefusedError, match="head_mismatch"):
            await Initializer(world(running, WEB_POLICY), tmp_path).once()
    async with deployed() as elsewhere:
        for _ in range(4):
            await Initializer(world(elsewhere, WEB_POLICY), tmp_path / "other").once()
        with pytest.raises(WrongAnswerError, match=r"check 10.*delete the pod"):
            await Initializer(world(elsewhere, WEB_POLICY), tmp_path).once()
    assert (tmp_path / "certChain.pem").read_bytes() == kept


async def test_a_receipt_that_somebody_broke_is_no_licence_to_forget(tmp_path: Path) -> None:
    async with deployed() as running:
        (tmp_path / "cert.tlog-proof").write_bytes(b"c2sp.org/tlog-proof@v1\n")
        with pytest.raises(LocalFaultError, match="no receipt"):
            await Initializer(world(running, WEB_POLICY), tmp_path).once()


async def test_what_is_no_file_in_place_of_the_receipt_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe in its place, which only the node can make, held the pod up for ever and said nothing."""
    async with deployed() as running:
        os.mkfifo(tmp_path / "cert.tlog-proof")
        with pytest.raises(LocalFaultError, match="no receipt"):
            await Initializer(world(running, WEB_POLICY), tmp_path).once()
        (tmp_path / "cert.tlog-proof").unlink()
        (tmp_path / "cert.tlog-proof").symlink_to("/dev/zero")
        with pytest.raises(LocalFaultError, match="no receipt"):
            await Initializer(world(running, WEB_POLICY), tmp_path).once()


async def test_further_lines_under_a_checkpoint_disturb_no_pod(tmp_path: Path) -> None:
    """Cosignatures, the ledger's own under its own name among them, would cost every pod its certificate."""
    async with running_witness("w") as witness:
        policy = parse_policy((witness.line() + "quorum w\n").encode())
        witnessing = Witnessing(policy=policy, client=WitnessClient(timeout_s=5.0), strict=True, patience_s=20.0)
        async with coordinator(witnessing=witnessing) as running:
            await know(running, [witness])
            await set_manifest(running)
            initializer = Initializer(world(running, VAULT_POLICY), tmp_path)
            seen = set()
            for _ in range(20):  # The ledger's own cosignature is made once a second, and not for every receipt.
                await initializer.once()
                receipt = (tmp_path / "cert.tlog-proof").read_text()
                assert receipt.count("\N{EM DASH} w.example ") == 1
                seen.add(receipt.count("\N{EM DASH} contrast.invalid/"))
                if len(seen) > 1:
                    break
                await asyncio.sleep(0.3)
    assert seen == {2, 5}
