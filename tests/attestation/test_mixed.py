"""One manifest for SEV-SNP and TDX nodes, from `set` over pods and the Initializer to an audit without the Coordinator.

Nothing of the way is replaced: HTTP, TLS, ledger, commands and dcap-qvl are the real ones, and every binding and policy
digest is what it is in earnest. Made up are the two vendors; their roots stand where AMD's and Intel's are pinned.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from attestation.collateral import amd
from attestation.collateral.endorse import Endorser
from attestation.evidence import Evidence, Kind
from attestation.reference import SnpReferenceValues
from attestation.simulated.processor import Guest
from attestation.snp import endorsed
from attestation.snp.anchors import AMD_ROOTS, Anchor
from attestation.snp.products import pack_tcb
from coordinator.events import AttestationAccepted, decode_event
from coordinator.settings import Limits
from initializer import __main__ as initializer_program
from initializer import run as initializer
from initializer.settings import parse_settings
from tests.support.cli_world import LiveCoordinator, World, live_coordinator
from tests.support.coordinator import coordinator
from tests.support.deployment import (
    COORDINATOR_POLICY,
    MEASUREMENT,
    VAULT_POLICY,
    WEB_POLICY,
    Deployment,
    Pod,
    digest,
    launch,
    vendor,
)
from tests.support.tdx_intel import TdxGuest, made_up_intel, trusting
from tests.support.vendor_services import Service, amd_only, endorsing, intel_only, load_pccs, serving
from wire.bundle import parse_bundle
from wire.client import CoordinatorClient
from wire.evidence import to_message
from wire.extensions import read_claims
from wire.problem import RemoteRefusedError
from wire.routes import Port


class Source(Protocol):
    """A guest, whatever processor it runs on."""

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence about 64 bytes."""


class SnpGuest:
    """A guest of the simulated processor that passes for one of AMD's, since its vendor's root is pinned."""

    def __init__(self, policy: bytes) -> None:
        self._guest: Guest = launch(policy)

    def evidence(self, report_data: bytes) -> Evidence:
        return Evidence.make(Kind.SNP, dict(self._guest.evidence(report_data).parts))


@dataclass
class BareIssuer:
    """A guest whose host gives no certificates, as an Azure guest's; *endorser* asks for them."""

    guest: Source
    endorser: Endorser | None
    kind: Kind = Kind.SNP

    async def issue(self, report_data: bytes) -> Evidence:
        report = self.guest.evidence(report_data).part("report") or b""
        evidence = Evidence.make(Kind.SNP, {"report": report})
        return evidence if self.endorser is None else await self.endorser.complete(evidence)


class NodeIssuer:
    """An issuer in front of a guest in this process."""

    def __init__(self, guest: Source, kind: Kind) -> None:
        self._guest = guest
        self.kind = kind

    async def issue(self, report_data: bytes) -> Evidence:
        return self._guest.evidence(report_data)


def guest_on(kind: Kind, policy: bytes, **changes: Any) -> Source:
    return SnpGuest(policy) if kind is Kind.SNP else TdxGuest(made_up_intel(), digest(policy), **changes)


def pod_on(kind: Kind, policy: bytes, **changes: Any) -> Pod:
    return Pod(guest=guest_on(kind, policy, **changes))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _pinned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The made-up vendors' roots where AMD's and Intel's are."""
    anchor = Anchor(vendor().fingerprint, vendor().spki_fingerprint)
    monkeypatch.setattr(endorsed, "AMD_ROOTS", {**AMD_ROOTS, vendor().product.chain: anchor})
    with trusting(made_up_intel()):
        yield


def deployment() -> Deployment:
    snp = SnpReferenceValues(
        platform="Metal-QEMU-SNP",
        product_name=vendor().product.name,
        trusted_measurement=MEASUREMENT,
        minimum_tcb=vendor().chip.tcb,
    )
    return Deployment(values=(snp, made_up_intel().values()))  # type: ignore[arg-type]


@contextmanager
def deployed(root: Path, kind: Kind) -> Iterator[tuple[World, LiveCoordinator]]:
    """A Coordinator on a node of *kind*, with the mixed manifest set and verified by the commands."""
    with live_coordinator(issuer=NodeIssuer(guest_on(kind, COORDINATOR_POLICY), kind)) as live:
        world = World(root)
        world.deploy(deployment())
        world.ok("set", "-c", live.address, "-m", "manifest.json", "deployment")
        yield world, live


def refused(live: LiveCoordinator, pod: Pod) -> str:
    with pytest.raises(RemoteRefusedError) as error:
        live.issue(pod)
    return f"{error.value.problem.code}: {error.value.problem.detail}"


def accepted(live: LiveCoordinator) -> list[AttestationAccepted]:
    log = live.running.service.ledger
    events = (decode_event(log.entry(seq))[0] for seq in range(log.size))
    return [event for event in events if isinstance(event, AttestationAccepted)]


@pytest.mark.parametrize("node", [Kind.SNP, Kind.TDX])
def test_pods_of_both_kinds_get_certificates_and_everybody_comes_to_the_same_verdicts(
    tmp_path: Path, node: Kind
) -> None:
    """If this failed, a cluster of nodes by both vendors could not be one deployment."""
    with deployed(tmp_path, node) as (world, live):
        claims = []
        for kind, policy in ((Kind.SNP, WEB_POLICY), (Kind.TDX, WEB_POLICY), (Kind.TDX, VAULT_POLICY)):
            leaf = parse_bundle(live.issue(pod_on(kind, policy)).bundle).leaf
            claims.append(read_claims(x509.load_der_x509_certificate(leaf)))
        assert [(claim["kind"], claim["host_data"]) for claim in claims] == [
            ("snp", digest(WEB_POLICY).hex()),
            ("tdx", digest(WEB_POLICY).hex()),
            ("tdx", digest(VAULT_POLICY).hex()),
        ]
        assert [event.evidence[0] for event in accepted(live)] == ["snp", "tdx", "tdx"]
        assert refused(live, pod_on(Kind.TDX, b"a policy that nobody named")).startswith("unknown_policy")
        assert refused(live, pod_on(Kind.SNP, b"a policy that nobody named")).startswith("unknown_policy")
        stranger = Pod(guest=TdxGuest(made_up_intel("other"), digest(WEB_POLICY)))  # type: ignore[arg-type]
        assert "(trust-anchor)" in refused(live, stranger)
        world.ok("verify", "-c", live.address, "-m", "manifest.json", "--full")
    # The Coordinator is gone: what is left is its exported ledger.
    judged = world.ok("ledger", "verify", "verify/ledger")
    assert "tdx" in world.ok("ledger", "show", "verify/ledger").output
    assert judged.exit_code == 0


def test_the_initializer_on_a_tdx_node_gets_its_files(tmp_path: Path) -> None:
    """Its own evidence is TDX, the Coordinator's that it judges is SEV-SNP."""
    with deployed(tmp_path, Kind.SNP) as (_, live):

        async def no_sleep(_: float) -> None:
            raise AssertionError("there was nothing to wait for")

        world = initializer.World(
            connect=lambda: CoordinatorClient(f"127.0.0.1:{live.running.server.ports[Port.MESH]}"),
            source=NodeIssuer(guest_on(Kind.TDX, VAULT_POLICY), Kind.TDX),
            clock=lambda: datetime.now(UTC),
            sleep=no_sleep,
            chance=lambda: 0.0,
        )
        folder = tmp_path / "tls"
        live.call(initializer.Initializer(world, folder).once())
        assert {"certChain.pem", "key.pem", "workload-secret"} <= {path.name for path in folder.iterdir()}


async def answers(live: LiveCoordinator, pod: Pod, service: Service) -> Any:
    """Let *pod* ask a Coordinator that completes evidence from *service*."""
    async with serving(service) as pccs, endorsing(intel_only, pccs) as endorser:
        live.running.service.kernel.world = with_endorser(live, endorser)
        async with live.running.client(Port.MESH) as client:
            challenge = await client.challenge()
            return await client.certificate(pod.request(challenge.nonce))


def with_endorser(live: LiveCoordinator, endorser: Endorser) -> Any:
    world = live.running.service.kernel.world
    return type(world)(
        issuer=world.issuer,
        threads=world.threads,
        clock_ms=world.clock_ms,
        monotonic_ms=world.monotonic_ms,
        workers=world.workers,
        endorser=endorser,
    )


def test_a_bare_quote_is_completed_from_a_pccs_and_recorded_whole(tmp_path: Path) -> None:
    with deployed(tmp_path, Kind.TDX) as (_, live):
        service = Service()
        load_pccs(service, made_up_intel().collateral)
        pod = pod_on(Kind.TDX, WEB_POLICY, is_bare=True, framing="td15")
        assert live.call(answers(live, pod, service)).bundle
        (event,) = accepted(live)
        assert [role for role, _ in event.evidence[1]] == ["collateral", "quote"]
        assert set(service.asked.values()) == {1}


# --- An Initializer in an Azure guest: the machine's own service, then the Coordinator


def pem(*certificates: bytes) -> bytes:
    return b"".join(
        x509.load_der_x509_certificate(raw).public_bytes(serialization.Encoding.PEM) for raw in certificates
    )


def thim_answer() -> bytes:
    """What Azure's service says on a machine of the made-up vendor, in the published shape."""
    chain = vendor()
    document = {
        "vcekCert": pem(chain.chip.certificate).decode(),
        "tcbm": pack_tcb(chain.chip.tcb, chain.product)[::-1].hex().upper(),
        "certificateChain": pem(chain.intermediate, chain.root).decode(),
        "cacheControl": "86400",
    }
    return json.dumps(document).encode()


@contextmanager
def completing(live: LiveCoordinator, service: Service) -> Iterator[str]:
    """The Coordinator asks *service*, which listens at the URL that this gives, for what evidence lacks."""
    stack = AsyncExitStack()

    async def begin() -> str:
        await stack.enter_async_context(serving(service))
        endorser = await stack.enter_async_context(endorsing(amd_only, service))
        live.running.service.kernel.world = with_endorser(live, endorser)
        return service.url

    yield live.call(begin())
    live.call(stack.aclose())


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("works", [True, False], ids=["THIM", "THIM is down"])
def test_a_bare_report_gets_its_certificates_from_the_machine_or_else_by_the_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, works: bool
) -> None:
    """A pod in Azure would stay without a certificate, or every pod would ask AMD."""
    chain, service, guest = vendor(), Service(), SnpGuest(WEB_POLICY)
    vcek = amd.vcek_address("", chain.product, chain.chip.chip_id.ljust(64, b"\0"), chain.chip.tcb)
    service.add("/vcek/v1/Milan/crl", chain.crl)
    if works:
        service.add("/thim", thim_answer())
    else:
        service.add(vcek, chain.chip.certificate)
        service.add("/vcek/v1/Milan/cert_chain", pem(chain.intermediate, chain.root))

    def find(_: object, *, endorser: Endorser | None) -> BareIssuer:
        assert endorser is not None
        return BareIssuer(guest, endorser)

    monkeypatch.setattr(initializer_program, "find_issuer", find)

    with deployed(tmp_path, Kind.SNP) as (_, live), completing(live, service) as url:
        environ = {
            "COORDINATOR_HOST": f"127.0.0.1:{live.running.server.ports[Port.MESH]}",
            "CONTRAST_TLS_DIR": str(tmp_path / "tls"),
            "CONTRAST_AZURE_THIM": f"{url}/thim",
        }
        settings = parse_settings(["--attempts", "1"], environ)
        assert asyncio.run(initializer_program.start(settings, environ)) == 0
        (event,) = accepted(live)
        assert {"vek", "root", "crl"} <= {role for role, _ in event.evidence[1]}
    assert (tmp_path / "tls" / "certChain.pem").is_file()
    # The list is the Coordinator's to fetch in any case; the chip's certificate only where the machine did not give it.
    assert service.asked["/thim"] == 1
    assert service.asked["/vcek/v1/Milan/crl"] == 1
    assert service.asked[vcek] == (0 if works else 1)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
async def test_two_hundred_pods_that_start_at_once_get_certificates_and_amd_is_asked_once() -> None:
    """Over the whole way: 200 bare reports through the Coordinator's port while nothing is cached anywhere."""
    chain, service = vendor(), Service()
    service.add("/vcek/v1/Milan/crl", chain.crl)
    vcek = amd.vcek_address("", chain.product, chain.chip.chip_id.ljust(64, b"\0"), chain.chip.tcb)
    service.add(vcek, chain.chip.certificate)
    service.add("/vcek/v1/Milan/cert_chain", pem(chain.intermediate, chain.root))
    issuer, many = NodeIssuer(SnpGuest(COORDINATOR_POLICY), Kind.SNP), 200
    limits = Limits(requests_per_peer=2 * many)  # All of them come from one address here.
    async with (
        coordinator(issuer=issuer, limits=limits) as running,
        serving(service),
        endorsing(amd_only, service) as endorser,
    ):
        _, statement = await running.statement()
        async with running.client() as owner:
            await owner.set_manifest(deployment().request(statement.origin or ""))
        kernel = running.service.kernel
        kernel.world = replace(kernel.world, endorser=endorser)

        async def pod(client: CoordinatorClient) -> bytes:
            guest = pod_on(Kind.SNP, WEB_POLICY)
            nonce = (await client.challenge()).nonce
            report = guest.guest.evidence(guest.binding(nonce)).part("report") or b""
            bare = to_message(Evidence.make(Kind.SNP, {"report": report}))
            return (await client.certificate(guest.request(nonce, evidence=bare))).bundle

        async with running.client(Port.MESH) as client:
            bundles = await asyncio.gather(*(pod(client) for _ in range(many)))
    assert len(set(bundles)) == many
    assert set(service.asked.values()) == {1}
    assert len(service.asked) == 3  # The chip's certificate, the chain, the list.
