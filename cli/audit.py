"""`contrast audit`: every decision of a ledger derived again, and said in one line per kind; decides nothing itself."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from audit.cases import Knowledge
from audit.html import Facts, render
from audit.html_text import used_at
from audit.known_now import CHIP_ID_BYTES, PLATFORM_ID_BYTES, TURIN_ID_BYTES, read_crl
from audit.replay import examine
from audit.report import Audit, Tally
from cli import cosigned as witnessing
from cli.cosigned import cosigned_option, read_asked, witness_policy_option
from cli.counting import counting
from cli.differences import differences
from cli.errors import RefusedError
from cli.events import fork_json, given_up, short, time_text
from cli.judging import known_policies, own_yardstick
from cli.options import PATHS, judging_options, manifest_option
from cli.output import Output
from cli.session import Session, example, json_option
from cli.sources import open_source
from cli.workspace import apply_changes, change, read_file
from ledger.checkpoint import read_checkpoint
from ledger.errors import NoteError
from ledger.source import Source
from manifest.model import Manifest
from manifest.parse import parse_manifest

_SHOWN: Final = 10


class TimeType(click.ParamType[datetime]):
    """A moment as ISO 8601, UTC where no zone is given."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: wanted 2026-11-24 or 2026-11-24T12:00:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.command(
    epilog=example(
        """contrast audit verify/ledger -m manifest.json --html audit.html
contrast audit https://coordinator.example.com:1313 --crl Milan.crl --deny-chip-ids stolen.txt"""
    )
)
@click.argument("source")
@manifest_option("The manifest that you expect in force; its reference values judge the Coordinators.")
@click.option(
    "--reference-values",
    "reference_path",
    type=PATHS,
    default=None,
    help="What you accept: of Coordinators at any time, and of every pod as known now.",
)
@judging_options
@witness_policy_option
@cosigned_option
@click.option("--at", type=TimeType(), default=None, metavar="TIME", help="What is known now is judged then [now].")
@click.option("--crl", "crl_paths", type=PATHS, multiple=True, help="Revocation list of today (may be repeated).")
@click.option(
    "--deny-chip-ids", "deny_path", type=PATHS, default=None, help="File of chip ids, in hex, that you trust no more."
)
@click.option(
    "--allow-missing", is_flag=True, help="Do not fail because something withheld leaves a decision unproven."
)
@click.option(
    "--html", "html_path", type=PATHS, default=None, help="Write a report for a browser; it needs no network."
)
@json_option
@click.pass_context
def audit(
    ctx: click.Context,
    *,
    source: str,
    manifest_path: Path | None,
    reference_path: Path | None,
    policy_hashes: tuple[bytes, ...],
    allow_simulated: bool,
    witness_path: Path | None,
    cosigned_paths: tuple[Path, ...],
    at: datetime | None,
    crl_paths: tuple[Path, ...],
    deny_path: Path | None,
    allow_missing: bool,
    html_path: Path | None,
) -> None:
    """Derive every decision of a ledger again, from its evidence.

    SOURCE is the folder of a Coordinator, an exported directory or tar (verify/ledger), or an address that begins with
    https://, of a Coordinator or of a web server that serves an export.

    There are two verdicts. As decided then: does every decision follow from the inputs, the time and the rules that
    were recorded? As known now: would the evidence pass today, by the revocation lists and deny-lists that you give?
    With --witness-policy there is a third: have enough witnesses seen this very ledger, to its end?
    """
    session: Session = ctx.obj
    output = session.output
    expected = None if manifest_path is None else _read_expected(manifest_path)
    yardstick = own_yardstick(
        session.workspace,
        output,
        reference_path=reference_path,
        policy_hashes=policy_hashes,
        allow_simulated=allow_simulated,
        manifest=expected,
    )
    witnesses = read_asked(witness_path, cosigned_paths)
    now = datetime.now(UTC)  # noqa: TID251 a command is where the clock is read
    knowledge = Knowledge(
        at=at or now,
        clock=now,
        crls=tuple(read_crl(read_file(path, what="revocation list"), name=str(path)) for path in crl_paths),
        denied=frozenset() if deny_path is None else parse_ids(read_file(deny_path, what="deny-list"), str(deny_path)),
        reference_values=yardstick.reference_values if yardstick is not None and reference_path is not None else None,
    )
    with open_source(source) as opened, counting("entries", quiet=output.json_mode) as count:
        total = _size(opened)
        examined = examine(
            opened,
            reference_values=None if yardstick is None else yardstick.reference_values,
            coordinator_policies=known_policies(session.workspace, yardstick, policy_hashes),
            knowledge=knowledge,
            witnesses=witnesses,
            workers=len(os.sched_getaffinity(0)),
            progress=lambda done: count(done, total),
        )
        result = examined.result
        differs = _differences(expected, result)
        if html_path is not None:
            facts = Facts(
                source=source,
                made=now,
                knowledge=knowledge,
                expected=tuple(differs),
                witness_policy=witnesses is not None,
            )
            apply_changes(change(html_path, render(result, facts, opened).encode(), what="report"))
    ok = not differs and _passes(result, witnessed=witnesses is not None, allow_missing=allow_missing)
    output.document(document(result, knowledge, differs, ok=ok))
    _tell(output, result, knowledge, differs)
    _tell_witnessed(output, result, asked=witnesses is not None)
    if html_path is not None:
        output.say(f"report: {html_path}")
    if not ok:
        ctx.exit(RefusedError.exit_status)


def parse_ids(raw: bytes, name: str) -> frozenset[bytes]:
    """Return the ids of a deny-list: one in each line, in hex; `#` begins a comment.

    Turin's chip ids may be there in their own 8 bytes; they are returned as reports have them, with zeros behind.

    Raises:
        RefusedError: a line is none.
    """
    found = set()
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip().lower()
        if not text:
            continue
        one = bytes.fromhex(text) if re.fullmatch(r"(?:[0-9a-f]{2})+", text) else b""
        if len(one) not in {CHIP_ID_BYTES, TURIN_ID_BYTES, PLATFORM_ID_BYTES}:
            raise RefusedError(
                f"{name}:{number}: wanted a chip id of {CHIP_ID_BYTES} bytes ({TURIN_ID_BYTES} on Turin) or a TDX "
                f"platform id of {PLATFORM_ID_BYTES} bytes in hex, seen {text[:40]!r}"
            )
        found.add(one.ljust(CHIP_ID_BYTES, b"\0") if len(one) == TURIN_ID_BYTES else one)
    return frozenset(found)


def _read_expected(path: Path) -> tuple[str, Manifest]:
    name = str(path)
    return name, parse_manifest(read_file(path, what="manifest"), name=name, recorded=True)


def _passes(result: Audit, *, witnessed: bool, allow_missing: bool) -> bool:
    """Say whether nothing speaks against the ledger by any of the verdicts that were asked for."""
    if result.contradictions or result.refused_now:
        return False
    if witnessed and (result.cosigned is None or not result.cosigned.quorum):
        return False
    # What breaks off is not allowed to be missing: whatever follows was not judged.
    return not result.unproven or (allow_missing and result.broken is None)


def document(result: Audit, knowledge: Knowledge, differs: Sequence[str], *, ok: bool) -> dict[str, Any]:
    """Return the audit as `--json` shows it."""
    report, history = result.report, result.history
    first = next(iter(result.contradictions), None)
    return {
        "ok": ok,
        "origin": history.state.origin,
        "size": history.state.size if report is None else report.checkpoint.size,
        "root": None if report is None else report.checkpoint.root.hex(),
        "then": "proven" if not (result.contradictions or result.unproven) else "refused" if first else "unproven",
        "now": "refused" if result.refused_now else "not_judged" if report is None else "accepted",
        "at": knowledge.at.isoformat(),
        "simulated": result.simulated,
        "witnesses": witnessing.document(result.cosigned),
        "classes": {
            kind: {
                "seen": tally.seen,
                "contradictions": tally.wrong,
                "unproven": tally.unproven,
                "refused_now": tally.refused_now,
            }
            for kind, tally in sorted(result.tallies.items())
        },
        "first_contradiction": None if first is None else {"seq": first.seq, "code": first.code, "reason": first.text},
        "findings": [
            {
                "seq": item.seq,
                "code": item.code,
                "text": item.text,
                "proven_wrong": item.proven_wrong,
                "now": item.now,
                "about": item.about,
            }
            for item in result.findings
        ],
        "further_findings": result.more,
        "differences": list(differs),
        "manifests": [
            {"generation": item.generation, "seq": item.seq, "sha256": item.manifest.digest.hex()}
            for item in history.manifests
        ],
        "coordinator_policies": [] if report is None else [digest.hex() for digest in report.coordinator_policies],
        "moved_secrets": [
            {
                "secret_id": item.secret_id,
                "generation": item.generation,
                "seq": item.seq,
                "before": [digest.hex() for digest in item.before],
                "after": [digest.hex() for digest in item.after],
            }
            for item in history.moved_secrets
        ],
        "forks": [fork_json(fork) for fork in history.state.forks],
        "seed": _seed_json(result),
    }


def _seed_json(result: Audit) -> dict[str, Any]:
    """Return who had the seed, and who can have it again."""
    history = result.history
    return {
        "coordinators": [
            {"epoch": epoch.key.hex(), "policy": epoch.event.policy.hex(), "opened": epoch.seq}
            for epoch in history.state.epochs
        ],
        "share_owners": [owner.hex() for owner, _ in history.state.seed_shares],
        "recoveries": [{"seq": item.seq, "share_owner": item.share_owner.hex()} for item in history.recoveries],
    }


def _tell(output: Output, result: Audit, knowledge: Knowledge, differs: Sequence[str]) -> None:
    history, report = result.history, result.report
    output.say(f"ledger {history.state.origin or '(nothing of it could be read)'}")
    if report is not None:
        output.say(f"{report.checkpoint.size} entries, root {report.checkpoint.root.hex()}")
    output.say()
    output.table("", ["", "events", "wrong", "unproven", "refused now"], [_row(*item) for item in _in_order(result)])
    output.say()
    _tell_lists(output, result)
    for item in result.findings[:_SHOWN]:
        kind = "refused now" if item.now else "WRONG" if item.proven_wrong else "unproven"
        output.say(f"{kind}: {item.text}", style="red" if item.proven_wrong and not item.now else "yellow")
    hidden = len(result.findings) - _SHOWN + result.more
    if hidden > 0:
        output.say(f"and {hidden} more findings; --json shows up to a hundred")
    for line in differs:
        output.say(f"not the manifest you expect: {line}", style="red")
    _tell_verdicts(output, result, knowledge)


def _tell_witnessed(output: Output, result: Audit, *, asked: bool) -> None:
    if asked and result.cosigned is None:
        output.say("as witnessed: not judged, since the ledger breaks off", style="bold yellow")
    else:
        witnessing.tell(output, result.cosigned, result.history.state.size)


def _tell_verdicts(output: Output, result: Audit, knowledge: Knowledge) -> None:
    first = next(iter(result.contradictions), None)
    if first is not None:
        place = "the whole ledger" if first.seq is None else f"entry {first.seq}"
        output.say(f"as decided then: NOT what the rules lead to; first at {place}: {first.text}", style="bold red")
    elif result.unproven:
        output.say(
            f"as decided then: unproven, since something is withheld ({len(result.unproven)} decisions)",
            style="bold yellow",
        )
    else:
        output.say("as decided then: every decision follows from what was recorded", style="bold green")
    day = knowledge.at.strftime("%Y-%m-%d %H:%M UTC") if knowledge.at.tzinfo is UTC else knowledge.at.isoformat()
    if result.refused_now:
        output.say(f"as known now ({day}): {len(result.refused_now)} would be refused", style="bold red")
    elif result.report is None:
        output.say(f"as known now ({day}): not judged to the end, since the ledger breaks off", style="bold yellow")
    else:
        output.say(f"as known now ({day}): every accepted evidence would pass", style="bold green")
    if not knowledge.crls:
        output.note("no revocation list of today was given (--crl): what was revoked since is not known here")


def _tell_lists(output: Output, result: Audit) -> None:
    history, report = result.history, result.report
    if result.simulated:
        output.banner(
            "SIMULATED PLATFORM: no hardware protects a Coordinator of this ledger. "
            "Whoever runs its machine can read and forge everything."
        )
    for fork in history.state.forks:
        output.banner(given_up(fork))
    ran = {epoch.event.policy: epoch for epoch in history.state.epochs}
    for digest in () if report is None else report.coordinator_policies:
        ran_as = "ran" if digest in ran else "never ran"
        output.say(f"Role coordinator was given to policy {digest.hex()}, which {ran_as}")
    for epoch in history.state.epochs:
        output.say(
            f"had the seed: Coordinator {short(epoch.key)} from entry {epoch.seq} on, "
            f"{time_text(epoch.time_ms)}, policy {short(epoch.event.policy)}"
        )
    for owner, _ in history.state.seed_shares:
        used = sum(item.share_owner == owner for item in history.recoveries)
        output.say(f"can have the seed: the owner of share {short(owner)}, {used_at(used)}")
    for moved in history.moved_secrets:
        output.say(
            f"moved: manifest {moved.generation} gave secret {moved.secret_id} to {_shorts(moved.after)}; "
            f"before it was {_shorts(moved.before)}'s"
        )
    output.say()


def _shorts(digests: Sequence[bytes]) -> str:
    return ", ".join(short(digest) for digest in digests)


_ORDER: Final = ("ledger.created", "epoch.opened", "manifest.set", "ledger.recovered")


def _in_order(result: Audit) -> list[tuple[str, Tally]]:
    return sorted(result.tallies.items(), key=lambda item: (item[0] not in _ORDER, item[0]))


def _row(kind: str, tally: Tally) -> tuple[str, ...]:
    return (kind, str(tally.seen), *(str(n) if n else "-" for n in (tally.wrong, tally.unproven, tally.refused_now)))


def _differences(expected: tuple[str, Manifest] | None, result: Audit) -> tuple[str, ...]:
    if expected is None or not result.history.manifests:
        return ()
    name, mine = expected
    in_force = result.history.manifests[-1].manifest
    return tuple(differences(mine, in_force, mine_name=name, theirs_name="the manifest in force"))


def _size(source: Source) -> int:
    try:
        return read_checkpoint(source.checkpoint()).size
    except NoteError:
        return 0  # The audit says what is wrong with it.
