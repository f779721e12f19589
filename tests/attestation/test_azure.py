"""Azure's confidential VMs: the paravisor's blob, a quote by its TPM, what must not pass; on swtpm where it is."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import run as run_program
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from attestation.azure.hcl import parse_hcl
from attestation.azure.issuer import QUOTED, AzureIssuer
from attestation.azure.tpm import (
    PCR_COUNT,
    POLICY_PCR,
    Transport,
    extended,
    parse_quote,
    parse_signature,
    pcr_digest,
    quote_extra,
)
from attestation.codec import pack
from attestation.errors import (
    HclError,
    IssueError,
    NoSecureProcessorError,
    ReferenceValueError,
    SimulatedBesideRealError,
    TpmError,
)
from attestation.evidence import Evidence, Kind, binding_of, host_data_of
from attestation.issuer import AZURE_VARIABLE, VARIABLE, find_issuer
from attestation.judge import ChainCache, judge
from attestation.reference import AzureReferenceValues, Pcr, SnpReferenceValues
from attestation.snp import anchors
from attestation.snp.anchors import Anchor
from attestation.verdict import Verdict
from audit.cases import Knowledge
from audit.known_now import Today
from tests.conftest import PROJECT
from tests.support.snp_vectors import find
from tests.support.swtpm import extend, hcl_blob, make_azure, swtpm
from tests.support.vendor import MEASUREMENT, NOW, reference_values, vendor_chain

POLICY, REPORT_DATA = b"\x50" * 32, b"\x52" * 64
ENTRY_PCR = 4


@pytest.fixture
def anchored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated vendor's root stands where AMD's does, since nobody but AMD can sign for AMD."""
    vendor = vendor_chain()
    monkeypatch.setitem(anchors.AMD_ROOTS, "Milan", Anchor(vendor.fingerprint, vendor.spki_fingerprint))


def snp_values(**changes: Any) -> SnpReferenceValues:
    return dataclasses.replace(
        reference_values(vendor_chain(), MEASUREMENT), trust_anchor=None, trust_anchor_spki=None, **changes
    )


def entry(**changes: Any) -> AzureReferenceValues:
    return AzureReferenceValues(snp=snp_values(**changes), pcrs=(Pcr(index=ENTRY_PCR, value=bytes(32)),))


class Tpm:
    """A TPM in Python, for what does not need a real one: signs quotes with a key of its own."""

    key = rsa.generate_private_key(65537, 2048)

    def __init__(self) -> None:
        self.pcrs = {index: bytes(32) for index in QUOTED} | {POLICY_PCR: extended(POLICY)}

    def quoted(self, extra: bytes) -> bytes:
        bits = sum(1 << index for index in self.pcrs)
        selection = b"\0\0\0\1\0\x0b\3" + bits.to_bytes(PCR_COUNT // 8, "little")
        body = b"\xffTCG\x80\x18" + b"\0\2na" + len(extra).to_bytes(2, "big") + extra + bytes(25)
        return body + selection + b"\0\x20" + pcr_digest(self.pcrs)

    def evidence(self, report_data: bytes = REPORT_DATA, **changes: bytes) -> Evidence:
        attest = changes.get("quote", self.quoted(quote_extra(report_data)))
        signature = self.key.sign(attest, padding.PKCS1v15(), SHA256())
        vendor = vendor_chain()
        parts = {
            "hcl": hcl_blob(self.key.public_key().public_numbers().n),
            "quote": attest,
            "signature": b"\0\x14\0\x0b" + len(signature).to_bytes(2, "big") + signature,
            "pcrs": pack([[index, value] for index, value in sorted(self.pcrs.items())]),
            "policy": POLICY,
            "bound": report_data,
            "vek": vendor.chip.certificate,
            "intermediate": vendor.intermediate,
            "root": vendor.root,
            "crl": vendor.crl,
        }
        return Evidence.make(Kind.AZURE, {**parts, **changes})


def check(evidence: Evidence, values: AzureReferenceValues | None = None, **changes: Any) -> Verdict:
    asked: dict[str, Any] = {"report_data": REPORT_DATA, "host_data": {POLICY}, "now": NOW, "thorough": True, **changes}
    return judge(evidence, [values or entry()], **asked)


def failed(verdict: Verdict) -> list[int]:
    return [each.number for each in verdict.failures if each.number != 27]


@pytest.mark.usefixtures("anchored")
def test_a_whole_chain_from_root_to_policy_is_accepted() -> None:
    verdict = check(Tpm().evidence())
    assert verdict.accepted, verdict.failures
    assert verdict.kind is Kind.AZURE
    assert verdict.claims is not None
    assert verdict.claims.host_data == POLICY
    assert verdict.claims.as_dict()["kind"] == "azure-snp"
    assert len(verdict.outcomes) == 27
    evidence = Tpm().evidence()
    assert binding_of(evidence) == REPORT_DATA
    assert host_data_of(evidence) == POLICY


def other_key(tpm: Tpm) -> Evidence:
    attest = tpm.quoted(quote_extra(REPORT_DATA))
    foreign = rsa.generate_private_key(65537, 2048).sign(attest, padding.PKCS1v15(), SHA256())
    return tpm.evidence(signature=b"\0\x14\0\x0b" + len(foreign).to_bytes(2, "big") + foreign)


def other_keys(tpm: Tpm) -> Evidence:
    """A genuine report beside other runtime data, which the report is not about."""
    mine = tpm.evidence().part("hcl") or b""
    other = hcl_blob(rsa.generate_private_key(65537, 2048).public_key().public_numbers().n)
    end = 0x20 + 1184
    return tpm.evidence(hcl=other[:end] + mine[end:])


def other_pcrs(tpm: Tpm) -> Evidence:
    return tpm.evidence(pcrs=pack([[index, b"\1" * 32] for index in sorted(tpm.pcrs)]))


def more_in_pcr_8(tpm: Tpm) -> Evidence:
    tpm.pcrs[POLICY_PCR] = b"\7" * 32
    return tpm.evidence()


def other_image(tpm: Tpm) -> Evidence:
    tpm.pcrs[ENTRY_PCR] = b"\1" * 32
    return tpm.evidence()


def for_another_exchange(tpm: Tpm) -> Evidence:
    return tpm.evidence(quote=tpm.quoted(quote_extra(bytes(64))))


@pytest.mark.usefixtures("anchored")
@pytest.mark.parametrize(
    ("forge", "numbers"),
    [
        (other_key, [11]),
        (other_keys, [25]),
        (other_pcrs, [21, 24]),
        (more_in_pcr_8, [24]),
        (other_image, [21]),
        (for_another_exchange, [25]),
        (lambda tpm: tpm.evidence(policy=b"\2" * 32), [24]),
        (lambda tpm: tpm.evidence(bound=bytes(64)), [25]),
        (lambda tpm: tpm.evidence(bytes(64)), [25]),
    ],
    ids=["key", "keys", "registers", "more", "image", "exchange", "policy", "bound", "other"],
)
def test_each_link_that_is_broken_is_named(forge: Callable[[Tpm], Evidence], numbers: list[int]) -> None:
    verdict = check(forge(Tpm()))
    assert not verdict.accepted
    assert failed(verdict) == numbers, verdict.failures


@pytest.mark.usefixtures("anchored")
def test_what_the_report_says_is_judged_as_ever() -> None:
    assert failed(check(Tpm().evidence(), entry(minimum_guest_svn=9))) == [23]
    assert failed(check(Tpm().evidence(), host_data={bytes(32)})) == [24]
    vendor = vendor_chain(name="other")
    assert 6 in failed(check(Tpm().evidence(root=vendor.root)))


def test_without_amds_root_nothing_helps() -> None:
    assert 6 in failed(check(Tpm().evidence()))


@pytest.mark.usefixtures("anchored")
@pytest.mark.parametrize("role", ["hcl", "quote", "signature", "pcrs"])
def test_no_bit_of_what_is_signed_can_be_changed(role: str) -> None:
    evidence = Tpm().evidence()
    original, cache = evidence.part(role) or b"", ChainCache()
    assert check(evidence, thorough=False, cache=cache).accepted
    alive = []
    for at in range(len(original)):
        changed = bytearray(original)
        changed[at] ^= 1 << at % 8
        parts = {**dict(evidence.parts), role: bytes(changed)}
        if check(Evidence.make(Kind.AZURE, parts), thorough=False, cache=cache).accepted:
            alive.append(at)
    # The blob's own header (size, request type, status) is nobody's word, and nothing is made of it.
    assert [at for at in alive if role != "hcl" or at >= 0x20 + 1184 + 8] == []


def test_the_published_blob_binds_its_keys(vectors: Path) -> None:
    blob = parse_hcl((vectors / "snp/misc/azure-hcl-report-milan-v2.bin").read_bytes())
    assert blob.report == find(vectors, "07").report
    assert blob.binding == find(vectors, "07").parsed.report_data
    assert blob.secure_boot is True


@pytest.mark.parametrize(
    "change",
    [
        lambda blob: blob[:100],
        lambda blob: b"HCLB" + blob[4:],
        lambda blob: blob + b"x",
        lambda blob: blob.replace(b"HCLAkPub", b"HCLXkPub"),
        lambda blob: blob.replace(b'"AQAB"', b'"AQAC"'),
        lambda blob: blob.replace(b'"RSA"', b'"EC2"'),
        lambda blob: blob.replace(b'{"keys"', b'["keys"'),
        lambda _: bytes(20_000),
    ],
    ids=["short", "head", "tail", "name", "exponent", "type", "text", "long"],
)
def test_a_blob_of_another_shape_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(HclError):
        parse_hcl(change(hcl_blob(Tpm.key.public_key().public_numbers().n)))


def test_quotes_and_signatures_of_another_shape_are_refused() -> None:
    good = Tpm().quoted(b"x")
    assert parse_quote(good).selected == tuple(sorted(QUOTED))
    for bad in (b"", good[:-1], good + b"x", b"\0" + good[1:], good.replace(b"\0\x0b\3", b"\0\x0c\3")):
        with pytest.raises(TpmError):
            parse_quote(bad)
    for bad in (b"", b"\0\x14\0\x0c\0\0", b"\0\x14\0\x0b\0\5abc", b"\0\x14\0\x0b\0\1ab"):
        with pytest.raises(TpmError):
            parse_signature(bad)


def test_an_entry_without_registers_or_with_a_simulated_anchor_is_refused() -> None:
    for pcrs in (
        (),
        (Pcr(index=8, value=bytes(32)),),
        (Pcr(index=1, value=b""),),
        (Pcr(index=1, value=bytes(32)),) * 2,
    ):
        with pytest.raises(ReferenceValueError):
            AzureReferenceValues(snp=snp_values(), pcrs=pcrs)
    with pytest.raises(ReferenceValueError, match="no simulated anchor"):
        AzureReferenceValues(snp=reference_values(vendor_chain()), pcrs=(Pcr(index=1, value=bytes(32)),))


def test_the_variable_asks_for_the_virtual_tpm(tmp_path: Path) -> None:
    found = find_issuer({AZURE_VARIABLE: POLICY.hex()}, tsm_root=tmp_path / "none", dev=tmp_path)
    assert isinstance(found, AzureIssuer)
    assert found.kind is Kind.AZURE
    with pytest.raises(SimulatedBesideRealError):
        find_issuer({AZURE_VARIABLE: POLICY.hex(), VARIABLE: "/tmp/x"}, dev=tmp_path)
    with pytest.raises(NoSecureProcessorError, match="no SHA-256"):
        find_issuer({AZURE_VARIABLE: "yes"}, dev=tmp_path)


def test_a_guest_needs_no_verifier_of_quotes() -> None:
    """The Initializer's image holds no dcap-qvl: what asks the processor must not import it."""
    code = "import attestation.issuer, sys; sys.exit('dcap_qvl' in sys.modules)"
    assert run_program([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


# --- With a software TPM


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Transport]:
    with swtpm(tmp_path) as send:
        yield send


@pytest.mark.usefixtures("anchored")
async def test_a_real_tpm_gives_evidence_that_is_accepted(tpm: Transport) -> None:
    make_azure(tpm, POLICY)
    evidence = await AzureIssuer(POLICY, send=tpm).issue(REPORT_DATA)
    vendor = vendor_chain()
    more = {"vek": vendor.chip.certificate, "intermediate": vendor.intermediate, "root": vendor.root, "crl": vendor.crl}
    whole = Evidence.make(Kind.AZURE, {**dict(evidence.parts), **more})
    verdict = check(whole)
    assert verdict.accepted, verdict.failures
    assert failed(check(whole, report_data=bytes(64))) == [25]
    extend(tpm, b"\1" * 32)  # Something else after the policy: PCR 8 is no longer the policy's alone.
    later = await AzureIssuer(POLICY, send=tpm).issue(REPORT_DATA)
    assert failed(check(Evidence.make(Kind.AZURE, {**dict(later.parts), **more}))) == [24]


@pytest.mark.usefixtures("anchored")
async def test_a_tpm_whose_key_the_report_does_not_name_is_refused(tpm: Transport) -> None:
    make_azure(tpm, POLICY, named=Tpm.key.public_key().public_numbers().n)
    evidence = await AzureIssuer(POLICY, send=tpm).issue(REPORT_DATA)
    vendor = vendor_chain()
    more = {"vek": vendor.chip.certificate, "intermediate": vendor.intermediate, "root": vendor.root, "crl": vendor.crl}
    assert failed(check(Evidence.make(Kind.AZURE, {**dict(evidence.parts), **more}))) == [11]


async def test_a_tpm_without_a_blob_is_told(tpm: Transport) -> None:
    with pytest.raises(IssueError, match="refused command 0x169"):
        await AzureIssuer(POLICY, send=tpm).issue(REPORT_DATA)


async def test_no_tpm_at_all_is_told() -> None:
    def gone(command: bytes) -> bytes:
        raise FileNotFoundError(2, "no such device")

    with pytest.raises(IssueError, match="virtual TPM"):
        await AzureIssuer(POLICY, send=gone).issue(REPORT_DATA)


# --- An audit, years later


@dataclasses.dataclass(frozen=True)
class Setting:
    """As much of a manifest as the second verdict asks for."""

    reference_values: tuple[AzureReferenceValues, ...]
    digest: bytes = bytes(32)


@pytest.mark.usefixtures("anchored")
def test_a_chip_that_is_trusted_no_more_is_refused_now_behind_a_paravisor_too() -> None:
    """A deny-list given to an audit would pass over Azure's guests, and a list that has aged would refuse them."""
    evidence, manifest = Tpm().evidence(), Setting((entry(),))
    later = NOW + timedelta(days=400)
    asked: dict[str, Any] = {"report_data": REPORT_DATA}
    assert Today(Knowledge(at=later)).refusal(evidence, manifest, **asked) is None  # type: ignore[arg-type]
    denied = Knowledge(at=later, denied=frozenset({vendor_chain().chip.chip_id}))
    refusal = Today(denied).refusal(evidence, manifest, **asked)  # type: ignore[arg-type]
    assert refusal is not None
    assert "deny-list" in refusal


@pytest.mark.usefixtures("anchored")
def test_a_verdict_with_a_memory_is_the_one_without() -> None:
    cache, values, host_data = ChainCache(), entry(), {POLICY}
    for bound in (REPORT_DATA, b"\x53" * 64, REPORT_DATA):
        for expected in (REPORT_DATA, bound):
            asked: dict[str, Any] = {"report_data": expected, "host_data": host_data, "now": NOW}
            evidence = Tpm().evidence(bound)
            assert judge(evidence, [values], cache=cache, **asked) == judge(evidence, [values], **asked)
