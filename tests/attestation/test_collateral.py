"""Vendors' services on loopback, with what they really published: addresses, caches, failures, and no storms."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attestation import fetch
from attestation.collateral import amd, azure, intel
from attestation.collateral.endorse import Endorser, PodEndorser, Sources, is_complete
from attestation.collateral.shelf import Document, Shelf
from attestation.collateral.supply import Patience
from attestation.errors import CertificateError, CollateralError, EndorsementsMissingError, FetchError
from attestation.evidence import Evidence, Kind
from attestation.fetch import Fetcher
from attestation.snp.endorsement import OID_TCB, TCB_MICROCODE, EndorsementKind
from attestation.snp.products import GENOA, MILAN, PRODUCTS, SIENA, TURIN, Tcb
from tests.support.snp_vectors import Genuine, find, genuine_reports
from tests.support.tdx_vectors import find_quote
from tests.support.vendor import make_evidence, vendor_chain
from tests.support.vendor_services import (
    Service,
    Time,
    amd_only,
    endorsing,
    intel_only,
    load_pccs,
    serving,
    supplying,
)

LIMIT = 1000
PEM_END = "-----END CERTIFICATE-----\n"


def bare(report: Genuine) -> Evidence:
    return Evidence.make(Kind.SNP, {"report": report.report})


def load_kds(service: Service, vectors: Path, *reports: Genuine) -> None:
    """The chains as AMD serves them, one list, and the certificates of *reports* under the addresses of their chips."""
    for name in ("milan", "genoa", "turin"):
        for kind in ("vcek", "vlek"):
            pem = (vectors / f"snp/certs/{kind}-cert_chain-{name}.pem").read_bytes()
            service.add(f"/{kind}/v1/{name.capitalize()}/cert_chain", pem)
    service.add("/vcek/v1/Milan/crl", (vectors / "snp/crls/crl-milan-2023-05-09.der").read_bytes())
    for report in reports:
        facts = report.facts
        tcb = facts["reported_tcb"]
        fmc = f"fmcSPL={tcb['fmc']:02}&" if facts["product"] == "Turin" else ""
        chip = facts["chip_id"][:16] if facts["product"] == "Turin" else facts["chip_id"].ljust(128, "0")
        query = f"{fmc}blSPL={tcb['bl']:02}&teeSPL={tcb['tee']:02}&snpSPL={tcb['snp']:02}&ucodeSPL={tcb['ucode']:02}"
        service.add(f"/vcek/v1/{facts['product']}/{chip}?{query}", report.vek)


# --- Addresses


def test_addresses_follow_the_products_own_layout() -> None:
    chip = bytes(range(8)) + bytes(56)
    milan = amd.vcek_address(amd.SERVICE, PRODUCTS[MILAN], chip, Tcb(bootloader=4, tee=0, snp=24, microcode=219))
    assert milan == f"{amd.SERVICE}/vcek/v1/Milan/{chip.hex()}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
    turin = amd.vcek_address("http://x/", PRODUCTS[TURIN], chip, Tcb(fmc=1, bootloader=1, tee=1, snp=4, microcode=71))
    assert turin == "http://x/vcek/v1/Turin/0001020304050607?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=71"
    assert amd.chain_address("http://x", PRODUCTS[SIENA], EndorsementKind.VLEK) == "http://x/vlek/v1/Genoa/cert_chain"
    assert amd.crl_address("http://x", PRODUCTS[GENOA], EndorsementKind.VCEK) == "http://x/vcek/v1/Genoa/crl"


def test_sources_are_the_vendors_own_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    assert Sources.of({}) == Sources(amd=amd.SERVICE, intel=intel.SERVICE)
    assert Sources.of({"CONTRAST_AMD_KDS": "off", "CONTRAST_INTEL_PCCS": "https://pccs:8081"}) == Sources(
        amd=None, intel="https://pccs:8081"
    )
    assert Sources.of({"CONTRAST_AZURE_THIM": "on"}).thim == azure.SERVICE
    assert Sources.of({"CONTRAST_COLLATERAL_CACHE": str(tmp_path)}).directory == tmp_path


# --- Completing evidence


async def test_a_bare_report_of_every_product_is_completed_and_accepted(vectors: Path) -> None:
    """Family and model, or for version 2 the chip id and one question more, say whom to ask for what."""
    reports = [report for report in genuine_reports(vectors) if report.facts["key"] == "VCEK"]
    done = set()
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors, *reports)
        for report in reports:
            if "DEBUG" in report.facts["notes"] or not any(report.parsed.chip_id):
                continue
            evidence = await endorser.complete(bare(report))
            # The one published list is too old for most of them; its own test judges with it.
            without = Evidence.make(Kind.SNP, {role: data for role, data in evidence.parts if role != "crl"})
            verdict = report.judge(without)
            assert verdict.accepted, (report.facts["file"], verdict.failures)
            done.add((report.product, report.parsed.version))
    assert {product for product, _ in done} == {"Milan", "Genoa", "Siena", "Turin"}


async def test_a_version_2_report_of_genoa_costs_one_question_to_milan(vectors: Path) -> None:
    report = find(vectors, "02")
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors)
        with pytest.raises(EndorsementsMissingError, match="answered 404"):
            await endorser.complete(bare(report))
        assert [path.split("/")[3] for path in service.asked] == ["Milan", "Genoa"]


async def test_what_came_along_is_kept_and_only_the_rest_is_asked_for(vectors: Path) -> None:
    report = find(vectors, "20")
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors)
        evidence = await endorser.complete(report.evidence())
        assert dict(service.asked) == {"/vcek/v1/Milan/crl": 1}
        assert evidence.part("vek") == report.vek
        assert is_complete(evidence)
        evidence = await endorser.complete(Evidence.make(Kind.SNP, {"report": report.report, "vek": report.vek}))
        assert evidence.part("root") == report.root
        assert dict(service.asked) == {"/vcek/v1/Milan/crl": 1, "/vcek/v1/Milan/cert_chain": 1}


@pytest.mark.parametrize("other", ["21", "re-issued"])
async def test_a_hosts_certificate_of_another_chip_or_tcb_is_asked_for_anew(vectors: Path, other: str) -> None:
    """A host that was updated and goes on handing out its old certificate would have all its guests refused."""
    report = find(vectors, "20")
    stale = find(vectors, "21").vek if other == "21" else older(report.vek)
    old = report.evidence(vek=stale)
    assert not is_complete(old)
    assert not report.judge(old).accepted
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors, report)
        evidence = await endorser.complete(old)
        assert evidence.part("vek") == report.vek
        assert is_complete(evidence)
    async with serving() as service, endorsing(amd_only, service) as endorser:
        with pytest.raises(EndorsementsMissingError, match="no VCEK for this chip and TCB"):
            await endorser.complete(old)
    async with serving() as service, endorsing(lambda _: Sources(amd=None, intel=None), service) as endorser:
        assert (await endorser.complete(old)).part("vek") == stale


@pytest.mark.parametrize("role", ["intermediate", "root"])
async def test_a_hosts_chain_that_is_none_is_asked_for_anew(vectors: Path, role: str) -> None:
    """Whatever stands in a host's table, a question to the vendor mends it."""
    report, other = find(vectors, "20"), find(vectors, "52")
    swapped = report.root if role == "intermediate" else report.intermediate
    for wrong in (b"garbage", swapped, getattr(other, role)):
        bad = report.evidence(**{role: wrong})
        assert not is_complete(bad)
        assert not report.judge(bad).accepted
        async with serving() as service, endorsing(amd_only, service) as endorser:
            load_kds(service, vectors, report)
            evidence = await endorser.complete(bad)
            assert is_complete(evidence)
            assert (evidence.part("intermediate"), evidence.part("root")) == (report.intermediate, report.root)
        async with serving() as service, endorsing(lambda _: Sources(amd=None, intel=None), service) as endorser:
            assert (await endorser.complete(bad)).part(role) == wrong


def older(vek: bytes) -> bytes:
    """The certificate for the microcode before; nobody has looked at its signature yet when it is asked for."""
    part = OID_TCB + bytes((TCB_MICROCODE,))
    at = vek.index(part) + len(part) + 2
    assert vek[at : at + 3] == b"\x02\x02\x00"
    return vek[: at + 3] + bytes((vek[at + 3] - 1,)) + vek[at + 4 :]


async def test_a_list_from_the_vendor_replaces_one_that_came_along(vectors: Path) -> None:
    """Both lists are signed by the ARK, and nothing in them says which of the two it is."""
    report, foreign = find(vectors, "20"), (vectors / "snp/crls/crl-milan-2022-05-09.der").read_bytes()
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors)
        evidence = await endorser.complete(report.evidence(crl=foreign))
        assert evidence.part("crl") == (vectors / "snp/crls/crl-milan-2023-05-09.der").read_bytes()
        service.answers.clear()
    async with serving() as service, endorsing(amd_only, service) as endorser:
        assert (await endorser.complete(report.evidence(crl=foreign))).part("crl") == foreign


async def test_a_vlek_is_asked_under_its_own_addresses(vectors: Path) -> None:
    report = find(vectors, "45")
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors)
        evidence = await endorser.complete(Evidence.make(Kind.SNP, {"report": report.report, "vek": report.vek}))
        assert evidence.part("intermediate") == report.intermediate
        assert set(service.asked) == {"/vlek/v1/Milan/cert_chain", "/vlek/v1/Milan/crl"}
        with pytest.raises(EndorsementsMissingError, match="only the host has"):
            await endorser.complete(bare(report))


async def test_simulated_evidence_asks_nobody() -> None:
    evidence = make_evidence(vendor_chain(), bytes(64))
    async with serving() as service, endorsing(amd_only, service) as endorser:
        assert await endorser.complete(evidence) is evidence
        assert not service.asked


async def test_a_stranger_makes_nobody_ask_with_bytes_that_are_no_report() -> None:
    async with serving() as service, endorsing(amd_only, service) as endorser:
        for raw in (b"x", bytes(1184)):
            evidence = Evidence.make(Kind.SNP, {"report": raw})
            assert await endorser.complete(evidence) == evidence
        torn = Evidence.make(Kind.TDX, {"quote": b"x"})
        assert await endorser.complete(torn) == torn
        assert not service.asked


@pytest.mark.parametrize("sources", [Sources(amd=None, intel=None)])
async def test_who_asks_nobody_says_what_is_missing(vectors: Path, sources: Sources) -> None:
    async with supplying() as supply:
        endorser = Endorser(supply, sources)
        with pytest.raises(EndorsementsMissingError, match="CONTRAST_AMD_KDS is off"):
            await endorser.complete(bare(find(vectors, "20")))
        quote = find_quote(vectors, "go-tdx-guest-cf77a6e9")
        with pytest.raises(EndorsementsMissingError, match="CONTRAST_INTEL_PCCS is off"):
            await endorser.complete(quote.evidence(None))


# --- Storms, failures, caches


async def test_two_hundred_pods_ask_once_for_a_chip_and_its_tcb(vectors: Path) -> None:
    report = find(vectors, "20")
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors, report)
        answers = await asyncio.gather(*(endorser.complete(bare(report)) for _ in range(200)))
        assert len(set(answers)) == 1
        assert set(service.asked.values()) == {1}
        assert len(service.asked) == 3  # Certificate, chain, list.


async def test_two_hundred_pods_share_one_failure(vectors: Path) -> None:
    report, time = find(vectors, "20"), Time()
    async with serving(Service(failing=10_000)) as service, endorsing(amd_only, service, time) as endorser:
        results = await asyncio.gather(*(endorser.complete(bare(report)) for _ in range(200)), return_exceptions=True)
        assert all(isinstance(result, EndorsementsMissingError) for result in results)
        assert sum(service.asked.values()) == 4  # The tries of one request.
        time.now_s += 60
        service.failing = 0
        load_kds(service, vectors, report)
        assert is_complete(await endorser.complete(bare(report)))


async def test_a_busy_service_is_asked_again_with_growing_pauses() -> None:
    time = Time()
    async with serving(Service(failing=3)) as service, supplying(time) as supply:
        service.add("/x", b"y")
        assert (await supply.lasting(f"{service.url}/x", limit=LIMIT)).body == b"y"
        assert time.slept == sorted(time.slept)
        assert time.slept[0] >= 1  # It asked for a second.


async def test_what_waiting_does_not_mend_is_tried_once() -> None:
    time = Time()
    async with serving() as service, supplying(time) as supply:
        with pytest.raises(FetchError, match="answered 404"):
            await supply.lasting(f"{service.url}/x", limit=LIMIT)
        with pytest.raises(FetchError, match="not asked again yet"):
            await supply.lasting(f"{service.url}/x", limit=LIMIT)
        assert service.asked["/x"] == 1
        assert time.slept == []


async def test_the_budget_holds_whoever_asks_for_what() -> None:
    time, patience = Time(), Patience(burst=3, refill_per_s=1, at_once=2)
    async with serving() as service, supplying(time, patience=patience) as supply:
        for number in range(10):
            service.add(f"/{number}", b"y")
        results = await asyncio.gather(
            *(supply.lasting(f"{service.url}/{number}", limit=LIMIT) for number in range(10)), return_exceptions=True
        )
        assert sum(isinstance(result, Document) for result in results) == 3
        assert sum(service.asked.values()) == 3
        time.now_s += 100
        assert (await supply.lasting(f"{service.url}/9", limit=LIMIT)).body == b"y"


async def test_a_request_that_is_given_up_leaves_the_next_one_free() -> None:
    """The first pod goes away; the others must not wait for it, nor fail with it."""
    gate = asyncio.Event()

    class Slow(Fetcher):
        async def get(self, url: str, **options: object) -> object:  # type: ignore[override]
            await gate.wait()
            return await super().get(url, **options)  # type: ignore[arg-type]

    async with serving() as service, supplying() as supply:
        service.add("/x", b"y")
        async with Slow(chance=lambda: 0.5) as slow:
            supply._fetcher = slow
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(supply.lasting(f"{service.url}/x", limit=LIMIT))
                second = tasks.create_task(supply.lasting(f"{service.url}/x", limit=LIMIT))
                await asyncio.sleep(0)
                first.cancel()
                gate.set()
            assert second.result().body == b"y"


async def test_a_list_is_asked_for_anew_and_the_old_one_serves_while_nobody_answers() -> None:
    time = Time()
    async with serving() as service, supplying(time) as supply:
        service.add("/crl", b"1")
        address = f"{service.url}/crl"
        assert (await supply.current(address, limit=LIMIT)).body == b"1"
        service.add("/crl", b"2")
        assert (await supply.current(address, limit=LIMIT)).body == b"1"  # A moment later: not asked.
        time.now_s += 400
        assert (await supply.current(address, limit=LIMIT)).body == b"2"
        time.now_s += 400
        service.failing = 100
        assert (await supply.current(address, limit=LIMIT)).body == b"2"
        assert time.slept == []  # Nobody is kept waiting for a newer one.
        assert service.asked["/crl"] == 3


async def test_a_restart_finds_what_was_fetched_before(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    async with serving() as service:
        service.add("/x", b"y", {"Chain": "c"})
        for _ in range(2):
            async with supplying(directory=directory) as supply:
                document = await supply.lasting(f"{service.url}/x", limit=LIMIT, notes=("chain",))
                assert (document.body, document.note) == (b"y", "c")
        assert service.asked["/x"] == 1
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.iterdir())


def test_a_damaged_or_foreign_file_is_no_document(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put("a", Document(b"body", "", 5))
    shelf.put("b", Document(b"other", "", 5))
    (path,) = [path for path in tmp_path.iterdir() if b"body" in path.read_bytes()]
    (other,) = [file for file in tmp_path.iterdir() if file != path]
    assert Shelf(tmp_path).get("a") == Document(b"body", "", 5)
    for raw in (b"", b"\x95", path.read_bytes()[:-1], other.read_bytes()):
        path.write_bytes(raw)
        assert Shelf(tmp_path).get("a") is None


def test_a_disk_that_is_read_only_costs_its_place_there_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shelf = Shelf(tmp_path / "file" / "below")
    shelf.put("a", Document(b"body", "", 5))
    assert shelf.get("a") == Document(b"body", "", 5)


async def test_an_endless_answer_is_cut_and_a_redirect_not_followed() -> None:
    async with serving() as service, supplying() as supply:
        service.add("/long", bytes(5000))
        service.add("/away", b"", {"Location": "/long"}, status=302)
        with pytest.raises(FetchError, match="more than 1000 bytes"):
            await supply.lasting(f"{service.url}/long", limit=LIMIT)
        with pytest.raises(FetchError, match="answered 302"):
            await supply.lasting(f"{service.url}/away", limit=LIMIT)


async def test_nobody_listening_and_no_address_at_all_are_errors_in_words() -> None:
    async with supplying() as supply:
        with pytest.raises(FetchError, match="cannot be reached"):
            await supply.lasting("http://127.0.0.1:1/x", limit=LIMIT)
        with pytest.raises(FetchError):
            await supply.lasting("nonsense", limit=LIMIT)


async def test_a_proxy_gets_every_question() -> None:
    async with serving() as proxy, supplying(proxy=proxy.url) as supply:
        proxy.add("/vcek/v1/Milan/crl", b"through the proxy")
        document = await supply.lasting("http://kds.invalid/vcek/v1/Milan/crl", limit=LIMIT)
        assert document.body == b"through the proxy"


# --- Azure


async def test_azures_service_is_asked_first_and_believed_only_for_this_tcb(vectors: Path) -> None:
    raw = (vectors / "snp/misc/azure-thim-amd-certification-milan.json").read_bytes()
    said = azure.parse_thim(raw)
    report = next(each for each in genuine_reports(vectors) if each.vek == said.vek)
    async with serving() as service, supplying() as supply:
        service.add("/thim", raw)
        endorser = Endorser(supply, Sources(amd=None, intel=None, thim=f"{service.url}/thim"))
        evidence = await endorser.complete(bare(report))
        assert report.judge(evidence).accepted
        assert service.headers_seen[0]["Metadata"] == "true"
        with pytest.raises(EndorsementsMissingError):
            await endorser.complete(bare(find(vectors, "02")))


async def test_azures_certificate_of_another_chip_is_no_answer(vectors: Path) -> None:
    """A guest that was moved, or a Coordinator that completes another machine's report, must ask AMD instead."""
    raw = (vectors / "snp/misc/azure-thim-amd-certification-milan.json").read_bytes()
    said = azure.parse_thim(raw)
    report = next(each for each in genuine_reports(vectors) if each.vek == said.vek)
    moved = bytearray(report.report)
    moved[0x1A0] ^= 1
    async with serving() as service, supplying() as supply:
        service.add("/thim", raw)
        sources = Sources(amd=None, intel=None, thim=f"{service.url}/thim")
        evidence = Evidence.make(Kind.SNP, {"report": bytes(moved)})
        with pytest.raises(EndorsementsMissingError):
            await Endorser(supply, sources).complete(evidence)
        # A pod leaves to the Coordinator what it cannot get.
        assert await PodEndorser(supply, sources).complete(evidence) == evidence
        assert is_complete(await PodEndorser(supply, sources).complete(bare(report)))


def test_a_pod_asks_its_own_machine_and_whom_it_was_told_to() -> None:
    """If pods asked AMD of their own accord, 200 of them would at once, and each would need a way out."""
    assert Sources.of_pod({}) is None
    policy = {azure.VTPM_VARIABLE: "00" * 32}
    assert Sources.of_pod(policy) == Sources(amd=None, intel=None, thim=azure.SERVICE)
    assert Sources.of_pod({**policy, "CONTRAST_AZURE_THIM": "off"}) is None
    assert Sources.of_pod({"CONTRAST_AMD_KDS": "http://kds"}) == Sources(amd="http://kds", intel=None)
    assert Sources.of(policy).thim == azure.SERVICE


async def test_the_machines_own_service_is_asked_past_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert azure.SERVICE.startswith(fetch.LINK_LOCAL)
    async with serving() as proxy, serving() as service, supplying(proxy=proxy.url) as supply:
        service.add("/metadata", b"of this machine")
        monkeypatch.setattr(fetch, "LINK_LOCAL", service.url)  # No test speaks to what this machine may have there.
        assert (await supply.current(f"{service.url}/metadata", limit=LIMIT)).body == b"of this machine"
        assert not proxy.asked


@pytest.mark.parametrize(
    "change",
    [
        {"vcekCert": ""},
        {"vcekCert": 5},
        {"certificateChain": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"},
        {"tcbm": "DB18"},
        {"tcbm": "zz18000000000004"},
    ],
)
def test_an_answer_of_azures_of_another_shape_is_refused(vectors: Path, change: dict[str, object]) -> None:
    document = json.loads((vectors / "snp/misc/azure-thim-amd-certification-milan.json").read_bytes())
    with pytest.raises(CollateralError):
        azure.parse_thim(json.dumps({**document, **change}).encode())
    for raw in (b"", b"[]", b"{}", b"[" * 20_000, bytes(40_000)):
        with pytest.raises(CollateralError):
            azure.parse_thim(raw)


@pytest.mark.parametrize(
    ("said", "keep_s"),
    [(86400, 86400), ("3153600", 3153600), ("soon", None), (None, None), (-1, None), (True, None), (1e99, None)],
)
def test_how_long_azure_wants_its_answer_kept_costs_nobody_the_answer(
    vectors: Path, said: object, keep_s: int | None
) -> None:
    document = json.loads((vectors / "snp/misc/azure-thim-amd-certification-milan.json").read_bytes())
    assert azure.parse_thim(json.dumps({**document, "cacheControl": said}).encode()).keep_s == keep_s
    del document["cacheControl"]
    assert azure.parse_thim(json.dumps(document).encode()).keep_s is None


async def test_azures_chain_counts_in_either_order_and_with_either_line_end(vectors: Path) -> None:
    """Who takes the first certificate for the ASK whatever it is has every guest of such a machine refused."""
    document = json.loads((vectors / "snp/misc/azure-thim-amd-certification-milan.json").read_bytes())
    ask, ark = (f"{block}-----END CERTIFICATE-----\n" for block in document["certificateChain"].split(PEM_END)[:2])
    usual = azure.parse_thim(json.dumps(document).encode())
    report = next(each for each in genuine_reports(vectors) if each.vek == usual.vek)
    for chain in (ask + ark, ark + ask, ask.strip() + "\n\n" + ark.strip()):
        for end in ("\n", "\r\n"):
            changed = {
                "vcekCert": document["vcekCert"].replace("\n", end),
                "certificateChain": chain.replace("\n", end),
            }
            raw = json.dumps({**document, **changed}).encode()
            said = azure.parse_thim(raw)
            assert (said.vek, said.intermediate, said.root) == (usual.vek, report.intermediate, report.root)
            async with serving() as service, supplying() as supply:
                service.add("/thim", raw)
                endorser = Endorser(supply, Sources(amd=None, intel=None, thim=f"{service.url}/thim"))
                assert report.judge(await endorser.complete(bare(report))).accepted


async def test_a_key_services_chain_counts_in_either_order(vectors: Path) -> None:
    report = find(vectors, "20")
    blocks = (vectors / "snp/certs/vcek-cert_chain-milan.pem").read_bytes().split(b"-----END CERTIFICATE-----\n")[:2]
    turned = b"".join(block + b"-----END CERTIFICATE-----\n" for block in reversed(blocks))
    async with serving() as service, endorsing(amd_only, service) as endorser:
        load_kds(service, vectors, report)
        service.add("/vcek/v1/Milan/cert_chain", turned)
        evidence = await endorser.complete(bare(report))
        assert (evidence.part("intermediate"), evidence.part("root")) == (report.intermediate, report.root)


def test_chains_in_pem_are_read_strictly(vectors: Path) -> None:
    pem = (vectors / "snp/certs/vcek-cert_chain-milan.pem").read_bytes()
    intermediate, root = amd.parse_chain_answer(pem)
    assert root == (vectors / "snp/certs/ark-milan.der").read_bytes()
    assert intermediate == (vectors / "snp/certs/ask-milan.der").read_bytes()
    for broken in (b"", b"x" + pem, pem + b"x", pem + pem, pem.replace(b"MII", b"*II", 1), pem[: len(pem) // 2]):
        with pytest.raises(CertificateError):
            amd.parse_chain_answer(broken)


# --- Intel


async def test_collateral_of_a_quote_is_fetched_put_together_and_judged(vectors: Path) -> None:
    quote = find_quote(vectors, "go-tdx-guest-cf77a6e9")
    async with serving() as service, endorsing(intel_only, service) as endorser:
        load_pccs(service, quote.collateral("phala_outdated"))
        completed = await asyncio.gather(*(endorser.complete(quote.evidence(None)) for _ in range(50)))
        assert set(service.asked.values()) == {1}
        assert len(service.asked) == 4
        collateral = completed[0].part("collateral")
        verdict = quote.judge(collateral, datetime.fromtimestamp(1772707803, UTC))
        assert verdict.accepted, verdict.failures


@pytest.mark.parametrize("renamed", ["TCB-Info-Issuer-Chain", "SGX-Enclave-Identity-Issuer-Chain"])
async def test_a_pccs_that_names_its_headers_as_they_were_once_is_understood(vectors: Path, renamed: str) -> None:
    """A cache behind an older service has all of them, under the names of that service."""
    older = {
        "TCB-Info-Issuer-Chain": "SGX-TCB-Info-Issuer-Chain",
        "SGX-Enclave-Identity-Issuer-Chain": "SGX-QE-Identity-Issuer-Chain",
    }
    quote = find_quote(vectors, "go-tdx-guest-cf77a6e9")
    async with serving() as service, endorsing(intel_only, service) as endorser:
        load_pccs(service, quote.collateral("phala_outdated"))
        usual = await endorser.complete(quote.evidence(None))
        for path, (status, body, headers) in list(service.answers.items()):
            service.add(path, body, {older.get(name, name): value for name, value in headers.items()}, status=status)
        assert renamed not in {name for _, _, headers in service.answers.values() for name in headers}
    async with serving(service) as again, endorsing(intel_only, again) as endorser:
        assert await endorser.complete(quote.evidence(None)) == usual
        for path, (status, body, headers) in list(again.answers.items()):
            if older[renamed] in headers:
                # Today's name decides where both are there.
                again.add(path, body, {**headers, renamed: "x"}, status=status)
    async with serving(again) as both, endorsing(intel_only, both) as endorser:
        with pytest.raises(EndorsementsMissingError, match="holds no certificates"):
            await endorser.complete(quote.evidence(None))


async def test_an_answer_that_lacks_something_is_refused(vectors: Path) -> None:
    quote = find_quote(vectors, "go-tdx-guest-cf77a6e9")
    for path in ("pckcrl", "tcb?", "qe/identity", "rootcacrl"):
        async with serving() as service, endorsing(intel_only, service) as endorser:
            load_pccs(service, quote.collateral("phala_outdated"))
            (full,) = [each for each in service.answers if path in each]
            service.add(full, b"{}")
            with pytest.raises(EndorsementsMissingError, match="no collateral"):
                await endorser.complete(quote.evidence(None))


def test_intels_own_root_list_has_an_address_of_its_own() -> None:
    assert intel.root_crl_address(intel.SERVICE) == intel.ROOT_CRL
    assert intel.root_crl_address("https://pccs:8081/") == "https://pccs:8081/sgx/certification/v4/rootcacrl"
