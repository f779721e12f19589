"""Writing manifests: what is rendered reads back, and a person's edits survive."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.reference import (
    MAX_GRACE_DAYS,
    TDX_STATUSES,
    AzureReferenceValues,
    GuestPolicy,
    Pcr,
    PlatformInfo,
    ReferenceValues,
    SnpReferenceValues,
    TdxReferenceValues,
)
from attestation.snp.products import Tcb
from manifest.errors import ManifestError
from manifest.model import Manifest, Policy, Role
from manifest.parse import parse_manifest
from manifest.reference_file import parse_reference_values, render_reference_values
from manifest.render import WantedPolicy, merge_policies, render_manifest
from tests.support.manifests import COORDINATOR, SIMULATED, SNP, TDX, WEB, document, manifest, pkcs1, raw, share_owner

BYTE = st.integers(0, 255)
FLAG = st.booleans()
TRI_STATE = st.none() | FLAG


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def different(size: int, most: int = 3) -> st.SearchStrategy[tuple[bytes, ...]]:
    return st.lists(exactly(size), max_size=most, unique=True).map(tuple)


PLATFORM = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


@st.composite
def snp_values(draw: st.DrawFn, *, anchor: bytes | None = None) -> SnpReferenceValues:
    product = draw(st.sampled_from(["Milan", "Genoa", "Siena", "Turin"]))

    def tcb() -> Tcb:
        return Tcb(
            bootloader=draw(BYTE),
            tee=draw(BYTE),
            snp=draw(BYTE),
            microcode=draw(BYTE),
            fmc=draw(BYTE) if product == "Turin" else None,
        )

    id_keys = draw(different(48))
    return SnpReferenceValues(
        platform=draw(PLATFORM),
        product_name=product,
        trusted_measurement=draw(exactly(48)),
        minimum_tcb=tcb(),
        minimum_launch_tcb=tcb() if draw(FLAG) else None,
        maximum_tcb=tcb() if draw(FLAG) else None,
        guest_policy=GuestPolicy(abi_minor=draw(BYTE), smt=draw(FLAG), rapl_dis=draw(FLAG), cxl_allowed=draw(FLAG)),
        platform_info=PlatformInfo(smt_enabled=draw(TRI_STATE), ecc_enabled=draw(TRI_STATE)),
        minimum_mitigation_vector=draw(st.integers(0, 2**64 - 1)),
        vmpl=draw(st.integers(0, 3)),
        minimum_guest_svn=draw(st.integers(0, 2**32 - 1)),
        family_id=draw(st.none() | exactly(16)),
        image_id=draw(st.none() | exactly(16)),
        require_id_block=bool(id_keys),
        id_key_digests=id_keys,
        author_key_digests=draw(different(48)),
        allowed_chip_ids=draw(different(64)),
        denied_chip_ids=draw(different(64)),
        allow_masked_chip_id=draw(FLAG),
        allow_provisional_firmware=draw(FLAG),
        distrusted=draw(FLAG),
        ap_eip=draw(st.none() | st.integers(0, 2**32 - 1)),
        crl=draw(st.sampled_from(["required", "warn"])),
        trust_anchor=anchor,
        trust_anchor_spki=None if anchor is None else draw(st.none() | exactly(32)),
    )


@st.composite
def tdx_values(draw: st.DrawFn) -> TdxReferenceValues:
    return TdxReferenceValues(
        platform=draw(PLATFORM),
        mr_td=draw(exactly(48)),
        mr_seam=draw(exactly(48)),
        rtmrs=(draw(exactly(48)), draw(exactly(48)), draw(exactly(48)), draw(exactly(48))),
        xfam=draw(exactly(8)),
        minimum_tcb_evaluation_data_number=draw(st.integers(0, 2**32 - 1)),
        allowed_piids=draw(different(16)),
        memory_integrity=draw(FLAG),
        allowed_tcb_statuses=tuple(draw(st.sets(st.sampled_from(TDX_STATUSES), min_size=1))),
        grace_period_days=draw(st.integers(0, MAX_GRACE_DAYS)),
        rejected_advisories=draw(st.sampled_from([(), ("INTEL-SA-00001",)])),
        allow_perfmon=draw(FLAG),
        distrusted=draw(FLAG),
    )


@st.composite
def azure_values(draw: st.DrawFn) -> AzureReferenceValues:
    indices = draw(st.sets(st.integers(0, 23).filter(lambda index: index != 8), min_size=1, max_size=5))
    pcrs = tuple(Pcr(index=index, value=draw(exactly(32))) for index in sorted(indices))
    return AzureReferenceValues(snp=draw(snp_values()), pcrs=pcrs)


NAMES = st.sampled_from(["web", "*", "*.a.example", "127.0.0.1", "::1", "spiffe://a/b"])
POLICIES = st.builds(
    Policy,
    sans=st.lists(NAMES, max_size=4, unique=True).map(tuple),
    workload_secret_id=st.none()
    | st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30).filter(str.isprintable),
    role=st.none() | st.just(Role.COORDINATOR),
)
REAL = st.lists(snp_values() | tdx_values() | azure_values(), min_size=1, max_size=3)
SIMULATED_VALUES = st.lists(snp_values(anchor=bytes(32)), min_size=1, max_size=2)


def ordered(values: list[ReferenceValues]) -> tuple[ReferenceValues, ...]:
    snp = [entry for entry in values if isinstance(entry, SnpReferenceValues)]
    tdx = [entry for entry in values if isinstance(entry, TdxReferenceValues)]
    azure = [entry for entry in values if isinstance(entry, AzureReferenceValues)]
    return (*snp, *tdx, *azure)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(exactly(32), POLICIES, max_size=5), REAL | SIMULATED_VALUES, different(32))
def test_rendering_then_parsing_is_identity(
    policies: dict[bytes, Policy], values: list[Any], owners: tuple[bytes, ...]
) -> None:
    policies[bytes.fromhex(COORDINATOR)] = Policy(sans=(), role=Role.COORDINATOR)
    unique = list(dict.fromkeys(values))
    keys = (pkcs1(share_owner()),)
    data = render_manifest(
        policies=policies,
        reference_values=unique,
        workload_owner_key_digests=owners,
        seedshare_owner_pub_keys=keys,
    )
    parsed = parse_manifest(data)
    assert dict(parsed.policies) == policies
    assert list(parsed.policies) == sorted(policies)
    assert parsed.reference_values == ordered(unique)
    assert parsed.workload_owner_key_digests == owners
    assert parsed.seedshare_owner_pub_keys == keys
    assert again(parsed) == data


def again(existing: Manifest, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "policies": dict(existing.policies),
        "reference_values": existing.reference_values,
        "workload_owner_key_digests": existing.workload_owner_key_digests,
        "seedshare_owner_pub_keys": existing.seedshare_owner_pub_keys,
    }
    return render_manifest(**{**fields, **changes}, existing=existing)


def test_rendering_what_a_file_says_already_keeps_its_bytes() -> None:
    """Else every `generate` would change the manifest's hash, and with it the transition."""
    data = json.dumps(document(), indent=7).encode() + b"\n\n"
    assert again(parse_manifest(data)) == data


def test_new_policies_come_after_those_a_person_has_arranged() -> None:
    existing = parse_manifest(raw())
    policies = {bytes(32): Policy(sans=("new",)), **existing.policies}
    assert list(parse_manifest(again(existing, policies=policies)).policies) == [*existing.policies, bytes(32)]


def test_edits_survive_a_changed_policy() -> None:
    existing = manifest()
    new = bytes.fromhex("0b" * 32)
    merged = merge_policies(
        existing,
        [
            WantedPolicy(digest=bytes.fromhex(COORDINATOR), default=Policy(sans=("x",), role=Role.COORDINATOR)),
            WantedPolicy(digest=new, default=Policy(sans=("default",)), replaces=bytes.fromhex(WEB)),
        ],
    )
    assert merged[new] == existing.policies[bytes.fromhex(WEB)]
    assert merged[bytes.fromhex(COORDINATOR)].sans == ("coordinator",)
    assert bytes.fromhex(WEB) not in merged


def test_a_role_is_never_taken_from_an_edit() -> None:
    """A policy that once was the Coordinator's must not stay one when the YAML says otherwise, nor become one."""
    merged = merge_policies(manifest(), [WantedPolicy(digest=bytes.fromhex(COORDINATOR), default=Policy(sans=()))])
    assert merged[bytes.fromhex(COORDINATOR)].role is None


def test_two_pods_with_one_policy_share_its_entry_and_lose_no_name() -> None:
    digest = bytes(32)
    merged = merge_policies(
        None,
        [
            WantedPolicy(digest=digest, default=Policy(sans=("a", "*"))),
            WantedPolicy(digest=digest, default=Policy(sans=("b", "*"), workload_secret_id="s")),
        ],
    )
    assert merged == {digest: Policy(sans=("a", "*", "b"), workload_secret_id="s")}


def test_what_no_manifest_may_say_is_not_rendered() -> None:
    with pytest.raises(ManifestError, match="nothing could hold the seed"):
        again(manifest(), policies={bytes(32): Policy(sans=())})


def test_a_file_of_reference_values_reads_back() -> None:
    values = parse_reference_values(json.dumps({"snp": [SNP], "tdx": [TDX]}).encode())
    assert parse_reference_values(json.dumps(render_reference_values(values)).encode()) == values


def test_a_file_of_reference_values_is_as_strict_as_a_manifest() -> None:
    both = json.dumps({"snp": [SNP], "simulated": [SIMULATED]}, indent=1).encode()
    with pytest.raises(ManifestError, match=r"values\.json:1: mixes simulated with real"):
        parse_reference_values(both, name="values.json")
    with pytest.raises(ManifestError, match="stands twice"):
        parse_reference_values(b'{"snp": [], "snp": []}')
    with pytest.raises(ManifestError, match="names no reference values"):
        parse_reference_values(b"{}")
