"""`contrast ledger`: a ledger for people, as a table of events, as a verdict, as the state at any entry."""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from attestation.evidence import Kind
from attestation.reference import ReferenceValues
from audit.replay import cosigned_in, replay, state_at
from audit.report import Report
from cli.comparing import check_evidence, compare
from cli.cosigned import cosigned_option, demand_quorum, document, read_asked, tell, witness_policy_option
from cli.errors import RefusedError, UsageFaultError, counted
from cli.events import entry_json, row, short, state_json, time_text
from cli.export import export
from cli.judging import known_policies, own_yardstick
from cli.options import PATHS, judging_options
from cli.receipts import check_receipt_command, receipt, tile_reader
from cli.session import Session, example, json_option
from cli.sources import Opened, open_ledger
from cli.structure import check_structure_command
from cli.verifying import demand_past
from coordinator.state import State
from ledger.cosigned import Cosigned
from ledger.entry import Entry
from ledger.tilenodes import TileNodes

SOURCE = click.argument("source")
SHOWN: Final = 1000  # Events on a screen, where nobody asked for more.


@click.group(
    epilog=example(
        """contrast ledger show https://127.0.0.1:1313
contrast ledger verify verify/ledger --allow-simulated --reference-values .contrast-dev/reference-values.json"""
    )
)
def ledger() -> None:
    """Look into a ledger, wherever it is.

    SOURCE is the folder of a Coordinator, an exported directory or tar (verify/ledger), or an address that begins with
    https://, of a Coordinator or of a web server that serves an export.

    Every command checks structure, hash chain, Merkle tree and signatures first, and names the first bad entry; only
    check-structure believes signatures.
    """


@ledger.command(epilog=example("contrast ledger show verify/ledger --from 3"))
@SOURCE
@click.option(
    "--from", "first", type=click.IntRange(0), default=None, help="First entry [default: the 1000 last ones]."
)
@click.option("--to", "last", type=click.IntRange(0), default=None, help="Last entry.")
@json_option
@click.pass_obj
def show(session: Session, *, source: str, first: int | None, last: int | None) -> None:
    """Show the events as a table."""
    found: deque[Entry] = deque(maxlen=SHOWN if first is None and last is None else None)

    def visit(entry: Entry) -> None:
        if (first or 0) <= entry.body.seq and (last is None or entry.body.seq <= last):
            found.append(entry)

    size, root = 0, b""
    try:
        with open_ledger(source, visit=visit) as opened:
            size, root = opened.size, opened.root
    finally:
        if found:  # What was good before the first bad entry is worth seeing; the error follows.
            session.output.table(
                "", ["entry", "time (UTC)", "event", "signer", "what it says"], [row(entry) for entry in found]
            )
    session.output.document({"size": size, "root": root.hex(), "entries": [entry_json(entry) for entry in found]})
    if found and found[0].body.seq > (first or 0):
        session.output.note(f"only the last {len(found)} entries are shown; --from and --to choose others")
    session.output.say()
    session.output.say(f"{size} entries, root {root.hex()}")


@ledger.command(
    short_help="Show the state after any entry.",
    name="replay",
    epilog=example("contrast ledger replay verify/ledger --at 3"),
)
@SOURCE
@click.option("--at", "seq", type=click.IntRange(0), default=None, help="After this entry [default: the last].")
@json_option
@click.pass_obj
def replay_command(session: Session, *, source: str, seq: int | None) -> None:
    """Show the state that replaying the ledger gives, after any entry."""
    with open_ledger(source) as opened:
        size = opened.size if seq is None else seq + 1
        if size > opened.size:
            raise UsageFaultError(f"there is no entry {seq}: the ledger has entries 0 to {opened.size - 1}")
        state = state_at(opened.source, size)
    session.output.document(state_json(state))
    session.output.table("", ["", f"after entry {size - 1}"], _state_rows(state))


@ledger.command(
    short_help="Replay, derive every decision again, give a verdict.",
    epilog=example(
        "contrast ledger verify verify/ledger --reference-values values.json \\\n"
        "    --coordinator-policy-hash $(cat coordinator-policy.sha256)"
    ),
)
@SOURCE
@click.option("--reference-values", "reference_path", type=PATHS, default=None, help="What you accept of Coordinators.")
@judging_options
@witness_policy_option
@cosigned_option
@json_option
@click.pass_obj
def verify(
    session: Session,
    *,
    source: str,
    reference_path: Path | None,
    policy_hashes: tuple[bytes, ...],
    allow_simulated: bool,
    witness_path: Path | None,
    cosigned_paths: tuple[Path, ...],
) -> None:
    """Replay a ledger, derive every decision again, and give a verdict.

    Without reference values of your own the Coordinators are judged by the ledger's manifests alone: that finds every
    contradiction, and not a ledger that somebody made up as a whole.
    """
    output = session.output
    witnesses = read_asked(witness_path, cosigned_paths)
    yardstick = own_yardstick(
        session.workspace,
        output,
        reference_path=reference_path,
        policy_hashes=policy_hashes,
        allow_simulated=allow_simulated,
    )
    policies = known_policies(session.workspace, yardstick, policy_hashes)
    values: Sequence[ReferenceValues] | None = None if yardstick is None else yardstick.reference_values
    with open_ledger(source) as opened, output.working("deriving every decision again"):
        report = replay(opened.source, reference_values=values, coordinator_policies=policies)
        now = datetime.now(UTC)  # noqa: TID251 a command is where the clock is read
        demand_past(opened.source, report.checkpoint.size - 1, now, address=source)
        cosigned = None
        if witnesses is not None:
            nodes = TileNodes(report.checkpoint.size, tile_reader(opened.source))
            cosigned = cosigned_in(report, witnesses, nodes)
        _verdict(session, source, opened, report, cosigned)


def _verdict(session: Session, source: str, opened: Opened, report: Report, cosigned: Cosigned | None) -> None:
    output, size = session.output, report.checkpoint.size
    lines = [f"{_place(item.seq)}{item.code}: {item.text}" for item in report.problems]
    if not report.ok:
        wrong = sum(item.proven_wrong for item in report.problems)
        unproven = len(report.problems) - wrong
        raise RefusedError(
            f"{source} does NOT pass: {counted(wrong, 'contradiction')}, {counted(unproven, 'decision')} unproven",
            details=tuple(lines),
        )
    demand_quorum(cosigned, size, name=source)
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(report.counts.items()))
    simulated = any(epoch.event.evidence[0] == Kind.SIMULATED for epoch in report.state.epochs)
    if simulated:
        output.banner(
            "SIMULATED PLATFORM: no hardware protects a Coordinator of this ledger. "
            "All of it can be in order and prove nothing."
        )
    output.document(
        {
            "ok": True,
            "simulated": simulated,
            "size": size,
            "stored": opened.size,
            "root": report.checkpoint.root.hex(),
            "origin": report.checkpoint.origin,
            "counts": dict(report.counts),
            "manifests": [
                {"generation": item.generation, "seq": item.seq, "sha256": item.manifest.digest.hex()}
                for item in report.manifests
            ],
            "coordinator_policies": [digest.hex() for digest in report.coordinator_policies],
            "witnesses": document(cosigned),
        }
    )
    output.say(f"ledger {report.checkpoint.origin}")
    output.say(f"{size} entries: {counts}")
    for item in report.manifests:
        output.say(
            f"manifest {item.generation} at entry {item.seq}, {time_text(item.time_ms)}: {item.manifest.digest.hex()}"
        )
    if opened.size > size:
        output.say(f"entries {size} to {opened.size - 1} are not covered by a finished checkpoint yet")
    tell(output, cosigned, size)
    output.say(
        f"{source} passes: chain, tree, signatures, checkpoint, and every decision derived again", style="bold green"
    )


def _place(seq: int | None) -> str:
    return "" if seq is None else f"entry {seq}: "


def _state_rows(state: State) -> list[tuple[str, str]]:
    rows = [
        ("origin", state.origin),
        ("entries", str(state.size)),
        ("time (UTC)", time_text(state.time_ms)),
        ("root CA", state.root_ca.hex()),
        ("seed shares", str(len(state.seed_shares))),
        ("manifests", str(state.generation)),
    ]
    if state.current is not None:
        rows += [
            ("manifest in force", state.current.manifest.hex()),
            ("transition", state.transition.hex()),
            ("mesh CA", state.current.mesh_ca.hex()),
        ]
    rows += [
        (f"Coordinator {short(epoch.key)}", f"opened at {epoch.seq}, {_closed(epoch.closed_at)}")
        for epoch in state.epochs
    ]
    rows += [
        ("attestations", str(state.attestations)),
        ("certificates", str(state.certificates)),
        ("secrets released", str(state.secrets)),
        ("refusals", str(state.refused)),
        ("recoveries", str(state.recoveries)),
    ]
    return rows


def _closed(seq: int | None) -> str:
    return "open" if seq is None else f"closed at {seq}"


for _command in (export, check_structure_command, receipt, check_receipt_command, compare, check_evidence):
    ledger.add_command(_command)
