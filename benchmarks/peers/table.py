"""Writes ``docs/peers.md``: every shared vector, what we say, what PyPI tinfoil and npm's verifier say, who is right.

``python -m benchmarks.peers.table``. Ours is asked with the strictest reference values that a genuine report satisfies,
so "accepted" means that report, chain and every field hold; a report in DEBUG is genuine and refused on purpose.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attestation.evidence import Evidence, Kind
from attestation.judge import judge
from attestation.reference import TDX_STATUSES, SnpReferenceValues, TdxReferenceValues
from attestation.snp.endorsement import parse_endorsement
from attestation.snp.products import PRODUCTS, Tcb, parse_tcb, product_of
from attestation.snp.report import parse_report
from attestation.tdx.quote import parse_quote
from attestation.verdict import Verdict
from benchmarks.attestation_bench import VECTORS
from benchmarks.peers.environment import tinfoil, verifier

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "peers.md"
_CHECK_27 = 27
_HEAD = """# Peers

Every published vector that this project shares (`CONTRAST_VECTORS`), judged by us and by two other verifiers, and who
is right. Written by `python -m benchmarks.peers.table`; nothing here is typed by hand.

**Run here:** ours; PyPI `tinfoil` 0.14.0 (`build/peers`, `requirements/peers.txt`) and npm `@tinfoilsh/verifier` 1.1.0
(`build/peers-npm`, `requirements/peers-npm`), each in an environment of its own, once with its own defaults and once
with an empty policy. The npm package's entry point takes gzipped documents of its own service; the steps behind it are
called as it calls them. One of its dependencies, `tuf-browser`, which takes no part in judging reports, is held at the
version that the registry has.

"Right" means: a genuine report of a guest in order is accepted, a genuine one of a guest in DEBUG is refused for that,
and what is not genuine is refused. Both say openly that they are made for Genoa; their columns tell what one can use
them for, not that they are bad at their own work. Neither looks at a revocation list.
"""
_PEERS = (("tinfoil", "default"), ("tinfoil", "empty"), ("verifier", "default"), ("verifier", "empty"))
_WHO = {
    "ours": "ours",
    "tinfoil default": "tinfoil (defaults)",
    "tinfoil empty": "tinfoil (empty)",
    "verifier default": "verifier (defaults)",
    "verifier empty": "verifier (empty)",
}


def main() -> None:
    reports = json.loads((VECTORS / "snp/reports.json").read_text())
    theirs = _words([(facts["file"], *_files(facts)) for facts in reports])
    lines = [_HEAD, "## SEV-SNP reports\n"]
    lines += [
        (
            "| report | genuine | ours | tinfoil, its defaults | tinfoil, empty policy | verifier, its defaults | "
            "verifier, empty policy | right |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    right = dict.fromkeys(_WHO, 0)
    for facts in reports:
        verdict, debug = _judge(facts), "DEBUG" in facts["notes"]
        said = [theirs[peer][facts["file"]][policy] for peer, policy in _PEERS]
        words = {"ours": verdict.accepted != debug and (not debug or _failed(verdict) == [18])}
        words |= {
            f"{peer} {policy}": (word == "accepted") != debug for (peer, policy), word in zip(_PEERS, said, strict=True)
        }
        for name, is_right in words.items():
            right[name] += is_right
        cells = [_name(facts), "in DEBUG" if debug else "yes", _ours(verdict), *map(_short, said)]
        lines.append(f"| {' | '.join(cells)} | {', '.join(_who(words)) or 'nobody'} |")
    total = len(reports)
    lines += [
        "",
        (
            f"Right, of {total}: ours {right['ours']}; tinfoil with its defaults {right['tinfoil default']}, with an "
            f"empty policy {right['tinfoil empty']}; verifier {right['verifier default']} and "
            f"{right['verifier empty']}. Who refuses everything of another product is right about DEBUG, too."
        ),
        "",
        *_negatives(),
        *_quotes(),
    ]
    OUTPUT.write_text("\n".join(lines) + "\n")


def _negatives() -> list[str]:
    report = next(facts for facts in json.loads((VECTORS / "snp/reports.json").read_text()) if "/20-" in facts["file"])
    lines = [
        "## What must be refused\n",
        "The peers are asked with an empty policy.\n",
        "| vector | must be refused, because | ours | tinfoil | verifier |",
        "|---|---|---|---|---|",
    ]
    raw, vek = _files(report)
    cases = [
        (Path(facts["file"]).name, facts["expect"].split(";")[0], raw, (VECTORS / "snp" / facts["file"]).read_bytes())
        for facts in json.loads((VECTORS / "snp/negative.json").read_text())
    ]
    cases += [
        (path.name, "it was made up", path.read_bytes(), vek)
        for path in sorted((VECTORS / "snp/negative").glob("*.report.bin"))
    ]
    theirs = _words([(name, report_raw, key) for name, _, report_raw, key in cases])
    for name, because, report_raw, key in cases:
        said = [_short(theirs[peer][name]["empty"]) for peer in ("tinfoil", "verifier")]
        verdict = _judge(report, report=report_raw, vek=key)
        lines.append(f"| {name} | {because} | {_ours(verdict)} | {' | '.join(said)} |")
    return [*lines, ""]


def _words(cases: list[tuple[str, bytes, bytes]]) -> dict[str, dict[str, dict[str, Any]]]:
    """What each peer says of (name, report, certificate), by peer and name."""
    return {
        "tinfoil": {each["name"]: each for each in tinfoil(cases, rounds=1)},
        "verifier": {each["name"]: each for each in verifier(cases)},
    }


def _quotes() -> list[str]:
    lines = [
        "## TDX quotes\n",
        (
            "`tinfoil` judges quotes only with collateral that it fetches itself, so it was not asked; the npm package "
            "judges no quotes at all. dcap-qvl is the "
            "library that verifies for us; its word is the published one, with the first collateral that fits.\n"
        ),
        "| quote | peculiar | dcap-qvl alone | ours (every status but Revoked allowed) |",
        "|---|---|---|---|",
    ]
    for facts in json.loads((VECTORS / "tdx/quotes.json").read_text()):
        if facts.get("version") not in (4, 5):
            continue
        said = {
            name: opinion
            for name, opinion in (facts.get("dcap_qvl") or {}).items()
            if (VECTORS / f"tdx/collateral/{name}.json").exists()
        }
        name = next((name for name, opinion in said.items() if opinion["result"] == "ok"), next(iter(said), None))
        alone = "not asked: no collateral for its platform was published"
        if name is not None:
            alone = (
                said[name].get("status")
                or said[name]["error"].removeprefix("Verification failed: ").split("|")[0].strip()
            )
        verdict = _judge_quote(facts, name, said)
        quote = Path(facts["file"]).name.removesuffix(".quote.bin")
        lines.append(f"| {quote} | {facts['notes'] or '-'} | {alone} | {_ours(verdict)} |")
    return lines


def _judge_quote(facts: dict[str, Any], collateral: str | None, said: dict[str, Any]) -> Verdict:
    raw = (VECTORS / "tdx" / facts["file"]).read_bytes()
    quote = parse_quote(raw)
    values = TdxReferenceValues(
        platform="vector",
        mr_td=quote.mr_td,
        mr_seam=quote.mr_seam,
        rtmrs=quote.rtmrs,
        xfam=quote.xfam,
        allowed_tcb_statuses=TDX_STATUSES,
    )
    parts = {"quote": raw}
    now = datetime(2026, 3, 5, tzinfo=UTC)
    if collateral is not None:
        parts["collateral"] = (VECTORS / f"tdx/collateral/{collateral}.json").read_bytes()
        now = datetime.fromtimestamp(said[collateral]["now"], UTC)
    return judge(
        Evidence.make(Kind.TDX, parts),
        [values],
        report_data=quote.report_data,
        host_data={quote.host_data},
        now=now,
        thorough=True,
    )


def _files(facts: dict[str, Any]) -> tuple[bytes, bytes]:
    return (VECTORS / "snp" / facts["file"]).read_bytes(), (VECTORS / "snp" / facts["cert"]).read_bytes()


def _judge(facts: dict[str, Any], **changed: bytes) -> Verdict:
    raw, vek = _files(facts)
    report = parse_report(raw)
    product = PRODUCTS[facts["product"]]
    if report.cpuid is not None:
        product = product_of(report.cpuid[0], report.cpuid[1]) or product
    chain = facts["product"].lower()
    parts = {
        "report": raw,
        "vek": vek,
        "intermediate": (VECTORS / f"snp/certs/{'asvk' if facts['key'] == 'VLEK' else 'ask'}-{chain}.der").read_bytes(),
        "root": (VECTORS / f"snp/certs/ark-{chain}.der").read_bytes(),
        **changed,
    }
    lowest = min(
        (parse_tcb(tcb, product) for tcb in (report.reported_tcb, report.committed_tcb, report.launch_tcb)), key=_order
    )
    values = SnpReferenceValues(
        platform="vector",
        product_name=product.name,
        trusted_measurement=report.measurement,
        minimum_tcb=lowest,
        vmpl=report.vmpl,
        allow_provisional_firmware="provisional" in facts["notes"],
        allowed_chip_ids=(report.chip_id,),
        allowed_providers=tuple(filter(None, (parse_endorsement(vek).provider,))),
        crl="warn",
    )
    return judge(
        Evidence.make(Kind.SNP, parts),
        [values],
        report_data=report.report_data,
        host_data={report.host_data},
        now=datetime.fromisoformat(facts["cert_not_before"]) + timedelta(days=1),
        thorough=True,
    )


def _order(tcb: Tcb) -> tuple[int, ...]:
    return tcb.microcode, tcb.snp, tcb.bootloader, tcb.tee


def _failed(verdict: Verdict) -> list[int]:
    return [check.number for check in verdict.failures if check.number != _CHECK_27]


def _ours(verdict: Verdict) -> str:
    if verdict.accepted:
        return "accepted"
    return "refused: " + ", ".join(
        f"{check.number} {check.name}" for check in verdict.failures if check.number != _CHECK_27
    )


def _short(word: str) -> str:
    text = word.partition(": ")[2] or word
    return "accepted" if word == "accepted" else "refused: " + text.partition(". ")[0].replace("|", "/")[:90]


def _who(words: dict[str, bool]) -> list[str]:
    return [_WHO[name] for name, is_right in words.items() if is_right]


def _name(facts: dict[str, Any]) -> str:
    notes = f" ({facts['notes']})" if facts["notes"] else ""
    return f"{Path(facts['file']).name.removesuffix('.report.bin')}{notes}"


if __name__ == "__main__":
    main()
