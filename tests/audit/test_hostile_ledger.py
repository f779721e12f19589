"""Ledgers by a stranger, or by a Coordinator that records half the truth. None may pass, none may crash a reader."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from audit.replay import replay, state_at
from coordinator import ca
from coordinator.events import ManifestSet
from coordinator.keys import Seed
from coordinator.refusals import RuleBrokenError
from coordinator.rules import Rules
from ledger.entry import parse_entry
from tests.support.dishonest import Ledger, honest_ledger
from wire.extensions import CLAIMS_OID


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def refused(ledger: Ledger, *, because: str) -> None:
    """The one place where these tests touch the interface."""
    with pytest.raises(RuleBrokenError, match=because):
        replay(ledger.source())


NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEED = Seed(bytes(64), bytes(32))
ROOT = ca.root_certificate(SEED.root_ca_key(), origin="contrast.invalid/x", now=NOW, serial=2**126)

# Each of these makes the library raise something else than a ValueError, most of them only when a field is read.
UNREADABLE = {
    "version": ROOT.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020107"), 1),
    "kind of key": ROOT.replace(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209"), 1),
    "point of the key": ROOT.replace(bytes.fromhex("03620004"), bytes.fromhex("03620009"), 1),
    "doubled extension": ROOT.replace(bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13"), 1),
    "negative serial": ROOT.replace(bytes.fromhex("021040"), bytes.fromhex("0210c0"), 1),
    "kind of name": ROOT.replace(bytes.fromhex("06035504030c"), bytes.fromhex("060355040303"), 1),
    "no certificate": b"\0",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_certificate_that_cannot_be_read_is_a_refusal_and_no_crash(honest: Ledger, name: str) -> None:
    """Whoever offers a ledger chooses these bytes: `verify` must say what is wrong, not fall over it."""
    der = UNREADABLE[name]
    assert der != ROOT
    with pytest.raises(ca.CertificateError):
        ca.check_root(der)
    digest = hashlib.sha256(der).digest()
    ledger = honest.with_blob(der)
    refused(ledger.changed(0, root_ca=digest), because="entry 0: a CA certificate breaks the rules")
    for field in ("mesh_ca", "intermediate"):
        update = ledger.find("manifest.set", 1)
        refused(ledger.changed(update, **{field: digest}), because=f"entry {update}: a CA certificate breaks the rules")


def test_a_time_beyond_every_calendar_is_a_refusal_and_no_crash(honest: Ledger) -> None:
    """2^63-1 milliseconds are a valid integer of the format and no moment that anything can be judged at."""
    for time_ms in (2**63 - 1, 253_402_300_800_000):
        late = tuple(replace(written, time_ms=time_ms) for written in honest.written)
        refused(replace(honest, written=late), because="entry 0: its time is after the year 9999")


def test_a_released_secret_that_is_not_recorded_is_found(honest: Ledger) -> None:
    """A Coordinator could hand out secrets and keep quiet about it, while the leaf itself names them."""
    refused(honest.without(honest.find("secret.released")), because="wanted: secret.released")


def test_a_secret_is_not_recorded_twice(honest: Ledger) -> None:
    at = honest.find("secret.released")
    twice = (*honest.written[: at + 1], honest.written[at], *honest.written[at + 1 :])
    refused(replace(honest, written=twice), because="released once")


def test_an_attestation_without_certificate_is_found(honest: Ledger) -> None:
    """The certificate that it led to would be one that nobody can look up."""
    refused(honest.without(honest.find("certificate.issued")), because="wanted: certificate.issued")


@pytest.mark.parametrize("kind", ["attestation.accepted", "certificate.issued", "epoch.opened"])
def test_a_ledger_does_not_end_in_the_middle_of_a_command(honest: Ledger, kind: str) -> None:
    """One commit records a command whole: an end in between was cut, or never meant honestly."""
    # The pod with the secret; the second epoch, which opens before the ledger is recovered.
    source, end = honest.source(), honest.find(kind, 1) + 1
    rules = Rules(blob=source.blob, body_hash=lambda seq: parse_entry(source.entry(seq)).body_hash)
    rules.complete(state_at(source, len(honest.written)))
    with pytest.raises(RuleBrokenError, match=f"entry {end}: the ledger ends"):
        rules.complete(state_at(source, end))
    refused(replace(honest, written=honest.written[:end]), because=f"entry {end}: the ledger ends")


def leaf_for(
    ledger: Ledger,
    at: int,
    *,
    sans: tuple[str, ...] | None = None,
    name: str | None = None,
    claims: tuple[bytes, bytes] = (b"", b""),
) -> Ledger:
    """The ledger with another leaf at the certificate *at*, signed by the mesh CA as only a Coordinator can."""
    issued: Any = ledger.written[at].event
    leaf = x509.load_der_x509_certificate(ledger.blobs[issued.certificate])
    sets = [written.event for written in ledger.written[:at] if isinstance(written.event, ManifestSet)]
    builder = (
        x509.CertificateBuilder()
        .issuer_name(leaf.issuer)
        .subject_name(leaf.subject if name is None else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .public_key(leaf.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        if sans is not None and isinstance(extension.value, x509.SubjectAlternativeName):
            continue
        value = extension.value
        if extension.oid == CLAIMS_OID and isinstance(value, x509.UnrecognizedExtension):
            value = x509.UnrecognizedExtension(CLAIMS_OID, value.value.replace(*claims))
        builder = builder.add_extension(value, extension.critical)
    if sans:
        names = x509.SubjectAlternativeName([x509.DNSName(san) for san in sans])
        builder = builder.add_extension(names, critical=False)
    der = builder.sign(ledger.seed.mesh_ca_key(sets[-1].transition), hashes.SHA384()).public_bytes(
        serialization.Encoding.DER
    )
    return ledger.with_blob(der).changed(at, certificate=hashlib.sha256(der).digest())


def test_a_leaf_with_a_name_that_the_manifest_does_not_give_is_found(honest: Ledger) -> None:
    """A pod could speak for another one towards clients that look at the subject, or at names nobody recorded."""
    at = honest.find("certificate.issued")
    ledger = replace(honest, written=honest.written[: at + 1])  # What follows is bound to the entries before it.
    assert replay(leaf_for(ledger, at).source()).ok
    refused(leaf_for(ledger, at, name="vault"), because="the leaf's subject")
    refused(leaf_for(ledger, at, claims=(b'"Milan"', b'"Turin"')), because="the leaf claims something else")
    refused(leaf_for(ledger, at, sans=()), because="the leaf's SANs")
    refused(leaf_for(ledger, at, sans=("web", "vault")), because="the leaf's SANs")


def test_a_leaf_of_a_policy_without_names_has_none() -> None:
    """The check of the SANs would be passed over where the manifest gives none: any name could stand there."""
    key = ec.generate_private_key(ec.SECP384R1())
    mesh_key = SEED.mesh_ca_key(bytes(32))
    mesh = ca.mesh_certificate(mesh_key, transition=bytes(32), now=NOW, serial=2**126)
    issuer = ca.LeafIssuer.of(mesh_key, mesh)
    spki = ca.spki(issuer.issue(key.public_key(), sans=(), extensions=(), now=NOW, serial=2**126))
    for sans in ((), ("vault",)):
        leaf = issuer.issue(key.public_key(), sans=sans, extensions=(), now=NOW, serial=2**126)
        ca.check_leaf(leaf, ca.load(mesh, "mesh CA"), sans=sans, public_key=spki)
        if sans:
            with pytest.raises(ca.CertificateError, match="SANs"):
                ca.check_leaf(leaf, ca.load(mesh, "mesh CA"), sans=(), public_key=spki)


def test_a_verdict_that_a_coordinator_made_up_about_itself_is_found(honest: Ledger) -> None:
    """The rules judge its evidence, and nobody would look at what it wrote of that."""
    at = honest.find("epoch.opened", 1)
    opened: Any = honest.written[at].event
    verdict = honest.blobs[opened.verdict].replace(b'"Milan"', b'"Turin"')
    made_up = honest.with_blob(verdict).changed(at, verdict=hashlib.sha256(verdict).digest())
    findings = replay(replace(made_up, written=made_up.written[: at + 2]).source()).findings
    assert [(finding.seq, finding.code, finding.proven_wrong) for finding in findings] == [(at, "rule_broken", True)]
    missing = {digest: blob for digest, blob in honest.blobs.items() if digest != opened.verdict}
    findings = replay(replace(honest, blobs=missing).source()).findings
    assert [(finding.seq, finding.code, finding.proven_wrong) for finding in findings] == [(at, "unproven", False)]
