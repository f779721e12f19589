"""The simulated processor: same bytes, same checks, own root; and its socket."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from attestation.errors import IssueError
from attestation.evidence import Kind
from attestation.judge import judge
from attestation.simulated.processor import GuestLaunch
from attestation.simulated.socket import MAX_REQUEST, request_evidence, serve
from attestation.simulated.vendor import ProductName, VendorChain, VendorError
from attestation.snp.endorsement import EndorsementKind
from attestation.snp.report import parse_report
from attestation.verdict import Claims
from tests.support.vendor import HOST_DATA, MEASUREMENT, NOW, launch, make_evidence, reference_values, vendor_chain

REPORT_DATA = b"\x52" * 64
PLATFORMS: list[tuple[ProductName, EndorsementKind]] = [
    ("Milan", EndorsementKind.VCEK),
    ("Genoa", EndorsementKind.VCEK),
    ("Turin", EndorsementKind.VCEK),
    ("Milan", EndorsementKind.VLEK),
]


@pytest.mark.parametrize(("product", "endorsement"), PLATFORMS, ids=str)
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_every_product_and_version_is_accepted(
    product: ProductName, endorsement: EndorsementKind, version: int
) -> None:
    vendor = vendor_chain(product, endorsement)
    verdict = judge(
        make_evidence(vendor, REPORT_DATA, report_version=version),
        [reference_values(vendor)],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert verdict.accepted, verdict.failures
    assert verdict.kind is Kind.SIMULATED
    assert isinstance(verdict.claims, Claims)
    assert verdict.claims.endorsement == endorsement


def test_a_vendor_survives_its_directory(tmp_path: Path) -> None:
    vendor = vendor_chain("Turin")
    vendor.save(tmp_path / "vendor")
    again = VendorChain.load(tmp_path / "vendor")
    assert again.fingerprint == vendor.fingerprint
    assert again.chip.chip_id == vendor.chip.chip_id
    assert again.chip.tcb == vendor.chip.tcb
    verdict = judge(
        make_evidence(again, REPORT_DATA),
        [reference_values(vendor)],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert verdict.accepted


def test_nobody_else_can_read_a_vendors_keys(tmp_path: Path) -> None:
    vendor_chain().save(tmp_path / "vendor")
    assert stat.S_IMODE((tmp_path / "vendor").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "vendor").iterdir()} == {0o600}


def test_a_vendor_is_never_overwritten(tmp_path: Path) -> None:
    vendor_chain().save(tmp_path / "vendor")
    with pytest.raises(VendorError, match="exists"):
        vendor_chain("Turin").save(tmp_path / "vendor")
    assert VendorChain.load(tmp_path / "vendor").fingerprint == vendor_chain().fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["vendor"]


def test_a_damaged_vendor_says_what_to_do(tmp_path: Path) -> None:
    vendor_chain().save(tmp_path)
    (tmp_path / "vek.der").write_bytes(b"\x30\x00")
    with pytest.raises(VendorError, match="contrast dev init"):
        VendorChain.load(tmp_path)
    with pytest.raises(VendorError, match="no usable"):
        VendorChain.load(tmp_path / "absent")


def test_two_vendors_do_not_trust_each_other() -> None:
    other = vendor_chain("Milan", name="other")
    verdict = judge(
        make_evidence(other, REPORT_DATA),
        [reference_values(vendor_chain("Milan"))],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert [check.number for check in verdict.failures] == [6, 27]


def test_a_launch_is_checked_before_it_lies() -> None:
    with pytest.raises(IssueError, match="measurement has 47"):
        GuestLaunch(measurement=bytes(47), host_data=HOST_DATA)
    with pytest.raises(IssueError, match="version 6"):
        GuestLaunch(measurement=MEASUREMENT, host_data=HOST_DATA, report_version=6)
    with pytest.raises(IssueError, match="63 bytes"):
        launch(vendor_chain()).report(bytes(63))


async def test_the_socket_gives_evidence_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "guest" / "processor.sock"
    async with serve(launch(vendor_chain()), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        first, second = await asyncio.gather(request_evidence(path, b"1" * 64), request_evidence(path, b"2" * 64))
    assert parse_report(first.part("report") or b"").report_data == b"1" * 64
    assert parse_report(second.part("report") or b"").report_data == b"2" * 64
    assert not path.exists()


async def test_the_socket_refuses_a_wrong_size_in_words(tmp_path: Path) -> None:
    async with serve(launch(vendor_chain()), tmp_path / "s"):
        with pytest.raises(IssueError, match="wanted 64"):
            await request_evidence(tmp_path / "s", b"short")


@pytest.mark.parametrize(
    "message",
    [
        (MAX_REQUEST + 1).to_bytes(4, "big") + bytes(MAX_REQUEST + 1),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x02\x91",
        b"\x00\x00\x00\x01\xc1",
        b"\x00",
    ],
    ids=["too-long", "4-gib", "empty", "cut", "no-msgpack", "cut-length"],
)
async def test_a_babbling_peer_is_dropped_and_the_next_served(tmp_path: Path, message: bytes) -> None:
    async with serve(launch(vendor_chain()), tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(message)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert (await request_evidence(tmp_path / "s", REPORT_DATA)).kind is Kind.SIMULATED


async def test_a_silent_peer_does_not_outlive_the_guest(tmp_path: Path) -> None:
    async with serve(launch(vendor_chain()), tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await request_evidence(tmp_path / "s", REPORT_DATA)
    assert await reader.read() == b""
    writer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_request_of_another_shape_is_refused_in_words(tmp_path: Path) -> None:
    async with serve(launch(vendor_chain()), tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"\x00\x00\x00\x02\x91\x02")
        size = int.from_bytes(await reader.readexactly(4), "big")
        assert b"not [1, REPORT_DATA]" in await reader.readexactly(size)
        writer.close()


async def test_a_path_that_the_kernel_cannot_bind_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(IssueError, match="at most 107"):
        async with serve(launch(vendor_chain()), path):
            pass
    with pytest.raises(IssueError, match="shorter directory"):
        await request_evidence(path, REPORT_DATA)


async def test_a_socket_left_by_a_killed_guest_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serve(launch(vendor_chain()), path):
        os.link(path, tmp_path / "left")  # The name outlives the listener, as after kill -9.
    with pytest.raises(IssueError, match="no simulated processor answers"):
        await request_evidence(tmp_path / "left", REPORT_DATA)
    async with serve(launch(vendor_chain()), tmp_path / "left"):
        await request_evidence(tmp_path / "left", REPORT_DATA)


async def test_a_socket_in_use_and_a_file_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serve(launch(vendor_chain()), path):
        with pytest.raises(IssueError, match="another guest"):
            async with serve(launch(vendor_chain()), path):
                pass
        await request_evidence(path, REPORT_DATA)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(IssueError, match="cannot listen"):
        async with serve(launch(vendor_chain()), tmp_path / "file"):
            pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "answer",
    [b"\x92\x01\xa3snp", b"\x90", b"\xc1", b"\x93\x01\xa3snp\x90", b"\x93\x01\xa9simulated\x91\xc0"],
    ids=["short", "empty", "no-msgpack", "other-kind", "odd-part"],
)
async def test_a_false_processor_gives_no_evidence(tmp_path: Path, answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(len(answer).to_bytes(4, "big") + answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(reply, tmp_path / "s"):
        with pytest.raises(IssueError, match="answered with"):
            await request_evidence(tmp_path / "s", REPORT_DATA)
