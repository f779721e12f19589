"""`contrast audit` and `contrast ledger export`: the same verdict wherever the ledger lies, and a page for people."""

import functools
import http.server
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from attestation.snp.report import parse_report
from cli.audit import parse_ids
from cli.errors import RefusedError
from coordinator.events import AttestationAccepted, decode_event
from ledger.entry import parse_entry
from ledger.lmdb_store import LmdbStore
from ledger.source import DirectorySource
from manifest.model import Policy
from tests.support.cli_world import World, live_coordinator
from tests.support.deployment import SECRET_ID, VAULT_POLICY, Deployment, Pod, other_vendor, vendor

SIMULATED = "--allow-simulated"
NEW_VAULT = b"package agent_policy\n# vault 2\n"


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A workspace with a ledger that has seen two manifests, a secret that moved, and three pods."""
    world = World(tmp_path_factory.mktemp("audit"))
    store = LmdbStore(world.root / "ledger")
    with live_coordinator(store) as live:
        world.ok("set", "-c", live.address, SIMULATED, "deployment")
        live.issue()
        live.issue(Pod(VAULT_POLICY))
        deployment = Deployment()
        policies = {text: policy for text, policy in deployment.policies.items() if text != VAULT_POLICY}
        moved = {**policies, NEW_VAULT: Policy(sans=("vault",), workload_secret_id=SECRET_ID)}
        world.deploy(Deployment(policies=moved))
        world.ok("set", "-c", live.address, SIMULATED, "deployment")
        live.issue(Pod(NEW_VAULT))
        (world.root / "address").write_text(live.address)
        world.ok("ledger", "export", f"https://{live.address}", "served")
    store.close()
    world.ok("ledger", "export", "ledger", "exported")
    world.ok("ledger", "export", "ledger", "exported.tar")
    return world


def audit(world: World, where: str, *more: str) -> dict[str, Any]:
    result = world.run("audit", where, "-m", "manifest.json", SIMULATED, "--json", *more)
    assert isinstance(result.exception, SystemExit | None), result.exception
    document: dict[str, Any] = json.loads(result.stdout)
    assert (result.exit_code == 0) == document["ok"]
    return document


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.parametrize("where", ["ledger", "exported", "exported.tar", "served"])
def test_the_verdict_is_the_same_wherever_the_ledger_lies(lived: World, where: str) -> None:
    document = audit(lived, where)
    assert document["ok"], document
    assert document["simulated"] is True
    assert (document["then"], document["now"]) == ("proven", "accepted")
    assert document["classes"]["certificate.issued"] == {
        "seen": 3,
        "contradictions": 0,
        "unproven": 0,
        "refused_now": 0,
    }
    assert [item["secret_id"] for item in document["moved_secrets"]] == [SECRET_ID]
    assert len(document["seed"]["share_owners"]) == 1
    assert len(document["coordinator_policies"]) == 1


def test_any_web_server_serves_the_log(lived: World) -> None:
    with web_server(lived.root / "exported") as address:
        assert audit(lived, address)["ok"]
        assert "certificate.issued" in lived.ok("ledger", "show", address).output


def test_a_running_coordinator_is_audited_without_an_import(tmp_path: Path) -> None:
    world = World(tmp_path)
    with live_coordinator() as live:
        world.ok("set", "-c", live.address, SIMULATED, "deployment")
        live.issue()
        assert audit(world, f"https://{live.address}")["ok"]
        assert audit(world, f"https://{live.address}/v1/ledger")["ok"]
        world.refused("audit", f"http://{live.address}", because="cannot be read", status=3)


def test_the_same_ledger_gives_the_same_tar_and_directory(lived: World) -> None:
    """Two auditors must be able to compare digests."""
    lived.ok("ledger", "export", "exported", "again.tar")
    again, first = lived.root / "again.tar", lived.root / "exported.tar"
    assert again.read_bytes() == first.read_bytes()
    with tarfile.open(first) as tar:
        names = tar.getnames()
        assert {(member.mtime, member.uid, member.mode) for member in tar} == {(0, 0, 0o644)}
    files = {str(path.relative_to(lived.root / "exported")) for path in _files(lived.root / "exported")}
    assert set(names) == files
    assert names[-1] == "checkpoint"
    assert {"tlog-policy", "entry/0", "entry/2"} <= files
    assert len([name for name in names if name.startswith("policy/")]) == 4
    assert (lived.root / "exported" / "tlog-policy").read_text().startswith("log contrast.invalid/")


def test_an_export_replaces_nothing_and_leaves_nothing_half(lived: World) -> None:
    lived.refused("ledger", "export", "ledger", "exported", because="exists already", status=4)
    broken = lived.root / "broken"
    shutil.copytree(lived.root / "exported", broken)
    for path in _files(broken / "tile" / "entries"):
        path.unlink()
    lived.refused("ledger", "export", "broken", "half.tar", because="missing")
    assert not list(lived.root.glob("half.tar*"))


def test_a_tar_with_links_or_doubled_names_is_refused(lived: World) -> None:
    """A tar is a stranger's: a second file of one name could show one reader this and another that."""
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.REGTYPE)):
        path = lived.root / f"hostile{number}.tar"
        with tarfile.open(lived.root / "exported.tar") as good, tarfile.open(path, "w") as bad:
            for member in good:
                bad.addfile(member, good.extractfile(member))
            extra = tarfile.TarInfo("checkpoint")
            extra.type, extra.linkname = kind, "/etc/passwd"
            bad.addfile(extra)
        lived.refused("audit", str(path), because="second file of that name")
    (lived.root / "no.tar").write_bytes(b"no tar" * 1000)
    lived.refused("audit", "no.tar", because="no tar file")


def test_a_withheld_blob_is_named_and_counted_and_fails_unless_allowed(lived: World) -> None:
    copy = lived.root / "withheld"
    shutil.copytree(lived.root / "exported", copy)
    certificate = _first(copy, "certificate.issued")
    (copy / "blob" / certificate.certificate.hex()).unlink()
    document = audit(lived, "withheld")
    assert document["then"] == "unproven"
    assert document["classes"]["certificate.issued"]["unproven"] == 1
    assert certificate.certificate.hex() in document["findings"][0]["text"]
    assert audit(lived, "withheld", "--allow-missing")["ok"]
    with web_server(copy) as address:
        assert audit(lived, address)["classes"]["certificate.issued"]["unproven"] == 1


def test_a_contradiction_is_named_with_its_entry(lived: World) -> None:
    copy = lived.root / "changed"
    shutil.copytree(lived.root / "exported", copy)
    (bundle,) = _files(copy / "tile" / "entries")
    raw = bytearray(bundle.read_bytes())
    raw[-20] ^= 1
    bundle.write_bytes(raw)
    result = lived.refused("audit", "changed", "-m", "manifest.json", SIMULATED, because="NOT what the rules lead to")
    assert "first at entry" in result.output
    assert "as known now" in result.output
    assert "every accepted evidence would pass" not in result.output
    world_at = audit(lived, "changed")
    assert world_at["first_contradiction"]["seq"] is not None
    assert world_at["now"] == "not_judged"


def test_a_chip_that_is_trusted_no_more_is_refused_now_and_was_right_then(lived: World) -> None:
    event = _first(lived.root / "exported", "attestation.accepted")
    assert isinstance(event, AttestationAccepted)
    report = (lived.root / "exported" / "blob" / dict(event.evidence[1])["report"].hex()).read_bytes()
    (lived.root / "denied").write_text(f"# stolen\n{parse_report(report).chip_id.hex()}\n")
    document = audit(lived, "exported", "--deny-chip-ids", "denied")
    assert (document["then"], document["now"], document["ok"]) == ("proven", "refused", False)
    assert document["classes"]["attestation.accepted"]["refused_now"] == 3
    assert document["classes"]["epoch.opened"]["refused_now"] == 1
    assert "deny-list" in document["findings"][0]["text"]
    (lived.root / "denied").write_text("abcd\n")
    lived.refused("audit", "exported", "--deny-chip-ids", "denied", because="denied:1: wanted a chip id")


def test_a_deny_list_takes_turins_ids_as_people_have_them() -> None:
    """An id that the list has in one form and the report in another would deny nobody."""
    short = bytes(range(1, 9))
    ids = parse_ids(f"{short.hex().upper()} # Turin\n{'22' * 64}\n{'33' * 16}\n".encode(), "denied")
    assert ids == {short.ljust(64, b"\0"), b"\x22" * 64, b"\x33" * 16}
    for bad in ("11" * 7, "11" * 9, "0x" + "11" * 8, "1" * 17):
        with pytest.raises(RefusedError, match="8 on Turin"):
            parse_ids(bad.encode(), "denied")


def test_what_is_known_at_another_time_is_judged_by_that_time(lived: World) -> None:
    """Endorsements end; a ledger of long ago is right as decided then, and no more as known now."""
    document = audit(lived, "exported", "--at", "2199-01-01")
    assert (document["then"], document["now"]) == ("proven", "refused")
    assert "valid" in document["findings"][0]["text"]


def test_a_revocation_list_of_today_counts(lived: World) -> None:
    """What was revoked since is the reason to audit a second time."""
    now = datetime.now(UTC)
    lists = {
        "fresh": vendor().make_crl(this_update=now - timedelta(days=1), next_update=now + timedelta(days=1)),
        "stale": vendor().make_crl(this_update=now - timedelta(days=2), next_update=now - timedelta(days=1)),
        "revoked": vendor().make_crl(
            this_update=now - timedelta(days=1),
            next_update=now + timedelta(days=1),
            revoked=(x509.load_der_x509_certificate(vendor().intermediate).serial_number,),
        ),
        "strange": other_vendor().make_crl(this_update=now, next_update=now + timedelta(days=1)),
    }
    for name, raw in lists.items():
        (lived.root / name).write_bytes(raw)
        document = audit(lived, "exported", "--crl", name)
        assert (document["then"], document["now"]) == ("proven", "accepted" if name == "fresh" else "refused"), name
        assert name == "fresh" or "revocation" in document["findings"][0]["text"]
    (lived.root / "none").write_bytes(b"no list")
    lived.refused("audit", "exported", "--crl", "none", because="no X.509 revocation list")


def test_another_manifest_than_expected_fails(lived: World) -> None:
    (lived.root / "other.json").write_bytes(Deployment().manifest)
    result = lived.refused("audit", "exported", "-m", "other.json", SIMULATED, because="not the manifest you expect")
    assert "Policies." in result.output


def test_an_audit_of_a_simulated_platform_says_so(lived: World) -> None:
    """Even of a reader who gave no values, and was asked for no --allow-simulated."""
    assert "SIMULATED PLATFORM" in lived.ok("audit", "exported").stderr


def test_what_is_no_ledger_is_said(lived: World) -> None:
    lived.refused("audit", "nowhere", because="holds no ledger", status=4)
    lived.refused("audit", "ftp://somewhere", because="no address of a ledger", status=2)
    lived.refused("audit", "https://127.0.0.1:1", because="does not answer", status=3)
    lived.refused("audit", "exported", "--at", "yesterday", because="is no time", status=2)


def test_the_page_needs_no_network_and_runs_nothing(lived: World) -> None:
    lived.ok("audit", "exported", "-m", "manifest.json", SIMULATED, "--html", "audit.html")
    page = (lived.root / "audit.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    for word in ("<script", "<link", "<img", "@import", "url("):
        assert word not in page
    assert SECRET_ID in page
    assert page.count("<article") == 2


def test_the_page_is_shown_by_a_browser(lived: World, tmp_path: Path) -> None:
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    lived.ok("audit", "exported", "-m", "manifest.json", SIMULATED, "--html", "shown.html")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    page = subprocess.run(
        [*command, (lived.root / "shown.html").as_uri()], capture_output=True, timeout=120, check=True
    )
    text = page.stdout.decode()
    assert "Every decision follows from what was recorded" in text
    assert 'class="timeline"' in text


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _first(folder: Path, kind: str) -> Any:
    for seq, raw in enumerate(DirectorySource(folder).entries(0, 10)):
        entry = parse_entry(raw, seq)
        if entry.body.type == kind:
            return decode_event(entry)[0]
    raise AssertionError(kind)
