"""What a manifest may say, and that everything wrong with one is told at once."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.reference import SnpReferenceValues, TdxReferenceValues
from attestation.snp.products import Tcb
from manifest.errors import ManifestError
from manifest.model import Role
from manifest.parse import MAX_MANIFEST, parse_manifest
from tests.support.manifests import COORDINATOR, SIMULATED, SNP, TDX, WEB, document, manifest, pkcs1, raw, share_owner


def problems(data: bytes) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data)
    return str(caught.value).split("\n")


def check_refused(change: Callable[[dict[str, Any]], object], *, path: str, because: str) -> None:
    broken = document()
    change(broken)
    found = problems(json.dumps(broken, indent=1).encode())
    assert any(f": {path}: " in line and because in line for line in found), found


def snp(**changes: Any) -> dict[str, Any]:
    return {**SNP, **changes}


def test_a_manifest_is_read_into_its_shapes() -> None:
    data = raw()
    parsed = parse_manifest(data)
    assert parsed.raw == data
    assert parsed.digest == hashlib.sha256(data).digest()
    web = parsed.policies[bytes.fromhex(WEB)]
    assert (web.sans, web.workload_secret_id, web.role) == (("web", "*"), "apps/v1/Deployment/default/web", None)
    assert parsed.policies[bytes.fromhex(COORDINATOR)].role is Role.COORDINATOR
    assert parsed.coordinator_policies == {bytes.fromhex(COORDINATOR)}
    assert parsed.workload_owner_key_digests == (bytes.fromhex("ab" * 32),)
    assert parsed.seedshare_owner_pub_keys == (pkcs1(share_owner()),)
    (values,) = parsed.reference_values
    assert isinstance(values, SnpReferenceValues)
    assert values.minimum_tcb == Tcb(bootloader=3, tee=0, snp=22, microcode=211)
    assert values.guest_policy.abi_minor == 31
    assert values.platform_info.smt_enabled is True
    assert values.platform_info.tsme_enabled is None
    assert values.trust_anchor is None
    assert parsed.simulated_anchor is None


def test_simulated_values_name_their_anchor() -> None:
    parsed = manifest(ReferenceValues={"simulated": [SIMULATED, {**SIMULATED, "ProductName": "Genoa"}]})
    assert parsed.simulated_anchor == bytes.fromhex("33" * 32)
    assert all(isinstance(entry, SnpReferenceValues) and entry.is_simulated for entry in parsed.reference_values)


def test_tdx_values_are_carried() -> None:
    (values,) = manifest(ReferenceValues={"tdx": [TDX]}).reference_values
    assert isinstance(values, TdxReferenceValues)
    assert values.rtmrs[1] == bytes.fromhex("77" * 48)


def test_the_bytes_are_the_identity_not_the_meaning() -> None:
    """Two layouts of one content are two manifests: what is hashed is what was written."""
    first, second = parse_manifest(raw()), parse_manifest(raw() + b"\n")
    assert first.policies == second.policies
    assert first.digest != second.digest


def test_empty_owner_lists_are_allowed_but_never_implied() -> None:
    """A missing list must not read as 'never again' or 'no recovery'."""
    assert manifest(WorkloadOwnerKeyDigests=[]).workload_owner_key_digests == ()
    assert manifest(SeedshareOwnerPubKeys=[]).seedshare_owner_pub_keys == ()
    check_refused(lambda d: d.pop("WorkloadOwnerKeyDigests"), path="WorkloadOwnerKeyDigests", because="is missing")
    check_refused(lambda d: d.pop("SeedshareOwnerPubKeys"), path="SeedshareOwnerPubKeys", because="is missing")


@pytest.mark.parametrize(
    ("change", "path", "because"),
    [
        (lambda d: d.update(policies={}), "policies", 'did you mean "Policies"?'),
        (lambda d: d.update(MinimumAPIVersion="v1"), "MinimumAPIVersion", "unknown"),
        (lambda d: d.update(WorkloadOwnerPubKeys=[]), "WorkloadOwnerPubKeys", "WorkloadOwnerKeyDigests"),
        (lambda d: d.update(Policies=[]), "Policies", "expected an object, found an array"),
        (lambda d: d.update(Policies={}), "Policies", "has 0 policies"),
        (lambda d: d.update(Policies=None), "Policies", "instead of writing null"),
        (lambda d: d["Policies"].pop(COORDINATOR), "Policies", "nothing could hold the seed"),
        (lambda d: d["Policies"].update({"zz": {"SANs": []}}), "Policies.zz", "no hex digits"),
        (lambda d: d["Policies"].update({"AB" * 32: {"SANs": []}}), f"Policies.{'AB' * 32}", "upper-case"),
        (lambda d: d["Policies"].update({"ab" * 31: {"SANs": []}}), f"Policies.{'ab' * 31}", "has 62 hex digits"),
        (lambda d: d["Policies"].update({"": {"SANs": []}}), 'Policies.""', "64 lower-case hex digits"),
        (lambda d: d["Policies"][WEB].pop("SANs"), f"Policies.{WEB}.SANs", "is missing"),
        (lambda d: d["Policies"].update({WEB: ["web"]}), f"Policies.{WEB}", "expected an object, found an array"),
        (lambda d: d["Policies"][WEB].update(Role="admin"), f"Policies.{WEB}.Role", 'none of "coordinator"'),
        (lambda d: d["Policies"][WEB].update(Role=None), f"Policies.{WEB}.Role", "instead of writing null"),
        (lambda d: d["Policies"][WEB].update(sans=[]), f"Policies.{WEB}.sans", 'did you mean "SANs"?'),
        (lambda d: d["Policies"][WEB].update(SANs="web"), f"Policies.{WEB}.SANs", "expected an array"),
        (lambda d: d["Policies"][WEB].update(SANs=["web", "we b"]), f"Policies.{WEB}.SANs[1]", "no IP address"),
        (lambda d: d["Policies"][WEB].update(SANs=["web", "web"]), f"Policies.{WEB}.SANs[1]", "stands twice"),
        (lambda d: d["Policies"][WEB].update(SANs=[7]), f"Policies.{WEB}.SANs[0]", "expected a string, found 7"),
        (lambda d: d["Policies"][WEB].update(SANs=["a"] * 65), f"Policies.{WEB}.SANs", "wanted 0 to 64"),
        (
            lambda d: d["Policies"][WEB].update(SANs=[f"spiffe://{'a' * 900}/{i}" for i in range(10)]),
            f"Policies.{WEB}.SANs",
            "8192 characters together",
        ),
        (lambda d: d["Policies"][WEB].update(WorkloadSecretID=""), f"Policies.{WEB}.WorkloadSecretID", "1 to 256"),
        (lambda d: d["Policies"][WEB].update(WorkloadSecretID="a\nb"), f"Policies.{WEB}.WorkloadSecretID", "control"),
        (lambda d: d["Policies"][WEB].update(WorkloadSecretID=" a"), f"Policies.{WEB}.WorkloadSecretID", "spaces"),
        (lambda d: d.update(ReferenceValues={}), "ReferenceValues", "names no reference values"),
        (lambda d: d.update(ReferenceValues={"snp": []}), "ReferenceValues", "at least one entry"),
        (lambda d: d.update(ReferenceValues={"sgx": []}), "ReferenceValues.sgx", "unknown"),
        (lambda d: d["ReferenceValues"].update(simulated=[SIMULATED]), "ReferenceValues", "mixes simulated with real"),
        (
            lambda d: d.update(ReferenceValues={"simulated": [SIMULATED, {**SIMULATED, "TrustAnchor": "99" * 32}]}),
            "ReferenceValues",
            "two simulated trust anchors",
        ),
        (
            lambda d: d.update(ReferenceValues={"simulated": [SNP]}),
            "ReferenceValues.simulated[0].TrustAnchor",
            "is missing",
        ),
        (
            lambda d: d.update(ReferenceValues={"snp": [SIMULATED]}),
            "ReferenceValues.snp[0].TrustAnchor",
            "only an entry of ReferenceValues.simulated",
        ),
        (lambda d: d.update(WorkloadOwnerKeyDigests=["ab" * 31]), "WorkloadOwnerKeyDigests[0]", "wanted 32 bytes"),
        (lambda d: d.update(WorkloadOwnerKeyDigests=["AB" * 32]), "WorkloadOwnerKeyDigests[0]", "upper-case"),
        (lambda d: d.update(WorkloadOwnerKeyDigests=["ab" * 32] * 2), "WorkloadOwnerKeyDigests[1]", "stands twice"),
        (lambda d: d.update(WorkloadOwnerKeyDigests="ab"), "WorkloadOwnerKeyDigests", "expected an array"),
        (lambda d: d.update(WorkloadOwnerKeyDigests=[f"{i:064x}" for i in range(17)]), "WorkloadOwnerKeyDigests", "16"),
        (lambda d: d.update(SeedshareOwnerPubKeys=["00"]), "SeedshareOwnerPubKeys[0]", "no RSA public key"),
        (lambda d: d.update(SeedshareOwnerPubKeys=["0"]), "SeedshareOwnerPubKeys[0]", "odd number"),
    ],
)
def test_a_fault_is_found_and_named(change: Callable[[dict[str, Any]], object], path: str, because: str) -> None:
    check_refused(change, path=path, because=because)


@pytest.mark.parametrize(
    ("change", "path", "because"),
    [
        ({"ProductName": "Rome"}, "ProductName", 'none of "Milan"'),
        ({"TrustedMeasurement": "11" * 47}, "TrustedMeasurement", "47 bytes, wanted 48"),
        ({"TrustedMeasurement": "0x" + "11" * 48}, "TrustedMeasurement", "no hex digits"),
        ({"MinimumTCB": {**SNP["MinimumTCB"], "SNPVersion": 256}}, "MinimumTCB.SNPVersion", "wanted 0 to 255"),
        ({"MinimumTCB": {**SNP["MinimumTCB"], "SNPVersion": -1}}, "MinimumTCB.SNPVersion", "wanted 0 to 255"),
        ({"MinimumTCB": {**SNP["MinimumTCB"], "SNPVersion": True}}, "MinimumTCB.SNPVersion", "found true"),
        ({"MinimumTCB": {**SNP["MinimumTCB"], "SNPVersion": None}}, "MinimumTCB.SNPVersion", "null"),
        ({"MinimumTCB": {"BootloaderVersion": 3}}, "MinimumTCB.TEEVersion", "is missing"),
        ({"MinimumTCB": {**SNP["MinimumTCB"], "FMCVersion": 1}}, "", "without an FMC version"),
        ({"ProductName": "Turin"}, "", "with an FMC version"),
        ({"GuestPolicy": {"Debug": True}}, "GuestPolicy", "Debug and MigrateMA must be false"),
        ({"GuestPolicy": {"SMT": "yes"}}, "GuestPolicy.SMT", "expected true or false"),
        ({"GuestPolicy": {"DebugAllowed": True}}, "GuestPolicy.DebugAllowed", "unknown"),
        ({"PlatformInfo": {"SMTEnabled": None}}, "PlatformInfo.SMTEnabled", "instead of writing null"),
        ({"AllowedChipIDs": ["22" * 63]}, "AllowedChipIDs[0]", "wanted 64 bytes"),
        ({"AllowedChipIDs": ["22" * 9]}, "AllowedChipIDs[0]", "wanted 64 bytes (or 8)"),
        ({"AllowedChipIDs": ["22" * 8]}, "", "allowed_chip_ids has 8 bytes, wanted 64"),  # Milan's are longer.
        ({"AllowedChipIDs": ["22" * 64, "22" * 64]}, "AllowedChipIDs[1]", "stands twice"),
        ({"RequireIDBlock": True}, "", "no digest of an acceptable ID key"),
        ({"VMPL": 4}, "VMPL", "wanted 0 to 3"),
        ({"CRL": "never"}, "CRL", 'none of "required", "warn"'),
        ({"APEIP": "0000"}, "APEIP", "wanted 4 bytes"),
        ({"Platform": ""}, "Platform", "1 to 64"),
    ],
)
def test_a_fault_of_reference_values_is_found_and_named(change: dict[str, Any], path: str, because: str) -> None:
    inner = f"ReferenceValues.snp[0].{path}" if path else "ReferenceValues.snp[0]"
    check_refused(lambda d: d.update(ReferenceValues={"snp": [snp(**change)]}), path=inner, because=because)


def test_a_chip_of_turin_may_be_named_by_sixteen_digits() -> None:
    tcb = {**SNP["MinimumTCB"], "FMCVersion": 1}
    turin = snp(ProductName="Turin", MinimumTCB=tcb, AllowedChipIDs=["22" * 8], DeniedChipIDs=["33" * 8, "44" * 64])
    (values,) = manifest(ReferenceValues={"snp": [turin]}).snp
    assert values.allowed_chip_ids == (b"\x22" * 8 + bytes(56),)
    assert values.denied_chip_ids == (b"\x33" * 8 + bytes(56), b"\x44" * 64)


def test_all_faults_are_told_at_once_each_with_its_line() -> None:
    broken = document()
    broken["Policies"][WEB]["SANs"] = ["Web", "we b"]
    broken["ReferenceValues"]["snp"][0]["VMPL"] = 9
    broken["Extra"] = 1
    text = json.dumps(broken, indent=1).replace('"Role": "coordinator"', '"Role": "coordinator", "Role": "coordinator"')
    found = problems(text.encode())
    assert len(found) == 5
    lines = text.split("\n")
    for problem, word in zip(found, ["Role", '"Web"', '"we b"', '"VMPL"', '"Extra"'], strict=True):
        name, line, _ = problem.split(":", 2)
        assert name == "manifest.json"
        assert word in lines[int(line) - 1]


def test_the_number_of_messages_is_bounded() -> None:
    sans = [f"Bad{i}" for i in range(60)]
    policies = {f"{i:064x}": {"SANs": sans} for i in range(100)}
    with pytest.raises(ManifestError) as caught:
        parse_manifest(raw(Policies=policies))
    assert len(caught.value.problems) == 500


def test_sizes_are_bounded_before_anything_is_read() -> None:
    assert "at most 1048576" in problems(b" " * (MAX_MANIFEST + 1))[0]
    many = {f"{i:064x}": {"SANs": [], "Role": "coordinator"} for i in range(4097)}
    assert "has 4097 policies" in problems(json.dumps(document(Policies=many)).encode())[0]


def test_the_largest_manifest_is_read() -> None:
    many = {f"{i:064x}": {"SANs": ["web"]} for i in range(4095)} | {COORDINATOR: {"SANs": [], "Role": "coordinator"}}
    assert len(manifest(Policies=many).policies) == 4096


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'{"Policies": {"a": 1, "a": 2}}', b"[" * 10_000])
def test_what_is_no_manifest_is_refused_and_not_a_crash(data: bytes) -> None:
    assert problems(data)


def test_seed_share_owners_need_strong_keys_in_their_one_form() -> None:
    weak = pkcs1(rsa.generate_private_key(65537, 2048))
    check_refused(
        lambda d: d.update(SeedshareOwnerPubKeys=[weak.hex()]), path="SeedshareOwnerPubKeys[0]", because="2048 bits"
    )
    der, spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    wrapped = share_owner().public_key().public_bytes(der, spki)
    check_refused(
        lambda d: d.update(SeedshareOwnerPubKeys=[wrapped.hex()]), path="SeedshareOwnerPubKeys[0]", because="PKCS#1"
    )
    curve = ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(der, spki)
    check_refused(
        lambda d: d.update(SeedshareOwnerPubKeys=[curve.hex()]), path="SeedshareOwnerPubKeys[0]", because="no RSA key"
    )
    trailing = pkcs1(share_owner()) + b"\0"
    check_refused(
        lambda d: d.update(SeedshareOwnerPubKeys=[trailing.hex()]), path="SeedshareOwnerPubKeys[0]", because="RSA"
    )
