"""The kernel's report interface over a real file system: a FUSE look-alike of configfs-tsm in a process of its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.errors import IssueError
from attestation.evidence import Evidence, Kind
from attestation.issuer import find_issuer
from attestation.judge import judge
from attestation.snp.report import parse_report
from attestation.tsm import TsmIssuer
from tests.conftest import PROJECT
from tests.support.vendor import HOST_DATA, NOW, reference_values, vendor_chain

REPORT_DATA = b"\x52" * 64


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A mounted look-alike; skipped, with the reason, where this machine mounts no FUSE file system."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no usable /dev/fuse on this machine")
    try:
        import mfusepy  # noqa: F401, PLC0415 it loads libfuse
    except (ImportError, OSError) as error:
        pytest.skip(f"mfusepy finds no libfuse (package libfuse2 or libfuse3): {error}")
    mount, vendor = tmp_path / "report", tmp_path / "vendor"
    mount.mkdir()
    vendor_chain().save(vendor)
    argv = [sys.executable, "-m", "tests.support.configfs", str(mount), str(vendor)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=PROJECT, stdout=log, stderr=log)
    try:
        for _ in range(200):
            if os.path.ismount(mount):
                break
            if process.poll() is not None:
                pytest.skip(f"this machine mounts no FUSE file system: {(tmp_path / 'log').read_text()[-300:]}")
            time.sleep(0.05)
        yield mount
    finally:
        process.terminate()
        process.wait(10)


async def test_evidence_comes_through_a_real_file_system(mounted: Path, tmp_path: Path) -> None:
    """Files without sizes, write-only attributes, EBUSY at first; nothing is left behind."""
    guest = TsmIssuer(mounted, pause=lambda _: None)
    evidence = await guest.issue(REPORT_DATA)
    verdict = judge(
        Evidence(Kind.SIMULATED, evidence.parts),
        [reference_values(vendor_chain())],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert verdict.accepted, verdict.failures
    first, second = await asyncio.gather(guest.issue(b"1" * 64), guest.issue(b"2" * 64))
    assert parse_report(first.part("report") or b"").report_data == b"1" * 64
    assert parse_report(second.part("report") or b"").report_data == b"2" * 64
    assert os.listdir(mounted) == []  # noqa: PTH208 a test may block
    assert find_issuer({}, tsm_root=mounted, dev=tmp_path).kind is Kind.SNP


async def test_a_request_that_fails_leaves_nothing_behind(mounted: Path) -> None:
    with pytest.raises(IssueError, match="report interface"):
        await TsmIssuer(mounted, pause=lambda _: None).issue(b"short")
    assert os.listdir(mounted) == []  # noqa: PTH208 a test may block
