"""What a recorded event must satisfy in the state before it. The Coordinator's opening, verify and audit ask here.

The rules judge entries that the ledger has already checked for structure, chain, time order and their own signatures.
They read blobs and earlier entries through two functions, and nothing else. What needs the evidence of every single
certificate stands in ``audit``.
"""

from collections.abc import Callable, Container, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias, assert_never

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.binding import Purpose, epoch_subject, report_data
from attestation.errors import EvidenceError
from attestation.evidence import Evidence, host_data_of
from attestation.judge import ChainCache, judge
from attestation.reference import ReferenceValues
from attestation.verdict import RULES_VERSION, Outcome, Verdict
from coordinator import ca
from coordinator.decide import MAX_REFUSAL_CODES, REFUSAL_INTERVAL_MS
from coordinator.events import (
    FORMAT_VERSIONS,
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    EpochOpened,
    Event,
    EventError,
    ForkAccepted,
    LedgerCreated,
    LedgerRecovered,
    ManifestSet,
    References,
    SecretReleased,
    decode_event,
)
from coordinator.keys import sha256
from coordinator.refusals import RuleBrokenError, UnprovenError
from coordinator.state import Epoch, LastAttestation, State, evolve
from ledger.checkpoint import epoch_name, origin_of
from ledger.entry import Entry
from ledger.errors import LedgerError
from ledger.note import KeyType, VerifierKey, ed25519_key
from manifest.authorise import (
    AuthorisationError,
    Signature,
    check_successor,
    genesis_previous,
    transition,
    verify_owner,
)
from manifest.errors import ManifestError
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.sealing import fork_input, recovery_input, verify_recovery

FIRST_COMMIT: Final = (LedgerCreated.type, EpochOpened.type, ManifestSet.type)
CHECKS: Final = 27
MAX_TIME_MS: Final = 253_402_300_799_999  # The end of the year 9999: no calendar and no certificate knows a later one.

Blob = Callable[[bytes], bytes | None]


_Judged: TypeAlias = tuple[EpochOpened, int, tuple[ReferenceValues, ...], bool]


class Rules:
    """The rules, with what they need to look up.

    Args:
        blob: The blob with this SHA-256, or None when it is not there.
        body_hash: SHA-256(body) of an earlier entry, by seq.
    """

    def __init__(self, *, blob: Blob, body_hash: Callable[[int], bytes]) -> None:
        self._blob = blob
        self._body_hash = body_hash
        self._manifest: tuple[bytes, Manifest] | None = None
        self._created: Entry | None = None
        self._mesh_keys: set[bytes] = set()
        self._accepted: dict[_Judged, bool] = {}
        self._chains = ChainCache()  # One epoch is judged by every manifest that is set while it is open.
        self.head_claims: list[tuple[int, int, bytes]] = []

    def apply(self, state: State, entry: Entry) -> State:
        """The state after *entry*, once it satisfies every rule.

        Raises:
            RuleBrokenError: it does not.
            UnprovenError: a blob that a rule needs is missing.
        """
        event = self.check(state, entry)
        return evolve(state, entry, event)

    def manifest(self, digest: bytes, *, seq: int = 0) -> Manifest:
        """The manifest with this SHA-256, parsed; the newest one is kept.

        Raises:
            UnprovenError: its bytes are missing.
            RuleBrokenError: they are no manifest.
        """
        if self._manifest is not None and self._manifest[0] == digest:
            return self._manifest[1]
        try:
            parsed = parse_manifest(self._need(digest, seq, "the manifest"))
        except ManifestError as error:
            raise RuleBrokenError(seq, "the manifest's bytes are no manifest", seen=str(error)) from None
        self._manifest = (digest, parsed)
        return parsed

    def check(self, state: State, entry: Entry) -> Event:
        """The event of *entry*, once it satisfies every rule in *state*. Raises as :meth:`apply`."""
        seq, body = entry.body.seq, entry.body
        if body.time_ms > MAX_TIME_MS:
            raise RuleBrokenError(seq, "its time is after the year 9999", seen=str(body.time_ms))
        try:
            event, link = decode_event(entry)
        except (EventError, LedgerError) as error:
            raise RuleBrokenError(seq, "the payload is not one of this version", seen=str(error)) from None
        if seq < len(FIRST_COMMIT) and event.type != FIRST_COMMIT[seq]:
            raise RuleBrokenError(seq, "the first commit has a fixed order", seen=event.type, wanted=FIRST_COMMIT[seq])
        if link is not None and link != state.control_head:
            raise RuleBrokenError(
                seq,
                "the control chain is broken",
                seen=f"link to {link.seq} {link.body_hash.hex()[:16]}",
                wanted=f"{state.control_head.seq} {state.control_head.body_hash.hex()[:16]}",
            )
        if not isinstance(event, LedgerCreated | EpochOpened) and state.open_epoch(body.signer) is None:
            raise RuleBrokenError(seq, "the signer is no open epoch", seen=body.signer.hex())
        if state.epochs and state.epochs[-1].seq == seq - 1 and seq > 2 and not isinstance(event, LedgerRecovered):
            raise RuleBrokenError(seq, "an epoch was opened that recovered nothing", seen=event.type)
        if state.last is not None:
            self._due_rules(state, state.last, event, seq)
        match event:
            case LedgerCreated():
                self._created_rules(entry, event)
            case EpochOpened():
                self._epoch_rules(state, entry, event)
            case ManifestSet():
                self._manifest_rules(state, entry, event)
            case LedgerRecovered():
                self._recovery_rules(state, entry, event)
            case ForkAccepted():
                self._fork_rules(state, entry, event)
            case AttestationAccepted():
                self._attestation_rules(state, entry, event)
            case AttestationRefused():
                _refusal_rules(state, entry, event)
            case CertificateIssued():
                self._certificate_rules(state, entry, event)
            case SecretReleased():
                self._secret_rules(state, entry, event)
            case _:
                assert_never(event)
        return event

    def judge_epoch(
        self,
        epoch: EpochOpened,
        reference_values: Sequence[ReferenceValues],
        *,
        policies: Container[bytes],
        at_ms: int,
        seq: int,
    ) -> Verdict:
        """The epoch's evidence, judged by *reference_values* at the time of its opening; its HOSTDATA in *policies*."""
        evidence = self.evidence(epoch.evidence, seq)
        anchor = self._body_hash(epoch.anchor_seq)
        return judge(
            evidence,
            reference_values,
            report_data=report_data(Purpose.EPOCH, anchor, self._need(epoch.subject, seq, "the epoch's subject")),
            host_data=policies,
            now=moment(at_ms),
            cache=self._chains,
        )

    def _judge_by(self, manifest: Manifest, epoch: EpochOpened, at_ms: int, seq: int) -> Verdict:
        policies = manifest.coordinator_policies
        return self.judge_epoch(epoch, manifest.reference_values, policies=policies, at_ms=at_ms, seq=seq)

    def _still_accepts(self, manifest: Manifest, epoch: Epoch, seq: int) -> bool:
        """Whether *manifest* accepts an epoch, judged once for each set of reference values.

        Manifests differ in other things mostly; the same evidence, values and time give the same verdict.
        """
        known = epoch.event.policy in manifest.coordinator_policies
        key = (epoch.event, epoch.time_ms, manifest.reference_values, known)
        accepted = self._accepted.get(key)
        if accepted is None:
            accepted = self._judge_by(manifest, epoch.event, epoch.time_ms, seq).accepted
            self._accepted[key] = accepted
        return accepted

    def evidence(self, references: References, seq: int) -> Evidence:
        """The evidence that *references* name, from blobs.

        Raises:
            UnprovenError: a part is missing.
            RuleBrokenError: the parts are no evidence.
        """
        kind, parts = references
        try:
            return Evidence.make(kind, {role: self._need(digest, seq, f"evidence {role}") for role, digest in parts})
        except EvidenceError as error:
            raise RuleBrokenError(seq, "the evidence is malformed", seen=str(error)) from None

    def complete(self, state: State) -> None:
        """That the ledger does not end in the middle of a command, as no commit does.

        Raises:
            RuleBrokenError: it does.
        """
        last, end = state.last, state.size
        if last is not None and (due := self._due(state, last, end)) is not None:
            raise RuleBrokenError(end, f"the ledger ends where {due} is due")
        if state.epochs and state.epochs[-1].seq == end - 1:
            raise RuleBrokenError(end, "the ledger ends with an epoch that recovered nothing")

    def _due(self, state: State, last: LastAttestation, seq: int) -> str | None:
        """The type that must stand at *seq*, since one command records an attestation and all that it led to."""
        if not last.certificate:
            return CertificateIssued.type
        if seq == last.seq + 2 and state.current is not None:
            policy = self.manifest(state.current.manifest, seq=seq).policies.get(last.event.policy)
            if policy is not None and policy.workload_secret_id is not None:
                return SecretReleased.type
        return None

    def _due_rules(self, state: State, last: LastAttestation, event: Event, seq: int) -> None:
        due = self._due(state, last, seq)
        if due is not None and event.type != due:
            raise RuleBrokenError(
                seq, "an attestation is recorded with all that it led to", seen=event.type, wanted=due
            )

    # --- control events

    def _created_rules(self, entry: Entry, event: LedgerCreated) -> None:
        seq = entry.body.seq
        if seq != 0:
            raise RuleBrokenError(seq, "a ledger is created once, at seq 0")
        try:
            keys = [VerifierKey.parse(line) for line in event.verifier_keys]
        except LedgerError as error:
            raise RuleBrokenError(seq, "a verifier key is malformed", seen=str(error)) from None
        types, names = [key.type for key in keys], {key.name for key in keys}
        if types != [KeyType.ED25519, KeyType.MLDSA44_COSIGNATURE] or names != {event.origin}:
            raise RuleBrokenError(seq, "the verifier keys are Ed25519 and ML-DSA-44 under the origin's name")
        if origin_of(keys[0].public) != event.origin:
            raise RuleBrokenError(
                seq, "the origin is not of the ledger key", seen=event.origin, wanted=origin_of(keys[0].public)
            )
        if event.formats != FORMAT_VERSIONS:
            raise RuleBrokenError(seq, "format versions", seen=str(event.formats), wanted=str(FORMAT_VERSIONS))
        _certificates(seq, lambda: ca.check_root(self._need(event.root_ca, seq, "the root CA")))
        self._created = entry

    def _epoch_rules(self, state: State, entry: Entry, event: EpochOpened) -> None:
        seq = entry.body.seq
        if entry.body.signer != event.epoch_key:
            raise RuleBrokenError(seq, "an epoch is signed by the key it announces", seen=entry.body.signer.hex())
        if any(epoch.key == event.epoch_key for epoch in state.epochs):
            raise RuleBrokenError(seq, "an epoch key is used once", seen=event.epoch_key.hex())
        if self._created is not None and seq == 1 and self._created.body.signer != event.epoch_key:
            raise RuleBrokenError(seq, "the ledger was created by another key than the first epoch's")
        oldest = state.current.seq if state.current else 0
        if not oldest <= event.anchor_seq < seq:
            raise RuleBrokenError(
                seq,
                "the anchor is older than the manifest in force",
                seen=str(event.anchor_seq),
                wanted=f"{oldest} to {seq - 1}",
            )
        subject = epoch_subject(state.origin, event.anchor_seq, event.epoch_key, event.tls_certificate, event.hpke_key)
        if sha256(subject) != event.subject:
            raise RuleBrokenError(seq, "the epoch's subject names other keys than its event")
        try:
            host_data = host_data_of(self.evidence(event.evidence, seq))
        except EvidenceError as error:
            raise RuleBrokenError(seq, "the epoch's evidence is malformed", seen=str(error)) from None
        if host_data != event.policy:
            raise RuleBrokenError(
                seq, "the epoch's policy is not its evidence's", seen=event.policy.hex(), wanted=host_data.hex()
            )
        if not 1 <= event.rules <= RULES_VERSION:
            raise RuleBrokenError(seq, "version of the rules", seen=str(event.rules), wanted=f"1 to {RULES_VERSION}")
        if state.current is not None:  # The first epoch is judged by the manifest that follows it.
            self._accepts(state.current.manifest, event, entry.body.time_ms, seq)

    def _accepts(self, manifest: bytes, event: EpochOpened, at_ms: int, seq: int) -> None:
        verdict = self._judge_by(self.manifest(manifest, seq=seq), event, at_ms, seq)
        if not verdict.accepted:
            raise RuleBrokenError(seq, "the manifest does not accept this epoch", seen=describe(verdict))

    def _manifest_rules(self, state: State, entry: Entry, event: ManifestSet) -> None:
        seq, current = entry.body.seq, state.current
        in_force = self.manifest(current.manifest, seq=seq) if current else None
        manifest = self.manifest(event.manifest, seq=seq)
        previous = current.transition if current else genesis_previous(state.origin)
        if event.generation != state.generation + 1:
            raise RuleBrokenError(seq, "generation", seen=str(event.generation), wanted=str(state.generation + 1))
        if event.previous != previous:
            raise RuleBrokenError(
                seq, "the transition follows another one", seen=event.previous.hex(), wanted=previous.hex()
            )
        if event.transition != transition(event.manifest, previous):
            raise RuleBrokenError(seq, "the transition is not of this manifest", seen=event.transition.hex())
        if entry.body.request_id != event.transition:
            raise RuleBrokenError(seq, "the request id is the transition", seen=entry.body.request_id.hex())
        try:
            verify_owner(
                [Signature(spki, signature) for spki, signature in event.signatures],
                manifest_in_force=in_force,
                offered=manifest,
                origin=state.origin,
                transition_hash=event.transition,
            )
            if in_force is not None:
                check_successor(in_force, manifest)
        except AuthorisationError as error:
            raise RuleBrokenError(seq, "the manifest was not authorised", seen=str(error)) from None
        if in_force is None:
            owners = tuple(sha256(key) for key in manifest.seedshare_owner_pub_keys)
            if tuple(owner for owner, _ in state.seed_shares) != owners:
                raise RuleBrokenError(seq, "the seed shares are not the manifest's owners'")
        self._mesh_rules(state, event, entry)
        closed = tuple(epoch.key for epoch in state.open_epochs if not self._still_accepts(manifest, epoch, seq))
        if entry.body.signer in closed:
            raise RuleBrokenError(seq, "the manifest does not accept the epoch that set it")
        if event.closed_epochs != closed:
            raise RuleBrokenError(seq, "the epochs closed are not those that the manifest excludes")

    def _mesh_rules(self, state: State, event: ManifestSet, entry: Entry) -> None:
        seq, at = entry.body.seq, moment(entry.body.time_ms)
        root = self._need(state.root_ca, seq, "the root CA")
        middle = self._need(event.intermediate, seq, "the intermediate CA")
        mesh = self._need(event.mesh_ca, seq, "the mesh CA")
        _certificates(seq, lambda: ca.check_ca_chain(root, middle, mesh, at=at))
        key = ca.spki(ca.load(mesh, "mesh CA"))
        if key in self._mesh_keys:
            raise RuleBrokenError(seq, "a mesh CA key serves two manifests")
        self._mesh_keys.add(key)

    def _recovery_rules(self, state: State, entry: Entry, event: LedgerRecovered) -> None:
        seq = entry.body.seq
        opened = state.epochs[-1] if state.epochs else None
        if opened is None or opened.seq != seq - 1 or opened.key != event.epoch_key or entry.body.signer != opened.key:
            raise RuleBrokenError(seq, "a recovery follows the opening of its own epoch")
        closed = tuple(epoch.key for epoch in state.open_epochs if epoch.key != event.epoch_key)
        if event.closed_epochs != closed:
            raise RuleBrokenError(seq, "a recovery closes every earlier epoch")
        if event.size > opened.seq:
            raise RuleBrokenError(
                seq,
                "the head known at recovery is longer than the ledger",
                seen=str(event.size),
                wanted=f"<= {opened.seq}",
            )
        if state.current is None:
            raise RuleBrokenError(seq, "a ledger without manifest cannot be recovered")
        manifest = self.manifest(state.current.manifest, seq=seq)
        owners = {sha256(key): key for key in manifest.seedshare_owner_pub_keys}
        owner = owners.get(event.share_owner)
        if owner is None:
            raise RuleBrokenError(seq, "the recovery is by no seed share owner", seen=event.share_owner.hex())
        # The request id of a recovery is the SHA-256 of the sealed seed.
        message = recovery_input(state.origin, event.statement, event.size, event.root, entry.body.request_id)
        if not _signed_by(owner, event.signature, message):
            raise RuleBrokenError(seq, "the share owner's signature is wrong")
        self.head_claims.append((seq, event.size, event.root))

    def _fork_rules(self, state: State, entry: Entry, event: ForkAccepted) -> None:
        seq, recovery = entry.body.seq, state.recovery
        if recovery is None or recovery.seq != seq - 1 or state.epochs[-1].key != entry.body.signer:
            raise RuleBrokenError(seq, "a fork is accepted by the recovery right before")
        if event.share_owner != recovery.event.share_owner:
            raise RuleBrokenError(seq, "a fork is accepted by who recovered", seen=event.share_owner.hex())
        if not event.heads or list(event.heads) != sorted(set(event.heads)):
            raise RuleBrokenError(seq, "the heads of an accepted fork are some, in order, each once")
        current = state.current
        if current is None:
            raise RuleBrokenError(seq, "a ledger without manifest cannot be recovered")
        manifest = self.manifest(current.manifest, seq=seq)
        owners = {sha256(key): key for key in manifest.seedshare_owner_pub_keys}
        message = fork_input(state.origin, recovery.event.statement, entry.body.request_id, event.heads)
        if event.share_owner not in owners or not _signed_by(owners[event.share_owner], event.signature, message):
            raise RuleBrokenError(seq, "the share owner's signature over the accepted fork is wrong")

    # --- data events

    def _attestation_rules(self, state: State, entry: Entry, event: AttestationAccepted) -> None:
        seq, current = entry.body.seq, state.current
        if current is None or event.manifest_seq != current.seq:
            raise RuleBrokenError(seq, "judged by another manifest than the one in force", seen=str(event.manifest_seq))
        if event.purpose != Purpose.WORKLOAD.value:
            raise RuleBrokenError(seq, "purpose of the evidence", seen=event.purpose, wanted=Purpose.WORKLOAD.value)
        if event.policy not in self.manifest(current.manifest, seq=seq).policies:
            raise RuleBrokenError(seq, "the manifest does not name this policy", seen=event.policy.hex())
        if sha256(report_data(Purpose.WORKLOAD, event.nonce, event.subject)) != entry.body.request_id:
            raise RuleBrokenError(seq, "the request id is not of this nonce and subject")
        if not 1 <= event.rules <= RULES_VERSION:
            raise RuleBrokenError(seq, "version of the rules", seen=str(event.rules), wanted=f"1 to {RULES_VERSION}")
        if len(event.outcomes) != CHECKS or Outcome.FAILED in event.outcomes:
            raise RuleBrokenError(seq, "an accepted attestation has a failed check", seen=event.outcomes.hex())

    def _certificate_rules(self, state: State, entry: Entry, event: CertificateIssued) -> None:
        seq, last, current = entry.body.seq, state.last, state.current
        if last is None or current is None or last.seq != seq - 1 or last.request_id != entry.body.request_id:
            raise RuleBrokenError(seq, "a certificate follows the attestation it was issued for")
        if event.attestation_seq != last.seq:
            raise RuleBrokenError(seq, "attestation seq", seen=str(event.attestation_seq), wanted=str(last.seq))
        sans = self.manifest(current.manifest, seq=seq).policies[last.event.policy].sans
        if event.sans != sans:
            raise RuleBrokenError(seq, "the SANs are not the manifest's", seen=str(event.sans), wanted=str(sans))
        if not event.not_before < event.not_after:
            raise RuleBrokenError(seq, "validity", seen=f"{event.not_before} to {event.not_after}")

    def _secret_rules(self, state: State, entry: Entry, event: SecretReleased) -> None:
        seq, last, current = entry.body.seq, state.last, state.current
        if last is None or current is None or not last.certificate or last.request_id != entry.body.request_id:
            raise RuleBrokenError(seq, "a secret follows the certificate it was released with")
        if seq != last.seq + 2:
            raise RuleBrokenError(seq, "a secret is released once for a certificate")
        if (event.attestation_seq, event.certificate, event.policy) != (last.seq, last.certificate, last.event.policy):
            raise RuleBrokenError(seq, "the secret went to another than the attested pod")
        wanted = self.manifest(current.manifest, seq=seq).policies[event.policy].workload_secret_id
        if event.secret_id != wanted:
            raise RuleBrokenError(
                seq, "the manifest gives this policy another secret", seen=event.secret_id, wanted=str(wanted)
            )

    def _need(self, digest: bytes, seq: int, what: str) -> bytes:
        data = self._blob(digest)
        if data is None:
            raise UnprovenError(seq, f"{what} (blob {digest.hex()})")
        return data


def _refusal_rules(state: State, entry: Entry, event: AttestationRefused) -> None:
    seq = entry.body.seq
    last = state.refusals.get(event.refusal)
    if last is None and len(state.refusals) >= MAX_REFUSAL_CODES:
        raise RuleBrokenError(seq, "more codes of refusals than may be recorded", wanted=f"at most {MAX_REFUSAL_CODES}")
    if last is not None and entry.body.time_ms - last < REFUSAL_INTERVAL_MS:
        raise RuleBrokenError(seq, "refusals of one code are recorded more often than every ten minutes")
    if event.count < 1 or event.first_ms > event.last_ms:
        raise RuleBrokenError(seq, "a count of refusals", seen=f"{event.count}, {event.first_ms} to {event.last_ms}")


def moment(time_ms: int) -> datetime:
    """Unix milliseconds as an aware datetime."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def describe(verdict: Verdict) -> str:
    """The first failed check of a verdict in one line."""
    failure = verdict.first_failure
    if failure is None:
        return "accepted"
    return f"check {failure.number} {failure.name}: seen {failure.seen}, wanted {failure.wanted}"


def epoch_verifier_key(state: State, epoch: Epoch) -> VerifierKey:
    """The verifier key under which *epoch* signs checkpoints."""
    return ed25519_key(epoch_name(state.origin), epoch.key)


def _certificates(seq: int, check: Callable[[], None]) -> None:
    try:
        check()
    except ca.CertificateError as error:
        raise RuleBrokenError(seq, "a CA certificate breaks the rules", seen=str(error)) from None


def _signed_by(owner: bytes, signature: bytes, message: bytes) -> bool:
    key = load_der_public_key(owner)
    return isinstance(key, rsa.RSAPublicKey) and verify_recovery(key, signature, message)
