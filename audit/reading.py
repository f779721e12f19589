"""One pass over a ledger: each entry judged by the rules in the state before it, its decision handed to the jury.

A broken rule ends the pass: what follows a contradiction has no state to be judged in. A decision that turns out wrong
does not: it changes no state.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from audit.cases import Fault
from audit.decisions import Decisions
from audit.jury import Jury
from audit.report import Finding, History, ManifestEntry, MovedSecret, PolicyActivity, RecoveryEntry
from audit.requests import Requests
from coordinator.events import (
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    Event,
    LedgerRecovered,
    ManifestSet,
    SecretReleased,
)
from coordinator.refusals import UnprovenError
from coordinator.rules import Rules
from coordinator.state import EMPTY, State, evolve
from coordinator.times import MAX_TIME_MS, shown
from ledger.checked import CheckedSource
from ledger.entry import Entry, parse_entry
from ledger.source import Source
from manifest.model import Manifest

MAX_FINDINGS: Final = 100
_MAX_TIMES: Final = 4096
_STEP: Final = 256
MAX_AHEAD_MS: Final = 3_600_000  # Clocks of machines differ; leaves are dated back by as much.

Progress = Callable[[int], None]


class Reading:
    """Judges entries in order and keeps what a report is made of.

    Args:
        source: For blobs and earlier entries.
        jury: Judges decisions; None: the rules alone are applied.
        progress: Called now and then with the number of entries read.
        clock_ms: The reader's own clock; None: times are taken as they are.
    """

    def __init__(
        self,
        source: Source,
        jury: Jury | None = None,
        progress: Progress | None = None,
        *,
        clock_ms: int | None = None,
    ) -> None:
        self.source = CheckedSource.of(source)
        self.state = EMPTY
        self.findings: list[Finding] = []
        self.more = 0
        self.manifests: list[ManifestEntry] = []
        self.recoveries: list[RecoveryEntry] = []
        self.moved: list[MovedSecret] = []
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.unproven: Counter[str] = Counter()
        self.times: Counter[int] = Counter()
        self._step_ms = 1
        self.activity: dict[bytes, PolicyActivity] = {}
        self.rules = Rules(blob=self.source.blob, body_hash=self.body_hash)
        self._hashes: dict[int, bytes] = {}
        self._recent: tuple[int, bytes] = (-1, b"")
        self._jury = jury
        self._progress = progress
        self._latest_ms = MAX_TIME_MS if clock_ms is None else clock_ms + MAX_AHEAD_MS
        self._requests = Requests(self._request_of)
        self.ahead: Fault | None = None
        self._decisions = Decisions(self.rules, self.source.blob)

    def visit(self, entry: Entry) -> None:
        """Judge *entry* in the state before it, then go on."""
        before, seq = self.state, entry.body.seq
        event = self.rules.check(before, entry)
        if self._jury is not None:
            try:
                self._decide_again(self._jury, before, entry, event)
            except UnprovenError as error:
                self.note(Finding(seq=seq, code=error.code, text=str(error), proven_wrong=False, about=event.type))
            self._requests.visit(entry, event)
            if entry.body.time_ms > self._latest_ms and self.ahead is None:
                self.ahead = _ahead(entry, self._latest_ms - MAX_AHEAD_MS)
        self.state = evolve(before, entry, event)
        self.counts[event.type] += 1
        self._recent = (seq, entry.body_hash)
        self._remember(before, entry, event)
        if self._progress is not None and seq % _STEP == 0:
            self._progress(seq)

    def note(self, finding: Finding) -> None:
        """Keep *finding*, or count it where there are very many."""
        self.unproven[finding.about] += not finding.proven_wrong
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.more += 1

    def faults(self) -> list[Fault]:
        """What is wrong between entries, once all have been read: requests that came twice, times of the future."""
        return [*self._requests.faults(), *([] if self.ahead is None else [self.ahead])]

    def history(self) -> History:
        """What has been read."""
        return History(
            state=self.state,
            manifests=tuple(self.manifests),
            recoveries=tuple(self.recoveries),
            moved_secrets=tuple(self.moved),
            activity=self.activity,
            refusals=dict(self.refusals),
            counts=dict(self.counts),
            times={at * self._step_ms: number for at, number in self.times.items()},
        )

    def _decide_again(self, jury: Jury, before: State, entry: Entry, event: Event) -> None:
        match event:
            case AttestationAccepted():
                jury.submit(self._decisions.attestation(before, entry, event))
            case CertificateIssued():
                jury.submit(self._decisions.certificate(before, entry, event))
            case SecretReleased():
                jury.submit(self._decisions.secret(entry, event))
            case _:
                pass  # Everything about the other events is in the rules.

    def _remember(self, before: State, entry: Entry, event: Event) -> None:
        seq, time_ms = entry.body.seq, entry.body.time_ms
        if seq == 0:
            self._hashes[0] = entry.body_hash
        match event:
            case ManifestSet():
                # Anchors of epochs are named by seq: the manifest in force, or what came right before the epoch.
                self._hashes[seq] = entry.body_hash
                manifest = self.rules.manifest(event.manifest, seq=seq)
                self._note_moved(manifest, event.generation, seq)
                self.manifests.append(
                    ManifestEntry(
                        generation=event.generation,
                        seq=seq,
                        time_ms=time_ms,
                        transition=event.transition,
                        manifest=manifest,
                    )
                )
                if self._jury is not None:
                    self._policies_present(manifest, seq)
            case LedgerRecovered():
                self.recoveries.append(
                    RecoveryEntry(seq=seq, time_ms=time_ms, share_owner=event.share_owner, size=event.size)
                )
            case AttestationAccepted():
                self._count(time_ms)
                self._active(event.policy, time_ms).attestations += 1
            case CertificateIssued() if before.last is not None:
                activity = self._active(before.last.event.policy, time_ms)
                activity.certificates += 1
                activity.sans = event.sans
            case SecretReleased():
                self._active(event.policy, time_ms).secrets += 1
            case AttestationRefused():
                self.refusals[event.refusal] += event.count
            case _:
                pass

    def _count(self, time_ms: int) -> None:
        self.times[time_ms // self._step_ms] += 1
        if len(self.times) > _MAX_TIMES:
            coarser: Counter[int] = Counter()
            for at, number in self.times.items():
                coarser[at // 4] += number
            self.times, self._step_ms = coarser, self._step_ms * 4

    def _active(self, policy: bytes, time_ms: int) -> PolicyActivity:
        found = self.activity.get(policy)
        if found is None:
            found = self.activity[policy] = PolicyActivity(first_ms=time_ms)
        found.last_ms = time_ms
        return found

    def _note_moved(self, manifest: Manifest, generation: int, seq: int) -> None:
        if not self.manifests:
            return
        old, new = holders(self.manifests[-1].manifest), holders(manifest)
        self.moved += [
            MovedSecret(secret_id=name, generation=generation, seq=seq, before=old[name], after=new[name])
            for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]
        ]

    def _policies_present(self, manifest: Manifest, seq: int) -> None:
        for digest in manifest.policies:
            if self.source.blob(digest) is None:
                text = f"policy {digest.hex()} of the manifest is missing"
                self.note(Finding(seq=seq, code="unproven", text=text, proven_wrong=False, about=ManifestSet.type))

    def _request_of(self, seq: int) -> bytes:
        return parse_entry(self.source.entry(seq), seq).body.request_id

    def body_hash(self, seq: int) -> bytes:
        """SHA-256(body) of an entry that has been read."""
        known = self._hashes.get(seq)
        if known is not None:
            return known
        if self._recent[0] == seq:
            return self._recent[1]
        return parse_entry(self.source.entry(seq), seq).body_hash


def _ahead(entry: Entry, clock_ms: int) -> Fault:
    """Only the first such entry is told: whatever follows it is dated after it."""
    return Fault(
        entry.body.seq,
        "it is dated after this moment: the host's clock was ahead, or yours is behind",
        shown(entry.body.time_ms),
        f"not after {shown(clock_ms)} by your clock",
        about=entry.body.type,
        now=True,
    )


def holders(manifest: Manifest) -> dict[str, tuple[bytes, ...]]:
    """Secret id -> the policies that are given it, in ascending order."""
    found: dict[str, list[bytes]] = {}
    for digest, policy in sorted(manifest.policies.items()):
        if policy.workload_secret_id:
            found.setdefault(policy.workload_secret_id, []).append(digest)
    return {name: tuple(digests) for name, digests in found.items()}
