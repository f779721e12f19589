"""Verdicts per second on one core, beside the bare arithmetic in them, and beside another verifier.

Ours and the limit are measured in turn, many times, in one pinned process, and compared by their medians: what slows
the machine down slows both. Reports, quotes and collateral are the published ones (``CONTRAST_VECTORS``).

``attestation.snp.cold``  everything parsed and verified anew; limit: 4 x RSA-4096 (chain and list), 1 x P-384
``attestation.snp.warm``  the chain known by its hash; limit: 1 x P-384
``attestation.snp.peer``  the same reports through PyPI tinfoil in the same run, where it accepts them (without a list)
``attestation.tdx``       limit: the bare call of dcap-qvl with collateral that is parsed already
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dcap_qvl
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.evidence import Evidence, Kind
from attestation.judge import ChainCache, judge
from attestation.reference import TDX_STATUSES, SnpReferenceValues, TdxReferenceValues
from attestation.snp.certificates import PSS_PADDING, parse_authority, parse_crl
from attestation.snp.endorsement import parse_endorsement
from attestation.snp.products import PRODUCTS, parse_tcb, product_of
from attestation.snp.report import parse_report
from attestation.tdx.collateral import parse_collateral
from attestation.tdx.quote import parse_quote
from benchmarks.peers.environment import NoPeerError, tinfoil

VECTORS = Path(os.environ.get("CONTRAST_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors"))
CPU = 0
TURNS = 40
EACH = 25
PEER_ROUNDS = 200
CRL_CLOCK = datetime(2023, 6, 1, tzinfo=UTC)
TDX_CLOCK = datetime.fromtimestamp(1772707803, UTC)
COLD_REPORT = "02-milan"
TDX_QUOTE = "v5-td15-90c06f000000-go-tdx-guest-cf77a6e9.quote.bin"
TDX_COLLATERAL = "phala_outdated.json"
PEER = "tinfoil 0.14.0 (PyPI), certificates parsed each time, no revocation list, empty policy"


def rows() -> dict[str, dict[str, Any]]:
    """The four rows; without the vectors, or the peer, a row says what is missing."""
    if not VECTORS.is_dir():
        raise RuntimeError(f"no published vectors at {VECTORS}: set CONTRAST_VECTORS to their folder")
    argv = ["taskset", "-c", str(CPU), sys.executable, "-m", "benchmarks.attestation_bench", "measure"]
    measured = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "attestation.snp.cold": _row(
            measured["cold"], "4 x RSA-4096 verify, 1 x P-384 verify (ours: 3 and 1, docs/adr/0029)"
        ),
        "attestation.snp.warm": _row(measured["warm"], "1 x P-384 verify"),
        "attestation.snp.peer": _peer_row(measured["peers"]),
        "attestation.tdx": _row(measured["tdx"], "dcap_qvl.verify with collateral parsed before"),
    }


def _row(pair: dict[str, float], limit_is: str) -> dict[str, Any]:
    return {
        "value": round(1 / pair["ours_s"], 1),
        "limit": round(1 / pair["limit_s"], 1),
        "ratio": round(pair["limit_s"] / pair["ours_s"], 3),
        "unit": "verdicts per second, one core",
        "limit_is": limit_is,
    }


def _peer_row(ours: dict[str, dict[str, float]]) -> dict[str, Any]:
    try:
        answers = tinfoil([(name, _read(f"snp/{name}"), _vek(name)) for name in ours], rounds=PEER_ROUNDS)
    except NoPeerError as error:
        return {"skipped": str(error), "unit": "verdicts per second, one core"}
    common = {each["name"]: each["seconds"] / PEER_ROUNDS for each in answers if each["empty"] == "accepted"}
    if not common:
        return {"skipped": "the peer accepts none of the published reports", "unit": "verdicts per second, one core"}
    theirs_s = statistics.mean(common.values())
    cold_s = statistics.mean(ours[name]["cold_s"] for name in common)
    warm_s = statistics.mean(ours[name]["warm_s"] for name in common)
    return {
        "value": round(1 / cold_s, 1),
        "limit": round(1 / theirs_s, 1),
        "ratio": round(theirs_s / cold_s, 3),
        "unit": "verdicts per second, one core",
        "limit_is": PEER,
        "warm": round(1 / warm_s, 1),
        "warm_ratio": round(theirs_s / warm_s, 3),
        "reports": len(common),
        "wanted": "1.5 cold, 2.5 warm",
    }


# --- Measuring, in a pinned process of its own.


def measure() -> dict[str, Any]:
    """Seconds for one verdict and for one turn of the limit, each the median of many turns."""
    gc.collect()
    gc.freeze()  # As the Coordinator does: what is loaded stays, and the collector need not look at it again.
    return {"cold": _snp(warm=False), "warm": _snp(warm=True), "tdx": _tdx(), "peers": _all_genoa()}


def _snp(*, warm: bool) -> dict[str, float]:
    name = next(facts for facts in _reports() if COLD_REPORT in facts["file"])
    evidence, values = _evidence(name, crl="snp/crls/crl-milan-2023-05-09.der")
    verdict = _verdict(evidence, values, CRL_CLOCK, ChainCache() if warm else None)
    return _in_turn(verdict, _bare(evidence, warm=warm))


def _bare(evidence: Evidence, *, warm: bool) -> Callable[[], None]:
    report = parse_report(evidence.part("report") or b"")
    root, middle = (parse_authority(evidence.part(role) or b"") for role in ("root", "intermediate"))
    leaf, crl = parse_endorsement(evidence.part("vek") or b""), parse_crl(evidence.part("crl") or b"")
    signature = encode_dss_signature(report.r, report.s)
    signed = [
        (root.certificate.signature, root.certificate.signed, root.key),
        (middle.certificate.signature, middle.certificate.signed, root.key),
        (leaf.certificate.signature, leaf.certificate.signed, middle.key),
        (crl.signature, crl.signed, root.key),
    ]

    def p384() -> None:
        leaf.key.verify(signature, report.signed, ec.ECDSA(SHA384()))

    def everything() -> None:
        for each, data, key in signed:
            key.verify(each, data, PSS_PADDING, SHA384())
        p384()

    return p384 if warm else everything


def _tdx() -> dict[str, float]:
    quote, collateral = _read(f"tdx/quotes/{TDX_QUOTE}"), _read(f"tdx/collateral/{TDX_COLLATERAL}")
    parsed, library = parse_quote(quote), parse_collateral(collateral).library
    values = TdxReferenceValues(
        platform="bench",
        mr_td=parsed.mr_td,
        mr_seam=parsed.mr_seam,
        rtmrs=parsed.rtmrs,
        xfam=parsed.xfam,
        allowed_tcb_statuses=TDX_STATUSES,
    )
    evidence, cache = Evidence.make(Kind.TDX, {"quote": quote, "collateral": collateral}), ChainCache()
    now = int(TDX_CLOCK.timestamp())

    def ours() -> None:
        verdict = judge(
            evidence,
            (values,),
            report_data=parsed.report_data,
            host_data={parsed.host_data},
            now=TDX_CLOCK,
            cache=cache,
        )
        assert verdict.accepted

    def bare() -> None:
        dcap_qvl.verify(quote, library, now)

    return _in_turn(ours, bare)


def _all_genoa() -> dict[str, dict[str, float]]:
    """Cold and warm, without a list, for every VCEK report of Genoa: what the peer may accept at all."""
    found = {}
    for facts in _reports():
        if facts["product"] != "Genoa" or facts["key"] != "VCEK":
            continue
        evidence, values = _evidence(facts)
        now = datetime.fromisoformat(facts["cert_not_before"]).replace(tzinfo=UTC)
        cold = _verdict(evidence, values, now, None)
        warm = _verdict(evidence, values, now, ChainCache())
        both = _in_turn(cold, warm, turns=10)
        found[facts["file"]] = {"cold_s": both["ours_s"], "warm_s": both["limit_s"]}
    return found


def _verdict(
    evidence: Evidence, values: SnpReferenceValues, now: datetime, cache: ChainCache | None
) -> Callable[[], None]:
    report = parse_report(evidence.part("report") or b"")

    def once() -> None:
        verdict = judge(
            evidence, (values,), report_data=report.report_data, host_data={report.host_data}, now=now, cache=cache
        )
        assert verdict.accepted, verdict.failures

    return once


def _evidence(facts: dict[str, Any], *, crl: str | None = None) -> tuple[Evidence, SnpReferenceValues]:
    raw = _read(f"snp/{facts['file']}")
    report = parse_report(raw)
    product = PRODUCTS[facts["product"]]
    if report.cpuid is not None:
        product = product_of(report.cpuid[0], report.cpuid[1]) or product
    chain = facts["product"].lower()
    parts = {
        "report": raw,
        "vek": _vek(facts["file"]),
        "intermediate": _read(f"snp/certs/ask-{chain}.der"),
        "root": _read(f"snp/certs/ark-{chain}.der"),
    }
    if crl is not None:
        parts["crl"] = _read(crl)
    values = SnpReferenceValues(
        platform="bench",
        product_name=product.name,
        trusted_measurement=report.measurement,
        minimum_tcb=parse_tcb(bytes(8), product),
        vmpl=report.vmpl,
        allow_provisional_firmware=True,
        crl="warn" if crl is None else "required",
    )
    return Evidence.make(Kind.SNP, parts), values


def _in_turn(ours: Callable[[], None], limit: Callable[[], None], *, turns: int = TURNS) -> dict[str, float]:
    for work in (ours, limit):
        work()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for work, kept in zip((ours, limit), seconds, strict=True):
            began = time.process_time()
            for _ in range(EACH):
                work()
            kept.append((time.process_time() - began) / EACH)
    return {"ours_s": statistics.median(seconds[0]), "limit_s": statistics.median(seconds[1])}


def _reports() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_read("snp/reports.json"))
    return found


def _vek(report: str) -> bytes:
    (facts,) = [facts for facts in _reports() if facts["file"] == report]
    return _read(f"snp/{facts['cert']}")


def _read(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def main() -> None:
    match sys.argv[1:]:
        case ["measure"]:
            print(json.dumps(measure()))
        case _:
            print(json.dumps(rows(), indent=2))


if __name__ == "__main__":
    main()
