"""Looking into evidence and judging it offline: real reports and quotes, and what a ledger recorded."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attestation.explain import explain
from attestation.reference import ReferenceValues
from cli.program import cli
from manifest.reference_file import render_reference_values
from tests.support.snp_vectors import find, genuine_reports
from tests.support.tdx_vectors import find_quote, published_quotes
from tests.support.vendor import HOST_DATA, NOW, make_evidence, reference_values, vendor_chain

GOOD, GOOD_COLLATERAL = "go-tdx-guest-cf77a6e9", "phala_outdated"
GOOD_TIME = "2026-03-05T12:00:00Z"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["attestation", *arguments])


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def values_file(path: Path, *entries: ReferenceValues) -> str:
    return write(path, json.dumps(render_reference_values(entries)).encode())


def test_every_published_file_is_explained(vectors: Path) -> None:
    """Reports, certificates, chains, lists, a table, THIM's answer, Azure's blob, quotes, collateral."""
    kinds = set()
    for folder in ("snp/reports", "snp/certs", "snp/crls", "snp/misc", "tdx/quotes", "tdx/collateral"):
        for path in sorted((vectors / folder).iterdir()):
            if path.name.startswith(("sgx-", "phala_sgx")):
                continue
            found = explain(path.read_bytes())
            assert all(all(isinstance(text, str) and text for text in row) for each in found for row in each.rows)
            kinds |= {each.kind for each in found}
    assert kinds == {"report", "quote", "certificate", "crl", "collateral", "thim", "hcl"}


def test_show_prints_each_field(vectors: Path) -> None:
    report = find(vectors, "20")
    result = run("show", str(vectors / "snp" / report.facts["file"]))
    assert result.exit_code == 0, result.output
    assert report.parsed.measurement.hex() in result.stdout
    assert report.facts["chip_id"][:32] in result.stdout
    assert "nothing of this is verified" in result.stderr
    result = run("show", "--json", str(vectors / "snp" / report.facts["cert"]))
    (document,) = json.loads(result.stdout)
    assert document["fields"]["subject"] == "SEV-VCEK"
    assert document["kind"] == "certificate"


def test_a_file_from_standard_input_is_read_as_one_with_a_name(vectors: Path, tmp_path: Path) -> None:
    report = find(vectors, "20")
    result = CliRunner().invoke(cli, ["attestation", "show", "-"], input=report.report)
    assert result.exit_code == 0, result.output
    assert report.parsed.measurement.hex() in result.stdout
    arguments = ["--endorsements", write(tmp_path / "vcek", report.vek), "--at", report.clock.isoformat()]
    arguments += ["--endorsements", str(vectors / "snp/certs/vcek-cert_chain-milan.pem")]
    arguments += ["--reference-values", values_file(tmp_path / "values.json", report.values())]
    judged = CliRunner().invoke(cli, ["attestation", "verify", "--report", "-", *arguments], input=report.report)
    assert "accepted" in judged.output, judged.output
    endless = CliRunner().invoke(cli, ["attestation", "show", "-"], input=bytes((1 << 20) + 1))
    assert endless.exit_code == 1
    assert "larger than" in endless.stderr
    os.mkfifo(tmp_path / "fifo")
    waiting = run("show", str(tmp_path / "fifo"))
    assert waiting.exit_code == 4
    assert "FIFO" in waiting.stderr


@pytest.mark.parametrize("data", [b"", b"hello", b"{}", b"\x30\x03\x02\x01\x01", bytes(1184), b"\4\0" + bytes(100)])
def test_show_of_something_else_says_what_it_reads(tmp_path: Path, data: bytes) -> None:
    result = run("show", write(tmp_path / "file", data))
    assert result.exit_code == 1
    assert "error: " in result.stderr


def test_a_genuine_report_is_accepted_offline_and_says_what_was_not_compared(vectors: Path, tmp_path: Path) -> None:
    report = find(vectors, "20")
    chain = write(tmp_path / "chain.pem", (vectors / "snp/certs/vcek-cert_chain-milan.pem").read_bytes())
    arguments = [
        "verify",
        "--report",
        write(tmp_path / "report", report.report),
        "--endorsements",
        write(tmp_path / "vcek", report.vek),
        "--endorsements",
        chain,
        "--reference-values",
        values_file(tmp_path / "values.json", report.values()),
        "--at",
        report.clock.isoformat(),
    ]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "accepted" in result.stdout
    assert "not checked: " in result.stderr
    assert "host-data, report-data" in result.stderr
    assert "--report-data" in result.stdout
    policy = report.parsed.host_data.hex()
    full = run(*arguments, "--report-data", report.parsed.report_data.hex(), "--host-data", policy, "--json")
    document = json.loads(full.stdout)
    assert document["accepted"]
    assert [check["outcome"] for check in document["checks"] if check["number"] in (24, 25)] == ["passed", "passed"]
    foreign = run(*arguments, "--report-data", "00" * 64)
    assert foreign.exit_code == 1
    assert "refused: 25 report-data, 27 completeness" in foreign.stdout


def test_azures_answer_is_endorsement_enough(vectors: Path, tmp_path: Path) -> None:
    thim = vectors / "snp/misc/azure-thim-amd-certification-milan.json"
    report = next(each for each in genuine_reports(vectors) if each.report and "27-" in each.facts["file"])
    result = run(
        "verify",
        "--report",
        write(tmp_path / "report", report.report),
        "--endorsements",
        str(thim),
        "--reference-values",
        values_file(tmp_path / "values.json", report.values()),
        "--at",
        "2026-09-11T12:00:00Z",
    )
    assert result.exit_code == 0, result.output


def test_a_quote_is_judged_with_its_collateral(vectors: Path, tmp_path: Path) -> None:
    quote = find_quote(vectors, GOOD)
    arguments = [
        "verify",
        "--report",
        write(tmp_path / "quote", quote.raw),
        "--endorsements",
        str(vectors / f"tdx/collateral/{GOOD_COLLATERAL}.json"),
        "--reference-values",
        values_file(tmp_path / "values.json", quote.values()),
    ]
    result = run(*arguments, "--at", GOOD_TIME)
    assert result.exit_code == 0, result.output
    late = run(*arguments, "--at", "2027-01-01T00:00:00Z")
    assert late.exit_code == 1
    assert "14 tcb-order" in late.stdout


def test_a_debug_quote_is_refused_in_words(vectors: Path, tmp_path: Path) -> None:
    quote = next(each for each in published_quotes(vectors) if "DEBUG" in each.facts["notes"])
    result = run(
        "verify",
        "--report",
        write(tmp_path / "quote", quote.raw),
        "--reference-values",
        values_file(tmp_path / "values.json", quote.values()),
        "--at",
        GOOD_TIME,
    )
    assert result.exit_code == 1
    assert "DEBUG is set" in result.stdout


def test_a_simulated_report_needs_to_be_asked_for(tmp_path: Path) -> None:
    vendor = vendor_chain()
    evidence = make_evidence(vendor, bytes(64))
    arguments = [
        "verify",
        "--report",
        write(tmp_path / "report", evidence.part("report") or b""),
        "--reference-values",
        values_file(tmp_path / "values.json", reference_values(vendor)),
        "--host-data",
        HOST_DATA.hex(),
        "--at",
        NOW.isoformat(),
    ]
    for role in ("vek", "intermediate", "root", "crl"):
        arguments += ["--endorsements", write(tmp_path / role, evidence.part(role) or b"")]
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "--allow-simulated" in refused.stderr
    result = run(*arguments, "--allow-simulated")
    assert result.exit_code == 0, result.output
    assert "SIMULATED PLATFORM" in result.stderr


def test_two_files_for_one_place_are_told(vectors: Path, tmp_path: Path) -> None:
    report, other = find(vectors, "20"), find(vectors, "02")
    result = run(
        "verify",
        "--report",
        write(tmp_path / "report", report.report),
        "--endorsements",
        write(tmp_path / "a", report.vek),
        "--endorsements",
        write(tmp_path / "b", other.vek),
        "--reference-values",
        values_file(tmp_path / "values.json", report.values()),
    )
    assert result.exit_code == 1
    assert "two different files give the vek" in result.stderr


@pytest.mark.parametrize("option", [("--at", "yesterday"), ("--at", "2026-01-01"), ("--report-data", "00")])
def test_options_that_say_nothing_are_usage_errors(vectors: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    report = find(vectors, "20")
    result = run(
        "verify",
        "--report",
        write(tmp_path / "report", report.report),
        "--reference-values",
        values_file(tmp_path / "values.json", report.values()),
        *option,
    )
    assert result.exit_code == 2


def test_what_a_ledger_recorded_is_shown_and_judged_again(tmp_path: Path) -> None:
    """An exported entry and its blobs are all it takes; a blob that is another is told."""
    from tests.support.recorded import export_story  # noqa: PLC0415 a whole Coordinator, for this test only

    folder, accepted, values = export_story(tmp_path / "ledger")
    entry = folder / "entry" / str(accepted)
    shown = run("show", "--json", str(entry))
    assert shown.exit_code == 0, shown.output
    assert {each["role"] for each in json.loads(shown.stdout)} == {"report", "vek", "intermediate", "root", "crl"}
    path = values_file(tmp_path / "values.json", *values)
    arguments = ["verify", "--report", str(entry), "--reference-values", path, "--allow-simulated", "--json"]
    judged = run(*arguments)
    assert judged.exit_code == 0, judged.output
    outcomes = {check["number"]: check["outcome"] for check in json.loads(judged.stdout)["checks"]}
    assert outcomes[24] == outcomes[25] == "passed"
    report = next(blob for blob in (folder / "blob").iterdir() if blob.stat().st_size == 1184)
    changed = bytearray(report.read_bytes())
    changed[0x90] ^= 1
    for blob in (folder / "blob").iterdir():
        if blob.stat().st_size == 1184:
            blob.write_bytes(changed)
    assert hashlib.sha256(changed).hexdigest() != report.name
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "are not those that the entry names" in refused.stderr
    for other in ("0",):
        assert "about no evidence" in run("show", str(folder / "entry" / other)).stderr
