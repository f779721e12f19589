"""How a Coordinator proves itself: its epoch's evidence, asked for, judged by a manifest, packed as an event."""

import datetime as dt
import hashlib
from dataclasses import dataclass

from attestation.binding import Purpose, epoch_subject, report_data
from attestation.evidence import Evidence, host_data_of
from attestation.issuer import Issuer
from attestation.judge import judge
from attestation.verdict import Check
from coordinator.epoch import Epoch
from coordinator.events import EpochOpened
from coordinator.refusals import CoordinatorExcludedError
from manifest.model import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The event that opens this epoch, and the documents that it names."""

    event: EpochOpened
    blobs: tuple[bytes, ...]


async def prove_epoch(
    epoch: Epoch,
    manifest: Manifest,
    issuer: Issuer,
    *,
    origin: str,
    anchor_seq: int,
    anchor: bytes,
    now: dt.datetime,
) -> Opening:
    """Evidence that binds the epoch's keys to the entry *anchor*, accepted by *manifest*.

    Args:
        epoch: The keys of this process.
        manifest: By which the evidence is judged.
        issuer: The secure processor.
        origin: Of the ledger.
        anchor_seq: Seq of the entry that the epoch continues, not older than the manifest in force.
        anchor: SHA-256(body) of that entry.
        now: Time of the judgement.

    Raises:
        CoordinatorExcludedError: The manifest does not accept this Coordinator.
        IssueError: The secure processor gave nothing usable.
    """
    subject = epoch_subject(origin, anchor_seq, epoch.public, epoch.tls_sha256, epoch.hpke_public)
    binding = report_data(Purpose.EPOCH, anchor, subject)
    evidence = await issuer.issue(binding)
    verdict = judge(
        evidence, manifest.reference_values, report_data=binding, host_data=manifest.coordinator_policies, now=now
    )
    if not verdict.accepted:
        raise excluded(evidence, manifest, verdict.first_failure)
    verdict_json = verdict.json()
    event = EpochOpened(
        epoch_key=epoch.public,
        tls_certificate=epoch.tls_sha256,
        hpke_key=epoch.hpke_public,
        anchor_seq=anchor_seq,
        subject=hashlib.sha256(subject).digest(),
        evidence=evidence.references(),
        policy=host_data_of(evidence),
        rules=verdict.rules,
        verdict=hashlib.sha256(verdict_json).digest(),
    )
    return Opening(event=event, blobs=(*(data for _, data in evidence.parts), subject, verdict_json))


def excluded(evidence: Evidence, manifest: Manifest, failure: Check | None) -> CoordinatorExcludedError:
    """The refusal for a Coordinator that *manifest* does not accept, with the reason that a person can act upon."""
    policy = host_data_of(evidence)
    if policy not in manifest.coordinator_policies:
        return CoordinatorExcludedError(
            "The manifest does not name the running Coordinator's policy with Role coordinator.",
            seen=f"policy {policy.hex()}",
            wanted=", ".join(sorted(each.hex() for each in manifest.coordinator_policies)),
        )
    if failure is None:
        return CoordinatorExcludedError(
            "The running Coordinator's evidence is of a kind that this version does not judge.",
            seen=str(evidence.kind),
            wanted="reference values of this kind",
        )
    return CoordinatorExcludedError(
        f"The running Coordinator fails check {failure.number} ({failure.name}) of the manifest's reference values.",
        seen=failure.seen,
        wanted=failure.wanted,
    )
