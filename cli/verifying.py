"""What a verified ledger must agree with, and the files that a success leaves; nothing is fetched or printed here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.control import judge_control
from audit.reading import MAX_AHEAD_MS
from audit.receipt import keyring_of
from audit.replay import replay
from audit.report import Report
from cli.errors import RefusedError, counted
from cli.heads import Head, check_extends, render_heads
from cli.memory import demand_proof
from cli.yardstick import Yardstick
from coordinator.events import Link
from coordinator.times import shown
from ledger.checked import CheckedSource
from ledger.entry import parse_entry
from ledger.merkle import Frontier, leaf_hash
from ledger.note import VerifierKey
from ledger.source import DirectorySource, Source
from ledger.tilenodes import TileNodes
from ledger.tiles import Tile
from wire.statement import Statement

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A ledger that passed everything; *extends* is the size that was remembered of it, None at a first look."""

    report: Report
    head: Head
    extends: int | None


def verify_ledger(
    ledger: Source,
    yardstick: Yardstick,
    statement: Statement,
    remembered: Head | None,
    *,
    address: str,
) -> Verified:
    """Replay *ledger* and demand that it is the one that *statement* speaks of, and extends *remembered*.

    Raises:
        RefusedError: something in it is wrong or unproven; it does not agree with the statement.
        HeadError: it does not extend the remembered head.
        LedgerError: structure, chain, tree or signatures are wrong.
    """
    source = CheckedSource(ledger)
    report = replay(
        source,
        reference_values=yardstick.reference_values,
        coordinator_policies=yardstick.coordinator_policies,
    )
    _demand_no_finding(report, address)
    offered = head_of_report(report)
    check_extends(remembered, offered, lambda size: root_at(source, size), address=address)
    _demand_agreement(report, statement, address)
    return Verified(report=report, head=offered, extends=None if remembered is None else remembered.size)


def verify_control(
    ledger: Source,
    yardstick: Yardstick,
    statement: Statement,
    remembered: Head | None,
    *,
    address: str,
) -> Verified:
    """As :func:`verify_ledger`, from the control chain alone: what `audit.control` proves of it, and no more."""
    head = control_head(statement, address=address)
    source = CheckedSource(ledger)
    report = judge_control(
        source,
        head,
        reference_values=yardstick.reference_values,
        coordinator_policies=yardstick.coordinator_policies,
    )
    _demand_no_finding(report, address)
    offered = head_of_report(report)
    if remembered is not None:
        demand_proof(remembered, offered, TileNodes(offered.size, lambda tile: _tile(source, tile)), address=address)
    _demand_agreement(report, statement, address)
    return Verified(report=report, head=offered, extends=None if remembered is None else remembered.size)


def demand_past(source: Source, seq: int, now: datetime, *, address: str) -> None:
    """Demand that entry *seq* of a verified ledger, and so every entry before it, is not dated after *now*.

    Times never decrease, so the last entry that was read speaks for all of them. An hour is granted, as to everybody.

    Raises:
        RefusedError: it is dated later.
    """
    latest_ms = parse_entry(source.entry(seq), seq).body.time_ms
    if latest_ms > int(now.timestamp() * 1000) + MAX_AHEAD_MS:
        raise RefusedError(
            f"the ledger of {address} is dated after this moment: its host's clock was ahead, or yours is behind",
            details=(f"entry {seq} says {shown(latest_ms)}", f"your clock says {now:%Y-%m-%d %H:%M:%S} UTC"),
        )


def control_head(statement: Statement, *, address: str) -> Link:
    """Return the last control event that *statement* names.

    Raises:
        RefusedError: it names none.
    """
    if statement.control_head is None:
        raise RefusedError(f"the Coordinator at {address} attested no control event")
    return Link(statement.control_head.seq, bytes.fromhex(statement.control_head.hash))


def _tile(source: Source, tile: Tile) -> bytes:
    if tile.level == "entries":
        raise RefusedError("a bundle of entries holds no nodes of a tree")
    return source.tile(tile.level, tile.index, tile.width)


def _demand_no_finding(report: Report, address: str) -> None:
    if not report.ok:
        lines = [
            f"{'ledger' if item.seq is None else f'entry {item.seq}'}: {item.code}: {item.text}"
            for item in report.problems[:_SHOWN]
        ]
        if len(report.problems) > _SHOWN:
            lines.append(f"and {len(report.problems) - _SHOWN} more")
        raise RefusedError(
            f"the ledger of {address} does not pass: {counted(len(report.problems), 'finding')}", details=tuple(lines)
        )


def head_of_report(report: Report) -> Head:
    """Return what is remembered of a ledger that passed."""
    return Head(
        origin=report.checkpoint.origin,
        ledger_key=VerifierKey.parse(report.state.verifier_keys[0]).public,
        size=report.checkpoint.size,
        root=report.checkpoint.root,
        checkpoint=report.checkpoint_raw,
    )


def _demand_agreement(report: Report, statement: Statement, address: str) -> None:
    contradictions = disagreements(report, statement)
    if contradictions:
        raise RefusedError(
            f"the ledger of {address} is not what its Coordinator attested", details=tuple(contradictions)
        )


def root_at(source: Source, size: int) -> bytes:
    """Return the root of the first *size* entries."""
    frontier = Frontier()
    frontier.extend(leaf_hash(raw) for raw in source.entries(0, size))
    return frontier.root()


def disagreements(report: Report, statement: Statement) -> list[str]:
    """Return in words what the attested *statement* says otherwise than the replay."""
    state = report.state
    epoch = state.open_epoch(bytes.fromhex(statement.epoch_key))
    head = statement.control_head
    pairs: Sequence[tuple[str, object, object]] = (
        ("origin", statement.origin, state.origin),
        ("ledger key", statement.ledger_key, VerifierKey.parse(state.verifier_keys[0]).public.hex()),
        ("checkpoint", statement.checkpoint, report.checkpoint_raw.decode()),
        (
            "control head",
            None if head is None else (head.seq, head.hash),
            (state.control_head.seq, state.control_head.body_hash.hex()),
        ),
        ("generation", statement.generation, state.generation),
        ("transition", statement.transition, state.transition.hex()),
        ("root CA", statement.root_ca, report.root_ca),
        ("mesh CA", statement.mesh_ca, report.mesh_ca),
        ("TLS certificate", statement.tls_cert_sha256, epoch and epoch.event.tls_certificate.hex()),
        ("HPKE key", statement.hpke_public_key, epoch and epoch.event.hpke_key.hex()),
    )
    return [
        f"{name}: attested {_text(said)}, in the ledger {_text(found)}" for name, said, found in pairs if said != found
    ]


def write_results(folder: Path, verified: Verified, *, address: str) -> None:
    """Write into *folder*, beside the `ledger/` that is there already, what a success leaves.

    Raises:
        OSError: a file could not be written.
    """
    report = verified.report
    (folder / "mesh-root.pem").write_bytes(pem(report.mesh_ca))
    (folder / "coordinator-root.pem").write_bytes(pem(report.root_ca))
    for number, entry in enumerate(report.manifests):
        (folder / f"manifest.{number}.json").write_bytes(entry.manifest.raw)
    source = CheckedSource(DirectorySource(folder / "ledger"))
    shown = report.manifests if report.full else report.manifests[-1:]
    for digest in {digest for entry in shown for digest in entry.manifest.policies}:
        policy = source.blob(digest)
        if policy is None:
            raise RefusedError(f"policy {digest.hex()} is missing in the ledger")
        (folder / f"policy.{digest.hex()}.rego").write_bytes(policy)
    (folder / "ledger.vkeys").write_bytes(verifier_keys(report))
    (folder / "head").write_bytes(render_heads({address: verified.head}))


def verifier_keys(report: Report) -> bytes:
    """Return the keys for offline checks: the ledger's, and each epoch's with the sizes for which it signs."""
    return keyring_of(report.state).text().encode()


def pem(der: bytes) -> bytes:
    """Return a certificate as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def _text(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
