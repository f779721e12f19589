"""Every route of the API: port, method, path, messages, bounds and codes of refusals. A table; it serves nothing.

The client, the OpenAPI document and the Coordinator's own test of its routes read the same rows.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from msgspec import Struct

from wire.messages import (
    AttestRequest,
    AttestResponse,
    Capabilities,
    CertificateRequest,
    CertificateResponse,
    ChallengeResponse,
    ManifestsResponse,
    RecoveryRequest,
    RecoveryResponse,
    SetManifestRequest,
    SetManifestResponse,
)

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain"

KIB: Final = 1 << 10
MIB: Final = 1 << 20
MAX_TILE: Final = 256 * 32
MAX_ENTRY: Final = 16_384
MAX_ENTRY_BUNDLE: Final = 256 * (2 + MAX_ENTRY)
MAX_BLOB: Final = MIB


class Port(IntEnum):
    """The three ports and their defaults."""

    USER = 1313
    MESH = 7777
    PROBE = 9102


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. Sizes are in bytes; `problems` are the codes of its refusals beyond `COMMON_PROBLEMS`."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    ports: tuple[Port, ...]
    summary: str
    max_answer: int
    answer: type[Struct] | str
    request: type[Struct] | None = None
    max_request: int = 0
    problems: tuple[str, ...] = ()


# Code -> HTTP status. Append-only: clients and auditors know these words.
PROBLEM_STATUS: Final[dict[str, int]] = {
    "bad_csr": 400,
    "invalid_manifest": 400,
    "malformed_request": 400,
    "policies_mismatch": 400,
    "bad_owner_signature": 403,
    "binding_mismatch": 403,
    "challenge_expired": 403,
    "challenge_unknown": 403,
    "evidence_refused": 403,
    "not_a_share_owner": 403,
    "not_an_owner": 403,
    "seed_mismatch": 403,
    "unknown_policy": 403,
    "updates_disabled": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "ca_mismatch": 409,
    "clock_differs": 409,
    "coordinator_excluded": 409,
    "head_mismatch": 409,
    "not_in_recovery": 409,
    "seedshare_owners_changed": 409,
    "stale_statement": 409,
    "stale_transition": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "busy": 429,
    "rate_limited": 429,
    "internal": 500,
    "ledger_damaged": 500,
    "ledger_forked": 500,
    "ca_expired": 503,
    "clock_behind": 503,
    "clock_jumped": 503,
    "endorsements_missing": 503,
    "evidence_not_issued": 503,
    "head_moved": 503,
    "needs_manifest": 503,
    "needs_recovery": 503,
    "shutting_down": 503,
    "store_failed": 503,
    "witnesses_unavailable": 503,
    "ledger_full": 507,
}
COMMON_PROBLEMS: Final = ("not_found", "method_not_allowed", "busy", "internal", "ledger_damaged", "shutting_down")
_BODY: Final = ("malformed_request", "too_large", "unsupported_media_type")
_STORE: Final = ("store_failed", "head_moved", "ledger_full", "ledger_forked")
_CLOCK: Final = ("clock_behind", "clock_jumped")
_OWNERS_CLOCK: Final = (*_CLOCK, "clock_differs")
_WRITE: Final = (*_STORE, *_CLOCK, "needs_recovery")
_OWN_EVIDENCE: Final = ("evidence_not_issued", "endorsements_missing")

CAPABILITIES = Route(
    name="capabilities",
    method="GET",
    path="/v1/capabilities",
    ports=(Port.USER,),
    summary="Which versions of the API this Coordinator speaks.",
    answer=Capabilities,
    max_answer=4 * KIB,
)
OPENAPI = Route(
    name="openapi",
    method="GET",
    path="/openapi.json",
    ports=(Port.USER,),
    summary="This document.",
    answer=JSON,
    max_answer=MIB,
)
ATTEST = Route(
    name="attest",
    method="POST",
    path="/v1/attest",
    ports=(Port.USER, Port.MESH),
    summary="The Coordinator's statement, and evidence bound to it and to the client's nonce.",
    request=AttestRequest,
    max_request=KIB,
    answer=AttestResponse,
    max_answer=MIB,
    problems=(*_BODY, *_OWN_EVIDENCE, "rate_limited"),
)
SET_MANIFEST = Route(
    name="set_manifest",
    method="POST",
    path="/v1/manifests",
    ports=(Port.USER,),
    summary="Set a manifest. The one in force again writes nothing and gets the recorded answer.",
    request=SetManifestRequest,
    max_request=16 * MIB,
    answer=SetManifestResponse,
    max_answer=256 * KIB,
    problems=(
        *_BODY,
        *_WRITE,
        *_OWN_EVIDENCE,
        "ca_expired",
        "clock_differs",
        "rate_limited",
        "invalid_manifest",
        "policies_mismatch",
        "not_an_owner",
        "bad_owner_signature",
        "updates_disabled",
        "stale_transition",
        "seedshare_owners_changed",
        "coordinator_excluded",
    ),
)
MANIFESTS = Route(
    name="manifests",
    method="GET",
    path="/v1/manifests",
    ports=(Port.USER,),
    summary="The history of manifests, oldest first.",
    answer=ManifestsResponse,
    max_answer=16 * MIB,
)
RECOVER = Route(
    name="recover",
    method="POST",
    path="/v1/recovery",
    ports=(Port.USER,),
    summary="Give the seed back, sealed for this Coordinator and signed by a seed share owner.",
    request=RecoveryRequest,
    max_request=8 * KIB,
    answer=RecoveryResponse,
    max_answer=64 * KIB,
    problems=(
        *_BODY,
        *_STORE,
        *_OWNERS_CLOCK,
        "rate_limited",
        *_OWN_EVIDENCE,
        "needs_manifest",
        "coordinator_excluded",
        "not_in_recovery",
        "not_a_share_owner",
        "stale_statement",
        "seed_mismatch",
        "ca_mismatch",
        "head_mismatch",
        "evidence_refused",
    ),
)
CHECKPOINT = Route(
    name="checkpoint",
    method="GET",
    path="/v1/ledger/checkpoint",
    ports=(Port.USER,),
    summary="The newest finished checkpoint, a signed note.",
    answer=TEXT,
    max_answer=64 * KIB,
)
TILE = Route(
    name="tile",
    method="GET",
    path="/v1/ledger/tile/{L}/{N}",
    ports=(Port.USER,),
    summary="A tile of the tree (C2SP tlog-tiles); N holds slashes, as in x001/234 and 567.p/8.",
    answer=BYTES,
    max_answer=MAX_TILE,
)
ENTRY_BUNDLE = Route(
    name="entry_bundle",
    method="GET",
    path="/v1/ledger/tile/entries/{N}",
    ports=(Port.USER,),
    summary="A bundle of entries (C2SP tlog-tiles), each after its length as u16.",
    answer=BYTES,
    max_answer=MAX_ENTRY_BUNDLE,
)
ENTRY = Route(
    name="entry",
    method="GET",
    path="/v1/ledger/entry/{seq}",
    ports=(Port.USER,),
    summary="One raw entry.",
    answer=BYTES,
    max_answer=MAX_ENTRY,
)
BLOB = Route(
    name="blob",
    method="GET",
    path="/v1/ledger/blob/{sha256}",
    ports=(Port.USER,),
    summary="A blob by its SHA-256 in lower-case hex.",
    answer=BYTES,
    max_answer=MAX_BLOB,
)
CHALLENGE = Route(
    name="challenge",
    method="POST",
    path="/v1/challenges",
    ports=(Port.MESH,),
    summary="A nonce to attest with. The request has no body.",
    answer=ChallengeResponse,
    max_answer=KIB,
    problems=("needs_manifest", "needs_recovery", "ca_expired", *_CLOCK),
)
CERTIFICATE = Route(
    name="certificate",
    method="POST",
    path="/v1/certificates",
    ports=(Port.MESH,),
    summary="A certificate for an attested key. The same request again gets the same certificate.",
    request=CertificateRequest,
    max_request=512 * KIB,
    answer=CertificateResponse,
    max_answer=512 * KIB,
    problems=(
        *_BODY,
        *_WRITE,
        "needs_manifest",
        "bad_csr",
        "ca_expired",
        "binding_mismatch",
        "challenge_unknown",
        "challenge_expired",
        "evidence_refused",
        "unknown_policy",
        "head_mismatch",
        "rate_limited",
        "witnesses_unavailable",
        "endorsements_missing",
    ),
)


def _probe(name: str, summary: str) -> Route:
    path = f"/probe/{name}"
    return Route(name=name, method="GET", path=path, ports=(Port.PROBE,), summary=summary, answer=TEXT, max_answer=KIB)


STARTUP = _probe("startup", "200 once the ports listen, 503 before.")
LIVENESS = _probe("liveness", "200 while the process answers.")
READINESS = _probe("readiness", "200 while certificates can be issued, 503 otherwise.")
METRICS = Route(
    name="metrics",
    method="GET",
    path="/metrics",
    ports=(Port.PROBE,),
    summary="Prometheus metrics.",
    answer=TEXT,
    max_answer=4 * MIB,
)

ROUTES: Final = (
    CAPABILITIES,
    OPENAPI,
    ATTEST,
    SET_MANIFEST,
    MANIFESTS,
    RECOVER,
    CHECKPOINT,
    TILE,
    ENTRY_BUNDLE,
    ENTRY,
    BLOB,
    CHALLENGE,
    CERTIFICATE,
    STARTUP,
    LIVENESS,
    READINESS,
    METRICS,
)
