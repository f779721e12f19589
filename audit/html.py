"""The audit as one page for a browser: no script, no network, every string of a stranger escaped. Judges nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit.cases import Knowledge
from audit.html_manifests import manifest_history
from audit.html_style import STYLE
from audit.html_text import brief, esc, mono, table, used_at, when
from audit.html_timeline import timeline
from audit.receipt import keyring_of
from audit.report import Audit, Finding, Report
from ledger.cosigned import Cosigned
from ledger.errors import LedgerError
from ledger.note import split_note
from ledger.source import Source

_POLICIES_SHOWN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the page says beside the audit.

    Attributes:
        source: What the auditor named.
        made: When the page was made.
        knowledge: By what the second verdict was given.
        expected: How the manifest in force differs from the one that the auditor expected.
        witness_policy: Cosignatures were to be checked.
    """

    source: str
    made: datetime
    knowledge: Knowledge
    expected: tuple[str, ...] = ()
    witness_policy: bool = False


def render(audit: Audit, facts: Facts, source: Source) -> str:
    """The page."""
    history, report = audit.history, audit.report
    size = history.state.size if report is None else report.checkpoint.size
    body = [
        f'<header><h1>Audit of a ledger</h1><p class="origin">{mono(history.state.origin or "unreadable")}</p>',
        f'<div class="verdicts">{_then(audit)}{_now(audit, facts)}{_witnessed(audit, facts)}</div>',
        (
            f"<p>{size} entries, last at {esc(when(history.state.time_ms))} UTC. Read from {mono(facts.source)} on "
            f"{esc(facts.made.strftime('%Y-%m-%d %H:%M'))} UTC.</p></header>"
        ),
        _simulated(audit),
        _forks(audit),
        _section("What was derived again", _classes(audit) + _findings(audit, facts)),
        _section("Life of the ledger", f'<div class="scroll">{timeline(history)}</div>{_LEGEND}'),
        _section("Who could have had the seed", _seed(audit)),
        _section("Manifests", manifest_history(history.manifests) + _moved(audit)),
        _section("Certificates by policy", _policies(audit)),
        _section("Refused attestations", _refusals(audit)),
        _section("Checkpoint and its signatures", _checkpoint(audit, source)),
        _section("What this does not say", _LIMITS),
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of a ledger</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{esc(title)}</h2>{content}</section>"


def _simulated(audit: Audit) -> str:
    """Loud, since the verdicts above it are green all the same."""
    if not audit.simulated:
        return ""
    return (
        '<section class="loud"><h2>SIMULATED PLATFORM</h2><p>A Coordinator of this ledger ran without hardware that '
        "protects it. Whoever ran its machine could read and forge everything.</p></section>"
    )


def _forks(audit: Audit) -> str:
    """Loud, since everything else about such a ledger can be in order."""
    return "".join(
        '<section class="loud"><h2>History was given up</h2>'
        f"<p>At entry {fork.seq}, {esc(when(fork.time_ms))} UTC, this ledger went on although it does not extend "
        f"one of {esc(', '.join(str(size) for size, _ in fork.event.heads))} entries that was known. "
        "What stood there is lost or hidden.</p></section>"
        for fork in audit.history.state.forks
    )


def _then(audit: Audit) -> str:
    first = next(iter(audit.contradictions), None)
    if first is not None:
        place = "the whole ledger" if first.seq is None else f"entry {first.seq}"
        return _verdict("bad", "As decided then", f"Contradicted, first at {place}")
    if audit.unproven:
        return _verdict("open", "As decided then", f"Unproven: {len(audit.unproven)} inputs are withheld")
    return _verdict("good", "As decided then", "Every decision follows from what was recorded")


def _now(audit: Audit, facts: Facts) -> str:
    day = esc(facts.knowledge.at.strftime("%Y-%m-%d"))
    lists = len(facts.knowledge.crls)
    by = f"{lists} revocation lists and {len(facts.knowledge.denied)} denied ids given" if lists else (
        f"no revocation list given, {len(facts.knowledge.denied)} denied ids"
    )  # fmt: skip
    if audit.refused_now:
        return _verdict("bad", f"As known on {day}", f"{len(audit.refused_now)} would be refused; {by}")
    if audit.report is None:
        return _verdict("open", f"As known on {day}", "Not judged to the end: the ledger breaks off")
    return _verdict("good", f"As known on {day}", f"Every accepted evidence would pass; {by}")


def _witnessed(audit: Audit, facts: Facts) -> str:
    """The third verdict, for those who gave a witness policy."""
    title, found = "As witnessed", audit.cosigned
    if not facts.witness_policy:
        return ""
    if found is None:
        return _verdict("open", title, "Not judged: the ledger breaks off")
    if found.contradictions:
        return _verdict("bad", title, "Witnesses know another history")
    size = audit.history.state.size
    if not found.quorum:
        return _verdict("bad", title, f"A quorum has seen {found.seen or 'none'} of {size} entries")
    if found.time_s is None:
        return _verdict("open", title, "The policy asks for nobody's cosignature")
    return _verdict("good", title, f"A quorum has seen all of it, as of {when(found.time_s * 1000)} UTC")


def _verdict(kind: str, title: str, text: str) -> str:
    return f'<div class="verdict {kind}"><strong>{esc(title)}</strong><span>{esc(text)}</span></div>'


def _classes(audit: Audit) -> str:
    rows = [
        (
            mono(kind),
            str(tally.seen),
            *(
                f'<span class="{"hit" if n else "soft"}">{n or "-"}</span>'
                for n in (tally.wrong, tally.unproven, tally.refused_now)
            ),
        )
        for kind, tally in sorted(audit.tallies.items())
    ]
    return table(("event", "read", "wrong", "unproven", "refused now"), rows, numeric=(1, 2, 3, 4))


def _findings(audit: Audit, facts: Facts) -> str:
    items = [f'<li class="removed">not the manifest expected: {esc(line)}</li>' for line in facts.expected]
    items += [_finding(finding) for finding in audit.findings]
    if not items:
        return '<p class="fine">No finding.</p>'
    more = f'<p class="none">and {audit.more} more</p>' if audit.more else ""
    return f"<h3>Findings</h3><ul>{''.join(items)}</ul>{more}"


def _finding(finding: Finding) -> str:
    kind = "refused now" if finding.now else "wrong" if finding.proven_wrong else "unproven"
    css = "removed" if finding.proven_wrong and not finding.now else "changed"
    return f'<li class="{css}"><strong>{kind}</strong> <code>{esc(finding.code)}</code> {esc(finding.text)}</li>'


def _seed(audit: Audit) -> str:
    history, report = audit.history, audit.report
    judged = {} if report is None else {epoch.key: epoch for epoch in report.epochs}
    rows = []
    for epoch in history.state.epochs:
        entry = judged.get(epoch.key)
        accepted = None if entry is None else entry.accepted_here
        verdict = {None: "by its manifest", True: "by yours too", False: "NOT by yours"}[accepted]
        rows.append(
            (
                brief(epoch.key),
                brief(epoch.event.policy),
                esc(epoch.event.evidence[0] if entry is None else entry.product),
                f"{epoch.seq} to {'now' if epoch.closed_at is None else epoch.closed_at - 1}",
                esc(when(epoch.time_ms)),
                f'<span class="{"hit" if accepted is False else "fine"}">{verdict}</span>',
            )
        )
    ran = {epoch.event.policy for epoch in history.state.epochs}
    never = [] if report is None else [digest for digest in report.coordinator_policies if digest not in ran]
    notes = "".join(f"<li>named with Role coordinator, and never ran: {mono(digest.hex())}</li>" for digest in never)
    used: dict[bytes, int] = {}
    for recovery in history.recoveries:
        used[recovery.share_owner] = used.get(recovery.share_owner, 0) + 1
    notes += "".join(
        f"<li>seed share of owner {brief(owner)}, {used_at(used.get(owner, 0))}</li>"
        for owner, _ in history.state.seed_shares
    )
    head = ("Coordinator", "policy", "processor", "entries", "opened (UTC)", "accepted by reference values")
    return table(head, rows) + (f"<ul>{notes}</ul>" if notes else "")


def _moved(audit: Audit) -> str:
    moved = audit.history.moved_secrets
    if not moved:
        return ""
    rows = [
        (
            mono(item.secret_id),
            str(item.generation),
            ", ".join(map(brief, item.before)),
            ", ".join(map(brief, item.after)),
        )
        for item in moved
    ]
    return "<h3>Secrets that moved to another policy</h3>" + table(("secret id", "manifest", "from", "to"), rows)


def _policies(audit: Audit) -> str:
    activity = sorted(audit.history.activity.items(), key=lambda item: (-item[1].certificates, item[0]))
    most = max((each.certificates for _, each in activity), default=0) or 1
    rows = [
        (
            brief(policy),
            esc(", ".join(each.sans)),
            f"{each.certificates} {_meter(each.certificates, most)}",
            str(each.attestations),
            str(each.secrets),
            _moment(each.first_ms),
            _moment(each.last_ms),
        )
        for policy, each in activity[:_POLICIES_SHOWN]
    ]
    head = ("policy", "names", "certificates", "attestations", "secrets", "first (UTC)", "last (UTC)")
    return table(head, rows, numeric=(2, 3, 4))


def _moment(time_ms: int) -> str:
    return f'<span class="t">{esc(when(time_ms))}</span>'


def _meter(number: int, most: int) -> str:
    return f'<span class="meter"><i style="width:{round(100 * number / most)}%"></i></span>'


def _refusals(audit: Audit) -> str:
    rows = [(mono(code), str(number)) for code, number in sorted(audit.history.refusals.items())]
    return table(("code", "times"), rows, numeric=(1,))


def _checkpoint(audit: Audit, source: Source) -> str:
    try:
        raw = source.checkpoint()
        text, signatures = split_note(raw)
    except LedgerError as error:
        return f'<p class="hit">{esc(error)}</p>'
    found = audit.cosigned
    seen = {} if found is None else {(each.key.name, each.key.key_id): each for each in found.sightings}
    own = {} if audit.report is None else _verified(audit.report)
    rows = []
    for line in signatures:
        whose = '<span class="soft">not checked</span>'
        if (sighting := seen.get((line.name, line.key_id))) is not None:
            whose = (
                f'<span class="fine">witness {esc(sighting.witness)}, {esc(when(sighting.time_s * 1000))} UTC</span>'
            )
        elif (signer := own.pop((line.name, line.key_id), None)) is not None:
            whose = f'<span class="fine">{signer}</span>'
        rows.append((mono(line.name), mono(line.key_id.hex()), whose))
    lines = "\n".join(esc(line) for line in text.splitlines())
    return f"<pre>{lines}</pre>{table(('signed under the name', 'key id', 'verified as'), rows)}{_witnesses(found)}"


def _verified(report: Report) -> dict[tuple[str, bytes], str]:
    """Whose signatures the audit has verified, if they are there: the ledger's, and those of the Coordinators then."""
    keys = keyring_of(report.state)
    own = {(key.name, key.key_id): "the ledger" for key in (keys.ledger, *keys.more)}
    then = [each.key for each in keys.epochs if each.signs(report.checkpoint.size)]
    return own | {(key.name, key.key_id): "the Coordinator" for key in then}


def _witnesses(found: Cosigned | None) -> str:
    if found is None:
        return (
            '<p class="soft">Names other than the ledger\'s own are witnesses. Their cosignatures were not checked: '
            "that takes a witness policy.</p>"
        )
    rows = [
        (esc(each.witness), str(each.size), esc(when(each.time_s * 1000)), esc(each.source)) for each in found.sightings
    ]
    rows += [(esc(name), "-", '<span class="soft">no cosignature</span>', "") for name in found.silent]
    head = ("witness", "entries seen", "at, by its clock (UTC)", "shown by")
    return "<h3>Witnesses of your policy</h3>" + table(head, rows, numeric=(1,))


_LEGEND: Final = (
    '<p class="legend"><span class="swatch open"></span> open Coordinator <span class="swatch closed"></span> closed '
    '<span class="swatch line"></span> manifest set <span class="swatch tri">▲</span> recovery</p>'
)
_LIMITS: Final = (
    "<ul><li>Times are the host's clock: they never run backwards, and that is all that is known of them.</li>"
    "<li>Whoever has had the seed can mint certificates that are recorded nowhere. They cannot add to this ledger.</li>"
    "<li>That this ledger is the newest is shown by heads remembered elsewhere and by witnesses, not by itself.</li>"
    "</ul>"
)
