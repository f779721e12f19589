"""Ledgers of a dishonest Coordinator. If one of these passes, a decision that no rule leads to goes unnoticed."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.replay import replay, state_at
from coordinator import events
from coordinator.keys import public_bytes
from coordinator.refusals import RuleBrokenError, UnprovenError
from ledger.errors import LedgerError
from manifest.authorise import sign_transition
from tests.support.deployment import COORDINATOR_POLICY, digest, other_vendor, owner_key, values_of, vendor
from tests.support.dishonest import Ledger, Written, honest_ledger


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def refused(ledger: Ledger, *, because: str) -> None:
    """The one place where these tests touch the interface."""
    with pytest.raises((RuleBrokenError, LedgerError, UnprovenError), match=because):
        replay(ledger.source())


def test_an_honest_ledger_has_no_finding(honest: Ledger) -> None:
    report = replay(honest.source(), reference_values=[values_of(vendor())], coordinator_policies=None)
    assert report.ok, report.findings
    assert [entry.generation for entry in report.manifests] == [1, 2]
    assert [epoch.closed for epoch in report.epochs] == [honest.find("ledger.recovered"), None]
    assert all(epoch.accepted_here for epoch in report.epochs)
    assert report.counts["certificate.issued"] == 4
    assert report.counts["secret.released"] == 1
    assert report.state.size == report.checkpoint.size == len(honest.written)


CASES: dict[str, tuple[Callable[[Ledger], Ledger], str]] = {
    "another origin": (
        lambda it: it.changed(0, origin="contrast.invalid/" + "0" * 64),
        "origin|verifier keys",
    ),
    "verifier keys dropped": (lambda it: it.changed(0, verifier_keys=()), "verifier keys"),
    "seed shares dropped": (lambda it: it.changed(0, seed_shares=()), "not the manifest's owners"),
    "a root CA that is no root": (
        lambda it: it.changed(0, root_ca=_event(it, "manifest.set").mesh_ca),
        "CA certificate breaks the rules",
    ),
    "the order of the first commit": (lambda it: it.without(1), "fixed order"),
    "an owner's signature dropped": (lambda it: _edit(it, "manifest.set", 1, signatures=()), "not authorised"),
    "a stranger's signature": (
        lambda it: _edit(it, "manifest.set", 1, signatures=(_signature(it, "stranger"),)),
        "not authorised",
    ),
    "a signature over another transition": (
        lambda it: _edit(it, "manifest.set", 1, signatures=_event(it, "manifest.set").signatures),
        "not authorised",
    ),
    "a generation skipped": (lambda it: _edit(it, "manifest.set", 1, generation=3), "generation"),
    "another previous transition": (lambda it: _edit(it, "manifest.set", 1, previous=bytes(32)), "transition"),
    "one mesh CA for two manifests": (
        lambda it: _edit(
            it,
            "manifest.set",
            1,
            mesh_ca=_event(it, "manifest.set").mesh_ca,
            intermediate=_event(it, "manifest.set").intermediate,
        ),
        "serves two manifests",
    ),
    "an intermediate that is not the mesh CA's key": (
        lambda it: _edit(it, "manifest.set", 1, intermediate=_event(it, "manifest.set").intermediate),
        "CA certificate breaks the rules",
    ),
    "an epoch closed that the manifest accepts": (
        lambda it: _edit(it, "manifest.set", 1, closed_epochs=(next(iter(it.epochs)),)),
        "not those that the manifest excludes",
    ),
    "an anchor older than the manifest in force": (
        lambda it: _edit(it, "epoch.opened", 1, anchor_seq=0),
        "anchor is older",
    ),
    "an anchor that is not the attested one": (
        lambda it: _edit(it, "epoch.opened", 1, anchor_seq=len(it.written)),
        "anchor",
    ),
    "an epoch with another TLS certificate": (
        lambda it: _edit(it, "epoch.opened", 1, tls_certificate=bytes(32)),
        "names other keys",
    ),
    "an epoch with another policy": (
        lambda it: _edit(it, "epoch.opened", 1, policy=bytes(32)),
        "policy is not its evidence's",
    ),
    "an epoch with the evidence of a workload": (
        lambda it: _edit(
            it,
            "epoch.opened",
            1,
            evidence=_event(it, "attestation.accepted").evidence,
            policy=_event(it, "attestation.accepted").policy,
        ),
        "does not accept this epoch",
    ),
    "an epoch opened and nothing recovered": (lambda it: it.without(it.find("ledger.recovered")), "recovered nothing"),
    "a recovery that leaves the old epoch open": (
        lambda it: _edit(it, "ledger.recovered", 0, closed_epochs=()),
        "closes every earlier epoch",
    ),
    "a recovery by no share owner": (
        lambda it: _edit(it, "ledger.recovered", 0, share_owner=bytes(32)),
        "no seed share owner",
    ),
    "a recovery with another statement": (
        lambda it: _edit(it, "ledger.recovered", 0, statement=bytes(32)),
        "share owner's signature",
    ),
    "a recovery from another head": (
        lambda it: _edit(it, "ledger.recovered", 0, root=bytes(32)),
        "share owner's signature",
    ),
    "an attestation under another manifest": (
        lambda it: _edit(it, "attestation.accepted", 0, manifest_seq=0),
        "another manifest",
    ),
    "an attestation of a policy nobody named": (
        lambda it: _edit(it, "attestation.accepted", 0, policy=bytes(32)),
        "does not name this policy",
    ),
    "an attestation with another policy of the manifest": (
        lambda it: _edit(it, "attestation.accepted", 0, policy=digest(COORDINATOR_POLICY)),
        "policy recorded is not|SANs|check 24",
    ),
    "an attestation for another nonce": (
        lambda it: _edit(it, "attestation.accepted", 0, nonce=bytes(32)),
        "request id",
    ),
    "an attestation with a failed check": (
        lambda it: _edit(it, "attestation.accepted", 0, outcomes=b"\x02" * 27),
        "failed check",
    ),
    "an attestation whose outcomes are made up": (
        lambda it: _edit(it, "attestation.accepted", 0, outcomes=b"\x01" * 27),
        "outcomes recorded",
    ),
    "an attestation whose verdict is made up": (
        lambda it: _made_up_verdict(it, b"accepted", b"rejected"),
        "no verdict",
    ),
    "an attestation whose claims are made up": (
        lambda it: _made_up_verdict(it, b'"Milan"', b'"Turin"'),
        "verdict recorded is not the one found",
    ),
    "an attestation whose verdict is of another pod": (
        lambda it: _edit(it, "attestation.accepted", 0, verdict=_event(it, "attestation.accepted", 1).verdict),
        "verdict recorded is not the one found",
    ),
    "an attestation with the evidence of another pod": (
        lambda it: _edit(it, "attestation.accepted", 0, evidence=_event(it, "attestation.accepted", 1).evidence),
        "does not pass the manifest",
    ),
    "a certificate with SANs nobody gave": (
        lambda it: _edit(it, "certificate.issued", 0, sans=("evil",)),
        "SANs are not the manifest's",
    ),
    "a certificate of another pod": (
        lambda it: _edit(it, "certificate.issued", 0, certificate=_event(it, "certificate.issued", 3).certificate),
        "certificate breaks the rules",
    ),
    "a certificate with other dates": (lambda it: _edit(it, "certificate.issued", 0, not_after=2**40), "dates"),
    "a certificate for another attestation": (
        lambda it: _edit(it, "certificate.issued", 0, attestation_seq=1),
        "attestation seq",
    ),
    "a certificate without its attestation": (
        lambda it: it.without(it.find("attestation.accepted")),
        "follows the attestation",
    ),
    "a secret that the manifest gives to nobody": (
        lambda it: _edit(it, "secret.released", 0, secret_id="other"),
        "another secret",
    ),
    "a secret with another check": (
        lambda it: _edit(it, "secret.released", 0, check=bytes(32)),
        "names another secret",
    ),
    "a secret to another pod": (
        lambda it: _edit(it, "secret.released", 0, policy=digest(COORDINATOR_POLICY)),
        "another than the attested pod",
    ),
    "an entry by an epoch that was closed": (
        lambda it: it.swapped(len(it.written) - 1, replace(it.written[-1], signer=it.written[0].signer)),
        "no open epoch",
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_dishonest_coordinator_is_found(honest: Ledger, name: str) -> None:
    change, because = CASES[name]
    refused(change(honest), because=because)


def test_entries_by_a_holder_of_the_seed_alone_are_found(honest: Ledger) -> None:
    """Who holds the seed can sign checkpoints, but cannot open an epoch."""
    key = Ed25519PrivateKey.generate()
    epochs = {**honest.epochs, public_bytes(key): key}
    last = honest.written[-1]
    forged = replace(
        honest,
        epochs=epochs,
        written=(*honest.written, Written(public_bytes(key), last.time_ms, b"", _refusal(last.time_ms))),
    )
    refused(forged, because="no open epoch")


def test_a_checkpoint_by_a_closed_epoch_does_not_count(honest: Ledger) -> None:
    source = honest.source(signer=honest.written[0].signer)
    with pytest.raises(LedgerError, match=r"epoch"):
        replay(source)


def test_refusals_more_often_than_every_ten_minutes_are_found(honest: Ledger) -> None:
    last = honest.written[-1]
    twice = tuple(Written(last.signer, last.time_ms, b"", _refusal(last.time_ms)) for _ in range(2))
    refused(replace(honest, written=(*honest.written, *twice)), because="every ten minutes")


def test_a_missing_verdict_input_is_unproven_and_not_proven(honest: Ledger) -> None:
    """Whoever holds the storage can withhold a blob: that must show, by name, and never count as proof."""
    event = _event(honest, "attestation.accepted")
    report_blob = dict(event.evidence[1])["report"]
    source = replace(honest, blobs={key: blob for key, blob in honest.blobs.items() if key != report_blob}).source()
    report = replay(source)
    assert not report.ok
    assert [(finding.code, finding.proven_wrong) for finding in report.findings] == [("unproven", False)]
    assert report_blob.hex() in report.findings[0].text


def test_a_blob_with_other_bytes_than_its_name_is_found(honest: Ledger) -> None:
    digest_of_manifest = _event(honest, "manifest.set", 1).manifest
    blobs = {**honest.blobs, digest_of_manifest: honest.blobs[digest_of_manifest] + b" "}
    refused(replace(honest, blobs=blobs), because="other bytes than its name")


def test_a_verdict_worded_otherwise_is_still_the_same_verdict(honest: Ledger) -> None:
    """Texts are for people: a release that words them better must not condemn old ledgers."""
    # Up to the second pod, whose certificate carries the head before it.
    start = replace(honest, written=honest.written[: honest.find("attestation.accepted", 1)])
    assert replay(_made_up_verdict(start, b'"wanted":"', b'"wanted":"better said: ').source()).ok


def test_a_missing_manifest_ends_the_replay(honest: Ledger) -> None:
    event = _event(honest, "manifest.set")
    blobs = {key: blob for key, blob in honest.blobs.items() if key != event.manifest}
    refused(replace(honest, blobs=blobs), because="unproven")


def test_a_coordinator_that_the_verifier_does_not_accept_is_named(honest: Ledger) -> None:
    report = replay(honest.source(), reference_values=[values_of(other_vendor())])
    assert {finding.code for finding in report.findings} == {"coordinator_refused"}
    assert len(report.findings) == 2


def test_a_coordinator_policy_that_the_verifier_does_not_know_is_named(honest: Ledger) -> None:
    known = replay(honest.source(), coordinator_policies={digest(COORDINATOR_POLICY)})
    assert known.ok
    unknown = replay(honest.source(), coordinator_policies=frozenset())
    assert [finding.code for finding in unknown.findings] == ["unknown_coordinator"]
    assert digest(COORDINATOR_POLICY).hex() in unknown.findings[0].text


def test_the_state_at_any_size_is_what_it_was_then(honest: Ledger) -> None:
    source = honest.source()
    update = honest.find("manifest.set", 1)
    assert state_at(source, update).generation == 1
    assert state_at(source, update + 1).generation == 2
    assert state_at(source, len(honest.written)) == replay(source).state


def _event(ledger: Ledger, kind: str, nth: int = 0) -> Any:
    return ledger.written[ledger.find(kind, nth)].event


def _edit(ledger: Ledger, kind: str, nth: int, **fields: object) -> Ledger:
    return ledger.changed(ledger.find(kind, nth), **fields)


def _made_up_verdict(ledger: Ledger, old: bytes, new: bytes) -> Ledger:
    verdict = ledger.blobs[_event(ledger, "attestation.accepted").verdict].replace(old, new)
    changed = _edit(ledger, "attestation.accepted", 0, verdict=hashlib.sha256(verdict).digest())
    return changed.with_blob(verdict)


def _signature(ledger: Ledger, name: str) -> tuple[bytes, bytes]:
    event = _event(ledger, "manifest.set", 1)
    signature = sign_transition(owner_key(name), ledger.origin, event.transition)
    return signature.spki, signature.signature


def _refusal(time_ms: int) -> events.AttestationRefused:
    return events.AttestationRefused(refusal="debug", count=1, first_ms=time_ms, last_ms=time_ms, seen="", wanted="")
