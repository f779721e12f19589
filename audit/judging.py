"""Judging single cases again. Pure but for caches: the same case gives the same faults, in whichever process."""

import json
from typing import Any, Final, assert_never

import msgspec
from cryptography import x509

from attestation.binding import Purpose, parse_workload_subject, report_data
from attestation.errors import EvidenceError
from attestation.evidence import Evidence, host_data_of
from attestation.judge import ChainCache, judge
from attestation.verdict import Outcome, Verdict
from audit.cases import AttestationCase, Case, CertificateCase, Fault, Head, Knowledge, SecretCase
from audit.known_now import Today
from audit.profile import leaf_fault
from coordinator import ca
from coordinator.decide import MAX_PREPARED_MS
from coordinator.epoch_rules import describe
from coordinator.events import AttestationAccepted, CertificateIssued, SecretReleased
from coordinator.keys import sha256
from coordinator.times import moment
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.extensions import (
    Companions,
    ExtensionError,
    read_checkpoint,
    read_claims,
    read_companions,
    read_simulated,
)


class _BrokenError(Exception):
    """The fault that ends the judging of one case."""

    def __init__(self, rule: str, seen: str = "", wanted: str = "") -> None:
        super().__init__(rule)
        self.rule, self.seen, self.wanted = rule, seen, wanted


class Judge:
    """Judges cases one after another, remembering chains, manifests and the mesh CA between them.

    Args:
        knowledge: Also judge accepted evidence by what is known now; None: only as decided then.

    Attributes:
        heads: (seq, size, root) that certificates carry: to be compared with the tree, which is not known here.
    """

    def __init__(self, knowledge: Knowledge | None = None) -> None:
        self.heads: list[Head] = []
        self._today = None if knowledge is None else Today(knowledge)
        self._cache = ChainCache()
        self._manifest: tuple[bytes, Manifest] | None = None
        self._mesh: tuple[bytes, x509.Certificate] | None = None

    def judge(self, case: Case) -> tuple[Fault, ...]:
        """What is wrong with *case*; nothing where it follows from what was recorded."""
        try:
            match case:
                case AttestationCase():
                    return self._attestation(case)
                case CertificateCase():
                    self._certificate(case)
                case SecretCase():
                    self._secret(case)
                case _:
                    assert_never(case)
        except _BrokenError as error:
            return (Fault(case.seq, error.rule, error.seen, error.wanted, about=_ABOUT[type(case)]),)
        return ()

    def _attestation(self, case: AttestationCase) -> tuple[Fault, ...]:
        """The evidence passes the manifest then in force, at the recorded time, for this purpose, nonce and subject."""
        manifest = self._manifest_of(case)
        try:
            evidence = Evidence.make(case.kind, dict(case.parts))
            host_data = host_data_of(evidence)
        except EvidenceError as error:
            raise _BrokenError("the evidence is malformed", str(error)) from None
        binding = report_data(Purpose(case.purpose), case.nonce, case.subject)
        verdict = self._verdict(evidence, manifest, binding, case.time_ms, case.rules)
        if not verdict.accepted or verdict.outcomes != case.outcomes:
            # It is recorded a while after it was judged, and certificates and lists may end in between.
            before = self._verdict(evidence, manifest, binding, max(0, case.time_ms - MAX_PREPARED_MS), case.rules)
            verdict = before if before.accepted and before.outcomes == case.outcomes else verdict
        if not verdict.accepted:
            raise _BrokenError("the evidence does not pass the manifest in force", describe(verdict))
        if verdict.outcomes != case.outcomes:
            raise _BrokenError("the outcomes recorded are not those found", case.outcomes.hex(), verdict.outcomes.hex())
        _same_verdict(case.verdict, verdict)
        if host_data != case.policy:
            raise _BrokenError("the policy recorded is not the evidence's", case.policy.hex())
        if self._today is None:
            return ()
        refusal = self._today.refusal(evidence, manifest, report_data=binding, cache=self._cache)
        return () if refusal is None else (_refused_now(case, refusal),)

    def _verdict(self, evidence: Evidence, manifest: Manifest, binding: bytes, at_ms: int, rules: int) -> Verdict:
        return judge(
            evidence,
            manifest.reference_values,
            report_data=binding,
            host_data=manifest.policies.keys(),
            now=moment(at_ms),
            cache=self._cache,
            rules=rules,
        )

    def _certificate(self, case: CertificateCase) -> None:
        """The certificate is signed by the mesh CA then in force, for the attested key, with the manifest's SANs."""
        try:
            leaf = ca.load(case.certificate, "leaf")
            spki, _ = parse_workload_subject(case.subject)
            ca.check_leaf(leaf, self._mesh_of(case), sans=case.sans, public_key=spki)
            companions = read_companions(leaf)
            checkpoint = read_checkpoint(leaf)
            simulated = read_simulated(leaf)
            claims = read_claims(leaf)
        except (ca.CertificateError, EvidenceError, ExtensionError) as error:
            raise _BrokenError("the certificate breaks the rules", str(error)) from None
        fault = leaf_fault(leaf, time_ms=case.time_ms)
        if fault is not None:
            raise _BrokenError(*fault)
        dates = (int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp()))
        if dates != (case.not_before, case.not_after):
            raise _BrokenError("the dates recorded are not the certificate's", str(dates))
        if not case.not_before * 1000 <= case.time_ms <= case.not_after * 1000:
            raise _BrokenError("the certificate was not valid when it was issued", str(dates))
        if companions.root_ca != case.root_ca:
            raise _BrokenError("the leaf names another root CA", companions.root_ca.hex())
        if checkpoint.origin != case.origin or checkpoint.size > case.seq:
            raise _BrokenError("the leaf carries a checkpoint that was not there yet", str(checkpoint.size))
        self.heads.append((case.seq, checkpoint.size, checkpoint.root))
        if claims != _claims(case.verdict):
            raise _BrokenError("the leaf claims something else than its evidence", json.dumps(claims)[:512])
        if simulated != case.simulated:
            raise _BrokenError("the leaf hides, or claims, simulated evidence")
        if set(companions.secrets) != ({case.secret_id} if case.secret_id else set()):
            raise _BrokenError("the leaf names other secrets than the manifest", json.dumps(sorted(companions.secrets)))

    def _secret(self, case: SecretCase) -> None:
        """The leaf names this secret with this check."""
        try:
            companions: Companions = read_companions(ca.load(case.certificate, "leaf"))
        except (ca.CertificateError, ExtensionError) as error:
            raise _BrokenError("the certificate breaks the rules", str(error)) from None
        if companions.secrets.get(case.secret_id) != case.check:
            raise _BrokenError("the leaf names another secret than was released", case.secret_id)

    def _manifest_of(self, case: AttestationCase) -> Manifest:
        if self._manifest is None or self._manifest[0] != case.manifest_sha256:
            # It was parsed before this case was made: it is one.
            self._manifest = (case.manifest_sha256, parse_manifest(case.manifest, recorded=True))
        return self._manifest[1]

    def _mesh_of(self, case: CertificateCase) -> x509.Certificate:
        if self._mesh is None or self._mesh[0] != case.mesh_ca_sha256:
            self._mesh = (case.mesh_ca_sha256, ca.load(case.mesh_ca, "mesh CA"))
        return self._mesh[1]


_ABOUT: Final = {
    AttestationCase: AttestationAccepted.type,
    CertificateCase: CertificateIssued.type,
    SecretCase: SecretReleased.type,
}


def _refused_now(case: AttestationCase, why: str) -> Fault:
    return Fault(case.seq, "what is known now refuses this evidence", seen=why, about=_ABOUT[AttestationCase], now=True)


def verdict_fault(recorded: bytes, found: Verdict) -> tuple[str, str, str] | None:
    """How the recorded verdict differs from the one *found*: rule, seen, wanted; None where it decided the same.

    What a verdict decided is compared; its texts are for people and may be worded better some day.
    """
    try:
        read = _read_verdict(recorded)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "the verdict recorded is no verdict", repr(recorded[:60]), ""
    seen = (read.kind, read.rules, read.accepted, [(each.number, each.outcome) for each in read.checks], read.claims)
    claims = None if found.claims is None else found.claims.as_dict()
    outcomes = [(each.number, _WORDS[each.outcome]) for each in found.checks]
    if seen != (found.kind.value, found.rules, found.accepted, outcomes, claims):
        return "the verdict recorded is not the one found", sha256(recorded).hex(), sha256(found.json()).hex()
    return None


def _same_verdict(recorded: bytes, found: Verdict) -> None:
    fault = verdict_fault(recorded, found)
    if fault is not None:
        raise _BrokenError(*fault)


def _claims(verdict: bytes) -> object:
    try:
        return _read_verdict(verdict).claims
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _BrokenError("the verdict recorded is no verdict", repr(verdict[:60])) from None


class _Check(msgspec.Struct, frozen=True):
    number: int
    outcome: str


class _Recorded(msgspec.Struct, frozen=True):
    """What a verdict's JSON decides; the texts beside it are passed over."""

    kind: str
    rules: int
    accepted: bool
    checks: tuple[_Check, ...]
    claims: dict[str, Any] | None


_WORDS: Final = {outcome: outcome.name.lower() for outcome in Outcome}
_read_verdict: Final = msgspec.json.Decoder(_Recorded).decode
