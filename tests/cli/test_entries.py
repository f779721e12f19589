"""What a person edited in the manifest survives the next `generate`, whatever changed in the YAML meanwhile."""

from dataclasses import replace

from cli.entries import Subject, default_sans, entries
from manifest.model import Manifest, Policy, Role

WEB = Subject(
    name="web",
    namespace="shop",
    kind="apps/v1/Deployment",
    services=("web-svc",),
    digest=b"1" * 32,
    before=None,
    coordinator=False,
    secret_id=None,
    where="web.yml:1",
)
COORDINATOR = replace(WEB, name="coordinator", services=(), digest=b"c" * 32, coordinator=True)


def manifest(policies: dict[bytes, Policy]) -> Manifest:
    return Manifest(
        raw=b"",
        digest=b"",
        policies=policies,
        snp=(),
        tdx=(),
        simulated=(),
        workload_owner_key_digests=(),
        seedshare_owner_pub_keys=(),
    )


def test_a_new_pod_is_named_by_itself_and_its_services() -> None:
    found = entries([WEB], None).policies[WEB.digest]
    assert found.sans == ("web", "web-svc", "web-svc.shop", "web-svc.shop.svc", "web-svc.shop.svc.cluster.local")
    assert found.workload_secret_id == "apps/v1/Deployment/shop/web"
    assert found.role is None


def test_no_default_name_is_a_wildcard() -> None:
    """A certificate for `*` lets one pod pose as every other."""
    assert not any("*" in san for san in default_sans(WEB))


def test_a_coordinator_gets_its_role_and_no_secret() -> None:
    found = entries([COORDINATOR], None).policies[COORDINATOR.digest]
    assert (found.role, found.workload_secret_id) == (Role.COORDINATOR, None)


def test_edits_survive_when_nothing_changed() -> None:
    edited = Policy(sans=("shop.example.com", "10.0.0.1"), workload_secret_id="mine", role=None)
    assert entries([WEB], manifest({WEB.digest: edited})).policies == {WEB.digest: edited}


def test_edits_survive_a_changed_policy() -> None:
    """A new image means a new digest; the SANs belong to the pod, which the old annotation tells."""
    edited = Policy(sans=("shop.example.com",), workload_secret_id=None, role=None)
    found = entries([replace(WEB, digest=b"2" * 32, before=WEB.digest)], manifest({WEB.digest: edited}))
    assert found.policies == {b"2" * 32: edited}
    assert found.notes == ()


def test_a_role_cannot_be_kept_by_an_edit_of_the_manifest_alone() -> None:
    edited = Policy(sans=("web",), workload_secret_id=None, role=Role.COORDINATOR)
    assert entries([WEB], manifest({WEB.digest: edited})).policies[WEB.digest].role is None


def test_an_annotation_sets_or_removes_the_secret() -> None:
    assert entries([replace(WEB, secret_id="vault")], None).policies[WEB.digest].workload_secret_id == "vault"
    assert entries([replace(WEB, secret_id="")], None).policies[WEB.digest].workload_secret_id is None


def test_indistinguishable_pods_are_told_and_neither_is_dropped() -> None:
    """The host could swap them: silence would let the second lose its names, or hide that both have both."""
    found = entries([WEB, replace(WEB, name="api", services=())], None)
    assert found.policies[WEB.digest].sans[-1] == "api"
    assert len(found.notes) == 1
    assert "tell them apart" in found.notes[0]


def test_an_entry_without_a_pod_is_left_out_and_said() -> None:
    old = Policy(sans=("gone",), workload_secret_id=None, role=None)
    found = entries([WEB], manifest({b"9" * 32: old}))
    assert b"9" * 32 not in found.policies
    assert "gone" in found.notes[0]
