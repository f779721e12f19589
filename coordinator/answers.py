"""What clients are told of what was recorded: statements, receipts, bundles. It decides nothing."""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from coordinator.authority import Authority
from coordinator.epoch import Epoch
from coordinator.events import AttestationAccepted, CertificateIssued, decode_event
from coordinator.issuing import Asked
from coordinator.refusals import HeadMismatchError
from coordinator.state import State
from ledger.checkpoint import origin_of
from ledger.entry import Entry
from ledger.log import Log
from ledger.note import VerifierKey
from ledger.proof import TlogProof
from wire.bundle import Bundle
from wire.messages import CertificateResponse, Head, SealedSecret, SeedShare, SetManifestResponse
from wire.sealing import hpke_seal, secret_info
from wire.statement import API_VERSION, STATEMENT_VERSION, ControlHead, Statement, Unverified


def empty_statement(epoch: Epoch, ledger_public: bytes, *, simulated: bool) -> Statement:
    """Before the first manifest: who this is, and the name that its ledger will have."""
    return replace(
        _statement(epoch, "empty", simulated=simulated),
        origin=origin_of(ledger_public),
        ledger_key=ledger_public.hex(),
    )


def active_statement(epoch: Epoch, state: State, authority: Authority, finished: str, *, simulated: bool) -> Statement:
    """With a manifest in force: what the ledger says, and the last finished checkpoint."""
    return replace(
        _statement(epoch, "active", simulated=simulated),
        generation=state.generation,
        origin=state.origin,
        ledger_key=ledger_public_of(state).hex(),
        checkpoint=finished,
        control_head=_control_head(state),
        transition=state.transition.hex(),
        root_ca=authority.root_ca,
        mesh_ca=authority.mesh_ca,
    )


def recovery_statement(
    epoch: Epoch, state: State, log: Log, blob: Callable[[bytes], bytes], *, draft: str, simulated: bool
) -> Statement:
    """After a restart: only the epoch's keys are this process's own; what came from storage is unverified."""
    current = state.current
    unverified = Unverified(
        origin=state.origin,
        ledger_key=ledger_public_of(state).hex(),
        size=log.size,
        root=log.root.hex(),
        draft=draft,
        generation=state.generation,
        checkpoint=log.finished,
        control_head=_control_head(state),
        transition=state.transition.hex(),
        root_ca=blob(state.root_ca),
        mesh_ca=blob(current.mesh_ca) if current else None,
    )
    return replace(_statement(epoch, "recovery", simulated=simulated), unverified=unverified)


def _statement(epoch: Epoch, phase: Literal["empty", "recovery", "active"], *, simulated: bool) -> Statement:
    """What every statement says: whose it is, in which state."""
    return Statement(
        version=STATEMENT_VERSION,
        state=phase,
        epoch_key=epoch.public.hex(),
        tls_cert_sha256=epoch.tls_sha256.hex(),
        hpke_public_key=epoch.hpke_public.hex(),
        generation=0,
        api_versions=(API_VERSION,),
        simulated=simulated,
    )


def _control_head(state: State) -> ControlHead:
    return ControlHead(seq=state.control_head.seq, hash=state.control_head.body_hash.hex())


def ledger_public_of(state: State) -> bytes:
    """The raw Ed25519 ledger key, from the first verifier key of ``ledger.created``."""
    return VerifierKey.parse(state.verifier_keys[0]).public


def recorded_set(state: State, authority: Authority, finished: str) -> SetManifestResponse:
    """The answer to a set: what is in force, seed shares included, so that a lost answer loses none."""
    return SetManifestResponse(
        transition=state.transition.hex(),
        generation=state.generation,
        root_ca=authority.root_ca,
        mesh_ca=authority.mesh_ca,
        seed_shares=tuple(SeedShare(owner=owner.hex(), sealed=sealed) for owner, sealed in state.seed_shares),
        checkpoint=finished,
    )


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the ledger holds: its DER, the entry that says so, and the policy that was attested."""

    leaf: bytes
    entry: Entry
    policy: bytes


def find_issued(log: Log, entry: Entry, asked: Asked, authority: Authority) -> Issued | None:
    """The certificate recorded for *asked* under this manifest, if *entry* is its attestation.

    Where the entry was found is only a hint, and the evidence in *asked* is not judged: only what is recorded counts.
    """
    if entry.body.type != AttestationAccepted.type or entry.body.request_id != asked.request_id:
        return None
    event, _ = decode_event(entry)
    if not isinstance(event, AttestationAccepted) or event.manifest_seq != authority.manifest_seq:
        return None
    if event.nonce != asked.nonce or event.subject != asked.subject:
        return None
    following = log.entry(entry.body.seq + 1)
    issued, _ = decode_event(following)
    if not isinstance(issued, CertificateIssued) or issued.attestation_seq != entry.body.seq:
        return None
    leaf = log.blob(issued.certificate)
    return None if leaf is None else Issued(leaf, following, event.policy)


def certificate_answer(
    issued: Issued,
    log: Log,
    authority: Authority,
    finished: str,
    *,
    secret: tuple[str, bytes] | None,
    hpke_public: bytes,
    known: Head | None,
) -> CertificateResponse:
    """The bundle with its receipt, the secret sealed for it, and a consistency proof from the client's head.

    Raises:
        HeadMismatchError: The client knows a longer ledger.
    """
    size = int(finished.split("\n", 2)[1])  # The second line of a checkpoint; this one is ours.
    entry = issued.entry
    receipt = TlogProof(entry.body.seq, log.proof(entry.body.seq, size), finished, entry.raw).text().encode()
    bundle = Bundle(
        leaf=issued.leaf,
        intermediate=authority.intermediate,
        mesh_ca=authority.mesh_ca,
        root_ca=authority.root_ca,
        receipt=receipt,
    ).pack()
    sealed: tuple[SealedSecret, ...] | None = None
    if secret is not None:
        secret_id, value = secret
        info = secret_info(authority.origin, hashlib.sha256(bundle).digest())
        sealed = (SealedSecret(id=secret_id, data=hpke_seal(value, hpke_public, info)),)
    return CertificateResponse(
        bundle=bundle, sealed=sealed, consistency=None if known is None else tuple(_consistency(log, known, size))
    )


def check_known(known: Head, size: int) -> None:
    """Refuse a client that knows a longer ledger, before anything is recorded for it.

    Raises:
        HeadMismatchError: It does.
    """
    if known.size > size:
        raise HeadMismatchError(seen=f"{size} entries", wanted=f"at least {known.size}")


def _consistency(log: Log, known: Head, size: int) -> Sequence[bytes]:
    check_known(known, size)
    return log.consistency(known.size, size) if known.size else ()


class Recent:
    """Request ids of the last minutes and where their certificates stand, so that no index decides what is new."""

    def __init__(self, life_ms: int) -> None:
        self._life_ms = life_ms
        self._seqs: dict[tuple[int, bytes], int] = {}
        self._order: deque[tuple[int, tuple[int, bytes]]] = deque()

    def remember(self, generation: int, request_id: bytes, seq: int, *, now_ms: int) -> None:
        """The attestation of *request_id* under this generation stands at *seq*."""
        key = (generation, request_id)
        self._seqs[key] = seq
        self._order.append((now_ms, key))
        while self._order and now_ms - self._order[0][0] > self._life_ms:
            self._seqs.pop(self._order.popleft()[1], None)

    def find(self, generation: int, request_id: bytes) -> int | None:
        """Where it stands, if it was issued within the last minutes."""
        return self._seqs.get((generation, request_id))

    def __len__(self) -> int:
        return len(self._seqs)
