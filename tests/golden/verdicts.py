"""What version 1 of the rules decides about the evidence of golden ledgers, told in every way that can be wrong.

    .venv/bin/python -m tests.golden.verdicts tests/golden/verdicts-v1.json

The file is never made again for a version that was released; a new version gets one of its own.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attestation.binding import Purpose, report_data
from attestation.evidence import Evidence
from attestation.judge import judge
from attestation.reference import SnpReferenceValues
from attestation.snp.report import parse_report
from attestation.verdict import Verdict
from coordinator.events import AttestationAccepted, ManifestSet, decode_event
from coordinator.times import moment
from ledger.entry import parse_entry
from ledger.source import DirectorySource
from manifest.parse import parse_manifest

LEDGER = Path(__file__).parent / "ledger-v1"
Question = tuple[Evidence, tuple[SnpReferenceValues, ...], dict[str, Any]]


def questions() -> Iterator[tuple[str, Question]]:
    """Each with its name: genuine evidence first, then everything about it otherwise."""
    source = DirectorySource(LEDGER)
    size = int(source.checkpoint().split(b"\n")[1])
    manifest, first = None, None
    for seq, raw in enumerate(source.entries(0, size)):
        entry = parse_entry(raw, seq)
        event, _ = decode_event(entry)
        if isinstance(event, ManifestSet):
            manifest = parse_manifest(source.blob(event.manifest) or b"")
        if isinstance(event, AttestationAccepted) and manifest is not None:
            kind, parts = event.evidence
            evidence = Evidence.make(kind, {role: source.blob(digest) or b"" for role, digest in parts})
            arguments = {
                "report_data": report_data(Purpose(event.purpose), event.nonce, event.subject),
                "host_data": frozenset(manifest.policies),
                "now": moment(entry.body.time_ms),
            }
            values = tuple(each for each in manifest.reference_values if isinstance(each, SnpReferenceValues))
            first = first or (evidence, values, arguments)
            yield f"genuine, entry {seq}", (evidence, values, arguments)
    assert first is not None
    yield from _otherwise(first)


def _otherwise(question: Question) -> Iterator[tuple[str, Question]]:
    evidence, values, arguments = question
    (value,) = values
    changes: dict[str, dict[str, Any]] = {
        "another binding": {"report_data": bytes(64)},
        "no policy": {"host_data": frozenset[bytes]()},
        "long ago": {"now": datetime(2000, 1, 1, tzinfo=UTC)},
        "long after": {"now": datetime(2199, 1, 1, tzinfo=UTC)},
    }
    for name, changed in changes.items():
        yield name, (evidence, values, {**arguments, **changed})
    report = evidence.part("report") or b""
    chip = parse_report(report).chip_id
    tcb = value.minimum_tcb
    for name, fields in {
        "another measurement": {"trusted_measurement": bytes(48)},
        "another product": {"product_name": "Genoa"},
        "another vendor": {"trust_anchor": bytes(32)},
        "another vendor's key": {"trust_anchor_spki": bytes(32)},
        "a later bootloader": {"minimum_tcb": replace(tcb, bootloader=tcb.bootloader + 1)},
        "later microcode": {"minimum_tcb": replace(tcb, microcode=tcb.microcode + 1)},
        "later firmware": {"minimum_tcb": replace(tcb, snp=tcb.snp + 1)},
        "another privilege level": {"vmpl": 1},
        "a list demanded": {"crl": "required"},
        "a list wished for": {"crl": "warn"},
        "a chip allowed": {"allowed_chip_ids": (chip,)},
        "another chip allowed": {"allowed_chip_ids": (bytes(64),)},
        "the chip denied": {"denied_chip_ids": (chip,)},
        "an ID block demanded": {"require_id_block": True, "id_key_digests": (bytes(48),)},
    }.items():
        yield name, (evidence, (replace(value, **fields),), arguments)  # type: ignore[arg-type]
    parts = dict(evidence.parts)
    for role, part in parts.items():
        left = {name: data for name, data in parts.items() if name != role}
        if role != "report":
            yield f"without {role}", (Evidence.make(evidence.kind, left), values, arguments)
        data = bytearray(part)
        data[-1] ^= 1
        yield f"{role} with another end", (
            Evidence.make(evidence.kind, {**left, role: bytes(data)}), values, arguments,
        )  # fmt: skip
    for offset in (0, 0x08, 0x30, 0x34, 0x38, 0x40, 0x50, 0x90, 0xC0, 0x180, 0x188, 0x1A0, 0x1E0, 0x1E8, 0x1F0, 0x2A0):
        data = bytearray(report)
        data[offset] ^= 1
        changed_parts = {**parts, "report": bytes(data)}
        yield f"report changed at {offset:#x}", (Evidence.make(evidence.kind, changed_parts), values, arguments)


def decided(verdict: Verdict) -> dict[str, object]:
    """What a verdict decides; its texts are not part of that."""
    claims = None if verdict.claims is None else hashlib.sha256(verdict.claims.json()).hexdigest()
    return {"rules": verdict.rules, "accepted": verdict.accepted, "outcomes": verdict.outcomes.hex(), "claims": claims}


def decisions(rules: int) -> dict[str, dict[str, object]]:
    """Every question, and what *rules* decide of it; once as fast as they can, once with every check made."""
    found = {}
    for name, (evidence, values, arguments) in questions():
        for thorough in (False, True):
            verdict = judge(evidence, values, **arguments, thorough=thorough, rules=rules)
            found[f"{name}{', thoroughly' if thorough else ''}"] = decided(verdict)
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(decisions(1), indent=1) + "\n")
