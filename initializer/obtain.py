"""One attempt to get a certificate: keys, challenge, evidence, request, checks. It writes no file and never retries."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attestation.binding import Purpose, report_data, workload_subject
from attestation.errors import EvidenceError
from attestation.evidence import Evidence, Kind, host_data_of
from attestation.issuer import Issuer
from initializer.checks import Checked, Expected, check_answer
from initializer.errors import LocalFaultError, RefusedError
from initializer.files import File
from initializer.known import RECEIPT
from ledger.checkpoint import Checkpoint
from wire.client import CoordinatorClient
from wire.evidence import to_message
from wire.messages import CertificateRequest, CertificateResponse, Head
from wire.problem import RemoteRefusedError

_DER, _PEM = serialization.Encoding.DER, serialization.Encoding.PEM
_BEGIN_AGAIN = frozenset({"challenge_unknown", "challenge_expired"})


Connect = Callable[[], AbstractAsyncContextManager[CoordinatorClient]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """A checked answer with the key that it is for."""

    checked: Checked
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def files(self) -> dict[str, File]:
        """What is written, by file name."""
        bundle = self.checked.bundle
        key = self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        files = {
            "certChain.pem": File(_pem(bundle.leaf) + _pem(bundle.intermediate)),
            "key.pem": File(key, 0o400),
            "mesh-root.pem": File(_pem(bundle.mesh_ca)),
            "coordinator-root.pem": File(_pem(bundle.root_ca)),
            RECEIPT: File(bundle.receipt),
        }
        for secret in self.checked.secrets.values():
            files["workload-secret"] = File(secret.hex().encode() + b"\n", 0o400)
        return files


async def obtain(
    connect: Connect, source: Issuer, *, known_head: Checkpoint | None, clock: Callable[[], datetime]
) -> Obtained:
    """Get one certificate for a fresh key, and check everything that came with it.

    Args:
        connect: Makes a client; one connection serves the whole attempt, so that one Coordinator answers all of it.
        source: Makes the evidence.
        known_head: The head that this pod saw before.
        clock: Aware.

    Raises:
        RemoteError: nobody answered, or the refusal may pass.
        RefusedError: the refusal will not pass.
        WrongAnswerError: the answer fails a check.
        LocalFaultError: the evidence made here cannot be read.
        AttestationError: no evidence could be made.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    hpke = X25519PrivateKey.generate()
    hpke_public = hpke.public_key().public_bytes_raw()
    spki = key.public_key().public_bytes(_DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    async with connect() as client:
        client.accept_unattested_UNSAFE()
        challenge = await client.challenge()
        evidence = await source.issue(
            report_data(Purpose.WORKLOAD, challenge.nonce, workload_subject(spki, hpke_public))
        )
        policy = _policy(evidence)
        request = CertificateRequest(
            nonce=challenge.nonce,
            csr=_csr(key),
            hpke_public_key=hpke_public,
            evidence=to_message(evidence),
            known_head=None if known_head is None else Head(size=known_head.size, root=known_head.root.hex()),
        )
        answer = await _ask(client, request, policy)
    expected = Expected(
        public_key_der=spki,
        hpke_private=hpke,
        policy=policy,
        simulated=evidence.kind is Kind.SIMULATED,
        known_head=known_head,
    )
    checked = check_answer(answer.bundle, answer.sealed or (), answer.consistency, expected, now=clock())
    return Obtained(checked=checked, key=key)


async def _ask(client: CoordinatorClient, request: CertificateRequest, policy: bytes) -> CertificateResponse:
    try:
        return await client.certificate(request)
    except RemoteRefusedError as error:
        if error.may_pass or begin_again(error):
            raise
        raise RefusedError(f"{_advice(error.code, policy)}\n{error}") from None


def begin_again(error: RemoteRefusedError) -> bool:
    """Whether a new attempt from the challenge on can succeed: another replica answered, or it took too long."""
    return error.code in _BEGIN_AGAIN


def _advice(code: str, policy: bytes) -> str:
    """What a person who looks after this pod should know, in one sentence."""
    match code:
        case "unknown_policy":
            return (
                f"this pod runs under the policy {policy.hex()}, which the manifest in force does not name. Either the "
                "pod's YAML was changed after the manifest was set (run `contrast generate` and `contrast set`, then "
                "apply the YAML again), or this pod was not meant to be part of the deployment"
            )
        case "evidence_refused":
            return (
                "the reference values of the manifest in force do not accept the machine that this pod runs on (policy "
                f"{policy.hex()}): compare what was seen and wanted with ReferenceValues in manifest.json"
            )
        case _:
            return f"the Coordinator gives this pod (policy {policy.hex()}) no certificate"


def _policy(evidence: Evidence) -> bytes:
    try:
        return host_data_of(evidence)
    except EvidenceError as error:
        raise LocalFaultError(f"the secure processor made evidence that cannot be read: {error}") from None


def _csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request that proves possession of the key. Names come from the manifest, so it has none."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA384())
    return request.public_bytes(_DER)


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(_PEM)
