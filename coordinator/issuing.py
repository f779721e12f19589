"""From a workload's request to a prepared command: reading, judging, signing. It neither waits nor writes."""

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from attestation.binding import Purpose, report_data, workload_subject
from attestation.errors import EvidenceError
from attestation.evidence import Evidence, Kind, binding_of, host_data_of
from attestation.judge import ChainCache, judge
from attestation.verdict import Verdict
from coordinator.authority import Authority, Grant
from coordinator.commands import IssueCertificate
from coordinator.errors import ChallengeExpiredError, CoordinatorError
from coordinator.events import AttestationAccepted, CertificateIssued, SecretReleased
from coordinator.refusals import BadCsrError, BindingMismatchError, EvidenceRefusedError, UnknownPolicyError
from wire.evidence import from_message
from wire.extensions import checkpoint_extension, claims_extension, simulated_extension
from wire.messages import CertificateRequest

_CURVES = (ec.SECP384R1, ec.SECP256R1)
_DER, _SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
# Which of the 16 codes of attestation.refused a failed check counts as; the numbers are those of the verdict.
_REFUSAL_OF_CHECK = {
    "evidence_malformed": (1, 2, 3, 4),
    "evidence_chain": (5, 6, 7, 8, 9, 10),
    "evidence_signature": (11, 12),
    "evidence_identity": (13, 22, 23, 26),
    "evidence_tcb": (14, 15, 16, 17),
    "evidence_guest_policy": (18, 20),
    "evidence_platform": (19,),
    "evidence_measurement": (21,),
    "unknown_policy": (24,),
    "binding_mismatch": (25,),
}
_CODES = {number: code for code, numbers in _REFUSAL_OF_CHECK.items() for number in numbers}
# The checks whose texts show a chip's id.
_NAMES_A_CHIP = frozenset({13, 26})
# The checks that fail where certificates (9) or collateral (12) are missing, and the last, which only sums up.
_FETCHED = frozenset({9, 12, 27})


class FailedCheckError(EvidenceRefusedError):
    """A numbered check of the verdict failed."""

    def __init__(self, number: int, name: str, *, seen: str, wanted: str) -> None:
        super().__init__(f"Check {number} ({name}) failed.", seen=seen, wanted=wanted)
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A certificate request, read and bound together; nothing in it is verified but that it belongs together."""

    nonce: bytes
    csr: x509.CertificateSigningRequest
    public_key: ec.EllipticCurvePublicKey
    hpke_public: bytes
    evidence: Evidence
    subject: bytes
    report_data: bytes
    request_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A command for the writer, and the leaf that its commit makes valid."""

    command: IssueCertificate
    leaf: bytes


def read_request(message: CertificateRequest) -> Asked:
    """Read *message* and compute what its evidence must be bound to.

    Raises:
        BadCsrError: The CSR is not one for a P-256 or P-384 key.
        BindingMismatchError: The evidence is bound to something else.
        MessageError: The evidence's parts are not evidence.
    """
    evidence = from_message(message.evidence)
    try:
        csr = x509.load_der_x509_csr(message.csr)
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadCsrError(f"The CSR cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise BadCsrError("The CSR's key is of another kind.", seen=type(key).__name__, wanted="P-384 or P-256")
    subject = workload_subject(key.public_bytes(_DER, _SPKI), message.hpke_public_key)
    wanted = report_data(Purpose.WORKLOAD, message.nonce, subject)
    try:
        seen = binding_of(evidence)
    except EvidenceError as error:
        raise EvidenceRefusedError(f"The evidence cannot be read: {error}") from None
    if seen != wanted:
        raise BindingMismatchError(seen=f"REPORT_DATA {seen.hex()[:32]}…", wanted=f"{wanted.hex()[:32]}…")
    return Asked(
        nonce=message.nonce,
        csr=csr,
        public_key=key,
        hpke_public=message.hpke_public_key,
        evidence=evidence,
        subject=subject,
        report_data=wanted,
        request_id=hashlib.sha256(wanted).digest(),
    )


def granted(asked: Asked, authority: Authority) -> Grant:
    """What the manifest gives the policy that the evidence names.

    Raises:
        UnknownPolicyError: The manifest does not name it.
    """
    host_data = host_data_of(asked.evidence)
    grant = authority.grants.get(host_data)
    if grant is None:
        raise UnknownPolicyError(
            seen=f"policy {host_data.hex()}",
            wanted=f"one of the {len(authority.grants)} policies of the manifest in force",
        )
    return grant


def prepare(
    asked: Asked,
    grant: Grant,
    authority: Authority,
    *,
    checkpoint: str,
    now: dt.datetime,
    life: dt.timedelta,
    cache: ChainCache,
) -> Prepared:
    """Judge the evidence, check the proof of possession, sign the leaf. For a thread: most of it is arithmetic.

    Args:
        asked: What :func:`read_request` gave.
        grant: What :func:`granted` gave.
        authority: Of the manifest in force.
        checkpoint: Text of the last finished checkpoint, which the leaf carries.
        now: Aware; the time of the judgement and of the leaf.
        life: Of the leaf.
        cache: Chains verified before.

    Raises:
        EvidenceRefusedError: A check failed.
        BadCsrError: The CSR is not signed by its key.
    """
    verdict = judge(
        asked.evidence,
        authority.manifest.reference_values,
        report_data=asked.report_data,
        host_data=authority.grants.keys(),
        now=now,
        cache=cache,
    )
    if not verdict.accepted or verdict.claims is None:
        raise refused(verdict)
    _demand_possession(asked, sealing=grant.secret_id is not None)
    extensions = [claims_extension(verdict.claims.json()), checkpoint_extension(checkpoint), grant.companions]
    if verdict.kind is Kind.SIMULATED:
        extensions.append(simulated_extension())
    leaf = authority.issuer.issue(
        asked.public_key,
        sans=grant.sans,
        extensions=extensions,
        now=now,
        serial=int.from_bytes(secrets.token_bytes(16)) & (2**127 - 1) | 2**126,
        life=life,
    )
    return _command(asked, grant, authority, verdict, leaf, now=now)


def _demand_possession(asked: Asked, *, sealing: bool) -> None:
    """Refuse a CSR that its own key has not signed and, where *sealing*, an HPKE key that nothing is sealed for."""
    try:
        signed = asked.csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        signed = False
    if not signed:
        raise BadCsrError("The CSR is not signed by its own key.")
    if sealing:
        try:
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(asked.hpke_public))
        except ValueError:
            raise BadCsrError("The HPKE key is of low order: nothing can be sealed for it.") from None


def _command(
    asked: Asked, grant: Grant, authority: Authority, verdict: Verdict, leaf: x509.Certificate, *, now: dt.datetime
) -> Prepared:
    """The events that record *verdict* and *leaf*, and every document that they name."""
    leaf_der = leaf.public_bytes(_DER)
    leaf_sha256 = hashlib.sha256(leaf_der).digest()
    verdict_json = verdict.json()
    attestation = AttestationAccepted(
        purpose=Purpose.WORKLOAD.value,
        evidence=asked.evidence.references(),
        nonce=asked.nonce,
        subject=asked.subject,
        rules=verdict.rules,
        outcomes=verdict.outcomes,
        verdict=hashlib.sha256(verdict_json).digest(),
        policy=grant.policy,
        manifest_seq=authority.manifest_seq,
    )
    certificate = CertificateIssued(
        certificate=leaf_sha256,
        attestation_seq=0,
        sans=grant.sans,
        not_before=int(leaf.not_valid_before_utc.timestamp()),
        not_after=int(leaf.not_valid_after_utc.timestamp()),
    )
    released: tuple[SecretReleased, ...] = ()
    if grant.secret_id is not None and grant.check is not None:
        released = (
            SecretReleased(
                secret_id=grant.secret_id,
                policy=grant.policy,
                attestation_seq=0,
                certificate=leaf_sha256,
                check=grant.check,
            ),
        )
    command = IssueCertificate(
        generation=authority.generation,
        request_id=asked.request_id,
        prepared_ms=round(now.timestamp() * 1000),
        attestation=attestation,
        certificate=certificate,
        secrets=released,
        blobs=(*(data for _, data in asked.evidence.parts), verdict_json, leaf_der),
    )
    return Prepared(command=command, leaf=leaf_der)


def demand_worth(asked: Asked, authority: Authority, *, now: dt.datetime) -> None:
    """Refuse evidence for which nobody need be asked: one that fails for more than what it came without.

    Raises:
        EvidenceRefusedError: A check of the evidence's own bytes failed.
    """
    verdict = judge(
        asked.evidence,
        authority.manifest.reference_values,
        report_data=asked.report_data,
        host_data=authority.grants.keys(),
        now=now,
    )
    if any(check.number not in _FETCHED for check in verdict.failures):
        raise refused(verdict)


def refused(verdict: Verdict) -> EvidenceRefusedError:
    """The refusal for a failed verdict: its first failed check, seen and wanted."""
    failure = verdict.first_failure
    if failure is None:
        return EvidenceRefusedError(
            "The evidence is of a kind that this version does not judge.", seen=str(verdict.kind)
        )
    return FailedCheckError(failure.number, failure.name, seen=failure.seen, wanted=failure.wanted)


def refusal_code(error: CoordinatorError) -> str:
    """Which of the 16 codes of ``attestation.refused`` *error* counts as."""
    match error:
        case FailedCheckError():
            return _CODES.get(error.number, "other")
        case EvidenceRefusedError():
            return "evidence_kind"
        case ChallengeExpiredError():
            return "challenge_unknown"  # Of the sixteen codes none is for one that came late.
        case _:
            return error.code


def refusal_sample(error: CoordinatorError) -> tuple[str, str]:
    """What the ledger, which is public, may show of *error*: seen and wanted, but never the id of a chip."""
    if isinstance(error, FailedCheckError) and error.number in _NAMES_A_CHIP:
        return error.detail, ""
    return error.seen or error.detail, error.wanted or ""
