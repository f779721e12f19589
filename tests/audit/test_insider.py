"""Ledgers by an insider with every key but the owners' and the chips'. Each lie is named with its entry, at the CLI.

Where a ledger lies makes no difference to what is found: each case is told in one of the four ways that ledgers come,
and a few in all of them.
"""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from audit.replay import examine, replay
from cli.program import cli
from coordinator.events import AttestationRefused
from manifest.model import Policy, Role
from tests.audit.test_control import relinked
from tests.cli.test_audit import web_server
from tests.support.deployment import (
    COORDINATOR_POLICY,
    SECRET_ID,
    WEB_POLICY,
    Deployment,
    digest,
    owner_key,
    share_key,
)
from tests.support.dishonest import Ledger, ListSource, Written, honest_ledger
from tests.support.insider import Leaf, cut, export, followed, pack, store, with_leaf, with_set
from wire.extensions import CHECKPOINT_OID, CLAIMS_OID, COMPANIONS_OID

Case = tuple[Callable[[Ledger], tuple[Ledger, int]], str]
FORMS = ("folder", "directory", "tar", "address")


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def event(ledger: Ledger, kind: str, nth: int = 0) -> Any:
    return ledger.written[ledger.find(kind, nth)].event


def leaf(how: Leaf) -> Callable[[Ledger], tuple[Ledger, int]]:
    """The first certificate, otherwise."""

    def change(it: Ledger) -> tuple[Ledger, int]:
        at = it.find("certificate.issued")
        return cut(with_leaf(it, at, how), at + 1), at

    return change


def edit(kind: str, nth: int = 0, **fields: object) -> Callable[[Ledger], tuple[Ledger, int]]:
    """One event, with other fields."""
    return lambda it: (it.changed(it.find(kind, nth), **fields), it.find(kind, nth))


def added(make: Callable[[Ledger], Written | list[Written]], *, at: int = 0) -> Callable[[Ledger], tuple[Ledger, int]]:
    """Entries at the end; the one that is wrong is the *at*th of them."""

    def change(it: Ledger) -> tuple[Ledger, int]:
        more = make(it)
        return followed(it, *(more if isinstance(more, list) else [more])), len(it.written) + at

    return change


def refusal(it: Ledger, **fields: Any) -> Written:
    last = it.written[-1]
    values: dict[str, Any] = {"refusal": "debug", "count": 1, "first_ms": last.time_ms, "last_ms": last.time_ms}
    time_ms = fields.pop("time_ms", last.time_ms)
    return Written(last.signer, time_ms, b"", AttestationRefused(**values | {"seen": "", "wanted": ""} | fields))


def again(it: Ledger, kind: str, count: int) -> list[Written]:
    """The newest command that began with *kind*, once more."""
    at = [seq for seq, written in enumerate(it.written) if written.event.type == kind][-1]
    moved = [replace(each, time_ms=it.written[-1].time_ms) for each in it.written[at : at + count]]
    return [
        replace(each, event=replace(each.event, attestation_seq=len(it.written)))  # type: ignore[arg-type]
        if hasattr(each.event, "attestation_seq")
        else each
        for each in moved
    ]


def owners(name: str) -> Deployment:
    return Deployment(owners=(owner_key(name),))


def successor(it: Ledger, deployment: Deployment, **more: Any) -> tuple[Ledger, int]:
    return with_set(it, deployment, [owner_key()], **more), len(it.written)


def late(it: Ledger, days: float) -> tuple[Ledger, int]:
    ahead = int((datetime.now(UTC) + timedelta(days=days)).timestamp() * 1000)
    return followed(it, refusal(it, time_ms=ahead, first_ms=ahead, last_ms=ahead)), len(it.written)


def back(it: Ledger) -> tuple[Ledger, int]:
    return followed(it, refusal(it, time_ms=it.written[-1].time_ms - 1)), len(it.written)


def removed_owner(it: Ledger) -> tuple[Ledger, int]:
    """The owner hands over; the one before him goes on signing."""
    handed, _ = successor(it, owners("heir"))
    return successor(handed, Deployment())


def one_mesh_twice(it: Ledger) -> tuple[Ledger, int]:
    key = it.seed.mesh_ca_key(event(it, "manifest.set").transition)
    return successor(it, Deployment(), mesh_key=key)


def usage(**changes: bool) -> x509.KeyUsage:
    fields = {
        "digital_signature": True, "content_commitment": False, "key_encipherment": False,
        "data_encipherment": False, "key_agreement": False, "key_cert_sign": False, "crl_sign": False,
        "encipher_only": False, "decipher_only": False,
    }  # fmt: skip
    return x509.KeyUsage(**fields | changes)


def root_hex(it: Ledger) -> bytes:
    root: bytes = event(it, "ledger.created").root_ca
    return root.hex().encode()


def requested(it: Ledger, kind: str, nth: int, request_id: bytes) -> Ledger:
    at = it.find(kind, nth)
    return cut(it.swapped(at, replace(it.written[at], request_id=request_id)), at + 2)


def with_unsigned(it: Ledger) -> tuple[Ledger, int]:
    return with_set(it, Deployment(), []), len(it.written)


def without_coordinator() -> Deployment:
    honest = Deployment()
    policies = {text: policy for text, policy in honest.policies.items() if text != COORDINATOR_POLICY}
    return Deployment(policies={**policies, b"# other": Policy(sans=("coordinator",), role=Role.COORDINATOR)})


def late_ms(it: Ledger, time_ms: int) -> tuple[Ledger, int]:
    return followed(it, refusal(it, time_ms=time_ms)), len(it.written)


CASES: dict[str, Case] = {
    # --- certificates
    "a leaf with a name nobody gave": (leaf(Leaf(sans=("web", "vault"))), "SANs"),
    "a leaf without the names": (leaf(Leaf(sans=())), "SANs"),
    "a leaf with names, recorded as such": (edit("certificate.issued", sans=("web", "vault")), "SANs are not the man"),
    "a leaf with another subject": (leaf(Leaf(name="vault")), "subject"),
    "a leaf that outlives its CA": (
        leaf(Leaf(ends=timedelta(days=36500))),
        "outlives its CA",
    ),
    "a leaf dated back by a year": (
        leaf(Leaf(begins=timedelta(days=-365))),
        "backdated",
    ),
    "a leaf that is not valid yet": (
        leaf(Leaf(begins=timedelta(days=1))),
        "not valid when it was issued",
    ),
    "a leaf for another key than the attested one": (
        leaf(Leaf(public_key=ec.generate_private_key(ec.SECP384R1()).public_key())),
        "not the attested key",
    ),
    "a leaf by another mesh CA": (leaf(Leaf(signer=ec.generate_private_key(ec.SECP384R1()))), "mesh CA"),
    "a leaf that is a CA": (leaf(Leaf(is_ca=True)), "is a CA"),
    "a leaf that may sign certificates": (
        leaf(Leaf(usage=usage(key_cert_sign=True))),
        "key usage",
    ),
    "a leaf for signing code": (
        leaf(Leaf(purposes=[ExtendedKeyUsageOID.CODE_SIGNING])),
        "key usage",
    ),
    "a leaf with an extension nobody asked for": (
        leaf(Leaf(more=x509.IssuerAlternativeName([x509.DNSName("vault")]))),
        "extension",
    ),
    "a leaf with the head of another ledger": (
        leaf(Leaf(value=(CHECKPOINT_OID, b"\n3\n", b"\n2\n"))),
        "checkpoint of another ledger",
    ),
    "a leaf with a head of the future": (
        leaf(Leaf(value=(CHECKPOINT_OID, b"\n3\n", b"\n9\n"))),
        "not there yet",
    ),
    "a leaf with claims of other hardware": (
        leaf(Leaf(value=(CLAIMS_OID, b'"Milan"', b'"Turin"'))),
        "claims something else",
    ),
    "a leaf with another root CA": (
        lambda it: leaf(Leaf(value=(COMPANIONS_OID, root_hex(it)[:8], b"0" * 8)))(it),
        "another root CA",
    ),
    # --- epochs
    "an epoch bound to another head": (edit("epoch.opened", 1, anchor_seq=9), "anchor|other keys"),
    "an epoch with the evidence of the one before": (
        lambda it: edit("epoch.opened", 1, evidence=event(it, "epoch.opened").evidence)(it),
        "does not accept this epoch",
    ),
    "an epoch opened twice": (
        added(lambda it: [replace(it.written[it.find("epoch.opened", 1)], time_ms=it.written[-1].time_ms)]),
        "used once",
    ),
    "an epoch and its recovery by two requests": (
        lambda it: (requested(it, "epoch.opened", 1, b"\x11" * 32), it.find("ledger.recovered")),
        "one request",
    ),
    "a second beginning": (
        added(lambda it: replace(it.written[0], time_ms=it.written[-1].time_ms, signer=it.written[-1].signer)),
        "created once",
    ),
    # --- manifests
    "a manifest by an owner who was removed": (removed_owner, "not authorised"),
    "a manifest by nobody": (with_unsigned, "not authorised"),
    "another seed share owner": (
        lambda it: successor(it, Deployment(share_owners=(share_key("other"),))),
        "not authorised",
    ),
    "one seed share owner more": (
        lambda it: successor(it, Deployment(share_owners=(share_key(), share_key("other")))),
        "not authorised",
    ),
    "one mesh CA for two transitions": (one_mesh_twice, "serves two manifests"),
    "a mesh CA that the root did not sign": (
        lambda it: successor(it, Deployment(), root_key=ec.generate_private_key(ec.SECP384R1())),
        "CA certificate breaks the rules",
    ),
    "a manifest that excludes the epoch that set it": (
        lambda it: successor(it, without_coordinator()),
        "does not accept the epoch",
    ),
    "a manifest of another previous": (
        lambda it: successor(it, Deployment(), previous=bytes(32)),
        "follows another",
    ),
    # --- attestations
    "an attestation under the manifest before": (
        lambda it: edit("attestation.accepted", 2, manifest_seq=it.find("manifest.set"))(it),
        "another manifest",
    ),
    "one request attested twice under one manifest": (
        added(lambda it: again(it, "attestation.accepted", 2)),
        "attested once",
    ),
    "evidence of an epoch as a pod's": (edit("attestation.accepted", purpose="epoch"), "purpose"),
    "rules of no version": (edit("attestation.accepted", rules=0), "version of the rules"),
    # --- refusals
    "a count of none": (added(lambda it: refusal(it, count=0)), "count of refusals"),
    "a count that ends before it begins": (added(lambda it: refusal(it, first_ms=2, last_ms=1)), "count of refusals"),
    "refusals too often": (added(lambda it: [refusal(it), refusal(it)], at=1), "every ten minutes"),
    "too many kinds of refusals": (
        added(lambda it: [refusal(it, refusal=f"code_{letter}") for letter in "abcdefghijklmnopq"], at=16),
        "more codes",
    ),
    "a refusal with a novel": (added(lambda it: refusal(it, seen="x" * 600)), "not one of this version|512"),
    "a refusal by a request": (
        added(lambda it: replace(refusal(it), request_id=b"\x11" * 32)),
        "request",
    ),
    # --- time
    "time that runs back": (back, "time"),
    "time of next week": (lambda it: late(it, 7), "clock"),
    "time of another century": (lambda it: late(it, 36500), "clock"),
    "time beyond every calendar": (lambda it: late_ms(it, 2**62), "year 9999"),
    # --- order
    "a certificate issued twice": (
        added(lambda it: replace(it.written[-1], time_ms=it.written[-1].time_ms)),
        "follows the attestation",
    ),
    "a secret for the wrong pod": (edit("secret.released", secret_id="other"), "another secret"),
}


def audit(source: ListSource, form: str, folder: Path, *more: str) -> dict[str, Any]:
    """What `contrast audit --json` says of a ledger that lies there in this *form*."""
    with Placed(source, form, folder) as where:
        arguments = ["audit", where, "--json", *more]
        result = CliRunner().invoke(cli, arguments, prog_name="contrast")
    assert isinstance(result.exception, SystemExit | None), result.exception
    document: dict[str, Any] = json.loads(result.stdout)
    assert (result.exit_code == 0) == document["ok"]
    assert result.exit_code in {0, 1}
    return document


class Placed:
    """The ledger as a Coordinator's folder, an exported directory, a tar, or on a web server."""

    def __init__(self, source: ListSource, form: str, folder: Path) -> None:
        self._source, self._form, self._folder = source, form, folder
        self._server: Any = None

    def __enter__(self) -> str:
        there = self._folder / self._form
        if self._form == "folder":
            store(self._source, there)
            return str(there)
        export(self._source, there)
        if self._form == "tar":
            pack(there, self._folder / "ledger.tar")
            return str(self._folder / "ledger.tar")
        if self._form == "address":
            self._server = web_server(there)
            address: str = self._server.__enter__()
            return address
        return str(there)

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.__exit__(None, None, None)


def form_of(name: str) -> str:
    """In which form the case called *name* is told."""
    return FORMS[sorted(CASES).index(name) % len(FORMS)]


@pytest.mark.parametrize("form", FORMS)
def test_an_honest_ledger_passes_wherever_it_lies(honest: Ledger, form: str, tmp_path: Path) -> None:
    document = audit(honest.source(), form, tmp_path)
    assert document["ok"], document["findings"]
    assert (document["then"], document["now"]) == ("proven", "accepted")


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_insider_is_found_with_entry_and_reason(honest: Ledger, name: str, tmp_path: Path) -> None:
    change, because = CASES[name]
    ledger, seq = change(honest)
    check_found(audit(ledger.source(), form_of(name), tmp_path), seq, because)


EVERYWHERE = (
    "a leaf for another key than the attested one",
    "a manifest by an owner who was removed",
    "one request attested twice under one manifest",
    "time of next week",
)


@pytest.mark.parametrize(("name", "form"), list(itertools.product(EVERYWHERE, FORMS)))
def test_what_is_found_does_not_depend_on_where_the_ledger_lies(
    honest: Ledger, name: str, form: str, tmp_path: Path
) -> None:
    change, because = CASES[name]
    ledger, seq = change(honest)
    check_found(audit(ledger.source(), form, tmp_path), seq, because)


def check_found(document: dict[str, Any], seq: int, because: str) -> None:
    """The one place where these tests say what an answer is."""
    assert not document["ok"]
    found = [item for item in document["findings"] if item["seq"] == seq and re.search(because, item["text"])]
    assert found, document["findings"]
    assert document["findings"][0]["seq"] == seq, document["findings"]
    assert found[0]["proven_wrong"]
    if not found[0]["now"]:
        assert document["then"] == "refused"
        assert document["first_contradiction"]["seq"] == seq


def test_every_blob_that_is_withheld_leaves_something_unproven(honest: Ledger) -> None:
    """What nobody can look at proves nothing, whichever it is."""
    source = honest.source()
    assert len(source.blobs) > 20
    for name in source.blobs:
        blobs = {digest: blob for digest, blob in source.blobs.items() if digest != name}
        result = examine(replace(source, blobs=blobs)).result
        assert not result.contradictions, name.hex()
        assert any(name.hex() in finding.text for finding in result.unproven), name.hex()


@pytest.mark.parametrize("kind", ["manifest.set", "ledger.created"])
def test_a_ledger_that_breaks_off_is_never_allowed_to(honest: Ledger, kind: str, tmp_path: Path) -> None:
    """--allow-missing forgives a decision that cannot be judged; without a manifest no later one was even looked at."""
    it = event(honest, kind)
    name = it.manifest if kind == "manifest.set" else it.root_ca
    source = honest.source()
    blobs = {digest: blob for digest, blob in source.blobs.items() if digest != name}
    document = audit(replace(source, blobs=blobs), "directory", tmp_path, "--allow-missing")
    assert not document["ok"]
    assert document["then"] == "unproven"


def test_every_blob_with_other_bytes_is_found(honest: Ledger) -> None:
    source = honest.source()
    for name, blob in source.blobs.items():
        with pytest.raises(Exception, match="other bytes than its name") as caught:
            replay(replace(source, blobs={**source.blobs, name: blob + b"\0"}))
        assert getattr(caught.value, "code", "") == "ledger_damaged"


@pytest.mark.parametrize("form", FORMS)
def test_a_withheld_and_a_swapped_blob_are_found_wherever_the_ledger_lies(
    honest: Ledger, form: str, tmp_path: Path
) -> None:
    source = honest.source()
    name = event(honest, "certificate.issued", 1).certificate
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    left = {digest: blob for digest, blob in source.blobs.items() if digest != name}
    document = audit(replace(source, blobs=left), form, tmp_path / "one")
    assert document["then"] == "unproven"
    assert document["findings"][0]["seq"] == honest.find("certificate.issued", 1)
    if form in {"folder", "address"}:
        return  # Such a store hashes what is put into it; a download is hashed before it is read.
    document = audit(replace(source, blobs={**left, name: b"other"}), form, tmp_path / "two")
    assert document["then"] == "refused"
    assert name.hex() in document["first_contradiction"]["reason"]


def test_links_that_lead_over_a_control_event_are_found(honest: Ledger, tmp_path: Path) -> None:
    """Two control events with one link: a manifest could be left out of the chain that `verify` follows."""
    source = relinked(honest, leave_out=honest.find("manifest.set", 1))
    check_found(audit(source, "directory", tmp_path), honest.find("epoch.opened", 1), "control chain is broken")


def test_a_secret_that_moved_and_a_new_role_are_listed(honest: Ledger, tmp_path: Path) -> None:
    """Allowed to the owner, and exactly what a data owner has to know."""
    base = Deployment()
    policies = {
        COORDINATOR_POLICY: base.policies[COORDINATOR_POLICY],
        WEB_POLICY: Policy(sans=("web",), workload_secret_id=SECRET_ID),
        b"# a second Coordinator": Policy(sans=("coordinator",), role=Role.COORDINATOR),
    }
    ledger, seq = successor(honest, Deployment(policies=policies))
    document = audit(ledger.source(), "directory", tmp_path)
    assert document["ok"], document["findings"]
    (moved,) = document["moved_secrets"]
    assert (moved["secret_id"], moved["seq"]) == (SECRET_ID, seq)
    assert moved["after"] == [digest(WEB_POLICY).hex()]
    assert digest(b"# a second Coordinator").hex() in document["coordinator_policies"]
    again_ = audit(ledger.source(), "tar", tmp_path, "--coordinator-policy-hash", digest(COORDINATOR_POLICY).hex())
    assert not again_["ok"]
    assert again_["first_contradiction"]["code"] == "unknown_coordinator"


@pytest.mark.parametrize("time_ms", [2**62, 253_402_300_800_000])
def test_showing_a_ledger_of_a_stranger_does_not_fall_over_its_times(
    honest: Ledger, time_ms: int, tmp_path: Path
) -> None:
    ledger, _ = late_ms(honest.changed(honest.find("certificate.issued"), not_after=2**60), time_ms)
    export(ledger.source(), tmp_path / "ledger")
    for arguments in (["ledger", "show", str(tmp_path / "ledger")], ["ledger", "verify", str(tmp_path / "ledger")]):
        for more in ([], ["--json"]):
            result = CliRunner().invoke(cli, [*arguments, *more], prog_name="contrast")
            assert isinstance(result.exception, SystemExit | None), (arguments, result.exception)


def test_the_helpers_make_honest_ledgers_too(honest: Ledger) -> None:
    """Else the cases above would prove nothing."""
    ledger, _ = successor(honest, Deployment())
    assert replay(ledger.source()).ok
    at = honest.find("certificate.issued")
    assert replay(cut(with_leaf(honest, at, Leaf()), at + 1).source()).ok
