"""`contrast attestation`: what is in a report, quote or certificate, and does it satisfy these reference values?"""

import sys
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from attestation.evidence import Evidence, Kind, binding_of, host_data_of
from attestation.explain import Explanation, explain
from attestation.gather import gather
from attestation.judge import judge
from attestation.reference import ReferenceValues, SnpReferenceValues
from attestation.verdict import Outcome, Verdict
from cli.errors import RefusedError, UsageFaultError
from cli.options import PATHS, DigestType
from cli.output import Output, clean
from cli.recorded import Recorded, recorded_evidence
from cli.session import Session, example, json_option
from cli.workspace import read_file
from manifest.reference_file import parse_reference_values

MAX_FILE: Final = 1 << 20
_STDIN: Final = Path("-")
_HOST_DATA, _REPORT_DATA = 24, 25
_WORDS: Final = {Outcome.PASSED: "passed", Outcome.FAILED: "FAILED", Outcome.NOT_APPLICABLE: "not checked"}


class HexType(click.ParamType[bytes]):
    """So many bytes in hex."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"hex{size}"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes of *value*."""
        if isinstance(value, bytes):
            return value
        try:
            raw = bytes.fromhex(str(value))
        except ValueError:
            raw = b""
        if len(raw) != self.size:
            self.fail(f"{value!r}: wanted {self.size} bytes in hex", param, ctx)
        return raw


class MomentType(click.ParamType[datetime]):
    """A moment with its zone, as in 2026-11-24T06:00:00Z."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment of *value*."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no moment, wanted 2026-11-24T06:00:00Z", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no zone: end it with Z or +01:00", param, ctx)
        return moment


@click.group(epilog=example("contrast attestation show verify/ledger/entry/1"))
def attestation() -> None:
    """Look into evidence, and judge it offline.

    Reads SEV-SNP reports, TDX quotes, certificates, revocation lists, certificate tables, collateral, Azure's blobs,
    and entries of an exported ledger (verify/ledger/entry/7), in bytes, hex, base64 or PEM.
    """


@attestation.command(
    epilog=example("contrast attestation show report.bin\nxxd -r -p report.hex | contrast attestation show -")
)
@click.argument("file", type=PATHS)
@json_option
@click.pass_obj
def show(session: Session, *, file: Path) -> None:
    """Explain FILE field by field, `-` for standard input. Nothing is verified."""
    raw = _read(file, what="file")
    recorded = recorded_evidence(file, raw)
    found: list[tuple[str, Explanation]] = []
    if recorded is None:
        found += [("", each) for each in explain(raw)]
    else:
        for role, data in recorded.evidence.parts:
            found += [(role, each) for each in explain(data)]
    out = session.output
    out.document(
        [{"role": role, "kind": each.kind, "title": each.title, "fields": dict(each.rows)} for role, each in found]
    )
    if recorded is not None:
        out.say(f"entry {recorded.seq} ({recorded.type}): {recorded.evidence.kind} evidence, recorded by this ledger")
        out.say()
    for role, each in found:
        out.table(f"{each.title} ({role})" if role else each.title, ["field", "value"], each.rows)
        out.say()
    out.note("nothing of this is verified: `contrast attestation verify` judges it")


@attestation.command(
    short_help="Judge evidence offline by your own values.",
    epilog=example(
        "contrast attestation verify --report report.bin --endorsements vcek.der --endorsements chain.pem \\\n"
        "    --reference-values reference-values.json"
    ),
)
@click.option("--report", "report", required=True, type=PATHS, help="Report, quote, Azure blob, or a ledger's entry.")
@click.option(
    "--endorsements",
    "endorsements",
    multiple=True,
    type=PATHS,
    help="Certificates, revocation list, certificate table or collateral (may be repeated).",
)
@click.option("--reference-values", "values", required=True, type=PATHS, help="What is acceptable, in JSON.")
@click.option("--report-data", "bound", type=HexType(64), default=None, help="The 64 bytes that it must be bound to.")
@click.option(
    "--host-data",
    "policies",
    multiple=True,
    type=DigestType(),
    help="SHA-256 of an acceptable policy (may be repeated).",
)
@click.option("--at", "at", type=MomentType(), default=None, help="When it is judged [default: now].")
@click.option("--allow-simulated", is_flag=True, help="Judge a simulated processor. It protects nothing.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    *,
    report: Path,
    endorsements: tuple[Path, ...],
    values: Path,
    bound: bytes | None,
    policies: tuple[bytes, ...],
    at: datetime | None,
    allow_simulated: bool,
) -> None:
    """Judge evidence offline by your own values, with all 27 checks, whatever fails first.

    What you do not give is not compared and says so: without --report-data nobody knows for whom the evidence was made,
    without --host-data nobody knows which policy the guest runs under.
    """
    session: Session = ctx.obj
    entries = tuple(parse_reference_values(read_file(values, what="reference values"), name=str(values)))
    simulated = any(isinstance(entry, SnpReferenceValues) and entry.is_simulated for entry in entries)
    if simulated != allow_simulated:
        raise RefusedError(
            "these reference values name a simulated platform: add --allow-simulated if this is a trial"
            if simulated
            else "--allow-simulated is for reference values that name a simulated anchor; these name none"
        )
    evidence, recorded = _evidence(report, endorsements, simulated=simulated)
    if recorded is not None:
        bound = bound or recorded.report_data
        policies = policies or (recorded.policy,)
    now = at or datetime.now(UTC)  # noqa: TID251 a command is where the clock is read
    verdict = judge_offline(evidence, entries, bound=bound, policies=policies, now=now)
    _print(session.output, verdict, entries, now)
    if not verdict.accepted:
        ctx.exit(1)


def judge_offline(
    evidence: Evidence,
    entries: Sequence[ReferenceValues],
    *,
    bound: bytes | None,
    policies: Sequence[bytes],
    now: datetime,
) -> Verdict:
    """The verdict with all checks made; what was not given to compare with is shown as not checked.

    Raises:
        EvidenceError: the report or quote is too short to have what it should be compared with.
    """
    host_data: Container[bytes] = policies or (host_data_of(evidence),)
    verdict = judge(
        evidence, entries, report_data=bound or binding_of(evidence), host_data=host_data, now=now, thorough=True
    )
    missing = {
        number: option
        for number, option, given in (
            (_HOST_DATA, "--host-data", bool(policies)),
            (_REPORT_DATA, "--report-data", bound is not None),
        )
        if not given
    }
    outcomes, texts = bytearray(verdict.outcomes), list(verdict.texts)
    for number, option in missing.items():
        outcomes[number - 1] = Outcome.NOT_APPLICABLE
        texts[number - 1] = (texts[number - 1][0], f"not compared: {option}")
    return replace(verdict, outcomes=bytes(outcomes), texts=tuple(texts))


def _read(path: Path, *, what: str) -> bytes:
    if path != _STDIN:
        return read_file(path, what=what, limit=MAX_FILE)
    raw = sys.stdin.buffer.read(MAX_FILE + 1)
    if len(raw) > MAX_FILE:
        raise RefusedError(f"{what} from standard input: larger than {MAX_FILE} bytes, which is the most that is read")
    return raw


def _evidence(report: Path, endorsements: Sequence[Path], *, simulated: bool) -> tuple[Evidence, Recorded | None]:
    raw = _read(report, what="report")
    recorded = recorded_evidence(report, raw)
    if recorded is None:
        files = [_read(path, what="endorsements") for path in endorsements]
        return gather(raw, files, simulated=simulated), None
    if endorsements:
        raise UsageFaultError("an entry of a ledger names its endorsements itself: leave out --endorsements")
    if (recorded.evidence.kind is Kind.SIMULATED) != simulated:
        raise RefusedError(
            f"the entry is about {recorded.evidence.kind} evidence, which these reference values do not fit"
        )
    return recorded.evidence, recorded


def _print(output: Output, verdict: Verdict, entries: Sequence[ReferenceValues], now: datetime) -> None:
    if verdict.kind is Kind.SIMULATED:
        output.banner("SIMULATED PLATFORM: no hardware protects this guest.")
    platform = None if verdict.entry_index is None else entries[verdict.entry_index].platform
    output.document(
        {
            "accepted": verdict.accepted,
            "kind": verdict.kind.value,
            "rules": verdict.rules,
            "judged_at": now.isoformat(),
            "platform": platform,
            "checks": [check.as_dict() for check in verdict.checks],
            "claims": None if verdict.claims is None else verdict.claims.as_dict(),
        }
    )
    output.table(
        f"{verdict.kind} evidence against {platform or 'no entry that fits its kind'}",
        ["", "check", "outcome", "seen", "wanted"],
        [(str(check.number), check.name, _WORDS[check.outcome], check.seen, check.wanted) for check in verdict.checks],
    )
    if verdict.not_checked:
        output.note(f"not checked: {', '.join(check.name for check in verdict.not_checked)}")
    if verdict.accepted:
        output.say("accepted", style="bold green")
        return
    failures = [f"{check.number} {check.name}" for check in verdict.failures]
    output.say(clean(f"refused: {', '.join(failures)}"), style="bold red")
